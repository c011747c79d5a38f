//! MCP: many servers behind one path, each client with one session.
//!
//! check → read → session → dispatch. What backends say while they work is written to an [`outlet`]; the response
//! is a document where there is only the answer to be said, and a stream where there is more. Which methods there
//! are, what names mean and how answers are joined is known by the `mcp` crate; here it is done.

pub(crate) mod account;
mod answering;
mod cache;
mod call;
mod checks;
mod count;
mod deleted;
mod errand;
mod failed;
mod front;
mod hear;
mod inband;
mod index;
mod initialize;
mod join;
mod lent;
mod line;
mod listen;
mod lists;
pub(crate) mod login;
mod long;
mod meant;
mod notices;
pub(crate) mod outlet;
mod paged;
mod pages;
mod peers;
mod permit;
mod refused;
mod repeat;
mod replicas;
mod restore;
mod sessions;
mod single;
mod stdio;
mod subscribe;
mod told;
mod turn;
mod who;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use config::{mcp_route::Route, snapshot::Rule};
use http::{HeaderMap, HeaderValue, Method as Verb, StatusCode, header, request::Parts};
use mcp::{
    Id, Message, Method, Request, RpcError, Session, Version, json,
    message::Payload,
    modern,
    session::{Client, Owner},
};
use policy::{Policies, rate_limit::Told};
use tokio::time::Instant;

use self::{
    account::Shared,
    call::{SESSION, VERSION},
    checks::Takes,
    listen::Wanted,
    outlet::{Begun, Outlet, Said, Stream, Work, begin},
    refused::{Refused, TEXT},
    turn::{NOTE_TIMEOUT, Turn},
    who::Who,
};
use crate::{
    access::Shown,
    apart, body,
    ctx::Ctx,
    fault,
    gather::gather,
    given::Given,
    meter,
    refusal::{Answer, Content},
    telemetry::tools::{Ended, Mapped},
};

pub(crate) use errand::Errands;
pub(crate) use inband::Holding;
pub use sessions::SessionOptions;
pub(crate) use sessions::Sessions;
pub(crate) use stdio::Programs;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const NO: HeaderValue = HeaderValue::from_static("no");
const POST: HeaderValue = HeaderValue::from_static("POST");
const VERBS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");

/// How long the end of a session may take.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a request to an MCP route, if `policies` let it in.
pub(crate) async fn serve(
    ctx: &mut Ctx,
    route: &Arc<Route>,
    policies: Option<Arc<Policies>>,
    mut head: Parts,
    mut body: Given,
) -> Answer {
    ctx.facts.route = Some(Arc::clone(&route.id));
    if let Some(trace) = &mut ctx.facts.trace {
        trace.say_in(route.words);
    }
    if let Some(answer) = policies.as_ref().and_then(|policies| preflight(policies, &head)) {
        return answer;
    }
    let mut shown = Shown::Given(&mut body);
    let who = match apart::begun(|| who::admit(ctx, route, policies.as_ref(), &mut head, &mut shown)).await {
        Ok(who) => who,
        Err(refused) => {
            body::turn_away(&head.headers, body).await;
            return refused.answer(None, route.plain_errors);
        }
    };
    let told = match &route.treated {
        None => None,
        Some(rule) => match apart::begun(|| let_through(ctx, rule, &head.headers)).await {
            Ok(told) => told,
            Err(refused) => {
                body::turn_away(&head.headers, body).await;
                return refused.answer(None, route.plain_errors);
            }
        },
    };
    ctx.state.credentials.names.strip(&mut head.headers);
    let mut id = None;
    let seen = route.lends_login().map(|_| lent::Seen::of(ctx, &head));
    let mut answer = match answer(ctx, route, who, head, body, &mut id).await {
        Ok(answer) => answer,
        Err(refused) => {
            note(ctx, &refused);
            refused.answer(id.as_ref(), route.plain_errors)
        }
    };
    if let Some(told) = told {
        meter::tell(told, &mut answer.headers);
    }
    if let Some(seen) = seen {
        lent::rename(&mut answer.headers, &route.path, &seen);
    }
    answer
}

/// Holds a request against the limits of the route that `rule` stands for; returns what the client is told of them.
async fn let_through(ctx: &mut Ctx, rule: &Rule, headers: &HeaderMap) -> Result<Option<Told>, Box<Refused>> {
    if let Some(abort) = fault::inject(ctx, rule).await {
        return Err(Refused::new(
            abort.status,
            RpcError::new(mcp::error::SERVER, fault::MESSAGE),
        ));
    }
    Ok(meter::open_uncounted(ctx, rule, headers).await?)
}

/// Returns the most bytes that a message may have.
fn largest(ctx: &Ctx, route: &Route) -> usize {
    let traffic = route.treated.as_ref().and_then(|rule| rule.traffic.as_ref());
    let own = traffic.and_then(|traffic| traffic.max_body);
    own.unwrap_or_else(|| ctx.tools_body())
}

/// Notes of the messages that nobody has answered that they were refused.
fn note(ctx: &Ctx, refused: &Refused) {
    let ended = Ended::Error(refused.error.code);
    for shared in &ctx.facts.tools {
        let mut open = None;
        shared.note(|account| {
            if account.ended.is_none() {
                account.end(ended, None);
                account.error = Some(refused.error.message.clone());
                open = account
                    .id
                    .is_some()
                    .then(|| (account.method.clone(), account.took));
            }
        });
        if let Some((method, took)) = open {
            let metrics = &ctx.runtime.metrics;
            metrics
                .tools
                .of(&Mapped::default())
                .request(&method, None, ended, took);
        }
    }
}

async fn answer(
    ctx: &mut Ctx,
    route: &Arc<Route>,
    who: Arc<Who>,
    head: Parts,
    body: Given,
    id: &mut Option<Id>,
) -> Result<Answer, Box<Refused>> {
    if let Some(reason) = &route.shut {
        let error = RpcError::new(mcp::error::SERVER, reason.as_str());
        return Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error));
    }
    let local = ctx.runtime.options.address.is_loopback();
    checks::origin(route, &head.headers, &ctx.facts.host, local)?;
    if let Some(carried) = checks::text(&head.headers, &SESSION) {
        ctx.runtime.sessions.fetch(carried).await;
    }
    let owner = who.owner(&ctx.runtime.sessions.tokens());
    let turn = Turn {
        state: Arc::clone(&ctx.state),
        runtime: Arc::clone(&ctx.runtime),
        route: Arc::clone(route),
        peer: ctx.peer(),
        headers: Arc::new(head.headers),
        who,
        request_id: ctx.facts.request_id.clone(),
        token: String::new(),
        fingerprint: sessions::Fingerprint::default(),
        session: no_session(route, owner),
        own: None,
        opening: None,
        last: None,
        hears: true,
        account: Shared::default(),
        mapped: Mapped::default(),
    };
    match head.method {
        Verb::POST => post(ctx, turn, body, id).await,
        Verb::GET | Verb::DELETE if is_without_session(&turn.headers) => Err(not_allowed(POST)),
        Verb::GET => get(ctx, turn).await,
        Verb::DELETE => delete(turn).await,
        _ => Err(not_allowed(VERBS)),
    }
}

/// Returns whether the client says that it speaks a revision in which there is nothing to get and to delete.
fn is_without_session(headers: &HeaderMap) -> bool {
    let version = checks::text(headers, &VERSION).and_then(Version::parse);
    version.is_some_and(Version::is_modern) && !headers.contains_key(SESSION)
}

fn not_allowed(verbs: HeaderValue) -> Box<Refused> {
    let error = RpcError::invalid_request("method not allowed");
    let mut refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, error);
    refused.headers.insert(header::ALLOW, verbs);
    refused
}

/// Answers a browser that asks whether a page may send a request.
fn preflight(policies: &Policies, head: &Parts) -> Option<Answer> {
    let (head, ()) = policies
        .cors
        .as_ref()?
        .preflight(&head.method, &head.headers)?
        .into_parts();
    Some(Answer {
        status: head.status,
        headers: head.headers,
        content: Content::Whole(Bytes::new()),
    })
}

/// Stands where there is no session yet.
fn no_session(route: &Route, owner: Owner) -> Session {
    Session {
        route: route.sealed.to_string(),
        owner,
        expires: None,
        version: Version::UNSAID,
        client: Client::default(),
        backends: Vec::new(),
    }
}

/// Returns the turn in the session that the client names.
fn resumed(turn: Turn) -> Result<Turn, Box<Refused>> {
    // One that was not agreed on is let pass: SDKs keep what they agreed on for themselves.
    checks::version(&turn.headers)?;
    let token = turn.headers.get(SESSION).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| Refused::bad(RpcError::invalid_request("missing session ID")))?;
    let token = token.to_str().map_err(|_| Refused::no_session())?.to_owned();
    turn.resume(&token)
}

/// Returns why a message is refused that cannot be read: that its session is not known comes before.
fn unread(turn: Turn, refused: Box<Refused>) -> Box<Refused> {
    if !turn.headers.contains_key(SESSION) {
        return refused;
    }
    resumed(turn).err().unwrap_or(refused)
}

async fn post(
    ctx: &mut Ctx,
    mut turn: Turn,
    body: Given,
    id: &mut Option<Id>,
) -> Result<Answer, Box<Refused>> {
    checks::content(&turn.headers)?;
    let takes = checks::accept(&turn.headers);
    if !takes.document && !takes.stream {
        return Err(checks::not_acceptable("application/json and text/event-stream"));
    }
    turn.hears = takes.stream;
    let limit = largest(ctx, &turn.route);
    let read = body::read(&turn.headers, body, limit, ctx.pace(), &ctx.runtime.memory).await;
    let (bytes, _reserved) = match read {
        Ok(read) => read,
        Err(refused) => return Err(unread(turn, refused.into())),
    };
    ctx.facts.bytes_received = bytes.len() as u64;
    let payload = Payload::parse(&bytes).map_err(|error| {
        let plain = format!("invalid JSON-RPC message: {error}");
        Refused::bad(error).plainly(StatusCode::BAD_REQUEST, plain)
    });
    let message = match payload {
        Err(refused) => return Err(unread(turn, refused)),
        Ok(Payload::One(message)) => message,
        Ok(Payload::Batch(messages)) => return batch(ctx, resumed(turn)?, messages, takes).await,
    };
    let turn = turn.about(&mut ctx.facts, &message);
    let version = checks::text(&turn.headers, &VERSION);
    let modern = modern::is_modern(&message, version, turn.headers.contains_key(SESSION));
    if let (true, Message::Request(request)) = (turn.route.modern.is_some(), &message) {
        *id = Some(request.id.clone());
        checks::line(&turn.route, &turn.headers, modern)?;
    }
    if modern {
        if let Message::Request(request) = &message {
            *id = Some(request.id.clone());
        }
        // The compatibility specification's gateway does not know of such clients: errors are always the protocol's.
        let answer = front::serve(ctx, turn, message, takes).await;
        return Ok(answer.unwrap_or_else(|refused| {
            note(ctx, &refused);
            refused.answer(id.as_ref(), false)
        }));
    }
    match message {
        Message::Request(request) => {
            *id = Some(request.id.clone());
            let method = Method::find(&request.method);
            let method = method.filter(|method| method.is_of(Version::NEWEST_LEGACY));
            let turn = match method {
                Some(Method::Initialize) => turn,
                _ => {
                    let mut turn = resumed(turn)?;
                    turn.last = listen::place(&turn, &turn.headers)?.map(Arc::new);
                    turn
                }
            };
            let method = method
                .ok_or_else(|| Refused::new(StatusCode::OK, RpcError::unknown_method(&request.method)))?;
            let patience = if method == Method::Initialize {
                // Which session it is stands in the head, and is not known before.
                Duration::MAX
            } else {
                ctx.runtime.options.keep_alive
            };
            let token = turn.token.clone();
            let outlet = Outlet::default();
            let said = outlet.clone();
            let work: Work =
                apart::begun(move || async move { dispatch(&turn, &said, method, &request).await });
            Ok(run(ctx, work, outlet, takes, patience, &token).await)
        }
        Message::Notification(notification) => {
            let turn = resumed(turn)?;
            told::notified(&turn, notification).await?;
            Ok(accepted(&turn.token))
        }
        Message::Response(response) => {
            let turn = resumed(turn)?;
            told::answered(&turn, response).await?;
            Ok(accepted(&turn.token))
        }
    }
}

/// Serves several messages at once, which one revision allows.
async fn batch(
    ctx: &mut Ctx,
    turn: Turn,
    messages: Vec<Message>,
    takes: Takes,
) -> Result<Answer, Box<Refused>> {
    if turn.session.version != Version::V2025_03_26 || messages.len() > MAX_BATCH {
        return Err(Refused::bad(RpcError::invalid_request(
            "batches are not supported",
        )));
    }
    let mut requests = Vec::new();
    let mut refused = None;
    for message in messages {
        let turn = turn.clone().about(&mut ctx.facts, &message);
        let taken = match message {
            Message::Request(request) => {
                requests.push((turn, request));
                Ok(())
            }
            Message::Notification(notification) => told::notified(&turn, notification).await,
            Message::Response(response) => told::answered(&turn, response).await,
        };
        refused = taken.err().or(refused);
    }
    if requests.is_empty() {
        return refused.map_or_else(|| Ok(accepted(&turn.token)), Err);
    }
    // What is not answered is not refused either, where there is an answer to something else.
    if let Some(refused) = refused {
        tracing::debug!(error = %refused.error, "a part of a batch is refused");
    }
    let token = turn.token.clone();
    let outlet = Outlet::default();
    let said = outlet.clone();
    let work: Work = apart::begun(move || async move {
        let answers = gather(requests.iter().map(|(turn, request)| async {
            let method = Method::find(&request.method);
            let method = method.filter(|method| method.is_of(Version::NEWEST_LEGACY));
            match method.filter(|method| *method != Method::Initialize) {
                Some(method) => dispatch(turn, &said, method, request).await.document,
                None => Some(
                    RpcError::unknown_method(&request.method)
                        .to_message(Some(&request.id))
                        .to_raw(),
                ),
            }
        }));
        let answers: Vec<_> = answers.await.into_iter().flatten().collect();
        Said::message(json::raw(&answers))
    });
    Ok(run(ctx, work, outlet, takes, ctx.runtime.options.keep_alive, &token).await)
}

/// The most messages of a batch.
const MAX_BATCH: usize = 64;

/// Serves one request of a client; a refusal is an answer too.
async fn dispatch(turn: &Turn, outlet: &Outlet, method: Method, request: &Request) -> Said {
    let began = Instant::now();
    let said = match method {
        Method::Initialize => initialize::serve(turn, request).await,
        Method::Ping => turn
            .admits(request)
            .map(|()| Said::message(request.answer(json::empty()).to_raw())),
        Method::List(list) => lists::serve(turn, outlet, list, request).await,
        Method::SetLevel => lists::set_level(turn, request).await,
        Method::Named(_) | Method::Resource(_) | Method::Complete => {
            single::serve(turn, outlet, method, request).await
        }
        // Methods of the other line were refused.
        Method::Discover | Method::Listen => Err(RpcError::unknown_method(&request.method).into()),
    };
    let said = said.unwrap_or_else(|refused| refused.said(Some(&request.id), turn.route.plain_errors));
    turn.count(method, request, &said, began);
    said
}

async fn get(ctx: &mut Ctx, mut turn: Turn) -> Result<Answer, Box<Refused>> {
    let takes = checks::accept(&turn.headers);
    if !takes.stream {
        return Err(checks::not_acceptable("text/event-stream"));
    }
    turn.stand_apart(&mut ctx.facts);
    let turn = resumed(turn)?;
    let wanted = Wanted::read(&turn, &turn.headers).await?;
    let token = turn.token.clone();
    let outlet = Outlet::default();
    let said = outlet.clone();
    let work: Work = apart::begun(move || async move {
        let served = listen::serve(&turn, &said, wanted).await;
        served.unwrap_or_else(|refused| refused.said(None, turn.route.plain_errors))
    });
    let takes = Takes {
        document: false,
        ..takes
    };
    let answer = run(ctx, work, outlet, takes, ctx.runtime.options.keep_alive, &token).await;
    Ok(listened(answer))
}

/// Returns an answer to which its client listens, if it is a stream.
fn listened(mut answer: Answer) -> Answer {
    if let Content::Mcp(stream) = &mut answer.content {
        stream.listen();
    }
    answer
}

/// Ends a session, here and with every backend that knows it.
async fn delete(turn: Turn) -> Result<Answer, Box<Refused>> {
    let turn = resumed(turn)?;
    let (session, end) = (turn.fingerprint, turn.session.expires);
    turn.runtime.sessions.delete(session, end);
    turn.runtime.sessions.forget(&turn.token).await;
    turn.runtime.metrics.tools.recent.ended(&turn.fingerprint);
    let backends = turn
        .route
        .backends
        .iter()
        .filter_map(|backend| Some((backend, turn.entry(&backend.name)?)));
    let ends = backends.filter(|(_, entry)| !entry.session.is_empty()).map(|(backend, entry)| {
        let turn = &turn;
        async move {
            let caller = turn.caller(backend);
            let ended = caller.ask(Some(&entry), call::Ask::Delete, END_TIMEOUT.min(NOTE_TIMEOUT)).await;
            if let Err(failure) = ended {
                tracing::debug!(backend = %backend.name, reason = %failure.reason, "a session was not ended");
            }
        }
    });
    tokio::join!(gather(ends), turn.runtime.sessions.tell_deleted(session, end));
    Ok(Answer {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        content: Content::Whole(Bytes::new()),
    })
}

/// Runs `work` until it is known what kind of answer it gives.
async fn run(
    ctx: &Ctx,
    mut work: Work,
    outlet: Outlet,
    takes: Takes,
    patience: Duration,
    token: &str,
) -> Answer {
    let begun = begin(&mut work, &outlet, takes.stream, patience).await;
    let options = &ctx.runtime.options;
    let keep_alive = options.mcp_keep_alive.unwrap_or(options.keep_alive);
    let (status, mut headers, content) = match begun {
        Begun::Done(Said {
            plain: Some((status, text)),
            mut headers,
            ..
        }) => {
            headers.insert(header::CONTENT_TYPE, TEXT);
            (status, headers, Content::Whole(Bytes::from(text)))
        }
        Begun::Done(said) => {
            let (status, headers) = (said.status, said.headers.clone());
            if takes.document || !status.is_success() {
                let document = said
                    .document
                    .map(|document| Box::<str>::from(document).into_string());
                let content = Content::Whole(Bytes::from(document.unwrap_or_default()));
                (status, headers, content)
            } else {
                (
                    status,
                    headers,
                    Content::Mcp(Box::new(Stream::said(said, keep_alive))),
                )
            }
        }
        Begun::Streams => {
            let stream = Stream::new(work, outlet, keep_alive);
            (StatusCode::OK, HeaderMap::new(), Content::Mcp(Box::new(stream)))
        }
    };
    match content {
        Content::Mcp(_) => {
            headers.insert(header::CONTENT_TYPE, EVENTS);
            headers.insert(header::CACHE_CONTROL, NO_CACHE);
            headers.insert("x-accel-buffering", NO);
        }
        Content::Whole(_) | Content::Stream(_) | Content::Passing(_) | Content::Tunnel(_) => {
            headers.entry(header::CONTENT_TYPE).or_insert(JSON);
        }
    }
    say_session(&mut headers, token);
    Answer {
        status,
        headers,
        content,
    }
}

/// Says which session it is, if there is one.
fn say_session(headers: &mut HeaderMap, token: &str) {
    if let Ok(token) = HeaderValue::try_from(token)
        && !token.is_empty()
    {
        headers.insert(SESSION, token);
    }
}

/// Returns what says that a message was taken, in the session with this token.
fn accepted(token: &str) -> Answer {
    let mut headers = HeaderMap::new();
    say_session(&mut headers, token);
    Answer {
        status: StatusCode::ACCEPTED,
        headers,
        content: Content::Whole(Bytes::new()),
    }
}
