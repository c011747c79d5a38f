//! Replies on which nothing is said for most of the time, over HTTP/1.1.
//!
//! Whoever listens to a server holds one connection for each listener, and hyper keeps 27 KiB for a connection to an
//! upstream, whatever is said on it: two buffers of 8 KiB and a queue for 32 requests. Such a connection carries one
//! request without a body and is not used again, so that little of HTTP is needed: the request is written here, `httparse`,
//! which hyper has too, reads the head of the reply, [`framing`] tells where its body ends (RFC 9112, section 6.3), and
//! nothing is kept while nothing comes.

mod framing;

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

use super::Io;
use framing::{Framing, Malformed};

/// The most bytes of a reply's head.
const MAX_HEAD: usize = 256 * 1024;

/// The most headers of a reply.
const MAX_HEADERS: usize = 100;

/// How much is read at once.
const PIECE: usize = 4096;

/// A reply did not come to its end, or is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The connection was closed too early.
    #[error("the connection was closed before the end of the reply")]
    Cut,
    /// What came is not HTTP.
    #[error("the head of the reply is malformed")]
    Head(#[from] httparse::Error),
    /// The head of the reply is too large.
    #[error("the head of the reply is too large")]
    Large,
    /// The body is not framed as the head says.
    #[error(transparent)]
    Framing(#[from] Malformed),
}

/// The body of a reply, and its connection.
pub(crate) struct Arriving {
    io: Io,
    /// What was read and not handed on yet.
    read: Bytes,
    framing: Framing,
}

/// Sends `request`, which has no body, over `io`; returns the head of the reply, with its body still to be read.
pub(super) async fn send<B>(mut io: Io, request: &Request<B>) -> Result<Response<Arriving>, Broken> {
    io.write_all(&written(request)).await?;
    io.flush().await?;
    let mut read = BytesMut::with_capacity(PIECE);
    loop {
        if let Some((head, length)) = head(&read)? {
            read.advance(length);
            // What is said before the reply itself, which there may be any number of.
            if head.status().is_informational() {
                continue;
            }
            let framing = Framing::of(head.status(), head.headers())?;
            // A copy, so that the room for the head is let go of.
            let read = Bytes::copy_from_slice(&read);
            return Ok(head.map(|()| Arriving { io, read, framing }));
        }
        if read.len() >= MAX_HEAD {
            return Err(Broken::Large);
        }
        if io.read_buf(&mut read).await? == 0 {
            return Err(Broken::Cut);
        }
    }
}

/// Writes the head of a request.
fn written<B>(request: &Request<B>) -> Vec<u8> {
    let path = request.uri().path_and_query();
    let path = path.map_or("/", |path| path.as_str());
    let mut out = Vec::with_capacity(512);
    for part in [request.method().as_str(), " ", path, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in request.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Returns the head that `read` begins with, and how long it is; `None` if it has not arrived whole.
fn head(read: &[u8]) -> Result<Option<(Response<()>, usize)>, Broken> {
    let mut headers = [MaybeUninit::uninit(); MAX_HEADERS];
    let mut reply = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut reply, read, &mut headers)?;
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let mut head = Response::new(());
    let status = reply.code.and_then(|code| StatusCode::from_u16(code).ok());
    *head.status_mut() = status.ok_or(httparse::Error::Status)?;
    *head.version_mut() = if reply.version == Some(0) {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    *head.headers_mut() = HeaderMap::with_capacity(reply.headers.len());
    for header in reply.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let name = name.map_err(|_| httparse::Error::HeaderName)?;
        let value = value.map_err(|_| httparse::Error::HeaderValue)?;
        head.headers_mut().append(name, value);
    }
    Ok(Some((head, length)))
}

impl Arriving {
    /// Returns the next piece of the body.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match self.framing.next(&mut self.read) {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(None) => {}
                Err(error) => return self.fail(error.into()),
            }
            if self.framing.is_end() {
                return Poll::Ready(None);
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) if self.framing.ends_with_connection() => {
                    self.framing = Framing::END;
                    return Poll::Ready(None);
                }
                Ok(0) => return self.fail(Broken::Cut),
                Ok(_) => {}
                Err(error) => return self.fail(error.into()),
            }
        }
    }

    /// Returns whether nothing follows.
    pub(super) fn is_end_stream(&self) -> bool {
        self.framing.is_end()
    }

    /// Reads what there is; returns how much it was.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); PIECE];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
        self.read = Bytes::copy_from_slice(room.filled());
        Poll::Ready(Ok(self.read.len()))
    }

    fn fail(&mut self, broken: Broken) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.framing = Framing::END;
        Poll::Ready(Some(Err(broken)))
    }
}

#[cfg(test)]
mod tests;
