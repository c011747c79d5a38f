//! Answers clients of completions, OpenAI's older operation, through upstreams that chat: the text to be continued is
//! what a user says, and what the model says is its continuation (API reference, "Completions").
//!
//! Providers that serve completions are relayed to and never come here.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{
    OpenAi,
    stream::KEEP_ALIVE,
    wire::{self, Counts},
};
use crate::{
    ApiError, Field, Loss, Losses, Severity, Usage,
    chat::{
        Choice, Client, Delta, EncodeStream, Event, Head, PartBody, PartHead, Request, Response,
        StreamOptions, note,
    },
    json::{self, Edit, Kind, Object, Path, Shallow},
    name,
};

/// Clients of completions.
pub(crate) struct Completions;

impl Client for Completions {
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, ApiError> {
        let shallow = Shallow::parse(Bytes::copy_from_slice(body))?;
        let prompt = prompt(body)?;
        let messages = json!([{ "role": "user", "content": prompt }]).to_string();
        let mut edits: Vec<Edit> = vec![("prompt", None), ("messages", Some(messages))];
        if shallow.read::<bool>("echo")?.unwrap_or(false) {
            losses.material(
                member("echo"),
                "a model that chats does not repeat what it is told",
            );
        }
        if shallow
            .read::<String>("suffix")?
            .is_some_and(|suffix| !suffix.is_empty())
        {
            losses.material(
                member("suffix"),
                "a model that chats does not write what stands between",
            );
        }
        if shallow.read::<u64>("best_of")?.is_some_and(|best| best > 1) {
            losses.advisory(
                member("best_of"),
                "a model that chats is asked for each answer once",
            );
        }
        edits.extend(["echo", "suffix", "best_of"].map(|key| (key, None)));
        if let Some(alternatives) = shallow.read::<u64>("logprobs")? {
            edits.push(("logprobs", Some("true".to_owned())));
            edits.push(("top_logprobs", Some(alternatives.to_string())));
        }
        OpenAi.decode_request(&shallow.with(&edits), losses)
    }

    fn encode_response(&self, response: &Response, losses: &mut Losses) -> Bytes {
        let choices = response.choices.iter().enumerate();
        let answer = Answer {
            head: Shared::new(&response.head),
            choices: choices
                .map(|(index, choice)| Continued {
                    text: text(choice, losses),
                    index,
                    logprobs: None,
                    finish_reason: Some(wire::finish_word(choice.finish.reason)),
                })
                .collect(),
            usage: (!response.usage.is_unknown()).then(|| Counts::from(&response.usage)),
        };
        Bytes::from(serde_json::to_vec(&answer).unwrap_or_default())
    }

    fn encode_stream(&self, stream: StreamOptions) -> Box<dyn EncodeStream> {
        Box::new(Encoder {
            include_usage: stream.include_usage,
            ..Encoder::default()
        })
    }

    fn encode_error(&self, error: &ApiError) -> Bytes {
        OpenAi.encode_error(error)
    }

    fn encode_error_event(&self, error: &ApiError) -> Bytes {
        OpenAi.encode_error_event(error)
    }

    fn keep_alive(&self, _stream: StreamOptions) -> &'static [u8] {
        KEEP_ALIVE
    }

    fn names_model(&self) -> name::Place {
        name::Place::MODEL
    }

    fn field(&self, field: &Field) -> Cow<'static, str> {
        match field {
            Field::Message(_) | Field::Instructions => Cow::Borrowed("prompt"),
            Field::MaxOutput => Cow::Borrowed("max_tokens"),
            other => OpenAi.field(other),
        }
    }
}

/// An answer, or a piece of one.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    head: Shared<'a>,
    choices: Vec<Continued<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Counts>,
}

/// What all pieces of an answer share.
#[derive(Serialize)]
struct Shared<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
}

/// One continuation, or a piece of it.
#[derive(Serialize)]
struct Continued<'a> {
    text: Cow<'a, str>,
    index: usize,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

impl<'a> Shared<'a> {
    fn new(head: &'a Head) -> Self {
        Self {
            id: &head.id,
            object: "text_completion",
            created: head.created.unwrap_or(0),
            model: &head.model,
        }
    }
}

/// Writes a streamed continuation.
#[derive(Default)]
struct Encoder {
    include_usage: bool,
    usage: Usage,
    head: Head,
    /// The answer that each part is of, where it is text.
    parts: Vec<Option<usize>>,
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &Event, out: &mut BytesMut, losses: &mut Losses) {
        match event {
            Event::Start(head) => self.head = head.clone(),
            Event::Open { index, choice, part } => {
                if self.parts.len() <= *index {
                    self.parts.resize(*index + 1, None);
                }
                let shown = match part {
                    PartHead::Text | PartHead::Refusal => Some(*choice),
                    PartHead::Reasoning { .. } | PartHead::ToolCall { .. } | PartHead::Media(_) => {
                        lose(losses);
                        None
                    }
                };
                if let Some(part) = self.parts.get_mut(*index) {
                    *part = shown;
                }
            }
            Event::Delta { index, delta } => match (self.parts.get(*index), delta) {
                (Some(Some(choice)), Delta::Text(text)) => self.say(*choice, text, None, out),
                (_, Delta::Tokens(_)) => note::lose_tokens(losses),
                (_, Delta::Text(_) | Delta::Arguments(_) | Delta::Seal(_)) => {}
                (_, Delta::Citation(_)) => lose(losses),
            },
            Event::Usage(usage) => self.usage.merge(usage),
            Event::Finish { choice, reason } => {
                reason.lose_remarks(&[], losses);
                self.say(*choice, "", Some(wire::finish_word(reason.reason)), out);
            }
            Event::Close { .. } => {}
            Event::Ping => out.put_slice(KEEP_ALIVE),
            Event::Error(error) => out.put_slice(&OpenAi.encode_error_event(error)),
        }
    }

    fn end(&mut self, out: &mut BytesMut, _losses: &mut Losses) {
        if self.include_usage {
            self.write(Vec::new(), Some(Counts::from(&self.usage)), out);
        }
        out.put_slice(b"data: [DONE]\n\n");
    }
}

impl Encoder {
    fn say(&self, index: usize, text: &str, finish_reason: Option<&'static str>, out: &mut BytesMut) {
        let continued = Continued {
            text: Cow::Borrowed(text),
            index,
            logprobs: None,
            finish_reason,
        };
        self.write(vec![continued], None, out);
    }

    fn write(&self, choices: Vec<Continued<'_>>, usage: Option<Counts>, out: &mut BytesMut) {
        let piece = Answer {
            head: Shared::new(&self.head),
            choices,
            usage,
        };
        out.put_slice(b"data: ");
        out.put_slice(&serde_json::to_vec(&piece).unwrap_or_default());
        out.put_slice(b"\n\n");
    }
}

/// Returns the one text that is to be continued.
fn prompt(body: &[u8]) -> Result<String, ApiError> {
    let raw: &RawValue = Object::parse_slice(body)?.required("prompt", &Path::Root)?;
    let path = Path::Root;
    let path = path.key("prompt");
    match json::kind(raw) {
        Kind::String => json::read(raw, &path),
        Kind::Array => match json::elements(raw, &path)?.as_slice() {
            [one] if json::kind(one) == Kind::String => json::read(one, &path.index(0)),
            _ => Err(Loss {
                field: member("prompt"),
                severity: Severity::Material,
                reason: "a model that chats continues one text, and no tokens of another model".into(),
            }
            .refusal("prompt".into())),
        },
        Kind::Object | Kind::Number | Kind::Bool | Kind::Null => Err(path.invalid("a text is expected")),
    }
}

/// Returns what a whole answer says.
fn text<'a>(choice: &'a Choice, losses: &mut Losses) -> Cow<'a, str> {
    choice.finish.lose_remarks(&[], losses);
    let mut said = None;
    for part in &choice.parts {
        if !part.tokens.is_empty() {
            note::lose_tokens(losses);
        }
        if !part.citations.is_empty() {
            lose(losses);
        }
        match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) => wire::join(&mut said, text),
            PartBody::Reasoning(_)
            | PartBody::ToolCall(_)
            | PartBody::Media(_)
            | PartBody::SearchResult(_)
            | PartBody::ToolResult(_)
            | PartBody::Native { .. } => lose(losses),
        }
    }
    said.unwrap_or_default()
}

fn lose(losses: &mut Losses) {
    losses.advisory(
        Field::Reply("choices[].text"),
        "a completion is text and nothing else",
    );
}

fn member(key: &str) -> Field {
    Field::Extension(key.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::Value;

    use super::*;
    use crate::{
        Call, End, Endpoint, Inbound, Provider, Site, Target,
        provider::{Anthropic, COHERE, COMPATIBLE},
    };

    fn call(provider: &'static dyn Provider, members: Value) -> Result<Call, ApiError> {
        let mut body = json!({ "model": "m", "max_tokens": 9 });
        for (key, value) in members.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let place = Endpoint::find("/v1/completions", "").expect("an endpoint");
        let site = Site::default();
        let target = Target {
            provider,
            site: &site,
            model: "claude-sonnet-4-6",
            now: 7,
        };
        Inbound::parse(place, Bytes::from(body.to_string()))?.call(&target, &HeaderMap::new())
    }

    #[test]
    fn a_text_is_continued_by_whoever_chats() {
        let call = call(
            &Anthropic,
            json!({ "prompt": ["Once"], "stop": "END", "echo": false }),
        )
        .expect("said");
        assert_eq!(call.path, "/v1/messages");
        let sent: Value = serde_json::from_slice(&call.body).expect("JSON");
        assert_eq!(
            sent,
            json!({
                "model": "claude-sonnet-4-6", "max_tokens": 9,
                "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Once" }] }],
                "stop_sequences": ["END"],
            })
        );
        let reply = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "max_tokens",
            "content": [{ "type": "text", "text": " upon" }, { "type": "text", "text": " a" }],
            "usage": { "input_tokens": 1, "output_tokens": 2 },
        });
        let answer = call
            .reply
            .response(Bytes::from(reply.to_string()))
            .expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(
            answer,
            json!({
                "id": "msg_1", "object": "text_completion", "created": 7, "model": "claude",
                "choices": [{ "text": " upon a", "index": 0, "logprobs": null, "finish_reason": "length" }],
                "usage": answer["usage"],
            })
        );
        assert_eq!(answer["usage"]["total_tokens"], 3);
    }

    #[test]
    fn a_stream_continues_it_piece_by_piece() {
        let members =
            json!({ "prompt": "Once", "stream": true, "stream_options": { "include_usage": true } });
        let mut stream = call(&Anthropic, members).expect("said").reply.stream();
        let events = [
            json!({ "type": "message_start", "message": { "id": "msg_1", "model": "claude", "usage": { "input_tokens": 1 } } }),
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": " upon" } }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 2 } }),
            json!({ "type": "message_stop" }),
        ];
        let frames = events.map(|event| {
            format!(
                "event: {}\ndata: {event}\n\n",
                event["type"].as_str().unwrap_or_default()
            )
        });
        let mut out = stream.push(Bytes::from(frames.concat())).to_vec();
        out.extend_from_slice(&stream.end(End::Clean));
        let out = String::from_utf8(out).expect("text");
        let mut pieces: Vec<&str> = out
            .split_terminator("\n\n")
            .map(|frame| &frame["data: ".len()..])
            .collect();
        assert_eq!(pieces.pop(), Some("[DONE]"));
        let pieces: Vec<Value> = pieces
            .iter()
            .map(|piece| serde_json::from_str(piece).expect("JSON"))
            .collect();
        let texts: Vec<Option<&str>> = pieces
            .iter()
            .map(|piece| piece["choices"][0]["text"].as_str())
            .collect();
        assert_eq!(texts, [Some(" upon"), Some(""), None]);
        assert_eq!(pieces[1]["choices"][0]["finish_reason"], "stop");
        assert_eq!(pieces[2]["usage"]["completion_tokens"], 2);
    }

    #[test]
    fn what_no_chat_can_do_is_refused() {
        for (members, param) in [
            (json!({ "prompt": ["a", "b"] }), "prompt"),
            (json!({ "prompt": [1, 2] }), "prompt"),
            (json!({ "prompt": "a", "suffix": "b" }), "suffix"),
            (json!({ "prompt": "a", "echo": true }), "echo"),
        ] {
            let refused = call(&Anthropic, members).err().expect("a refusal");
            assert_eq!(
                (refused.status.as_u16(), refused.param.as_deref()),
                (422, Some(param))
            );
        }
        let refused = call(&Anthropic, json!({})).err().expect("a refusal");
        assert_eq!(
            (refused.status.as_u16(), refused.param.as_deref()),
            (400, Some("prompt"))
        );
        let relayed = call(&COMPATIBLE, json!({ "prompt": ["a", "b"] })).expect("relayed");
        assert_eq!(relayed.path, "/v1/completions");
        let chatted = call(&COHERE, json!({ "prompt": "a" })).expect("said");
        assert_eq!(chatted.path, "/compatibility/v1/chat/completions");
    }
}
