//! Calls by gRPC over HTTP/2: single questions, with one message there and one back, and streams of messages.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use crate::protobuf::Message;

/// There is no message in an answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMessage {
    /// Its status is none of gRPC's.
    #[error("status {}", .0.as_u16())]
    Http(StatusCode),
    /// It says that the call has failed.
    #[error("gRPC status {0}")]
    Failed(String),
    /// It does not say whether the call has failed.
    #[error("no gRPC status")]
    Unsaid,
    /// The message is not framed as it has to be.
    #[error("the message is malformed")]
    Malformed,
    /// The message has more than so many bytes.
    #[error("the message exceeds {0} bytes")]
    TooLarge(usize),
}

/// Returns the call of `method` with `message`, which may take so long.
pub fn question(method: &'static str, message: Message, limit: Duration) -> Request<Bytes> {
    let mut request = call(method, framed(message.into_bytes()));
    let limit = format!("{}m", limit.as_millis().min(MAX_TIMEOUT));
    if let Ok(limit) = HeaderValue::try_from(limit) {
        request.headers_mut().insert("grpc-timeout", limit);
    }
    request
}

/// Returns the call of `method` with a body of framed messages.
pub fn call<B>(method: &'static str, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(method);
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    request
}

/// Returns the message of an answer, whose trailers are among its headers.
///
/// # Errors
/// Why there is none.
pub fn message(answer: &Response<Bytes>) -> Result<&[u8], NoMessage> {
    if answer.status() != StatusCode::OK {
        return Err(NoMessage::Http(answer.status()));
    }
    status(answer.headers())?;
    let (prefix, message) = answer.body().split_at_checked(5).ok_or(NoMessage::Malformed)?;
    let length = prefix.strip_prefix(&[0]).ok_or(NoMessage::Malformed)?;
    match u32::try_from(message.len()) {
        Ok(own) if length == own.to_be_bytes() => Ok(message),
        Ok(_) | Err(_) => Err(NoMessage::Malformed),
    }
}

/// Checks what a call has come to, as its trailers say it.
///
/// # Errors
/// If it has failed, or they do not say.
pub fn status(trailers: &HeaderMap) -> Result<(), NoMessage> {
    match trailers.get("grpc-status").map(HeaderValue::to_str) {
        Some(Ok("0")) => Ok(()),
        Some(Ok(status)) => Err(NoMessage::Failed(status.to_owned())),
        Some(Err(_)) | None => Err(NoMessage::Unsaid),
    }
}

/// Messages that arrive one after the other, in pieces of any size.
#[derive(Debug)]
pub struct Arriving {
    buffer: BytesMut,
    largest: usize,
}

impl Arriving {
    /// Returns that nothing has arrived yet; a message has at most `largest` bytes.
    pub fn new(largest: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            largest,
        }
    }

    /// Adds what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next message, if all of it is here.
    ///
    /// # Errors
    /// If it is not framed as it has to be, or too large.
    pub fn take(&mut self) -> Result<Option<Bytes>, NoMessage> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let [0, length @ ..] = *prefix else {
            return Err(NoMessage::Malformed);
        };
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| NoMessage::Malformed)?;
        if length > self.largest {
            return Err(NoMessage::TooLarge(self.largest));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Returns whether a message has begun that is not all here.
    pub fn is_within(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// Returns a message as it stands on the wire: not compressed, with its length ("Length-Prefixed-Message").
pub fn framed(message: Vec<u8>) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], &message].concat().into()
}

/// The longest time that can be said in milliseconds: 8 digits.
const MAX_TIMEOUT: u128 = 99_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_pieces_of_any_size() {
        let wire = [
            framed(b"one".to_vec()),
            framed(Vec::new()),
            framed(b"three".to_vec()),
        ]
        .concat();
        for size in 1..=wire.len() {
            let mut arriving = Arriving::new(5);
            let mut read = Vec::new();
            for piece in wire.chunks(size) {
                arriving.push(piece);
                while let Some(message) = arriving.take().expect("a message") {
                    read.push(message);
                }
            }
            assert_eq!(read, [&b"one"[..], b"", b"three"], "in pieces of {size}");
            assert!(!arriving.is_within());
        }
    }

    #[test]
    fn what_is_no_message_is_told() {
        let check = |wire: &[u8], expected| {
            let mut arriving = Arriving::new(5);
            arriving.push(wire);
            assert_eq!(arriving.take(), expected);
        };
        check(&[0, 0, 0, 0], Ok(None));
        check(&[1, 0, 0, 0, 0], Err(NoMessage::Malformed));
        check(&[0, 0, 0, 0, 6], Err(NoMessage::TooLarge(5)));
    }
}
