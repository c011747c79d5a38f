//! Single questions by gRPC: one message there and one back (gRPC over HTTP/2).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};

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
}

/// Returns the call of `method` with `message`, which may take so long.
pub fn question(method: &'static str, message: Message, limit: Duration) -> Request<Bytes> {
    let mut request = Request::new(framed(message.into_bytes()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(method);
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let limit = format!("{}m", limit.as_millis().min(MAX_TIMEOUT));
    if let Ok(limit) = HeaderValue::try_from(limit) {
        headers.insert("grpc-timeout", limit);
    }
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
    match answer.headers().get("grpc-status").map(HeaderValue::to_str) {
        Some(Ok("0")) => {}
        Some(Ok(status)) => return Err(NoMessage::Failed(status.to_owned())),
        Some(Err(_)) | None => return Err(NoMessage::Unsaid),
    }
    let (prefix, message) = answer.body().split_at_checked(5).ok_or(NoMessage::Malformed)?;
    let length = prefix.strip_prefix(&[0]).ok_or(NoMessage::Malformed)?;
    match u32::try_from(message.len()) {
        Ok(own) if length == own.to_be_bytes() => Ok(message),
        Ok(_) | Err(_) => Err(NoMessage::Malformed),
    }
}

/// Returns a message as it stands on the wire: not compressed, with its length ("Length-Prefixed-Message").
pub fn framed(message: Vec<u8>) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], &message].concat().into()
}

/// The longest time that can be said in milliseconds: 8 digits.
const MAX_TIMEOUT: u128 = 99_999_999;
