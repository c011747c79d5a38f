//! Where a client was in its stream: what it says in `Last-Event-ID` to go on from there.
//!
//! A client sees one stream, behind which there may be one of each backend; the token holds the place in every
//! one of them. It also says which stream it was: what is resumed of the answer to a request is asked of the one
//! backend that was answering (revision 2025-11-25, "Resumability and Redelivery").

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    seal::Unique,
    session::{Form, Tokens},
    wire::{Reader, Writer},
};

/// A place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the stream of everything: the last event of each backend, empty where there was none.
    All(Vec<(String, String)>),
    /// In the answer to one request, by one backend.
    Answer {
        /// The backend.
        backend: String,
        /// Its last event.
        event: String,
        /// What was asked, so that the rest of the answer can be read.
        method: String,
    },
}

/// What tokens of our own form begin with.
const MARK: &str = "e1.";

impl Tokens {
    /// Returns the token of `place`; `session` is the token of the session that it is in.
    pub fn seal_place(&self, place: &Place, session: &str, unique: Unique) -> String {
        match (self.form(), place) {
            (Form::V0, Place::All(events)) => self.derived().seal(unique, encode_v0(events).as_bytes()),
            // The other gateway cannot say it; where it reads this one it refuses it, as it does all that is not
            // its own.
            (Form::V0 | Form::V1, _) => {
                let sealed = self.events.seal(session.as_bytes(), unique, &encode(place));
                format!("{MARK}{sealed}")
            }
        }
    }

    /// Returns the place in `token`, if it is one of the session whose token is `session`.
    pub fn open_place(&self, token: &str, session: &str, now: u64) -> Option<Place> {
        match token.strip_prefix(MARK) {
            Some(sealed) => decode(&self.events.open(session.as_bytes(), sealed)?),
            None => {
                let plain = String::from_utf8(self.derived().open(token, now)?).ok()?;
                Some(Place::All(decode_v0(&plain)))
            }
        }
    }
}

fn encode(place: &Place) -> Vec<u8> {
    let mut out = Writer::default();
    match place {
        Place::All(events) => {
            out.number(0);
            for (backend, event) in events {
                out.text(backend);
                out.text(event);
            }
        }
        Place::Answer {
            backend,
            event,
            method,
        } => {
            out.number(1);
            out.text(backend);
            out.text(event);
            out.text(method);
        }
    }
    out.into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Place> {
    let mut from = Reader::new(bytes);
    let next = |from: &mut Reader<'_>| Some((from.text()?.to_owned(), from.text()?.to_owned()));
    match from.number()? {
        0 => {
            let mut events = Vec::new();
            while !from.is_empty() {
                events.push(next(&mut from)?);
            }
            Some(Place::All(events))
        }
        1 => {
            let (backend, event) = next(&mut from)?;
            let method = from.text()?.to_owned();
            from.is_empty().then_some(Place::Answer {
                backend,
                event,
                method,
            })
        }
        _ => None,
    }
}

/// The compatibility specification's form, "Plaintext grammar".
fn encode_v0(events: &[(String, String)]) -> String {
    let items = events
        .iter()
        .map(|(backend, event)| format!("{backend}:{}", STANDARD.encode(event)));
    items.collect::<Vec<_>>().join(",")
}

/// What cannot be read of it is left out.
fn decode_v0(text: &str) -> Vec<(String, String)> {
    let items = text.split(',').filter_map(|item| {
        let (backend, event) = item.split_once(':')?;
        let event = String::from_utf8(STANDARD.decode(event).ok()?).ok()?;
        Some((backend.to_owned(), event))
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::tokens;

    #[test]
    fn places_come_back_in_their_session_only() {
        let events = vec![
            ("alpha".to_owned(), "42".to_owned()),
            ("beta".to_owned(), String::new()),
        ];
        let answer = Place::Answer {
            backend: "alpha".to_owned(),
            event: "e,:@".to_owned(),
            method: "tools/call".to_owned(),
        };
        for form in [Form::V0, Form::V1] {
            let tokens = tokens("seed", None, form);
            for place in [Place::All(events.clone()), answer.clone()] {
                let token = tokens.seal_place(&place, "session", [1; 12]);
                assert_eq!(tokens.open_place(&token, "session", 0), Some(place));
                if token.starts_with(MARK) {
                    assert_eq!(tokens.open_place(&token, "other", 0), None);
                }
            }
            assert_eq!(tokens.open_place("e1.", "session", 0), None);
            assert_eq!(tokens.open_place("42", "session", 0), None);
        }
    }

    #[test]
    fn the_specified_example_is_read() {
        let events = decode_v0("alpha:NDI=,beta:");
        assert_eq!(encode_v0(&events), "alpha:NDI=,beta:");
        assert_eq!(events[0], ("alpha".to_owned(), "42".to_owned()));
        assert_eq!(decode_v0("a,b:*,c:eA=="), [("c".to_owned(), "x".to_owned())]);
    }
}
