//! What a client wants to be told of, said to a backend whose part of the session is new: nobody else can do it, because the
//! client does not see that it is.

use config::mcp_route::Backend;
use mcp::{
    Capabilities, Level,
    json::{self, Object},
    session::Entry,
};
use tokio::time::timeout;

use super::{
    call::is_modern,
    line::answered,
    turn::{NOTE_TIMEOUT, Turn, own_request},
};

/// Tells `backend` which log messages the client wants, and of which resources' changes. One without sessions is told
/// these with each request.
pub(super) async fn all(turn: &Turn, backend: &Backend, entry: &Entry) {
    if is_modern(Some(entry)) {
        return;
    }
    let sessions = &turn.runtime.sessions;
    if let Some(level) = sessions.level(&turn.fingerprint) {
        level_of(turn, backend, entry, level).await;
    }
    let uris = sessions.wants(&turn.fingerprint, &backend.name);
    let subscribed = async {
        for uri in &uris {
            subscribed(turn, backend, entry, uri).await;
        }
    };
    if timeout(NOTE_TIMEOUT, subscribed).await.is_err() {
        tracing::warn!(backend = %backend.name, resources = uris.len(), "a backend did not take all subscriptions again");
    }
}

/// Tells `backend` which log messages are wanted, if it has any.
pub(super) async fn level_of(turn: &Turn, backend: &Backend, entry: &Entry, level: Level) {
    if entry.capabilities.has(Capabilities::LOGGING) {
        said(turn, backend, entry, "logging/setLevel", ("level", level.name())).await;
    }
}

/// Tells `backend` that changes of a resource are wanted; returns whether it has agreed.
pub(super) async fn subscribed(turn: &Turn, backend: &Backend, entry: &Entry, uri: &str) -> bool {
    said(turn, backend, entry, "resources/subscribe", ("uri", uri)).await
}

async fn said(
    turn: &Turn,
    backend: &Backend,
    entry: &Entry,
    method: &str,
    (key, value): (&str, &str),
) -> bool {
    let mut params = Object::default();
    params.set(key, json::raw(value));
    let request = own_request(method, Some(params.to_raw()));
    let caller = turn.caller(backend);
    let taken = timeout(
        NOTE_TIMEOUT,
        answered(&caller, Some(entry), request, NOTE_TIMEOUT),
    )
    .await;
    let reason = match taken {
        Ok(Ok(_)) => return true,
        Ok(Err(failure)) => failure.reason,
        Err(_) => "it did not answer in time".to_owned(),
    };
    tracing::debug!(backend = %backend.name, method, reason, "a backend did not take what it was told");
    false
}
