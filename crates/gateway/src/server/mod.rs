//! Ports: what is bound, and how the set of them follows the snapshot.

mod clients;
pub(crate) mod drain;
mod http;
mod lasting;
pub(crate) mod listener;
mod proxied;
mod stall;
mod subject;
pub(crate) mod tls;
pub(crate) mod told;
pub(crate) mod usage;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use ::http::HeaderValue;
use config::intake::Intake;
use tokio::{net::TcpListener, sync::oneshot};
use tracing::info;

use crate::{BindError, Gateway, plain::tunnel::Tunnel};
use lasting::Slot;
use listener::Serving;
use usage::Usage;

/// A port that is served, as its connections see it.
pub(crate) struct Port {
    pub(crate) gateway: Arc<Gateway>,
    /// The port in the snapshot, which differs from the bound one where that is 0.
    pub(crate) declared: u16,
    /// Whether connections are to end with their next answer.
    pub(crate) closing: AtomicBool,
    /// How many connections there are that a policy bounds.
    pub(crate) bounded: AtomicUsize,
}

/// A client's connection, as its requests see it.
pub(crate) struct Connection {
    pub(crate) port: Arc<Port>,
    /// The other end, which may be a proxy.
    pub(crate) peer: SocketAddr,
    /// The address that was called.
    pub(crate) local: Option<SocketAddr>,
    /// The name that the client asked for in its handshake, empty if none; `None` where nothing is encrypted.
    pub(crate) secured: Option<String>,
    /// What upstreams may be told of the certificate that the client has shown.
    pub(crate) shown: Option<HeaderValue>,
    /// How much it is used; `None` where no policy bounds that.
    pub(crate) usage: Option<Arc<Usage>>,
    /// What becomes of the connection once it speaks another protocol.
    tunnel: Mutex<Option<Tunnel>>,
    /// The answer that is to be written without hyper.
    lasting: Slot,
}

impl Port {
    /// Returns the port that is declared as `declared`.
    pub(crate) fn new(gateway: &Arc<Gateway>, declared: u16) -> Arc<Self> {
        Arc::new(Self {
            gateway: Arc::clone(gateway),
            declared,
            closing: AtomicBool::new(false),
            bounded: AtomicUsize::new(0),
        })
    }
}

impl Connection {
    /// Returns a connection of `peer` that is not encrypted.
    fn new(port: Arc<Port>, peer: SocketAddr) -> Self {
        Self {
            port,
            // Where both families are served, those of the older one come as a part of the newer one.
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            local: None,
            secured: None,
            shown: None,
            usage: None,
            tunnel: Mutex::default(),
            lasting: Slot::default(),
        }
    }

    /// Returns how the connection and its requests are taken, as things are now; `None` where no policy says so.
    fn intake(&self) -> Option<Arc<Intake>> {
        let state = self.port.gateway.state.load();
        let listener = state.snapshot.listeners.get(&self.port.declared)?;
        listener.intake(self.secured.as_deref()).cloned()
    }

    /// Leaves the connection to `tunnel` once its last answer is out.
    pub(crate) fn tunnel(&self, tunnel: Tunnel) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// Returns whether the connection is to end with its next answer.
    pub(crate) fn is_ending(&self) -> bool {
        let of_port = self.port.closing.load(Ordering::Relaxed);
        of_port || self.usage.as_ref().is_some_and(|usage| usage.is_up())
    }

    fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The ports that are served, by declared port.
#[derive(Default)]
pub(crate) struct Server {
    serving: BTreeMap<u16, Serving>,
    /// Those that are gone from the snapshot and finish their requests.
    leaving: Vec<Serving>,
}

/// Listeners that are bound, but not served yet.
pub(crate) struct Bound(Vec<(u16, TcpListener)>);

impl Server {
    /// Binds those of `ports` that are not bound yet; nothing is served before all are.
    ///
    /// # Errors
    /// The ports that could not be bound.
    pub(crate) fn bind(
        &self,
        address: IpAddr,
        ports: impl Iterator<Item = u16>,
    ) -> Result<Bound, Vec<BindError>> {
        let mut bound = Vec::new();
        let mut errors = Vec::new();
        for port in ports.filter(|port| !self.serving.contains_key(port)) {
            match listener::bind(SocketAddr::new(address, port)) {
                Ok(listener) => bound.push((port, listener)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(Bound(bound))
        } else {
            Err(errors)
        }
    }

    /// Serves what was bound, and stops serving the ports that `keep` refuses; returns what is heard of when
    /// those are free again.
    pub(crate) fn reconcile(
        &mut self,
        gateway: &Arc<Gateway>,
        bound: Bound,
        keep: impl Fn(u16) -> bool,
    ) -> Vec<oneshot::Receiver<()>> {
        for (declared, listener) in bound.0 {
            let port = Port::new(gateway, declared);
            let serving = listener::serve(listener, port);
            info!(address = %serving.address, "listening");
            self.serving.insert(declared, serving);
        }
        let gone: Vec<u16> = self.serving.keys().copied().filter(|port| !keep(*port)).collect();
        let mut unbound = Vec::new();
        for port in gone {
            if let Some(mut serving) = self.serving.remove(&port) {
                info!(address = %serving.address, "no longer listening");
                serving.close();
                unbound.extend(serving.unbound());
                self.leaving.push(serving);
            }
        }
        self.leaving.retain(|serving| !serving.is_done());
        unbound
    }

    /// Returns the addresses that are served.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.serving.values().map(|serving| serving.address).collect()
    }

    /// Returns everything that is served or still finishing; nothing is served any longer.
    pub(crate) fn take(&mut self) -> Vec<Serving> {
        let serving = std::mem::take(&mut self.serving).into_values();
        serving.chain(std::mem::take(&mut self.leaving)).collect()
    }
}
