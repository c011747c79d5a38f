//! Forms with files (`multipart/form-data`), read while they arrive: parts and small fields are told, contents
//! are passed over and nothing is kept of them.
//!
//! Follows RFC 7578 and, for what lies between the parts, RFC 2046 section 5.1.1. Where parsers are known to
//! disagree (a delimiter after a bare line feed, a name that is given twice, folded headers) the form is
//! refused: a reader behind us that sees other fields than we do could be told another model than the one
//! that was routed by.

mod edit;
mod head;

use std::fmt;

use http::HeaderMap;
use memchr::memmem::Finder;

use crate::ApiError;

pub use edit::Editor;
pub use head::Head;

/// The most bytes that the headers of one part may have, and that may stand before the first part.
pub const MAX_HEAD: usize = 16 * 1024;

/// The most bytes that the value of a wanted field may have.
pub const MAX_FIELD: usize = 4 * 1024;

/// The longest boundary. RFC 2046 allows 70 characters; some clients take more.
const MAX_BOUNDARY: usize = 200;

/// What separates the parts of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary(String);

/// Finds the parts of one form in bytes that arrive in any pieces.
#[derive(Debug)]
pub struct Scanner {
    /// A line feed, two hyphens and the boundary. A line feed occurs in it but once, so that after a mismatch
    /// nothing has to be looked at again.
    delimiter: Finder<'static>,
    wanted: &'static [&'static str],
    state: State,
    /// How many bytes of the delimiter were the last ones.
    matched: usize,
    /// The byte before those.
    before: u8,
    /// The last byte.
    last: u8,
    /// The headers of the part that has begun, as far as they came; how much of the preamble was read.
    head: Vec<u8>,
    part: Head,
    /// The content of a wanted field, as far as it came.
    value: Option<Vec<u8>>,
}

/// What was found in a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The headers of a part are complete; its content follows.
    Begin(&'a Head),
    /// A part has ended, delimiter included; with its content, where it is a wanted field.
    End(&'a Head, Option<&'a [u8]>),
    /// The last part has ended.
    Close,
}

/// Why bytes are not a form that every reader would understand in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No part begins within [`MAX_HEAD`] bytes.
    NoPart,
    /// A line begins with the boundary, but is neither its end nor the end of the form.
    Delimiter,
    /// A line with the boundary does not follow a carriage return and a line feed.
    BareLineFeed,
    /// The headers of a part exceed [`MAX_HEAD`].
    LongHead,
    /// The headers of a part break their grammar, or name the part in no way or in several.
    Head(&'static str),
    /// The named field exceeds [`MAX_FIELD`].
    LongField(String),
    /// The form is cut off.
    Unfinished,
}

/// Where in a form the next byte lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter, where text may stand that means nothing.
    Preamble,
    /// After a boundary: two hyphens, or blanks and the end of the line.
    Boundary,
    /// After a boundary and a hyphen.
    Hyphen,
    /// Among blanks between a boundary and the end of its line.
    Padding,
    /// After a boundary and a carriage return.
    Return,
    /// In the headers of a part.
    Head,
    /// In the content of a part.
    Content,
    /// After the last boundary: blanks, and the end of the line or of the form.
    Closed,
    /// After the last boundary and a carriage return.
    ClosedReturn,
    /// After everything, where text may stand that means nothing.
    Epilogue,
}

impl Boundary {
    /// Returns the boundary that the content type in `headers` gives, or `None` if they announce no form.
    ///
    /// # Errors
    /// A 400, if a form is announced without a boundary or with an impossible one.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut types = headers.get_all(http::header::CONTENT_TYPE).iter();
        let Some(value) = types.next() else {
            return Ok(None);
        };
        if !is_form(value.as_bytes()) {
            return Ok(None);
        }
        let refuse = |message: &str| ApiError::invalid(format!("malformed content-type: {message}"));
        if types.next().is_some() {
            return Err(refuse("it is given twice"));
        }
        let text = value.to_str().map_err(|_| refuse("it is not ASCII text"))?;
        let mut boundary = None;
        let parameters = text.split_once(';').map_or("", |(_, parameters)| parameters);
        for parameter in head::parameters(parameters) {
            let (name, value) = parameter.map_err(refuse)?;
            if name.eq_ignore_ascii_case("boundary") && boundary.replace(value).is_some() {
                return Err(refuse("it has two boundaries"));
            }
        }
        let boundary = boundary.ok_or_else(|| refuse("multipart/form-data without a boundary"))?;
        let allowed = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        let sane = (1..=MAX_BOUNDARY).contains(&boundary.len())
            && boundary.bytes().all(allowed)
            && !boundary.ends_with(' ');
        if !sane {
            return Err(refuse("the boundary is not a possible one"));
        }
        Ok(Some(Self(boundary)))
    }

    /// Returns the delimiter between two parts, its line's end not included.
    fn delimiter(&self) -> String {
        format!("\r\n--{}", self.0)
    }

    /// Returns how long that delimiter is.
    pub(crate) fn length(&self) -> u64 {
        (self.0.len() + "\r\n--".len()) as u64
    }
}

/// Returns whether `headers` announce a form.
pub fn is_announced(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| is_form(value.as_bytes()))
}

fn is_form(content_type: &[u8]) -> bool {
    const FORM: &[u8] = b"multipart/form-data";
    let (kind, rest) = content_type.split_at(FORM.len().min(content_type.len()));
    kind.eq_ignore_ascii_case(FORM) && matches!(rest.first(), None | Some(b';' | b' ' | b'\t'))
}

impl Scanner {
    /// Returns a scanner of a form whose parts `boundary` separates. The contents of fields that are `wanted`
    /// are told; they must be small.
    pub fn new(boundary: &Boundary, wanted: &'static [&'static str]) -> Self {
        Self {
            delimiter: Finder::new(format!("\n--{}", boundary.0).as_bytes()).into_owned(),
            wanted,
            state: State::Preamble,
            // The first delimiter may stand at the very beginning.
            matched: 1,
            before: b'\r',
            last: b'\n',
            head: Vec::new(),
            part: Head::default(),
            value: None,
        }
    }

    /// Takes the next bytes and hands everything that they complete to `each`, with the number of bytes of
    /// `bytes` that were read when it was complete.
    ///
    /// # Errors
    /// Why this is not a form. Nothing that follows can be read.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Event<'_>, usize)) -> Result<(), Malformed> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.state {
                State::Preamble => self.preamble(rest)?,
                State::Head => self.head(rest, |head, read| each(Event::Begin(head), at + read))?,
                State::Content => self.content(rest, |head, value, read| {
                    each(Event::End(head, value), at + read);
                })?,
                State::Epilogue => rest.len(),
                State::Boundary
                | State::Hyphen
                | State::Padding
                | State::Return
                | State::Closed
                | State::ClosedReturn => {
                    let before = self.state;
                    self.state = after_boundary(before, rest.first().copied().unwrap_or_default())?;
                    if before == State::Hyphen {
                        each(Event::Close, at + 1);
                    }
                    1
                }
            };
        }
        Ok(())
    }

    /// Hears that the form ended.
    ///
    /// # Errors
    /// [`Malformed::Unfinished`], if its own end was not seen.
    pub fn end(&self) -> Result<(), Malformed> {
        match self.state {
            State::Closed | State::Epilogue => Ok(()),
            State::Preamble
            | State::Boundary
            | State::Hyphen
            | State::Padding
            | State::Return
            | State::Head
            | State::Content
            | State::ClosedReturn => Err(Malformed::Unfinished),
        }
    }

    fn preamble(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let found = self.seek(bytes)?;
        let read = found.unwrap_or(bytes.len());
        if self.head.len() + read > MAX_HEAD + self.delimiter.needle().len() {
            return Err(Malformed::NoPart);
        }
        self.head.extend_from_slice(bytes.get(..read).unwrap_or_default());
        if found.is_some() {
            self.head.clear();
            self.state = State::Boundary;
        }
        Ok(read)
    }

    /// Reads headers up to the end of one line.
    fn head(&mut self, bytes: &[u8], begin: impl FnOnce(&Head, usize)) -> Result<usize, Malformed> {
        let line = memchr::memchr(b'\n', bytes);
        let read = line.map_or(bytes.len(), |line| line + 1);
        if self.head.len() + read > MAX_HEAD {
            return Err(Malformed::LongHead);
        }
        self.head.extend_from_slice(bytes.get(..read).unwrap_or_default());
        if line.is_none() {
            return Ok(read);
        }
        if !self.head.ends_with(b"\r\n") {
            return Err(Malformed::Head("a line does not end in CRLF"));
        }
        if self.head.len() == 2 || self.head.ends_with(b"\r\n\r\n") {
            self.part = Head::parse(&self.head).map_err(Malformed::Head)?;
            self.head.clear();
            self.state = State::Content;
            // A boundary right here would end the part for some readers and be content for others.
            (self.matched, self.before, self.last) = (1, 0, b'\n');
            self.value =
                (!self.part.is_file && self.wanted.contains(&self.part.name.as_str())).then(Vec::new);
            begin(&self.part, read);
        }
        Ok(read)
    }

    fn content(
        &mut self,
        bytes: &[u8],
        end: impl FnOnce(&Head, Option<&[u8]>, usize),
    ) -> Result<usize, Malformed> {
        let found = self.seek(bytes)?;
        let read = found.unwrap_or(bytes.len());
        // The carriage return before the line feed belongs to the delimiter too.
        let delimiter = self.delimiter.needle().len() + 1;
        if let Some(value) = &mut self.value {
            value.extend_from_slice(bytes.get(..read).unwrap_or_default());
            if found.is_some() {
                value.truncate(value.len().saturating_sub(delimiter));
            }
            let limit = MAX_FIELD + if found.is_some() { 0 } else { delimiter };
            if value.len() > limit {
                return Err(Malformed::LongField(self.part.name.clone()));
            }
        }
        if found.is_some() {
            self.state = State::Boundary;
            end(&self.part, self.value.as_deref(), read);
            self.value = None;
        }
        Ok(read)
    }

    /// Returns how many of `bytes` were read when the delimiter was complete; `None` if it is not.
    fn seek(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let delimiter = self.delimiter.needle();
        if self.matched > 0 {
            let missing = delimiter.get(self.matched..).unwrap_or_default();
            let common = missing
                .iter()
                .zip(bytes)
                .take_while(|(one, other)| one == other)
                .count();
            if common == missing.len() {
                return self.found(self.before, common);
            }
            if common == bytes.len() {
                self.matched += common;
                return Ok(None);
            }
            self.matched = 0;
        }
        let before = |at: usize| {
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            before.copied().unwrap_or(self.last)
        };
        if let Some(at) = self.delimiter.find(bytes) {
            return self.found(before(at), at + delimiter.len());
        }
        let tail = bytes.len().saturating_sub(delimiter.len() - 1);
        let begun = memchr::memrchr(b'\n', bytes.get(tail..).unwrap_or_default()).map(|at| tail + at);
        if let Some(at) = begun
            && let Some(begun) = bytes.get(at..)
            && delimiter.starts_with(begun)
        {
            (self.matched, self.before) = (begun.len(), before(at));
        }
        self.last = bytes.last().copied().unwrap_or(self.last);
        Ok(None)
    }

    fn found(&mut self, before: u8, read: usize) -> Result<Option<usize>, Malformed> {
        self.matched = 0;
        if before == b'\r' {
            Ok(Some(read))
        } else {
            Err(Malformed::BareLineFeed)
        }
    }
}

/// Returns the state after `byte`, which follows a boundary.
fn after_boundary(state: State, byte: u8) -> Result<State, Malformed> {
    Ok(match (state, byte) {
        (State::Boundary, b'-') => State::Hyphen,
        (State::Hyphen, b'-') => State::Closed,
        (State::Boundary | State::Padding, b' ' | b'\t') => State::Padding,
        (State::Boundary | State::Padding, b'\r') => State::Return,
        (State::Return, b'\n') => State::Head,
        (State::Closed, b' ' | b'\t') => State::Closed,
        (State::Closed, b'\r') => State::ClosedReturn,
        (State::ClosedReturn, b'\n') => State::Epilogue,
        _ => return Err(Malformed::Delimiter),
    })
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed multipart body: ")?;
        match self {
            Malformed::NoPart => f.write_str("no part begins with the boundary of the content-type"),
            Malformed::Delimiter => f.write_str("a line begins with the boundary and goes on otherwise"),
            Malformed::BareLineFeed => f.write_str("a boundary does not follow CRLF"),
            Malformed::LongHead => write!(f, "the headers of a part exceed {MAX_HEAD} bytes"),
            Malformed::Head(reason) => write!(f, "in the headers of a part, {reason}"),
            Malformed::LongField(name) => write!(f, "{name} exceeds {MAX_FIELD} bytes"),
            Malformed::Unfinished => f.write_str("it ends before its last boundary"),
        }
    }
}

impl From<Malformed> for ApiError {
    fn from(malformed: Malformed) -> Self {
        let error = ApiError::invalid(malformed.to_string());
        match malformed {
            Malformed::LongField(name) => error.with_param(name),
            Malformed::NoPart
            | Malformed::Delimiter
            | Malformed::BareLineFeed
            | Malformed::LongHead
            | Malformed::Head(_)
            | Malformed::Unfinished => error,
        }
    }
}

#[cfg(test)]
mod tests;
