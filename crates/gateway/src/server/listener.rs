//! One port: binding it, accepting connections, and serving HTTP/1.1 and HTTP/2 on each, encrypted or not.

use std::{
    convert::Infallible,
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use llm::Endpoint;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::{debug, error, warn};

use super::{
    Connection, Port,
    drain::{Stop, Stopped},
    http::Http,
    lasting, proxied,
    stall::WriteLimit,
    tls, told,
    usage::Usage,
};
use crate::{BindError, apart, body::Body, handle::handle, refusal, upstream::keep_alive};

/// How many connections the system may queue.
const BACKLOG: i32 = 4096;

/// How long a client may take nothing of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes that a connection inside the process holds, in each direction.
const JOINED_BUFFER: usize = 64 * 1024;

/// How long connections are kept for one more request when the listener closes.
const LAST_REQUEST: Duration = Duration::from_millis(500);

/// How long accepting pauses when the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A port that is being served.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    close: Option<oneshot::Sender<()>>,
    unbound: Option<oneshot::Receiver<()>>,
    task: JoinHandle<()>,
}

/// Binds `address`.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| BindError { address, source })
}

/// Serves `listener` until it is closed.
#[expect(
    clippy::disallowed_methods,
    reason = "a listener outlives every request; it ends when it is closed"
)]
pub(crate) fn serve(listener: TcpListener, port: Arc<Port>) -> Serving {
    let address = listener
        .local_addr()
        .unwrap_or(SocketAddr::from(([0, 0, 0, 0], port.declared)));
    let (close, closed) = oneshot::channel();
    let (unbind, unbound) = oneshot::channel();
    Serving {
        address,
        close: Some(close),
        unbound: Some(unbound),
        task: tokio::spawn(accept(listener, port, closed, unbind)),
    }
}

/// Returns a connection to `port` that goes through no socket, served until it is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "a connection carries many requests; it ends with its client"
)]
pub(crate) fn join(port: Arc<Port>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(JOINED_BUFFER);
    let connection = Connection::new(port, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    tokio::spawn(async move {
        let closing = Arc::new(Stop::default()).wait();
        serve_connection(&Http::of(None), ours, connection, closing).await;
    });
    theirs
}

impl Serving {
    /// Stops accepting; connections end once their requests are done.
    pub(crate) fn close(&mut self) {
        if let Some(close) = self.close.take() {
            // If the task is gone there is nothing to close.
            let _ = close.send(());
        }
    }

    /// Returns what is heard of when the port is free again.
    pub(crate) fn unbound(&mut self) -> Option<oneshot::Receiver<()>> {
        self.unbound.take()
    }

    /// Returns whether every connection has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until every connection has ended.
    pub(crate) async fn done(&mut self) {
        // A task that panicked is done too.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a connection carries many requests; it ends with its client or its listener"
)]
async fn accept(
    listener: TcpListener,
    port: Arc<Port>,
    mut closed: oneshot::Receiver<()>,
    unbind: oneshot::Sender<()>,
) {
    let http = Arc::new(Http::of(None));
    let closing = Arc::new(Stop::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut closed => break,
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(failure) = ended {
                    error!(%failure, "a connection's task failed");
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(serve_stream(
                    Arc::clone(&http),
                    stream,
                    Connection::new(Arc::clone(&port), peer),
                    closing.wait(),
                ));
            }
            Err(error) => {
                warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Whoever does not wait for it does not need the port.
    let _ = unbind.send(());
    // A client may be sending on a connection that is idle as we see it. So each is told with an answer that it
    // was the last, and only those that ask for nothing are closed without a word.
    port.closing.store(true, Ordering::Relaxed);
    let answered = async { while connections.join_next().await.is_some() {} };
    if timeout(LAST_REQUEST, answered).await.is_ok() {
        return;
    }
    closing.tell();
    while connections.join_next().await.is_some() {}
}

/// Serves what one client sends, once it is known whose the connection is, and it is encrypted where it is to be.
async fn serve_stream(http: Arc<Http>, mut stream: TcpStream, mut connection: Connection, closing: Stopped) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    connection.local = stream.local_addr().ok();
    let gateway = Arc::clone(&connection.port.gateway);
    let declared = connection.port.declared;
    let first = match begin(&mut stream, &mut connection).await {
        Ok(first) => first,
        Err(error) => return debug!(%error, "connection not taken"),
    };
    let stream = WriteLimit::new(stream, first, WRITE_TIMEOUT);
    if !gateway.state.load().encryption.covers(declared) {
        return serve_bounded(&http, stream, connection, closing).await;
    }
    // Apart, so that a connection in clear keeps no room for this.
    apart::begun(|| serve_encrypted(&http, stream, connection, closing)).await;
}

/// Serves a connection that is encrypted first.
async fn serve_encrypted(http: &Http, stream: WriteLimit, mut connection: Connection, closing: Stopped) {
    let gateway = Arc::clone(&connection.port.gateway);
    let declared = connection.port.declared;
    let find = |name: &str| gateway.state.load().encryption.find(declared, name);
    match tls::accept(stream, find).await {
        Ok((stream, name)) => {
            connection.secured = Some(name);
            let told = connection.intake().map(|intake| intake.told).unwrap_or_default();
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            connection.shown = told::of(chain, told);
            serve_bounded(http, stream, connection, closing).await;
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            debug!(%error, cause, "connection not encrypted");
        }
    }
}

/// Does what policies want before anything else is read; returns what was read all the same.
///
/// The host is not known yet: of listeners that share a port each has its word.
async fn begin(stream: &mut TcpStream, connection: &mut Connection) -> io::Result<Bytes> {
    let mut proxied = None;
    {
        let state = connection.port.gateway.state.load();
        let listener = state.snapshot.listeners.get(&connection.port.declared);
        for intake in listener.iter().flat_map(|listener| listener.intakes()) {
            if let Some(probes) = &intake.keep_alive {
                keep_alive(stream, probes)?;
            }
            proxied = proxied.or(intake.proxied);
        }
    }
    let Some(optional) = proxied else {
        return Ok(Bytes::new());
    };
    let (peer, first) = proxied::read(stream, optional).await?;
    connection.peer = peer.unwrap_or(connection.peer);
    Ok(first)
}

/// Serves a connection, within the bounds of the policy that holds for it.
async fn serve_bounded(
    http: &Http,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut connection: Connection,
    closing: Stopped,
) {
    let intake = connection.intake();
    let port = Arc::clone(&connection.port);
    let bound = intake.as_ref().and_then(|intake| intake.connections);
    let _bounded = match bound {
        None => None,
        Some((most, delay)) => match Bounded::within(&port.bounded, most) {
            Some(bounded) => Some(bounded),
            None => {
                let policy = intake.as_deref().map(|intake| &*intake.policy);
                debug!(policy, "too many connections");
                return tokio::time::sleep(delay).await;
            }
        },
    };
    let usage = Usage::of(intake.as_deref());
    connection.usage = Some(Arc::clone(&usage));
    let own = intake.as_deref().map(|intake| Box::new(Http::of(Some(intake))));
    let http = own.as_deref().unwrap_or(http);
    tokio::select! {
        biased;
        () = serve_connection(http, stream, connection, closing) => {}
        () = usage.ended() => debug!("connection used for long enough"),
    }
}

/// One of the connections that are bounded, until it is dropped.
struct Bounded<'a>(&'a AtomicUsize);

impl<'a> Bounded<'a> {
    fn within(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = count.fetch_update(set, fetch, |count| (count < most).then_some(count + 1));
        taken.is_ok().then(|| Self(count))
    }
}

impl Drop for Bounded<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve_connection(
    http: &Http,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Connection,
    closing: Stopped,
) {
    let connection = Arc::new(connection);
    let of_request = Arc::clone(&connection);
    let service = service_fn(move |request| guard(Arc::clone(&of_request), request));
    if let Err(error) = http.serve(stream, service, &connection.lasting, closing).await {
        debug!(%error, "connection ended");
    }
    if let Some(tunnel) = connection.take_tunnel() {
        tunnel.run().await;
    }
}

/// Serves a request; a panic becomes a 500, so that the connection and its other requests survive. An answer that lasts is
/// left to the connection.
async fn guard(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (port, uri) = (Arc::clone(&connection.port), request.uri().clone());
    let can_last = lasting::can_last(&request);
    let slot = Arc::clone(&connection);
    // Held apart from the connection, so that one on which nothing is asked does not keep room for a request.
    let handler = apart::begun(|| handle(connection, request));
    let answered = caught(handler, || {
        let prefixes = &port.gateway.runtime.options.prefixes;
        refusal::internal(Endpoint::dialect(&prefixes.canonical(uri.path())))
    });
    let answer = answered.await;
    if can_last && answer.body().lasts() {
        slot.lasting.put(answer);
        return pending().await;
    }
    Ok(answer)
}

/// Returns what `handler` gives, or `otherwise` if it panics.
async fn caught<T>(mut handler: impl Future<Output = T> + Unpin, otherwise: impl FnOnce() -> T) -> T {
    let handled = std::future::poll_fn(|cx| {
        // A future that panicked is not polled again, so that what it left behind is not seen.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut handler).poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => {
                error!("a request's handler panicked");
                Poll::Ready(None)
            }
        }
    });
    handled.await.unwrap_or_else(otherwise)
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[tokio::test]
    async fn a_panic_becomes_an_answer() {
        assert_eq!(caught(std::future::ready(1), || 2).await, 1);
        let late = async {
            tokio::task::yield_now().await;
            panic!("of a test")
        };
        assert_eq!(caught(Box::pin(late), || 2).await, 2);
    }
}
