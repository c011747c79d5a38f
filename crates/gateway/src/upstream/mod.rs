//! Calls to upstreams over pooled HTTP/1.1 connections.
//!
//! A connection has no task of its own: whoever waits for its reply drives it, in the same task that serves
//! the client. So a reply wakes exactly one task, and dropping a reply that is not wholly read closes its
//! connection, which is how a client's disconnect reaches the upstream. Idle connections are polled when they
//! are next taken, which is when a close by the other side is noticed, before anything is sent.

mod connect;
mod outgoing;
mod proxy;
pub(crate) mod verify;

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use config::{
    Snapshot,
    snapshot::{Backend, Endpoint, Tls},
};
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use policy::traffic::Connections;
use tokio::task::JoinHandle;

use connect::Connector;
pub(crate) use connect::{ConnectError, Io, TlsError, tls_config};
pub(crate) use outgoing::Outgoing;

use crate::Gateway;

/// How often connections are looked at that have been idle for too long.
const PRUNE_EVERY: Duration = Duration::from_secs(15);

/// The most idle connections that are kept to one endpoint.
const MAX_IDLE: usize = 1024;

/// The clients for all backends of a snapshot. Pools of endpoints that stay are carried over.
#[derive(Default)]
pub(crate) struct Clients {
    backends: HashMap<Arc<str>, Vec<Arc<Client>>>,
    pools: HashMap<Key, Arc<Client>>,
    /// Those of the snapshot before, while the clients for the next one are made.
    before: HashMap<Key, Arc<Client>>,
    /// What all encrypted connections share: reading the system's authorities takes a while, so that it is done
    /// once for all, and only where it is needed.
    shared: Option<Result<Arc<rustls::ClientConfig>, connect::TlsError>>,
}

/// What connections have in common that can serve for one another.
type Key = (Endpoint, Option<Tls>, Connections);

/// The client for one endpoint.
pub(crate) struct Client {
    /// The value of `host` in its calls.
    pub(crate) host: HeaderValue,
    connector: Connector,
    connections: Connections,
    idle: Mutex<Vec<Idle>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// A call did not bring a reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The upstream was certainly not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The upstream may have seen the call.
    #[error("the upstream closed the connection without a reply")]
    Reset(#[source] hyper::Error),
}

/// The body of a reply; drives its connection and gives it back once it is wholly read.
pub(crate) struct Reply {
    body: Incoming,
    connection: Option<(Arc<Client>, Box<Connection>)>,
}

/// A connection and the handle to send on it.
struct Connection {
    sender: SendRequest<Outgoing>,
    driver: http1::Connection<TokioIo<Io>, Outgoing>,
    closed: bool,
    since: Instant,
    /// How many requests were sent on it.
    served: u32,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// Closes idle connections from time to time, for as long as the gateway exists.
#[expect(
    clippy::disallowed_methods,
    reason = "idle connections have no request that could look after them"
)]
pub(crate) fn prune(gateway: Weak<Gateway>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(PRUNE_EVERY).await;
            match gateway.upgrade() {
                Some(gateway) => {
                    let state = gateway.state.load_full();
                    state.clients.prune();
                    state.services.prune();
                    gateway.runtime.programs.prune();
                }
                None => return,
            }
        }
    })
}

impl Clients {
    /// Returns the clients for `snapshot`; those of `before` are kept where nothing changed for them.
    pub(crate) fn new(snapshot: &Snapshot, before: &Clients) -> Self {
        let mut clients = Clients {
            before: before.pools.clone(),
            ..Clients::default()
        };
        let backends = snapshot
            .listeners
            .values()
            .flat_map(|listener| listener.router.rules())
            // A policy has lanes made, with clients of their own.
            .filter(|rule| rule.traffic.is_none())
            .flat_map(|rule| &rule.candidates)
            .filter_map(|candidate| candidate.backend.as_ref().ok())
            .map(|backend| (&backend.id, &backend.endpoints, backend.tls.as_ref()));
        let mirrors = snapshot
            .listeners
            .values()
            .flat_map(|listener| listener.router.rules())
            .filter_map(|rule| rule.plain.as_ref())
            .flat_map(|plain| &plain.mirrors)
            .map(|mirror| &mirror.backend)
            .map(|backend| (&backend.id, &backend.endpoints, backend.tls.as_ref()));
        let tools = snapshot
            .listeners
            .values()
            .flat_map(|listener| listener.mcp.routes())
            .flat_map(|route| &route.backends)
            .filter_map(|backend| backend.reach.as_ref().ok()?.http())
            .map(|http| (&http.id, &http.endpoints, http.tls.as_ref()));
        for (id, endpoints, tls) in backends.chain(mirrors).chain(tools) {
            if clients.backends.contains_key(id) {
                continue;
            }
            let of_backend = endpoints
                .iter()
                .map(|endpoint| clients.client(endpoint, tls, &Connections::default()))
                .collect();
            clients.backends.insert(Arc::clone(id), of_backend);
        }
        clients
    }

    /// Returns the client for `endpoint`, an old one where nothing changed for it.
    pub(crate) fn client(
        &mut self,
        endpoint: &Endpoint,
        tls: Option<&Tls>,
        connections: &Connections,
    ) -> Arc<Client> {
        let key = (endpoint.clone(), tls.cloned(), *connections);
        let known = self.pools.get(&key).or_else(|| self.before.get(&key));
        let client = known.cloned().unwrap_or_else(|| {
            if tls.is_some() && self.shared.is_none() {
                self.shared = Some(connect::tls_config());
            }
            Arc::new(Client::new(endpoint, tls, self.shared.as_ref(), *connections))
        });
        self.pools.insert(key, Arc::clone(&client));
        client
    }

    /// Lets go of what was kept of the snapshot before.
    pub(crate) fn settled(self) -> Self {
        Self {
            before: HashMap::new(),
            ..self
        }
    }

    /// Returns the client for one of the endpoints of `backend`, picked at random.
    pub(crate) fn pick(&self, backend: &Backend) -> Option<&Arc<Client>> {
        self.pick_of(&backend.id)
    }

    /// Returns the client for one of the endpoints of the backend with this id, picked at random.
    pub(crate) fn pick_of(&self, id: &str) -> Option<&Arc<Client>> {
        let clients = self.backends.get(id)?;
        match clients.as_slice() {
            [only] => Some(only),
            several => several.get(fastrand::usize(..several.len().max(1))),
        }
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn prune(&self) {
        for client in self.pools.values() {
            client.prune();
        }
    }
}

impl Client {
    /// Returns the client for `endpoint`; `shared` is used where `tls` is set.
    pub(crate) fn new(
        endpoint: &Endpoint,
        tls: Option<&Tls>,
        shared: Option<&Result<Arc<rustls::ClientConfig>, connect::TlsError>>,
        connections: Connections,
    ) -> Self {
        Self {
            host: host(endpoint, tls),
            connector: Connector::new(endpoint.clone(), tls, shared, connections),
            connections,
            idle: Mutex::default(),
        }
    }

    /// Returns a client for the same endpoint at another port, with connections of its own.
    pub(crate) fn at_port(&self, port: u16) -> Self {
        Self {
            host: self.host.clone(),
            connector: self.connector.at_port(port),
            connections: self.connections,
            idle: Mutex::default(),
        }
    }

    /// Returns a connection on which nothing has been said.
    pub(crate) async fn connect(&self) -> Result<Io, ConnectError> {
        self.connector.connect().await
    }

    /// Sends `request` and returns the head of the reply, with its body still to be read.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub(crate) async fn call(
        self: &Arc<Self>,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Reply>, CallError> {
        while let Some(mut connection) = self.take() {
            if !connection.is_usable().await {
                continue;
            }
            match self.send(connection, request).await {
                Ok(response) => return Ok(response),
                Err((_, Some(unsent))) => request = unsent,
                Err((error, None)) => return Err(CallError::Reset(error)),
            }
        }
        let io = self.connector.connect().await?;
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Http)?;
        let connection = Box::new(Connection {
            sender,
            driver,
            closed: false,
            since: Instant::now(),
            served: 0,
        });
        self.send(connection, request)
            .await
            .map_err(|(error, unsent)| match unsent {
                Some(_) => CallError::Connect(ConnectError::Http(error)),
                None => CallError::Reset(error),
            })
    }

    /// Sends on `connection`; hands the request back where not a byte of it was written.
    async fn send(
        self: &Arc<Self>,
        mut connection: Box<Connection>,
        request: Request<Outgoing>,
    ) -> Result<Response<Reply>, (hyper::Error, Option<Request<Outgoing>>)> {
        connection.served = connection.served.saturating_add(1);
        let mut reply = pin!(connection.sender.try_send_request(request));
        let (driver, closed) = (&mut connection.driver, &mut connection.closed);
        let answered = poll_fn(|cx| {
            drive(driver, closed, cx);
            reply.as_mut().poll(cx)
        });
        match answered.await {
            Ok(response) => Ok(response.map(|body| Reply {
                body,
                connection: Some((Arc::clone(self), connection)),
            })),
            Err(mut error) => {
                let unsent = error.take_message();
                Err((error.into_error(), unsent))
            }
        }
    }

    /// Returns the idle connection that was used last, so that the others can age.
    fn take(&self) -> Option<Box<Connection>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        (idle.since.elapsed() < self.connections.idle).then_some(idle.connection)
    }

    fn put(&self, connection: Box<Connection>) {
        let Connections {
            lifetime, requests, ..
        } = self.connections;
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

    /// Closes connections that have been idle for too long.
    pub(crate) fn prune(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let old = idle.partition_point(|idle| idle.since.elapsed() >= self.connections.idle);
        let old: Vec<Idle> = idle.drain(..old).collect();
        // Sockets are closed without the lock.
        drop(idle);
        drop(old);
    }
}

impl Connection {
    /// Returns whether the other side still holds the connection open, as far as one can know.
    async fn is_usable(&mut self) -> bool {
        poll_fn(|cx| {
            drive(&mut self.driver, &mut self.closed, cx);
            Poll::Ready(())
        })
        .await;
        !self.closed && self.sender.is_ready()
    }
}

impl Reply {
    /// Returns the connection of a reply that switches to another protocol, and what was already read from it; `None`
    /// if it does not.
    pub(crate) async fn into_io(self) -> Option<(Io, Bytes)> {
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
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some((_, connection)) = &mut this.connection {
            drive(&mut connection.driver, &mut connection.closed, cx);
        }
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        let ended = match &frame {
            None => true,
            Some(Ok(_)) => this.body.is_end_stream(),
            Some(Err(_)) => {
                this.connection = None;
                false
            }
        };
        if ended && let Some((client, mut connection)) = this.connection.take() {
            // The end of the body may have been read, but not yet noted by the connection.
            drive(&mut connection.driver, &mut connection.closed, cx);
            if !connection.closed && connection.sender.is_ready() {
                client.put(connection);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Lets a connection read and write; its errors are told by what waits on it.
fn drive(driver: &mut http1::Connection<TokioIo<Io>, Outgoing>, closed: &mut bool, cx: &mut Context<'_>) {
    if !*closed {
        *closed = Pin::new(driver).poll(cx).is_ready();
    }
}

/// Returns the `host` of calls: the endpoint's name; where it has none, the name of its certificate.
fn host(endpoint: &Endpoint, tls: Option<&Tls>) -> HeaderValue {
    let name = match (endpoint.host.parse::<IpAddr>(), tls) {
        (Ok(_), Some(tls)) => tls.hostname.clone(),
        (Ok(IpAddr::V6(address)), None) => format!("[{address}]"),
        (Ok(IpAddr::V4(_)), None) | (Err(_), _) => endpoint.host.clone(),
    };
    let default_port = if tls.is_some() { 443 } else { 80 };
    let host = if endpoint.port == default_port {
        name
    } else {
        format!("{name}:{}", endpoint.port)
    };
    HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static("invalid"))
}
