//! What every backend is asked at once: lists, whole, in the order of the route, and the level of logging.

use std::{collections::HashSet, sync::Arc};

use config::mcp_route::Backend;
use http::StatusCode;
use mcp::{
    Capabilities, Level, List, Request, RpcError,
    cursor::Cursor,
    error, json,
    merge::{self, Missing},
    modern::Hints,
    offer::Annotations,
    rewrite::{Item, Naming},
};
use serde_json::{json, value::RawValue};
use tokio::time::Instant;

use super::{
    call::{Failure, is_modern},
    front, join,
    outlet::{Outlet, Said},
    paged,
    pages::{self, Whole},
    refused::Refused,
    turn::Turn,
};
use crate::gather::gather;

/// One backend's part of a list.
pub(super) struct Part {
    pub(super) whole: Arc<Whole>,
    /// For how long, and by whom, it may be kept from now on.
    pub(super) hints: Hints,
    /// Where the backend goes on, where one page is asked for.
    pub(super) next: Option<Box<RawValue>>,
}

/// Returns a list of all backends.
pub(super) async fn serve(
    turn: &Turn,
    outlet: &Outlet,
    list: List,
    request: &Request,
) -> Result<Said, Box<Refused>> {
    turn.admits(request)?;
    let params = request
        .object()
        .ok_or_else(|| Refused::params("invalid params"))?;
    let page = paged::Page::read(turn, list, &params)?;
    let absent = join::all(turn).await;
    let mut able = turn.able(list.capability());
    able.retain(|(backend, _)| page.is_of(backend));
    let asked = able.iter().enumerate();
    let asked = asked.map(|(index, (backend, _))| part(turn, (outlet, index), list, backend, request, &page));
    let begin = std::time::Instant::now();
    let answers = gather(asked).await;
    let end = std::time::Instant::now();
    turn.account.note(|account| account.gathered = Some((begin, end)));
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    let mut metas = Vec::new();
    let mut missing = Vec::new();
    let mut given = false;
    let mut hints: Option<Hints> = None;
    let mut next = Cursor::default();
    for ((backend, _), answer) in able.iter().zip(answers) {
        match answer {
            Ok(part) => {
                given = true;
                items.extend(shown(turn, backend, list, &part.whole.items, &mut seen));
                hints = Some(hints.map_or(part.hints, |hints| hints.and(part.hints)));
                next.0.extend(
                    part.next
                        .map(|next| (backend.name.to_string(), next.get().to_owned())),
                );
                metas.extend(part.whole.meta.clone().map(|meta| (&*backend.name, meta)));
            }
            Err(failure) => {
                tracing::warn!(backend = %backend.name, reason = %failure.reason, "a list lacks a backend's part");
                let known = turn.runtime.sessions.cache.last_known(turn, backend, list);
                missing.push(Missing {
                    last_known: known.is_some(),
                    ..lacking(&failure)
                });
                if let Some(known) = known {
                    given = true;
                    items.extend(shown(turn, backend, list, &known.items, &mut seen));
                }
            }
        }
    }
    let unmet = turn.own.iter().flat_map(|own| &own.unmet);
    missing.extend(absent.iter().chain(unmet).map(lacking));
    // Where nobody was asked, nothing failed: the others have no such list.
    let nothing = !given && !able.is_empty();
    if !missing.is_empty() && (turn.route.closed || nothing) {
        return Err(failed(list.method(), &missing));
    }
    turn.account.note(|account| account.items = Some(items.len()));
    let result = merge::listed(list, &items, &metas, &missing);
    let mut result = paged::going_on(turn, list, result, next);
    if turn.is_modern() {
        let hints = hints.filter(|_| missing.is_empty()).unwrap_or(Hints::NONE);
        result = front::finished(turn, &result, Some(front::shared(turn, hints)));
    }
    Ok(Said::message(request.answer(result).to_raw()))
}

/// Returns what one backend gives, or has given not long ago.
async fn part(
    turn: &Turn,
    tell: (&Outlet, usize),
    list: List,
    backend: &Backend,
    request: &Request,
    page: &paged::Page,
) -> Result<Part, Failure> {
    let cache = &turn.runtime.sessions.cache;
    let every = matches!(page, paged::Page::Every);
    if let Some(known) = cache.find(turn, backend, list).filter(|_| every) {
        return Ok(known);
    }
    let began = Instant::now();
    let (whole, next) = if every {
        (pages::ask(turn, Some(tell), list, backend, request).await, None)
    } else {
        let asked = pages::one(turn, tell, list, backend, request, page.of(backend)).await;
        asked.map_or_else(|failure| (Err(failure), None), |(whole, next)| (Ok(whole), next))
    };
    turn.count_part(list, backend, &whole, began.elapsed());
    let whole = Arc::new(whole?);
    if every {
        cache.keep(turn, backend, list, &whole);
    }
    let hints = Hints {
        ttl: whole.ttl.unwrap_or_default(),
        public: whole.public,
    };
    Ok(Part { whole, hints, next })
}

fn lacking(failure: &Failure) -> Missing {
    Missing {
        backend: failure.backend.to_string(),
        reason: failure.word(),
        last_known: false,
    }
}

fn failed(method: &str, missing: &[Missing]) -> Box<Refused> {
    let error = RpcError::new(error::SERVER, format!("{method} failed"));
    let data = json!({ "backends": missing });
    Refused::new(StatusCode::OK, error.with_data(data))
}

/// Learns the names of `backends`, for the index.
pub(super) async fn learn(turn: &Turn, list: List, backends: &[&Backend]) {
    let request = super::turn::own_request(list.method(), None);
    let asked = backends
        .iter()
        .map(|backend| async { pages::ask(turn, None, list, backend, &request).await.map(|_| ()) });
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
    let hints = &backend.offer.hints;
    let fits =
        |item: &&Item| list != List::Tools || hints.is_empty() || hints.fit(Annotations::read(&item.raw));
    let offered = items
        .iter()
        .filter(|item| turn.shows(list, backend, &item.own))
        .filter(fits);
    let called = offered.flat_map(|item| {
        let called = backend.offer.called(list, &item.own);
        called.map(move |called| (item, called))
    });
    let shown = called.map(|(item, called)| {
        let taken =
            !naming.prefixed && (!seen.insert(called.to_owned()) || is_before(turn, backend, list, called));
        if taken {
            tracing::debug!(backend = %backend.name, name = called, "a name is another backend's already");
            let naming = Naming {
                prefixed: true,
                ..naming
            };
            naming.item(list, item, called)
        } else {
            naming.item(list, item, called)
        }
    });
    shown.collect()
}

/// Returns whether a backend before this one has the name, as far as is known of pages that were given before.
fn is_before(turn: &Turn, backend: &Backend, list: List, called: &str) -> bool {
    if !turn.route.paged {
        return false;
    }
    let before = turn.route.backends.iter();
    let before = before.take_while(|other| other.name != backend.name);
    let before = before.filter_map(|other| Some((other, other.offer.own(list, called)?)));
    let before: Vec<(&Backend, &str)> = before
        .filter(|(other, own)| turn.shows(list, other, own))
        .collect();
    let index = &turn.runtime.sessions.index;
    index.find(&turn.route.id, list, &before).is_some()
}

/// Says to every backend which log messages are wanted.
pub(super) async fn set_level(turn: &Turn, request: &Request) -> Result<Said, Box<Refused>> {
    turn.admits(request)?;
    let params = request.object();
    let level = params.as_ref().and_then(|params| params.text("level"));
    let level = level.and_then(|level| Level::parse(&level));
    let level = level.ok_or_else(|| Refused::params("invalid set logging level params"))?;
    let able = turn.able(Capabilities::LOGGING);
    // Servers without sessions are told with each request, and others again where their session is a new one.
    turn.runtime.sessions.set_level(turn.fingerprint, level);
    let told = able
        .iter()
        .filter(|(_, entry)| !is_modern(Some(entry)))
        .map(|(backend, _)| pages::told(turn, backend, request));
    let mut missing = Vec::new();
    for failure in gather(told).await.into_iter().filter_map(Result::err) {
        tracing::warn!(backend = %failure.backend, reason = %failure.reason, "a backend did not take the level");
        missing.push(lacking(&failure));
    }
    if turn.route.closed && !missing.is_empty() {
        return Err(failed(&request.method, &missing));
    }
    Ok(Said::message(request.answer(json::empty()).to_raw()))
}
