//! Anthropic Messages.
//!
//! Beside the parts that every format has: `block` reads the content blocks of a request, `message` writes
//! turns as messages, `reply` reads a whole answer.
//!
//! Follows the provider's API reference ("Messages", "Streaming messages", "Errors").

mod block;
mod client;
mod emit;
mod error;
mod listen;
mod message;
mod reply;
mod request;
mod stream;
mod think;
mod upstream;
mod wire;

/// Both halves of the format.
#[derive(Clone, Copy, Debug)]
pub struct Messages;

#[cfg(test)]
mod tests;
