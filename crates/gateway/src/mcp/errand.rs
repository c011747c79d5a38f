//! What servers are told once nobody waits for them any more: that a call is cancelled, that a session is over.
//!
//! One without sessions sees it by the end of the connection; to one with sessions that means nothing. Whoever asked
//! has gone by then, so that an errand has a task of its own; there are so many at once, and each is short.

use std::{pin::Pin, sync::Arc};

use config::mcp_route::Backend;
use mcp::{
    Id, Message, Notification,
    json::{self, Object},
    method,
    session::Entry,
};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use super::{
    END_TIMEOUT,
    call::{Ask, Events, Failure, Fault, Reply, is_modern},
    stdio::Abandoned,
    turn::Turn,
};

/// The most errands that are run at once; what is beyond that is not told.
const MAX_ERRANDS: usize = 256;

/// Room for errands.
#[derive(Debug)]
pub(crate) struct Errands(Arc<Semaphore>);

impl Default for Errands {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_ERRANDS)))
    }
}

/// What is to be told, and to whom.
struct Errand {
    room: Arc<Semaphore>,
    backend: Arc<str>,
    told: Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>,
}

/// A call that its server goes on with unless it is told. Dropped before it was answered, it is cancelled there.
pub(super) struct Unanswered(Option<Errand>);

/// A session that was opened for one stream. It is ended when it is dropped.
pub(super) struct Lent(Option<Errand>);

/// Returns what `backend` goes on with if nobody waits any more for what it is asked here.
pub(super) fn unanswered(turn: &Turn, backend: &Backend, entry: &Entry, ask: Ask<'_>) -> Option<Unanswered> {
    let Ask::Post(Message::Request(request)) = ask else {
        return None;
    };
    // Clients with sessions may come back after they have gone away.
    let goes_on = turn.is_modern() && (!is_modern(Some(entry)) || backend.is_program());
    goes_on.then(|| Unanswered(Some(Errand::cancel(turn, backend, entry, &request.id))))
}

/// Returns the reply to what was asked, with which `unanswered` is settled, or will be by the answer.
pub(super) fn settle(
    unanswered: Option<Unanswered>,
    reply: Result<Reply, Failure>,
) -> Result<Reply, Failure> {
    let Some(call) = unanswered else { return reply };
    match reply {
        Ok(Reply::Events(mut events, opened)) => {
            events.watch(call);
            Ok(Reply::Events(events, opened))
        }
        Ok(reply @ (Reply::Message(..) | Reply::Nothing)) => {
            call.answered();
            Ok(reply)
        }
        Err(failure) => {
            if failure.fault != Fault::Timeout {
                call.answered();
            }
            Err(failure)
        }
    }
}

/// Cancels what a client with a session has asked `backend` as `id`, because it takes too long; `events` are what it
/// has said so far.
pub(super) fn give_up(turn: &Turn, backend: &Backend, id: &Id, events: Option<&Events>) {
    if turn.is_modern() {
        return;
    }
    let entry = turn.entry(&backend.name);
    let errand = match (events.and_then(Events::abandoned), entry) {
        (Some(abandoned), _) => Errand::abandon(turn, backend, abandoned),
        (None, Some(entry)) if !is_modern(Some(&entry)) => Errand::cancel(turn, backend, &entry, id),
        (None, _) => return,
    };
    errand.send();
}

/// Ends a session that nobody uses any more.
pub(super) fn end(turn: &Turn, backend: &Backend, entry: &Entry) {
    drop(Lent::new(turn, backend, entry));
}

impl Unanswered {
    /// Has a program told that it is `abandoned`, which knows the call by another id.
    pub(super) fn at(mut self, abandoned: Abandoned) -> Self {
        if let Some(errand) = &mut self.0 {
            errand.told = Box::pin(abandoned.tell());
        }
        self
    }

    /// Takes note of the answer.
    pub(super) fn answered(mut self) {
        self.0 = None;
    }

    fn send(&mut self) {
        if let Some(errand) = self.0.take() {
            errand.send();
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.send();
    }
}

impl Lent {
    /// Returns the session of `entry`, which was opened for whoever asks for this.
    pub(super) fn new(turn: &Turn, backend: &Backend, entry: &Entry) -> Self {
        let kept = !entry.session.is_empty() && !is_modern(Some(entry));
        Self(kept.then(|| Errand::end(turn, backend, entry)))
    }

    /// Stands where no session was opened.
    pub(super) fn none() -> Self {
        Self(None)
    }

    fn send(&mut self) {
        if let Some(errand) = self.0.take() {
            errand.send();
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.send();
    }
}

impl Errand {
    fn cancel(turn: &Turn, backend: &Backend, entry: &Entry, id: &Id) -> Self {
        let (own, name, entry) = (turn.clone(), Arc::clone(&backend.name), entry.clone());
        let message = cancelled(id);
        let told = async move {
            let Some(backend) = own.route.backend(&name) else {
                return Ok(());
            };
            let caller = own.caller(backend);
            let told = caller.ask(Some(&entry), Ask::Post(&message), END_TIMEOUT);
            told.await.map(|_| ())
        };
        Self::new(turn, backend, told)
    }

    fn abandon(turn: &Turn, backend: &Backend, abandoned: Abandoned) -> Self {
        Self::new(turn, backend, abandoned.tell())
    }

    fn end(turn: &Turn, backend: &Backend, entry: &Entry) -> Self {
        let (own, name, entry) = (turn.clone(), Arc::clone(&backend.name), entry.clone());
        let told = async move {
            let Some(backend) = own.route.backend(&name) else {
                return Ok(());
            };
            let caller = own.caller(backend);
            let ended = caller.ask(Some(&entry), Ask::Delete, END_TIMEOUT);
            ended.await.map(|_| ())
        };
        Self::new(turn, backend, told)
    }

    fn new(
        turn: &Turn,
        backend: &Backend,
        told: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) -> Self {
        Self {
            room: Arc::clone(&turn.runtime.errands.0),
            backend: Arc::clone(&backend.name),
            told: Box::pin(told),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "whoever asked has gone, so that no request could carry it"
    )]
    fn send(self) {
        let Self { room, backend, told } = self;
        // Without a runtime the process is at its end, and so are its connections.
        let (Ok(room), Ok(runtime)) = (room.try_acquire_owned(), Handle::try_current()) else {
            tracing::debug!(%backend, "a backend is not told that nobody waits for it");
            return;
        };
        runtime.spawn(async move {
            let reason = match timeout(END_TIMEOUT, told).await {
                Ok(Ok(())) => None,
                Ok(Err(failure)) => Some(failure.reason),
                Err(_) => Some("it does not listen".to_owned()),
            };
            if let Some(reason) = reason {
                tracing::debug!(%backend, reason, "a backend was not told that nobody waits for it");
            }
            drop(room);
        });
    }
}

fn cancelled(id: &Id) -> Message {
    let mut params = Object::default();
    params.set("requestId", id.raw().to_owned());
    params.set("reason", json::raw("nobody waits for it any more"));
    Message::Notification(Notification {
        params: Some(params.to_raw()),
        ..Notification::new(method::CANCELLED)
    })
}
