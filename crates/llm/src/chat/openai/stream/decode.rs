//! Reads a streamed reply; a whole reply is read as one chunk that says everything.
//!
//! Tolerant of what imitations of the format do: calls without an index or an id, names that come late,
//! token counts in any chunk, reasoning under several names, errors in band.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{
    super::{error, upstream::Names, wire},
    choice::{Choice, Parts},
    chunk::Chunk,
};
use crate::{
    ApiError, ErrorKind, Losses, Tier, Usage,
    chat::{DecodeStream, Event, Head},
    frame::Frame,
    json::Path,
    reply::End,
    unread,
};

/// Reads one reply.
pub(in super::super) struct Decoder {
    head: Head,
    started: bool,
    ended: bool,
    choices: Vec<Choice>,
    parts: Parts,
    /// The tier of service, once it is known.
    tier: Option<Tier>,
}

impl DecodeStream for Decoder {
    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>, losses: &mut Losses) {
        let data = frame.data.trim();
        if self.ended || data.is_empty() {
            return;
        }
        if data == "[DONE]" {
            return self.end(End::Clean, out);
        }
        let read = if frame.event == Some("error") || !data.starts_with('{') {
            Err(error::decode_in_band(data))
        } else {
            match unread::read::<Chunk<'_>>(data, &Path::Reply, losses) {
                Ok(chunk) if chunk.is_error() => Err(error::decode_in_band(data)),
                Ok(chunk) => self.chunk(&chunk, out, losses),
                Err(error) => Err(unreadable(&error)),
            }
        };
        if let Err(error) = read {
            self.ended = true;
            out.push(Event::Error(error));
        }
    }

    fn end(&mut self, how: End, out: &mut Vec<Event>) {
        if self.ended {
            return;
        }
        self.ended = true;
        if self.choices.is_empty() || self.choices.iter().any(|choice| !choice.finished) {
            out.push(Event::Error(ApiError::new(
                ErrorKind::BadUpstream,
                match how {
                    End::Clean => "the upstream ended its stream before the answer was complete",
                    End::Cut => "the upstream's stream was cut before the answer was complete",
                },
            )));
        }
    }
}

impl Decoder {
    /// Returns a reader that gives tools their own `names` back and numbers calls without an id from `call`.
    pub(in super::super) fn new(names: Names, call: usize) -> Self {
        Self {
            head: Head::default(),
            started: false,
            ended: false,
            choices: Vec::new(),
            parts: Parts { names, next: 0, call },
            tier: None,
        }
    }

    /// Reads a whole reply.
    pub(in super::super) fn whole(
        mut self,
        body: &[u8],
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) -> Result<(), ApiError> {
        let chunk: Chunk<'_> = unread::reply(body, losses).map_err(|error| unreadable(&error))?;
        if chunk.is_error() {
            return Err(error::decode_in_band(&String::from_utf8_lossy(body)));
        }
        self.chunk(&chunk, out, losses)?;
        if self.choices.is_empty() {
            return Err(bad("the upstream's reply has no choices"));
        }
        for choice in self.choices.iter_mut().filter(|choice| !choice.finished) {
            choice.finish("stop", None, out)?;
        }
        Ok(())
    }

    fn chunk(
        &mut self,
        chunk: &Chunk<'_>,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) -> Result<(), ApiError> {
        let steps = chunk.choices.as_deref().unwrap_or_default();
        let path = Path::Reply;
        let usage = chunk
            .usage
            .and_then(|raw| wire::hear_usage(raw, &path.key("usage"), losses));
        if !self.started {
            self.read_head(chunk);
            // Azure begins with a chunk about its filters, which has neither an id nor a model.
            if steps.is_empty() && usage.is_none() {
                return Ok(());
            }
            self.started = true;
            out.push(Event::Start(std::mem::take(&mut self.head)));
        }
        if self.tier.is_none() {
            self.tier = Tier::hear(chunk.service_tier, &path.key("service_tier"), losses);
            let tier = self.tier;
            let usage = Usage {
                tier,
                ..Usage::default()
            };
            out.extend(tier.map(|_| Event::Usage(usage)));
        }
        out.extend(usage.map(Event::Usage));
        let path = path.key("choices");
        for (position, step) in steps.iter().enumerate() {
            let number = step.index.unwrap_or(position);
            let at = self.choices.iter().position(|choice| choice.number == number);
            let at = at.unwrap_or_else(|| {
                self.choices.push(Choice::new(number));
                self.choices.len() - 1
            });
            if let Some(choice) = self.choices.get_mut(at).filter(|choice| !choice.finished) {
                choice.step(step, &path.index(position), &mut self.parts, out, losses)?;
            }
        }
        Ok(())
    }

    fn read_head(&mut self, chunk: &Chunk<'_>) {
        let read = |raw: Option<&RawValue>| raw.and_then(wire::text).map(Cow::into_owned);
        if let Some(id) = read(chunk.id).filter(|id| !id.is_empty()) {
            self.head.id = id;
        }
        if let Some(model) = read(chunk.model).filter(|model| !model.is_empty()) {
            self.head.model = model;
        }
        let created = chunk.created.and_then(|raw| raw.get().parse::<f64>().ok());
        if let Some(created) = created.filter(|created| *created >= 1.0) {
            self.head.created = Some(created as u64);
        }
    }
}

fn unreadable(error: &serde_json::Error) -> ApiError {
    bad(format!("the upstream's reply cannot be read: {error}"))
}

/// Returns a 502.
pub(super) fn bad(message: impl Into<String>) -> ApiError {
    ApiError::bad_reply(message)
}
