//! Reads what an upstream answered.

use super::{super::stream::Decoder, Names};
use crate::{
    ApiError, Losses,
    chat::{DecodeReply, DecodeStream, Response, fold::Fold},
};

/// Remembers what a reply needs to be read.
pub(super) struct Reply {
    /// Names of tools that had to be rewritten.
    pub(super) names: Names,
    /// How many calls the conversation holds already: a call that gets no id from the upstream is numbered
    /// after them, so that ids stay unique.
    pub(super) calls: usize,
}

impl Reply {
    fn decoder(self) -> Decoder {
        Decoder::new(self.names, self.calls)
    }
}

impl DecodeReply for Reply {
    fn decode_response(self: Box<Self>, body: &[u8], losses: &mut Losses) -> Result<Response, ApiError> {
        let mut events = Vec::new();
        self.decoder().whole(body, &mut events, losses)?;
        let mut fold = Fold::default();
        for event in &events {
            fold.push(event);
        }
        fold.finish()
    }

    fn into_stream(self: Box<Self>) -> Box<dyn DecodeStream> {
        Box::new(self.decoder())
    }
}
