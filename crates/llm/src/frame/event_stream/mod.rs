//! AWS event streams: binary messages, cut out of bytes that arrive in any pieces.
//!
//! A message is, in network byte order: its whole length and that of its headers, the CRC-32 of those eight
//! bytes, the headers, the payload, and the CRC-32 of everything before it ("Event stream encoding",
//! reference of the AWS SDKs). Both checksums are verified before anything is handed out: a stream that lost
//! a byte cannot be found again.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::{Broken, Frame};
use crate::exception::Exception;

/// The most bytes that one message may have; beyond it the stream counts as broken.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The bytes of the two lengths and their checksum.
const PRELUDE: usize = 12;

/// The bytes of a checksum.
const CHECKSUM: usize = 4;

/// A decoder of AWS event streams.
#[derive(Debug)]
pub struct EventStream {
    payload: Payload,
    /// Bytes of the message that is not complete yet.
    held: Vec<u8>,
    /// The length of that message, once its prelude is complete.
    length: Option<usize>,
}

/// What the payload of an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The event's own document.
    Document,
    /// A document that wraps the event of another format, as `InvokeModelWithResponseStream` has it.
    Wrapped,
}

/// The headers of a message that matter.
#[derive(Debug, Default)]
struct Headers<'a> {
    message_type: Option<&'a str>,
    event_type: Option<&'a str>,
    exception_type: Option<&'a str>,
    error_code: Option<&'a str>,
    error_message: Option<&'a str>,
}

impl EventStream {
    /// Returns a decoder of events whose payload is `payload`.
    pub fn new(payload: Payload) -> Self {
        Self {
            payload,
            held: Vec::new(),
            length: None,
        }
    }

    /// Takes the next bytes and hands every event that they complete to `each`, with the number of bytes of
    /// `bytes` that were read when it was complete.
    ///
    /// # Errors
    /// Why the stream is broken; an exception ends it too.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Frame<'_>, usize)) -> Result<(), Broken> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.held.is_empty()
                && let Some(message) = whole(rest)?
            {
                at += message.len();
                read(message, self.payload, |frame| each(frame, at))?;
                continue;
            }
            // No more is held than the length that is known so far tells of.
            let wanted = self.length.unwrap_or(PRELUDE);
            let taken = wanted.saturating_sub(self.held.len()).min(rest.len());
            self.held.extend_from_slice(rest.get(..taken).unwrap_or_default());
            at += taken;
            if self.length.is_none() {
                self.length = length(&self.held)?;
            }
            if self.length == Some(self.held.len()) {
                read(&self.held, self.payload, |frame| each(frame, at))?;
                self.held.clear();
                self.length = None;
            }
        }
        Ok(())
    }

    /// Returns whether no message is begun and not ended.
    pub fn is_between_messages(&self) -> bool {
        self.held.is_empty()
    }
}

/// Returns the message that `bytes` begins with; `None` if it is not complete.
fn whole(bytes: &[u8]) -> Result<Option<&[u8]>, Broken> {
    Ok(length(bytes)?.and_then(|length| bytes.get(..length)))
}

/// Returns the length of the message that `bytes` begins with; `None` if its prelude is not complete.
fn length(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    let Some((prelude, _)) = bytes.split_first_chunk::<PRELUDE>() else {
        return Ok(None);
    };
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *prelude;
    if crc32fast::hash(&[a, b, c, d, e, f, g, h]) != u32::from_be_bytes([i, j, k, l]) {
        return Err(Broken::Corrupt);
    }
    let (length, headers) = (size([a, b, c, d]), size([e, f, g, h]));
    if length > MAX_MESSAGE {
        return Err(Broken::TooLarge);
    }
    if length < PRELUDE + CHECKSUM || headers > length - PRELUDE - CHECKSUM {
        return Err(Broken::Corrupt);
    }
    Ok(Some(length))
}

fn size(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

/// Reads one whole message, whose prelude is known to be sound.
fn read(message: &[u8], payload: Payload, each: impl FnMut(Frame<'_>)) -> Result<(), Broken> {
    let (body, checksum) = message.split_last_chunk::<CHECKSUM>().ok_or(Broken::Corrupt)?;
    if crc32fast::hash(body) != u32::from_be_bytes(*checksum) {
        return Err(Broken::Corrupt);
    }
    let length = body.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(size);
    let rest = body.get(PRELUDE..).ok_or(Broken::Corrupt)?;
    let (headers, data) = length
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(Broken::Corrupt)?;
    let headers = Headers::read(headers).ok_or(Broken::Corrupt)?;
    match headers.message_type {
        Some("exception") => {
            let name = headers.exception_type.unwrap_or_default();
            Err(Broken::Exception(Exception::named(name, data)))
        }
        Some("error") => {
            let name = headers.error_code.unwrap_or_default();
            let message = headers.error_message.unwrap_or_default();
            Err(Broken::Exception(Exception::new(name, message)))
        }
        Some("event") | None => {
            match payload {
                Payload::Document => document(headers.event_type, data, each),
                Payload::Wrapped => unwrap(data, each),
            }
            Ok(())
        }
        Some(_) => Ok(()),
    }
}

fn document(event: Option<&str>, data: &[u8], mut each: impl FnMut(Frame<'_>)) {
    let data = &String::from_utf8_lossy(data);
    each(Frame { event, data });
}

/// Hands out the event that a payload wraps, under its own name. A payload that wraps none means nothing.
fn unwrap(data: &[u8], mut each: impl FnMut(Frame<'_>)) {
    #[derive(Deserialize)]
    struct Chunk {
        bytes: String,
    }
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        kind: String,
    }

    let Ok(Chunk { bytes }) = serde_json::from_slice(data) else {
        return;
    };
    // What is not base64 cannot be read by anyone further on either, and must not pass for nothing.
    let inner = BASE64_STANDARD.decode(bytes.as_bytes());
    let inner = inner.unwrap_or_else(|_| bytes.into_bytes());
    let typed = serde_json::from_slice::<Typed>(&inner).ok();
    let event = typed.as_ref().map(|typed| typed.kind.as_str());
    each(Frame {
        event,
        data: &String::from_utf8_lossy(&inner),
    });
}

impl<'a> Headers<'a> {
    /// Reads `bytes`, all headers of a message; `None` if they are malformed.
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut headers = Self::default();
        while !bytes.is_empty() {
            let name = take(&mut bytes, 1)?;
            let name = take(&mut bytes, usize::from(*name.first()?))?;
            let value = value(&mut bytes)?;
            let slot = match name {
                b":message-type" => &mut headers.message_type,
                b":event-type" => &mut headers.event_type,
                b":exception-type" => &mut headers.exception_type,
                b":error-code" => &mut headers.error_code,
                b":error-message" => &mut headers.error_message,
                _ => continue,
            };
            *slot = value;
        }
        Some(headers)
    }
}

/// Takes the value of a header off `bytes`: its text, if it is one. `None` if it is malformed.
fn value<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let kind = *take(bytes, 1)?.first()?;
    let length = match kind {
        // true, false
        0 | 1 => 0,
        // byte, short, integer, long
        2 => 1,
        3 => 2,
        4 => 4,
        5 => 8,
        // bytes, string
        6 | 7 => {
            let length = take(bytes, 2)?;
            usize::from(u16::from_be_bytes(length.try_into().ok()?))
        }
        // timestamp, UUID
        8 => 8,
        9 => 16,
        _ => return None,
    };
    let value = take(bytes, length)?;
    Some((kind == 7).then(|| std::str::from_utf8(value).ok()).flatten())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests;
