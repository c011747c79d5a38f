//! Opening a session: with every backend at once, as one session for the client.

use std::time::Duration;

use config::mcp_route::Backend;
use http::{HeaderValue, StatusCode, header};
use mcp::{
    Request, RpcError, Session, Version, error,
    json::{self, Object},
    merge::{self, Initialized},
    session::{Client, Entry},
};
use serde_json::{json, value::RawValue};
use tokio::time::Instant;

use super::{
    account::word,
    call::{Failure, Fault, SESSION},
    gather::gather,
    line,
    outlet::Said,
    permit::denied,
    refused::Refused,
    sessions::{fingerprint, now},
    turn::Turn,
};

/// A session with one backend.
pub(super) struct Opened {
    pub(super) entry: Entry,
    /// Its result.
    pub(super) result: Box<RawValue>,
}

/// How long a backend may take; those that take longer are left out.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a session for a client.
pub(super) async fn serve(turn: &Turn, request: &Request) -> Result<Said, Box<Refused>> {
    let invalid = || RpcError::invalid_params("invalid initialize params");
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
    let calls = chosen.iter().map(|backend| async move {
        let began = Instant::now();
        let opened = line::open(turn, backend, TIMEOUT.min(backend.list_timeout)).await;
        turn.count_opened(backend, &opened, began.elapsed());
        opened
    });
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
        return Err(none_opened(failures));
    }
    let mut version = Version::negotiate(&asked);
    if let [(_, only)] = opened.as_slice()
        && let Some(own) = only.entry.version
    {
        version = version.min(own).max(Version::V2025_03_26);
    }
    let session = Session {
        route: turn.route.id.to_string(),
        owner: turn.session.owner.clone(),
        expires: Some(now() + turn.route.session_ttl.as_secs()),
        version,
        client,
        backends: opened.iter().map(|(_, opened)| opened.entry.clone()).collect(),
    };
    turn.count_client(&session);
    let sessions = &turn.runtime.sessions;
    let token = sessions.tokens().seal(&session, sessions.draw());
    turn.account.note(|account| {
        account.session = Some(word(&fingerprint(&token)));
        account.version = version.name();
    });
    let token = HeaderValue::try_from(token);
    let token = token.map_err(|_| RpcError::new(error::INTERNAL, "the session's token cannot be sent"))?;
    let mut said = Said::message(request.answer(result(version, &opened)).to_raw());
    said.headers.insert(SESSION, token);
    Ok(said)
}

fn result(version: Version, opened: &[(&Backend, Opened)]) -> Box<RawValue> {
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
    let info = json!({ "name": "tollgate", "version": env!("CARGO_PKG_VERSION") });
    result.set("serverInfo", json::raw(&info));
    if let Some(instructions) = merge::instructions(&answers) {
        result.set("instructions", json::raw(&instructions));
    }
    result.to_raw()
}

/// Returns the refusal where no backend, or not every one that is needed, opened a session. The demands of the
/// only backend are the client's business.
pub(super) fn none_opened(failures: Vec<Failure>) -> Box<Refused> {
    let reasons: Vec<_> = failures
        .iter()
        .map(|failure| json!({ "backend": &*failure.backend, "reason": failure.reason }))
        .collect();
    let error =
        RpcError::new(error::SERVER, "no session could be opened").with_data(json!({ "backends": reasons }));
    if let [
        Failure {
            fault: Fault::Status(StatusCode::UNAUTHORIZED),
            challenge: Some(challenge),
            ..
        },
    ] = failures.as_slice()
    {
        let mut refused = Refused::new(StatusCode::UNAUTHORIZED, error);
        refused
            .headers
            .insert(header::WWW_AUTHENTICATE, challenge.clone());
        return refused;
    }
    Refused::new(StatusCode::BAD_GATEWAY, error)
}
