//! How connections and requests of clients are taken, where a policy says so.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::HeaderMap;
use policy::{
    ClientAddress,
    traffic::{KeepAlive, Streams},
};

use crate::plain::Edits;

/// How connections and requests of clients are taken. Whatever is `None` is as it is without a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// `namespace/name` of the policy.
    pub policy: Arc<str>,
    /// Probes on connections that are silent.
    pub keep_alive: Option<KeepAlive>,
    /// Whether connections begin with a line of the PROXY protocol; `Some(true)` where some have none.
    pub proxied: Option<bool>,
    /// How many connections there may be at once, and how long one beyond that is held before it is closed.
    pub connections: Option<(usize, Duration)>,
    /// How long a connection is used.
    pub lifetime: Option<Duration>,
    /// How many requests a connection carries.
    pub requests: Option<u32>,
    /// How long a connection is kept on which nothing is asked.
    pub idle: Option<Duration>,
    /// Until the last byte of a request is here.
    pub received: Option<Duration>,
    /// The longest silence of a client within its request.
    pub silence: Option<Duration>,
    /// How long a request may take, answer included.
    pub longest: Option<Duration>,
    /// The most bytes of a request that is held.
    pub max_body: Option<usize>,
    /// HTTP/2.
    pub streams: Streams,
    /// Whom to believe about clients' addresses.
    pub address: ClientAddress,
    /// Whether a request is refused that does not say whose it is, in the header that `address` names.
    pub address_required: bool,
    /// What is done with a path with an escaped slash.
    pub escaped_slashes: EscapedSlashes,
    /// Whether slashes that follow one another stay so.
    pub keeps_slashes: bool,
    /// What is done with headers that have an underscore in their name.
    pub underscores: Underscores,
    /// Whether the id that a client gives its request is left aside.
    pub own_request_id: bool,
    /// What upstreams are told of certificates of clients.
    pub told: Told,
    /// Changes of headers before a route is looked for.
    pub early: Edits,
    /// Changes of what clients are sent, last of all.
    pub late: Edits,
    /// A path that is answered without asking anybody.
    pub health: Option<String>,
}

/// What upstreams are told of certificates of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Who may tell it.
    pub by: Teller,
    /// Whether the certificate itself is told, in PEM.
    pub certificate: bool,
    /// Whether it is told with those that vouch for it.
    pub chain: bool,
    /// Whether it is told whose it is.
    pub subject: bool,
    /// Whether the hosts are told that it is for.
    pub hosts: bool,
    /// Whether the URIs are told that it is for.
    pub uris: bool,
}

/// Who may tell upstreams of the certificate of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Teller {
    /// Nobody.
    #[default]
    Nobody,
    /// A client that has shown one: it is a proxy, and speaks of its own clients.
    Shown,
    /// Such a client, and then the gateway of that one.
    Both,
    /// The gateway, of a client that has shown one.
    Gateway,
    /// Any client.
    Anybody,
}

/// What is done with a path with an escaped slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// It stays as it is, for whoever serves it.
    Keep,
    /// The request is refused.
    Refuse,
    /// The slash is read as one.
    Unescape,
    /// The client is told to ask for the path with the slash.
    #[default]
    Redirect,
}

/// What is done with headers that have an underscore in their name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// They are taken.
    #[default]
    Take,
    /// The request is refused.
    Refuse,
    /// They are left out.
    LeaveOut,
}

impl Intake {
    /// Returns the address that a request with `headers` comes from, which `peer` has sent; `None` where that has to be
    /// said and is not.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        match &self.address {
            ClientAddress::Header(name) if self.address_required && !headers.contains_key(name) => None,
            address => Some(address.of(peer, headers)),
        }
    }
}
