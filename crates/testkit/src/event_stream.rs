//! Writes AWS event streams: the binary messages in which Amazon Bedrock streams.
//!
//! The checksum is computed bit by bit after its definition, so that it proves the decoder's.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// The value of a header, one variant for each type of the encoding.
#[derive(Clone, Debug)]
pub enum Header {
    /// Type 0 or 1.
    Bool(bool),
    /// Type 2.
    Byte(i8),
    /// Type 3.
    Short(i16),
    /// Type 4.
    Integer(i32),
    /// Type 5.
    Long(i64),
    /// Type 6.
    Bytes(Vec<u8>),
    /// Type 7.
    Text(String),
    /// Type 8: milliseconds since the Unix epoch.
    Timestamp(i64),
    /// Type 9.
    Uuid([u8; 16]),
}

/// Returns the message that is the event `name` with `payload`.
pub fn event(name: &str, payload: &Value) -> Vec<u8> {
    typed("event", ":event-type", name, payload)
}

/// Returns the message that wraps `inner`, an event of another format, as `InvokeModelWithResponseStream` does.
pub fn chunk(inner: &str) -> Vec<u8> {
    event(
        "chunk",
        &json!({"bytes": BASE64_STANDARD.encode(inner), "p": "abcd"}),
    )
}

/// Returns the message that is the exception `name` with `payload`.
pub fn exception(name: &str, payload: &Value) -> Vec<u8> {
    typed("exception", ":exception-type", name, payload)
}

/// Returns the message with `headers` and `payload`.
pub fn message(headers: &[(&str, Header)], payload: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for (name, value) in headers {
        encoded.push(u8::try_from(name.len()).expect("names of headers are short"));
        encoded.extend_from_slice(name.as_bytes());
        value.write(&mut encoded);
    }
    sealed(&encoded, payload)
}

/// Returns the message with `payload` whose headers are `encoded`, well or not.
pub fn sealed(encoded: &[u8], payload: &[u8]) -> Vec<u8> {
    let size = |length: usize| u32::try_from(length).expect("messages are short").to_be_bytes();
    let mut message = Vec::new();
    message.extend_from_slice(&size(encoded.len() + payload.len() + 16));
    message.extend_from_slice(&size(encoded.len()));
    message.extend_from_slice(&checksum(&message).to_be_bytes());
    message.extend_from_slice(encoded);
    message.extend_from_slice(payload);
    message.extend_from_slice(&checksum(&message).to_be_bytes());
    message
}

/// Returns the CRC-32 of `bytes` (ISO 3309, as in gzip).
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn typed(kind: &str, key: &str, name: &str, payload: &Value) -> Vec<u8> {
    let text = |text: &str| Header::Text(text.to_owned());
    message(
        &[
            (key, text(name)),
            (":content-type", text("application/json")),
            (":message-type", text(kind)),
        ],
        payload.to_string().as_bytes(),
    )
}

impl Header {
    fn write(&self, out: &mut Vec<u8>) {
        let sized = |out: &mut Vec<u8>, bytes: &[u8]| {
            let length = u16::try_from(bytes.len()).expect("values of headers are short");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Header::Bool(value) => out.push(u8::from(!value)),
            Header::Byte(value) => {
                out.push(2);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Header::Short(value) => {
                out.push(3);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Header::Integer(value) => {
                out.push(4);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Header::Long(value) => {
                out.push(5);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Header::Bytes(value) => {
                out.push(6);
                sized(out, value);
            }
            Header::Text(value) => {
                out.push(7);
                sized(out, value.as_bytes());
            }
            Header::Timestamp(value) => {
                out.push(8);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Header::Uuid(value) => {
                out.push(9);
                out.extend_from_slice(value);
            }
        }
    }
}
