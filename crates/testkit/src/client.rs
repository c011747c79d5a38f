//! A client that sees every byte when it arrives.
//!
//! One connection, HTTP/1.1, nothing automatic: a test decides when to send, to read and to go away.

use std::{io, net::SocketAddr};

use http::HeaderMap;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::upstream::{self, PATIENCE};

/// A connection; dropping it goes away.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    framing: Framing,
    /// Body bytes without their framing that no frame has used yet.
    body: Vec<u8>,
}

/// The beginning of a reply.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Headers, repeated ones included.
    pub headers: HeaderMap,
}

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers, repeated ones included.
    pub headers: HeaderMap,
    /// The body without its framing, as far as it came.
    pub body: Vec<u8>,
    /// Whether the body came to its end as its framing promised.
    pub whole: bool,
}

/// How the body of the current reply ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
    Ended,
}

impl Client {
    /// Connects to `address`.
    ///
    /// # Panics
    /// If nobody listens there.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the server under test listens");
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            buffer: Vec::new(),
            framing: Framing::Ended,
            body: Vec::new(),
        }
    }

    /// Sends bytes just as they are.
    ///
    /// # Errors
    /// If the server has gone away.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Sends a whole JSON request; `headers` go beside `host`, `content-type` and `content-length`.
    ///
    /// # Errors
    /// If the server has gone away.
    pub async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) -> io::Result<()> {
        let body = body.to_string();
        self.send(request("POST", path, headers, &body)).await
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// If the server has gone away.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        self.send(request("GET", path, headers, "")).await
    }

    /// Waits for the head of a reply.
    ///
    /// # Errors
    /// If the server goes away before it.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn head(&mut self) -> io::Result<Head> {
        let end = patient(
            "head",
            upstream::read_until_blank_line(&mut self.stream, &mut self.buffer),
        )
        .await?;
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no status line"))?;
        let headers = upstream::parse_headers(lines);
        self.framing = framing(status, &headers);
        self.body.clear();
        Ok(Head { status, headers })
    }

    /// Waits for the next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// If the body is cut short of what its framing promised.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.body.is_empty() {
            return Ok(Some(std::mem::take(&mut self.body)));
        }
        self.pull().await
    }

    /// Waits for the next event of a stream, without its final blank line; `None` at the end of the body.
    ///
    /// # Errors
    /// If the body is cut, or ends within an event.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn frame(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = upstream::find(&self.body, b"\n\n") {
                let frame: Vec<u8> = self.body.drain(..at + 2).collect();
                return Ok(Some(String::from_utf8_lossy(&frame).trim_end().to_owned()));
            }
            match self.pull().await? {
                Some(piece) => self.body.extend_from_slice(&piece),
                None if self.body.is_empty() => return Ok(None),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Reads a whole reply.
    ///
    /// # Errors
    /// If the server goes away before the head is whole; a cut body is told by [`Answer::whole`].
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let Head { status, headers } = self.head().await?;
        let mut body = Vec::new();
        let whole = loop {
            match self.piece().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        Ok(Answer {
            status,
            headers,
            body,
            whole,
        })
    }

    /// Returns the connection and what was read of it and not used, for whatever is spoken on it next.
    pub fn into_stream(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer)
    }

    /// Goes away with a reset instead of an orderly close.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    async fn pull(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.framing {
            Framing::Ended => Ok(None),
            Framing::Chunked => {
                let chunk =
                    patient("chunk", upstream::read_chunk(&mut self.stream, &mut self.buffer)).await?;
                if chunk.is_empty() {
                    self.framing = Framing::Ended;
                    return Ok(None);
                }
                Ok(Some(chunk))
            }
            Framing::Length(0) => {
                self.framing = Framing::Ended;
                Ok(None)
            }
            Framing::Length(left) => {
                self.fill().await?;
                let piece: Vec<u8> = self.buffer.drain(..left.min(self.buffer.len())).collect();
                if piece.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.framing = Framing::Length(left - piece.len());
                Ok(Some(piece))
            }
            Framing::UntilClose => {
                self.fill().await?;
                let piece = std::mem::take(&mut self.buffer);
                if piece.is_empty() {
                    self.framing = Framing::Ended;
                    return Ok(None);
                }
                Ok(Some(piece))
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            patient("byte", self.stream.read_buf(&mut self.buffer)).await?;
        }
        Ok(())
    }
}

impl Answer {
    /// Returns the body as JSON; `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the value of a header as text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Returns the events of a stream, each without its final blank line.
    pub fn frames(&self) -> Vec<String> {
        let text = self.text();
        text.split("\n\n")
            .filter(|frame| !frame.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

/// Sends a whole JSON request on a connection of its own and reads the whole reply.
///
/// # Panics
/// If there is no reply.
pub async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut client = Client::connect(address).await;
    client
        .post(path, headers, body)
        .await
        .expect("the request is taken");
    client.answer().await.expect("there is a reply")
}

/// Has `path` deleted on a connection of its own and reads the whole reply.
///
/// # Panics
/// If there is no reply.
pub async fn delete(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut client = Client::connect(address).await;
    let request = request("DELETE", path, headers, "");
    client.send(request).await.expect("the request is taken");
    client.answer().await.expect("there is a reply")
}

/// Asks for `path` on a connection of its own and reads the whole reply.
///
/// # Panics
/// If there is no reply.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut client = Client::connect(address).await;
    client.get(path, headers).await.expect("the request is taken");
    client.answer().await.expect("there is a reply")
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!(
            "content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        ));
    }
    request.push_str("\r\n");
    request.push_str(body);
    request
}

fn framing(status: u16, headers: &HeaderMap) -> Framing {
    let length = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        _ if status == 204 || status == 304 => Framing::Ended,
        _ if headers.contains_key(http::header::TRANSFER_ENCODING) => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    }
}

/// Waits for `what`, but not for ever: a test that hangs says nothing.
async fn patient<T>(what: &str, wait: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(PATIENCE, wait).await {
        Ok(done) => done,
        Err(_) => panic!("the client waited in vain for a {what}"),
    }
}
