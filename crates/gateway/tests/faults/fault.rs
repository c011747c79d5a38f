//! The faults of upstreams, and what clients see of each.

use std::{io::Write, sync::LazyLock};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use testkit::{Provider, Reply, fixture};

use crate::setup::{Limits, frames, response};

/// Something that an upstream does wrong, or slowly.
pub(crate) struct Fault {
    /// What it is, for the documentation.
    pub(crate) name: &'static str,
    /// The limits of the rule.
    pub(crate) limits: Limits,
    /// What the upstream does, by its format and whether it is to stream; `None` if it takes no connection.
    pub(crate) reply: fn(Provider, bool) -> Option<Reply>,
    /// The forms of replies in which it can be.
    pub(crate) forms: Forms,
    /// What clients see where there is no other backend.
    pub(crate) seen: Seen,
}

/// The forms of replies in which a fault can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forms {
    /// Both.
    Any,
    /// Documents only.
    Unary,
    /// Streams only.
    Stream,
}

/// What a client sees of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The answer: it is no fault after all.
    Served,
    /// An error with this status.
    Refused(u16),
    /// An error with this status for requests that are not tried elsewhere either.
    Final(u16),
    /// An error whose status the provider's own word stands for.
    RefusedInBand { openai: u16, messages: u16 },
    /// An error with status 429 and this `retry-after`, if any.
    Limited(Option<&'static str>),
    /// A stream that says its first word and ends with an error event.
    Broken,
}

impl Fault {
    /// Returns whether a reply of that form can have it.
    pub(crate) fn can_be(&self, stream: bool) -> bool {
        match self.forms {
            Forms::Any => true,
            Forms::Unary => !stream,
            Forms::Stream => stream,
        }
    }
}

impl Seen {
    /// Returns whether another backend is asked.
    pub(crate) fn moves_on(self) -> bool {
        match self {
            Seen::Refused(_) | Seen::RefusedInBand { .. } | Seen::Limited(_) => true,
            Seen::Served | Seen::Final(_) | Seen::Broken => false,
        }
    }

    /// Returns it in the documentation's words.
    pub(crate) fn words(self) -> String {
        match self {
            Seen::Served => "the answer".to_owned(),
            Seen::Refused(status) | Seen::Final(status) => status.to_string(),
            Seen::RefusedInBand { openai, messages } => {
                format!("{openai} or {messages}, as the provider's word says")
            }
            Seen::Limited(None) => "429".to_owned(),
            Seen::Limited(Some(after)) => format!("429, `retry-after: {after}`"),
            Seen::Broken => "what was said, then an error event".to_owned(),
        }
    }
}

const fn fault(
    name: &'static str,
    forms: Forms,
    limits: Limits,
    seen: Seen,
    reply: fn(Provider, bool) -> Option<Reply>,
) -> Fault {
    Fault {
        name,
        limits,
        reply,
        forms,
        seen,
    }
}

/// Every fault.
pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "refuses the connection",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(503),
        |_, _| None,
    ),
    fault(
        "resets before the head",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |_, _| Some(Reply::new().reset()),
    ),
    fault(
        "closes before the head",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |_, _| Some(Reply::new().close()),
    ),
    fault(
        "resets within the head",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |_, _| Some(Reply::new().raw("HTTP/1.1 200 OK\r\ncontent-ty").reset()),
    ),
    fault(
        "resets after the head",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |_, stream| Some(head(stream).reset()),
    ),
    fault(
        "cuts its document",
        Forms::Unary,
        Limits::Patient,
        Seen::Refused(502),
        |provider, _| Some(cut_document(provider)),
    ),
    fault(
        "cuts its stream before the first word",
        Forms::Stream,
        Limits::Patient,
        Seen::Refused(502),
        |provider, _| Some(head(true).frames(preamble(provider)).close()),
    ),
    fault(
        "cuts its stream after the first word",
        Forms::Stream,
        Limits::Patient,
        Seen::Broken,
        |provider, _| Some(begun(provider).close()),
    ),
    fault(
        "resets its stream after the first word",
        Forms::Stream,
        Limits::Patient,
        Seen::Broken,
        |provider, _| Some(begun(provider).reset()),
    ),
    fault(
        "ends its stream in order, but too early",
        Forms::Stream,
        Limits::Patient,
        Seen::Broken,
        |provider, _| Some(begun(provider).end()),
    ),
    fault(
        "cuts its stream within an event",
        Forms::Stream,
        Limits::Patient,
        Seen::Broken,
        |provider, _| Some(begun(provider).frame("data: {\"id\":\"chat").close()),
    ),
    fault(
        "stalls before the head",
        Forms::Any,
        Limits::Attempt,
        Seen::Refused(504),
        |_, _| Some(Reply::new().stall()),
    ),
    fault(
        "stalls after the head",
        Forms::Any,
        Limits::Attempt,
        Seen::Refused(504),
        |_, stream| Some(head(stream).stall()),
    ),
    fault(
        "stalls before the first word",
        Forms::Stream,
        Limits::Attempt,
        Seen::Refused(504),
        |provider, _| Some(head(true).frames(preamble(provider)).stall()),
    ),
    fault(
        "stalls after the first word",
        Forms::Stream,
        Limits::Idle,
        Seen::Broken,
        |provider, _| Some(begun(provider).stall()),
    ),
    fault(
        "sends an error event first",
        Forms::Stream,
        Limits::Patient,
        Seen::RefusedInBand {
            openai: 500,
            messages: 529,
        },
        |provider, _| Some(head(true).frame(error_event(provider)).end()),
    ),
    fault(
        "sends an error event after the first word",
        Forms::Stream,
        Limits::Patient,
        Seen::Broken,
        |provider, _| Some(begun(provider).frame(error_event(provider)).end()),
    ),
    fault(
        "answers with 429",
        Forms::Any,
        Limits::Patient,
        Seen::Limited(None),
        |provider, _| Some(failure(provider, 429, &[])),
    ),
    fault(
        "answers with 429 and `retry-after`",
        Forms::Any,
        Limits::Patient,
        Seen::Limited(Some("7")),
        |provider, _| Some(failure(provider, 429, &[("retry-after", "7")])),
    ),
    fault(
        "answers with 408",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(408),
        |provider, _| Some(failure(provider, 408, &[])),
    ),
    fault(
        "answers with 500",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(500),
        |provider, _| Some(failure(provider, 500, &[])),
    ),
    fault(
        "answers with 502",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |provider, _| Some(failure(provider, 502, &[])),
    ),
    fault(
        "answers with 503",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(503),
        |provider, _| Some(failure(provider, 503, &[])),
    ),
    fault(
        "answers with 504",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(504),
        |provider, _| Some(failure(provider, 504, &[])),
    ),
    fault(
        "answers with 529",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(529),
        |provider, _| Some(failure(provider, 529, &[])),
    ),
    fault(
        "answers with 503 and `retry-after`",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(503),
        |provider, _| Some(failure(provider, 503, &[("retry-after", "7")])),
    ),
    fault(
        "answers with 400",
        Forms::Any,
        Limits::Patient,
        Seen::Final(400),
        |provider, _| Some(failure(provider, 400, &[])),
    ),
    fault(
        "answers with 401",
        Forms::Any,
        Limits::Patient,
        Seen::Final(401),
        |provider, _| Some(failure(provider, 401, &[])),
    ),
    fault(
        "answers with 404",
        Forms::Any,
        Limits::Patient,
        Seen::Final(404),
        |provider, _| Some(failure(provider, 404, &[])),
    ),
    fault(
        "answers with 413",
        Forms::Any,
        Limits::Patient,
        Seen::Final(413),
        |provider, _| Some(failure(provider, 413, &[])),
    ),
    fault(
        "answers with 503 in HTML",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(503),
        |_, _| Some(Reply::whole(503, HTML, "<h1>down</h1>")),
    ),
    fault(
        "answers with 200 and invalid JSON",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |_, _| Some(Reply::whole(200, JSON, "{\"id\": nope")),
    ),
    fault(
        "answers with 200 and HTML",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |_, _| Some(Reply::whole(200, HTML, "<h1>welcome</h1>")),
    ),
    fault(
        "answers with 200 and nothing",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |_, stream| Some(nothing(stream)),
    ),
    fault(
        "redirects",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |_, _| Some(Reply::whole(302, &[("location", "http://elsewhere/")], "")),
    ),
    fault(
        "sends a bomb: few bytes, compressed, that stand for many",
        Forms::Any,
        Limits::Patient,
        Seen::Refused(502),
        |_, stream| Some(bomb(stream)),
    ),
    fault(
        "drips byte by byte",
        Forms::Any,
        Limits::Idle,
        Seen::Served,
        |provider, stream| Some(drip(provider, stream)),
    ),
];

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const HTML: &[(&str, &str)] = &[("content-type", "text/html")];

/// The time between two bytes of an upstream that drips.
const DRIP: std::time::Duration = std::time::Duration::from_micros(200);

fn drip(provider: Provider, stream: bool) -> Reply {
    if stream {
        return head(true).drip(&frames(provider).concat(), DRIP).end();
    }
    let body = response(provider).to_string();
    let length = body.len().to_string();
    let headers = [JSON, &[("content-length", length.as_str())]].concat();
    Reply::new().head(200, &headers).drip(&body, DRIP)
}

/// 16 MiB of nothing, in gzip.
fn bomb(stream: bool) -> Reply {
    static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let written = encoder.write_all(&vec![0; 16 * 1024 * 1024]);
        written
            .and_then(|()| encoder.finish())
            .expect("a Vec takes everything")
    });
    let kind = if stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let length = BOMB.len().to_string();
    let headers = [
        ("content-type", kind),
        ("content-encoding", "gzip"),
        ("content-length", length.as_str()),
    ];
    Reply::new().head(200, &headers).raw(BOMB.clone())
}

fn nothing(stream: bool) -> Reply {
    if stream {
        head(true).end()
    } else {
        Reply::whole(200, JSON, "")
    }
}

fn cut_document(provider: Provider) -> Reply {
    let body = response(provider).to_string();
    let (first, _) = body.split_at(body.len() / 2);
    head(false).raw(first.to_owned()).close()
}

fn head(stream: bool) -> Reply {
    if stream {
        Reply::stream()
    } else {
        Reply::new().head(
            200,
            &[("content-type", "application/json"), ("content-length", "1000")],
        )
    }
}

/// The events before the first word.
fn preamble(provider: Provider) -> Vec<String> {
    let frames = frames(provider);
    let silent = match provider {
        Provider::OpenAi => 1,
        Provider::Messages => 3,
    };
    frames.into_iter().take(silent).collect()
}

/// A stream that has said its first word.
fn begun(provider: Provider) -> Reply {
    let said = preamble(provider).len() + 1;
    Reply::stream().frames(frames(provider).into_iter().take(said))
}

fn error_document(provider: Provider) -> Value {
    match provider {
        Provider::OpenAi => fixture::openai::error("server_error", "server_error", "It broke."),
        Provider::Messages => fixture::messages::error("overloaded_error", "It broke."),
    }
}

fn error_event(provider: Provider) -> String {
    let document = error_document(provider);
    match provider {
        Provider::OpenAi => fixture::openai::frame(&document),
        Provider::Messages => fixture::messages::frame("error", &document),
    }
}

fn failure(provider: Provider, status: u16, headers: &[(&str, &str)]) -> Reply {
    let headers = [headers, &[("content-type", "application/json")]].concat();
    Reply::whole(status, &headers, &error_document(provider).to_string())
}
