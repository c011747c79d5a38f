//! What a client says without wanting an answer: notifications, and its answers to what backends asked.

use http::StatusCode;
use mcp::{
    Capabilities, Id, Message, Notification, Response, RpcError,
    json::{self, Object},
    method,
};
use tokio::time::Instant;

use super::{call::is_modern, listen::PING, refused::Refused, turn::Turn};
use crate::gather::gather;
use crate::telemetry::tools::Ended;

/// What ids of notices begin with that the compatibility specification's gateway sends as requests.
const CHANGED: &str = "aigw-server-to-client-tools-changed";

/// Takes a notification of the client, and counts it.
pub(super) async fn notified(turn: &Turn, notification: Notification) -> Result<(), Box<Refused>> {
    // Every backend was told when its session was opened, and that was counted.
    if notification.method == method::INITIALIZED {
        return Ok(());
    }
    let began = Instant::now();
    let method = notification.method.clone();
    let taken = take(turn, notification).await;
    let ended = taken
        .as_ref()
        .map_or_else(|refused| Ended::Error(refused.error.code), |()| Ended::Success);
    turn.metrics()
        .request(&method, None, ended, Some(began.elapsed()));
    taken
}

async fn take(turn: &Turn, notification: Notification) -> Result<(), Box<Refused>> {
    match notification.method.as_str() {
        method::CANCELLED => {
            cancelled(turn, notification).await;
            Ok(())
        }
        method::PROGRESS => progressed(turn, notification).await,
        // What is asked without an id could be done all the same, past everything that decides about it.
        method if !method.starts_with(method::NOTIFICATION) => {
            let error = RpcError::invalid_request("a request has an \"id\"");
            Err(Refused::bad(error))
        }
        _ => {
            tell_all(turn, &Message::Notification(notification)).await;
            Ok(())
        }
    }
}

/// Takes the client's answer to what a backend asked.
pub(super) async fn answered(turn: &Turn, response: Response) -> Result<(), Box<Refused>> {
    let began = Instant::now();
    let invalid = || {
        turn.metrics().unasked(began.elapsed());
        let error = RpcError::invalid_request("the id is of no request that was sent here");
        Refused::bad(error).plainly(StatusCode::BAD_REQUEST, "invalid response ID format")
    };
    let id = response.id.as_ref().ok_or_else(invalid)?;
    let ticket = json::text(id.raw()).ok_or_else(invalid)?;
    if ticket.starts_with(PING) || ticket.starts_with(CHANGED) {
        return Ok(());
    }
    let (backend, entry, own) = turn.redeem(&ticket).ok_or_else(invalid)?;
    if is_modern(Some(&entry)) {
        // It was asked on behalf of a backend that has given its question as a result.
        let name = json::text(&own).ok_or_else(invalid)?.into_owned();
        let waits = &turn.runtime.sessions.waits;
        let waited = waits.answered(turn.fingerprint, name, response.outcome);
        return if waited { Ok(()) } else { Err(invalid()) };
    }
    let answer = Message::Response(Response {
        id: Id::parse(&own),
        outcome: response.outcome,
    });
    turn.tell_in(backend, &entry, &answer).await.map_err(|failure| {
        let mut refused = Box::<Refused>::from(failure);
        refused.status = StatusCode::BAD_GATEWAY;
        refused
    })
}

/// Backends know the request by the client's own id. One that is not served here may be by another replica.
async fn cancelled(turn: &Turn, notification: Notification) {
    let id = notification.params.as_ref().and_then(|params| {
        let params = Object::parse(params)?;
        Id::parse(params.get("requestId")?)
    });
    let Some(id) = id else { return };
    turn.runtime.sessions.cancel(&turn.fingerprint, &id);
    let serving = turn.runtime.sessions.serving(&turn.fingerprint, &id);
    let message = Message::Notification(notification);
    if serving.is_empty() {
        tell_all(turn, &message).await;
        return;
    }
    let backends = serving.iter().filter_map(|backend| turn.route.backend(backend));
    gather(backends.map(|backend| turn.tell(backend, &message))).await;
}

/// The token was made here, for one backend.
async fn progressed(turn: &Turn, mut notification: Notification) -> Result<(), Box<Refused>> {
    turn.metrics().progressed();
    let invalid = || Refused::bad(RpcError::invalid_params("invalid progressToken"));
    let params = notification.params.take().ok_or_else(invalid)?;
    let mut params = Object::parse(&params).ok_or_else(invalid)?;
    let ticket = params.text("progressToken").ok_or_else(invalid)?.into_owned();
    let (backend, entry, own) = turn.redeem(&ticket).ok_or_else(invalid)?;
    params.set("progressToken", own);
    notification.params = Some(params.to_raw());
    let progress = Message::Notification(notification);
    if let Err(failure) = turn.tell_in(backend, &entry, &progress).await {
        tracing::debug!(backend = %failure.backend, reason = %failure.reason, "progress was not taken");
    }
    Ok(())
}

async fn tell_all(turn: &Turn, message: &Message) {
    let backends = turn.able(Capabilities::NONE);
    let told = gather(backends.iter().map(|(backend, _)| turn.tell(backend, message))).await;
    for failure in told.into_iter().filter_map(Result::err) {
        tracing::debug!(backend = %failure.backend, reason = %failure.reason, "a notification was not taken");
    }
}
