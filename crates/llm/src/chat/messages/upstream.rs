//! Asks upstreams in this format.

use bytes::Bytes;
use http::StatusCode;

use super::Messages;
use crate::{
    ApiError, Losses, Observed, Target,
    chat::{DecodeReply, Listen, Request, Upstream},
    frame::Framing,
    json::Shallow,
};

impl Upstream for Messages {
    fn encode_request(
        &self,
        _request: &Request,
        _target: &Target<'_>,
        _losses: &mut Losses,
    ) -> Result<(Bytes, Box<dyn DecodeReply>), ApiError> {
        unimplemented!()
    }
    fn decode_error(&self, _status: StatusCode, _body: &Bytes) -> ApiError {
        unimplemented!()
    }
    fn relay_edits(&self, _request: &Shallow, _streamed: bool) -> Vec<(&'static str, String)> {
        unimplemented!()
    }
    fn listen_response(&self, _body: &[u8], _observed: &mut Observed) -> Result<(), ApiError> {
        unimplemented!()
    }
    fn listen_stream(&self, _withhold_usage: bool) -> Box<dyn Listen> {
        unimplemented!()
    }
    fn framing(&self) -> Framing {
        Framing::Sse
    }
}
