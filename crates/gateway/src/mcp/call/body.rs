//! The body of a backend's reply, piece by piece, without the content coding that it may have come in: none is asked for,
//! and some send one all the same.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt;

use super::{Failure, Fault};
use crate::{
    body::Pieces,
    coding::{Coding, Decoder},
    upstream,
};

/// The body of a reply of a backend.
pub(super) struct Body {
    backend: Arc<str>,
    reply: upstream::Reply,
    /// `None` where nothing is to be decoded, which is nearly always.
    decoder: Option<Box<Decoder>>,
}

impl Body {
    /// Returns the body of a reply of `backend` with these headers.
    ///
    /// # Errors
    /// If it is coded in a way that is not known.
    pub(super) fn new(
        backend: &Arc<str>,
        headers: &HeaderMap,
        reply: upstream::Reply,
    ) -> Result<Self, Failure> {
        let coded = headers.get(header::CONTENT_ENCODING);
        let coded = coded.filter(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"));
        let decoder = match coded {
            None => None,
            Some(coding) => match Coding::of(coding).and_then(Decoder::new) {
                Some(decoder) => Some(Box::new(decoder)),
                None => {
                    let reason = "its reply has a coding that is not known";
                    return Err(Failure::new(backend, Fault::BadReply, reason));
                }
            },
        };
        Ok(Self {
            backend: Arc::clone(backend),
            reply,
            decoder,
        })
    }

    /// Returns the next piece; `None` at the end. Some are empty.
    ///
    /// # Errors
    /// If it breaks off, or cannot be decoded.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let frame = match self.reply.frame().await {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Err(self.fails(Fault::Broken, "its reply broke off")),
            None => {
                let left = self.decoder.take().map(|mut decoder| decoder.end());
                return left.transpose().map_err(|fault| self.undecoded(fault));
            }
        };
        let piece = frame.into_data().unwrap_or_default();
        let decoded = match &mut self.decoder {
            None => Ok(piece),
            Some(decoder) => decoder.push(&piece),
        };
        decoded.map(Some).map_err(|fault| self.undecoded(fault))
    }

    /// Returns all of it, which must not be more than `limit` bytes.
    ///
    /// # Errors
    /// As [`Body::piece`], and if it is more.
    pub(super) async fn whole(mut self, limit: usize) -> Result<Bytes, Failure> {
        let mut read = Pieces::default();
        while let Some(piece) = self.piece().await? {
            if read.len() + piece.len() > limit {
                return Err(self.fails(Fault::BadReply, "its reply is too large"));
            }
            read.push(piece);
        }
        Ok(read.join())
    }

    fn undecoded(&self, fault: crate::coding::Fault) -> Failure {
        self.fails(Fault::BadReply, &format!("its reply cannot be read: {fault}"))
    }

    fn fails(&self, fault: Fault, reason: &str) -> Failure {
        Failure::new(&self.backend, fault, reason)
    }
}
