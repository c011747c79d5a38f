//! What a service changes about a request that it lets in.

use http::{request::Parts, uri::PathAndQuery};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::header_edit::HeaderEdit;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// A header is changed.
    Header(HeaderEdit),
    /// A parameter is put in place of those of its name.
    SetParam(String, String),
    /// A parameter is taken off.
    RemoveParam(String),
}

impl Edit {
    pub(super) fn apply(&self, head: &mut Parts) {
        match self {
            Edit::Header(edit) => edit.apply(&mut head.headers),
            Edit::SetParam(name, value) => set_param(head, name, Some(value)),
            Edit::RemoveParam(name) => set_param(head, name, None),
        }
    }
}

fn set_param(head: &mut Parts, name: &str, value: Option<&str>) {
    let query = head.uri.query().unwrap_or_default();
    let is_other = |pair: &&str| {
        let written = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && percent_decode_str(written).decode_utf8_lossy() != name
    };
    let mut pairs: Vec<String> = query.split('&').filter(is_other).map(str::to_owned).collect();
    pairs.extend(value.map(|value| {
        let said = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        format!("{}={}", said(name), said(value))
    }));
    let mut target = head.uri.path().to_owned();
    if !pairs.is_empty() {
        target.push('?');
        target.push_str(&pairs.join("&"));
    }
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    // What was a path remains one: only what is escaped was added.
    parts.path_and_query = PathAndQuery::try_from(target).ok();
    head.uri = http::Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::header_edit::{removable, settable};

    #[track_caller]
    fn check(target: &str, edits: &[Edit], expected_target: &str, expected: &str) {
        let request = http::Request::builder().uri(target).header("x-a", "1");
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        for edit in edits {
            edit.apply(&mut head);
        }
        let lines: Vec<String> = head
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or("?")))
            .collect();
        assert_eq!(head.uri.to_string(), expected_target, "{edits:?}");
        assert_eq!(lines.join(" "), expected, "{edits:?}");
    }

    #[test]
    fn requests_are_changed() {
        let named = |name: &str| settable(name, b"2").expect("a header");
        let of = |make: fn(HeaderName, HeaderValue) -> HeaderEdit, name: &str| {
            let (name, value) = named(name);
            Edit::Header(make(name, value))
        };
        check("/p", &[of(HeaderEdit::Set, "X-A")], "/p", "x-a=2");
        check("/p", &[of(HeaderEdit::Append, "x-a")], "/p", "x-a=1 x-a=2");
        check(
            "/p",
            &[of(HeaderEdit::Fill, "x-a"), of(HeaderEdit::Fill, "x-b")],
            "/p",
            "x-a=1 x-b=2",
        );
        check(
            "/p",
            &[of(HeaderEdit::Replace, "x-a"), of(HeaderEdit::Replace, "x-b")],
            "/p",
            "x-a=2",
        );
        let removed = removable("X-A").expect("a header");
        check("/p", &[Edit::Header(HeaderEdit::Remove(removed))], "/p", "");
        let set = |name: &str, value: &str| Edit::SetParam(name.to_owned(), value.to_owned());
        check(
            "/p?a=1&b=2&a=3",
            &[set("a", "x y&")],
            "/p?b=2&a=x%20y%26",
            "x-a=1",
        );
        check(
            "http://h/p?%61=1",
            &[Edit::RemoveParam("a".to_owned())],
            "http://h/p",
            "x-a=1",
        );
    }
}
