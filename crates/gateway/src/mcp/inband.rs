//! What servers ask of clients while they work, where only one of the two keeps sessions.
//!
//! A server with sessions asks in the middle of its stream. A client without them is given the question as a
//! result, while the stream is held here, and the answer comes with a request of its own. A server without
//! sessions gives its question as a result; a client with sessions is asked in the middle of its stream, and the
//! request is made again with what it answered.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use config::mcp_route::Backend;
use mcp::{
    Message, Outcome, Request, Response, RpcError, error,
    input::{Input, Inputs},
    json::{self, Object},
    modern,
    session::Entry,
    state::{Place, State},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    answering::Answering,
    call::{Ask, Events, Failure, Fault},
    outlet::Outlet,
    peers,
    refused::Refused,
    sessions::{Fingerprint, now},
    turn::{NOTE_TIMEOUT, Turn},
};
use crate::gather::gather;

/// How long a client may take to answer.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The most streams that are held.
const MAX_HELD: usize = 1024;

/// Streams of servers that wait for an answer.
#[derive(Default)]
pub(crate) struct Holding(Mutex<HashMap<String, Held>>);

/// A stream that goes on once its server is answered.
pub(super) struct Held {
    pub(super) entry: Entry,
    pub(super) events: Box<Events>,
    /// How long the answer may take once it goes on.
    pub(super) limit: Duration,
    /// What the server asked.
    asked: Request,
    until: Instant,
}

/// The one key of a question that a server with sessions asked.
const KEY: &str = "input";

impl Holding {
    /// Lets go of what nobody came back for.
    pub(crate) fn prune(&self) {
        let now = Instant::now();
        self.lock().retain(|_, held| held.until > now);
    }

    /// Holds a stream. Where there is no room, the one lets go that has waited longest: most likely nobody comes back for it.
    fn put(&self, name: String, held: Held) {
        self.prune();
        let let_go = {
            let mut shelf = self.lock();
            let oldest = shelf.iter().min_by_key(|(_, held)| held.until);
            let oldest = oldest
                .map(|(name, _)| name.clone())
                .filter(|_| shelf.len() >= MAX_HELD);
            let let_go = oldest.and_then(|name| shelf.remove(&name));
            shelf.insert(name, held);
            let_go
        };
        if let Some(held) = let_go {
            tracing::debug!(backend = %held.entry.backend, "a call that waits for an answer made room for another");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request goes on with.
pub(super) enum Again {
    /// Nothing: it is the first.
    First,
    /// The server's own reminder, in the request.
    Server(Request),
    /// A stream that was held.
    Held(Held),
}

/// Reads what a client without a session was told to say again.
pub(super) fn reminded(turn: &mut Turn, request: &Request) -> Result<Again, Box<Refused>> {
    let invalid = || Refused::params("invalid requestState");
    let params = request
        .object()
        .ok_or_else(|| Refused::params("invalid params"))?;
    let Some(token) = params.get("requestState") else {
        return Ok(Again::First);
    };
    let token = json::text(token).ok_or_else(invalid)?;
    let tokens = turn.runtime.sessions.tokens();
    let state = tokens
        .open_state(&token, &turn.route.id, now())
        .ok_or_else(invalid)?;
    let named = modern::name(&request.method, &params).unwrap_or_default();
    let backend = turn.route.backend(&state.backend).ok_or_else(invalid)?;
    if state.method != request.method || state.name != named || state.owner != peers::owner(turn, backend) {
        return Err(invalid());
    }
    match state.place {
        Place::Server(own) => {
            let mut params = params.clone();
            params.set("requestState", json::raw(&own));
            let params = Some(params.to_raw());
            if let Some(own) = &mut turn.own {
                own.meant = Some(state.backend);
            }
            Ok(Again::Server(Request {
                params,
                ..request.clone()
            }))
        }
        Place::Held(name) => {
            let held = turn.runtime.held.lock().remove(&name);
            let held = held.filter(|held| held.until > Instant::now());
            held.map(Again::Held).ok_or_else(|| {
                let message = "the call that was to go on is not held here any more";
                RpcError::new(error::SERVER, message).into()
            })
        }
    }
}

/// Returns the token of a state of `request`, which the client made of `backend`.
pub(super) fn token(turn: &Turn, backend: &Backend, request: &Request, place: Place) -> String {
    let params = request.object().unwrap_or_default();
    let state = State {
        backend: backend.name.to_string(),
        method: request.method.clone(),
        name: modern::name(&request.method, &params)
            .unwrap_or_default()
            .into_owned(),
        owner: peers::owner(turn, backend),
        expires: now() + PATIENCE.as_secs(),
        place,
    };
    let sessions = &turn.runtime.sessions;
    sessions
        .tokens()
        .seal_state(&state, &turn.route.id, sessions.draw())
}

/// Holds the stream of a server that asked something, and returns the question as a result.
pub(super) fn hold(
    answer: &Answering<'_>,
    request: &Request,
    asked: Request,
    events: Box<Events>,
) -> Result<Inputs, Failure> {
    let (turn, backend) = (answer.turn, answer.backend);
    let gone = || Failure::new(&backend.name, Fault::Broken, "its session is gone");
    let entry = turn.entry(&backend.name).ok_or_else(gone)?;
    let name = format!("{:032x}", u128::from_le_bytes(turn.runtime.sessions.draw()));
    let state = token(turn, backend, request, Place::Held(name.clone()));
    let inputs = question(&asked, state).named(&turn.naming(backend));
    let held = Held {
        entry,
        events,
        limit: answer.limit,
        asked,
        until: Instant::now() + PATIENCE,
    };
    turn.runtime.held.put(name, held);
    Ok(inputs)
}

fn question(asked: &Request, state: String) -> Inputs {
    Inputs {
        requests: vec![Input {
            key: KEY.to_owned(),
            method: asked.method.clone(),
            params: asked.params.clone(),
        }],
        state: Some(state),
    }
}

/// Hands a server the client's answer; returns what was asked if there is none, so that it can be asked again.
pub(super) async fn answer(
    turn: &Turn,
    backend: &Backend,
    request: &Request,
    held: Held,
) -> Result<(Box<Events>, Option<Request>), Failure> {
    let params = request.object().unwrap_or_default();
    let responses = params.object("inputResponses").unwrap_or_default();
    let Some(response) = responses.get(KEY) else {
        return Ok((held.events, Some(held.asked)));
    };
    let answer = Message::Response(Response {
        id: Some(held.asked.id.clone()),
        outcome: Outcome::Result(response.to_owned()),
    });
    let caller = turn.caller(backend);
    caller
        .ask(Some(&held.entry), Ask::Post(&answer), NOTE_TIMEOUT)
        .await?;
    Ok((held.events, None))
}

/// Returns whether the client of `turn` said that it can answer this.
pub(super) fn can_answer(turn: &Turn, asked: &Request) -> bool {
    let known = matches!(
        asked.method.as_str(),
        "elicitation/create" | "sampling/createMessage" | "roots/list"
    );
    let input = Input {
        key: String::new(),
        method: asked.method.clone(),
        params: asked.params.clone(),
    };
    let capabilities = json::document(&turn.session.client.capabilities);
    let capabilities = Object::parse(&capabilities).unwrap_or_default();
    known && input.missing(&capabilities).is_none()
}

/// Tells a server that its client cannot be asked that.
pub(super) async fn decline(turn: &Turn, backend: &Backend, asked: &Request) {
    let answer = RpcError::unknown_method(&asked.method).to_message(Some(&asked.id));
    if let Err(failure) = turn.tell(backend, &answer).await {
        tracing::debug!(backend = %backend.name, reason = %failure.reason, "a request was not declined");
    }
}

/// Clients with sessions that were asked something for a server without.
#[derive(Default)]
pub(super) struct Waits(Mutex<HashMap<(Fingerprint, String), oneshot::Sender<Outcome>>>);

/// One that was asked; forgotten when it is dropped.
struct Wait<'w> {
    waits: &'w Waits,
    key: (Fingerprint, String),
    answer: oneshot::Receiver<Outcome>,
}

impl Waits {
    /// Hands on the answer to what was asked as `name` in `session`; returns whether anybody waits for it.
    pub(super) fn answered(&self, session: Fingerprint, name: String, outcome: Outcome) -> bool {
        let waiting = self.lock().remove(&(session, name));
        waiting.is_some_and(|waiting| waiting.send(outcome).is_ok())
    }

    fn wait(&self, session: Fingerprint, name: String) -> Wait<'_> {
        let (sender, answer) = oneshot::channel();
        let key = (session, name);
        self.lock().insert(key.clone(), sender);
        Wait {
            waits: self,
            key,
            answer,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Fingerprint, String), oneshot::Sender<Outcome>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wait<'_> {
    fn forget(&self) {
        self.waits.lock().remove(&self.key);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Asks a client with a session what a server without wants to know.
///
/// # Errors
/// What the client refuses, or cannot answer, as an error object.
pub(super) async fn ask<'a>(
    turn: &Turn,
    outlet: &Outlet,
    backend: &Backend,
    inputs: &Inputs,
) -> Result<Object<'a>, Box<Refused>> {
    let capabilities = json::document(&turn.session.client.capabilities);
    inputs.check(&capabilities).map_err(|error| {
        let error = RpcError::new(error::SERVER, error.message);
        Refused::new(http::StatusCode::OK, error)
    })?;
    let asked = inputs.requests.iter().map(|input| async move {
        let name = format!("{:032x}", fastrand::u128(..));
        let mut wait = turn.runtime.sessions.waits.wait(turn.fingerprint, name.clone());
        let request = Message::Request(Request {
            id: turn.ticket(&backend.name, &json::raw(&name)),
            method: input.method.clone(),
            params: input.params.clone(),
        });
        outlet.say(None, &request.to_raw()).await;
        timeout(PATIENCE, &mut wait.answer).await
    });
    let mut responses = Object::default();
    for (input, answered) in inputs.requests.iter().zip(gather(asked).await) {
        match answered {
            Ok(Ok(Outcome::Result(result))) => responses.set(&input.key, result),
            Ok(Ok(Outcome::Error(_))) => return Err(declined("the client refused to answer")),
            Ok(Err(_)) | Err(_) => return Err(declined("the client did not answer")),
        }
    }
    Ok(responses)
}

fn declined(message: &str) -> Box<Refused> {
    Refused::new(http::StatusCode::OK, RpcError::new(error::SERVER, message))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mcp::{Capabilities, Id};

    use super::*;

    fn held(until: Instant) -> Held {
        let backend: Arc<str> = Arc::from("one");
        Held {
            entry: Entry {
                backend: backend.to_string(),
                session: String::new(),
                capabilities: Capabilities::NONE,
                version: None,
                endpoint: None,
            },
            events: Box::new(Events::read(&backend, Vec::new(), None)),
            limit: PATIENCE,
            asked: Request {
                id: Id::text("q"),
                method: "roots/list".to_owned(),
                params: None,
            },
            until,
        }
    }

    /// Whoever asks and never comes back does not keep others from being asked.
    #[tokio::test]
    async fn what_has_waited_longest_makes_room() {
        let (holding, until) = (Holding::default(), Instant::now() + PATIENCE);
        for index in 0..MAX_HELD {
            holding.put(index.to_string(), held(until + Duration::from_secs(index as u64)));
        }
        holding.put("new".to_owned(), held(until + PATIENCE));
        let shelf = holding.lock();
        let is_held = ["0", "1", "new"].map(|name| shelf.contains_key(name));
        assert_eq!((is_held, shelf.len()), ([false, true, true], MAX_HELD));
    }
}
