//! Forms with files: handed on while they arrive, and never held.

mod broken;
mod refused;
mod relayed;

use std::net::SocketAddr;

use testkit::{Client, client::Answer};

pub(crate) const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";
pub(crate) const EDITS: &str = "/v1/images/edits";

const BOUNDARY: &str = "----form-boundary-7MA4YWxk";

/// A field of a form.
pub(crate) enum Field<'a> {
    Text(&'a str, &'a str),
    File(&'a str, &'a [u8]),
}
use Field::{File, Text};

/// Returns the form with `fields`.
pub(crate) fn form(fields: &[Field<'_>]) -> Vec<u8> {
    let mut form = Vec::new();
    for field in fields {
        let (name, file, content) = match field {
            Text(name, value) => (name, "", value.as_bytes()),
            File(name, content) => (name, "; filename=\"a.bin\"\r\nContent-Type: audio/wav", *content),
        };
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    form
}

/// Returns `length` bytes that are no text and full of line ends and hyphens.
pub(crate) fn recording(length: usize) -> Vec<u8> {
    let mut state: u32 = 7;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match state >> 24 {
            byte @ 0..=199 => byte as u8,
            200..=220 => b'\r',
            221..=240 => b'\n',
            _ => b'-',
        }
    };
    (0..length).map(|_| next()).collect()
}

/// Returns the head of a request with a form of `length` bytes, or of unknown length.
pub(crate) fn head(path: &str, length: Option<usize>) -> String {
    let framing = match length {
        Some(length) => format!("content-length: {length}"),
        None => "transfer-encoding: chunked".to_owned(),
    };
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer client\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\n{framing}\r\n\r\n"
    )
}

/// Sends a whole form and returns the whole answer.
pub(crate) async fn post(address: SocketAddr, path: &str, form: &[u8]) -> Answer {
    let mut client = Client::connect(address).await;
    client
        .send(head(path, Some(form.len())))
        .await
        .expect("the head is taken");
    client.send(form).await.expect("the form is taken");
    client.answer().await.expect("there is a reply")
}
