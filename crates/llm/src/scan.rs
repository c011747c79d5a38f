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
            let run = run(rest)?;
            self.at += run + 1;
            match rest.get(run)? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                _ => return None,
            }
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

/// So many words are looked at one by one before a search begins.
const SHORT: usize = 4;

/// Returns how many bytes of a string go before the first quote, backslash or control character; `None` if it has none
/// of them. Most runs in a prompt are short, and a search over long ones takes more to set up than they take.
pub(crate) fn run(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let words = words.get(..SHORT).unwrap_or(words);
    for (place, word) in words.iter().enumerate() {
        let found = special(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(place * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let before = words.len() * 8;
    let rest = bytes.get(before..)?;
    let end = memchr::memchr2(b'"', b'\\', rest);
    let plain = rest.get(..end.unwrap_or(rest.len()))?;
    // The least byte is found without a branch for each.
    let least = plain.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    let end = match least {
        ..b' ' => plain.iter().position(|byte| *byte < b' '),
        b' '.. => end,
    };
    Some(before + end?)
}

/// Returns a word whose lowest bit is in the first byte that is a quote, a backslash or a control character; 0 if none
/// is. A byte above that one may be marked though it is none: a loan goes up, never down.
fn special(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let below = |word: u64, bound: u64| word.wrapping_sub(EACH * bound) & !word & (EACH << 7);
    let is = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    below(word, u64::from(b' ')) | is(b'"') | is(b'\\')
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
        fn runs_end_at_the_first_special_byte(
            bytes in proptest::collection::vec(prop_oneof![8 => any::<u8>(), 40 => 0x20..0x7f_u8, 1 => Just(b'"')], 0..90),
        ) {
            let special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..b' ');
            prop_assert_eq!(run(&bytes), bytes.iter().position(special));
        }


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
