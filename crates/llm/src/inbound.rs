//! What a client sent, read once and said anew for every attempt.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    ApiError, Call, Endpoint, Format, Losses, Operation, Provider, Target, chat, exchange,
    json::{Path, Shallow},
    relay,
};

/// A client's request: shallowly parsed, and decoded no more than once, when a translation first needs it.
pub struct Inbound {
    /// Where it was sent.
    pub endpoint: &'static Endpoint,
    /// The model that the client names.
    pub model: String,
    /// Whether the client wants a stream.
    pub stream: bool,
    pub(crate) shallow: Shallow,
    decoded: OnceLock<Result<(chat::Request, Losses), ApiError>>,
}

impl Inbound {
    /// Reads what routing needs to know of `body`, which was sent to `endpoint`.
    ///
    /// # Errors
    /// A 400, if `body` is not a JSON object, names no model, or has a `stream` that is not a boolean.
    pub fn parse(endpoint: &'static Endpoint, body: Bytes) -> Result<Self, ApiError> {
        let shallow = Shallow::parse(body)?;
        let model: String = shallow.read("model")?.unwrap_or_default();
        if model.is_empty() {
            return Err(Path::Root
                .key("model")
                .invalid("you must name a model")
                .with_code("model_required"));
        }
        let stream = shallow.read("stream")?.unwrap_or(false);
        Ok(Self {
            endpoint,
            model,
            stream,
            shallow,
            decoded: OnceLock::new(),
        })
    }

    /// Returns what `target` is to be sent.
    ///
    /// # Errors
    /// A 400, if the request breaks its format where a translation must understand it; a 422, if the target
    /// cannot carry it.
    pub fn call(&self, target: &Target<'_>) -> Result<Call, ApiError> {
        let format = self.endpoint.format;
        let formats = target.provider.formats(self.endpoint.operation, target.model);
        if formats.contains(&format) {
            return Ok(relay::call(self, target));
        }
        let Some(upstream) = formats.first().copied() else {
            return Err(ApiError::new(
                crate::ErrorKind::Unprocessable,
                format!("{} does not serve {}", target.provider.name(), self.endpoint.path),
            ));
        };
        match self.endpoint.operation {
            Operation::Chat => {
                let (request, losses) = self.decoded()?;
                exchange::call(format, upstream, request, losses, target)
            }
            Operation::Models => Err(ApiError::new(
                crate::ErrorKind::Internal,
                "models are not asked upstream",
            )),
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

    fn decoded(&self) -> Result<(&chat::Request, &Losses), ApiError> {
        let decoded = self.decoded.get_or_init(|| {
            let mut losses = Losses::default();
            let request = self
                .endpoint
                .format
                .client()
                .decode_request(self.shallow.bytes(), &mut losses)?;
            Ok((request, losses))
        });
        match decoded {
            Ok((request, losses)) => Ok((request, losses)),
            Err(error) => Err(error.clone()),
        }
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
