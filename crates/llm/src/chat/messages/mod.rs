//! Anthropic Messages.

mod client;
mod error;
mod listen;
mod stream;
mod upstream;
mod wire;

/// Both halves of the format.
#[derive(Clone, Copy, Debug)]
pub struct Messages;
