//! Server-sent events, cut out of bytes that arrive in any pieces.
//!
//! Follows WHATWG HTML section 9.2.6: lines end in LF, CR or CRLF, a blank line dispatches, a leading byte
//! order mark is skipped, several `data` lines join with LF, unknown fields and comments mean nothing. Two
//! deviations serve real providers: an event that has a name but no data is dropped, and a last event without
//! its blank line is handed out by [`Sse::finish`].

use super::Frame;

/// The most bytes that one event may have; beyond it the stream counts as broken.
pub const MAX_EVENT: usize = 16 * 1024 * 1024;

/// A decoder of server-sent events.
#[derive(Debug, Default)]
pub struct Sse {
    /// Bytes of the line that is not complete yet.
    line: Vec<u8>,
    data: String,
    has_data: bool,
    event: String,
    /// The last line ended in CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The byte order mark has been looked for.
    begun: bool,
    /// Something of an event has been read that no blank line has ended.
    open: bool,
}

/// An event exceeded [`MAX_EVENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Sse {
    /// Takes the next bytes and hands every event that they complete to `each`, with the number of bytes of
    /// `bytes` that were read when it was complete.
    ///
    /// # Errors
    /// [`TooLarge`], if an event does not end in time.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Frame<'_>, usize)) -> Result<(), TooLarge> {
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
                if self.line.len() + self.data.len() + rest.len() > MAX_EVENT {
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
            if self.data.len() > MAX_EVENT {
                return Err(TooLarge);
            }
            if dispatch {
                self.dispatch(|frame| each(frame, at));
            }
        }
        Ok(())
    }

    /// Hands out an event that the end of the stream left without its blank line.
    pub fn finish(&mut self, each: impl FnMut(Frame<'_>)) {
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
            _ => {}
        }
        false
    }

    fn dispatch(&mut self, mut each: impl FnMut(Frame<'_>)) {
        self.open = false;
        if self.has_data {
            let event = (!self.event.is_empty()).then_some(self.event.as_str());
            each(Frame {
                event,
                data: &self.data,
            });
        }
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
