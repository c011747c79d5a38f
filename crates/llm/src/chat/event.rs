//! The grammar of a streamed answer: what decoders emit and encoders understand.
//!
//! `Start (Open Delta* Close | Usage | Ping)* Finish+ Usage? | … Error`. Parts may interleave; an index is
//! opened once and closed once; nothing follows `Error`. [`Grammar`] checks it, in debug builds and tests.

use std::{collections::BTreeMap, sync::Arc};

use super::{Citation, Finish, Seal, Token, ToolKind};
use crate::{ApiError, Usage, media::Media};

/// One step of a streamed answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The upstream has begun to answer.
    Start(Head),
    /// A part begins. Indices count all parts of all choices, in the order in which they were opened.
    Open {
        /// The part's index, never used before.
        index: usize,
        /// The answer it belongs to; 0 unless several were asked for.
        choice: usize,
        /// What kind of part it is.
        part: PartHead,
    },
    /// More of an open part.
    Delta {
        /// The part.
        index: usize,
        /// What is added.
        delta: Delta,
    },
    /// A part is complete.
    Close {
        /// The part.
        index: usize,
    },
    /// Token counts so far.
    Usage(Usage),
    /// An answer is complete.
    Finish {
        /// Which answer.
        choice: usize,
        /// Why it ended.
        reason: Finish,
    },
    /// The upstream is alive.
    Ping,
    /// The upstream failed; nothing follows.
    Error(ApiError),
}

/// What is known of an answer when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The provider's id of the answer.
    pub id: String,
    /// The model that answers, in the provider's words; empty if it does not say.
    pub model: String,
    /// Seconds since the Unix epoch, where the provider says so.
    pub created: Option<u64>,
    /// Members of the request that the client's format repeats in its answers, as a JSON object. The exchange
    /// puts them here; decoders leave it alone.
    pub echo: Option<Arc<str>>,
}

/// What kind of part begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartHead {
    /// Text for the user.
    Text,
    /// Reasoning; `redacted` reasoning has only a seal.
    Reasoning {
        /// Whether the text is withheld by the provider.
        redacted: bool,
    },
    /// A call of a tool; its arguments follow as deltas.
    ToolCall {
        /// The call's id, to be repeated by its result.
        id: String,
        /// The tool.
        name: String,
        /// How its arguments are written.
        kind: ToolKind,
    },
    /// A refusal in the model's words.
    Refusal,
    /// A picture or a sound, which is whole when it begins.
    Media(Box<Media>),
}

/// What is added to an open part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Text of a text, reasoning or refusal part.
    Text(String),
    /// A piece of a tool call's arguments; the pieces together are JSON text.
    Arguments(String),
    /// The seal of a reasoning part. A seal that its issuer hangs on another part is a redacted part before it.
    Seal(Seal),
    /// Tokens of a text or refusal part, which stand before the text that they make up.
    Tokens(Vec<Token>),
    /// Where a text part is taken from.
    Citation(Box<Citation>),
}

/// Checks that a sequence of events follows the grammar.
#[derive(Clone, Debug, Default)]
pub struct Grammar {
    started: bool,
    ended: bool,
    finished: BTreeMap<usize, ()>,
    parts: BTreeMap<usize, bool>,
}

impl Grammar {
    /// Takes the next event.
    ///
    /// # Errors
    /// What rule it breaks.
    pub fn check(&mut self, event: &Event) -> Result<(), &'static str> {
        if self.ended {
            return Err("an event after Error");
        }
        match event {
            Event::Error(_) => self.ended = true,
            Event::Ping => {}
            Event::Start(_) if self.started => return Err("a second Start"),
            Event::Start(_) => self.started = true,
            _ if !self.started => return Err("an event before Start"),
            Event::Open { index, choice, .. } => {
                if self.finished.contains_key(choice) {
                    return Err("Open after the choice finished");
                }
                if self.parts.insert(*index, true).is_some() {
                    return Err("an index opened twice");
                }
            }
            Event::Delta { index, .. } => {
                if self.parts.get(index) != Some(&true) {
                    return Err("Delta on a part that is not open");
                }
            }
            Event::Close { index } => {
                if self.parts.insert(*index, false) != Some(true) {
                    return Err("Close of a part that is not open");
                }
            }
            Event::Finish { choice, .. } => {
                if self.finished.insert(*choice, ()).is_some() {
                    return Err("a choice finished twice");
                }
            }
            Event::Usage(_) => {}
        }
        Ok(())
    }

    /// Returns whether the stream may end here: it failed, or finished with every part closed.
    ///
    /// # Errors
    /// What is missing.
    pub fn end(&self) -> Result<(), &'static str> {
        if self.ended {
            return Ok(());
        }
        if self.finished.is_empty() {
            return Err("the stream ended without Finish");
        }
        if self.parts.values().any(|open| *open) {
            return Err("the stream ended with an open part");
        }
        Ok(())
    }
}
