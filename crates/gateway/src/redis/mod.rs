//! The Redis that all gateways share: where it is, connections to it, and what its refusals mean.
//!
//! `limit/redis` keeps counters there, `mcp/replicas` what is to be known of sessions.

mod address;
mod cluster;
mod dial;
mod link;

use std::time::Duration;

use config::{
    Secret,
    certificate::{Authorities, Certificate},
};
use redis::{RedisError, ServerErrorKind};
use tokio::time::sleep;

pub use self::address::AddressError;
pub(crate) use self::{
    cluster::{beside, nameable},
    dial::{DialError, Dialer},
    link::Link,
};

/// The longest that a request waits for Redis.
pub(crate) const WAIT: Duration = Duration::from_millis(250);

/// How long is waited before what Redis does not take now is sent again.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// The first and the longest pause before connecting again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Where the Redis is that all gateways share.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Its address, which may hold a password: `redis://:password@host:6379/0`, `rediss://` for TLS,
    /// `redis-sentinel://host,host/name` where sentinels know the server, `redis-cluster://host,host` for a cluster.
    pub address: Secret,
    /// The authorities that its certificate is checked against; `None` for those of the system.
    pub authorities: Option<Authorities>,
    /// What it is shown.
    pub certificate: Option<Certificate>,
}

/// The pauses before connecting again: doubled each time, and longer by up to half at random, so that gateways do not
/// come back all at once.
pub(crate) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSES.0)
    }
}

impl Pauses {
    /// Begins anew after a connection that has lasted for so long: a server that answers and takes nothing is no better
    /// than one that does not answer.
    pub(crate) fn lasted(&mut self, time: Duration) {
        if time >= PAUSES.1 {
            *self = Self::default();
        }
    }

    /// Waits for as long as it is time to.
    pub(crate) async fn wait(&mut self) {
        sleep(self.0.mul_f64(1.0 + fastrand::f64() / 2.0)).await;
        self.0 = (self.0 * 2).min(PAUSES.1);
    }
}

/// Returns whether the connection is of no use any longer: it is gone, or leads to a server that takes no writes, or
/// not yet. Before version 7 the server says that of a script in the words of the failure.
pub(crate) fn is_lost(error: &RedisError) -> bool {
    let away = [
        ServerErrorKind::ReadOnly,
        ServerErrorKind::BusyLoading,
        ServerErrorKind::MasterDown,
        ServerErrorKind::ClusterDown,
    ];
    let away = away.map(redis::ErrorKind::Server);
    let says = error.detail().is_some_and(|said| said.contains("-READONLY "));
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || away.contains(&error.kind())
        || says
}

/// Returns whether the server refuses what it will take later: it is short of memory or of copies, cannot save, is
/// busy with somebody's script, does not know the password any longer, or is given or gives away keys of a cluster.
pub(crate) fn is_passing(error: &RedisError) -> bool {
    const CODES: [&str; 7] = [
        "OOM",
        "MISCONF",
        "NOREPLICAS",
        "BUSY",
        "NOAUTH",
        "WRONGPASS",
        "TRYAGAIN",
    ];
    let said = error.detail().unwrap_or_default();
    error.code().is_some_and(|code| CODES.contains(&code))
        || CODES.iter().any(|code| said.contains(&format!("-{code} ")))
}
