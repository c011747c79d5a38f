//! A cluster of Redis: several servers, each of which has the keys of some slots
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).
//!
//! A call goes to the server that has its key, and follows it where that says that the key has moved. A server that is lost,
//! or that nobody is connected to yet, is connected to by [`Cluster::keep`] alone: calls for its keys fail at once
//! meanwhile, and those for others do not notice.

mod slot;
mod topology;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::{
    Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Script, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::{debug, info};

pub(crate) use self::slot::{beside, nameable};
use self::topology::{Place, Ranges};
use super::{
    Pauses,
    dial::{DialError, Dialer},
    is_lost,
    link::ping,
};
use crate::gather::gather;

/// How often it is asked who has what, should nobody have told.
const ROUND: Duration = Duration::from_secs(30);

/// How often a call follows its key.
const HOPS: usize = 3;

/// The longest that a call waits for the connection to a server that it is sent on to.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connections to the servers of a cluster.
pub(crate) struct Cluster {
    dialer: Arc<Dialer>,
    /// What every server knows.
    scripts: Vec<&'static Script>,
    /// Who has what.
    map: ArcSwap<Ranges<Arc<Server>>>,
    servers: Mutex<HashMap<Place, Arc<Server>>>,
    /// Goes off when a server is missed, or has its keys from elsewhere.
    missed: Notify,
    /// Goes off when this was looked after.
    kept: Notify,
}

/// A server that takes writes.
struct Server {
    place: Place,
    /// `None` while it is away.
    connection: ArcSwapOption<MultiplexedConnection>,
}

impl Cluster {
    /// Connects to the cluster that `dialer` leads to, whose servers are to know `scripts`.
    ///
    /// # Errors
    /// If none of its servers answers.
    pub(super) async fn connect(
        dialer: Arc<Dialer>,
        scripts: &[&'static Script],
    ) -> Result<Arc<Self>, DialError> {
        let (place, mut connection) = dialer.first().await?;
        let ranges = topology::ask(&mut connection, &place.0).await?;
        let cluster = Self {
            dialer,
            scripts: scripts.to_vec(),
            map: ArcSwap::default(),
            servers: Mutex::default(),
            missed: Notify::new(),
            kept: Notify::new(),
        };
        cluster.learn(ranges);
        cluster.call_on().await;
        if cluster.is_away() {
            return Err(DialError::Nobody);
        }
        Ok(Arc::new(cluster))
    }

    /// Connects to servers that are missed, and learns who has what, until none of them answers. Connections are used
    /// `every` so often.
    pub(super) async fn keep(&self, every: Option<Duration>) {
        let mut pauses = Pauses::default();
        loop {
            tokio::select! {
                () = self.missed.notified() => {}
                () = sleep(ROUND) => {}
                () = self.find_lost(every) => {}
            }
            self.look().await;
            self.call_on().await;
            self.kept.notify_waiters();
            if self.is_away() {
                return;
            }
            if self.is_whole() {
                pauses = Pauses::default();
            } else {
                pauses.wait().await;
                self.missed.notify_one();
            }
        }
    }

    /// Returns what calls for `key` are made on.
    pub(super) fn route(self: &Arc<Self>, key: &str, limit: Duration) -> Route {
        Route {
            cluster: Arc::clone(self),
            slot: slot::of(key),
            limit,
        }
    }

    /// Gives up the connection to who has `key`.
    pub(super) fn lose(&self, key: &str) {
        if let Some(server) = self.map.load().of(slot::of(key)) {
            self.lost(server);
        }
    }

    /// Uses all connections, until one is lost.
    async fn find_lost(&self, every: Option<Duration>) {
        let Some(every) = every else {
            return std::future::pending().await;
        };
        loop {
            let servers: Vec<Arc<Server>> = self.servers().values().cloned().collect();
            let used = servers.iter().map(|server| async {
                match server.connection.load_full() {
                    Some(connection) => {
                        ping(&connection, every).await || {
                            self.lost(server);
                            false
                        }
                    }
                    None => {
                        sleep(every).await;
                        true
                    }
                }
            });
            if gather(used).await.contains(&false) {
                return;
            }
        }
    }

    fn lost(&self, server: &Server) {
        if server.connection.swap(None).is_some() {
            info!(
                host = server.place.0,
                port = server.place.1,
                "a server of the redis cluster is away"
            );
        }
        self.missed.notify_one();
    }

    /// Asks the first server that answers who has what.
    async fn look(&self) {
        let servers: Vec<Arc<Server>> = self.servers().values().cloned().collect();
        for server in servers {
            let Some(connection) = server.connection.load_full() else {
                continue;
            };
            let mut connection = MultiplexedConnection::clone(&connection);
            match topology::ask(&mut connection, &server.place.0).await {
                Ok(ranges) => return self.learn(ranges),
                Err(error) => {
                    debug!(%error, "a server does not say who has what");
                    if is_lost(&error) {
                        self.lost(&server);
                    }
                }
            }
        }
    }

    /// Remembers who has what, and forgets servers that have nothing.
    fn learn(&self, ranges: Ranges<Place>) {
        let mut servers = self.servers();
        let mut found = HashMap::new();
        let ranges = ranges.map(|place| {
            let known = found.get(&place).or_else(|| servers.get(&place)).cloned();
            let server = known.unwrap_or_else(|| Arc::new(Server::new(place.clone())));
            found.insert(place, Arc::clone(&server));
            server
        });
        *servers = found;
        drop(servers);
        self.map.store(Arc::new(ranges));
    }

    /// Connects to all servers that are not connected to.
    async fn call_on(&self) {
        let away: Vec<Arc<Server>> = {
            let servers = self.servers();
            let away = servers
                .values()
                .filter(|server| server.connection.load().is_none());
            away.cloned().collect()
        };
        let calls = away.iter().map(|server| async {
            match self.dialer.at(&server.place, &self.scripts).await {
                Ok(connection) => server.connection.store(Some(Arc::new(connection))),
                Err(error) => debug!(
                    error = &error as &dyn std::error::Error,
                    host = server.place.0,
                    port = server.place.1,
                    "a server of the redis cluster cannot be reached"
                ),
            }
        });
        gather(calls).await;
    }

    /// Returns the connection to the server at `place`, once there is one.
    async fn at(&self, place: &Place) -> RedisResult<(Arc<Server>, MultiplexedConnection)> {
        let met = async {
            loop {
                let kept = self.kept.notified();
                let server = {
                    let mut servers = self.servers();
                    let server = servers
                        .entry(place.clone())
                        .or_insert_with(|| Arc::new(Server::new(place.clone())));
                    Arc::clone(server)
                };
                if let Some(connection) = server.connection.load_full() {
                    return (server, MultiplexedConnection::clone(&connection));
                }
                self.missed.notify_one();
                kept.await;
            }
        };
        timeout(PATIENCE, met).await.map_err(|_| away())
    }

    fn is_away(&self) -> bool {
        let servers = self.servers();
        servers.values().all(|server| server.connection.load().is_none())
    }

    fn is_whole(&self) -> bool {
        let servers = self.servers();
        servers.values().all(|server| server.connection.load().is_some())
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<Place, Arc<Server>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    fn new(place: Place) -> Self {
        Self {
            place,
            connection: ArcSwapOption::empty(),
        }
    }
}

/// The way to who has the keys of one slot.
#[derive(Clone)]
pub(crate) struct Route {
    cluster: Arc<Cluster>,
    slot: u16,
    limit: Duration,
}

/// Where a server says that the keys are.
enum Elsewhere {
    /// From now on.
    Moved(Place),
    /// For this call, should the server asked not have them any longer.
    Moving(Place),
}

impl Route {
    /// Calls who has the keys, and follows them.
    async fn call(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let owner = self.cluster.map.load().of(self.slot).cloned();
        let owner = owner.ok_or_else(away)?;
        let connection = owner.connection.load_full().ok_or_else(away)?;
        let (mut server, mut connection) = (owner, MultiplexedConnection::clone(&connection));
        let mut asking = false;
        for _ in 0..HOPS {
            connection.set_response_timeout(self.limit);
            let answer = if asking {
                ask(&mut connection, pipeline).await
            } else {
                connection.req_packed_commands(pipeline, 0, pipeline.len()).await
            };
            let error = match answer.and_then(|values| Value::Array(values).extract_error()) {
                Ok(Value::Array(values)) => return Ok(values),
                Ok(_) => return Err(away()),
                Err(error) => error,
            };
            let place = match self.elsewhere(&error, &server) {
                Some(Elsewhere::Moved(place)) => {
                    asking = false;
                    self.cluster.missed.notify_one();
                    place
                }
                Some(Elsewhere::Moving(place)) => {
                    asking = true;
                    place
                }
                None => {
                    if is_lost(&error) {
                        self.cluster.lost(&server);
                    }
                    return Err(error);
                }
            };
            (server, connection) = self.cluster.at(&place).await?;
        }
        Err(away())
    }

    fn elsewhere(&self, error: &RedisError, server: &Server) -> Option<Elsewhere> {
        let (at, _) = error.redirect_node()?;
        let (host, port) = at.rsplit_once(':')?;
        // Without a host it is the one that was asked.
        let host = if host.is_empty() { &server.place.0 } else { host };
        let place = (host.to_owned(), port.parse().ok()?);
        Some(match error.kind() {
            ErrorKind::Server(ServerErrorKind::Ask) => Elsewhere::Moving(place),
            _ => Elsewhere::Moved(place),
        })
    }
}

impl ConnectionLike for Route {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> redis::RedisFuture<'a, Value> {
        Box::pin(async move {
            let mut pipeline = Pipeline::with_capacity(1);
            pipeline.add_command(command.clone());
            let mut values = self.call(&pipeline).await?;
            values.pop().ok_or_else(away)
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        _offset: usize,
        _count: usize,
    ) -> redis::RedisFuture<'a, Vec<Value>> {
        Box::pin(self.call(pipeline))
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// Makes calls of a server that does not have their keys yet, but is given them.
async fn ask(connection: &mut MultiplexedConnection, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    let mut asked = Pipeline::with_capacity(2 * pipeline.len());
    for command in pipeline.cmd_iter() {
        asked.cmd("ASKING").add_command(command.clone());
    }
    let values = connection.req_packed_commands(&asked, 0, asked.len()).await?;
    Ok(values.into_iter().skip(1).step_by(2).collect())
}

/// Returns the error of calls for keys of a server that is away.
fn away() -> RedisError {
    let away = std::io::Error::new(
        std::io::ErrorKind::NotConnected,
        "the server of these keys is away",
    );
    RedisError::from(away)
}
