//! What one backend is asked: found by a name or a URI, asked in its own words, answered in the client's.

use std::{sync::Arc, time::Duration};

use config::mcp_route::Backend;
use http::StatusCode;
use mcp::{
    Id, List, Message, Method, Outcome, Request, Response, RpcError, error,
    event::Place,
    json,
    method::{Named, Resource},
    name, sse,
};
use serde_json::{json, value::RawValue};
use tokio::time::{Instant, timeout_at};

use super::{
    call::{Ask, Events, Failure, Fault, Reply},
    hear::{Heard, hear},
    lists,
    outlet::{Outlet, Said},
    refused::Refused,
    sessions::Open,
    turn::{Turn, malformed},
};

/// How often a stream that breaks is asked for again.
const RESUMES: usize = 3;

/// A backend, and the parameters in its words.
struct Asked<'a> {
    backend: &'a Backend,
    params: Box<RawValue>,
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
    if turn.entry(&backend.name).is_none() {
        let message = format!("no MCP session found for backend {}", backend.name);
        return Err(Refused::params(message));
    }
    let _open = Open::new(&turn.runtime, turn.fingerprint, &request.id, &backend.name);
    let upstream = Message::Request(Request {
        params: Some(asked.params),
        ..request.clone()
    });
    let until = Instant::now() + backend.call_timeout;
    let answer = Answering {
        turn,
        outlet,
        backend,
        method: &request.method,
    };
    let reply = turn
        .ask(backend, Ask::Post(&upstream), backend.call_timeout)
        .await?;
    let response = match reply {
        Reply::Message(message, _) => match hear(turn, backend, message).await {
            Heard::Answer(response) => Some((response, None)),
            Heard::Tell(_) | Heard::Settled => None,
        },
        Reply::Events(events, _) => match timeout_at(until, answer.follow(events)).await {
            Ok(followed) => match followed? {
                Followed::Answer(response, event) => Some((response, event)),
                Followed::Later => return Ok(Said::nothing()),
            },
            Err(_) => return Err(late(backend).into()),
        },
        Reply::Nothing => None,
    };
    let Some((response, event)) = response else {
        let failure = Failure::new(&backend.name, Fault::BadReply, "it gave no answer");
        return Err(failure.into());
    };
    Ok(Said {
        event,
        ..Said::message(answer.said(response, Some(&request.id)))
    })
}

fn late(backend: &Backend) -> Failure {
    let limit = backend.call_timeout.as_secs();
    Failure::new(
        &backend.name,
        Fault::Timeout,
        format!("no answer within {limit} s"),
    )
}

/// What came of following a stream.
pub(super) enum Followed {
    /// The answer, and the id of its event.
    Answer(Response, Option<String>),
    /// The backend will go on when it is asked again, and so will the client.
    Later,
}

/// A backend that answers a request, and whom it is told.
pub(super) struct Answering<'a> {
    pub(super) turn: &'a Turn,
    pub(super) outlet: &'a Outlet,
    pub(super) backend: &'a Backend,
    /// What was asked.
    pub(super) method: &'a str,
}

impl Answering<'_> {
    /// Hands on what the backend says until it answers. A stream that breaks is asked for again.
    pub(super) async fn follow(&self, mut events: Box<Events>) -> Result<Followed, Failure> {
        let mut last: Option<String> = None;
        let mut resumed = 0;
        let mut wait = Duration::from_secs(1);
        loop {
            let failure = match events.next().await {
                Ok(Some(arrived)) => {
                    if let Some(retry) = arrived.retry {
                        wait = Duration::from_millis(retry);
                        if self.turn.resumes() {
                            self.outlet.write(|out| sse::write_retry(out, retry)).await;
                        }
                    }
                    let event = arrived.id.as_ref().map(|id| self.place(id));
                    last = arrived.id.or(last);
                    let Some(message) = arrived.message else {
                        if let Some(event) = event.filter(|_| self.turn.resumes()) {
                            self.outlet.write(|out| sse::write_place(out, &event)).await;
                        }
                        continue;
                    };
                    match hear(self.turn, self.backend, message).await {
                        Heard::Answer(response) => return Ok(Followed::Answer(response, event)),
                        Heard::Tell(document) => self.outlet.say(event.as_deref(), &document).await,
                        Heard::Settled => {}
                    }
                    continue;
                }
                Ok(None) if last.is_some() && self.turn.resumes() => return Ok(Followed::Later),
                Ok(None) => Failure::new(
                    &self.backend.name,
                    Fault::Broken,
                    "its stream ended without an answer",
                ),
                Err(failure) => failure,
            };
            resumed += 1;
            let Some(id) = last.as_deref().filter(|_| resumed <= RESUMES) else {
                return Err(failure);
            };
            tokio::time::sleep(wait).await;
            let again = self
                .turn
                .ask(self.backend, Ask::Get(Some(id)), self.backend.list_timeout);
            match again.await? {
                Reply::Events(again, _) => events = again,
                Reply::Message(..) | Reply::Nothing => return Err(failure),
            }
        }
    }

    /// Returns an answer in the client's words, to the request that it knows as `id`.
    pub(super) fn said(&self, response: Response, id: Option<&Id>) -> Box<RawValue> {
        let outcome = match response.outcome {
            Outcome::Result(result) => Outcome::Result(match Method::find(self.method) {
                Some(method) => self
                    .turn
                    .naming(self.backend)
                    .result(method, &result)
                    .into_owned(),
                None => result,
            }),
            error @ Outcome::Error(_) => error,
        };
        let id = id.cloned().or(response.id);
        Message::Response(Response { id, outcome }).to_raw()
    }

    fn place(&self, event: &str) -> String {
        self.turn.place(&Place::Answer {
            backend: self.backend.name.to_string(),
            event: event.to_owned(),
            method: self.method.to_owned(),
        })
    }
}

/// Returns who is meant, and what it is asked.
async fn find<'t>(turn: &'t Turn, method: Method, request: &Request) -> Result<Asked<'t>, Box<Refused>> {
    let mut params = request
        .object()
        .ok_or_else(|| Refused::params("invalid params"))?;
    let backend = match method {
        Method::Named(named) => {
            let name = params
                .text("name")
                .ok_or_else(|| Refused::params("invalid params: name"))?
                .into_owned();
            let (backend, own) = named_backend(turn, named, &name).await?;
            params.set("name", json::raw(&own));
            backend
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
            backend
        }
        Method::Complete => {
            let reference = params
                .object("ref")
                .ok_or_else(|| Refused::params("invalid params: ref"))?;
            let (backend, key, own) = match reference.text("type").as_deref() {
                Some("ref/prompt") => {
                    let name = reference
                        .text("name")
                        .ok_or_else(|| Refused::params("invalid params: ref.name"))?;
                    let (backend, own) = named_backend(turn, Named::Prompt, &name).await?;
                    (backend, "name", own)
                }
                Some("ref/resource") => {
                    let uri = reference
                        .text("uri")
                        .ok_or_else(|| Refused::params("invalid params: ref.uri"))?;
                    let found = uri_backend(turn, &uri).await;
                    let (backend, own) = found.ok_or_else(|| unknown_resource(Resource::Read, &uri))?;
                    (backend, "uri", own)
                }
                Some(_) | None => return Err(Refused::params("invalid params: ref.type")),
            };
            let mut reference = reference.clone();
            reference.set(key, json::raw(&own));
            let reference = reference.to_raw();
            params.set("ref", reference);
            backend
        }
        Method::Initialize | Method::Ping | Method::List(_) | Method::SetLevel => {
            return Err(malformed().into());
        }
    };
    Ok(Asked {
        backend,
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
    let names: Vec<Arc<str>> = able.iter().map(|backend| Arc::clone(&backend.name)).collect();
    let index = &turn.runtime.sessions.index;
    let known = index.find(&turn.route.id, list, name, &names);
    let known = match known {
        Some(known) => Some(known),
        None => {
            lists::learn(turn, list, &able).await;
            index.find(&turn.route.id, list, name, &names)
        }
    };
    turn.route.backend(&known?)
}

/// Returns whose a resource is and what it is called there.
async fn uri_backend<'t>(turn: &'t Turn, uri: &str) -> Option<(&'t Backend, String)> {
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
        Resource::Read => RESOURCE_NOT_FOUND,
        Resource::Subscribe | Resource::Unsubscribe => error::INVALID_PARAMS,
    };
    let error = RpcError::new(code, format!("unknown resource: {uri}")).with_data(json!({ "uri": uri }));
    Refused::new(StatusCode::OK, error)
}

const RESOURCE_NOT_FOUND: i32 = -32002;
