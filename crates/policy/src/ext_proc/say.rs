//! What a service is told: ProcessingRequests, framed.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value};

use super::{Modes, Side};
use crate::{grpc, protobuf::Message, structure};

/// The head of a request or a reply.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// What HTTP/2 says of it beside headers, as `:path`.
    pub pseudo: &'a [(&'a str, &'a str)],
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Whether there is no body.
    pub is_last: bool,
}

/// Returns a head, with what else is known, by namespace; the first one of a stream says how bodies will come.
pub fn head(side: Side, head: Head<'_>, known: &Map<String, Value>, first: Option<Modes>) -> Bytes {
    let mut said = Message::default();
    // ProcessingRequest: request_headers = 2, response_headers = 3.
    let field = if side == Side::Request { 2 } else { 3 };
    said.message(field, |message| {
        // HttpHeaders: headers = 1, end_of_stream = 3.
        message.message(1, |map| {
            for (name, value) in head.pseudo {
                write_header(map, name, value.as_bytes());
            }
            write_headers(map, head.headers);
        });
        message.varint(3, u64::from(head.is_last));
    });
    if !known.is_empty() {
        // metadata_context = 8; Metadata: filter_metadata = 1, a map of Structs.
        said.message(8, |metadata| {
            for (namespace, value) in known {
                metadata.message(1, |entry| {
                    entry.text(1, namespace);
                    if let Value::Object(fields) = value {
                        entry.message(2, |object| structure::write(object, fields));
                    }
                });
            }
        });
    }
    if let Some(modes) = first {
        // protocol_config = 11; ProtocolConfiguration: request_body_mode = 1, response_body_mode = 2.
        said.message(11, |config| {
            config.varint(1, modes.request.number());
            config.varint(2, modes.reply.number());
        });
    }
    grpc::framed(said.into_bytes())
}

/// Returns a piece of a body.
pub fn body(side: Side, bytes: &[u8], is_last: bool) -> Bytes {
    let mut said = Message::with_capacity(bytes.len() + OVERHEAD);
    // ProcessingRequest: request_body = 4, response_body = 5.
    let field = if side == Side::Request { 4 } else { 5 };
    said.message(field, |message| {
        // HttpBody: body = 1, end_of_stream = 2.
        if !bytes.is_empty() {
            message.bytes(1, bytes);
        }
        message.varint(2, u64::from(is_last));
    });
    grpc::framed(said.into_bytes())
}

/// Returns what comes after a body.
pub fn trailers(side: Side, trailers: &HeaderMap) -> Bytes {
    let mut said = Message::default();
    // ProcessingRequest: request_trailers = 6, response_trailers = 7.
    let field = if side == Side::Request { 6 } else { 7 };
    said.message(field, |message| {
        // HttpTrailers: trailers = 1.
        message.message(1, |map| write_headers(map, trailers));
    });
    grpc::framed(said.into_bytes())
}

/// Writes into a HeaderMap: headers = 1.
fn write_headers(map: &mut Message, headers: &HeaderMap) {
    for (name, value) in headers {
        write_header(map, name.as_str(), value.as_bytes());
    }
}

/// Writes a HeaderValue: key = 1, raw_value = 3.
fn write_header(map: &mut Message, name: &str, value: &[u8]) {
    map.message(1, |header| {
        header.text(1, name);
        header.bytes(3, value);
    });
}

/// More than there is around the bytes of a body.
const OVERHEAD: usize = 32;
