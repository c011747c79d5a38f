//! HTTP on a client's connection: which version it is of, and how each is spoken.
//!
//! A client tells the version by its first bytes: a connection of HTTP/2 begins with words that no request of HTTP/1.1
//! begins with (RFC 9113, section 3.4). They are read here and not by the builder that knows both, because that one hands
//! them on apart from what follows, so that the buffer for a head of HTTP/1.1 grows to twice its size, and because it
//! keeps room for the state of either version for as long as a connection lasts.

use std::{
    convert::Infallible,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use ::http::Response;
use config::intake::Intake;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::HttpService,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{
    drain::Stopped,
    lasting::{self, Slot},
    usage,
};
use crate::{apart, body::Body};

/// What a connection of HTTP/2 begins with.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// After this long without a frame an HTTP/2 client is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(60);

/// Bytes buffered for a connection, in each direction.
const MAX_BUFFER: usize = 256 * 1024;

/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 1024;

/// Bytes that a client may send on one HTTP/2 stream before it is read.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// Bytes that a client may send on one HTTP/2 connection before they are read.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// How HTTP is spoken with clients.
pub(super) struct Http {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

/// A connection did not come to a good end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// Its first bytes could not be read.
    #[error("the client said nothing")]
    Silent(#[source] io::Error),
    /// It broke, or what was said on it is not HTTP.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// It broke during an answer that lasts.
    #[error("an answer was cut")]
    Cut(#[source] io::Error),
}

impl Http {
    /// Returns how HTTP is spoken, where a policy says otherwise as it says.
    pub(super) fn of(intake: Option<&Intake>) -> Self {
        let streams = intake.map(|intake| intake.streams).unwrap_or_default();
        let idle = intake.and_then(|intake| intake.idle);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(idle.unwrap_or(usage::IDLE))
            .max_buf_size(MAX_BUFFER);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(streams.ping_every.unwrap_or(PING_EVERY))
            .max_concurrent_streams(streams.at_once.unwrap_or(MAX_STREAMS))
            .initial_stream_window_size(streams.window.unwrap_or(STREAM_WINDOW))
            .initial_connection_window_size(streams.connection_window.unwrap_or(CONNECTION_WINDOW));
        if let Some(limit) = streams.pong_within {
            http2.keep_alive_timeout(limit);
        }
        Self { http1, http2 }
    }

    /// Serves a connection until it ends; once `closing` goes off, no longer than for the requests that are under way.
    ///
    /// An answer that `service` leaves in `slot` in place of giving it is written without hyper.
    pub(super) async fn serve<S>(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        mut service: S,
        slot: &Slot,
        mut closing: Stopped,
    ) -> Result<(), Ended>
    where
        S: HttpService<Incoming, ResBody = Body, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        let Some(mut begun) = begin(io, &mut closing).await.map_err(Ended::Silent)? else {
            return Ok(());
        };
        // Apart either way, so that what hyper keeps of one version is not kept for the other, nor for an answer that lasts.
        if begun.is_http2() {
            let connection = self.http2.serve_connection(TokioIo::new(begun), service);
            let close = http2::Connection::graceful_shutdown;
            let never = || None::<Infallible>;
            let exchange = apart::begun(|| async { run(pin!(connection), close, &mut closing, never).await });
            return exchange.await.map(drop).map_err(Ended::Broken);
        }
        loop {
            let exchange = apart::begun(|| self.exchange(begun, service, slot, &mut closing));
            let Some(left) = exchange.await? else {
                return Ok(());
            };
            (begun, service) = (left.begun, left.service);
            let write = lasting::write(&mut begun.io, *left.answer, &mut begun.first);
            if !write.await.map_err(Ended::Cut)? {
                return begun.io.shutdown().await.map_err(Ended::Cut);
            }
        }
    }

    /// Serves requests on a connection of HTTP/1.1 until it ends; `None`, unless an answer lasts.
    async fn exchange<I, S>(
        &self,
        begun: Begun<I>,
        service: S,
        slot: &Slot,
        closing: &mut Stopped,
    ) -> Result<Option<Left<I, S>>, Ended>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: HttpService<Incoming, ResBody = Body, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        let connection = self.http1.serve_connection(TokioIo::new(begun), service);
        let mut connection = connection.with_upgrades();
        let close = http1::UpgradeableConnection::graceful_shutdown;
        let Some(answer) = run(Pin::new(&mut connection), close, closing, || slot.take()).await? else {
            return Ok(None);
        };
        let Some(parts) = connection.into_parts() else {
            return Ok(None);
        };
        let begun = parts.io.into_inner();
        if begun.is_stuck {
            // Bytes of an answer before this one are lost with what hyper kept.
            return Err(Ended::Cut(io::ErrorKind::WriteZero.into()));
        }
        Ok(Some(Left {
            begun: begun.again(&parts.read_buf),
            service: parts.service,
            answer,
        }))
    }
}

/// What is left of a connection when an answer lasts.
struct Left<I, S> {
    begun: Begun<I>,
    service: S,
    answer: Box<Response<Body>>,
}

/// Reads as much of a connection as it takes to know the version; `None` if it closes before.
async fn begin<I: AsyncRead + Unpin>(mut io: I, closing: &mut Stopped) -> io::Result<Option<Begun<I>>> {
    let (mut first, mut len) = ([0; PREFACE.len()], 0);
    loop {
        let read = {
            let room = first.get_mut(len..).unwrap_or_default();
            let mut read = pin!(io.read(room));
            poll_fn(|cx| match closing.poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => read.as_mut().poll(cx).map(Some),
            })
            .await
        };
        let Some(read) = read else { return Ok(None) };
        let read = read?;
        len += read;
        let is_told = read == 0 || len == PREFACE.len() || first.get(..len) != PREFACE.get(..len);
        if is_told {
            return Ok(Some(Begun {
                io,
                first: first.get(..len).unwrap_or_default().to_vec(),
                given: 0,
                is_stuck: false,
            }));
        }
    }
}

/// Runs a connection to its end, or until `left` gives something; `close` says to it that there are to be no more requests.
async fn run<C: Future<Output = hyper::Result<()>>, T>(
    mut connection: Pin<&mut C>,
    close: fn(Pin<&mut C>),
    closing: &mut Stopped,
    left: impl Fn() -> Option<T>,
) -> hyper::Result<Option<T>> {
    let mut is_closing = false;
    poll_fn(|cx| {
        if !is_closing && closing.poll(cx).is_ready() {
            is_closing = true;
            close(connection.as_mut());
        }
        match connection.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
            Poll::Pending => left().map_or(Poll::Pending, |left| Poll::Ready(Ok(Some(left)))),
        }
    })
    .await
}

/// A connection of which the first bytes were read.
struct Begun<I> {
    io: I,
    first: Vec<u8>,
    /// How many of them were read once more.
    given: usize,
    /// Whether it took less than it was given.
    is_stuck: bool,
}

impl<I> Begun<I> {
    fn is_http2(&self) -> bool {
        self.first == PREFACE
    }

    /// Returns the connection, of which `read` was read and not used.
    fn again(self, read: &[u8]) -> Self {
        let first = [read, self.first.get(self.given..).unwrap_or_default()].concat();
        Self {
            first,
            given: 0,
            ..self
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Begun<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given == self.first.len() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let end = self.first.len().min(self.given + buffer.remaining());
        buffer.put_slice(self.first.get(self.given..end).unwrap_or_default());
        self.given = end;
        if self.given == self.first.len() && buffer.remaining() > 0 {
            // With what follows, if that is there: a head is best read at once. An error is told again.
            let _ = Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Begun<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.is_stuck = wrote.is_pending();
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.is_stuck = wrote.is_pending();
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::server::drain::Stop;

    /// What a connection of HTTP/2 or 1.1 is taken for, and what is read of it.
    async fn told(pieces: &[&[u8]]) -> (bool, Vec<u8>) {
        let (mut far, near) = tokio::io::duplex(64);
        let send = async {
            for piece in pieces {
                far.write_all(piece).await.expect("somebody reads");
                far.flush().await.expect("somebody reads");
                tokio::task::yield_now().await;
            }
            drop(far);
        };
        let stop = Arc::new(Stop::default());
        let read = async {
            let mut closing = stop.wait();
            let begun = begin(near, &mut closing).await.expect("read");
            let mut begun = begun.expect("not closing");
            let mut read = Vec::new();
            begun.read_to_end(&mut read).await.expect("read");
            (begun.is_http2(), read)
        };
        tokio::join!(send, read).1
    }

    #[tokio::test]
    async fn the_first_bytes_tell_the_version_and_are_not_lost() {
        let (start, rest) = PREFACE.split_at(9);
        let check = async |pieces: &[&[u8]], http2: bool| {
            assert_eq!(told(pieces).await, (http2, pieces.concat()), "{pieces:?}");
        };
        check(&[&PREFACE], true).await;
        check(&[&PREFACE, b"and more"], true).await;
        check(&[start, rest, b"and more"], true).await;
        check(&[b"P", b"RI", rest], false).await;
        check(&[start, b"POST"], false).await;
        check(&[b"GET / HTTP/1.1\r\n\r\n"], false).await;
        check(&[b"P", b"OST /v1/messages HTTP/1.1\r\nhost: a\r\n\r\n{}"], false).await;
        check(&[start], false).await;
        check(&[], false).await;
    }

    #[tokio::test]
    async fn a_silent_connection_closes_with_its_listener() {
        let (_far, near) = tokio::io::duplex(64);
        let stop = Arc::new(Stop::default());
        let mut closing = stop.wait();
        let begun = async { begin(near, &mut closing).await.expect("no error").is_none() };
        let (is_closed, ()) = tokio::join!(begun, async { stop.tell() });
        assert!(is_closed);
    }
}
