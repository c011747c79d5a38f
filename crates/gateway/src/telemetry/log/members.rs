//! The members of a record, one after the other: written as a line of JSON, or kept.
//!
//! A line is made for every request: it is written as it is told, names and texts that need no escape in one piece.

use std::{borrow::Cow, io::Write};

use policy::cost::prices::Money;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Who is told the members, no two by the same name.
pub(super) trait Members {
    /// Takes one whose name is the gateway's own: nothing in it has to be escaped.
    fn put(&mut self, name: &'static str, member: Member<'_>);

    /// Takes one that somebody else has named.
    fn named(&mut self, name: &str, member: Member<'_>);

    /// Takes one, if there is one.
    fn some(&mut self, name: &'static str, member: Option<Member<'_>>) {
        if let Some(member) = member {
            self.put(name, member);
        }
    }
}

/// What a member is.
#[derive(Clone, Copy)]
pub(super) enum Member<'a> {
    Text(&'a str),
    Time(jiff::Timestamp),
    Count(u64),
    Code(i32),
    /// It is finite, and has three decimal places at most.
    Number(f64),
    /// A number with as many decimal places as it has.
    Amount(Money),
    Flag(bool),
    Texts(&'a [Cow<'static, str>]),
    Counts(&'a [(&'a str, u64)]),
}

/// An object of JSON that is being written.
pub(super) struct Line(Vec<u8>);

impl Line {
    /// Returns one with room for `bytes`.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Returns the whole of it.
    pub(super) fn end(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(b'{');
        }
        self.0.push(b'}');
        self.0
    }

    fn next(&mut self) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
    }

    fn quote(&mut self, text: &str) {
        if is_plain(text) {
            self.between_quotes(text);
        } else {
            // Writing to memory cannot fail.
            let _ = serde_json::to_writer(&mut self.0, text);
        }
    }

    fn between_quotes(&mut self, text: &str) {
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }

    /// Writes a number or a truth value.
    fn write(&mut self, value: impl Serialize) {
        let _ = serde_json::to_writer(&mut self.0, &value);
    }

    /// Writes `items` between `open` and `close`.
    fn each<T>(&mut self, (open, close): (u8, u8), items: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.0.push(open);
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.0.push(b',');
            }
            one(self, item);
        }
        self.0.push(close);
    }

    fn member(&mut self, member: Member<'_>) {
        self.0.push(b':');
        match member {
            Member::Text(text) => self.quote(text),
            Member::Time(time) => {
                self.0.push(b'"');
                let _ = write!(self.0, "{time}");
                self.0.push(b'"');
            }
            Member::Count(count) => self.write(count),
            Member::Code(code) => self.write(code),
            Member::Number(number) => self.write(number),
            Member::Amount(amount) => {
                let _ = write!(self.0, "{amount}");
            }
            Member::Flag(flag) => self.write(flag),
            Member::Texts(texts) => self.each((b'[', b']'), texts, |line, text| line.quote(text)),
            Member::Counts(counts) => self.each((b'{', b'}'), counts, |line, (name, count)| {
                line.quote(name);
                line.0.push(b':');
                line.write(count);
            }),
        }
    }
}

impl Members for Line {
    fn put(&mut self, name: &'static str, member: Member<'_>) {
        self.next();
        self.between_quotes(name);
        self.member(member);
    }

    fn named(&mut self, name: &str, member: Member<'_>) {
        self.next();
        self.quote(name);
        self.member(member);
    }
}

impl Members for Map<String, Value> {
    fn put(&mut self, name: &'static str, member: Member<'_>) {
        self.named(name, member);
    }

    fn named(&mut self, name: &str, member: Member<'_>) {
        let value = match member {
            Member::Text(text) => json!(text),
            Member::Time(time) => json!(time.to_string()),
            Member::Count(count) => json!(count),
            Member::Code(code) => json!(code),
            Member::Number(number) => json!(number),
            Member::Amount(amount) => json!(amount.amount()),
            Member::Flag(flag) => json!(flag),
            Member::Texts(texts) => json!(texts),
            Member::Counts(counts) => counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), json!(count)))
                .collect(),
        };
        self.insert(name.to_owned(), value);
    }
}

/// Returns whether nothing in a text has to be escaped. Blocks of a fixed length are looked at in one go.
fn is_plain(text: &str) -> bool {
    let special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    let (blocks, rest) = text.as_bytes().as_chunks::<16>();
    let blocks = blocks
        .iter()
        .all(|block| !block.iter().fold(false, |found, byte| found | special(byte)));
    blocks && !rest.iter().any(special)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(told: &mut impl Members, texts: &[String], counts: &[(&str, u64)], number: f64) {
        let cows: Vec<Cow<'static, str>> = texts.iter().cloned().map(Cow::Owned).collect();
        for (place, text) in texts.iter().enumerate() {
            told.named(&format!("{place}{text}"), Member::Text(text));
        }
        told.put("time", Member::Time(jiff::Timestamp::UNIX_EPOCH));
        told.put("number", Member::Number(number));
        told.put("code", Member::Code(-32_000));
        told.put("amount", Member::Amount(Money::of_micros(number as u64)));
        told.put("flag", Member::Flag(true));
        told.some("none", None);
        told.put("texts", Member::Texts(&cows));
        told.put("counts", Member::Counts(counts));
    }

    proptest! {
        /// A line says what is kept otherwise, whatever the texts are.
        #[test]
        fn a_line_is_the_object(
            texts in proptest::collection::vec(".*", 0..4),
            counts in proptest::collection::btree_map(".*", any::<u64>(), 0..3),
            thousandths in any::<u32>(),
        ) {
            let counts: Vec<(&str, u64)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
            let number = f64::from(thousandths) / 1e3;
            let (mut line, mut map) = (Line::with_capacity(8), Map::new());
            told(&mut line, &texts, &counts, number);
            told(&mut map, &texts, &counts, number);
            let read: Value = serde_json::from_slice(&line.end()).expect("JSON");
            prop_assert_eq!(read, Value::Object(map));
        }
    }

    #[test]
    fn nothing_is_an_empty_object() {
        assert_eq!(Line::with_capacity(0).end(), b"{}");
    }
}
