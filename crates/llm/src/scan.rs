//! Finds the top-level members of a large JSON object, much faster than by reading it.
//!
//! The scan accepts nothing that is not JSON, but gives up on what is rare or broken: escaped keys, many members,
//! deep nesting. Who asks then reads the document with serde_json, whose word counts, as does its error.

use std::ops::Range;

/// Where a member's key and value lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// The key, without its quotes.
    pub(crate) key: Range<usize>,
    /// The value.
    pub(crate) value: Range<usize>,
}

/// The most members that are looked through for a repeated one.
const MAX_MEMBERS: usize = 32;

/// How deep values are followed.
const MAX_DEPTH: usize = 64;

/// Returns the members of the one object in `text`, or `None` where the scan gives up.
pub(crate) fn members(text: &str) -> Option<Vec<Member>> {
    let mut scan = Scan {
        bytes: text.as_bytes(),
        at: 0,
    };
    let mut members: Vec<Member> = Vec::with_capacity(8);
    scan.blanks();
    scan.sequence(b'{', b'}', |scan| {
        let member = scan.member(MAX_DEPTH)?;
        let key = scan.bytes.get(member.key.clone())?;
        let repeated = members
            .iter()
            .any(|known| scan.bytes.get(known.key.clone()) == Some(key));
        if repeated || key.contains(&b'\\') || members.len() == MAX_MEMBERS {
            return None;
        }
        members.push(member);
        Some(())
    })?;
    scan.blanks();
    (scan.at == scan.bytes.len()).then_some(members)
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn value(&mut self, depth: usize) -> Option<()> {
        match self.bytes.get(self.at)? {
            b'"' => self.string(),
            b'{' => {
                let depth = depth.checked_sub(1)?;
                self.sequence(b'{', b'}', |scan| scan.member(depth).map(drop))
            }
            b'[' => {
                let depth = depth.checked_sub(1)?;
                self.sequence(b'[', b']', |scan| scan.value(depth))
            }
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// Passes from `open` to `close`; `item` passes one of what stands between them, separated by commas.
    fn sequence(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.byte(open)?;
        self.blanks();
        if self.byte(close).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.blanks();
            if self.byte(b',').is_none() {
                return self.byte(close);
            }
            self.blanks();
        }
    }

    fn member(&mut self, depth: usize) -> Option<Member> {
        let start = self.at + 1;
        self.string()?;
        let key = start..self.at - 1;
        self.blanks();
        self.byte(b':')?;
        self.blanks();
        let start = self.at;
        self.value(depth)?;
        Some(Member {
            key,
            value: start..self.at,
        })
    }

    fn string(&mut self) -> Option<()> {
        self.byte(b'"')?;
        loop {
            let rest = self.bytes.get(self.at..)?;
            let (run, end) = rest.split_at_checked(memchr::memchr2(b'"', b'\\', rest)?)?;
            // The least byte is found without a branch for each; most runs are long.
            if run.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' ' {
                return None;
            }
            self.at += run.len() + 1;
            if end.first() == Some(&b'"') {
                return Some(());
            }
            self.escape()?;
        }
    }

    /// Passes what follows a backslash.
    fn escape(&mut self) -> Option<()> {
        let escaped = *self.bytes.get(self.at)?;
        self.at += 1;
        match escaped {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<()> {
        // A minus that is not there is not missed.
        let _ = self.byte(b'-');
        if self.byte(b'0').is_none() {
            self.digits()?;
        }
        if self.byte(b'.').is_some() {
            self.digits()?;
        }
        if self.byte(b'e').or_else(|| self.byte(b'E')).is_some() {
            let _ = self.byte(b'+').or_else(|| self.byte(b'-'));
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let is_there = self.bytes.get(self.at..)?.starts_with(word);
        self.at += word.len();
        is_there.then_some(())
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        let is_there = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(is_there);
        is_there.then_some(())
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// Checks that what the scan finds is what serde_json reads; returns whether it found anything.
    #[track_caller]
    fn check(text: &str) -> bool {
        let Some(members) = members(text) else {
            return false;
        };
        let read: BTreeMap<&str, &RawValue> = serde_json::from_str(text).expect("JSON, as was found");
        assert_eq!(read.len(), members.len(), "{text}");
        for Member { key, value } in members {
            assert_eq!(read[&text[key]].get(), &text[value], "{text}");
        }
        true
    }

    #[test]
    fn finds_what_requests_hold() {
        for text in [
            "{}",
            " { } ",
            r#"{"a":1,"b":[],"c":{},"d":"","e":null,"f":true,"g":false}"#,
            "{\"a\" : -0.5e+10 ,\n\t\"b\":[1, [2,{\"c\":\"\\u00e9\\n\\\"\"}]],\r\"c\":\"é\"}",
            r#"{"a":0,"b":10,"c":1.25,"d":1E-3,"e":"\\"}"#,
        ] {
            assert!(check(text), "{text}");
        }
    }

    #[test]
    fn gives_up_on_what_is_broken_or_rare() {
        for text in [
            "",
            "[]",
            "{",
            "{}}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":-}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e}"#,
            r#"{"a":+1}"#,
            r#"{"a":nul}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            r#"{"a":"}"#,
            r#"{"a":"\"}"#,
            r#"{"a":[1,]}"#,
            r#"{"\u0061":1}"#,
            "{\"a\":\"\u{1f}\"}",
            "{\"a\":\"\n\"}",
        ] {
            assert!(members(text).is_none(), "{text}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
        assert!(members(&deep).is_none());
    }

    proptest! {
        #[test]
        fn accepts_nothing_that_is_not_json(text in r#"\{("[ab\\"n\t]{0,3}" ?: ?[0-9eE.+\[\]{}",tnruelfas\\ -]{0,12},?){0,4}\}"#) {
            check(&text);
        }

        #[test]
        fn finds_any_object(values in proptest::collection::btree_map("[a-z]{1,5}", any::<(String, f64, bool)>(), 0..10)) {
            let document = serde_json::json!(values);
            let pretty = serde_json::to_string_pretty(&document).expect("it is JSON");
            prop_assert!(check(&document.to_string()) && check(&pretty));
        }
    }
}
