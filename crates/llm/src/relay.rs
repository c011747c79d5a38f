//! The upstream speaks the client's format: the client's own bytes go there and the upstream's come back.
//!
//! Of the request only `model` and what the target's format asks for is edited. The reply is overheard, for
//! usage, errors and the end, and changed in one case alone: token counts that were asked for on the client's
//! behalf are withheld again.

use bytes::{Bytes, BytesMut};

use crate::{
    ApiError, Call, ErrorKind, Format, Losses, Observed, Target,
    chat::{Listen, Verdict},
    frame::sse::Sse,
    inbound::Inbound,
    reply::{self, Answer, End},
};

/// What is to be done with the reply to a relayed call.
pub struct Reply {
    /// The format of both sides.
    pub format: Format,
    withhold_usage: bool,
}

/// A streamed reply that is handed on as it is.
pub struct Stream {
    /// What was overheard so far.
    pub observed: Observed,
    format: Format,
    sse: Sse,
    listen: Box<dyn Listen>,
    /// Only whole frames are handed on, because one may have to be withheld.
    by_frame: bool,
    /// Bytes of a frame that is not complete, where frames are handed on whole.
    held: BytesMut,
    failed: bool,
}

/// Returns the call that relays `inbound` to `target`.
pub(crate) fn call(inbound: &Inbound, target: &Target<'_>) -> Call {
    let format = inbound.endpoint.format;
    let mut edits = format.upstream().relay_edits(&inbound.shallow, inbound.stream);
    let withhold_usage = edits.iter().any(|(key, _)| *key == "stream_options");
    if target.model != inbound.model {
        edits.push(("model", serde_json::Value::from(target.model).to_string()));
    }
    Call {
        format,
        path: target.provider.path(format, target),
        headers: crate::inbound::headers(target.provider, format),
        body: inbound.shallow.with(&edits),
        losses: Losses::default(),
        reply: reply::Reply::Relay(Reply {
            format,
            withhold_usage,
        }),
    }
}

impl Reply {
    pub(crate) fn response(self, body: Bytes) -> Result<Answer, ApiError> {
        let mut observed = Observed::default();
        self.format.upstream().listen_response(&body, &mut observed)?;
        Ok(Answer { body, observed })
    }

    pub(crate) fn stream(self) -> Stream {
        Stream {
            observed: Observed::default(),
            format: self.format,
            sse: Sse::default(),
            listen: self.format.upstream().listen_stream(self.withhold_usage),
            by_frame: self.withhold_usage,
            held: BytesMut::new(),
            failed: false,
        }
    }
}

impl Stream {
    pub(crate) fn push(&mut self, bytes: Bytes) -> Bytes {
        if self.failed {
            return Bytes::new();
        }
        if self.by_frame {
            self.push_by_frame(&bytes)
        } else {
            self.push_whole(bytes)
        }
    }

    pub(crate) fn end(&mut self, how: End) -> Bytes {
        if self.failed {
            return Bytes::new();
        }
        let mut owed = std::mem::take(&mut self.held);
        let between_frames = self.sse.is_between_events();
        let (listen, observed) = (&mut self.listen, &mut self.observed);
        let mut verdict = Verdict::Pass;
        self.sse.finish(|frame| verdict = listen.frame(frame, observed));
        if verdict == Verdict::Withhold {
            owed.clear();
        }
        if self.observed.error.is_some() || (self.observed.complete && how == End::Clean) {
            self.failed = true;
            return owed.freeze();
        }
        if self.observed.complete {
            self.failed = true;
            return owed.freeze();
        }
        if !between_frames {
            owed.extend_from_slice(b"\n\n");
        }
        let failure = self.fail_with(ApiError::new(
            ErrorKind::BadUpstream,
            match how {
                End::Clean => "the upstream ended its stream before the answer was complete",
                End::Cut => "the upstream's stream was cut before the answer was complete",
            },
        ));
        owed.extend_from_slice(&failure);
        owed.freeze()
    }

    pub(crate) fn fail(&mut self, error: ApiError) -> Bytes {
        if self.failed {
            return Bytes::new();
        }
        let mut out = BytesMut::new();
        // A frame of which the client has a part must be ended, or the error would become part of it.
        if !self.by_frame && !self.sse.is_between_events() {
            out.extend_from_slice(b"\n\n");
        }
        out.extend_from_slice(&self.fail_with(error));
        out.freeze()
    }

    pub(crate) fn keep_alive(&self) -> Bytes {
        if self.by_frame || self.sse.is_between_events() {
            Bytes::from_static(self.format.client().keep_alive())
        } else {
            Bytes::new()
        }
    }

    fn push_whole(&mut self, bytes: Bytes) -> Bytes {
        let (listen, observed) = (&mut self.listen, &mut self.observed);
        let pushed = self.sse.push(&bytes, |frame, _| {
            listen.frame(frame, observed);
        });
        match pushed {
            Ok(()) => bytes,
            Err(_) => self.too_large(),
        }
    }

    fn push_by_frame(&mut self, bytes: &Bytes) -> Bytes {
        let (listen, observed, held) = (&mut self.listen, &mut self.observed, &mut self.held);
        let mut out = BytesMut::with_capacity(held.len() + bytes.len());
        let mut from = 0;
        let pushed = self.sse.push(bytes, |frame, to| {
            let piece = bytes.get(from..to).unwrap_or_default();
            from = to;
            match listen.frame(frame, observed) {
                Verdict::Pass => {
                    out.extend_from_slice(held);
                    out.extend_from_slice(piece);
                }
                Verdict::Withhold => {}
            }
            held.clear();
        });
        held.extend_from_slice(bytes.get(from..).unwrap_or_default());
        match pushed {
            Ok(()) => out.freeze(),
            Err(_) => self.too_large(),
        }
    }

    fn too_large(&mut self) -> Bytes {
        self.fail(ApiError::new(
            ErrorKind::BadUpstream,
            "the upstream sent an event that exceeds 16 MiB",
        ))
    }

    fn fail_with(&mut self, error: ApiError) -> Bytes {
        let bytes = self.format.client().encode_error_event(&error);
        self.failed = true;
        self.observed.error = Some(error);
        bytes
    }
}
