//! What is to be done with the reply to a document.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Document, count, embedding, error, listen, rerank};
use crate::{
    ApiError, Format, Observed,
    chat::{StreamOptions, openai::OpenAi},
    frame::Framing,
    name::{Name, Place},
    relay,
    reply::{Answer, End},
};

/// What is to be done with the reply to a document.
pub struct Reply {
    pub(super) document: Document,
    /// The format in which the upstream says errors.
    pub(super) words: Format,
    pub(super) decode: Decode,
    /// The model that is asked.
    pub(super) model: String,
    /// What the client calls it, where a route names another.
    pub(super) name: Option<String>,
    pub(super) withhold_usage: bool,
    /// A count that the head of the reply tells.
    pub(super) tokens: Option<u64>,
}

/// How a whole reply is read.
pub(super) enum Decode {
    /// It is what the client expects.
    Same,
    /// As vectors, which the client wants in base64 or as numbers, after those of earlier calls.
    Embedding {
        form: embedding::Form,
        base64: bool,
        before: embedding::Reply,
    },
    /// As a count.
    Count(count::Form),
    /// As an order of documents, which the client may want to have back.
    Rerank {
        form: rerank::Form,
        documents: Option<Vec<String>>,
    },
}

/// A reply of any type that is handed on as it is: sound.
///
/// Nothing can be said in it beside itself: an error ends it, and the client's connection is what tells.
pub struct Opaque {
    /// What is known so far.
    pub observed: Observed,
}

impl Reply {
    /// Returns whether a successful reply that is no stream of events is bytes of a type that only the
    /// upstream knows.
    pub(crate) fn is_opaque(&self) -> bool {
        match self.document {
            Document::Speech => true,
            Document::Completion
            | Document::Embedding
            | Document::InputTokens
            | Document::Compaction
            | Document::Tokenize
            | Document::CountTokens
            | Document::TotalTokens
            | Document::Image
            | Document::Rerank
            | Document::Moderation => false,
        }
    }

    /// Has the answer call the model `model`.
    pub(crate) fn call_model(&mut self, model: &str) {
        self.name = Some(model.to_owned());
    }

    /// Returns whether a whole reply is handed on as it is.
    pub(crate) fn is_handed_on(&self) -> bool {
        match self.decode {
            Decode::Same => self.name.is_none(),
            Decode::Embedding { .. } | Decode::Count(_) | Decode::Rerank { .. } => false,
        }
    }

    /// Notes what the head of a successful reply says. Bedrock counts there what its models do not count.
    pub(crate) fn hear(&mut self, headers: &HeaderMap) {
        let count = headers.get("x-amzn-bedrock-input-token-count");
        self.tokens = count.and_then(|count| count.to_str().ok()?.parse().ok());
    }

    /// Takes a reply that others follow.
    pub(crate) fn take(&mut self, body: &[u8]) -> Result<(), ApiError> {
        match &mut self.decode {
            Decode::Embedding { form, before, .. } => before.add(form.decode(body)?, self.tokens.take()),
            // Only vectors are asked for in several calls.
            Decode::Same | Decode::Count(_) | Decode::Rerank { .. } => {}
        }
        Ok(())
    }

    pub(crate) fn response(self, body: Bytes) -> Result<Answer, ApiError> {
        let mut observed = self.observed();
        let name = self.name.as_deref();
        let body = match self.decode {
            Decode::Same => {
                listen::response(self.document, self.words, &body, &mut observed)?;
                match name {
                    Some(name) => Name::new(name, Place::MODEL).put(body),
                    None => body,
                }
            }
            Decode::Embedding {
                form,
                base64,
                before: mut reply,
            } => {
                reply.add(form.decode(&body)?, self.tokens);
                observed.model = Some(self.model.clone());
                observed.usage.input = reply.tokens;
                reply.encode(name.unwrap_or(&self.model), base64)
            }
            Decode::Count(form) => {
                let tokens = form.decode(&body)?;
                observed.usage.input = Some(tokens);
                count::encode(self.document, tokens, false)
            }
            Decode::Rerank { form, documents } => {
                observed.usage.input = self.tokens;
                rerank::decode(form, &body, name.unwrap_or(&self.model), documents.as_deref())?
            }
        };
        observed.meaningful = true;
        observed.complete = true;
        Ok(Answer::new(body, observed))
    }

    pub(crate) fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> ApiError {
        error::decode(self.words, status, headers, body)
    }

    pub(crate) fn stream(self) -> relay::Stream {
        let name = self.name.as_deref().map(|name| Name::new(name, Place::MODEL));
        let stream = relay::Stream::overheard(
            &OpenAi,
            StreamOptions::default(),
            Framing::Sse,
            listen::stream(self.document, self.withhold_usage),
            self.observed(),
        );
        let stream = if self.withhold_usage {
            stream.withholding()
        } else {
            stream
        };
        stream.named(name.map(Box::new))
    }

    pub(crate) fn opaque(self) -> Opaque {
        Opaque {
            observed: self.observed(),
        }
    }

    fn observed(&self) -> Observed {
        let answers = self.document.is_answered_by_target();
        Observed {
            model: answers.then(|| self.model.clone()),
            ..Observed::default()
        }
    }
}

impl Opaque {
    pub(crate) fn push(&mut self, bytes: Bytes) -> Bytes {
        if self.observed.error.is_some() {
            return Bytes::new();
        }
        self.observed.meaningful |= !bytes.is_empty();
        bytes
    }

    pub(crate) fn end(&mut self, how: End) -> Bytes {
        match how {
            End::Clean => self.observed.complete = self.observed.error.is_none(),
            End::Cut => {
                let message = "the upstream's reply was cut before it was complete";
                return self.fail(ApiError::new(crate::ErrorKind::BadUpstream, message));
            }
        }
        Bytes::new()
    }

    pub(crate) fn fail(&mut self, error: ApiError) -> Bytes {
        self.observed.error.get_or_insert(error);
        Bytes::new()
    }
}
