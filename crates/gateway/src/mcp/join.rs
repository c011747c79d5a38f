//! Backends that a session was opened without, because they were away or are new since a reload: they join it when
//! they are first needed. The session's token stays, so what was opened is remembered here.

use config::mcp_route::Backend;

use super::{call::Failure, line, restore, turn::Turn};
use crate::gather::gather;

/// Lets every backend join that the session lacks; returns why those do not that cannot.
pub(super) async fn all(turn: &Turn) -> Vec<Failure> {
    let joined = gather(turn.route.backends.iter().map(|backend| one(turn, backend))).await;
    joined.into_iter().filter_map(Result::err).collect()
}

/// Lets a backend join if the session lacks it, and it was not away just now.
///
/// # Errors
/// Why it cannot.
pub(super) async fn one(turn: &Turn, backend: &Backend) -> Result<(), Failure> {
    let sessions = &turn.runtime.sessions;
    if turn.is_modern() || turn.entry(&backend.name).is_some() || !turn.selects(backend) {
        return Ok(());
    }
    // A request and the session's stream may need it at once.
    let joining = sessions.joining(turn.fingerprint, &backend.name);
    let _joining = joining.lock().await;
    if turn.entry(&backend.name).is_some() {
        return Ok(());
    }
    if let Some(failure) = sessions.why_away(&turn.fingerprint, &backend.name) {
        return Err(failure);
    }
    match line::open(turn, backend, backend.open_timeout).await {
        Ok(opened) => {
            tracing::info!(backend = %backend.name, "a backend joined a session");
            restore::all(turn, backend, &opened.entry).await;
            sessions.heal(turn.fingerprint, opened.entry);
            Ok(())
        }
        Err(failure) => {
            tracing::debug!(backend = %backend.name, reason = %failure.reason, "a backend did not join a session");
            sessions.away(turn.fingerprint, &failure);
            Err(failure)
        }
    }
}
