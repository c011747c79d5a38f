//! OpenAI chat completions, and what imitations of it have added.
//!
//! `wire` and `reasoning` hold the words and shapes, `client` answers in the format, `upstream` asks in it, `stream` does
//! both for streams, `note` is what is said about texts, `listen` overhears relayed replies, `error` is about error
//! documents and `completion` answers clients of the older operation. Conventions
//! that spread from LiteLLM are read everywhere and written where the dialect takes them: `cache_control`,
//! `thinking`, `thinking_blocks` and `reasoning_content`.
//!
//! A whole reply is decoded as a stream of one chunk, so that both say the same.

mod client;
mod completion;
pub(super) mod error;
mod listen;
pub(super) mod note;
mod reasoning;
mod stream;
pub(super) mod upstream;
pub(super) mod wire;

pub(crate) use completion::Completions;

#[cfg(test)]
mod tests;

/// Both halves of the format.
#[derive(Clone, Copy, Debug)]
pub struct OpenAi;
