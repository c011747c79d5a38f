//! What one backend is asked: found by a name or a URI, asked in its own words, answered in the client's.

use std::{sync::Arc, time::Duration};

use config::mcp_route::Backend;
use http::StatusCode;
use mcp::{
    List, Message, Method, Request, RpcError, error, input,
    json::{self, Object},
    method::{Named, Resource},
    name,
};
use policy::tools::What;
use serde_json::{json, value::RawValue};
use tokio::time::Instant;

use super::{
    answering::{Answering, Followed},
    call::{Ask, Failure, Fault, Reply, is_modern},
    inband::{self, Held},
    join, lists,
    outlet::{Outlet, Said},
    refused::Refused,
    repeat,
    sessions::Open,
    turn::{Turn, malformed},
};

/// A backend, and the parameters in its words.
struct Asked<'a> {
    backend: &'a Backend,
    what: Meant,
    params: Box<RawValue>,
}

/// What is asked for, in the backend's words.
enum Meant {
    Tool(String),
    Prompt(String),
    Resource(String),
}

impl Meant {
    fn named(named: Named, own: String) -> Self {
        match named {
            Named::Tool => Meant::Tool(own),
            Named::Prompt => Meant::Prompt(own),
        }
    }

    fn borrowed(&self) -> What<'_> {
        match self {
            Meant::Tool(own) => What::Tool(own),
            Meant::Prompt(own) => What::Prompt(own),
            Meant::Resource(own) => What::Resource(own),
        }
    }
}

/// Asks the one backend that is meant.
pub(super) async fn serve(
    turn: &Turn,
    outlet: &Outlet,
    method: Method,
    request: &Request,
) -> Result<Said, Box<Refused>> {
    let asked = find(turn, method, request).await?;
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
    };
    if !is_modern(Some(&entry)) {
        let _open = turn.opening(&request.id, backend);
        return once(&answer, request, asked.params).await;
    }
    if turn.is_modern() {
        return once(&answer, request, asked.params).await;
    }
    if let Method::Resource(resource @ (Resource::Subscribe | Resource::Unsubscribe)) = method {
        return Ok(subscribed(turn, request, &asked, resource));
    }
    let open = Open::new(&turn.runtime, turn.fingerprint, &request.id, &backend.name);
    tokio::select! {
        said = rounds(&answer, request, asked.params) => said,
        // Servers without sessions see by the end of the connection that nobody waits any more.
        () = open.cancelled() => {
            let error = RpcError::new(error::SERVER, "the request was cancelled");
            Err(Refused::new(StatusCode::OK, error))
        }
    }
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
    };
    let (events, asked) = inband::answer(turn, backend, request, held)
        .await
        .map_err(|failure| turn.failed(failure))?;
    match asked {
        Some(asked) => answer.asks(asked, events),
        None => {
            let until = Instant::now() + backend.call_timeout;
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
    Refused::new(StatusCode::OK, RpcError::invalid_params(message).with_data(data))
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
        params: Some(params),
        ..request.clone()
    });
    asked(answer, &upstream).await?.said(answer, request)
}

/// Returns what came of asking the backend this, within its time.
async fn asked(answer: &Answering<'_>, upstream: &Message) -> Result<Followed, Box<Refused>> {
    let (turn, backend) = (answer.turn, answer.backend);
    let until = Instant::now() + backend.call_timeout;
    let followed = match turn.ask(backend, Ask::Post(upstream), backend.call_timeout).await {
        Ok(reply) => answer.conclude(reply, until).await,
        Err(failure) => Err(failure),
    };
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

/// Takes note of what a client with a session wants to be told; whoever serves its stream asks the backend for it.
fn subscribed(turn: &Turn, request: &Request, asked: &Asked<'_>, resource: Resource) -> Said {
    let params = Object::parse(&asked.params).unwrap_or_default();
    if let Some(own) = params.text("uri") {
        let wanted = resource == Resource::Subscribe;
        let sessions = &turn.runtime.sessions;
        sessions.subscribe(turn.fingerprint, &asked.backend.name, &own, wanted);
    }
    Said::message(request.answer(json::empty()).to_raw())
}

/// Returns who is meant, and what it is asked.
async fn find<'t>(turn: &'t Turn, method: Method, request: &Request) -> Result<Asked<'t>, Box<Refused>> {
    let mut params = request
        .object()
        .ok_or_else(|| Refused::params("invalid params"))?;
    let (backend, what) = match method {
        Method::Named(named) => {
            let name = params
                .text("name")
                .ok_or_else(|| Refused::params("invalid params: name"))?
                .into_owned();
            let (backend, own) = named_backend(turn, named, &name).await?;
            params.set("name", json::raw(&own));
            (backend, Meant::named(named, own))
        }
        Method::Resource(resource) => {
            let uri = params
                .text("uri")
                .ok_or_else(|| Refused::params("invalid params: uri"))?
                .into_owned();
            let (backend, own) = uri_backend(turn, &uri)
                .await
                .ok_or_else(|| unknown_resource(resource, &uri))?;
            params.set("uri", json::raw(&own));
            (backend, Meant::Resource(own))
        }
        Method::Complete => {
            let reference = params
                .object("ref")
                .ok_or_else(|| Refused::params("invalid params: ref"))?;
            let (backend, key, what) = match reference.text("type").as_deref() {
                Some("ref/prompt") => {
                    let name = reference
                        .text("name")
                        .ok_or_else(|| Refused::params("invalid params: ref.name"))?;
                    let (backend, own) = named_backend(turn, Named::Prompt, &name).await?;
                    (backend, "name", Meant::Prompt(own))
                }
                Some("ref/resource") => {
                    let uri = reference
                        .text("uri")
                        .ok_or_else(|| Refused::params("invalid params: ref.uri"))?;
                    let found = uri_backend(turn, &uri).await;
                    let (backend, own) = found.ok_or_else(|| unknown_resource(Resource::Read, &uri))?;
                    (backend, "uri", Meant::Resource(own))
                }
                Some(_) | None => return Err(Refused::params("invalid params: ref.type")),
            };
            let mut reference = reference.clone();
            let (Meant::Tool(own) | Meant::Prompt(own) | Meant::Resource(own)) = &what;
            reference.set(key, json::raw(own));
            let reference = reference.to_raw();
            params.set("ref", reference);
            (backend, what)
        }
        Method::Initialize
        | Method::Ping
        | Method::List(_)
        | Method::SetLevel
        | Method::Discover
        | Method::Listen => {
            return Err(malformed().into());
        }
    };
    Ok(Asked {
        backend,
        what,
        params: params.to_raw(),
    })
}

/// Returns whose a tool or prompt is and what it is called there. What is hidden is as unknown as what is not
/// there.
async fn named_backend<'t>(
    turn: &'t Turn,
    named: Named,
    name: &str,
) -> Result<(&'t Backend, String), Box<Refused>> {
    let what = match named {
        Named::Tool => "tool",
        Named::Prompt => "prompt",
    };
    let unknown = || Refused::params(format!("unknown {what}: {name}"));
    let found = if turn.route.prefixes() {
        prefixed_backend(turn, named, name).await
    } else {
        match bare_backend(turn, named.list(), name).await {
            Some(backend) => Some((backend, name.to_owned())),
            None => prefixed_backend(turn, named, name).await,
        }
    };
    let (backend, own) = found.ok_or_else(unknown)?;
    if named == Named::Tool && !backend.selector.allows(&own) {
        return Err(unknown());
    }
    Ok((backend, own))
}

async fn prefixed_backend<'t>(turn: &'t Turn, named: Named, name: &str) -> Option<(&'t Backend, String)> {
    let (backend, own) = name::split(name)?;
    let backend = turn.route.backend(backend)?;
    if name.len() < name::MAX_NAME {
        return Some((backend, own.to_owned()));
    }
    // It may be the short form of a name that only the list tells.
    let list = named.list();
    let is_meant = |own: &str| name::shortened(&name::prefixed(&backend.name, own)) == name;
    let index = &turn.runtime.sessions.index;
    if let Some(original) = index.original(&turn.route.id, &backend.name, list, is_meant) {
        return Some((backend, original));
    }
    lists::learn(turn, list, std::slice::from_ref(&backend)).await;
    let original = index.original(&turn.route.id, &backend.name, list, is_meant);
    Some((backend, original.unwrap_or_else(|| own.to_owned())))
}

/// Returns who has something of this name, where names are not prefixed.
async fn bare_backend<'t>(turn: &'t Turn, list: List, name: &str) -> Option<&'t Backend> {
    if let [only] = turn.route.backends.as_slice() {
        return Some(only);
    }
    let able: Vec<&Backend> = turn
        .able(list.capability())
        .into_iter()
        .map(|(backend, _)| backend)
        .collect();
    let names = |backends: &mut dyn Iterator<Item = &&'t Backend>| -> Vec<Arc<str>> {
        backends.map(|backend| Arc::clone(&backend.name)).collect()
    };
    let all = names(&mut able.iter());
    // A name that is hidden with one backend is the next one's, as in the list.
    let shown = names(&mut able.iter().filter(|backend| turn.shows(list, backend, name)));
    let index = &turn.runtime.sessions.index;
    let find = || {
        let shown = index.find(&turn.route.id, list, name, &shown);
        shown.or_else(|| index.find(&turn.route.id, list, name, &all))
    };
    let known = match find() {
        Some(known) => Some(known),
        None => {
            lists::learn(turn, list, &able).await;
            find()
        }
    };
    turn.route.backend(&known?)
}

/// Returns whose a resource is and what it is called there.
pub(super) async fn uri_backend<'t>(turn: &'t Turn, uri: &str) -> Option<(&'t Backend, String)> {
    if !turn.route.prefixes() {
        for list in [List::Resources, List::Templates] {
            if let Some(backend) = bare_backend(turn, list, uri).await {
                return Some((backend, uri.to_owned()));
            }
        }
    }
    let (backend, own) = name::split_uri(uri)?;
    Some((turn.route.backend(backend)?, own.into_owned()))
}

/// Revisions with sessions have a code of their own for this.
fn unknown_resource(resource: Resource, uri: &str) -> Box<Refused> {
    let code = match resource {
        Resource::Read => error::RESOURCE_NOT_FOUND,
        Resource::Subscribe | Resource::Unsubscribe => error::INVALID_PARAMS,
    };
    let error = RpcError::new(code, format!("unknown resource: {uri}")).with_data(json!({ "uri": uri }));
    Refused::new(StatusCode::OK, error)
}
