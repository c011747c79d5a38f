//! What one backend answers: followed to its end, and said in the client's words.

use std::time::Duration;

use config::mcp_route::Backend;
use mcp::{
    Id, Message, Method, Outcome, Request, Response,
    event::Place,
    input::Inputs,
    json::{self, Object},
    method::Resource,
    modern::{self, Hints},
    sse, state,
};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{
    call::{Ask, Events, Failure, Fault, Reply, is_modern},
    errand, front,
    hear::{Heard, hear},
    inband,
    listen::LONGEST_WAIT,
    outlet::{Outlet, Said},
    refused::Refused,
    turn::Turn,
};

/// How often a stream that breaks is asked for again.
const RESUMES: usize = 3;

/// A backend that answers a request, and whom it is told.
pub(super) struct Answering<'a> {
    pub(super) turn: &'a Turn,
    pub(super) outlet: &'a Outlet,
    pub(super) backend: &'a Backend,
    /// What was asked.
    pub(super) method: &'a str,
    /// The request, where it is at hand.
    pub(super) request: Option<&'a Request>,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// What came of following a stream.
pub(super) enum Followed {
    /// The answer, and the id of its event.
    Answer(Response, Option<String>),
    /// The backend will go on when it is asked again, and so will the client.
    Later,
    /// The backend will go on when it is answered, which the client does with another request.
    Asks(Request, Box<Events>),
}

impl Followed {
    /// Returns whether it is a result, rather than an error.
    pub(super) fn is_result(&self) -> bool {
        match self {
            Followed::Answer(response, _) => matches!(response.outcome, Outcome::Result(_)),
            Followed::Later | Followed::Asks(..) => false,
        }
    }

    /// Returns what a backend without sessions asks back.
    pub(super) fn asks_back(&self) -> Option<Inputs> {
        match self {
            Followed::Answer(response, _) => match &response.outcome {
                Outcome::Result(result) => Inputs::read(result),
                Outcome::Error(_) => None,
            },
            Followed::Later | Followed::Asks(..) => None,
        }
    }

    /// Returns the answer to the client's request.
    pub(super) fn said(self, answer: &Answering<'_>, request: &Request) -> Result<Said, Box<Refused>> {
        match self {
            Followed::Answer(response, event) => Ok(Said {
                event,
                ..answer.said(response, Some(&request.id))?
            }),
            Followed::Later => Ok(Said::nothing()),
            Followed::Asks(asked, events) => answer.asks(asked, events),
        }
    }
}

impl Answering<'_> {
    /// Takes a reply to its end, which must come before `until`.
    pub(super) async fn conclude(&self, reply: Reply, until: Instant) -> Result<Followed, Failure> {
        let none = || Failure::new(&self.backend.name, Fault::BadReply, "it gave no answer");
        match reply {
            Reply::Message(message, _) => match hear(self.turn, self.backend, message).await {
                Heard::Answer(response) => self.answered(response, None),
                Heard::Tell(_) | Heard::Asks(_) | Heard::Settled => Err(none()),
            },
            Reply::Events(events, _) => self.follow(events, until).await,
            Reply::Nothing => Err(none()),
        }
    }

    /// Takes the answer, and the id of its event. What is none to clients, they would pass over and go on to wait.
    fn answered(&self, response: Response, event: Option<String>) -> Result<Followed, Failure> {
        if response.is_sound() {
            return Ok(Followed::Answer(response, event));
        }
        let reason = "its answer is neither a result nor an error";
        Err(Failure::new(&self.backend.name, Fault::BadReply, reason))
    }

    /// Hands on what the backend says until it answers, before `until`. A stream that breaks is asked for again.
    pub(super) async fn follow(&self, mut events: Box<Events>, until: Instant) -> Result<Followed, Failure> {
        let mut last: Option<String> = None;
        let mut resumed = 0;
        let mut wait = Duration::from_secs(1);
        loop {
            let Ok(next) = timeout_at(until, events.next()).await else {
                if let Some(request) = self.request {
                    errand::give_up(self.turn, self.backend, &request.id, Some(&events));
                }
                return Err(self.late());
            };
            let failure = match next {
                Ok(Some(arrived)) => {
                    if let Some(retry) = arrived.retry {
                        wait = Duration::from_millis(retry).min(LONGEST_WAIT);
                        if self.turn.resumes() {
                            self.outlet.write(|out| sse::write_retry(out, retry)).await;
                        }
                    }
                    let event = arrived.id.as_ref().and_then(|id| self.place(id));
                    last = arrived.id.or(last);
                    let Some(message) = arrived.message else {
                        if let Some(event) = event.filter(|_| self.turn.resumes()) {
                            self.outlet.write(|out| sse::write_place(out, &event)).await;
                        }
                        continue;
                    };
                    match hear(self.turn, self.backend, message).await {
                        Heard::Answer(response) => return self.answered(response, event),
                        Heard::Tell(message) => self.outlet.say(event.as_deref(), &message.to_raw()).await,
                        Heard::Asks(asked) if inband::can_answer(self.turn, &asked) => {
                            return Ok(Followed::Asks(asked, events));
                        }
                        Heard::Asks(asked) => inband::decline(self.turn, self.backend, &asked).await,
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
            tokio::time::sleep_until(until.min(Instant::now() + wait)).await;
            let again = self
                .turn
                .ask(self.backend, Ask::Get(Some(id)), self.backend.list_timeout);
            match again.await? {
                Reply::Events(mut again, _) => {
                    events.unwatch().into_iter().for_each(|call| again.watch(call));
                    events = again;
                }
                Reply::Message(..) | Reply::Nothing => return Err(failure),
            }
        }
    }

    /// Returns an answer in the client's words, to the request that it knows as `id`.
    pub(super) fn said(&self, response: Response, id: Option<&Id>) -> Result<Said, Box<Refused>> {
        let id = id.cloned().or(response.id);
        let outcome = match response.outcome {
            Outcome::Result(result) if self.turn.is_modern() => Outcome::Result(self.finished(&result)?),
            Outcome::Result(result) => Outcome::Result(self.named(&result)),
            Outcome::Error(error) => {
                let error = self.error(error);
                if self.turn.is_modern() {
                    return Ok(front::failed(error, id.as_ref()));
                }
                Outcome::Error(error)
            }
        };
        Ok(Said::message(
            Message::Response(Response { id, outcome }).to_raw(),
        ))
    }

    /// Gives the client what the backend asks as the result.
    pub(super) fn asks(&self, asked: Request, events: Box<Events>) -> Result<Said, Box<Refused>> {
        let gone = || Failure::new(&self.backend.name, Fault::BadReply, "it asks whom nobody knows");
        let request = self.request.ok_or_else(gone)?;
        let inputs = inband::hold(self, request, asked, events)?;
        let result = front::finished(self.turn, &inputs.to_raw(), None);
        Ok(Said::message(request.answer(result).to_raw()))
    }

    fn named(&self, result: &RawValue) -> Box<RawValue> {
        let naming = self.turn.naming(self.backend);
        match Method::find(self.method) {
            Some(method) => naming.result(method, result).into_owned(),
            None => result.to_owned(),
        }
    }

    /// Returns a result for a client without a session.
    fn finished(&self, result: &RawValue) -> Result<Box<RawValue>, Box<Refused>> {
        if let (Some(mut inputs), Some(request)) = (Inputs::read(result), self.request) {
            inputs.check(&json::document(&self.turn.session.client.capabilities))?;
            if let Some(state) = inputs.state.take() {
                let place = state::Place::Server(state);
                inputs.state = Some(inband::token(self.turn, self.backend, request, place));
            }
            let inputs = inputs.named(&self.turn.naming(self.backend));
            return Ok(front::finished(self.turn, &inputs.to_raw(), None));
        }
        let hints = (self.method == "resources/read").then(|| {
            let hints = Hints::read(result).unwrap_or(Hints::NONE);
            front::shared(self.turn, hints)
        });
        Ok(front::finished(self.turn, &self.named(result), hints))
    }

    /// Returns an error in the client's words: a resource is called what the client calls it, and that it is not
    /// there has another code in each line.
    fn error(&self, error: Box<RawValue>) -> Box<RawValue> {
        let Some(Method::Resource(Resource::Read)) = Method::find(self.method) else {
            return error;
        };
        let params = self.request.and_then(Request::object);
        let Some(uri) = params.as_ref().and_then(|params| params.text("uri")) else {
            return error;
        };
        let naming = self.turn.naming(self.backend);
        let named = || {
            let mut object = Object::parse(&error)?;
            object.edit("data", |data| {
                let mut data = Object::parse(data)?;
                let same = naming.uri(&data.text("uri")?) == uri;
                same.then(|| data.set("uri", json::raw(&uri)));
                Some(data.to_raw())
            });
            Some(object.to_raw())
        };
        let named = named().unwrap_or_else(|| error.clone());
        let entry = self.turn.entry(&self.backend.name);
        if self.turn.is_modern() || !is_modern(entry.as_ref()) {
            return named;
        }
        modern::legacy_error(&named, &uri).unwrap_or(named)
    }

    /// Returns where the client goes on, if it can come back for the rest.
    fn place(&self, event: &str) -> Option<String> {
        if self.turn.is_modern() {
            return None;
        }
        self.turn.place(&Place::Answer {
            backend: self.backend.name.to_string(),
            event: event.to_owned(),
            method: self.method.to_owned(),
        })
    }

    fn late(&self) -> Failure {
        let reason = format!("no answer within {} s", self.limit.as_secs_f32());
        Failure::new(&self.backend.name, Fault::Timeout, reason)
    }
}
