//! The data path: what happens between a client's bytes and an upstream's.
//!
//! Start at `handle`: one function, straight down. [`Gateway`] is the whole of it: it is given a snapshot and
//! serves it until the next one; what must survive a swap (clients, health, budgets) is its runtime.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// How the process serves, beside what the resources say.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address that listeners bind.
    pub address: IpAddr,
    /// Where the admin listener binds; `None` for none.
    pub admin: Option<SocketAddr>,
    /// What is written about each request to standard output.
    pub access_log: AccessLog,
    /// The most bytes that a request body may have; 32 MiB by default.
    pub max_body: usize,
    /// How long open streams may take to finish once draining has begun.
    pub drain: Duration,
}

/// The form of the access record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs, for a person.
    Text,
}

/// The gateway.
pub struct Gateway {}

/// A listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

impl Gateway {
    /// Returns a gateway that serves nothing yet. The admin listener answers `/health` at once and `/ready`
    /// with 503 until the first snapshot is installed.
    ///
    /// # Errors
    /// If the admin listener cannot be bound.
    pub async fn start(options: Options) -> Result<Arc<Self>, BindError> {
        let _ = options;
        Ok(Arc::new(Self {}))
    }

    /// Serves `snapshot` from now on. New ports are bound before anything is swapped: if one cannot be, the
    /// old snapshot stays. Requests that are being served keep the snapshot they began with; ports that are
    /// gone are closed once their requests are done.
    ///
    /// # Errors
    /// The ports that could not be bound.
    pub async fn install(self: &Arc<Self>, snapshot: config::Snapshot) -> Result<(), Vec<BindError>> {
        let _ = snapshot;
        Ok(())
    }

    /// Returns the addresses that are served, by declared port; with port 0 the one the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Returns the address of the admin listener.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        None
    }

    /// Stops serving: readiness turns false, listeners close, requests finish; after `Options::drain` those
    /// that are left end with an error event in their client's dialect.
    pub async fn drain(self: &Arc<Self>) {}
}
