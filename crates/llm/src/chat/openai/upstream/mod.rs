//! Asks upstreams in this format.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{OpenAi, error, listen};
use crate::{
    ApiError, Losses, Observed, Target,
    chat::{DecodeReply, Listen, Request, Upstream},
    json::{Edit, Shallow},
};

mod content;
mod messages;
mod names;
mod reply;
mod request;

#[cfg(test)]
mod tests;

pub(in crate::chat) use names::Names;
pub(in crate::chat) use request::{effort_of, effort_word};

impl Upstream for OpenAi {
    fn encode_request(
        &self,
        request: &Request,
        target: &Target<'_>,
        losses: &mut Losses,
    ) -> Result<(Bytes, Box<dyn DecodeReply>), ApiError> {
        let names = Names::new(request);
        let body = request::encode(request, target, &names, losses)?;
        let calls = messages::calls(request);
        Ok((body, Box::new(reply::Reply { names, calls })))
    }

    fn decode_error(&self, status: StatusCode, _headers: &HeaderMap, body: &Bytes) -> ApiError {
        error::decode(status, body)
    }

    fn relay_edits(&self, request: &Shallow, streamed: bool) -> Vec<Edit> {
        if !streamed {
            return Vec::new();
        }
        let Some(options) = request.get("stream_options") else {
            return vec![("stream_options", Some(r#"{"include_usage":true}"#.to_owned()))];
        };
        // What is not an object is left for the upstream to refuse.
        let Ok(options) = Shallow::parse(Bytes::copy_from_slice(options.as_bytes())) else {
            return Vec::new();
        };
        if options.get("include_usage") == Some("true") {
            return Vec::new();
        }
        let edited = options.with(&[("include_usage", Some("true".to_owned()))]);
        vec![(
            "stream_options",
            Some(String::from_utf8_lossy(&edited).into_owned()),
        )]
    }

    fn listen_response(&self, body: &[u8], observed: &mut Observed) -> Result<(), ApiError> {
        listen::response(body, observed)
    }

    fn listen_stream(&self, withhold_usage: bool) -> Box<dyn Listen> {
        Box::new(listen::Listener::new(withhold_usage))
    }
}
