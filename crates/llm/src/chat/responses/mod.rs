//! OpenAI Responses.
//!
//! Beside the parts that every format has: `input` reads the items of a request and `content` what is in them;
//! `items` and `piece` write both, in the document of `request`. `answer` is a whole reply as it is written, and
//! `emit` tells the same in the events of `event`; `output` puts together what is read.
//!
//! A conversation here is a list of items, not of messages: reasoning, each call and each result stand for
//! themselves. Items that follow one another and are of one speaker make one turn. What is stored at the
//! provider (`conversation`, item references) is known to this format alone; an answer from which a request goes
//! on (`previous_response_id`) may also be [kept](crate::kept) here.
//!
//! A whole reply is decoded as a stream of one event that says everything, so that both say the same. Error
//! documents are those of chat completions.
//!
//! Follows the provider's API reference ("Responses", "Streaming events").

mod answer;
mod client;
mod content;
mod emit;
mod error;
mod event;
mod input;
mod items;
mod listen;
mod output;
mod piece;
mod request;
mod stream;
mod upstream;
mod wire;

/// Both halves of the format.
#[derive(Clone, Copy, Debug)]
pub struct Responses;

#[cfg(test)]
mod tests;
