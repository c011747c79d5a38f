//! Streamed replies, read ("Streaming events", API reference); a whole reply is read as one event that says
//! everything. The other direction is in [`super::emit`].
//!
//! Most of what is said in pieces is said again when its item is complete, and once more when the response is:
//! whichever comes adds what is still missing, so that servers may leave events out.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{
    error,
    output::{Output, Voice},
    wire,
};
use crate::{
    ApiError, ErrorKind, Losses, Tier, Usage,
    chat::{
        DecodeReply, DecodeStream, Event, Head, PartHead, Response,
        fold::Fold,
        openai::{self, upstream::Names},
    },
    frame::Frame,
    json::{Path, Typed},
    reply::End,
    unread,
};

/// What a call remembers to read its reply by.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The model that was asked, for replies that name none.
    pub(super) model: String,
    /// Names of tools that had to be rewritten.
    pub(super) names: Names,
}

impl DecodeReply for Memory {
    fn decode_response(self: Box<Self>, body: &[u8], losses: &mut Losses) -> Result<Response, ApiError> {
        let mut events = Vec::new();
        Decoder::new(*self).whole(body, &mut events, losses)?;
        let mut fold = Fold::default();
        for event in &events {
            fold.push(event);
        }
        fold.finish()
    }

    fn into_stream(self: Box<Self>) -> Box<dyn DecodeStream> {
        Box::new(Decoder::new(*self))
    }
}

/// Reads a stream.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The model that was asked, for replies that name none.
    model: String,
    output: Output,
    state: State,
}

/// How far a stream has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said; the first event about the response leads to `Begun`.
    Waiting,
    /// Items come and go; the end of the response or an error leads to `Ended`.
    Begun,
    /// Whatever follows means nothing.
    Ended,
}

/// What comes of reading: nothing, or an error that ends the reply.
pub(super) type Step = Result<(), ApiError>;

impl DecodeStream for Decoder {
    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>, losses: &mut Losses) {
        let data = frame.data.trim();
        // Servers that grew out of chat completions may end like them.
        if self.state == State::Ended || data.is_empty() || data == "[DONE]" {
            return;
        }
        if let Err(error) = self.read(data, out, losses) {
            out.push(Event::Error(error));
            self.state = State::Ended;
        }
    }

    fn end(&mut self, how: End, out: &mut Vec<Event>) {
        if self.state == State::Ended {
            return;
        }
        self.state = State::Ended;
        out.push(Event::Error(ApiError::new(
            ErrorKind::BadUpstream,
            match how {
                End::Clean => "the upstream ended its stream before the answer was complete",
                End::Cut => "the upstream's stream was cut before the answer was complete",
            },
        )));
    }
}

impl Decoder {
    /// Returns a reader for the reply to the call that `memory` is of.
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            model: memory.model,
            output: Output::new(memory.names),
            state: State::Waiting,
        }
    }

    fn whole(mut self, body: &[u8], out: &mut Vec<Event>, losses: &mut Losses) -> Step {
        let reply: wire::Reply<'_> = unread::reply(body, losses).map_err(|reason| unreadable(&reason))?;
        let status = reply.status.and_then(wire::text);
        match (status.as_deref(), &reply.output) {
            (Some("failed" | "cancelled"), _) | (_, None) if reply.error.is_some() => {
                Err(error::failure(reply.error))
            }
            (Some("failed" | "cancelled"), _) => Err(error::failure(None)),
            (Some("queued" | "in_progress"), _) => Err(unreadable(&"the response is not complete")),
            (_, None) => Err(unreadable(&"it has no output")),
            (_, Some(_)) => self.finish(&reply, &Path::Reply, out, losses),
        }
    }

    fn read(&mut self, data: &str, out: &mut Vec<Event>, losses: &mut Losses) -> Step {
        let path = Path::Reply;
        let event: wire::Event<'_> = match unread::read(data, &path, losses) {
            Ok(event) => event,
            Err(reason) => return unknown(data, &reason, losses),
        };
        if let Some(part) = &event.part {
            part.hear(&path.key("part"), losses);
        }
        let path = path.key("response");
        match &*event.kind {
            "error" => return Err(openai::error::decode_in_band(data)),
            "response.failed" | "response.cancelled" => {
                let reply = response(event.response, &path, losses)?;
                return Err(error::failure(reply.error));
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(&response(event.response, &path, losses)?, out);
            }
            "response.completed" | "response.incomplete" => {
                let reply = response(event.response, &path, losses)?;
                return self.finish(&reply, &path, out, losses);
            }
            kind if EVENTS.contains(&kind) => {
                self.start(&wire::Reply::default(), out);
                return self.hear(&event, out, losses);
            }
            kind if AGAIN.contains(&kind) || wire::is_of_native_item(kind) => {}
            kind => losses.unread(&Path::Reply.key(kind)),
        }
        Ok(())
    }

    /// Reads an event about an item.
    fn hear(&mut self, event: &wire::Event<'_>, out: &mut Vec<Event>, losses: &mut Losses) -> Step {
        let output = &mut self.output;
        let root = Path::Reply;
        let at = event.output_index.unwrap_or_else(|| output.latest());
        let piece = event.content_index.unwrap_or(0);
        let delta = event.delta.and_then(wire::text).unwrap_or_default();
        match &*event.kind {
            "response.output_item.added" | "response.output_item.done" => {
                let done = event.kind.ends_with("done");
                return output.item(at, event.item, &root.key("item"), done, out, losses);
            }
            "response.output_text.delta" => {
                let path = root.key("logprobs");
                let tokens = event.logprobs;
                let tokens = tokens.map(|raw| openai::note::read_tokens(raw, &path, losses));
                output.note(at, piece, tokens.unwrap_or_default(), out);
                output.say(at, piece, PartHead::Text, &delta, out);
            }
            "response.refusal.delta" => output.say(at, piece, PartHead::Refusal, &delta, out),
            "response.output_text.done" => {
                output.note_rest(at, piece, event.logprobs, &root.key("logprobs"), out, losses);
                output.said(at, piece, PartHead::Text, event.text, out);
            }
            "response.refusal.done" => output.said(at, piece, PartHead::Refusal, event.refusal, out),
            "response.output_text.annotation.added" => {
                output.cite(at, piece, event.annotation, &root.key("annotation"), out, losses);
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                output.argue(at, &delta, out);
            }
            "response.reasoning_summary_text.delta" => {
                let piece = event.summary_index.unwrap_or(0);
                output.think(at, Voice::Summary, piece, &delta, out, losses);
            }
            "response.reasoning_text.delta" => output.think(at, Voice::Text, piece, &delta, out, losses),
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, reply: &wire::Reply<'_>, out: &mut Vec<Event>) {
        if self.state != State::Waiting {
            return;
        }
        self.state = State::Begun;
        let read = |raw: Option<&RawValue>| raw.and_then(wire::text).map(Cow::into_owned);
        let created = reply.created_at.and_then(|raw| raw.get().parse::<f64>().ok());
        out.push(Event::Start(Head {
            id: read(reply.id).unwrap_or_default(),
            model: read(reply.model)
                .filter(|model| !model.is_empty())
                .unwrap_or_else(|| self.model.clone()),
            created: created
                .filter(|created| *created >= 1.0)
                .map(|created| created as u64),
            echo: None,
        }));
    }

    /// Reads the whole response, which lies at `path`.
    fn finish(
        &mut self,
        reply: &wire::Reply<'_>,
        path: &Path<'_>,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) -> Step {
        self.start(reply, out);
        let items = path.key("output");
        for (index, raw) in reply.output.iter().flatten().enumerate() {
            let at = index as u64;
            self.output
                .item(at, Some(raw), &items.index(index), true, out, losses)?;
        }
        self.output.close(out);
        let usage = reply.usage;
        let usage = usage.and_then(|raw| wire::hear_usage(raw, &path.key("usage"), losses));
        let tier = Tier::hear(reply.service_tier, &path.key("service_tier"), losses);
        if usage.is_some() || tier.is_some() {
            let usage = usage.unwrap_or_default();
            out.push(Event::Usage(Usage { tier, ..usage }));
        }
        reply.hear_details(path, losses);
        out.push(Event::Finish {
            choice: 0,
            reason: reply.finish(self.output.called),
        });
        self.state = State::Ended;
        Ok(())
    }
}

fn response<'a>(
    raw: Option<&'a RawValue>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<wire::Reply<'a>, ApiError> {
    let raw = raw.ok_or_else(|| unreadable(&"an event about the response has none"))?;
    unread::read(raw.get(), path, losses).map_err(|reason| unreadable(&reason))
}

/// Hears an event that cannot be read: those of names that are not known may look like anything.
fn unknown(data: &str, reason: &serde_json::Error, losses: &mut Losses) -> Step {
    let kind = serde_json::from_str::<Typed<'_>>(data)
        .ok()
        .and_then(|typed| typed.kind);
    match kind {
        Some(kind) if !EVENTS.contains(&&*kind) => {
            losses.unread(&Path::Reply.key(&kind));
            Ok(())
        }
        None if data.contains("\"error\"") => Err(openai::error::decode_in_band(data)),
        Some(_) | None => Err(unreadable(reason)),
    }
}

/// The events that announce a part or say one again.
const AGAIN: &[&str] = &[
    "response.content_part.added",
    "response.content_part.done",
    "response.custom_tool_call_input.done",
    "response.function_call_arguments.done",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.reasoning_summary_text.done",
    "response.reasoning_text.done",
];

/// The events that are read.
const EVENTS: &[&str] = &[
    "error",
    "response.cancelled",
    "response.completed",
    "response.created",
    "response.custom_tool_call_input.delta",
    "response.failed",
    "response.function_call_arguments.delta",
    "response.in_progress",
    "response.incomplete",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.annotation.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.queued",
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
    "response.refusal.delta",
    "response.refusal.done",
];

/// Returns a 502 for a reply that breaks the format.
pub(super) fn unreadable(reason: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_reply(format!("the upstream's reply cannot be read: {reason}"))
}
