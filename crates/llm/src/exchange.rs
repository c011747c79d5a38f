//! The upstream speaks another format: the client half of one format and the upstream half of the other,
//! joined by the neutral form.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::{
    ApiError, Call, Losses, Observed, Target,
    chat::{
        Client, DecodeReply, DecodeStream, Delta, EncodeStream, Event, Finish, Grammar, Head, PartHead,
        Request, StreamOptions, Upstream, attribution, citation, custom, search, shown,
    },
    frame::{Framer, Framing},
    inbound::Sides,
    json::Shallow,
    kept::{Keep, Kept},
    provider::beta,
    reply::{self, Answer, End},
};

/// What is to be done with the reply to a translated call.
pub struct Reply {
    client: &'static dyn Client,
    pub(crate) upstream: &'static dyn Upstream,
    pub(crate) framing: Framing,
    decode: Box<dyn DecodeReply>,
    stream: StreamOptions,
    keep: Option<Keep>,
    told: Told,
}

/// What the client is told of an answer that the answer itself does not say.
struct Told {
    /// The id that the head of the reply has for it.
    id: Option<String>,
    /// Members of the request that are repeated.
    echo: Option<Arc<str>>,
    /// What the client called the model, where a route names another.
    model: Option<String>,
    now: u64,
}

/// The header in which AWS names a reply, for formats whose documents have no id.
const REQUEST_ID: &str = "x-amzn-requestid";

/// A streamed reply that is translated event by event.
pub struct Stream {
    /// What was overheard so far.
    pub observed: Observed,
    framer: Framer,
    decode: Box<dyn DecodeStream>,
    encode: Box<dyn EncodeStream>,
    events: Vec<Event>,
    keep_alive: &'static [u8],
    grammar: Grammar,
    keep: Option<Keep>,
    told: Told,
    ended: bool,
}

/// Returns the call that says `request`, decoded with `losses`, to `target`. The client is told `echo` again, and
/// the answer is kept as `keep` says.
///
/// # Errors
/// A 4xx, if the request cannot be said there, or not without a material loss.
pub(crate) fn call(
    sides: &Sides<'_>,
    mut request: Request,
    mut losses: Losses,
    target: &Target<'_>,
    echo: Option<Arc<str>>,
    keep: Option<Keep>,
) -> Result<Call, ApiError> {
    let Sides {
        client,
        upstream,
        ask,
        headers,
    } = *sides;
    let stream = request.stream.unwrap_or_default();
    attribution::lower(&mut request, ask.format, &mut losses);
    shown::lower(&mut request, ask.format, &mut losses);
    citation::lower(&mut request, ask.format, &mut losses);
    search::lower(&mut request, ask.format, target, &mut losses);
    let lowered = custom::lower(&mut request, ask.format, &mut losses);
    let (mut body, decode) = upstream.encode_request(&request, target, &mut losses)?;
    drop(request);
    let decode = match lowered {
        Some(lowered) => lowered.raise(decode),
        None => decode,
    };
    let mut edits = target.provider.edits(ask, target);
    let mut replaces = Vec::new();
    if !edits.is_empty() || beta::is_sent(headers) {
        let written = Shallow::parse(body)?;
        let carried = beta::carry(target, ask.format, headers, &written, &mut losses)?;
        edits.extend(carried.edits);
        replaces = carried.replaces;
        body = written.with(&edits);
    }
    if let Some(refusal) = losses.refusal(client) {
        return Err(refusal);
    }
    Ok(Call {
        format: ask.format,
        path: target.provider.path(ask, target),
        headers: crate::inbound::headers(target.provider, ask.format),
        replaces,
        body,
        more: Vec::new(),
        losses,
        reply: reply::Reply::Translate(Reply {
            client,
            upstream,
            framing: target.provider.framing(ask.format),
            decode,
            stream,
            keep,
            told: Told {
                id: None,
                echo,
                model: None,
                now: target.now,
            },
        }),
    })
}

impl Told {
    /// Adds it to the `head` of an answer, once; `own` is the id under which that is kept here.
    fn complete(&mut self, head: &mut Head, own: Option<String>) {
        head.created.get_or_insert(self.now);
        head.echo = self.echo.take();
        if let Some(model) = self.model.take() {
            head.model = model;
        }
        if let Some(own) = own {
            head.id = own;
        } else if head.id.is_empty() {
            head.id = self.id.take().unwrap_or_default();
        }
    }
}

impl Reply {
    pub(crate) fn hear(&mut self, headers: &HeaderMap) {
        let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        self.told.id = id.map(str::to_owned);
    }

    /// Has the answer call the model `model`.
    pub(crate) fn call_model(&mut self, model: &str) {
        self.told.model = Some(model.to_owned());
    }

    pub(crate) fn response(mut self, body: Bytes) -> Result<Answer, ApiError> {
        let mut losses = Losses::default();
        let mut response = self.decode.decode_response(&body, &mut losses)?;
        let mut observed = Observed {
            model: Some(response.head.model.clone()).filter(|model| !model.is_empty()),
            usage: response.usage,
            finish: response.choices.first().map(|choice| choice.finish.clone()),
            meaningful: true,
            complete: true,
            losses,
            ..Observed::default()
        };
        let own = self.keep.as_ref().map(|keep| keep.id.clone());
        self.told.complete(&mut response.head, own);
        let body = self.client.encode_response(&response, &mut observed.losses);
        let kept = self.keep.map(|keep| keep.complete(body.clone()));
        Ok(Answer { body, observed, kept })
    }

    pub(crate) fn stream(self) -> Stream {
        Stream {
            observed: Observed::default(),
            framer: Framer::new(self.framing),
            decode: self.decode.into_stream(),
            encode: self.client.encode_stream(self.stream),
            events: Vec::with_capacity(4),
            keep_alive: self.client.keep_alive(self.stream),
            grammar: Grammar::default(),
            keep: self.keep,
            told: self.told,
            ended: false,
        }
    }
}

impl Stream {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Bytes {
        if self.ended {
            return Bytes::new();
        }
        let (decode, events, losses) = (&mut self.decode, &mut self.events, &mut self.observed.losses);
        if let Err(broken) = self
            .framer
            .push(bytes, |frame, _| decode.frame(frame, events, losses))
        {
            self.events.push(Event::Error(broken.into()));
        }
        self.drain(bytes.len()).freeze()
    }

    pub(crate) fn end(&mut self, how: End) -> Bytes {
        if self.ended {
            return Bytes::new();
        }
        let (decode, events, losses) = (&mut self.decode, &mut self.events, &mut self.observed.losses);
        self.framer.finish(|frame| decode.frame(frame, events, losses));
        decode.end(how, events);
        let mut out = self.drain(0);
        if self.observed.error.is_none() {
            self.encode.end(&mut out, &mut self.observed.losses);
            self.observed.complete = true;
        }
        self.ended = true;
        out.freeze()
    }

    pub(crate) fn fail(&mut self, error: ApiError) -> Bytes {
        if self.ended {
            return Bytes::new();
        }
        self.events.clear();
        self.events.push(Event::Error(error));
        self.drain(0).freeze()
    }

    pub(crate) fn keep_alive(&self) -> Bytes {
        Bytes::from_static(self.keep_alive)
    }

    pub(crate) fn kept(&mut self) -> Option<Kept> {
        self.keep.as_ref()?;
        let document = self.encode.whole()?;
        Some(self.keep.take()?.complete(document))
    }

    /// Writes the events; about `expected` bytes will do for them.
    fn drain(&mut self, expected: usize) -> BytesMut {
        let mut out = BytesMut::new();
        if !self.events.is_empty() {
            out.reserve(expected);
        }
        let mut events = std::mem::take(&mut self.events);
        for event in &mut events {
            if self.ended {
                break;
            }
            if cfg!(debug_assertions) {
                let checked = self.grammar.check(event);
                debug_assert!(checked.is_ok(), "{checked:?}: {event:?}");
            }
            self.observe(event);
            if let Event::Start(head) = event {
                let own = self.keep.as_ref().map(|keep| keep.id.clone());
                self.told.complete(head, own);
            }
            let before = out.len();
            self.encode.event(event, &mut out, &mut self.observed.losses);
            if let Event::Error(error) = event {
                let told = out.get(before..).unwrap_or_default();
                self.observed.losses.extend(&error.untold(told));
            }
        }
        events.clear();
        self.events = events;
        out
    }

    fn observe(&mut self, event: &Event) {
        match event {
            Event::Start(head) => {
                self.observed.model = Some(head.model.clone()).filter(|model| !model.is_empty());
            }
            // Parts are opened before anything is said in them; only a tool's name, a picture and what is withheld
            // are said by opening.
            Event::Open { part, .. } => {
                self.observed.meaningful |= match part {
                    PartHead::ToolCall { .. }
                    | PartHead::Reasoning { redacted: true }
                    | PartHead::Media(_) => true,
                    PartHead::Text | PartHead::Reasoning { redacted: false } | PartHead::Refusal => false,
                };
            }
            Event::Delta { delta, .. } => {
                self.observed.meaningful = true;
                match delta {
                    Delta::Text(text) | Delta::Arguments(text) => self.observed.said.text(text),
                    Delta::Seal(_) | Delta::Tokens(_) | Delta::Citation(_) => {}
                }
            }
            Event::Close { .. } => {}
            Event::Usage(usage) => self.observed.usage.merge(usage),
            Event::Finish { choice, reason } => {
                self.observed.meaningful = true;
                if *choice == 0 {
                    self.observed.finish = Some(Finish::clone(reason));
                }
            }
            Event::Ping => {}
            Event::Error(error) => {
                self.observed.error = Some(error.clone());
                self.ended = true;
            }
        }
    }
}
