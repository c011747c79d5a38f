//! Server-sent events, cut out of bytes that arrive in any pieces.
//!
//! Follows WHATWG HTML section 9.2.6: lines end in LF, CR or CRLF, a blank line dispatches, a leading byte
//! order mark is skipped, several `data` lines join with LF, unknown fields and comments mean nothing. Two
//! deviations serve real providers: an event that has a name but no data is dropped, and a last event without
//! its blank line is handed out by [`Sse::finish`].

use super::Frame;

/// The most bytes that one event may have unless it is said otherwise; beyond it the stream counts as broken.
pub const MAX_EVENT: usize = 16 * 1024 * 1024;

/// A decoder of server-sent events.
#[derive(Debug, Default)]
pub struct Sse {
    limit: Limit,
    /// Bytes of the line that is not complete yet.
    line: Vec<u8>,
    data: String,
    has_data: bool,
    event: String,
    id: Option<String>,
    retry: Option<u64>,
    /// The last line ended in CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The byte order mark has been looked for.
    begun: bool,
    /// Something of an event has been read that no blank line has ended.
    open: bool,
}

/// The most bytes that one event may have.
#[derive(Debug)]
struct Limit(usize);

impl Default for Limit {
    fn default() -> Self {
        Self(MAX_EVENT)
    }
}

/// An event with all that its lines said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its type and data.
    pub frame: Frame<'a>,
    /// Its own id; `None` where it has none, whatever the event before had.
    pub id: Option<&'a str>,
    /// Milliseconds to wait before the stream is asked for again, if that was said since the event before.
    pub retry: Option<u64>,
}

/// An event exceeded what it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Sse {
    /// Returns a decoder of events that have at most `limit` bytes.
    pub fn within(limit: usize) -> Self {
        Self {
            limit: Limit(limit),
            ..Self::default()
        }
    }

    /// Takes the next bytes and hands every event that they complete to `each`, with the number of bytes of
    /// `bytes` that were read when it was complete.
    ///
    /// # Errors
    /// [`TooLarge`], if an event does not end in time.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Frame<'_>, usize)) -> Result<(), TooLarge> {
        self.push_events(bytes, |event, at| each(event.frame, at))
    }

    /// Does what [`Sse::push`] does, for whoever wants to know ids and times as well.
    ///
    /// # Errors
    /// As [`Sse::push`].
    pub fn push_events(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Event<'_>, usize),
    ) -> Result<(), TooLarge> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.after_cr {
                self.after_cr = false;
                if rest.first() == Some(&b'\n') {
                    at += 1;
                    continue;
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.open = true;
                if self.line.len() + self.data.len() + rest.len() > self.limit.0 {
                    return Err(TooLarge);
                }
                self.line.extend_from_slice(rest);
                return Ok(());
            };
            let (piece, ending) = rest.split_at(end);
            self.after_cr = ending.first() == Some(&b'\r');
            at += end + 1;
            let dispatch = if self.line.is_empty() {
                self.read_line(piece)
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(piece);
                let dispatch = self.read_line(&line);
                line.clear();
                self.line = line;
                dispatch
            };
            if self.data.len() > self.limit.0 {
                return Err(TooLarge);
            }
            if dispatch {
                self.dispatch(|event| each(event, at));
            }
        }
        Ok(())
    }

    /// Hands out an event that the end of the stream left without its blank line.
    pub fn finish(&mut self, mut each: impl FnMut(Frame<'_>)) {
        self.finish_events(|event| each(event.frame));
    }

    /// Does what [`Sse::finish`] does, for whoever wants to know ids and times as well.
    pub fn finish_events(&mut self, each: impl FnMut(Event<'_>)) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.read_line(&line);
        }
        self.dispatch(each);
    }

    /// Returns whether no event is begun and not ended.
    pub fn is_between_events(&self) -> bool {
        !self.open
    }

    /// Reads one line without its ending; returns whether it dispatches.
    fn read_line(&mut self, line: &[u8]) -> bool {
        let line = if self.begun {
            line
        } else {
            line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
        };
        self.begun = true;
        self.open = !line.is_empty();
        if line.is_empty() {
            return true;
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => {
                let (field, value) = line.split_at(colon);
                let value = value.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                push_lossy(&mut self.data, value);
            }
            b"event" => {
                self.event.clear();
                push_lossy(&mut self.event, value);
            }
            // An id with a NUL is none (WHATWG HTML, section 9.2.6).
            b"id" if !value.contains(&0) => {
                let id = self.id.get_or_insert_default();
                id.clear();
                push_lossy(id, value);
            }
            b"retry" => {
                let number = std::str::from_utf8(value).ok();
                self.retry = number.and_then(|number| number.parse().ok()).or(self.retry);
            }
            _ => {}
        }
        false
    }

    fn dispatch(&mut self, mut each: impl FnMut(Event<'_>)) {
        self.open = false;
        if self.has_data {
            let event = (!self.event.is_empty()).then_some(self.event.as_str());
            let frame = Frame {
                event,
                data: &self.data,
            };
            each(Event {
                frame,
                id: self.id.as_deref().filter(|id| !id.is_empty()),
                retry: self.retry.take(),
            });
        }
        self.id = None;
        self.data.clear();
        self.has_data = false;
        self.event.clear();
    }
}

/// Appends bytes as text; what is not UTF-8 becomes U+FFFD, as the specification's decoder has it.
fn push_lossy(text: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(valid) => text.push_str(valid),
        Err(_) => text.push_str(&String::from_utf8_lossy(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_belong_to_their_event() {
        let mut sse = Sse::default();
        let mut seen = Vec::new();
        let mut note = |event: Event<'_>| {
            seen.push((
                event.frame.data.to_owned(),
                event.id.map(str::to_owned),
                event.retry,
            ));
        };
        let stream =
            b"retry: 500\n\nid: 1\ndata: a\n\ndata: b\nretry: x\n\nid: 2\0\ndata:\n\nid\ndata: d\nretry: 7\n";
        sse.push_events(stream, |event, _| note(event))
            .expect("small events");
        sse.finish_events(note);
        let expected = [
            ("a", Some("1"), Some(500)),
            ("b", None, None),
            ("", None, None),
            ("d", None, Some(7)),
        ];
        let expected = expected.map(|(data, id, retry)| (data.to_owned(), id.map(str::to_owned), retry));
        assert_eq!(seen, expected);
    }
}
