//! Backends that a session was opened without, because they were away or are new since a reload: they join it when
//! they are first needed. The session's token stays, so what was opened is remembered here.

use config::mcp_route::Backend;

use super::{gather::gather, initialize::TIMEOUT, line, turn::Turn};

/// Lets every backend join that the session lacks.
pub(super) async fn all(turn: &Turn) {
    gather(turn.route.backends.iter().map(|backend| one(turn, backend))).await;
}

/// Lets a backend join if the session lacks it, and it was not away just now.
pub(super) async fn one(turn: &Turn, backend: &Backend) {
    let sessions = &turn.runtime.sessions;
    if turn.is_modern() || turn.entry(&backend.name).is_some() || !turn.selects(backend) {
        return;
    }
    if sessions.is_away(&turn.fingerprint, &backend.name) {
        return;
    }
    match line::open(turn, backend, TIMEOUT.min(backend.list_timeout)).await {
        Ok(opened) => {
            tracing::info!(backend = %backend.name, "a backend joined a session");
            sessions.heal(turn.fingerprint, opened.entry);
        }
        Err(failure) => {
            tracing::debug!(backend = %backend.name, reason = %failure.reason, "a backend did not join a session");
            sessions.away(turn.fingerprint, &backend.name);
        }
    }
}
