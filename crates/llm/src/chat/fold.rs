//! Events to a whole answer and back: the law that a stream says what the plain reply says.

use std::collections::BTreeMap;

use super::{Choice, Citation, Delta, Event, Head, Part, PartBody, PartHead, Reasoned, Response, ToolCall};
use crate::{ApiError, Usage, media::Media};

/// Gathers the events of a stream into one answer.
#[derive(Debug, Default)]
pub struct Fold {
    head: Head,
    usage: Usage,
    parts: BTreeMap<usize, (usize, Part)>,
    choices: BTreeMap<usize, super::Finish>,
    error: Option<ApiError>,
}

impl Fold {
    /// Takes the next event.
    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Start(head) => self.head = head.clone(),
            Event::Open { index, choice, part } => {
                self.parts.insert(*index, (*choice, Part::new(open(part))));
            }
            Event::Delta { index, delta } => {
                if let Some((_, part)) = self.parts.get_mut(index) {
                    append(part, delta);
                }
            }
            Event::Close { .. } | Event::Ping => {}
            Event::Usage(usage) => self.usage.merge(usage),
            Event::Finish { choice, reason } => {
                self.choices.insert(*choice, reason.clone());
            }
            Event::Error(error) => self.error = Some(error.clone()),
        }
    }

    /// Returns the answer, or the error that the stream ended with.
    ///
    /// # Errors
    /// The upstream's error.
    pub fn finish(self) -> Result<Response, ApiError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut choices: BTreeMap<usize, Choice> = self
            .choices
            .into_iter()
            .map(|(index, finish)| {
                (
                    index,
                    Choice {
                        parts: Vec::new(),
                        finish,
                    },
                )
            })
            .collect();
        for (choice, part) in self.parts.into_values() {
            if let Some(choice) = choices.get_mut(&choice) {
                choice.parts.push(part);
            }
        }
        Ok(Response {
            head: self.head,
            choices: choices.into_values().collect(),
            usage: self.usage,
        })
    }
}

/// Returns the events that say `response`, one delta for each part.
pub fn unfold(response: &Response) -> Vec<Event> {
    let mut events = vec![Event::Start(response.head.clone())];
    let mut index = 0;
    for (choice, answer) in response.choices.iter().enumerate() {
        for part in &answer.parts {
            let Some((head, deltas)) = split(part) else {
                continue;
            };
            events.push(Event::Open {
                index,
                choice,
                part: head,
            });
            events.extend(deltas.into_iter().map(|delta| Event::Delta { index, delta }));
            events.push(Event::Close { index });
            index += 1;
        }
        events.push(Event::Finish {
            choice,
            reason: answer.finish.clone(),
        });
    }
    events.push(Event::Usage(response.usage));
    events
}

fn open(head: &PartHead) -> PartBody {
    match head {
        PartHead::Text => PartBody::Text(String::new()),
        PartHead::Reasoning { redacted } => PartBody::Reasoning(Reasoned {
            redacted: *redacted,
            ..Reasoned::default()
        }),
        PartHead::ToolCall { id, name, kind } => PartBody::ToolCall(ToolCall {
            id: id.clone(),
            name: name.clone(),
            arguments: String::new(),
            kind: *kind,
        }),
        PartHead::Refusal => PartBody::Refusal(String::new()),
        PartHead::Media(media) => PartBody::Media(Media::clone(media)),
    }
}

fn append(part: &mut Part, delta: &Delta) {
    match (&mut part.body, delta) {
        (PartBody::Text(_) | PartBody::Refusal(_), Delta::Tokens(tokens)) => {
            part.tokens.extend_from_slice(tokens);
        }
        (PartBody::Text(_) | PartBody::Refusal(_), Delta::Citation(citation)) => {
            part.citations.push(Citation::clone(citation));
        }
        (PartBody::Text(text) | PartBody::Refusal(text), Delta::Text(more)) => text.push_str(more),
        (PartBody::Reasoning(reasoned), Delta::Text(more)) => reasoned.text.push_str(more),
        (PartBody::Reasoning(reasoned), Delta::Seal(seal)) => reasoned.seal = Some(seal.clone()),
        (PartBody::ToolCall(call), Delta::Arguments(more)) => call.arguments.push_str(more),
        (body, delta) => debug_assert!(false, "{delta:?} on {body:?}"),
    }
}

fn split(part: &Part) -> Option<(PartHead, Vec<Delta>)> {
    let said = |text: &String| {
        let tokens = (!part.tokens.is_empty()).then(|| Delta::Tokens(part.tokens.clone()));
        let citations = part.citations.iter().cloned().map(Box::new);
        let text = tokens.into_iter().chain([Delta::Text(text.clone())]);
        text.chain(citations.map(Delta::Citation)).collect()
    };
    Some(match &part.body {
        PartBody::Text(text) => (PartHead::Text, said(text)),
        PartBody::Refusal(text) => (PartHead::Refusal, said(text)),
        PartBody::Reasoning(reasoned) => {
            let mut deltas = Vec::new();
            if !reasoned.text.is_empty() {
                deltas.push(Delta::Text(reasoned.text.clone()));
            }
            deltas.extend(reasoned.seal.clone().map(Delta::Seal));
            (
                PartHead::Reasoning {
                    redacted: reasoned.redacted,
                },
                deltas,
            )
        }
        PartBody::ToolCall(call) => (
            PartHead::ToolCall {
                id: call.id.clone(),
                name: call.name.clone(),
                kind: call.kind,
            },
            vec![Delta::Arguments(call.arguments.clone())],
        ),
        PartBody::Media(media) => (PartHead::Media(Box::new(media.clone())), Vec::new()),
        PartBody::SearchResult(_) | PartBody::ToolResult(_) | PartBody::Native { .. } => return None,
    })
}
