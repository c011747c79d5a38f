//! Which endpoint of a backend is called: the one that keeps the session, or any.
//!
//! A server with sessions that runs more than once keeps each in one place. Whoever opens a session remembers where
//! (compatibility specification, "Session and event identifiers": the token says it), and all that belongs to the session
//! is asked there. A place that is gone, or cannot be reached while there are others, has lost its sessions.

use std::sync::Arc;

use mcp::session::Entry;

use crate::upstream::{Client, ConnectError};

/// The endpoints that a call may go to, one after the other: the next is called if the one before was not reached.
pub(super) struct Ways {
    first: Option<Arc<Client>>,
    /// The last is called first.
    rest: Vec<Arc<Client>>,
    /// Whether it matters which address of a name is called.
    opens: bool,
    /// Whether the session is lost if none of these is reached.
    pub(super) lost: bool,
}

impl Ways {
    /// Returns the ways to one of `clients`, in the session of `entry` if there is one.
    pub(super) async fn of(clients: &[Arc<Client>], entry: Option<&Entry>) -> Self {
        if let Some(name) = kept(entry) {
            for client in clients {
                if let Some(kept) = client.find(name).await {
                    return Self::kept(kept, clients.len() > 1 || !client.is_alone());
                }
            }
            if is_lost(clients.iter()) {
                return Self::gone();
            }
        }
        Self::any(clients, entry.is_none())
    }

    fn kept(client: Arc<Client>, lost: bool) -> Self {
        Self {
            first: Some(client),
            rest: Vec::new(),
            opens: false,
            lost,
        }
    }

    fn gone() -> Self {
        Self {
            first: None,
            rest: Vec::new(),
            opens: false,
            lost: true,
        }
    }

    fn any(clients: &[Arc<Client>], opens: bool) -> Self {
        let mut rest = Vec::new();
        let first = match clients {
            [only] => Some(Arc::clone(only)),
            several => {
                rest.extend_from_slice(several);
                fastrand::shuffle(&mut rest);
                rest.pop()
            }
        };
        Self {
            first,
            rest,
            opens,
            lost: false,
        }
    }

    /// Returns why there is none from the beginning.
    pub(super) fn none(&self) -> &'static str {
        if self.lost { GONE } else { "it has no endpoint" }
    }

    /// Returns the next.
    pub(super) async fn next(&mut self) -> Option<Result<Arc<Client>, ConnectError>> {
        let client = self.first.take().or_else(|| self.rest.pop())?;
        if !self.opens || !client.is_named() {
            return Some(Ok(client));
        }
        match client.addresses().await {
            Ok(addresses) => {
                // What is a name has addresses, which are none.
                self.rest.extend(addresses.into_iter().rev());
                self.rest.pop().map(Ok)
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// What is said of a session whose endpoint is gone.
pub(super) const GONE: &str = "the endpoint that kept the session is gone";

/// Returns the hash of the address that keeps the session of `entry`, if one does.
pub(super) fn kept(entry: Option<&Entry>) -> Option<u64> {
    entry.filter(|entry| !entry.session.is_empty())?.endpoint
}

/// Returns whether a session is lost whose endpoint is none of these. Addresses of a name may be given out in part, and
/// one endpoint is all that there is: the server itself knows then.
pub(super) fn is_lost<'a>(clients: impl Iterator<Item = &'a Arc<Client>> + Clone) -> bool {
    clients.clone().count() > 1 && !clients.into_iter().any(|client| client.is_named())
}
