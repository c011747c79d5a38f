//! What a backend says while it serves a request or streams, in the client's words.

use config::mcp_route::Backend;
use mcp::{
    Level, List, Message, Notification, Request, Response,
    json::{self, Object},
    method,
};
use serde_json::value::RawValue;

use super::{
    inband,
    turn::{Own, Turn},
};
use crate::telemetry::tools::Ended;

/// What a message of a backend means.
pub(super) enum Heard {
    /// The client is told.
    Tell(Message),
    /// The client is asked, which has no session in which it could be.
    Asks(Request),
    /// It was for the gateway, which has answered.
    Settled,
    /// It is an answer.
    Answer(Response),
}

/// Takes a message of `backend`, and counts what the client is told of it.
pub(super) async fn hear(turn: &Turn, backend: &Backend, message: Message) -> Heard {
    let heard = take(turn, backend, message).await;
    if let Heard::Tell(
        Message::Request(Request { method, .. }) | Message::Notification(Notification { method, .. }),
    ) = &heard
    {
        let metrics = turn.metrics();
        metrics.request(method, Some(&backend.name), Ended::Success, None);
    }
    heard
}

async fn take(turn: &Turn, backend: &Backend, message: Message) -> Heard {
    match message {
        Message::Response(response) => Heard::Answer(response),
        Message::Request(request) if request.method == "ping" => {
            // Whoever asks whether we are there does not mean the client.
            let pong = request.answer(json::empty());
            if let Err(failure) = turn.tell(backend, &pong).await {
                tracing::debug!(backend = %backend.name, reason = %failure.reason, "a ping was not answered");
            }
            Heard::Settled
        }
        Message::Request(request) if turn.is_modern() => Heard::Asks(request),
        Message::Request(request) if !turn.hears => {
            // The client takes no stream, so that it cannot be asked, and the backend would wait for ever.
            inband::decline(turn, backend, &request).await;
            Heard::Settled
        }
        Message::Request(mut request) => {
            request.id = turn.ticket(&backend.name, request.id.raw());
            if let Some(params) = &request.params {
                let own = Object::parse(params).and_then(|_| turn.naming(backend).sampling(params));
                let own = own.unwrap_or_else(|| params.clone());
                request.params = Some(with_ticket(turn, backend, &own).unwrap_or(own));
            }
            Heard::Tell(Message::Request(request))
        }
        Message::Notification(mut notification) => {
            if let Some(params) = &notification.params {
                let changed = match notification.method.as_str() {
                    method::UPDATED => turn.naming(backend).updated(params),
                    method::CANCELLED => cancelled(turn, backend, params),
                    _ => None,
                };
                notification.params = changed.or(notification.params);
            }
            if notification.method == method::PROGRESS {
                turn.metrics().progressed();
            }
            let changed = List::changed_by(&notification.method);
            if !changed.is_empty() {
                let sessions = &turn.runtime.sessions;
                sessions.index.forget(&turn.route.id, &backend.name, changed);
                sessions.cache.forget(&turn.route.id, &backend.name, changed);
            }
            match &turn.own {
                Some(own) => for_one_request(own, notification),
                None => Heard::Tell(Message::Notification(notification)),
            }
        }
    }
}

/// Returns what a client without a session is told, which is what it asked for with the request.
fn for_one_request(own: &Own, mut notification: Notification) -> Heard {
    let params = notification.params.as_deref().and_then(Object::parse);
    match notification.method.as_str() {
        method::CANCELLED => return Heard::Settled,
        method::MESSAGE => {
            let level = params.as_ref().and_then(|params| params.text("level"));
            let level = level
                .and_then(|level| Level::parse(&level))
                .unwrap_or(Level::Emergency);
            if own.level.is_none_or(|least| level < least) {
                return Heard::Settled;
            }
        }
        method::PROGRESS => {
            let (Some(mut params), Some(token)) = (params, &own.progress) else {
                return Heard::Settled;
            };
            params.set("progressToken", token.clone());
            notification.params = Some(params.to_raw());
        }
        _ => {}
    }
    Heard::Tell(Message::Notification(notification))
}

/// Returns parameters whose progress token, if there is one, is a ticket.
fn with_ticket(turn: &Turn, backend: &Backend, params: &RawValue) -> Option<Box<RawValue>> {
    let mut params = Object::parse(params)?;
    params.object("_meta")?.get("progressToken")?;
    params.edit("_meta", |meta| {
        let mut meta = Object::parse(meta)?;
        meta.edit("progressToken", |token| {
            Some(turn.ticket(&backend.name, token).raw().to_owned())
        });
        Some(meta.to_raw())
    });
    Some(params.to_raw())
}

/// A backend no longer wants what it asked the client: the client knows it by its ticket.
fn cancelled(turn: &Turn, backend: &Backend, params: &RawValue) -> Option<Box<RawValue>> {
    let mut params = Object::parse(params)?;
    params.edit("requestId", |id| {
        Some(turn.ticket(&backend.name, id).raw().to_owned())
    });
    Some(params.to_raw())
}
