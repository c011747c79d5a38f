//! Answers that last, on connections of HTTP/1.1.
//!
//! A stream that a client listens to is silent for hours, and all the while hyper keeps for it what requests are read with and
//! answers are written: two buffers of 8 KiB and its state. So such an answer is taken out of its hands before anything of it
//! is written. It is written here, in chunks (RFC 9112, section 7.1), with a buffer for as long as there is something to be
//! said; once it is over, the connection goes back to hyper for the next request.

use std::{
    future::poll_fn,
    io::{self, Write as _},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::SystemTime,
};

use bytes::Buf as _;
use http::{HeaderMap, Request, Response, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::Body;

/// How much of an answer is put together before it is written.
const MOST_AT_ONCE: usize = 16 * 1024;

/// How much is read of what a client sends before its turn, to see whether it is still there.
const AHEAD: usize = 256;

/// Where an answer lies that lasts, between the handler that gives it and the connection that writes it.
#[derive(Default)]
pub(super) struct Slot(Mutex<Option<Box<Response<Body>>>>);

impl Slot {
    pub(super) fn put(&self, answer: Response<Body>) {
        *self.lock() = Some(Box::new(answer));
    }

    pub(super) fn take(&self) -> Option<Box<Response<Body>>> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Response<Body>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether the connection of a request can be taken out of hyper's hands: the next request may come on it, in the
/// same version of HTTP.
pub(super) fn can_last(request: &Request<Incoming>) -> bool {
    let said = request.headers().get_all(header::CONNECTION).iter();
    let mut words = said.flat_map(|said| said.as_bytes().split(|byte| *byte == b','));
    request.version() == Version::HTTP_11
        && words.all(|word| word.trim_ascii().eq_ignore_ascii_case(b"keep-alive"))
}

/// Writes `answer`; what the client sends meanwhile is added to `read`. Returns whether another request may follow.
///
/// # Errors
/// The connection broke, the client has closed it, or the answer broke off.
pub(super) async fn write(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    answer: Response<Body>,
    read: &mut Vec<u8>,
) -> io::Result<bool> {
    let (head, body) = answer.into_parts();
    let mut out = Vec::with_capacity(512);
    write!(out, "HTTP/1.1 {}", head.status.as_str())?;
    write!(out, " {}\r\n", head.status.canonical_reason().unwrap_or_default())?;
    write_headers(&mut out, &head.headers)?;
    let mut writing = Writing {
        body: Some(body),
        out,
        written: 0,
    };
    let follows = !head.headers.contains_key(header::CONNECTION);
    drop(head.headers);
    poll_fn(|cx| {
        if look_ahead(io, read, cx)?.is_ready() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        writing.poll(io, cx)
    })
    .await?;
    Ok(follows)
}

fn write_headers(out: &mut Vec<u8>, headers: &HeaderMap) -> io::Result<()> {
    for (name, value) in headers {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
    if !headers.contains_key(header::DATE) {
        write!(out, "date: {}\r\n", httpdate::fmt_http_date(SystemTime::now()))?;
    }
    out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    Ok(())
}

/// Looks whether the client is still there, as long as it has sent nothing; ready if it is not.
fn look_ahead(
    io: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> io::Result<Poll<()>> {
    if !read.is_empty() {
        return Ok(Poll::Pending);
    }
    let mut room = [0; AHEAD];
    let mut buffer = ReadBuf::new(&mut room);
    let Poll::Ready(looked) = Pin::new(io).poll_read(cx, &mut buffer) else {
        return Ok(Poll::Pending);
    };
    looked?;
    read.extend_from_slice(buffer.filled());
    Ok(if read.is_empty() {
        Poll::Ready(())
    } else {
        Poll::Pending
    })
}

/// An answer on its way.
struct Writing {
    /// `None` once its end was put into `out`.
    body: Option<Body>,
    out: Vec<u8>,
    /// How much of `out` was written.
    written: usize,
}

impl Writing {
    /// Writes what there is to write, until the answer is over.
    fn poll(&mut self, io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.written == 0 {
                self.gather(cx)?;
            }
            if self.out.is_empty() {
                return match self.body {
                    Some(_) => Poll::Pending,
                    None => Poll::Ready(Ok(())),
                };
            }
            while let Some(rest) = self.out.get(self.written..)
                && !rest.is_empty()
            {
                match ready!(Pin::new(&mut *io).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => self.written += count,
                }
            }
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            // Given back, and not kept for what may be said in an hour.
            self.out = Vec::new();
            self.written = 0;
        }
    }

    /// Puts together what there is to be said.
    fn gather(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while let Some(body) = &mut self.body
            && self.out.len() < MOST_AT_ONCE
        {
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are not told: no such answer has any.
                    let Ok(data) = frame.into_data() else { continue };
                    if data.has_remaining() {
                        write!(self.out, "{:x}\r\n", data.remaining())?;
                        self.out.extend_from_slice(&data);
                        self.out.extend_from_slice(b"\r\n");
                    }
                }
                Poll::Ready(Some(Err(broken))) => return Err(io::Error::other(broken)),
                Poll::Ready(None) => {
                    self.out.extend_from_slice(b"0\r\n\r\n");
                    self.body = None;
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}
