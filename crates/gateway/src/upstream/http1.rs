//! HTTP/1.1: connections that carry one request at a time.
//!
//! A connection has no task of its own: whoever waits for its reply drives it, in the same task that serves
//! the client. So a reply wakes exactly one task, and dropping a reply that is not wholly read closes its
//! connection, which is how a client's disconnect reaches the upstream. Idle connections are polled when they
//! are next taken, which is when a close by the other side is noticed, before anything is sent.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use policy::traffic::Connections;

use super::{ConnectError, Io, Outgoing};

/// The most idle connections that are kept to one endpoint.
const MAX_IDLE: usize = 1024;

/// The connections to one endpoint that carry nothing at the moment.
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    bounds: Connections,
}

/// A connection and the handle to send on it.
pub(super) struct Connection {
    sender: SendRequest<Outgoing>,
    driver: http1::Connection<TokioIo<Io>, Outgoing>,
    closed: bool,
    since: Instant,
    /// How many requests were sent on it.
    served: u32,
}

/// The body of a reply; drives its connection and gives it back once it is wholly read.
pub(crate) struct Arriving {
    pub(super) body: Incoming,
    connection: Option<(Arc<Pool>, Box<Connection>)>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

impl Pool {
    /// Returns a pool that holds nothing yet.
    pub(super) fn new(bounds: Connections) -> Self {
        Self {
            idle: Mutex::default(),
            bounds,
        }
    }

    /// Returns the idle connection that was used last, so that the others can age.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        (idle.since.elapsed() < self.bounds.idle).then_some(idle.connection)
    }

    /// Sends on `connection`; hands the request back where not a byte of it was written.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut connection: Box<Connection>,
        request: Request<Outgoing>,
    ) -> Result<Response<Arriving>, (hyper::Error, Option<Request<Outgoing>>)> {
        connection.served = connection.served.saturating_add(1);
        let mut reply = pin!(connection.sender.try_send_request(request));
        let (driver, closed) = (&mut connection.driver, &mut connection.closed);
        let answered = poll_fn(|cx| {
            drive(driver, closed, cx);
            reply.as_mut().poll(cx)
        });
        match answered.await {
            Ok(response) => Ok(response.map(|body| Arriving {
                body,
                connection: Some((Arc::clone(self), connection)),
            })),
            Err(mut error) => {
                let unsent = error.take_message();
                Err((error.into_error(), unsent))
            }
        }
    }

    fn put(&self, connection: Box<Connection>) {
        let Connections {
            lifetime, requests, ..
        } = self.bounds;
        let old = lifetime.is_some_and(|lifetime| connection.since.elapsed() >= lifetime);
        if old || requests.is_some_and(|requests| connection.served >= requests) {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    /// Closes connections that have been idle for too long, or that the other side has closed.
    pub(super) fn prune(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted =
            |idle: &mut Idle| idle.since.elapsed() < self.bounds.idle && idle.connection.is_open();
        let old: Vec<Idle> = idle.extract_if(.., |idle| !is_wanted(idle)).collect();
        // Sockets are closed without the lock.
        drop(idle);
        drop(old);
    }
}

impl Connection {
    /// Returns a connection over `io` on which nothing was sent yet.
    pub(super) async fn open(io: Io) -> Result<Box<Self>, ConnectError> {
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Http)?;
        Ok(Box::new(Self {
            sender,
            driver,
            closed: false,
            since: Instant::now(),
            served: 0,
        }))
    }

    /// Returns whether the other side still holds the connection open, as far as one can know.
    pub(super) async fn is_usable(&mut self) -> bool {
        poll_fn(|cx| {
            drive(&mut self.driver, &mut self.closed, cx);
            Poll::Ready(())
        })
        .await;
        !self.closed && self.sender.is_ready()
    }

    /// Returns whether the other side still holds the connection open, which nobody waits on.
    fn is_open(&mut self) -> bool {
        drive(
            &mut self.driver,
            &mut self.closed,
            &mut Context::from_waker(Waker::noop()),
        );
        !self.closed
    }
}

impl Arriving {
    /// Returns the connection of a reply that switches to another protocol, and what was already read from it; `None`
    /// if it does not.
    pub(super) async fn into_io(self) -> Option<(Io, Bytes)> {
        let (_, mut connection) = self.connection?;
        poll_fn(|cx| {
            drive(&mut connection.driver, &mut connection.closed, cx);
            if connection.closed {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        let parts = connection.driver.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }

    /// Returns the next frame.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some((_, connection)) = &mut self.connection {
            drive(&mut connection.driver, &mut connection.closed, cx);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let ended = match &frame {
            None => true,
            Some(Ok(_)) => self.body.is_end_stream(),
            Some(Err(_)) => {
                self.connection = None;
                false
            }
        };
        if ended && let Some((pool, mut connection)) = self.connection.take() {
            // The end of the body may have been read, but not yet noted by the connection.
            drive(&mut connection.driver, &mut connection.closed, cx);
            if !connection.closed && connection.sender.is_ready() {
                pool.put(connection);
            }
        }
        Poll::Ready(frame)
    }
}

/// Lets a connection read and write; its errors are told by what waits on it.
fn drive(driver: &mut http1::Connection<TokioIo<Io>, Outgoing>, closed: &mut bool, cx: &mut Context<'_>) {
    if !*closed {
        *closed = Pin::new(driver).poll(cx).is_ready();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::Full;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn kept(pool: &Pool) -> usize {
        pool.idle.lock().expect("not poisoned").len()
    }

    #[tokio::test]
    async fn connections_that_the_other_side_has_closed_are_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let pool = Arc::new(Pool::new(Connections::default()));
        let asked = async {
            let stream = TcpStream::connect(address).await.expect("listening");
            let connection = Connection::open(Io::Plain(stream)).await.expect("open");
            let request = Request::get("/").body(Outgoing::Whole(Full::new(Bytes::new())));
            let request = request.expect("a request");
            let reply = pool.send(connection, request).await.map_err(|(error, _)| error);
            let mut body = reply.expect("a reply").into_body();
            while poll_fn(|cx| body.poll(cx)).await.is_some() {}
        };
        let answered = async {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut read = vec![0; 1024];
            assert!(stream.read(&mut read).await.expect("a request") > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.expect("sent");
            stream
        };
        let ((), stream) = tokio::join!(asked, answered);
        pool.prune();
        assert_eq!(kept(&pool), 1);
        drop(stream);
        let gone = async {
            while kept(&pool) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                pool.prune();
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
        gone.expect("nothing is kept of it");
    }
}
