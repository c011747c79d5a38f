//! What clients without sessions are told unasked, and what servers without sessions tell: one request each, whose
//! answer is a stream (revision 2026-07-28, "Subscriptions").

use std::time::Duration;

use config::mcp_route::Backend;
use mcp::{
    Capabilities, List, Message, Request,
    json::Object,
    subscription::{self, Filter},
};
use tokio::time::{Instant, timeout};

use super::{
    call::{Ask, Events, Failure, Fault, Reply, is_modern},
    errand::Lent,
    front,
    hear::{Heard, hear},
    inband,
    listen::{LONGEST_WAIT, WAIT, begun_anew, changes},
    meant,
    notices::Notices,
    outlet::{Outlet, Said},
    peers,
    refused::Refused,
    restore,
    turn::{Turn, own_request},
};
use crate::gather::gather;

/// A backend that is listened to, for what it is asked to tell.
struct Source<'t> {
    turn: Turn,
    backend: &'t Backend,
    /// What it tells, in its own words.
    filter: Filter,
}

/// A stream of a backend.
struct Listened {
    turn: Turn,
    events: Box<Events>,
    /// The resources that it tells of, of those that it was asked to, in its own words.
    uris: Vec<String>,
    /// The session that was opened for it.
    _lent: Lent,
}

/// Tells a client what it wants to be told of, until it goes away or the route does.
pub(super) async fn serve(turn: &Turn, outlet: &Outlet, request: &Request) -> Result<Said, Box<Refused>> {
    turn.admits(request)?;
    let params = request.object().unwrap_or_default();
    let wanted = Filter::read(&params).ok_or_else(|| Refused::params("invalid params: notifications"))?;
    let sources = sources(turn, &wanted).await;
    let opened = gather(sources.iter().map(Source::open)).await;
    let mut told = Filter::default();
    let mut streams = Vec::new();
    for (source, opened) in sources.iter().zip(opened) {
        match opened {
            Ok(listened) => {
                source.add(&listened, &wanted, &mut told);
                streams.push((source, listened));
            }
            Err(failure) => {
                tracing::warn!(backend = %failure.backend, reason = %failure.reason, "a backend is not listened to");
            }
        }
    }
    let acknowledged = told.acknowledged(&request.id);
    outlet
        .say(None, &Message::Notification(acknowledged).to_raw())
        .await;
    let notices = Notices::new(outlet, Some((told, &request.id)));
    let all = async {
        let streams = streams.into_iter();
        gather(streams.map(|(source, events)| source.follow(events, &notices))).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = all => {}
        () = notices.rest() => {}
        () = changes(turn, &notices) => {}
    }
    let mut meta = Object::default();
    meta.set(subscription::ID, request.id.raw().to_owned());
    let mut result = Object::default();
    result.set("_meta", meta.to_raw());
    let result = front::finished(turn, &result.to_raw(), None);
    Ok(Said::message(request.answer(result).to_raw()))
}

/// Returns who can tell what of it.
async fn sources<'t>(turn: &'t Turn, wanted: &Filter) -> Vec<Source<'t>> {
    let mut sources: Vec<Source<'t>> = turn
        .able(Capabilities::NONE)
        .into_iter()
        .map(|(backend, entry)| Source {
            turn: turn.clone(),
            backend,
            filter: Filter {
                uris: Vec::new(),
                ..wanted.within(entry.capabilities)
            },
        })
        .collect();
    for uri in &wanted.uris {
        let Some((backend, own)) = meant::uri_backend(turn, uri).await else {
            continue;
        };
        let able = turn.entry(&backend.name);
        let able = able.is_some_and(|entry| entry.capabilities.has(Capabilities::SUBSCRIBE));
        let able = able && turn.shows(List::Resources, backend, &own);
        let source = sources
            .iter_mut()
            .find(|source| source.backend.name == backend.name);
        if let Some(source) = source.filter(|_| able) {
            source.filter.uris.push(own);
        }
    }
    sources.retain(|source| !source.filter.is_empty());
    sources
}

impl Source<'_> {
    /// Adds what this backend tells, in the client's words.
    fn add(&self, listened: &Listened, wanted: &Filter, told: &mut Filter) {
        told.tools |= self.filter.tools;
        told.prompts |= self.filter.prompts;
        told.resources |= self.filter.resources;
        let naming = self.turn.naming(self.backend);
        let own: Vec<String> = listened.uris.iter().map(|own| naming.uri(own)).collect();
        told.uris
            .extend(wanted.uris.iter().filter(|uri| own.contains(uri)).cloned());
    }

    /// Begins to listen; a backend with sessions is listened to in one of its own.
    async fn open(&self) -> Result<Listened, Failure> {
        let known = self.turn.entry(&self.backend.name);
        if is_modern(known.as_ref()) {
            return Ok(Listened {
                turn: self.turn.clone(),
                events: listen(&self.turn, self.backend, &self.filter).await?,
                uris: self.filter.uris.clone(),
                _lent: Lent::none(),
            });
        }
        let opened = peers::open(&self.turn, self.backend).await?;
        let lent = Lent::new(&self.turn, self.backend, &opened.entry);
        let mut turn = self.turn.clone();
        turn.session.backends = vec![opened.entry.clone()];
        let limit = self.backend.list_timeout;
        let reply = turn.ask(self.backend, Ask::Get(None), limit).await?;
        let Reply::Events(events, _) = reply else {
            return Err(Failure::new(
                &self.backend.name,
                Fault::BadReply,
                "it has no stream",
            ));
        };
        let mut uris = Vec::new();
        for uri in &self.filter.uris {
            if restore::subscribed(&turn, self.backend, &opened.entry, uri).await {
                uris.push(uri.clone());
            }
        }
        Ok(Listened {
            turn,
            events,
            uris,
            _lent: lent,
        })
    }

    /// Hands on what the backend tells; a stream that ends is asked for again.
    async fn follow(&self, mut listened: Listened, notices: &Notices<'_>) {
        let mut wait = WAIT;
        loop {
            let began = Instant::now();
            let told = hand_on(&listened.turn, self.backend, &mut listened.events, notices).await;
            wait = begun_anew(told, began.elapsed()).unwrap_or(wait);
            loop {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                match self.open().await {
                    Ok(again) => {
                        listened = again;
                        break;
                    }
                    Err(failure) => {
                        tracing::debug!(backend = %failure.backend, reason = %failure.reason, "a stream cannot be had");
                    }
                }
            }
        }
    }
}

/// Hands on what `backend` tells in a stream, until it ends; returns whether it has told anything.
pub(super) async fn hand_on(
    turn: &Turn,
    backend: &Backend,
    events: &mut Events,
    notices: &Notices<'_>,
) -> bool {
    let mut told = false;
    loop {
        let message = match events.next().await {
            Ok(Some(arrived)) => arrived.message,
            Ok(None) => return told,
            Err(failure) => {
                tracing::debug!(backend = %backend.name, reason = %failure.reason, "a stream ended");
                return told;
            }
        };
        let Some(message) = message else { continue };
        told = true;
        match hear(turn, backend, message).await {
            Heard::Tell(Message::Notification(notification)) => {
                notices.say(subscription::untagged(notification)).await
            }
            Heard::Asks(asked) => inband::decline(turn, backend, &asked).await,
            // An answer says that the stream has ended, and nothing else is told here.
            Heard::Tell(_) | Heard::Answer(_) | Heard::Settled => {}
        }
    }
}

/// Begins to listen to a backend without sessions; returns once it has said that it tells.
pub(super) async fn listen(turn: &Turn, backend: &Backend, filter: &Filter) -> Result<Box<Events>, Failure> {
    let fail = |reason: &str| Failure::new(&backend.name, Fault::BadReply, reason);
    let request = own_request(subscription::LISTEN, Some(filter.to_raw()));
    let limit = backend.list_timeout;
    let reply = turn
        .ask(backend, Ask::Post(&Message::Request(request)), limit)
        .await?;
    let Reply::Events(mut events, _) = reply else {
        return Err(fail("it does not tell what changes"));
    };
    let acknowledged = async {
        while let Some(arrived) = events.next().await? {
            match arrived.message {
                Some(Message::Notification(notification))
                    if notification.method == subscription::ACKNOWLEDGED =>
                {
                    return Ok(true);
                }
                Some(Message::Response(_)) => return Ok(false),
                Some(Message::Notification(_) | Message::Request(_)) | None => {}
            }
        }
        Ok(false)
    };
    match timeout(limit.min(ACKNOWLEDGED), acknowledged).await {
        Ok(Ok(true)) => Ok(events),
        Ok(Ok(false)) => Err(fail("it does not tell what changes")),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::new(
            &backend.name,
            Fault::Timeout,
            "it did not begin to tell in time",
        )),
    }
}

/// How long a backend may take to say that it tells.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
