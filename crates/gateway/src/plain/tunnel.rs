//! Connections that switch to another protocol, such as WebSocket: bytes, both ways, until one side ends.
//!
//! The client's connection carries nothing else from then on, so its own task carries the bytes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    time::sleep,
};

use crate::{
    facts::{Facts, Outcome},
    upstream::Io,
};

pub(super) const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// The longest silence of both sides.
const IDLE: Duration = Duration::from_secs(3600);

/// What a client wants that asks for another protocol (RFC 9110, section 7.8).
pub(crate) struct Wanted {
    pub(super) protocol: HeaderValue,
    connection: OnUpgrade,
}

/// Two connections that are to be joined.
pub(crate) struct Tunnel {
    client: OnUpgrade,
    upstream: Io,
    /// What the upstream has said already.
    first: Bytes,
    facts: Option<Box<Facts>>,
}

impl Wanted {
    /// Returns what the client wants; only HTTP/1.1 can be asked so.
    pub(super) fn of(head: &mut Parts) -> Option<Self> {
        if head.version != Version::HTTP_11 || !asks(&head.headers) {
            return None;
        }
        let protocol = head.headers.get(header::UPGRADE)?.clone();
        let connection = head.extensions.remove::<OnUpgrade>()?;
        Some(Self { protocol, connection })
    }
}

fn asks(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    let mut tokens = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

impl Tunnel {
    pub(super) fn new(wanted: Wanted, (upstream, first): (Io, Bytes)) -> Self {
        Self {
            client: wanted.connection,
            upstream,
            first,
            facts: None,
        }
    }

    /// Gives the facts along, which are emitted when the tunnel ends.
    pub(crate) fn with(mut self, facts: Box<Facts>) -> Self {
        self.facts = Some(facts);
        self
    }

    /// Carries bytes both ways until one side ends, both are silent for too long, or the time to drain is over.
    pub(crate) async fn run(mut self) {
        let mut stop = self.facts.as_ref().map(|facts| facts.stop());
        let stopped = std::future::poll_fn(|cx| match &mut stop {
            Some(stop) => stop.poll(cx),
            None => Poll::Pending,
        });
        let facts = self.facts.take();
        let carried = tokio::select! {
            carried = self.carry() => carried,
            () = stopped => Err(io::ErrorKind::TimedOut.into()),
        };
        if let Some(mut facts) = facts {
            let outcome = match carried {
                Ok((sent, received)) => {
                    facts.bytes_received = received;
                    facts.bytes_sent = sent;
                    Outcome::Complete
                }
                Err(_) => Outcome::Broken,
            };
            facts.emit(outcome);
        }
    }

    /// Returns how many bytes the client was sent, and how many it sent.
    async fn carry(self) -> io::Result<(u64, u64)> {
        let client = self.client.await.map_err(io::Error::other)?;
        let moved = Arc::new(AtomicU64::new(0));
        let mut client = Watched {
            stream: TokioIo::new(client),
            moved: Arc::clone(&moved),
        };
        let mut upstream = self.upstream;
        client.write_all(&self.first).await?;
        let mut copy = std::pin::pin!(copy_bidirectional(&mut client, &mut upstream));
        let mut seen = 0;
        loop {
            tokio::select! {
                copied = copy.as_mut() => {
                    let (received, sent) = copied?;
                    return Ok((sent + self.first.len() as u64, received));
                }
                () = sleep(IDLE) => {
                    let now = moved.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    seen = now;
                }
            }
        }
    }
}

/// Counts what passes, so that silence is noticed.
struct Watched<S> {
    stream: S,
    moved: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        self.moved.fetch_add(count as u64, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = wrote {
            self.moved.fetch_add(count as u64, Ordering::Relaxed);
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
