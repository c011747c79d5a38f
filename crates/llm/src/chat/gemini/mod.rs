//! Google Gemini, `generateContent` and `streamGenerateContent`.
//!
//! Beside the parts that every format has: `content` reads the contents of a request, `message` writes turns as
//! contents, `part` is how their parts are written, `schema` converts
//! between JSON schemas and the format's own, `think` says how much to think, `note` is what is said about texts,
//! `guide` forms of the answer in words of other servers, `reply` is whole replies and `emit` writes streamed ones.
//!
//! A thought signature may hang on any part. In the neutral form it is a redacted piece of reasoning right
//! before that part, and hangs there again when it is sent back. Calls need no ids here: those that have none
//! get one that is the same whenever the same history or reply is read.
//!
//! Follows the provider's API reference ("Generating content", "Caching", "All methods"), with the names of
//! members in either spelling that the JSON form of protocol buffers allows.

mod client;
mod content;
mod emit;
mod error;
mod guide;
mod listen;
mod message;
mod note;
mod part;
mod reply;
mod schema;
mod stream;
mod think;
mod upstream;
mod wire;

/// Both halves of the format.
#[derive(Clone, Copy, Debug)]
pub struct Gemini;

#[cfg(test)]
mod tests;
