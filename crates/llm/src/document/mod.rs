//! Operations other than chat: one JSON document in; a document, a stream or sound out.
//!
//! A [`Document`] is what is asked for. A provider that serves it says so with a [`Served`]: at which path, and
//! in which [`Wire`]. Most are relayed: the client's own document with the `model` of the target, and the
//! reply as it is, overheard for its counts. Three kinds are also translated: embeddings, through one small
//! neutral form in [`embedding`], the counting of tokens, through the neutral form of chat in [`count`], and rerank.

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    ApiError, Call, ErrorKind, Field, Format, Inbound, Losses, Operation, Target,
    chat::{Upstream, openai::OpenAi},
    json::{Edit, Shallow},
};

pub mod count;
pub mod embedding;
mod error;
pub(crate) mod estimate;
mod listen;
mod reply;
pub mod rerank;

pub(crate) use error::encode as encode_error;
pub use reply::{Opaque, Reply};

/// What is asked for with one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Document {
    /// The continuation of a text, in OpenAI's older form; unary or streamed.
    Completion,
    /// Vectors that stand for texts.
    Embedding,
    /// How many tokens a request in OpenAI's Responses format has.
    InputTokens,
    /// A conversation in OpenAI's Responses format, in fewer items.
    Compaction,
    /// The tokens of a text or a conversation, as vLLM serves them.
    Tokenize,
    /// How many tokens a request in Anthropic's Messages format has.
    CountTokens,
    /// How many tokens a request in the Gemini format has.
    TotalTokens,
    /// Pictures, whole or streamed.
    Image,
    /// Spoken text: sound, or events that hold pieces of it.
    Speech,
    /// Documents in the order in which they answer a question.
    Rerank,
    /// Whether a text or a picture is harmful.
    Moderation,
}

/// How and where a provider serves a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// How it is said.
    pub wire: Wire,
    /// Path and query, without host.
    pub path: String,
}

/// How a provider wants a document to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// As clients say it. The format is that of the provider's errors.
    Same(Format),
    /// Embeddings in the provider's own form.
    Embedding(embedding::Form),
    /// Counting through the provider's own counter.
    Count(count::Form),
    /// Rerank in the provider's own form.
    Rerank(rerank::Form),
}

impl Document {
    /// Returns the path of the operation in OpenAI's API, Anthropic's or Cohere's, without the version.
    pub fn suffix(self) -> &'static str {
        match self {
            Document::Completion => "completions",
            Document::Embedding => "embeddings",
            Document::InputTokens => "responses/input_tokens",
            Document::Compaction => "responses/compact",
            Document::Tokenize => "tokenize",
            Document::CountTokens => "messages/count_tokens",
            Document::TotalTokens => "countTokens",
            Document::Image => "images/generations",
            Document::Speech => "audio/speech",
            Document::Rerank => "rerank",
            Document::Moderation => "moderations",
        }
    }

    /// Returns whether `request` asks for a stream.
    ///
    /// # Errors
    /// A 400 that names the member that should say so and does not.
    pub(crate) fn streams(self, request: &Shallow) -> Result<bool, ApiError> {
        match self {
            Document::Completion | Document::Image => Ok(request.read("stream")?.unwrap_or(false)),
            Document::Speech => Ok(request.read::<String>("stream_format")?.as_deref() == Some("sse")),
            Document::Embedding
            | Document::InputTokens
            | Document::Compaction
            | Document::Tokenize
            | Document::CountTokens
            | Document::TotalTokens
            | Document::Rerank
            | Document::Moderation => Ok(false),
        }
    }

    /// Returns whether a reply that names no model is from the one that was asked; the compatibility
    /// specification, "Model names".
    fn is_answered_by_target(self) -> bool {
        match self {
            Document::Image
            | Document::Speech
            | Document::Rerank
            | Document::Tokenize
            | Document::Compaction => true,
            Document::Completion
            | Document::Embedding
            | Document::InputTokens
            | Document::CountTokens
            | Document::TotalTokens
            | Document::Moderation => false,
        }
    }

    /// Returns whether the document asks for a number of tokens.
    fn counts(self) -> bool {
        match self {
            Document::InputTokens | Document::Tokenize | Document::CountTokens | Document::TotalTokens => {
                true
            }
            Document::Completion
            | Document::Embedding
            | Document::Compaction
            | Document::Image
            | Document::Speech
            | Document::Rerank
            | Document::Moderation => false,
        }
    }

    /// Returns the refusal of a target that does not serve the document. One that does not count says it as
    /// servers do that lack the path.
    fn unserved(self, inbound: &Inbound, target: &Target<'_>) -> ApiError {
        let kind = if self.counts() {
            ErrorKind::NotFound
        } else {
            ErrorKind::Unprocessable
        };
        let (provider, path) = (target.provider.name(), inbound.endpoint.path);
        let why = match self {
            Document::Compaction => ": what it makes can be read by providers of Responses alone",
            Document::Completion
            | Document::Embedding
            | Document::InputTokens
            | Document::Tokenize
            | Document::CountTokens
            | Document::TotalTokens
            | Document::Image
            | Document::Speech
            | Document::Rerank
            | Document::Moderation => "",
        };
        ApiError::new(kind, format!("{provider} does not serve {path}{why}"))
    }
}

impl Wire {
    /// Returns the format in which the provider says errors.
    fn words(self) -> Format {
        match self {
            Wire::Same(format) => format,
            Wire::Embedding(form) => form.words(),
            Wire::Count(form) => form.words(),
            Wire::Rerank(form) => form.words(),
        }
    }
}

/// Returns what `target` is to be sent for `inbound`, which asks for `document`. `headers` are the client's.
///
/// # Errors
/// A 400, if the request breaks its format where a translation must understand it; a 422 or 404, if the target
/// cannot serve it.
pub(crate) fn call(
    document: Document,
    inbound: &Inbound,
    target: &Target<'_>,
    headers: &HeaderMap,
) -> Result<Call, ApiError> {
    let unserved = || document.unserved(inbound, target);
    let Served { wire, path } = target.provider.document(document, target).ok_or_else(unserved)?;
    let mut losses = Losses::default();
    let mut withhold_usage = false;
    let mut replaces = Vec::new();
    let mut more = Vec::new();
    let (body, decode) = match wire {
        Wire::Same(_) => {
            let edits = edits(document, inbound, target);
            withhold_usage = edits.iter().any(|(key, _)| *key == "stream_options");
            (inbound.shallow.with(&edits), reply::Decode::Same)
        }
        Wire::Embedding(form) => {
            let request = embedding::Request::parse(inbound.shallow.bytes(), &mut losses)?;
            let base64 = request.base64;
            let body;
            (body, more) = form.encode(request, target, &mut losses);
            let before = embedding::Reply::default();
            (body, reply::Decode::Embedding { form, base64, before })
        }
        Wire::Count(form) => {
            let body = form.encode(document, inbound, target, headers, &mut losses)?;
            replaces = form.replaces(target, headers, &mut losses)?;
            (body.ok_or_else(unserved)?, reply::Decode::Count(form))
        }
        Wire::Rerank(form) => {
            let asked = inbound.shallow.bytes();
            let (body, documents) = rerank::encode(form, asked, target.model, &mut losses)?;
            (body, reply::Decode::Rerank { form, documents })
        }
    };
    if let Some(refusal) = losses.refusal(inbound.endpoint.format.words()) {
        return Err(refusal);
    }
    Ok(Call {
        format: wire.words(),
        path,
        headers: crate::inbound::headers(target.provider, wire.words()),
        replaces,
        body,
        more,
        losses,
        reply: crate::Reply::Document(Reply {
            document,
            words: wire.words(),
            decode,
            model: target.model.to_owned(),
            name: None,
            withhold_usage,
            tokens: None,
        }),
    })
}

/// Returns an estimate in place of `refusal`, where tokens were to be counted and nobody counts those of the
/// model; what is lost is recorded in `losses`.
pub(crate) fn estimated(inbound: &Inbound, refusal: &ApiError, losses: &mut Losses) -> Option<Bytes> {
    let Operation::Document(document) = inbound.endpoint.operation else {
        return None;
    };
    if !document.counts() || !lacks_a_counter(refusal) {
        return None;
    }
    let member = match document {
        Document::Tokenize => "count",
        Document::TotalTokens => "totalTokens",
        Document::InputTokens
        | Document::CountTokens
        | Document::Compaction
        | Document::Completion
        | Document::Embedding
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => "input_tokens",
    };
    let reason = "nobody counts the tokens of this model: the number is an estimate";
    losses.advisory(Field::Reply(member), reason);
    let asked = match document {
        Document::TotalTokens => Shallow::parse(count::asked(&inbound.shallow)).ok(),
        Document::InputTokens
        | Document::CountTokens
        | Document::Tokenize
        | Document::Compaction
        | Document::Completion
        | Document::Embedding
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => None,
    };
    let tokens = estimate::tokens(asked.as_ref().unwrap_or(&inbound.shallow));
    Some(count::encode(document, tokens, true))
}

/// Returns whether an upstream has refused because it counts no tokens, rather than because of the request. A 404
/// about the model is an answer; Bedrock says 400 of models that it does not count (API reference,
/// "CountTokens").
fn lacks_a_counter(refusal: &ApiError) -> bool {
    let says = |words: &str| refusal.message.to_lowercase().contains(words);
    match refusal.status.as_u16() {
        405 | 501 => true,
        404 => !says("model"),
        400 => says("support counting tokens"),
        _ => false,
    }
}

/// Returns the edits of a relayed document: the target's model, and the counts of a streamed completion.
fn edits(document: Document, inbound: &Inbound, target: &Target<'_>) -> Vec<Edit> {
    let mut edits = match document {
        Document::Completion => OpenAi.relay_edits(&inbound.shallow, inbound.stream, target),
        Document::Embedding
        | Document::InputTokens
        | Document::Compaction
        | Document::Tokenize
        | Document::CountTokens
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => Vec::new(),
        // The path names the model, and the document what it repeats of that.
        Document::TotalTokens => return count::renamed(&inbound.shallow, target).into_iter().collect(),
    };
    if target.model != inbound.model {
        edits.push(("model", Some(serde_json::Value::from(target.model).to_string())));
    }
    edits
}

/// Returns `value` as the bytes of a document.
fn to_bytes(value: &impl serde::Serialize) -> Bytes {
    // Strings, numbers and raw JSON cannot fail to serialise.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

/// Returns the error about a reply that breaks its form.
fn broken(reason: impl std::fmt::Display) -> ApiError {
    let message = format!("the upstream's reply cannot be understood: {reason}");
    ApiError::bad_reply(message)
}

/// Returns the whole part of a count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and counts are small and not negative"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests;
