//! Counting tokens: vLLM's `/tokenize`, Anthropic's `count_tokens`, OpenAI's `responses/input_tokens` and Google's
//! `countTokens`, each of them through any provider's own counter.
//!
//! What is counted is a conversation, so that the formats of chat say it: a counter takes what its provider's
//! chat takes, less what does not count, and with an envelope of its own.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{Document, broken, to_bytes};
use crate::{
    ApiError, Format, Inbound, Losses, Operation, Target, chat,
    json::{Edit, Object, Path, Shallow},
    provider::{Ask, BedrockClaude, beta},
};

/// The counters of providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Anthropic's.
    Messages,
    /// That of Claude on Vertex AI.
    VertexClaude,
    /// That of Amazon Bedrock for a body of InvokeModel: Claude.
    BedrockClaude,
    /// That of Amazon Bedrock for a body of Converse: every model.
    Converse,
    /// Vertex AI's `countTokens`.
    Vertex,
    /// Gemini's `countTokens`.
    Gemini,
    /// OpenAI's, which takes the Responses format.
    Responses,
    /// vLLM's `/tokenize`, which takes chat completions.
    Tokenize,
}

impl Form {
    /// Returns the format in which the provider says errors.
    pub(super) fn words(self) -> Format {
        match self {
            Form::Messages | Form::VertexClaude => Format::Messages,
            Form::BedrockClaude | Form::Converse => Format::Converse,
            Form::Vertex | Form::Gemini => Format::Gemini,
            Form::Responses | Form::Tokenize => Format::OpenAi,
        }
    }

    /// Returns the format of chat in which the counter takes a conversation.
    fn format(self) -> Format {
        match self {
            Form::Messages | Form::VertexClaude | Form::BedrockClaude => Format::Messages,
            Form::Converse => Format::Converse,
            Form::Vertex | Form::Gemini => Format::Gemini,
            Form::Responses => Format::Responses,
            Form::Tokenize => Format::OpenAi,
        }
    }

    /// Returns the members of the format that the counter takes; it refuses others.
    fn members(self) -> &'static [&'static str] {
        match self {
            Form::Messages | Form::VertexClaude => {
                &["model", "messages", "system", "tools", "tool_choice", "thinking"]
            }
            Form::BedrockClaude => &[
                "messages",
                "system",
                "tools",
                "tool_choice",
                "thinking",
                "max_tokens",
                "anthropic_beta",
            ],
            Form::Converse => &["messages", "system", "toolConfig"],
            Form::Vertex => &["contents", "systemInstruction", "tools", "generationConfig"],
            Form::Gemini => &[
                "contents",
                "systemInstruction",
                "tools",
                "toolConfig",
                "generationConfig",
            ],
            Form::Responses => &[
                "model",
                "input",
                "instructions",
                "tools",
                "tool_choice",
                "parallel_tool_calls",
                "reasoning",
                "text",
                "truncation",
                "previous_response_id",
                "conversation",
            ],
            Form::Tokenize => &["model", "messages", "tools"],
        }
    }

    /// Returns what the counter is to be sent; `None` if nobody speaks its format here.
    pub(super) fn encode(
        self,
        document: Document,
        inbound: &Inbound,
        target: &Target<'_>,
        headers: &HeaderMap,
        losses: &mut Losses,
    ) -> Result<Option<Bytes>, ApiError> {
        let format = self.format();
        let same = inbound.endpoint.format == format;
        let said = if same && !matches!(document, Document::Tokenize | Document::TotalTokens) {
            let model = json!(target.model).to_string();
            inbound.shallow.with(&[("model", Some(model))])
        } else {
            let (Some(client), Some(upstream)) = (inbound.endpoint.format.client(), format.upstream()) else {
                return Ok(None);
            };
            let mut request = decode(document, inbound, client, losses)?;
            chat::attribution::lower(&mut request, format, losses);
            chat::shown::lower(&mut request, format, losses);
            chat::citation::lower(&mut request, format, losses);
            chat::search::lower(&mut request, format, target, losses);
            upstream.encode_request(&request, target, losses)?.0
        };
        let mut said = Shallow::parse(said)?;
        if self == Form::BedrockClaude {
            let ask = Ask {
                operation: Operation::Chat,
                format,
                stream: false,
            };
            // What is edited in chat, such as the flags that are taken, counts as well.
            let invoked = Target {
                provider: &BedrockClaude,
                ..*target
            };
            let mut edits = invoked.provider.edits(ask, &invoked);
            edits.extend(beta::carry(&invoked, format, headers, &said, losses)?.edits);
            said = Shallow::parse(said.with(&edits))?;
        }
        let said = Shallow::parse(self.kept(&said)?)?;
        Ok(Some(self.sealed(&said, target)))
    }

    /// Returns what is to become of the client's headers. Vertex AI's counter refuses flags that its models take.
    pub(super) fn replaces(
        self,
        target: &Target<'_>,
        headers: &HeaderMap,
        losses: &mut Losses,
    ) -> Result<Vec<(HeaderName, Option<HeaderValue>)>, ApiError> {
        Ok(match self {
            Form::VertexClaude => beta::withhold(headers, losses),
            Form::Messages if beta::is_sent(headers) => {
                let nothing = Shallow::parse(Bytes::from_static(b"{}"))?;
                beta::carry(target, Format::Messages, headers, &nothing, losses)?.replaces
            }
            Form::Messages
            | Form::BedrockClaude
            | Form::Converse
            | Form::Vertex
            | Form::Gemini
            | Form::Responses
            | Form::Tokenize => Vec::new(),
        })
    }

    /// Returns the members of `said` that the counter takes, as they are.
    fn kept(self, said: &Shallow) -> Result<Bytes, ApiError> {
        let mut members = Object::parse_slice(said.bytes())?;
        let kept = self.members().iter().filter_map(|key| {
            let value: &RawValue = members.take(key)?;
            Some(format!("\"{key}\":{value}"))
        });
        let kept: Vec<String> = kept.collect();
        Ok(Bytes::from(format!("{{{}}}", kept.join(","))))
    }

    /// Returns `said` in the counter's envelope.
    fn sealed(self, said: &Shallow, target: &Target<'_>) -> Bytes {
        let version = |default: &str| {
            let version = target
                .site
                .version
                .as_deref()
                .filter(|version| !version.is_empty());
            let edit: Edit = (
                "anthropic_version",
                Some(json!(version.unwrap_or(default)).to_string()),
            );
            edit
        };
        match self {
            Form::Messages | Form::Vertex | Form::Responses | Form::Tokenize => said.bytes().clone(),
            Form::VertexClaude => {
                // This path takes a version of the model that is a date, and no word.
                let model = ["@default", "@latest"]
                    .iter()
                    .find_map(|word| target.model.strip_suffix(word));
                let model = json!(model.unwrap_or(target.model)).to_string();
                said.with(&[("model", Some(model)), version("vertex-2023-10-16")])
            }
            Form::BedrockClaude => {
                let mut edits = vec![version("bedrock-2023-05-31")];
                // The body must be one that could be invoked.
                if said.get("max_tokens").is_none() {
                    edits.push(("max_tokens", Some("1".to_owned())));
                }
                let body = STANDARD.encode(said.with(&edits));
                to_bytes(&json!({ "input": { "invokeModel": { "body": body } } }))
            }
            Form::Converse => {
                let said = String::from_utf8_lossy(said.bytes());
                Bytes::from(format!(r#"{{"input":{{"converse":{said}}}}}"#))
            }
            Form::Gemini => {
                let name = target.model.trim_start_matches("models/");
                let model = json!(format!("models/{name}")).to_string();
                let said = said.with(&[("model", Some(model))]);
                let said = String::from_utf8_lossy(&said);
                Bytes::from(format!(r#"{{"generateContentRequest":{said}}}"#))
            }
        }
    }

    /// Reads the count.
    ///
    /// # Errors
    /// A 502, if there is none.
    pub(super) fn decode(self, body: &[u8]) -> Result<u64, ApiError> {
        let key = match self {
            Form::Messages | Form::VertexClaude | Form::Responses => "input_tokens",
            Form::BedrockClaude | Form::Converse => "inputTokens",
            Form::Vertex | Form::Gemini => "totalTokens",
            Form::Tokenize => "count",
        };
        let mut members = Object::parse_slice(body).map_err(broken)?;
        // Google says nothing where there is nothing.
        let absent = matches!(self, Form::Vertex | Form::Gemini).then_some(0);
        let count = members.optional(key, &Path::Root).map_err(broken)?;
        count
            .or(absent)
            .ok_or_else(|| broken(format_args!("it has no \"{key}\"")))
    }
}

/// Returns the count as a client of `document` expects it; an estimate says what it is.
pub(super) fn encode(document: Document, tokens: u64, estimated: bool) -> Bytes {
    #[derive(Serialize)]
    struct Tokenized {
        count: u64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        estimated: bool,
    }
    #[derive(Serialize)]
    struct Counted {
        #[serde(skip_serializing_if = "Option::is_none")]
        object: Option<&'static str>,
        input_tokens: u64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        estimated: bool,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Total {
        total_tokens: u64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        estimated: bool,
    }

    let counted = |object| Counted {
        object,
        input_tokens: tokens,
        estimated,
    };
    match document {
        Document::Tokenize => to_bytes(&Tokenized {
            count: tokens,
            estimated,
        }),
        Document::TotalTokens => to_bytes(&Total {
            total_tokens: tokens,
            estimated,
        }),
        Document::InputTokens => to_bytes(&counted(Some("response.input_tokens"))),
        Document::CountTokens
        | Document::Compaction
        | Document::Completion
        | Document::Embedding
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => to_bytes(&counted(None)),
    }
}

/// The member in which a client of Gemini may say the whole request whose tokens it wants to know.
const ASKED: &str = "generateContentRequest";

/// Returns the request in the Gemini format whose tokens `shallow` wants to know.
pub(super) fn asked(shallow: &Shallow) -> Bytes {
    match shallow.get(ASKED) {
        Some(request) => Bytes::copy_from_slice(request.as_bytes()),
        None => shallow.bytes().clone(),
    }
}

/// Returns the edit that has `shallow` name the model of `target` where it repeats what the path says.
pub(super) fn renamed(shallow: &Shallow, target: &Target<'_>) -> Option<Edit> {
    let request = Shallow::parse(asked(shallow)).ok()?;
    let named = shallow.get(ASKED).and(request.get("model"))?;
    let model = json!(format!("models/{}", target.model.trim_start_matches("models/"))).to_string();
    if named == model {
        return None;
    }
    let request = request.with(&[("model", Some(model))]);
    Some((ASKED, Some(String::from_utf8_lossy(&request).into_owned())))
}

/// Returns the conversation whose tokens a client wants to know.
fn decode(
    document: Document,
    inbound: &Inbound,
    client: &dyn chat::Client,
    losses: &mut Losses,
) -> Result<chat::Request, ApiError> {
    let shallow = &inbound.shallow;
    let path = Path::Root;
    match document {
        Document::Tokenize => {}
        Document::TotalTokens => return client.decode_request(&asked(shallow), losses),
        // Messages demands a limit of what is to be answered, and not of what is to be counted.
        Document::CountTokens if shallow.get("max_tokens").is_none() => {
            let limited = shallow.with(&[("max_tokens", Some(u32::MAX.to_string()))]);
            return client.decode_request(&limited, losses);
        }
        Document::CountTokens
        | Document::InputTokens
        | Document::Compaction
        | Document::Completion
        | Document::Embedding
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => return client.decode_request(shallow.bytes(), losses),
    }
    match (shallow.get("messages"), shallow.get("prompt")) {
        (Some(_), None) => {
            let continues = shallow.read("continue_final_message")?.unwrap_or(false);
            if continues && shallow.read("add_generation_prompt")?.unwrap_or(true) {
                return Err(path
                    .key("continue_final_message")
                    .invalid("it excludes \"add_generation_prompt\", which is true unless said otherwise"));
            }
            client.decode_request(shallow.bytes(), losses)
        }
        // A text is what a user says.
        (None, Some(_)) => {
            let prompt: String = shallow.read("prompt")?.unwrap_or_default();
            let message = json!([{ "role": "user", "content": prompt }]).to_string();
            let chat = shallow.with(&[("prompt", None), ("messages", Some(message))]);
            client.decode_request(&chat, losses)
        }
        (Some(_), Some(_)) => Err(path.key("prompt").invalid("it excludes \"messages\"")),
        (None, None) => Err(path
            .key("messages")
            .invalid("this member is required, or \"prompt\"")),
    }
}
