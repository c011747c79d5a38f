//! Opening a session: with every backend at once, as one session for the client.

use std::time::Duration;

use config::mcp_route::Backend;
use http::{HeaderValue, StatusCode, header};
use mcp::{
    Capabilities, Message, Outcome, Request, RpcError, Session, Version, error,
    json::{self, Object},
    merge::{self, Initialized},
    method,
    session::{Client, Entry, Owner},
};
use serde_json::{json, value::RawValue};

use super::{
    call::{Ask, Caller, Failure, Fault, Reply, SESSION},
    gather::gather,
    outlet::Said,
    refused::Refused,
    sessions::now,
    turn::{NOTE_TIMEOUT, Turn, own_notification, own_request},
};

/// A session with one backend.
pub(super) struct Opened {
    pub(super) entry: Entry,
    /// Its result.
    pub(super) result: Box<RawValue>,
}

/// How long a backend may take; those that take longer are left out.
const TIMEOUT: Duration = Duration::from_secs(10);

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
    let calls = turn.route.backends.iter().map(|backend| {
        let (turn, client) = (turn, &client);
        async move { open(&turn.caller(backend), client, TIMEOUT.min(backend.list_timeout)).await }
    });
    let answers = gather(calls).await;
    let mut failures = Vec::new();
    let mut opened: Vec<(&Backend, Opened)> = Vec::new();
    for (backend, answer) in turn.route.backends.iter().zip(answers) {
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
        owner: Owner::Anyone,
        expires: Some(now() + turn.route.session_ttl.as_secs()),
        version,
        client,
        backends: opened.iter().map(|(_, opened)| opened.entry.clone()).collect(),
    };
    let sessions = &turn.runtime.sessions;
    let token = sessions.tokens.seal(&session, sessions.draw());
    let token = HeaderValue::try_from(token);
    let token = token.map_err(|_| RpcError::new(error::INTERNAL, "the session's token cannot be sent"))?;
    let mut said = Said::message(request.answer(result(version, &opened)).to_raw());
    said.headers.insert(SESSION, token);
    Ok(said)
}

/// Opens a session with one backend, for a client that says this about itself.
pub(super) async fn open(caller: &Caller<'_>, client: &Client, limit: Duration) -> Result<Opened, Failure> {
    let fail = |reason: String| Failure::new(&caller.backend.name, Fault::BadReply, reason);
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap_or_else(|_| json::empty());
    let mut params = Object::default();
    // The newest that we speak, whatever the client does; features are the client's, so that no backend asks for
    // what the client cannot do.
    params.set("protocolVersion", json::raw(Version::NEWEST_LEGACY.name()));
    params.set("capabilities", raw(&client.capabilities));
    params.set("clientInfo", raw(&client.info));
    let request = own_request("tollgate-initialize", "initialize", Some(params.to_raw()));
    let message = Message::Request(request);
    let reply = caller.ask(None, Ask::Post(&message), limit).await?;
    let (answer, session) = match reply {
        Reply::Message(message, session) => (Some(message), session),
        Reply::Events(mut events, session) => {
            let found = async {
                while let Some(arrived) = events.next().await? {
                    if let Some(message @ Message::Response(_)) = arrived.message {
                        return Ok(Some(message));
                    }
                }
                Ok(None)
            };
            let found = tokio::time::timeout(limit, found).await;
            let late = |_| {
                Failure::new(
                    &caller.backend.name,
                    Fault::Timeout,
                    "no answer to initialize in time",
                )
            };
            (found.map_err(late)??, session)
        }
        Reply::Nothing => (None, None),
    };
    let Some(Message::Response(response)) = answer else {
        return Err(fail("it did not answer initialize".to_owned()));
    };
    let result = match response.outcome {
        Outcome::Result(result) => result,
        Outcome::Error(error) => {
            let message =
                Object::parse(&error).and_then(|error| error.text("message").map(|text| text.into_owned()));
            return Err(fail(format!("it refused: {}", message.unwrap_or_default())));
        }
    };
    let object = Object::parse(&result).ok_or_else(|| fail("its answer to initialize is none".to_owned()))?;
    let entry = Entry {
        backend: caller.backend.name.to_string(),
        session: session.unwrap_or_default(),
        capabilities: Capabilities::read(object.get("capabilities")),
        version: object
            .text("protocolVersion")
            .and_then(|own| Version::parse(&own)),
    };
    let initialized = own_notification(method::INITIALIZED);
    caller
        .ask(Some(&entry), Ask::Post(&initialized), limit.min(NOTE_TIMEOUT))
        .await?;
    Ok(Opened { entry, result })
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
fn none_opened(failures: Vec<Failure>) -> Box<Refused> {
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
