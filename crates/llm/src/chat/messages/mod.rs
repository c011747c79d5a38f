//! Anthropic Messages.
//!
//! Beside the parts that every format has: `block` reads the content blocks of a request, `message` writes
//! turns as messages, `reply` reads a whole answer, `cite` says what an answer is taken from.
//!
//! Follows the provider's API reference ("Messages", "Streaming messages", "Errors").

mod block;
mod cite;
mod client;
mod emit;
mod error;
mod listen;
pub(in crate::chat) mod message;
mod reply;
pub(in crate::chat) mod request;
mod stream;
pub(in crate::chat) mod think;
mod upstream;
pub(in crate::chat) mod wire;

/// Both halves of the format.
#[derive(Clone, Copy, Debug)]
pub struct Messages;

#[cfg(test)]
mod tests;
