//! Scripted upstreams and clients: what tests and benchmarks put on either side of the gateway.
//!
//! [`Upstream`] is a real server that plays a [`Script`] byte by byte, so that it can break in every way in
//! which a network or a provider can. [`strict`] knows what the providers refuse; [`Provider`] answers like
//! one. [`Client`] is the other side: a connection on which a test sees every byte when it arrives.
//!
//! Nothing here uses the formats of `llm`: documents are built and judged as plain JSON after the providers'
//! public documentation, so that a mistake made there is not repeated here.

pub mod aws;
pub mod client;
pub mod event_stream;
pub mod fixture;
pub mod http2;
pub mod issuer;
pub mod picker;
pub mod provider;
pub mod redis;
pub mod script;
pub mod signer;
pub mod strict;
pub mod tunnel;
pub mod upstream;

pub use client::Client;
pub use picker::Picker;
pub use provider::{Cloud, Provider};
pub use redis::Redis;
pub use script::{Gate, Reply, Script};
pub use tunnel::Tunnel;
pub use upstream::{Received, Upstream};
