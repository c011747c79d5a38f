//! What an upstream's reply becomes, and what was overheard in it.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::{
    ApiError, Losses, Said, Usage,
    chat::{Finish, FinishReason},
    document, exchange,
    frame::Framing,
    kept::Kept,
    relay, upload,
};

/// What is to be done with one upstream's reply; comes with the [`Call`](crate::Call) that asks for it.
pub enum Reply {
    /// The upstream speaks the client's format.
    Relay(relay::Reply),
    /// It speaks another one.
    Translate(exchange::Reply),
    /// It speaks the client's format, and was sent a form.
    Upload(upload::Reply),
    /// It was sent a document that is no chat.
    Document(document::Reply),
}

/// A whole reply, ready for the client.
#[derive(Debug)]
pub struct Answer {
    /// The body, in the client's format.
    pub body: Bytes,
    /// What was overheard.
    pub observed: Observed,
    /// What is to be kept of it.
    pub kept: Option<Kept>,
}

impl Answer {
    /// Returns an answer of which nothing is to be kept.
    pub(crate) fn new(body: Bytes, observed: Observed) -> Self {
        Self {
            body,
            observed,
            kept: None,
        }
    }
}

/// What a reply says about itself.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The model that answered, in the provider's words.
    pub model: Option<String>,
    /// The id under which the provider keeps the answer, where its format has such.
    pub stored: Option<String>,
    /// Token counts so far.
    pub usage: Usage,
    /// How much was said, of a stream.
    pub said: Said,
    /// Seconds of audio, begun ones included, where the provider counts those.
    pub seconds: Option<u64>,
    /// Why the (first) answer ended.
    pub finish: Option<Finish>,
    /// The upstream's error inside a reply that began well.
    pub error: Option<ApiError>,
    /// Whether something was said that a client would show: from here on there is no other attempt.
    pub meaningful: bool,
    /// Whether the format's own end was seen.
    pub complete: bool,
    /// Whether the upstream goes on with the answer although nobody waits for it, and is asked for it later.
    pub later: bool,
    /// What the client's format could not say.
    pub losses: Losses,
}

/// How a stream of bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As HTTP says it should.
    Clean,
    /// By a reset, or short of its length.
    Cut,
}

/// A streamed reply on its way to the client.
pub enum Stream {
    /// As it is.
    Relay(relay::Stream),
    /// Through the neutral form.
    Translate(exchange::Stream),
    /// As it is, whatever it is.
    Opaque(document::Opaque),
}

impl Reply {
    /// Notes what the head of a successful reply says of the answer.
    pub fn hear(&mut self, headers: &HeaderMap) {
        match self {
            Reply::Relay(_) | Reply::Upload(_) => {}
            Reply::Translate(reply) => reply.hear(headers),
            Reply::Document(reply) => reply.hear(headers),
        }
    }

    /// Has the answer call the model `model`, which is what the client called it, whatever the upstream does. Sound
    /// and what comes of a form name none.
    pub fn call_model(&mut self, model: &str) {
        match self {
            Reply::Relay(reply) => reply.call_model(model),
            Reply::Translate(reply) => reply.call_model(model),
            Reply::Upload(_) => {}
            Reply::Document(reply) => reply.call_model(model),
        }
    }

    /// Takes the whole successful reply to one of several calls; the last one is for [`Reply::response`].
    ///
    /// # Errors
    /// A 502, if the reply breaks its format.
    pub fn take(&mut self, body: &[u8]) -> Result<(), ApiError> {
        match self {
            Reply::Document(reply) => reply.take(body),
            Reply::Relay(_) | Reply::Translate(_) | Reply::Upload(_) => Ok(()),
        }
    }

    /// Turns a whole successful reply into the client's.
    ///
    /// # Errors
    /// A 502, if the reply breaks its format.
    pub fn response(self, body: Bytes) -> Result<Answer, ApiError> {
        match self {
            Reply::Relay(reply) => reply.response(body),
            Reply::Translate(reply) => reply.response(body),
            Reply::Upload(reply) => Ok(reply.response(body)),
            Reply::Document(reply) => reply.response(body),
        }
    }

    /// Reads an error reply.
    pub fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> ApiError {
        let upstream = match self {
            Reply::Relay(reply) => reply.upstream,
            Reply::Translate(reply) => reply.upstream,
            Reply::Upload(reply) => return reply.error(status, headers, body),
            Reply::Document(reply) => return reply.error(status, headers, body),
        };
        upstream.decode_error(status, headers, body)
    }

    /// Returns the media type that a streamed reply has.
    pub fn stream_type(&self) -> &'static str {
        let framing = match self {
            Reply::Relay(reply) => reply.framing,
            Reply::Translate(reply) => reply.framing,
            Reply::Upload(reply) => reply.framing,
            Reply::Document(_) => Framing::Sse,
        };
        framing.media_type()
    }

    /// Turns a streamed reply into the client's, piece by piece.
    pub fn stream(self) -> Stream {
        match self {
            Reply::Relay(reply) => Stream::Relay(reply.stream()),
            Reply::Translate(reply) => Stream::Translate(reply.stream()),
            Reply::Upload(reply) => Stream::Relay(reply.stream()),
            Reply::Document(reply) => Stream::Relay(reply.stream()),
        }
    }

    /// Returns whether a successful reply that is no stream of events is handed on as it is, under the type
    /// that the upstream gives it.
    pub fn is_opaque(&self) -> bool {
        match self {
            Reply::Relay(_) | Reply::Translate(_) | Reply::Upload(_) => false,
            Reply::Document(reply) => reply.is_opaque(),
        }
    }

    /// Returns whether a whole successful reply is handed on as it is.
    pub fn is_handed_on(&self) -> bool {
        match self {
            Reply::Relay(reply) => reply.is_handed_on(),
            Reply::Upload(_) => true,
            Reply::Translate(_) => false,
            Reply::Document(reply) => reply.is_handed_on(),
        }
    }

    /// Turns such a reply into the client's, piece by piece.
    pub fn opaque(self) -> Stream {
        match self {
            Reply::Document(reply) => Stream::Opaque(reply.opaque()),
            Reply::Relay(_) | Reply::Translate(_) | Reply::Upload(_) => self.stream(),
        }
    }
}

impl Stream {
    /// Takes the next bytes of the upstream; returns what the client is to get, which may be nothing.
    ///
    /// An error that the upstream reports inside its stream is in [`Stream::observed`] afterwards, and in the
    /// returned bytes in the client's words. Nothing is returned for what follows it.
    pub fn push(&mut self, bytes: Bytes) -> Bytes {
        match self {
            Stream::Relay(stream) => stream.push(bytes),
            Stream::Translate(stream) => stream.push(&bytes),
            Stream::Opaque(stream) => stream.push(bytes),
        }
    }

    /// Hears that the upstream ended; returns what the client is still owed. An answer that was not complete
    /// ends with an error in the client's words.
    pub fn end(&mut self, how: End) -> Bytes {
        match self {
            Stream::Relay(stream) => stream.end(how),
            Stream::Translate(stream) => stream.end(how),
            Stream::Opaque(stream) => stream.end(how),
        }
    }

    /// Ends the stream with an error of the gateway's own, in the client's words.
    pub fn fail(&mut self, error: ApiError) -> Bytes {
        match self {
            Stream::Relay(stream) => stream.fail(error),
            Stream::Translate(stream) => stream.fail(error),
            Stream::Opaque(stream) => stream.fail(error),
        }
    }

    /// Returns bytes that keep the client waiting; nothing where a frame is only half sent.
    pub fn keep_alive(&self) -> Bytes {
        match self {
            Stream::Relay(stream) => stream.keep_alive(),
            Stream::Translate(stream) => stream.keep_alive(),
            Stream::Opaque(_) => Bytes::new(),
        }
    }

    /// Returns what was overheard so far.
    pub fn observed(&self) -> &Observed {
        match self {
            Stream::Relay(stream) => &stream.observed,
            Stream::Translate(stream) => &stream.observed,
            Stream::Opaque(stream) => &stream.observed,
        }
    }

    /// Returns what is to be kept of the answer, once, with the bytes that complete it.
    pub fn kept(&mut self) -> Option<Kept> {
        match self {
            Stream::Translate(stream) => stream.kept(),
            Stream::Relay(_) | Stream::Opaque(_) => None,
        }
    }

    /// Returns whether the stream has failed in a way that its bytes cannot tell: only breaking off does.
    pub fn breaks_off(&self) -> bool {
        match self {
            Stream::Relay(_) | Stream::Translate(_) => false,
            Stream::Opaque(stream) => stream.observed.error.is_some(),
        }
    }
}

impl Observed {
    /// Notes why the first answer ended.
    pub fn finish(&mut self, reason: FinishReason, raw: &str) {
        self.finish = Some(Finish {
            reason,
            raw: Some(raw.to_owned()),
            ..Finish::default()
        });
    }
}
