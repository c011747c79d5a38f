//! Answers that are kept for clients of Responses where no provider keeps them.
//!
//! A request of that format may go on from an earlier answer by its id (`previous_response_id`). A provider that
//! speaks the format knows the answers that it gave. Of what was translated nobody would know: the conversation
//! is kept here instead, and put before the input of the request that goes on from it. Where it is kept and for
//! how long is for others to say, who also choose the id.

use std::fmt;

use bytes::Bytes;
use serde_json::{json, value::RawValue};

use crate::{
    ApiError, Format, Inbound, Operation,
    json::{self, Kind, Object, Path, Shallow},
};

/// The member that names the answer from which a request goes on.
pub(crate) const PREVIOUS: &str = "previous_response_id";

/// The member that says whether an answer is to be kept; it is unless it says otherwise.
pub(crate) const STORE: &str = "store";

/// Members of items that mean something only to who stores them.
const STORED: [&str; 2] = ["id", "status"];

/// What will be kept of an answer when it is complete.
pub(crate) struct Keep {
    pub(crate) id: String,
    /// The items of the conversation, one list without its brackets after another.
    conversation: Vec<Bytes>,
}

/// An answer, and the conversation that led to it.
pub struct Kept {
    /// The id of the answer.
    pub id: String,
    /// The answer as the client was given it whole, or as its stream ended.
    pub document: Bytes,
    /// As in [`Keep`], with the answer's own items at the end.
    conversation: Vec<Bytes>,
}

/// The conversation that was put before a request's own input, with that at its end.
pub(crate) struct Continued(Vec<Bytes>);

impl Inbound {
    /// Returns the id of the answer from which the request goes on.
    ///
    /// # Errors
    /// A 400, if it is not a text.
    pub fn previous(&self) -> Result<Option<String>, ApiError> {
        if self.may_go_on() {
            self.shallow.read(PREVIOUS)
        } else {
            Ok(None)
        }
    }

    /// Returns whether the client wants the answer to be kept.
    ///
    /// # Errors
    /// A 400, if what it says is not a boolean.
    pub fn wants_keeping(&self) -> Result<bool, ApiError> {
        Ok(self.may_be_kept() && self.shallow.read(STORE)?.unwrap_or(true))
    }

    /// Puts the conversation of `earlier`, from which the request goes on, before its own.
    ///
    /// # Errors
    /// A 400, if the input cannot be put after another.
    pub fn go_on(&mut self, earlier: &Kept) -> Result<(), ApiError> {
        let own = items(&self.shallow)?;
        let lists: Vec<Bytes> = earlier.conversation.iter().cloned().chain([own]).collect();
        let said = lists.iter().filter(|list| !list.is_empty());
        let said: Vec<&str> = said.filter_map(|list| std::str::from_utf8(list).ok()).collect();
        let mut edits = vec![("input", Some(format!("[{}]", said.join(","))))];
        // An answer tells from which one it goes on; what becomes of a document does not.
        if !self.may_be_kept() {
            edits.push((PREVIOUS, None));
        }
        self.shallow = Shallow::parse(self.shallow.with(&edits))?;
        self.continued = Some(Continued(lists));
        Ok(())
    }

    /// Has the answer kept, if it is translated, under an id that is made of `random`.
    pub fn keep(&mut self, random: u128) {
        self.keep = Some(random);
    }

    /// Returns what is to be kept.
    pub(crate) fn keeping(&self) -> Result<Option<Keep>, ApiError> {
        let Some(random) = self.keep else {
            return Ok(None);
        };
        Ok(Some(Keep {
            id: format!("resp_{random:032x}"),
            conversation: match &self.continued {
                Some(Continued(lists)) => lists.clone(),
                None => vec![items(&self.shallow)?],
            },
        }))
    }

    /// Returns whether the client speaks the format whose answers are kept, and wants one.
    fn may_be_kept(&self) -> bool {
        self.endpoint.operation == Operation::Chat && self.may_go_on()
    }

    /// Returns whether the client speaks the format in which a request may go on from an answer.
    pub fn may_go_on(&self) -> bool {
        self.endpoint.format == Format::Responses
    }
}

impl Keep {
    /// Returns what is kept now that the answer is complete, which is `document`.
    pub(crate) fn complete(self, document: Bytes) -> Kept {
        let mut conversation = self.conversation;
        conversation.push(output(&document));
        Kept {
            id: self.id,
            document,
            conversation,
        }
    }
}

impl Kept {
    /// Returns how many bytes it takes.
    pub fn weight(&self) -> usize {
        let conversation: usize = self.conversation.iter().map(Bytes::len).sum();
        self.id.len() + self.document.len() + conversation
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Returns the items of `input`, without brackets. A text is what a user says.
fn items(request: &Shallow) -> Result<Bytes, ApiError> {
    let path = Path::Root.key("input");
    let Some(input) = request.get("input") else {
        return Ok(Bytes::new());
    };
    let raw: &RawValue = serde_json::from_str(input).map_err(|error| path.invalid(error))?;
    match json::kind(raw) {
        Kind::String => {
            let text = json::read::<String>(raw, &path)?;
            Ok(Bytes::from(
                json!({ "role": "user", "content": text }).to_string(),
            ))
        }
        Kind::Array => Ok(Bytes::copy_from_slice(unbracketed(raw).as_bytes())),
        Kind::Object | Kind::Number | Kind::Bool | Kind::Null => {
            Err(path.invalid("expected a string or an array of items"))
        }
    }
}

/// Returns the items of an answer as those of an input, without brackets.
fn output(document: &[u8]) -> Bytes {
    let plain = |raw: &RawValue| {
        let item = Shallow::parse(Bytes::copy_from_slice(raw.get().as_bytes())).ok()?;
        let item = item.with(&STORED.map(|key| (key, None)));
        String::from_utf8(item.into()).ok()
    };
    let items = || {
        let mut answer = Object::parse_slice(document).ok()?;
        let path = Path::Root;
        let items = json::elements(answer.take("output")?, &path.key("output")).ok()?;
        Some(items.into_iter().filter_map(plain).collect::<Vec<_>>().join(","))
    };
    Bytes::from(items().unwrap_or_default())
}

fn unbracketed(array: &RawValue) -> &str {
    let text = array.get().trim();
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inside.unwrap_or_default().trim()
}
