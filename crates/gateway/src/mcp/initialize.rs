//! Opening a session: with every backend at once, as one session for the client.

use std::sync::Arc;

use config::mcp_route::{Backend, Route};
use http::HeaderValue;
use mcp::{
    Request, RpcError, Session, Version, error,
    json::{self, Object},
    merge::{self, Initialized},
    session::{Client, Entry},
};
use serde_json::value::RawValue;

use super::{
    account::word,
    call::{Fault, SESSION},
    errand, front, line,
    outlet::Said,
    permit::denied,
    refused::Refused,
    sessions::{fingerprint, now},
    turn::Turn,
};
use crate::gather::gather;

/// A session with one backend.
pub(super) struct Opened {
    pub(super) entry: Entry,
    /// Its result.
    pub(super) result: Box<RawValue>,
}

/// Opens a session for a client.
pub(super) async fn serve(turn: &Turn, request: &Request) -> Result<Said, Box<Refused>> {
    turn.admits(request)?;
    let invalid = || Refused::params("invalid initialize params");
    let params = request.object().ok_or_else(invalid)?;
    let asked = params.text("protocolVersion").ok_or_else(invalid)?;
    let member = |key: &str, default: &str| {
        let own = params.get(key).filter(|own| Object::parse(own).is_some());
        own.map_or_else(|| default.to_owned(), |own| own.get().to_owned())
    };
    let unsaid = Client::default();
    let client = Client {
        capabilities: member("capabilities", &unsaid.capabilities),
        info: member("clientInfo", &unsaid.info),
    };
    let mut turn = turn.clone();
    turn.session.client = client.clone();
    turn.opening = params.get("_meta").map(|meta| Arc::from(meta.to_owned()));
    let turn = &turn;
    let chosen: Vec<&Backend> = turn
        .route
        .backends
        .iter()
        .filter(|backend| turn.selects(backend))
        .collect();
    if chosen.is_empty() {
        return Err(denied());
    }
    let calls = chosen
        .iter()
        .map(|backend| line::open(turn, backend, backend.open_timeout));
    let answers = gather(calls).await;
    let mut failures = Vec::new();
    let mut opened: Vec<(&Backend, Opened)> = Vec::new();
    for (backend, answer) in chosen.into_iter().zip(answers) {
        match answer {
            Ok(answer) => opened.push((backend, answer)),
            Err(failure) => {
                tracing::warn!(backend = %backend.name, reason = %failure.reason, "a session lacks a backend");
                failures.push(failure);
            }
        }
    }
    if opened.is_empty() || (turn.route.closed && !failures.is_empty()) {
        for (backend, opened) in &opened {
            errand::end(turn, backend, &opened.entry);
        }
        return Err(turn.none_opened(&failures));
    }
    let mut version = Version::negotiate(&asked);
    if let [(_, only)] = opened.as_slice()
        && let Some(own) = only.entry.version
    {
        version = version.min(own).max(Version::V2025_03_26);
    }
    let session = Session {
        route: turn.route.sealed.to_string(),
        owner: turn.session.owner.clone(),
        expires: Some(now() + turn.route.session_ttl.as_secs()),
        version,
        client,
        backends: opened.iter().map(|(_, opened)| opened.entry.clone()).collect(),
    };
    turn.count_client(&session);
    let token = sealed(turn, &session).await;
    turn.account.note(|account| {
        account.session = Some(word(&fingerprint(&token)));
        account.version = version.name();
    });
    // One that has said nothing is not waited for again by the first list.
    for failure in failures.iter().filter(|failure| failure.fault == Fault::Timeout) {
        turn.runtime.sessions.away(fingerprint(&token), failure);
    }
    let token = HeaderValue::try_from(token);
    let token = token.map_err(|_| RpcError::new(error::INTERNAL, "the session's token cannot be sent"))?;
    let mut said = Said::message(request.answer(result(&turn.route, version, &opened)).to_raw());
    said.headers.insert(SESSION, token);
    Ok(said)
}

/// Returns what the client carries of a session: its token, or the name of one that is too long.
async fn sealed(turn: &Turn, session: &Session) -> String {
    let sessions = &turn.runtime.sessions;
    let tokens = sessions.tokens();
    let mut token = tokens.seal(session, sessions.draw());
    if token.len() > turn.route.max_token {
        tracing::debug!(bytes = token.len(), "a session's token is too long to be carried");
        token = sessions.keep(token, session.expires).await;
    }
    let metrics = &turn.runtime.metrics.tools;
    metrics.derived(tokens.derivations());
    metrics.recent.used(fingerprint(&token));
    token
}

fn result(route: &Route, version: Version, opened: &[(&Backend, Opened)]) -> Box<RawValue> {
    let answers: Vec<Initialized<'_>> = opened
        .iter()
        .map(|(backend, opened)| Initialized {
            backend: &backend.name,
            result: &opened.result,
        })
        .collect();
    let mut result = Object::default();
    result.set("protocolVersion", json::raw(version.name()));
    result.set("capabilities", merge::capabilities(&answers));
    result.set("serverInfo", server(route, opened));
    if let Some(instructions) = merge::instructions(&answers) {
        result.set("instructions", json::raw(&instructions));
    }
    result.to_raw()
}

/// Returns what the client is told that it speaks with: the only server itself, where nothing of it has another name.
fn server(route: &Route, opened: &[(&Backend, Opened)]) -> Box<RawValue> {
    let own = match (opened, route.backends.as_slice()) {
        ([(_, only)], [_]) if !route.prefixes() && route.server.is_none() => {
            Object::parse(&only.result).and_then(|result| result.get("serverInfo").map(RawValue::to_owned))
        }
        _ => None,
    };
    own.unwrap_or_else(|| front::server(route))
}
