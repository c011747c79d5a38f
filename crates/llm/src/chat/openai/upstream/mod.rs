//! Asks upstreams in this format.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{OpenAi, error, listen};
use crate::{
    ApiError, Losses, Observed, Target,
    chat::{DecodeReply, Listen, Request, Upstream},
    json::{Edit, Shallow},
    provider::{Dialect, Member},
};

mod content;
mod messages;
mod names;
mod reply;
mod request;
mod think;

#[cfg(test)]
mod tests;

pub(in crate::chat) use names::Names;
pub(in crate::chat) use think::{effort_of, effort_word};

impl Upstream for OpenAi {
    fn encode_request(
        &self,
        request: &Request,
        target: &Target<'_>,
        losses: &mut Losses,
    ) -> Result<(Bytes, Box<dyn DecodeReply>), ApiError> {
        let dialect = target.provider.dialect(target.site);
        let names = Names::new(request, &dialect);
        let mut body = request::encode(request, target, &names, losses)?;
        if !dialect.renames.is_empty() {
            let document = Shallow::parse(body)?;
            body = document.with(&renames(&document, &dialect));
        }
        let calls = messages::calls(request);
        Ok((body, Box::new(reply::Reply { names, calls })))
    }

    fn reader(&self, request: &Request, target: &Target<'_>) -> Result<Box<dyn DecodeReply>, ApiError> {
        let names = Names::new(request, &target.provider.dialect(target.site));
        let calls = messages::calls(request);
        Ok(Box::new(reply::Reply { names, calls }))
    }

    fn decode_error(&self, status: StatusCode, _headers: &HeaderMap, body: &Bytes) -> ApiError {
        error::decode(status, body)
    }

    fn relay_edits(&self, request: &Shallow, streamed: bool, target: &Target<'_>) -> Vec<Edit> {
        let dialect = target.provider.dialect(target.site);
        let mut edits = renames(request, &dialect);
        if dialect.takes(Member::StreamOptions) {
            edits.extend(ask_for_usage(request).filter(|_| streamed));
        } else if request.get("stream_options").is_some() {
            edits.push(("stream_options", None));
        }
        edits
    }

    fn listen_response(&self, body: &[u8], observed: &mut Observed) -> Result<(), ApiError> {
        listen::response(body, observed)
    }

    fn listen_stream(&self, withhold_usage: bool) -> Box<dyn Listen> {
        Box::new(listen::Listener::new(withhold_usage))
    }
}

/// Returns the edit that asks for token counts at the end of a stream, unless the client does.
fn ask_for_usage(request: &Shallow) -> Option<Edit> {
    let Some(options) = request.get("stream_options") else {
        return Some(("stream_options", Some(r#"{"include_usage":true}"#.to_owned())));
    };
    // What is not an object is left for the upstream to refuse.
    let options = Shallow::parse(Bytes::copy_from_slice(options.as_bytes())).ok()?;
    if options.get("include_usage") == Some("true") {
        return None;
    }
    let edited = options.with(&[("include_usage", Some("true".to_owned()))]);
    Some((
        "stream_options",
        Some(String::from_utf8_lossy(&edited).into_owned()),
    ))
}

/// Returns the edits that call members what the server calls them. What the client says in the server's own
/// words stands.
fn renames(document: &Shallow, dialect: &Dialect) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (from, to) in dialect.renames {
        if let Some(value) = document.get(from) {
            edits.push((*from, None));
            if document.get(to).is_none() {
                edits.push((*to, Some(value.to_owned())));
            }
        }
    }
    edits
}
