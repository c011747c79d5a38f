//! JSON-RPC and the Model Context Protocol (MCP) as data: no IO, no clock, no randomness of its own.
//!
//! A gateway stands between one client and many servers ("backends"). What it has to know for that is here:
//! which messages there are ([`message`], [`method`]), what a backend's tools and resources are called on the
//! client's side ([`name`], [`rewrite`], [`offer`]), how many answers become one ([`merge`]), which revision of the
//! protocol is spoken ([`version`]), what requests without a session say for themselves ([`modern`], [`header`],
//! [`input`], [`subscription`]), and the tokens that carry a session from request to request ([`session`],
//! [`event`], [`ticket`], [`state`], [`cursor`]), so that any replica can serve any request.
//!
//! Parameters and results stay raw JSON. Only what has to be known is looked at and only what has to differ is
//! replaced, so that what a newer revision adds passes, and numbers keep their spelling.

pub mod capability;
pub mod cursor;
pub mod error;
pub mod event;
pub mod header;
pub mod input;
pub mod json;
pub mod level;
pub mod merge;
pub mod message;
pub mod method;
pub mod modern;
pub mod name;
pub mod offer;
pub mod rewrite;
pub mod seal;
pub mod select;
pub mod session;
pub mod sse;
pub mod state;
pub mod subscription;
pub mod template;
pub mod ticket;
pub mod version;
mod wire;

pub use capability::Capabilities;
pub use error::RpcError;
pub use level::Level;
pub use message::{Id, Message, Notification, Outcome, Request, Response};
pub use method::{List, Method};
pub use session::Session;
pub use version::Version;
