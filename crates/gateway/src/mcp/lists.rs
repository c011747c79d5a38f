//! What every backend is asked at once: lists, whole, in the order of the route, and the level of logging.

use std::collections::HashSet;

use config::mcp_route::Backend;
use http::StatusCode;
use mcp::{
    Capabilities, Level, List, Message, Outcome, Request, RpcError, error,
    json::{self, Object},
    merge::{self, Missing},
    method,
    modern::Hints,
    rewrite::{Item, Page},
};
use serde_json::{json, value::RawValue};
use tokio::time::{Instant, timeout};

use super::{
    call::{Ask, Failure, Fault, Reply, is_modern},
    front,
    gather::gather,
    hear::{Heard, hear},
    inband, join,
    outlet::{Outlet, Said},
    refused::Refused,
    turn::Turn,
};

/// The most pages of one backend's list.
const MAX_PAGES: usize = 200;

/// The most items of one backend's list.
const MAX_ITEMS: usize = 50_000;

/// A backend's whole list.
struct Whole {
    items: Vec<Item>,
    meta: Option<Box<RawValue>>,
    /// For how long, and by whom, it may be kept.
    hints: Hints,
}

/// Returns a list of all backends.
pub(super) async fn serve(
    turn: &Turn,
    outlet: &Outlet,
    list: List,
    request: &Request,
) -> Result<Said, Box<Refused>> {
    let params = request
        .object()
        .ok_or_else(|| Refused::params("invalid params"))?;
    if params.get("cursor").is_some_and(|cursor| cursor.get() != "null") {
        // Lists are given whole, so there is no cursor of ours.
        return Err(Refused::params("unknown cursor"));
    }
    join::all(turn).await;
    let able = turn.able(list.capability());
    let asked = able.iter().enumerate();
    let asked = asked.map(|(index, (backend, _))| async move {
        let began = Instant::now();
        let whole = ask(turn, Some((outlet, index)), list, backend, request).await;
        turn.count_part(backend, &whole, began.elapsed());
        whole
    });
    let begin = std::time::Instant::now();
    let answers = gather(asked).await;
    let end = std::time::Instant::now();
    turn.account.note(|account| account.gathered = Some((begin, end)));
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    let mut metas = Vec::new();
    let mut missing = Vec::new();
    let mut hints: Option<Hints> = None;
    for ((backend, _), answer) in able.iter().zip(answers) {
        match answer {
            Ok(whole) => {
                items.extend(shown(turn, backend, list, &whole.items, &mut seen));
                hints = Some(hints.map_or(whole.hints, |hints| hints.and(whole.hints)));
                metas.extend(whole.meta.map(|meta| (&*backend.name, meta)));
            }
            Err(failure) => {
                tracing::warn!(backend = %backend.name, reason = %failure.reason, "a list lacks a backend's part");
                missing.push(Missing {
                    backend: backend.name.to_string(),
                    reason: failure.word(),
                });
            }
        }
    }
    let unmet = turn.own.iter().flat_map(|own| &own.unmet);
    missing.extend(unmet.map(|failure| Missing {
        backend: failure.backend.to_string(),
        reason: failure.word(),
    }));
    let failed = !missing.is_empty() && (turn.route.closed || missing.len() == able.len());
    if failed {
        let error = RpcError::new(error::SERVER, format!("{} failed", list.method()));
        let data = json!({ "backends": missing });
        return Err(Refused::new(StatusCode::OK, error.with_data(data)));
    }
    turn.account.note(|account| account.items = Some(items.len()));
    let mut result = merge::listed(list, &items, &metas, &missing);
    if turn.is_modern() {
        let hints = hints.filter(|_| missing.is_empty()).unwrap_or(Hints::NONE);
        result = front::finished(&result, Some(front::shared(turn, hints)));
    }
    Ok(Said::message(request.answer(result).to_raw()))
}

/// Learns the names of `backends`, for the index.
pub(super) async fn learn(turn: &Turn, list: List, backends: &[&Backend]) {
    let request = super::turn::own_request("tollgate-list", list.method(), None);
    let asked = backends
        .iter()
        .map(|backend| ask(turn, None, list, backend, &request));
    // What cannot be listed cannot be known.
    gather(asked).await;
}

/// Returns the items as the client sees them. Where names are not prefixed, the first to have one keeps it.
fn shown(
    turn: &Turn,
    backend: &Backend,
    list: List,
    items: &[Item],
    seen: &mut HashSet<String>,
) -> Vec<Box<RawValue>> {
    let naming = turn.naming(backend);
    let offered = items.iter().filter(|item| turn.shows(list, backend, &item.own));
    let shown = offered.map(|item| {
        let taken = !naming.prefixed && !seen.insert(item.own.clone());
        if taken {
            tracing::debug!(backend = %backend.name, name = %item.own, "a name is another backend's already");
            let naming = mcp::rewrite::Naming {
                prefixed: true,
                ..naming
            };
            naming.item(list, item)
        } else {
            naming.item(list, item)
        }
    });
    shown.collect()
}

/// Asks one backend for all pages of its list.
async fn ask(
    turn: &Turn,
    tell: Option<(&Outlet, usize)>,
    list: List,
    backend: &Backend,
    request: &Request,
) -> Result<Whole, Failure> {
    let _open = turn.opening(&request.id, backend);
    let asked = pages(turn, tell, list, backend, request);
    let whole = timeout(backend.list_timeout, asked).await.unwrap_or_else(|_| {
        let limit = backend.list_timeout.as_secs();
        Err(Failure::new(
            &backend.name,
            Fault::Timeout,
            format!("no list within {limit} s"),
        ))
    })?;
    turn.runtime
        .sessions
        .index
        .learn(&turn.route.id, &backend.name, list, &whole.items);
    Ok(whole)
}

async fn pages(
    turn: &Turn,
    tell: Option<(&Outlet, usize)>,
    list: List,
    backend: &Backend,
    request: &Request,
) -> Result<Whole, Failure> {
    let mut whole = Whole {
        items: Vec::new(),
        meta: None,
        hints: Hints::NONE,
    };
    let mut cursors: HashSet<Box<str>> = HashSet::new();
    let mut cursor: Option<Box<RawValue>> = None;
    loop {
        let progress = tell.map(|(outlet, index)| Progress::of(outlet, index, request));
        let message = page_request(request, cursor.as_deref(), progress.as_ref());
        let result = answer(turn, progress, backend, &message).await?;
        let page = Page::read(list, &result)
            .ok_or_else(|| Failure::new(&backend.name, Fault::BadReply, "its answer is no list"))?;
        let hints = Hints {
            ttl: page.ttl.unwrap_or_default(),
            public: page.public,
        };
        whole.hints = if cursors.is_empty() {
            hints
        } else {
            whole.hints.and(hints)
        };
        whole.items.extend(page.items);
        whole.meta = whole.meta.or(page.meta);
        let Some(next) = page.next else {
            return Ok(whole);
        };
        // A server whose cursor does not move would be asked for ever.
        let stuck = !cursors.insert(Box::from(next.get()));
        if stuck || cursors.len() >= MAX_PAGES || whole.items.len() >= MAX_ITEMS {
            tracing::warn!(backend = %backend.name, list = list.method(), "a list was cut off");
            return Ok(whole);
        }
        cursor = Some(next);
    }
}

/// Where progress of one backend's part goes: its token must differ from that of the others.
struct Progress<'a> {
    outlet: &'a Outlet,
    token: Box<RawValue>,
    client: Option<Box<RawValue>>,
}

impl<'a> Progress<'a> {
    fn of(outlet: &'a Outlet, index: usize, request: &Request) -> Self {
        let object = request.object();
        let meta = object.as_ref().and_then(|params| params.object("_meta"));
        Self {
            outlet,
            token: json::raw(&format!("tollgate-{index}")),
            client: meta.and_then(|meta| meta.get("progressToken").map(RawValue::to_owned)),
        }
    }

    /// Returns a message with the client's own token in place of ours.
    fn restored(&self, document: Box<RawValue>) -> Box<RawValue> {
        let restored = || {
            let mut message = Object::parse(&document)?;
            if message.text("method")? != method::PROGRESS {
                return None;
            }
            message.edit("params", |params| {
                let mut params = Object::parse(params)?;
                params.set("progressToken", self.client.clone()?);
                Some(params.to_raw())
            });
            Some(message.to_raw())
        };
        restored().unwrap_or(document)
    }
}

fn page_request(request: &Request, cursor: Option<&RawValue>, progress: Option<&Progress<'_>>) -> Message {
    let mut params = request.object().unwrap_or_default();
    if let Some(cursor) = cursor {
        params.set("cursor", cursor.to_owned());
    }
    if let Some(progress) = progress.filter(|progress| progress.client.is_some()) {
        params.edit("_meta", |meta| {
            let mut meta = Object::parse(meta)?;
            meta.set("progressToken", progress.token.clone());
            Some(meta.to_raw())
        });
    }
    let given = request.params.is_some() || cursor.is_some();
    Message::Request(Request {
        params: given.then(|| params.to_raw()),
        ..request.clone()
    })
}

/// Asks one backend and returns its result; what it says on the way is told if anybody listens.
async fn answer(
    turn: &Turn,
    progress: Option<Progress<'_>>,
    backend: &Backend,
    message: &Message,
) -> Result<Box<RawValue>, Failure> {
    let reply = turn
        .ask(backend, Ask::Post(message), backend.list_timeout)
        .await?;
    let none = || Failure::new(&backend.name, Fault::BadReply, "it gave no answer");
    let response = match reply {
        Reply::Message(Message::Response(response), _) => response,
        Reply::Message(..) | Reply::Nothing => return Err(none()),
        Reply::Events(mut events, _) => loop {
            let Some(arrived) = events.next().await? else {
                return Err(none());
            };
            let Some(message) = arrived.message else { continue };
            match hear(turn, backend, message).await {
                Heard::Answer(response) => break response,
                Heard::Tell(message) => {
                    if let Some(progress) = &progress {
                        progress
                            .outlet
                            .say(None, &progress.restored(message.to_raw()))
                            .await;
                    }
                }
                // Nobody waits for answers in the middle of a list.
                Heard::Asks(asked) => inband::decline(turn, backend, &asked).await,
                Heard::Settled => {}
            }
        },
    };
    match response.outcome {
        Outcome::Result(result) => Ok(result),
        Outcome::Error(error) => {
            let said =
                Object::parse(&error).and_then(|error| error.text("message").map(|text| text.into_owned()));
            let reason = format!("it answered with an error: {}", said.unwrap_or_default());
            Err(Failure::new(&backend.name, Fault::BadReply, reason))
        }
    }
}

/// Says to every backend which log messages are wanted.
pub(super) async fn set_level(turn: &Turn, request: &Request) -> Result<Said, Box<Refused>> {
    let params = request.object();
    let level = params.as_ref().and_then(|params| params.text("level"));
    let level = level.and_then(|level| Level::parse(&level));
    let level = level.ok_or_else(|| Refused::params("invalid set logging level params"))?;
    let message = Message::Request(request.clone());
    let able = turn.able(Capabilities::LOGGING);
    // Servers without sessions are told with each request.
    if able.iter().any(|(_, entry)| is_modern(Some(entry))) {
        turn.runtime.sessions.set_level(turn.fingerprint, level);
    }
    let told = able
        .iter()
        .filter(|(_, entry)| !is_modern(Some(entry)))
        .map(|(backend, _)| answer(turn, None, backend, &message));
    for failure in gather(told).await.into_iter().filter_map(Result::err) {
        tracing::warn!(backend = %failure.backend, reason = %failure.reason, "a backend did not take the level");
    }
    Ok(Said::message(request.answer(json::empty()).to_raw()))
}
