//! What a client sent, read once and said anew for every attempt.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    ApiError, Call, Document, Endpoint, Format, Losses, Provider, Target,
    chat::{self, Client, StreamOptions, Upstream, openai::Completions},
    document, exchange,
    json::{Path, Shallow},
    kept::{self, Continued},
    operation::{Operation, Place},
    provider::Ask,
    relay,
    usage::BYTES_PER_TOKEN,
};

/// What a call joins.
#[derive(Clone, Copy)]
pub(crate) struct Sides<'a> {
    /// The client's half.
    pub(crate) client: &'static dyn Client,
    /// The upstream's half.
    pub(crate) upstream: &'static dyn Upstream,
    /// What the provider is asked for, in the upstream's format.
    pub(crate) ask: Ask,
    /// The client's headers.
    pub(crate) headers: &'a HeaderMap,
}

/// A client's request: shallowly parsed, and decoded for each translation anew. What was decoded is as large as
/// what was received, and would have to be kept for as long as the upstream thinks.
pub struct Inbound {
    /// Where it was sent.
    pub endpoint: &'static Endpoint,
    /// The model that the client names.
    pub model: String,
    /// Whether the client wants a stream.
    pub stream: bool,
    pub(crate) options: StreamOptions,
    pub(crate) shallow: Shallow,
    /// What the answer was from which it goes on, and is part of it by now.
    pub(crate) continued: Option<Continued>,
    /// Of what the id is made under which a translated answer is kept.
    pub(crate) keep: Option<u128>,
}

/// About how many tokens a request may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Of its prompt.
    pub input: u64,
    /// Of each of its answers at most, where the client says so.
    pub output: Option<u64>,
    /// How many answers it wants to choose from beyond one.
    pub more: u64,
}

impl Estimate {
    /// Returns how many tokens all of its answers have that have `each`.
    pub fn of_answers(&self, each: u64) -> u64 {
        each.saturating_mul(self.more.saturating_add(1))
    }
}

#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig {
    max_output_tokens: Option<u64>,
    candidate_count: Option<u64>,
}

/// The most bytes of a request whose tokens are told by its length alone.
const SHORT: u64 = 32 * 1024;

impl Inbound {
    /// Reads what routing needs to know of `body`, which was sent to `place`.
    ///
    /// # Errors
    /// A 400, if `body` is not a JSON object, names no model, or has a `stream` that is not a boolean.
    pub fn parse(place: Place<'_>, body: Bytes) -> Result<Self, ApiError> {
        let endpoint = place.endpoint;
        let shallow = Shallow::parse(body)?;
        let model = match &place.name {
            Some(name) => name.clone(),
            None => shallow.read("model")?.unwrap_or_default(),
        };
        if model.is_empty() {
            return Err(Path::Root
                .key("model")
                .invalid("you must name a model")
                .with_code("model_required"));
        }
        let stream = match endpoint.streams {
            Some(streams) => streams,
            None => match endpoint.operation {
                Operation::Document(document) => document.streams(&shallow)?,
                Operation::Chat
                | Operation::Upload(_)
                | Operation::Models
                | Operation::Model
                | Operation::Kept => shallow.read("stream")?.unwrap_or(false),
            },
        };
        Ok(Self {
            endpoint,
            model,
            stream,
            options: StreamOptions {
                include_usage: false,
                array: stream && endpoint.format == Format::Gemini && !place.asks_for_events(),
                keep: false,
            },
            shallow,
            continued: None,
            keep: None,
        })
    }

    /// Returns the request as it was received.
    pub fn bytes(&self) -> &Bytes {
        self.shallow.bytes()
    }

    /// Returns what `target` is to be sent. `headers` are the client's.
    ///
    /// # Errors
    /// A 400, if the request breaks its format where a translation must understand it; a 422, if the target
    /// cannot carry it.
    pub fn call(&self, target: &Target<'_>, headers: &HeaderMap) -> Result<Call, ApiError> {
        if let Operation::Document(document) = self.endpoint.operation {
            return match self.chats(document, target) {
                Some((upstream, half)) => self.complete(upstream, half, target, headers),
                None => document::call(document, self, target, headers),
            };
        }
        let format = self.endpoint.format;
        let formats = target.provider.formats(self.endpoint.operation, target.model);
        let relayed = formats.iter().find(|offered| **offered == format);
        let halves = relayed.or(formats.first()).and_then(|upstream| {
            let (client, half) = (format.client()?, upstream.upstream()?);
            Some((*upstream, client, half))
        });
        let Some((upstream, client, half)) = halves else {
            return Err(ApiError::new(
                crate::ErrorKind::Unprocessable,
                format!("{} does not serve {}", target.provider.name(), self.endpoint.path),
            ));
        };
        let sides = Sides {
            client,
            upstream: half,
            ask: Ask {
                operation: self.endpoint.operation,
                format: upstream,
                stream: self.stream,
            },
            headers,
        };
        if relayed.is_some() {
            return relay::call(self, &sides, target);
        }
        let mut losses = Losses::default();
        let request = self.decode(client, &mut losses)?;
        let keep = self.keeping()?;
        let echo = client.echo(&self.shallow, keep.is_some());
        exchange::call(&sides, request, losses, target, echo, keep)
    }

    /// Returns what the client is told in place of `refusal`, which is the last word of its upstreams: where
    /// tokens were to be counted and nobody does, an estimate that says so. What is lost is recorded in `losses`.
    pub fn without(&self, refusal: &ApiError, losses: &mut Losses) -> Option<Bytes> {
        document::estimated(self, refusal, losses)
    }

    /// Returns about how many tokens the prompt has, and how many the answer may have, where the client says so.
    pub fn estimate(&self) -> Estimate {
        let written = |key| self.shallow.read::<u64>(key).ok().flatten();
        let of_gemini = self.shallow.read::<GenerationConfig>("generationConfig");
        let of_gemini = of_gemini.ok().flatten().unwrap_or_default();
        let answers = written("n").max(written("best_of")).or(of_gemini.candidate_count);
        let output = written("max_completion_tokens")
            .or_else(|| written("max_tokens"))
            .or_else(|| written("max_output_tokens"))
            .or(of_gemini.max_output_tokens);
        let length = self.len() as u64;
        Estimate {
            // What is long may hold pictures, which are fewer tokens than bytes.
            input: if length <= SHORT {
                length.div_ceil(BYTES_PER_TOKEN)
            } else {
                document::estimate::tokens(&self.shallow)
            },
            output,
            more: answers.unwrap_or(1).saturating_sub(1),
        }
    }

    /// Returns the media type of a streamed answer.
    pub fn stream_type(&self) -> &'static str {
        if self.options.array {
            "application/json"
        } else {
            "text/event-stream"
        }
    }

    /// Returns the number of bytes that the client sent.
    pub fn len(&self) -> usize {
        self.shallow.bytes().len()
    }

    /// Returns whether the client sent nothing; never true of a parsed request.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the format in which `target` is to chat in place of completing a text, where it serves no completions.
    fn chats(&self, document: Document, target: &Target<'_>) -> Option<(Format, &'static dyn Upstream)> {
        if document != Document::Completion || target.provider.document(document, target).is_some() {
            return None;
        }
        let format = *target.provider.formats(Operation::Chat, target.model).first()?;
        Some((format, format.upstream()?))
    }

    /// Returns the call that has `target` complete a text by chatting.
    fn complete(
        &self,
        format: Format,
        upstream: &'static dyn Upstream,
        target: &Target<'_>,
        headers: &HeaderMap,
    ) -> Result<Call, ApiError> {
        let sides = Sides {
            client: &Completions,
            upstream,
            ask: Ask {
                operation: Operation::Chat,
                format,
                stream: self.stream,
            },
            headers,
        };
        let mut losses = Losses::default();
        let request = self.decode(&Completions, &mut losses)?;
        exchange::call(&sides, request, losses, target, None, None)
    }

    fn decode(&self, client: &dyn Client, losses: &mut Losses) -> Result<chat::Request, ApiError> {
        let mut request = client.decode_request(self.shallow.bytes(), losses)?;
        // Gemini says both in the path.
        if self.endpoint.streams.is_some() {
            request.model.clone_from(&self.model);
            request.stream = self.stream.then_some(self.options);
        }
        if let Some(options) = &mut request.stream {
            options.keep = self.keep.is_some();
        }
        // What is done here is not lost on an upstream that cannot do it.
        request
            .extensions
            .0
            .retain(|extension| match extension.key.as_str() {
                kept::PREVIOUS => self.continued.is_none(),
                kept::STORE => self.keep.is_none(),
                _ => true,
            });
        Ok(request)
    }
}

/// Returns the headers that `provider` demands of every call in `format`.
pub(crate) fn headers(provider: &dyn Provider, format: Format) -> HeaderMap {
    provider
        .headers(format)
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}
