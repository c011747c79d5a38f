//! One answer of a reply, put together from what its chunks say.
//!
//! Calls may interleave, so that each stays open until the answer ends; a call begins once its name is known.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::{note, reasoning, upstream::Names, wire},
    chunk::{self, Body, Piece, Said, Step},
    decode::bad,
};
use crate::{
    ApiError, Field, Losses,
    chat::{Delta, Event, FinishReason, PartHead, Reasoned, Token, ToolKind},
    json::{self, Kind, Path, Typed},
    unread,
};

/// What all answers of a reply share.
pub(super) struct Parts {
    pub(super) names: Names,
    /// The index of the next part.
    pub(super) next: usize,
    /// The number of the next call, where the upstream gives it no id.
    pub(super) call: usize,
}

/// One answer.
pub(super) struct Choice {
    pub(super) number: usize,
    /// The part that is being said, beside calls.
    speaking: Option<(Voice, usize)>,
    /// How many characters of text were said, and how many of them before the part that is being said.
    said: usize,
    before: usize,
    /// Tokens of text that follows.
    tokens: Vec<Token>,
    calls: Vec<Call>,
    pub(super) finished: bool,
}

/// What an answer can say beside calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Voice {
    Text,
    Reasoning,
    Refusal,
}

/// A call, which has an index of its own once its name is known.
struct Call {
    position: Option<usize>,
    id: String,
    name: String,
    kind: ToolKind,
    /// Arguments that came before the name.
    held: String,
    index: Option<usize>,
    argued: bool,
}

impl Parts {
    fn open(&mut self, choice: usize, part: PartHead, out: &mut Vec<Event>) -> usize {
        let index = self.next;
        self.next += 1;
        out.push(Event::Open { index, choice, part });
        index
    }
}

impl Choice {
    /// Returns the answer with this number, of which nothing was said yet.
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            speaking: None,
            said: 0,
            before: 0,
            tokens: Vec::new(),
            calls: Vec::new(),
            finished: false,
        }
    }

    /// Hears what a chunk says of this answer.
    pub(super) fn step(
        &mut self,
        step: &Step<'_>,
        path: &Path<'_>,
        parts: &mut Parts,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) -> Result<(), ApiError> {
        let logprobs = step.logprobs;
        let logprobs = logprobs.map(|raw| chunk::logprobs(raw, &path.key("logprobs"), losses));
        let logprobs = logprobs.unwrap_or_default();
        self.tokens = logprobs.content;
        for (key, said) in [("delta", &step.delta), ("message", &step.message)] {
            if let Some(said) = said {
                self.hear(said, &path.key(key), parts, out, losses)?;
            }
        }
        let late = std::mem::take(&mut self.tokens);
        for (tokens, voice) in [(late, Voice::Text), (logprobs.refusal, Voice::Refusal)] {
            if !tokens.is_empty() {
                let index = self.voice(voice, parts, out);
                let delta = Delta::Tokens(tokens);
                out.push(Event::Delta { index, delta });
            }
        }
        let finish = step.finish_reason.and_then(wire::text);
        match finish.filter(|word| !word.is_empty()) {
            Some(word) => self.finish(&word, step.stop_reason.and_then(wire::text), out),
            None => Ok(()),
        }
    }

    fn hear(
        &mut self,
        said: &Said<'_>,
        path: &Path<'_>,
        parts: &mut Parts,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) -> Result<(), ApiError> {
        for reasoned in said.thoughts(path, losses) {
            self.think(reasoned, parts, out);
        }
        if let Some(content) = said.content {
            self.content(content, &path.key("content"), parts, out, losses);
        }
        if let Some(refusal) = said.refusal.and_then(wire::text) {
            self.speak(Voice::Refusal, &refusal, parts, out);
        }
        for (position, piece) in said.tool_calls.iter().flatten().enumerate() {
            self.call(position, piece, parts, out)?;
        }
        if let Some(body) = &said.function_call {
            let at = self.find_call(Some(0), "", false);
            self.call_body(at, "", body, ToolKind::Function, parts, out)?;
        }
        if let Some(annotations) = said.annotations {
            self.annotate(annotations, &path.key("annotations"), parts, out, losses);
        }
        if said.audio.is_some() {
            lose("audio", losses);
        }
        Ok(())
    }

    /// Says where the text is from.
    fn annotate(
        &mut self,
        raw: &RawValue,
        path: &Path<'_>,
        parts: &mut Parts,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) {
        let annotations: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
        for (index, annotation) in annotations.into_iter().enumerate() {
            let Some(mut citation) = note::read_citation(annotation, &path.index(index), losses) else {
                lose("annotations", losses);
                continue;
            };
            let index = self.voice(Voice::Text, parts, out);
            // The format counts from the beginning of the content.
            let within = |(first, last): (usize, usize)| {
                Some((first.checked_sub(self.before)?, last.checked_sub(self.before)?))
            };
            citation.span = citation.span.and_then(within);
            let delta = Delta::Citation(Box::new(citation));
            out.push(Event::Delta { index, delta });
        }
    }

    /// Says content, which some servers write as parts, reasoning among them.
    fn content(
        &mut self,
        raw: &RawValue,
        path: &Path<'_>,
        parts: &mut Parts,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Part {
            #[serde(rename = "type")]
            kind: String,
            text: Option<String>,
            refusal: Option<String>,
        }

        let elements: Vec<&RawValue> = match json::kind(raw) {
            Kind::Array => serde_json::from_str(raw.get()).unwrap_or_default(),
            Kind::Object => vec![raw],
            Kind::String | Kind::Number | Kind::Bool | Kind::Null => {
                let text = wire::text(raw).unwrap_or_default();
                return self.speak(Voice::Text, &text, parts, out);
            }
        };
        for (index, element) in elements.into_iter().enumerate() {
            let path = path.index(index);
            let typed: Typed<'_> = serde_json::from_str(element.get()).unwrap_or_default();
            if matches!(typed.kind.as_deref(), Some("thinking" | "redacted_thinking")) {
                if let Some(reasoned) = reasoning::read_thinking(element, &path, losses) {
                    self.think(reasoned, parts, out);
                }
                continue;
            }
            let part: Part = unread::read(element.get(), &path, losses).unwrap_or_default();
            match (part.kind.as_str(), part.text, part.refusal) {
                ("text" | "output_text", Some(text), _) => self.speak(Voice::Text, &text, parts, out),
                ("refusal", _, Some(refusal)) => self.speak(Voice::Refusal, &refusal, parts, out),
                _ => lose("content", losses),
            }
        }
    }

    /// Says reasoning. A seal ends the piece that it seals.
    fn think(&mut self, reasoned: Reasoned, parts: &mut Parts, out: &mut Vec<Event>) {
        if reasoned.redacted {
            self.hush(out);
            let index = parts.open(self.number, PartHead::Reasoning { redacted: true }, out);
            self.speaking = Some((Voice::Reasoning, index));
        } else {
            self.speak(Voice::Reasoning, &reasoned.text, parts, out);
        }
        if let Some(seal) = reasoned.seal {
            let index = self.voice(Voice::Reasoning, parts, out);
            let delta = Delta::Seal(seal);
            out.push(Event::Delta { index, delta });
            self.hush(out);
        }
    }

    fn speak(&mut self, voice: Voice, text: &str, parts: &mut Parts, out: &mut Vec<Event>) {
        if !text.is_empty() {
            let index = self.voice(voice, parts, out);
            if voice == Voice::Text {
                self.said += text.chars().count();
                let tokens = std::mem::take(&mut self.tokens);
                if !tokens.is_empty() {
                    let delta = Delta::Tokens(tokens);
                    out.push(Event::Delta { index, delta });
                }
            }
            let delta = Delta::Text(text.to_owned());
            out.push(Event::Delta { index, delta });
        }
    }

    /// Returns the index of the part that is being said in `voice`, opening one if need be.
    fn voice(&mut self, voice: Voice, parts: &mut Parts, out: &mut Vec<Event>) -> usize {
        if let Some((_, index)) = self.speaking.filter(|(speaking, _)| *speaking == voice) {
            return index;
        }
        self.hush(out);
        let head = match voice {
            Voice::Text => PartHead::Text,
            Voice::Reasoning => PartHead::Reasoning { redacted: false },
            Voice::Refusal => PartHead::Refusal,
        };
        let index = parts.open(self.number, head, out);
        self.speaking = Some((voice, index));
        self.before = self.said;
        index
    }

    fn hush(&mut self, out: &mut Vec<Event>) {
        if let Some((_, index)) = self.speaking.take() {
            out.push(Event::Close { index });
        }
    }

    fn call(
        &mut self,
        position: usize,
        piece: &Piece<'_>,
        parts: &mut Parts,
        out: &mut Vec<Event>,
    ) -> Result<(), ApiError> {
        let id = piece.id.and_then(wire::text).unwrap_or_default();
        let (body, kind) = match (&piece.function, &piece.custom) {
            (Some(body), _) => (body, ToolKind::Function),
            (None, Some(body)) => (body, ToolKind::Custom),
            (None, None) => (&Body::default(), ToolKind::Function),
        };
        let named = body
            .name
            .and_then(wire::text)
            .is_some_and(|name| !name.is_empty());
        let index = match piece.index {
            Some(index) => Some(index),
            // A whole reply has no indices; a piece of a stream without one belongs to the call with its id.
            None if id.is_empty() && named => Some(self.calls.len().max(position)),
            None => None,
        };
        let at = self.find_call(index, &id, named);
        self.call_body(at, &id, body, kind, parts, out)
    }

    /// Returns where the call is that a piece belongs to, adding one if the piece begins it.
    ///
    /// Some servers number all calls 0: a name and another id at a known index begin another call.
    fn find_call(&mut self, position: Option<usize>, id: &str, named: bool) -> usize {
        let known = self.calls.iter().rposition(|call| match position {
            Some(position) => call.position == Some(position),
            None => id.is_empty() || call.id == id,
        });
        let same = known.filter(|at| {
            let known = self.calls.get(*at).map_or("", |call| &call.id);
            !named || id.is_empty() || known.is_empty() || known == id
        });
        same.unwrap_or_else(|| {
            self.calls.push(Call {
                position,
                id: String::new(),
                name: String::new(),
                kind: ToolKind::Function,
                held: String::new(),
                index: None,
                argued: false,
            });
            self.calls.len() - 1
        })
    }

    fn call_body(
        &mut self,
        at: usize,
        id: &str,
        body: &Body<'_>,
        kind: ToolKind,
        parts: &mut Parts,
        out: &mut Vec<Event>,
    ) -> Result<(), ApiError> {
        let name = body.name.and_then(wire::text).unwrap_or_default();
        let arguments = body.arguments.map(chunk::arguments).unwrap_or_default();
        let Some(call) = self.calls.get_mut(at) else {
            return Ok(());
        };
        if call.id.is_empty() {
            call.id.push_str(id);
        }
        if call.index.is_none() {
            call.kind = kind;
            call.held.push_str(&arguments);
            if !name.is_empty() {
                call.name = parts.names.original(&name).to_owned();
                self.open_call(at, parts, out);
            }
        } else if let Some(index) = call.index.filter(|_| !arguments.is_empty()) {
            call.argued = true;
            let delta = Delta::Arguments(arguments.into_owned());
            out.push(Event::Delta { index, delta });
        }
        Ok(())
    }

    fn open_call(&mut self, at: usize, parts: &mut Parts, out: &mut Vec<Event>) {
        self.hush(out);
        let Some(call) = self.calls.get_mut(at) else {
            return;
        };
        if call.id.is_empty() {
            call.id = format!("call_{}", parts.call);
        }
        parts.call += 1;
        let head = PartHead::ToolCall {
            id: call.id.clone(),
            name: call.name.clone(),
            kind: call.kind,
        };
        let index = parts.open(self.number, head, out);
        call.index = Some(index);
        let held = std::mem::take(&mut call.held);
        if !held.is_empty() {
            call.argued = true;
            let delta = Delta::Arguments(held);
            out.push(Event::Delta { index, delta });
        }
    }

    /// Closes what is open and ends the answer.
    pub(super) fn finish(
        &mut self,
        word: &str,
        stop_sequence: Option<Cow<'_, str>>,
        out: &mut Vec<Event>,
    ) -> Result<(), ApiError> {
        self.hush(out);
        for call in &self.calls {
            let index = call
                .index
                .ok_or_else(|| bad("the upstream called a tool without naming it"))?;
            if !call.argued && call.kind == ToolKind::Function {
                let delta = Delta::Arguments("{}".to_owned());
                out.push(Event::Delta { index, delta });
            }
            out.push(Event::Close { index });
        }
        let mut reason = wire::read_finish(word, !self.calls.is_empty());
        if let Some(sequence) = stop_sequence.filter(|_| reason.reason == FinishReason::Stop) {
            reason.reason = FinishReason::StopSequence;
            reason.stop_sequence = Some(sequence.into_owned());
        }
        self.finished = true;
        out.push(Event::Finish {
            choice: self.number,
            reason,
        });
        Ok(())
    }
}

fn lose(what: &'static str, losses: &mut Losses) {
    losses.advisory(
        Field::Reply(what),
        "the upstream's answer holds more than can be told",
    );
}
