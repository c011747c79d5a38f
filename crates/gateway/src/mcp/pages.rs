//! One backend's list, whole: page after page.

use std::collections::HashSet;

use config::mcp_route::Backend;
use mcp::{
    List, Message, Outcome, Request,
    json::{self, Object},
    method,
    rewrite::{Item, Page},
};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{
    call::{Ask, Failure, Fault, Reply},
    errand,
    hear::{Heard, hear},
    inband,
    outlet::Outlet,
    turn::Turn,
};

/// The most pages of one backend's list.
const MAX_PAGES: usize = 200;

/// The most items of one backend's list.
const MAX_ITEMS: usize = 50_000;

/// A backend's whole list.
pub(super) struct Whole {
    pub(super) items: Vec<Item>,
    pub(super) meta: Option<Box<RawValue>>,
    /// For how many milliseconds it may be kept, where the backend says so.
    pub(super) ttl: Option<u64>,
    /// Whether everybody is given the same, as far as the backend says so.
    pub(super) public: bool,
}

impl Whole {
    /// Returns a list of which nothing was read.
    fn empty() -> Self {
        Self {
            items: Vec::new(),
            meta: None,
            ttl: None,
            public: true,
        }
    }
}

/// Asks one backend for all pages of its list; `tell` is who is told what it says on the way, and its place among all.
pub(super) async fn ask(
    turn: &Turn,
    tell: Option<(&Outlet, usize)>,
    list: List,
    backend: &Backend,
    request: &Request,
) -> Result<Whole, Failure> {
    let whole = in_time(turn, backend, request, pages(turn, tell, list, backend, request)).await?;
    let index = &turn.runtime.sessions.index;
    index.learn(&turn.route.id, &backend.name, list, &whole.items, true);
    Ok(whole)
}

/// Asks one backend for one page of its list, the first or the one at `cursor`; returns where the next one is.
pub(super) async fn one(
    turn: &Turn,
    tell: (&Outlet, usize),
    list: List,
    backend: &Backend,
    request: &Request,
    cursor: Option<Box<RawValue>>,
) -> Result<(Whole, Option<Box<RawValue>>), Failure> {
    let asked = page(turn, Some(tell), list, backend, request, cursor.as_deref());
    let page = in_time(turn, backend, request, asked).await?;
    let index = &turn.runtime.sessions.index;
    index.learn(&turn.route.id, &backend.name, list, &page.items, false);
    let whole = Whole {
        items: page.items,
        meta: page.meta,
        ttl: page.ttl,
        public: page.public,
    };
    Ok((whole, page.next))
}

/// Tells one backend what every one is told, and returns its result; what it says on the way is not heard.
pub(super) async fn told(
    turn: &Turn,
    backend: &Backend,
    request: &Request,
) -> Result<Box<RawValue>, Failure> {
    let message = Message::Request(request.clone());
    in_time(turn, backend, request, answer(turn, None, backend, &message)).await
}

/// Returns what is `asked` of a backend for `request`, if it comes in the time for lists.
async fn in_time<T>(
    turn: &Turn,
    backend: &Backend,
    request: &Request,
    asked: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let _open = turn.opening(&request.id, backend);
    timeout(backend.list_timeout, asked).await.unwrap_or_else(|_| {
        errand::give_up(turn, backend, &request.id, None);
        let limit = backend.list_timeout.as_secs_f32();
        Err(Failure::new(
            &backend.name,
            Fault::Timeout,
            format!("no answer within {limit} s"),
        ))
    })
}

/// Reads all pages. A list that changes meanwhile may void its cursors (revision 2025-11-25, "Pagination"): what goes on after the
/// first page with an error is read anew, once.
async fn pages(
    turn: &Turn,
    tell: Option<(&Outlet, usize)>,
    list: List,
    backend: &Backend,
    request: &Request,
) -> Result<Whole, Failure> {
    let mut whole = Whole::empty();
    let mut cursors: HashSet<Box<str>> = HashSet::new();
    let mut cursor: Option<Box<RawValue>> = None;
    let mut again = false;
    loop {
        let page = match page(turn, tell, list, backend, request, cursor.as_deref()).await {
            Ok(page) => page,
            Err(failure) if failure.fault == Fault::BadReply && cursor.is_some() && !again => {
                (whole, cursor, again) = (Whole::empty(), None, true);
                cursors.clear();
                continue;
            }
            Err(failure) => return Err(failure),
        };
        // The shortest time that any page says.
        whole.ttl = whole.ttl.into_iter().chain(page.ttl).min();
        whole.public &= page.public;
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

async fn page(
    turn: &Turn,
    tell: Option<(&Outlet, usize)>,
    list: List,
    backend: &Backend,
    request: &Request,
    cursor: Option<&RawValue>,
) -> Result<Page, Failure> {
    let progress = tell.map(|(outlet, index)| Progress::of(outlet, index, request));
    let message = page_request(request, cursor, progress.as_ref());
    let result = answer(turn, progress, backend, &message).await?;
    Page::read(list, &result)
        .ok_or_else(|| Failure::new(&backend.name, Fault::BadReply, "its answer is no list"))
}

/// Where progress of one backend's part goes: its token must differ from that of the others.
pub(super) struct Progress<'a> {
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
            token: json::raw(&format!("tollgate-{index}-{:016x}", fastrand::u64(..))),
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
                params.edit("progressToken", |token| {
                    let is_ours = token.get() == self.token.get();
                    self.client.clone().filter(|_| is_ours)
                });
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
    let silent = progress.is_none().then(|| Turn {
        hears: false,
        ..turn.clone()
    });
    let turn = silent.as_ref().unwrap_or(turn);
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
