//! Streamed replies, read: every chunk is a reply of its own that holds what is new. The other direction is in
//! [`super::emit`].
//!
//! Nothing marks the end but the end itself, so it is then that answers are finished: a call may come after
//! the chunk that gave the reason.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{
    error,
    guide::Unwrapped,
    note,
    reply::{LOGPROBS, Memory, Piece, USAGE, lose_logprobs, unreadable},
    wire,
};
use crate::{
    ApiError, ErrorKind, Losses, Usage,
    chat::{DecodeStream, Delta, Event, Finish, Head, PartHead, Remark, Seal, Token},
    frame::Frame,
    json::Path,
    media::Media,
    reply::End,
    unread,
};

/// Reads a stream.
#[derive(Debug)]
pub(super) struct Decoder {
    memory: Memory,
    head: Head,
    answers: BTreeMap<usize, Answer>,
    /// The index of the next part.
    next: usize,
    /// How many calls there were.
    calls: usize,
    usage: Usage,
    /// Why the prompt was blocked.
    blocked: Option<String>,
    state: State,
}

/// How far a stream has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said; the first chunk leads to `Begun`.
    Waiting,
    /// Chunks come; the end or an error leads to `Ended`.
    Begun,
    /// Whatever follows means nothing.
    Ended,
}

/// What is known of one answer.
#[derive(Debug, Default)]
struct Answer {
    /// The part that is open.
    open: Option<(usize, Kind)>,
    called: bool,
    /// The reason why it ended.
    word: Option<String>,
    /// The text that is open, where it may be from pages that were found.
    said: String,
    /// What was taken off it.
    unwrapped: Unwrapped,
    /// Where it is from.
    grounding: Option<Box<RawValue>>,
    /// What is said about it.
    remarks: Vec<Remark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thought,
}

impl Decoder {
    /// Returns a reader for the reply to the call that `memory` is of.
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory,
            head: Head::default(),
            answers: BTreeMap::new(),
            next: 0,
            calls: 0,
            usage: Usage::default(),
            blocked: None,
            state: State::Waiting,
        }
    }

    fn read(&mut self, data: &str, out: &mut Vec<Event>, losses: &mut Losses) -> Result<(), ApiError> {
        let path = Path::Reply;
        let reply: wire::Reply<'_> =
            unread::read(data, &path, losses).map_err(|reason| unreadable(&reason))?;
        if reply.error.is_some() {
            return Err(error::within(data.as_bytes()));
        }
        if self.state == State::Waiting {
            self.state = State::Begun;
            self.memory.begin(&reply, &mut self.head);
            out.push(Event::Start(self.head.clone()));
        }
        if let Some(word) = reply.prompt_feedback.and_then(|feedback| feedback.block_reason) {
            self.blocked = Some(word);
        }
        for candidate in reply.candidates.unwrap_or_default() {
            self.candidate(candidate, out, losses);
        }
        if let Some(counts) = wire::hear_counts(reply.usage_metadata, &path.key(USAGE), losses) {
            let known = self.usage;
            self.usage.merge(&Usage::from(&counts));
            if self.usage != known {
                out.push(Event::Usage(self.usage));
            }
        }
        Ok(())
    }

    fn candidate(&mut self, candidate: wire::Candidate<'_>, out: &mut Vec<Event>, losses: &mut Losses) {
        let remarks = wire::remarks(&candidate);
        let path = Path::Reply;
        let path = path.key("candidates");
        let path = path.index(0);
        let tokens = candidate.logprobs_result;
        let tokens = tokens.map(|raw| note::read_tokens(raw, &path.key(LOGPROBS), losses));
        let mut tokens = tokens.unwrap_or_default();
        let choice = candidate
            .index
            .and_then(|index| usize::try_from(index).ok())
            .unwrap_or(0);
        let answer = self.answers.entry(choice).or_default();
        // What is said again is said better.
        answer
            .remarks
            .retain(|known| remarks.iter().all(|remark| remark.key != known.key));
        answer.remarks.extend(remarks);
        if let Some(grounding) = candidate.grounding_metadata {
            answer.grounding = Some(grounding.to_owned());
        }
        let mut writer = Writer {
            answer,
            choice,
            next: &mut self.next,
            out,
        };
        let parts = candidate.content.and_then(|content| content.parts);
        for part in parts.unwrap_or_default() {
            let (seal, piece) = self.memory.pieces(part, &self.head, &mut self.calls, losses);
            if let Some(seal) = seal {
                writer.seal(seal);
            }
            match piece {
                None => {}
                Some(Piece::Text(text)) => {
                    let text = match self.memory.wrap {
                        Some(wrap) => wrap.unwrap_more(&text, &mut writer.answer.unwrapped),
                        None => text,
                    };
                    if text.is_empty() {
                        continue;
                    }
                    writer.note(std::mem::take(&mut tokens));
                    if self.memory.grounded {
                        writer.answer.said.push_str(&text);
                    }
                    writer.more(Kind::Text, text, None);
                }
                Some(Piece::Thought(text, seal)) => writer.more(Kind::Thought, text, seal),
                Some(Piece::Call(call)) => {
                    writer.answer.called = true;
                    let head = PartHead::ToolCall {
                        id: call.id,
                        name: call.name,
                        kind: call.kind,
                    };
                    writer.whole(head, Delta::Arguments(call.arguments));
                }
                Some(Piece::Media(media)) => writer.show(media),
            }
        }
        if !tokens.is_empty() {
            lose_logprobs(losses);
        }
        if candidate.finish_reason.is_some() {
            writer.answer.word = candidate.finish_reason;
        }
    }

    /// Finishes the answers; `None` if one of them did not end.
    fn finish(&mut self) -> Option<Vec<Event>> {
        let mut out = Vec::new();
        if self.answers.is_empty() {
            self.blocked.as_ref()?;
            self.answers.insert(0, Answer::default());
        }
        for (choice, answer) in &mut self.answers {
            let reason = match (&answer.word, &self.blocked) {
                (Some(word), _) => wire::finish(word, answer.called),
                (None, Some(word)) => wire::blocked(word),
                (None, None) => return None,
            };
            if let Some((index, kind)) = answer.open.take() {
                let grounding = answer.grounding.take().filter(|_| kind == Kind::Text);
                let citations = grounding.map(|raw| note::read_citations(&raw, &answer.said));
                out.extend(citations.into_iter().flatten().map(|citation| {
                    let delta = Delta::Citation(Box::new(citation));
                    Event::Delta { index, delta }
                }));
                out.push(Event::Close { index });
            }
            out.push(Event::Finish {
                choice: *choice,
                reason: Finish {
                    remarks: std::mem::take(&mut answer.remarks),
                    ..reason
                },
            });
        }
        Some(out)
    }
}

impl DecodeStream for Decoder {
    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>, losses: &mut Losses) {
        // Servers that also speak OpenAI's format end both kinds of stream alike.
        if self.state == State::Ended || frame.data.trim() == "[DONE]" {
            return;
        }
        if let Err(error) = self.read(frame.data, out, losses) {
            out.push(Event::Error(error));
            self.state = State::Ended;
        }
    }

    fn end(&mut self, how: End, out: &mut Vec<Event>) {
        if self.state == State::Ended {
            return;
        }
        self.state = State::Ended;
        match self.finish() {
            Some(events) => out.extend(events),
            None => out.push(Event::Error(ApiError::new(
                ErrorKind::BadUpstream,
                match how {
                    End::Clean => "the upstream ended its stream before the answer was complete",
                    End::Cut => "the upstream's stream was cut before the answer was complete",
                },
            ))),
        }
    }
}

/// Writes what one answer says as events.
struct Writer<'w> {
    answer: &'w mut Answer,
    choice: usize,
    next: &'w mut usize,
    out: &'w mut Vec<Event>,
}

impl Writer<'_> {
    /// Adds to the open part, or opens one of `kind`. A seal completes what was thought.
    fn more(&mut self, kind: Kind, text: String, seal: Option<Seal>) {
        let index = self.part(kind);
        if !text.is_empty() {
            let delta = Delta::Text(text);
            self.out.push(Event::Delta { index, delta });
        }
        if let Some(seal) = seal {
            let delta = Delta::Seal(seal);
            self.out.push(Event::Delta { index, delta });
            self.close();
        }
    }

    /// Notes the tokens of the text that comes next.
    fn note(&mut self, tokens: Vec<Token>) {
        if !tokens.is_empty() {
            let index = self.part(Kind::Text);
            let delta = Delta::Tokens(tokens);
            self.out.push(Event::Delta { index, delta });
        }
    }

    /// Returns the part of `kind` that is open, or opens one.
    fn part(&mut self, kind: Kind) -> usize {
        match self.answer.open {
            Some((index, open)) if open == kind => index,
            Some(_) | None => {
                self.close();
                let head = match kind {
                    Kind::Text => PartHead::Text,
                    Kind::Thought => PartHead::Reasoning { redacted: false },
                };
                let index = self.open(head);
                self.answer.open = Some((index, kind));
                index
            }
        }
    }

    fn seal(&mut self, seal: Seal) {
        self.whole(PartHead::Reasoning { redacted: true }, Delta::Seal(seal));
    }

    fn whole(&mut self, head: PartHead, delta: Delta) {
        self.close();
        let index = self.open(head);
        self.out.push(Event::Delta { index, delta });
        self.out.push(Event::Close { index });
    }

    fn show(&mut self, media: Media) {
        self.close();
        let index = self.open(PartHead::Media(Box::new(media)));
        self.out.push(Event::Close { index });
    }

    fn open(&mut self, part: PartHead) -> usize {
        let index = *self.next;
        *self.next += 1;
        self.out.push(Event::Open {
            index,
            choice: self.choice,
            part,
        });
        index
    }

    fn close(&mut self) {
        if let Some((index, _)) = self.answer.open.take() {
            self.answer.said.clear();
            self.answer.unwrapped = Unwrapped::default();
            self.out.push(Event::Close { index });
        }
    }
}
