//! What one backend is asked, and what it answers, in the client's words.

use std::time::Duration;

use config::mcp_route::Backend;
use http::StatusCode;
use mcp::{
    Message, Method, Request, RpcError, error, input,
    json::{self, Object},
    method::{Named, Resource},
};
use serde_json::{json, value::RawValue};
use tokio::time::Instant;

use super::{
    answering::{Answering, Followed},
    call::{Ask, Failure, Fault, Reply, is_modern},
    inband::{self, Held},
    join,
    meant::{self, Asked},
    outlet::{Outlet, Said},
    refused::Refused,
    repeat,
    sessions::Open,
    turn::{Turn, malformed},
};

/// Asks the one backend that is meant.
pub(super) async fn serve(
    turn: &Turn,
    outlet: &Outlet,
    method: Method,
    request: &Request,
) -> Result<Said, Box<Refused>> {
    let asked = meant::find(turn, method, request).await?;
    let backend = asked.backend;
    turn.permit(
        &request.method,
        backend,
        asked.what.borrowed(),
        request.params.as_deref(),
    )?;
    let joined = join::one(turn, backend).await;
    let Some(entry) = turn.entry(&backend.name) else {
        return Err(not_of_the_session(backend, joined.err()));
    };
    if turn.is_modern() {
        check(turn, method, &asked).await?;
    }
    let answer = Answering {
        turn,
        outlet,
        backend,
        method: &request.method,
        request: Some(request),
        limit: backend.call_timeout(asked.what.tool()),
    };
    if turn.is_modern() {
        return once(&answer, request, asked.params).await;
    }
    let open = Open::new(&turn.runtime, turn.fingerprint, &request.id, &backend.name);
    if !is_modern(Some(&entry)) {
        return tokio::select! {
            said = once(&answer, request, asked.params) => said,
            () = given_up(&open) => Err(cancelled()),
        };
    }
    if let Method::Resource(resource @ (Resource::Subscribe | Resource::Unsubscribe)) = method {
        // Whoever serves its stream asks the backend for it.
        let upstream = Request {
            params: Some(asked.params),
            ..request.clone()
        };
        wanted(turn, backend, &upstream, resource);
        return Ok(Said::message(request.answer(json::empty()).to_raw()));
    }
    tokio::select! {
        said = rounds(&answer, request, asked.params) => said,
        // Servers without sessions see by the end of the connection that nobody waits any more.
        () = open.cancelled() => Err(cancelled()),
    }
}

/// Waits until a server with sessions has had the time to answer a request that its client has cancelled. Most never do, as
/// they should (revision 2025-11-25, "Cancellation"), and leave the stream as it is.
async fn given_up(open: &Open) {
    open.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// How long a server may go on with a request that was cancelled.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn cancelled() -> Box<Refused> {
    let error = RpcError::new(error::SERVER, "the request was cancelled");
    Refused::new(StatusCode::OK, error)
}

/// Goes on with a request whose client has answered what it was asked.
pub(super) async fn go_on(
    turn: &mut Turn,
    outlet: &Outlet,
    request: &Request,
    held: Held,
) -> Result<Said, Box<Refused>> {
    turn.session.backends.push(held.entry.clone());
    let turn = &*turn;
    let backend = turn.route.backend(&held.entry.backend).ok_or_else(malformed)?;
    let answer = Answering {
        turn,
        outlet,
        backend,
        method: &request.method,
        request: Some(request),
        limit: held.limit,
    };
    let (events, asked) = inband::answer(turn, backend, request, held)
        .await
        .map_err(|failure| turn.failed(failure))?;
    match asked {
        Some(asked) => answer.asks(asked, events),
        None => {
            let until = Instant::now() + answer.limit;
            let concluded = answer.conclude(Reply::Events(events, None), until).await;
            concluded
                .map_err(|failure| turn.failed(failure))?
                .said(&answer, request)
        }
    }
}

/// Returns the refusal of a call to a backend that the session was opened without, and cannot be joined by now.
fn not_of_the_session(backend: &Backend, failure: Option<Failure>) -> Box<Refused> {
    let mut data = json!({ "backend": &*backend.name });
    if let Some(failure) = failure {
        data["reason"] = json!(failure.word());
    }
    let message = format!("no MCP session found for backend {}", backend.name);
    let error = RpcError::invalid_params(message.as_str()).with_data(data);
    Refused::new(StatusCode::OK, error).plainly(StatusCode::FORBIDDEN, message)
}

/// Refuses what a client without a session may not send to this backend.
async fn check(turn: &Turn, method: Method, asked: &Asked<'_>) -> Result<(), Box<Refused>> {
    let meant = turn.own.as_ref().and_then(|own| own.meant.as_deref());
    if meant.is_some_and(|meant| meant != &*asked.backend.name) {
        return Err(Refused::params("invalid requestState"));
    }
    let params = Object::parse(&asked.params).unwrap_or_default();
    match params.text("name") {
        // Not every server does this for itself.
        Some(own) if method == Method::Named(Named::Tool) => {
            repeat::check(turn, asked.backend, &own, &asked.params).await
        }
        Some(_) | None => Ok(()),
    }
}

/// Asks once.
async fn once(
    answer: &Answering<'_>,
    request: &Request,
    params: Box<RawValue>,
) -> Result<Said, Box<Refused>> {
    let upstream = Message::Request(Request {
        id: request.id.clone(),
        method: request.method.clone(),
        params: Some(params),
    });
    let followed = asked(answer, &upstream).await?;
    if let (true, Some(Method::Resource(resource)), Message::Request(upstream)) =
        (followed.is_result(), Method::find(answer.method), &upstream)
    {
        wanted(answer.turn, answer.backend, upstream, resource);
    }
    followed.said(answer, request)
}

/// Returns what came of asking the backend this, within its time.
async fn asked(answer: &Answering<'_>, upstream: &Message) -> Result<Followed, Box<Refused>> {
    let (turn, backend) = (answer.turn, answer.backend);
    let began = Instant::now();
    let until = began + answer.limit;
    let followed = match turn.ask(backend, Ask::Post(upstream), answer.limit).await {
        Ok(reply) => answer.conclude(reply, until).await,
        Err(failure) => Err(failure),
    };
    turn.count_asked(answer.method, backend, &followed, began.elapsed());
    followed.map_err(|failure| turn.failed(failure))
}

/// Asks a backend without sessions for a client with one, and again for as long as it asks back.
async fn rounds(
    answer: &Answering<'_>,
    request: &Request,
    mut params: Box<RawValue>,
) -> Result<Said, Box<Refused>> {
    let (turn, backend) = (answer.turn, answer.backend);
    for round in 0..MAX_ROUNDS {
        let upstream = Message::Request(Request {
            params: Some(params.clone()),
            ..request.clone()
        });
        let concluded = asked(answer, &upstream).await?;
        let Some(inputs) = concluded.asks_back() else {
            return concluded.said(answer, request);
        };
        let state = inputs.state.clone();
        let responses = if inputs.requests.is_empty() {
            // It only wants to be asked again.
            tokio::time::sleep(AGAIN * (round + 1)).await;
            Object::default()
        } else {
            let inputs = inputs.named(&turn.naming(backend));
            inband::ask(turn, answer.outlet, backend, &inputs).await?
        };
        params = input::retried(&params, &responses, state.as_deref()).ok_or_else(malformed)?;
    }
    let failure = Failure::new(&backend.name, Fault::BadReply, "it asks for ever");
    Err(turn.failed(failure))
}

/// How often a backend may ask back.
const MAX_ROUNDS: u32 = 16;

/// How long to wait, the longer the more often, before a backend is asked again that wanted to know nothing.
const AGAIN: Duration = Duration::from_millis(50);

/// Takes note of what a client with a session wants to be told by `backend`, which it asks for like this.
fn wanted(turn: &Turn, backend: &Backend, upstream: &Request, resource: Resource) {
    let params = upstream.object().unwrap_or_default();
    let is_wanted = match resource {
        Resource::Read => return,
        Resource::Subscribe => true,
        Resource::Unsubscribe => false,
    };
    if let Some(own) = params.text("uri") {
        let sessions = &turn.runtime.sessions;
        sessions.subscribe(turn.fingerprint, &backend.name, &own, is_wanted);
    }
}
