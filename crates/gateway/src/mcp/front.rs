//! Requests of clients that keep no session: each is read for what it says of its sender, meets the backends that
//! it needs, and is answered as all others are (revision 2026-07-28).

use config::mcp_route::Route;
use http::{HeaderMap, HeaderName, StatusCode};
use mcp::{
    Id, Message, Method, Outcome, Request, Response, RpcError, Version, error,
    header::{METHOD, NAME},
    json::{self, Object},
    merge::{self, Initialized},
    method::{Named, Resource},
    modern::{self, Envelope, Headers, Hints},
    name,
    session::{Client, Owner},
};
use serde_json::{json, value::RawValue};
use tokio::time::Instant;

use super::{
    accepted,
    call::VERSION,
    checks::{self, Takes},
    inband, listened, lists,
    outlet::{Outlet, Said, Work},
    peers,
    permit::denied,
    refused::Refused,
    run, single, subscribe,
    turn::{Own, Turn},
};
use crate::{apart, ctx::Ctx, gather::gather, refusal::Answer};

/// Serves a message of a client that keeps no session.
pub(super) async fn serve(
    ctx: &mut Ctx,
    mut turn: Turn,
    message: Message,
    takes: Takes,
) -> Result<Answer, Box<Refused>> {
    let version = checks::once(&turn.headers, &VERSION).map_err(|()| modern::mismatch(VERSION.as_str()))?;
    let request = match message {
        Message::Request(request) => request,
        // There is nothing that a notification could be about: requests are cancelled by going away.
        Message::Notification(_) => {
            let said = version.unwrap_or_default();
            return match Version::parse(said.trim()) {
                Some(version) if version.is_modern() => Ok(accepted("")),
                Some(_) | None => Err(modern::unsupported(said).into()),
            };
        }
        Message::Response(_) => {
            let error = RpcError::new(error::METHOD_NOT_FOUND, "nothing was asked");
            return Err(Refused::new(StatusCode::NOT_FOUND, error));
        }
    };
    let envelope = read(&turn.headers, version, &request)?;
    let method = Method::find(&request.method).filter(|method| method.is_of(Version::V2026_07_28));
    let method = method.ok_or_else(|| {
        let error = RpcError::unknown_method(&request.method);
        Refused::new(StatusCode::NOT_FOUND, error)
    })?;
    let unsaid = Client::default();
    turn.session.version = Version::V2026_07_28;
    turn.session.client = Client {
        capabilities: envelope.capabilities.get().to_owned(),
        info: envelope.info.map_or(unsaid.info, |info| info.get().to_owned()),
    };
    turn.own = Some(Own {
        level: envelope.level,
        progress: progress(&request),
        ..Own::default()
    });
    turn.introduce();
    let listens = method == Method::Listen;
    if listens {
        turn.stand_apart(&mut ctx.facts);
    }
    let outlet = Outlet::default();
    let said = outlet.clone();
    let work: Work = apart::begun(move || async move {
        let began = Instant::now();
        let answer = dispatch(&mut turn, &said, method, &request).await;
        let answer = answer.unwrap_or_else(|refused| refusal(*refused, &request.id));
        turn.count(method, &request, &answer, began);
        answer
    });
    let answer = run(ctx, work, outlet, takes, ctx.runtime.options.keep_alive, "").await;
    Ok(if listens { listened(answer) } else { answer })
}

fn read(headers: &HeaderMap, version: Option<&str>, request: &Request) -> Result<Envelope, RpcError> {
    let once = |name: &'static str| {
        let header = HeaderName::from_static(name);
        checks::once(headers, &header).map_err(|()| modern::mismatch(name))
    };
    let headers = Headers {
        version,
        method: once(METHOD)?,
        name: once(NAME)?,
    };
    Envelope::read(request, headers)
}

fn progress(request: &Request) -> Option<Box<RawValue>> {
    let params = request.object()?;
    let meta = params.object("_meta")?;
    meta.get("progressToken").map(RawValue::to_owned)
}

async fn dispatch(
    turn: &mut Turn,
    outlet: &Outlet,
    method: Method,
    request: &Request,
) -> Result<Said, Box<Refused>> {
    match method {
        Method::Discover => discover(turn, request).await,
        Method::List(list) => {
            meet(turn, &everyone(&turn.route)).await?;
            lists::serve(turn, outlet, list, request).await
        }
        Method::Listen => {
            meet(turn, &everyone(&turn.route)).await?;
            subscribe::serve(turn, outlet, request).await
        }
        Method::Named(_) | Method::Resource(_) | Method::Complete => {
            let again = inband::reminded(turn, request)?;
            let request = match again {
                inband::Again::First => request,
                inband::Again::Server(ref request) => request,
                inband::Again::Held(held) => return single::go_on(turn, outlet, request, held).await,
            };
            meet(turn, &meant(&turn.route, method, request)).await?;
            single::serve(turn, outlet, method, request).await
        }
        // Methods of the other line were refused.
        Method::Initialize | Method::Ping | Method::SetLevel => Err(Refused::new(
            StatusCode::NOT_FOUND,
            RpcError::unknown_method(&request.method),
        )),
    }
}

/// Meets the backends with these places in the route. It is an error if there are none among them that can be met.
async fn meet(turn: &mut Turn, backends: &[usize]) -> Result<(), Box<Refused>> {
    let selected = |place: &usize| {
        let backend = turn.route.backends.get(*place);
        backend.is_some_and(|backend| turn.selects(backend))
    };
    let chosen: Vec<usize> = backends.iter().copied().filter(selected).collect();
    if chosen.is_empty() && !backends.is_empty() {
        return Err(denied());
    }
    let mut failures = peers::meet(turn, &chosen).await;
    if !turn.session.backends.is_empty() || failures.is_empty() {
        if let Some(own) = &mut turn.own {
            own.unmet = failures;
        }
        return Ok(());
    }
    match (failures.len(), failures.pop()) {
        (1, Some(failure)) if backends.len() < turn.route.backends.len() => Err(failure.into()),
        (_, last) => {
            failures.extend(last);
            Err(turn.none_opened(&failures))
        }
    }
}

fn everyone(route: &Route) -> Vec<usize> {
    (0..route.backends.len()).collect()
}

/// Returns the places of the backends that a request may be for: one where its name says so.
fn meant(route: &Route, method: Method, request: &Request) -> Vec<usize> {
    let params = request.object().unwrap_or_default();
    let reference = params.object("ref");
    let object = reference.as_ref().unwrap_or(&params);
    let by_name = object
        .text("name")
        .and_then(|name| Some(name::split(&name)?.0.to_owned()));
    let by_uri = object
        .text("uri")
        .and_then(|uri| Some(name::split_uri(&uri)?.0.to_owned()));
    let prefix = match method {
        Method::Named(Named::Tool | Named::Prompt) => by_name,
        Method::Resource(Resource::Read | Resource::Subscribe | Resource::Unsubscribe) => by_uri,
        Method::Complete => by_name.or(by_uri),
        Method::Initialize
        | Method::Ping
        | Method::List(_)
        | Method::SetLevel
        | Method::Discover
        | Method::Listen => None,
    };
    match prefix.and_then(|prefix| route.called(&prefix)) {
        Some(only) if route.prefixes() => vec![only],
        // What has no prefix where all have one is nobody's.
        None if route.prefixes() => Vec::new(),
        Some(_) | None => everyone(route),
    }
}

/// Says what there is behind the gateway.
async fn discover(turn: &Turn, request: &Request) -> Result<Said, Box<Refused>> {
    turn.admits(request)?;
    let chosen = turn.route.backends.iter().filter(|backend| turn.selects(backend));
    let met = gather(chosen.map(|backend| peers::of(turn, backend))).await;
    let mut failures = Vec::new();
    let mut opened = Vec::new();
    for met in met {
        match met {
            Ok(own) => opened.push(own),
            Err(failure) => {
                tracing::warn!(backend = %failure.backend, reason = %failure.reason, "a backend cannot be met");
                failures.push(failure);
            }
        }
    }
    if opened.is_empty() || (turn.route.closed && !failures.is_empty()) {
        return Err(turn.none_opened(&failures));
    }
    let answers: Vec<Initialized<'_>> = opened
        .iter()
        .map(|opened| Initialized {
            backend: &opened.entry.backend,
            result: &opened.result,
        })
        .collect();
    let mut result = Object::default();
    result.set("supportedVersions", json::raw(&modern::offered()));
    result.set("capabilities", merge::capabilities(&answers));
    if let Some(instructions) = merge::instructions(&answers) {
        result.set("instructions", json::raw(&instructions));
    }
    let hints = opened
        .iter()
        .map(|opened| Hints::read(&opened.result).unwrap_or(Hints::NONE));
    let hints = hints.reduce(Hints::and).filter(|_| failures.is_empty());
    let hints = shared(turn, hints.unwrap_or(Hints::NONE));
    let result = finished(turn, &result.to_raw(), Some(hints));
    Ok(Said::message(request.answer(result).to_raw()))
}

/// Returns hints that promise nothing about what others are given where it depends on who asks.
pub(super) fn shared(turn: &Turn, hints: Hints) -> Hints {
    let anyone = matches!(turn.session.owner, Owner::Anyone);
    let access = &turn.route.access;
    let same = anyone
        && access.rules.is_none()
        && access.selector.is_none()
        && access.forward.is_empty()
        && turn
            .route
            .backends
            .iter()
            .all(|backend| backend.forward.is_empty());
    Hints {
        public: hints.public && same,
        ..hints
    }
}

/// Returns a result as clients without sessions are given it.
pub(super) fn finished(turn: &Turn, result: &RawValue, hints: Option<Hints>) -> Box<RawValue> {
    modern::finished(result, &server(&turn.route), hints).unwrap_or_else(|| result.to_owned())
}

/// Returns what clients of `route` are told that they speak with.
pub(super) fn server(route: &Route) -> Box<RawValue> {
    match &route.server {
        Some(own) => json::raw(own),
        None => json::raw(&json!({ "name": "tollgate", "version": env!("CARGO_PKG_VERSION") })),
    }
}

/// Returns an error as such a client is given it, under the status that belongs to it.
pub(super) fn failed(error: Box<RawValue>, id: Option<&Id>) -> Said {
    let error = modern::error(&error).unwrap_or(error);
    let code = modern::code(&error).unwrap_or_default();
    let answer = Response {
        id: id.cloned(),
        outcome: Outcome::Error(error),
    };
    Said {
        status: StatusCode::from_u16(modern::status(code)).unwrap_or(StatusCode::OK),
        ..Said::message(Message::Response(answer).to_raw())
    }
}

/// Returns a refusal as an answer.
fn refusal(refused: Refused, id: &Id) -> Said {
    let said = failed(refused.error.to_raw(), Some(id));
    let status = if refused.status == StatusCode::OK {
        said.status
    } else {
        refused.status
    };
    Said {
        status,
        headers: refused.headers,
        ..said
    }
}
