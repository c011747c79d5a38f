//! Where a list goes on that is given page by page: the cursor of each backend that has more, as one that only we can
//! read.

use crate::{
    seal::Unique,
    session::Tokens,
    wire::{Reader, Writer},
};

/// The next page of each backend that has one: its name, and its own cursor as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub Vec<(String, String)>);

impl Tokens {
    /// Returns the token of `cursor`, which is good for `list` of whoever `whose` says, on `route`.
    pub fn seal_cursor(&self, cursor: &Cursor, (route, list, whose): Place<'_>, unique: Unique) -> String {
        let mut out = Writer::default();
        for (backend, own) in &cursor.0 {
            out.text(backend);
            out.text(own);
        }
        self.cursors
            .seal(&bound(route, list, whose), unique, &out.into_bytes())
    }

    /// Returns the cursor in `token`, if it is good there.
    pub fn open_cursor(&self, token: &str, (route, list, whose): Place<'_>) -> Option<Cursor> {
        let bytes = self.cursors.open(&bound(route, list, whose), token)?;
        let mut from = Reader::new(&bytes);
        let mut cursor = Cursor::default();
        while !from.is_empty() {
            cursor.0.push((from.text()?.to_owned(), from.text()?.to_owned()));
        }
        Some(cursor)
    }
}

/// Where a cursor is good: a route, the method of a list, and whoever asks.
pub type Place<'a> = (&'a str, &'a str, &'a [u8; 16]);

fn bound(route: &str, list: &str, whose: &[u8; 16]) -> Vec<u8> {
    [route.as_bytes(), b"\n", list.as_bytes(), b"\n", whose].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Form, tests::tokens};

    #[test]
    fn cursors_come_back_where_they_are_from() {
        let tokens = tokens("seed", None, Form::V1);
        let whose = [7; 16];
        let cursor = Cursor(vec![
            ("alpha".to_owned(), "\"2\"".to_owned()),
            ("beta".to_owned(), String::new()),
        ]);
        let here = ("default/mcp", "tools/list", &whose);
        let token = tokens.seal_cursor(&cursor, here, [1; 12]);
        assert_eq!(tokens.open_cursor(&token, here), Some(cursor));
        for there in [
            ("default/other", "tools/list", &whose),
            ("default/mcp", "prompts/list", &whose),
            ("default/mcp", "tools/list", &[8; 16]),
        ] {
            assert_eq!(tokens.open_cursor(&token, there), None);
        }
        assert_eq!(tokens.open_cursor("2", here), None);
        assert_eq!(tokens.open_state(&token, "default/mcp", 0), None);
    }
}
