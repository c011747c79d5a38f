//! What is overheard of relayed replies: the model, counts, errors and the end. What is not understood passes.

use http::{HeaderMap, StatusCode};
use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{Document, broken, whole};
use crate::{
    ApiError, Format, Observed, Usage,
    chat::{Listen, Upstream, Verdict, openai::OpenAi, responses::Responses},
    frame::Frame,
};

/// Notes what a whole reply to `document` says; its errors are in `words`.
///
/// # Errors
/// A 502, if it is not JSON.
pub(super) fn response(
    document: Document,
    words: Format,
    body: &bytes::Bytes,
    observed: &mut Observed,
) -> Result<(), ApiError> {
    if document == Document::Compaction {
        return Responses.listen_response(body, observed);
    }
    // Some servers answer with a bare list, which says nothing of interest here.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let Some(heard) = is_object
        .then(|| serde_json::from_slice::<Heard<'_>>(body).ok())
        .flatten()
    else {
        return serde_json::from_slice::<IgnoredAny>(body)
            .map(|_| ())
            .map_err(broken);
    };
    if heard.error.is_some_and(is_said) {
        let error = super::error::decode(words, StatusCode::BAD_GATEWAY, &HeaderMap::new(), body);
        observed.error = Some(error);
        return Ok(());
    }
    heard.note(document, observed);
    Ok(())
}

/// Returns a listener for the streamed reply to `document`. `withhold_usage` tells that a frame which holds
/// counts alone is not for the client.
pub(super) fn stream(document: Document, withhold_usage: bool) -> Box<dyn Listen> {
    Box::new(Listener {
        document,
        chat: OpenAi.listen_stream(withhold_usage),
    })
}

/// Overhears one stream.
struct Listener {
    document: Document,
    /// Knows errors, the end, and what completions have in common with chat.
    chat: Box<dyn Listen>,
}

impl Listen for Listener {
    fn frame(&mut self, frame: Frame<'_>, observed: &mut Observed) -> Verdict {
        let verdict = self.chat.frame(frame, observed);
        if observed.error.is_some() {
            return verdict;
        }
        match self.document {
            Document::Completion => observed.meaningful |= !frame.data.trim().starts_with('['),
            Document::Image
            | Document::Speech
            | Document::Embedding
            | Document::InputTokens
            | Document::Compaction
            | Document::Tokenize
            | Document::CountTokens
            | Document::TotalTokens
            | Document::Rerank
            | Document::Moderation => {
                observed.meaningful = true;
                self.note(frame.data.as_bytes(), observed);
            }
        }
        verdict
    }

    /// Not all servers say when they are done with pictures and sound.
    fn end(&mut self, observed: &mut Observed) {
        observed.complete |= self.document != Document::Completion;
    }
}

impl Listener {
    /// Notes counts, and the event that ends a stream (API reference, "Image streaming" and "Audio"). A picture
    /// is large, so that only the events which may hold either are looked into.
    fn note(&self, data: &[u8], observed: &mut Observed) {
        let may_matter = [&br#""usage""#[..], b".completed", b".done"];
        if !may_matter.iter().any(|word| memmem::find(data, word).is_some()) {
            return;
        }
        let Ok(heard) = serde_json::from_slice::<Heard<'_>>(data) else {
            return;
        };
        let kind = heard
            .kind
            .and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
        observed.complete |= kind.is_some_and(|kind| kind.ends_with(".completed") || kind.ends_with(".done"));
        heard.note(self.document, observed);
    }
}

/// Returns whether a member holds more than nothing.
fn is_said(raw: &RawValue) -> bool {
    !matches!(raw.get(), "null" | "{}" | r#""""#)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Heard<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    count: Option<&'a RawValue>,
    #[serde(borrow, rename = "totalTokens")]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The counts of OpenAI's operations, older and newer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

/// Cohere's counts, which are decimals (API reference, "Rerank").
#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    tokens: Option<MetaTokens>,
    billed_units: Option<MetaUnits>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MetaTokens {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MetaUnits {
    search_units: Option<f64>,
}

impl Heard<'_> {
    fn note(&self, document: Document, observed: &mut Observed) {
        let model = self
            .model
            .and_then(|model| serde_json::from_str::<String>(model.get()).ok());
        observed.model = model.filter(|model| !model.is_empty()).or(observed.model.take());
        let usage = match document {
            Document::Completion
            | Document::Embedding
            | Document::Image
            | Document::Speech
            | Document::Compaction => self.usage.and_then(counts),
            Document::Moderation => None,
            Document::InputTokens | Document::CountTokens => self.input_tokens.and_then(number),
            Document::Tokenize => self.count.and_then(number),
            Document::TotalTokens => self.total_tokens.and_then(number),
            // Those who host it beside OpenAI's operations count as OpenAI does.
            Document::Rerank => self.meta.and_then(of_meta).or(self.usage.and_then(counts)),
        };
        if let Some(usage) = usage {
            observed.usage.merge(&usage);
        }
    }
}

fn counts(raw: &RawValue) -> Option<Usage> {
    let counts: Counts = serde_json::from_str(raw.get()).ok()?;
    let output = counts.completion_tokens.or(counts.output_tokens);
    let all = counts.total_tokens.filter(|_| output.is_none());
    Some(Usage {
        input: counts.prompt_tokens.or(counts.input_tokens).or(all),
        output,
        ..Usage::default()
    })
}

fn of_meta(raw: &RawValue) -> Option<Usage> {
    let meta: Meta = serde_json::from_str(raw.get()).ok()?;
    let (tokens, units) = (
        meta.tokens.unwrap_or_default(),
        meta.billed_units.unwrap_or_default(),
    );
    let usage = Usage {
        input: tokens.input_tokens.map(whole),
        output: tokens.output_tokens.map(whole),
        search_units: units.search_units.map(whole),
        ..Usage::default()
    };
    (usage != Usage::default()).then_some(usage)
}

fn number(raw: &RawValue) -> Option<Usage> {
    Some(Usage {
        input: Some(serde_json::from_str(raw.get()).ok()?),
        ..Usage::default()
    })
}
