//! Answers that name the model as the client did, where a route has an upstream serve another.
//!
//! In a relayed answer that name is all that changes; who translates says it in place of the upstream's.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use crate::{
    frame::Frame,
    json::{Object, Path},
    scan,
};

/// Where answers of a format name the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    key: &'static str,
    /// The key with its quotes: a document without it is not looked into.
    quoted: &'static str,
    /// The member in which events of a stream hold the answer's head.
    within: Option<&'static str>,
}

/// The client's name for the model, and where it is to stand.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    /// As JSON.
    value: String,
    place: Place,
    finder: Finder<'static>,
}

impl Place {
    /// In `model`, of whole answers and of events alike.
    pub const MODEL: Place = Place {
        key: "model",
        quoted: "\"model\"",
        within: None,
    };

    /// In `modelVersion`, as Gemini has it.
    pub const MODEL_VERSION: Place = Place {
        key: "modelVersion",
        quoted: "\"modelVersion\"",
        within: None,
    };

    /// In `model` of whole answers, which are the member `within` of the events that begin a stream.
    pub const fn model_within(within: &'static str) -> Place {
        Place {
            within: Some(within),
            ..Place::MODEL
        }
    }
}

impl Name {
    /// Returns the name `model`, to stand in `place`.
    pub(crate) fn new(model: &str, place: Place) -> Self {
        Self {
            value: serde_json::Value::from(model).to_string(),
            place,
            finder: Finder::new(place.quoted),
        }
    }

    /// Returns `document` with the name in it; as it is where it names no model.
    pub(crate) fn put(&self, document: Bytes) -> Bytes {
        let text = std::str::from_utf8(&document).ok();
        match text.and_then(|text| self.in_text(text)) {
            Some(named) => Bytes::from(named),
            None => document,
        }
    }

    /// Appends `frame`, whose bytes are `raw`, with the name in its data in `place` of the upstream's.
    pub(crate) fn write(&self, frame: Frame<'_>, place: Range<usize>, raw: &[u8], out: &mut BytesMut) {
        match position(frame.data.as_bytes(), raw) {
            Some(at) => {
                out.extend_from_slice(raw.get(..at + place.start).unwrap_or_default());
                out.extend_from_slice(self.value.as_bytes());
                out.extend_from_slice(raw.get(at + place.end..).unwrap_or_default());
            }
            // Data in several lines.
            None => {
                let data = self.in_place(frame.data, place).unwrap_or_default();
                Frame { data: &data, ..frame }.write_event(out);
            }
        }
    }

    /// Returns `text` with the name in it, unless it names no model.
    pub(crate) fn in_text(&self, text: &str) -> Option<String> {
        self.in_place(text, self.find(text)?)
    }

    fn in_place(&self, text: &str, place: Range<usize>) -> Option<String> {
        let (before, after) = (text.get(..place.start)?, text.get(place.end..)?);
        Some([before, &self.value, after].concat())
    }

    /// Returns where in `text` the upstream's name stands; `None` if it names no model.
    pub(crate) fn find(&self, text: &str) -> Option<Range<usize>> {
        self.finder.find(text.as_bytes())?;
        let found = match (value_of(text, self.place.key), self.place.within) {
            (Some(found), _) => found,
            (None, Some(within)) => {
                let within = value_of(text, within)?;
                let inner = value_of(text.get(within.clone())?, self.place.key)?;
                within.start + inner.start..within.start + inner.end
            }
            (None, None) => return None,
        };
        text.get(found.clone())?.starts_with('"').then_some(found)
    }
}

/// Returns where `data` lies in the bytes of its frame; `None` if it is there in several lines.
fn position(data: &[u8], raw: &[u8]) -> Option<usize> {
    // As all but a few servers begin a frame.
    const BEGIN: &[u8] = b"data: ";

    match raw.strip_prefix(BEGIN) {
        Some(rest) if rest.starts_with(data) => Some(BEGIN.len()),
        Some(_) | None => memchr::memmem::find(raw, data),
    }
}

/// Returns where the value of the member `key` of the object in `text` lies.
fn value_of(text: &str, key: &str) -> Option<Range<usize>> {
    if let Some(members) = scan::members(text) {
        let mut members = members.into_iter();
        let found = members.find(|member| text.get(member.key.clone()) == Some(key))?;
        return Some(found.value);
    }
    let raw = Object::parse_str(text, &Path::Reply).ok()?.peek(key)?;
    let from = (raw.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    Some(from..from + raw.get().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(place: Place, document: &str, expected: &str) {
        let name = Name::new("house \"m\"", place);
        let document = Bytes::copy_from_slice(document.as_bytes());
        assert_eq!(name.put(document), expected);
    }

    #[test]
    fn nothing_but_the_name_changes() {
        check(
            Place::MODEL,
            "{ \"id\":1.50, \"model\" : \"gpt-4o\",\"x\":[ ] }\n",
            "{ \"id\":1.50, \"model\" : \"house \\\"m\\\"\",\"x\":[ ] }\n",
        );
        check(
            Place::MODEL_VERSION,
            r#"{"modelVersion":"g","model":"x"}"#,
            r#"{"modelVersion":"house \"m\"","model":"x"}"#,
        );
        let messages = Place::model_within("message");
        check(
            messages,
            r#"{"type":"message_start","message":{"usage":{"model":"no"},"model":"c"}}"#,
            r#"{"type":"message_start","message":{"usage":{"model":"no"},"model":"house \"m\""}}"#,
        );
        // More members than are scanned.
        let many: String = (0..40).map(|index| format!("\"k{index}\":0,")).collect();
        check(
            Place::model_within("response"),
            &format!("{{\"response\":{{{many}\"model\":\"a\"}}}}"),
            &format!("{{\"response\":{{{many}\"model\":\"house \\\"m\\\"\"}}}}"),
        );
    }

    #[test]
    fn what_names_no_model_stays_as_it_is() {
        for document in [
            "",
            "[DONE]",
            "[\"model\"]",
            r#"{"choices":[{"model":"a"}]}"#,
            r#"{"model":null}"#,
            r#"{"model":1}"#,
            r#"{"text":"the \"model\": x"}"#,
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a""#,
        ] {
            check(Place::MODEL, document, document);
            check(Place::model_within("message"), document, document);
        }
    }

    #[test]
    fn a_frame_keeps_its_other_lines() {
        #[track_caller]
        fn check(event: Option<&str>, data: &str, raw: &str, expected: &str) {
            let mut out = BytesMut::new();
            let name = Name::new("m", Place::MODEL);
            let place = name.find(data).expect("the data names a model");
            name.write(Frame { event, data }, place, raw.as_bytes(), &mut out);
            assert_eq!(out, expected);
        }
        let data = r#"{"model":"a"}"#;
        check(
            Some("x"),
            data,
            ": hush\r\nevent: x\r\nid: 7\r\ndata:{\"model\":\"a\"}\r\n\r\n",
            ": hush\r\nevent: x\r\nid: 7\r\ndata:{\"model\":\"m\"}\r\n\r\n",
        );
        check(
            None,
            "{\n\"model\":\"a\"}",
            "data: {\ndata: \"model\":\"a\"}\n\n",
            "data: {\ndata: \"model\":\"m\"}\n\n",
        );
    }
}
