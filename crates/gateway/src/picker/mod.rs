//! Endpoint pickers: who says which pods of a pool serve a request, and sees the request and its reply pass.
//!
//! A picker is asked once for a request, before anybody is called. What it makes of the request is what every endpoint is
//! sent that it names; the reply of the one that answers goes past it on the way back. The conversation lasts as long as
//! the reply does, and is driven by whoever waits for that.

mod asking;
mod parting;
mod pods;
mod shown;
mod talk;
mod walk;

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use config::snapshot::{Backend, Endpoint, Picker};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use policy::{
    ext_proc::{self, Immediate, Modes, Side},
    header_edit::HeaderEdit,
};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

pub(crate) use parting::Parting;
pub(crate) use pods::Pods;
pub(crate) use shown::Shown;
pub(crate) use talk::{Failed, Speech};
pub(crate) use walk::Walk;

use crate::{
    ctx::Ctx,
    refusal::{Answer, Content},
    upstream::{Broken, Client, Reply},
};
use asking::{Made, Said, ask};
use shown::Headed;
use talk::Talk;

/// How long a picker may take for one message.
const MESSAGE: Duration = Duration::from_secs(300);

/// What is said in place of a type that a picker does not give its answer.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// A request that a picker is shown.
pub(crate) struct Question<'a> {
    pub(crate) method: &'a Method,
    /// Path and query.
    pub(crate) target: &'a str,
    pub(crate) scheme: &'static str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Bytes,
}

/// What comes of asking.
pub(crate) enum Pick {
    /// The request is sent to whom was named.
    Named(Box<Picked>),
    /// The client is told this.
    Answer(Answer),
}

/// Where a request goes, and what is made of it.
pub(crate) struct Picked {
    /// The endpoints, the most wanted first; never empty.
    pub(crate) ways: Vec<Way>,
    edits: Vec<HeaderEdit>,
    path: Option<String>,
    /// What stands for the body.
    body: Option<Bytes>,
    /// What the picker still has to see; taken with the reply that it is shown.
    rest: Mutex<Option<Rest>>,
}

/// An endpoint that was named.
pub(crate) struct Way {
    /// As the picker knows it.
    address: String,
    pub(crate) client: Arc<Client>,
}

/// What is left of a conversation once it is known where a request goes.
struct Rest {
    talk: Talk,
    modes: Modes,
    may_change_modes: bool,
    may_fail: bool,
}

/// Asks the picker of `backend` where the request goes that `question` shows it, until `deadline`. Where it fails and any
/// endpoint will do, that is where the request goes.
///
/// # Errors
/// Why nobody is called.
pub(crate) async fn pick(
    ctx: &Ctx,
    backend: &Backend,
    picker: &Picker,
    question: Question<'_>,
    deadline: Instant,
) -> Result<Pick, Failed> {
    let now = Instant::now();
    let may_fail = picker.fails_open && !backend.endpoints.is_empty();
    // What is left is for whoever serves in the place of those that it would name.
    let until = match may_fail {
        true => now + deadline.saturating_duration_since(now) / 2,
        false => deadline,
    };
    let failed = match ask(ctx, picker, &question, until).await {
        Ok(Said::Answer(immediate)) => return Ok(Pick::Answer(answer(immediate))),
        Ok(Said::Made { made, modes, talk }) => {
            let named = ext_proc::destinations(made.destination.as_deref().unwrap_or_default());
            let ways = named.iter().map(|address| Endpoint {
                protocol: picker.protocol,
                ..Endpoint::new(address.ip().to_string(), address.port())
            });
            let ways = ways_to(ctx, ways);
            if !ways.is_empty() {
                let rest = talk.map(|talk| Rest {
                    talk,
                    modes,
                    may_change_modes: picker.may_change_modes,
                    may_fail: picker.fails_open,
                });
                return Ok(Pick::Named(Box::new(Picked {
                    ways,
                    edits: made.edits,
                    path: made.path,
                    body: made.body,
                    rest: Mutex::new(rest),
                })));
            }
            Failed::Nowhere
        }
        Err(failed) => failed,
    };
    let error = &failed as &dyn std::error::Error;
    debug!(backend = %backend.id, error, fails_open = may_fail, "endpoint picker failed");
    if !may_fail {
        return Err(failed);
    }
    let mut members: Vec<Endpoint> = backend.endpoints.clone();
    fastrand::shuffle(&mut members);
    Ok(Pick::Named(Box::new(Picked {
        ways: ways_to(ctx, members.into_iter()),
        edits: Vec::new(),
        path: None,
        body: None,
        rest: Mutex::new(None),
    })))
}

fn ways_to(ctx: &Ctx, endpoints: impl Iterator<Item = Endpoint>) -> Vec<Way> {
    let ways = endpoints.map(|endpoint| Way {
        address: endpoint.written(),
        client: ctx.runtime.pods.client(&endpoint),
    });
    ways.collect()
}

impl Picked {
    /// Makes of the headers of a request what the picker has made of them.
    pub(crate) fn dress(&self, headers: &mut HeaderMap) {
        for edit in &self.edits {
            edit.apply(headers);
        }
    }

    /// Returns what is asked for in place of the path and query.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns what is sent in place of the body.
    pub(crate) fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// Returns the reply as the picker has it: `response` is what the endpoint at `place` has answered, and what the client
    /// is to get. Later replies stay as they are.
    ///
    /// # Errors
    /// If the picker fails, or the reply breaks while the picker wants to see of it.
    pub(crate) async fn show(
        &self,
        place: usize,
        response: Response<Reply>,
        until: Instant,
    ) -> Result<Response<Reply>, Broken> {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(rest) = rest else {
            return Ok(response);
        };
        if !rest.modes.reply_head {
            rest.talk.leave();
            return Ok(response);
        }
        let (mut head, reply) = response.into_parts();
        let address = self.ways.get(place).map(|way| way.address.as_str());
        let said = ext_proc::Head {
            pseudo: &[(":status", head.status.as_str())],
            headers: &head.headers,
            is_last: http_body::Body::is_end_stream(&reply),
        };
        let served = ext_proc::served(address.unwrap_or_default());
        rest.talk.say(ext_proc::head(Side::Reply, said, &served, None));
        let mut shown = Shown::new(reply, rest.talk, rest.modes, rest.may_fail);
        let limit = until.min(Instant::now() + MESSAGE);
        let headed = match timeout_at(limit, poll_fn(|cx| shown.poll_head(cx))).await {
            Ok(headed) => headed?,
            Err(_) => shown.go_on(Err(Failed::Silent)).map(|()| Headed::Alone)?,
        };
        match headed {
            Headed::Alone => {}
            Headed::Changed(change, wanted) => {
                if let Some(wanted) = wanted.filter(|_| rest.may_change_modes) {
                    shown.see(wanted);
                }
                head.status = change.status.unwrap_or(head.status);
                for edit in &change.edits {
                    edit.apply(&mut head.headers);
                }
                if shown.may_change() || change.replaces {
                    head.headers.remove(header::CONTENT_LENGTH);
                }
                if change.replaces {
                    let mut made = Made::default();
                    shown.replace(made.change(*change).unwrap_or_default());
                }
            }
            Headed::Answer(immediate) => {
                let (status, headers, body) = parts(*immediate);
                (head.status, head.headers) = (status, headers);
                shown.replace(body);
            }
        }
        Ok(Response::from_parts(head, Reply::Shown(Box::new(shown))))
    }
}

/// Returns what a picker has the client told.
fn answer(immediate: Immediate) -> Answer {
    let (status, headers, body) = parts(immediate);
    Answer {
        status,
        headers,
        content: Content::Whole(body),
    }
}

fn parts(immediate: Immediate) -> (StatusCode, HeaderMap, Bytes) {
    let Immediate {
        status,
        mut headers,
        body,
        grpc,
    } = immediate;
    if !body.is_empty() {
        headers.entry(header::CONTENT_TYPE).or_insert(TEXT);
    }
    if let Some(grpc) = grpc {
        headers.insert("grpc-status", HeaderValue::from(grpc));
    }
    (status, headers, body)
}
