//! A connection to Redis, whatever is behind it.

use std::{future::pending, sync::Arc, time::Duration};

use redis::{
    Cmd, Pipeline, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::time::sleep;

use super::{
    cluster::{self, Cluster},
    is_lost,
};

/// A connection to the server that takes writes, or to all of a cluster.
#[derive(Clone)]
pub(crate) enum Link {
    /// One server has all keys.
    Server(MultiplexedConnection),
    /// Keys lie on several: what belongs together must have keys that lie beside each other.
    Cluster(Arc<Cluster>),
}

impl Link {
    /// Returns what calls for `key` are made on, whose answers are waited for no longer than `limit`.
    pub(crate) fn route(&self, key: &str, limit: Duration) -> Route {
        match self {
            Link::Server(connection) => {
                let mut connection = connection.clone();
                connection.set_response_timeout(limit);
                Route::Server(connection)
            }
            Link::Cluster(cluster) => Route::Slot(cluster.route(key, limit)),
        }
    }

    /// Looks after the connection until it is lost. It is used `every` so often, so that nobody closes it: one on which
    /// calls wait long for their answers is not.
    pub(crate) async fn keep(&self, every: Option<Duration>) {
        match (self, every) {
            (Link::Server(_), None) => pending().await,
            (Link::Server(connection), Some(every)) => while ping(connection, every).await {},
            (Link::Cluster(cluster), every) => cluster.keep(every).await,
        }
    }

    /// Gives up the connection to who has `key`; returns whether there is nobody left.
    pub(crate) fn lose(&self, key: &str) -> bool {
        match self {
            Link::Server(_) => true,
            Link::Cluster(cluster) => {
                cluster.lose(key);
                false
            }
        }
    }
}

/// Uses a connection after some time; returns whether it is of use.
pub(super) async fn ping(connection: &MultiplexedConnection, after: Duration) -> bool {
    sleep(after).await;
    let answer = redis::cmd("PING")
        .query_async::<()>(&mut connection.clone())
        .await;
    !answer.is_err_and(|error| is_lost(&error))
}

/// What calls for a key are made on.
#[derive(Clone)]
pub(crate) enum Route {
    /// There is one server.
    Server(MultiplexedConnection),
    /// Whoever has the slot that the key lies in.
    Slot(cluster::Route),
}

impl ConnectionLike for Route {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Route::Server(connection) => connection.req_packed_command(command),
            Route::Slot(route) => route.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Route::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Route::Slot(route) => route.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Route::Server(connection) => connection.get_db(),
            Route::Slot(route) => route.get_db(),
        }
    }
}
