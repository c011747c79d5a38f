//! Cuts clients that have stopped reading.
//!
//! A client that reads slowly slows its upstream down and costs nothing; one that never reads again would
//! hold its connection, and its upstream's, for ever, because a body that nobody pulls cannot look at a clock.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// A client's connection, on which no write may wait longer than a limit.
pub(crate) struct WriteLimit {
    stream: TcpStream,
    /// What was read of it before.
    first: Bytes,
    limit: Duration,
    /// Made when a write first has to wait.
    alarm: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl WriteLimit {
    /// Returns `stream`, of which `first` was read already, with a limit on how long one write may wait.
    pub(crate) fn new(stream: TcpStream, first: Bytes, limit: Duration) -> Self {
        Self {
            stream,
            first,
            limit,
            alarm: None,
            waiting: false,
        }
    }

    fn watch<T>(&mut self, wrote: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.waiting = false;
            return wrote;
        }
        let limit = self.limit;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !std::mem::replace(&mut self.waiting, true) {
            alarm.as_mut().reset(Instant::now() + limit);
        }
        if alarm.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not read",
            )));
        }
        Poll::Pending
    }
}

impl AsyncRead for WriteLimit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let piece = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(piece));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for WriteLimit {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(wrote, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch(wrote, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Returns both ends of a connection, the near one with a limit.
    async fn pair(limit: Duration) -> (WriteLimit, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (near, _) = near.expect("accepted");
        (
            WriteLimit::new(near, Bytes::new(), limit),
            far.expect("connected"),
        )
    }

    #[tokio::test]
    async fn who_never_reads_is_cut() {
        let (mut near, _far) = pair(Duration::from_millis(50)).await;
        let error = near.write_all(&[0; 64 << 20]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_reads_slowly_is_served() {
        let (mut near, mut far) = pair(Duration::from_secs(60)).await;
        let write = async {
            near.write_all(&[0; 8 << 20]).await.expect("somebody reads");
            near.shutdown().await.expect("still open");
        };
        let read = async {
            let mut sink = vec![0; 1000];
            let mut total = 0;
            loop {
                match far.read(&mut sink).await.expect("still open") {
                    0 => return total,
                    count => total += count,
                }
            }
        };
        let ((), total) = tokio::join!(write, read);
        assert_eq!(total, 8 << 20);
    }
}
