//! Calls to upstreams over pooled connections, of HTTP/1.1 or HTTP/2.
//!
//! Which of the two is spoken is agreed on where the connection is encrypted (ALPN), and declared where it is not.

mod connect;
mod http1;
mod http2;
mod named;
mod outgoing;
mod proxy;
mod quiet;
mod reply;
pub(crate) mod verify;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use config::{
    Snapshot,
    snapshot::{Backend, Endpoint, Protocol, Tls},
};
use http::{HeaderValue, Request, Response, header};
use named::Named;
use policy::traffic::{Connections, balance};
use tokio::task::JoinHandle;

pub(crate) use connect::{ConnectError, Io, TlsError, keep_alive, tls_config};
use connect::{Connector, Offer};
pub(crate) use outgoing::Outgoing;
pub(crate) use reply::{Broken, Reply};

use crate::Gateway;

/// How often connections are looked at that have been idle for too long.
const PRUNE_EVERY: Duration = Duration::from_secs(15);

/// How often a request is moved to another connection that an upstream refused unseen.
const MAX_MOVES: usize = 3;

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
    /// The hash of the endpoint's address, the same in every gateway.
    pub(crate) name: u64,
    connector: Connector,
    connections: Connections,
    alone: Arc<http1::Pool>,
    /// Set where HTTP/2 may be spoken.
    shared: Option<http2::Pool>,
    /// Set where the endpoint is a name, which may have several addresses.
    named: Option<Named>,
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
    /// The upstream said that it has not looked at the call.
    #[error("the upstream refused the request unseen")]
    Refused(#[source] h2::Error),
    /// The upstream may have seen the call.
    #[error("{}", .0.as_told())]
    Reset(#[source] Broken),
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
                    gateway.let_go();
                    let state = gateway.state.load_full();
                    state.clients.prune();
                    state.services.prune();
                    gateway.runtime.pods.prune();
                    gateway.runtime.partings.prune();
                    gateway.runtime.programs.prune();
                    gateway.runtime.held.prune();
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
            .flat_map(|rule| rule.candidates.iter())
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

    /// Returns the client for one of the endpoints of `backend`, picked at random, or by the address that a request comes
    /// from where that is wanted.
    pub(crate) fn pick(&self, backend: &Backend, from: IpAddr) -> Option<&Arc<Client>> {
        match self.of(&backend.id) {
            [only] => Some(only),
            several if backend.is_sticky => {
                let key = balance::of_address(from);
                let score = |client: &&Arc<Client>| balance::hash(key, &client.name.to_be_bytes());
                several.iter().max_by_key(score)
            }
            several => several.get(fastrand::usize(..several.len().max(1))),
        }
    }

    /// Returns the clients for all endpoints of the backend with this id.
    pub(crate) fn of(&self, id: &str) -> &[Arc<Client>] {
        self.backends.get(id).map_or(&[], Vec::as_slice)
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
        let connector = Connector::new(endpoint.clone(), tls, shared, connections);
        Self::over(host(endpoint, tls), connector, connections)
    }

    fn over(host: HeaderValue, connector: Connector, connections: Connections) -> Self {
        let endpoint = connector.endpoint();
        let (name, named) = (
            balance::hash(0, endpoint.address().as_bytes()),
            Named::of(endpoint),
        );
        let shared = match (connector.is_encrypted(), connector.protocol()) {
            (false, Protocol::Http1) => None,
            (is_encrypted, _) => Some(http2::Pool::new(connections, !is_encrypted)),
        };
        Self {
            host,
            name,
            connector,
            connections,
            alone: Arc::new(http1::Pool::new(connections)),
            shared,
            named,
        }
    }

    /// Returns a client for the same endpoint with connections of its own, at another port perhaps, and by HTTP/2 whatever
    /// is spoken with the endpoint.
    pub(crate) fn beside(&self, port: Option<u16>, http2: bool) -> Self {
        let connector = self.connector.beside(port, http2);
        Self::over(self.host.clone(), connector, self.connections)
    }

    /// Returns a connection on which nothing has been said.
    pub(crate) async fn connect(&self) -> Result<Io, ConnectError> {
        self.connector.connect(Offer::Http1).await
    }

    /// Sends `request` and returns the head of the reply, with its body still to be read.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up: its connection is closed, or its stream reset.
    pub(crate) async fn call(&self, request: Request<Outgoing>) -> Result<Response<Reply>, CallError> {
        match &self.shared {
            // Only HTTP/1.1 connections switch to other protocols (RFC 9113, section 8.6).
            Some(shared) if !request.headers().contains_key(header::UPGRADE) => {
                self.call_shared(shared, request, Manner::Usual).await
            }
            Some(_) | None => self.call_alone(None, request, Manner::Usual).await,
        }
    }

    /// Sends `request`, which has no body, and returns the head of the reply, on which nothing is said for most of the
    /// time: it takes little memory.
    ///
    /// # Cancel safety
    /// As for [`Client::call`].
    pub(crate) async fn listen(&self, request: Request<Outgoing>) -> Result<Response<Reply>, CallError> {
        match &self.shared {
            Some(shared) => self.call_shared(shared, request, Manner::Quiet).await,
            None => self.call_alone(None, request, Manner::Quiet).await,
        }
    }

    async fn call_shared(
        &self,
        shared: &http2::Pool,
        mut request: Request<Outgoing>,
        manner: Manner,
    ) -> Result<Response<Reply>, CallError> {
        let mut moves = 0;
        loop {
            let open = match shared.way(&self.connector).await? {
                http2::Way::Shared(open) => open,
                http2::Way::Alone(io) => {
                    let replied = self.call_alone(io, request, manner).await;
                    if let Err(CallError::Connect(_)) = &replied {
                        shared.doubt();
                    }
                    return replied;
                }
            };
            match http2::send(open, request, self.connector.is_encrypted()).await {
                Ok(response) => return Ok(response.map(|body| Reply::Shared(Box::new(body)))),
                Err(failed) => match failed.unseen {
                    Some(unseen) if moves < MAX_MOVES => request = unseen,
                    Some(_) | None => return Err(failed.error),
                },
            }
            moves += 1;
        }
    }

    /// Sends `request` on a connection of its own: on `io`, if it was just opened.
    async fn call_alone(
        &self,
        io: Option<Io>,
        mut request: Request<Outgoing>,
        manner: Manner,
    ) -> Result<Response<Reply>, CallError> {
        let io = match (io, manner) {
            (Some(io), _) => io,
            (None, Manner::Quiet) => self.connector.connect(Offer::Http1).await?,
            (None, Manner::Usual) => {
                while let Some(mut connection) = self.alone.take() {
                    if !connection.is_usable().await {
                        continue;
                    }
                    match self.alone.send(connection, request).await {
                        Ok(response) => return Ok(response.map(Reply::Alone)),
                        Err((_, Some(unsent))) => request = unsent,
                        Err((error, None)) => return Err(broken(error)),
                    }
                }
                self.connector.connect(Offer::Http1).await?
            }
        };
        if manner == Manner::Quiet {
            let replied = quiet::send(io, &request).await.map_err(broken)?;
            return Ok(replied.map(|body| Reply::Quiet(Box::new(body))));
        }
        let connection = http1::Connection::open(io).await?;
        let replied = self.alone.send(connection, request).await;
        replied
            .map(|response| response.map(Reply::Alone))
            .map_err(|(error, unsent)| match unsent {
                Some(_) => CallError::Connect(ConnectError::Http(error)),
                None => broken(error),
            })
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn prune(&self) {
        self.alone.prune();
        if let Some(shared) = &self.shared {
            shared.prune();
        }
        if let Some(named) = &self.named {
            named.known().iter().for_each(|client| client.prune());
        }
    }
}

/// How a call is made on a connection of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// On one that is kept for others.
    Usual,
    /// On one for this call alone, which is to take little memory.
    Quiet,
}

/// Returns what it means that a connection broke before the reply.
fn broken<E: std::error::Error + Into<Broken> + 'static>(error: E) -> CallError {
    match verify::unwelcome(&error) {
        Some(error) => CallError::Connect(error),
        None => CallError::Reset(error.into()),
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
