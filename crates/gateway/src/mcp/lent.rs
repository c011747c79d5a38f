//! Logging in at the only server of a route on which nobody else asks who calls: what the server says of itself, under
//! our address. Clients compare the address in it with the one that they have called (RFC 9728, section 3.3).

use bytes::Bytes;
use config::mcp_route::{Http, METADATA, Route};
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts, uri::Authority,
};
use http_body_util::{BodyExt, Full};
use mcp::json::{self, Object};
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::{body::Pieces, ctx::Ctx, upstream::Outgoing};

/// The largest document that is relayed.
const MAX_DOCUMENT: usize = 64 * 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// How a client sees us.
pub(super) struct Seen {
    authority: Option<Authority>,
    host: Option<HeaderValue>,
    /// What whoever stands between says of the connection.
    told: Option<HeaderValue>,
    secured: bool,
}

impl Seen {
    /// Takes note of how the client of a request sees us.
    pub(super) fn of(ctx: &Ctx, head: &Parts) -> Self {
        Self {
            authority: head.uri.authority().cloned(),
            host: head.headers.get(header::HOST).cloned(),
            told: head.headers.get(FORWARDED_PROTO).cloned(),
            secured: ctx.is_secured(),
        }
    }

    /// Returns where that is, without a path.
    fn origin(&self) -> Option<String> {
        let named = self.authority.as_ref().map(Authority::as_str);
        let named = named.or_else(|| self.host.as_ref()?.to_str().ok())?;
        let scheme = match self.told.as_ref().map(HeaderValue::as_bytes) {
            Some(b"https") => "https",
            Some(b"http") => "http",
            Some(_) | None if self.secured => "https",
            Some(_) | None => "http",
        };
        Some(format!("{scheme}://{named}"))
    }
}

/// Returns what the server of `route` says of itself to those who want to log in, as if it were where we are.
pub(super) async fn document(ctx: &Ctx, route: &Route, seen: &Seen) -> Option<Bytes> {
    let origin = seen.origin()?;
    let backend = route.lends_login()?;
    let reach = backend.reach.as_ref().ok()?.http()?;
    let path = reach.path.split('?').next().unwrap_or_default();
    let own = format!("{METADATA}{}", path.trim_end_matches('/'));
    for path in [own.as_str(), METADATA] {
        let fetched = timeout(backend.open_timeout, fetch(ctx, reach, path)).await;
        let Some(fetched) = fetched.ok().flatten() else {
            continue;
        };
        let read = || {
            let mut document = Object::parse(&fetched)?;
            let ours = format!("{origin}{}", route.path);
            document.get("authorization_servers")?;
            document.set("resource", json::raw(&ours));
            Some(document.to_raw())
        };
        if let Some(document) = read() {
            return Some(Bytes::from(Box::<str>::from(document).into_string()));
        }
    }
    None
}

/// Has a challenge name the document that is found here.
pub(super) fn rename(headers: &mut HeaderMap, path: &str, seen: &Seen) {
    let challenge = headers.get(header::WWW_AUTHENTICATE);
    let Some(challenge) = challenge.and_then(|challenge| challenge.to_str().ok()) else {
        return;
    };
    let Some((before, rest)) = challenge.split_once(PARAMETER) else {
        return;
    };
    let Some((_, after)) = rest.split_once('"') else {
        return;
    };
    let Some(origin) = seen.origin() else {
        return;
    };
    let path = path.trim_end_matches('/');
    let ours = format!("{before}{PARAMETER}{origin}{METADATA}{path}\"{after}");
    if let Ok(ours) = HeaderValue::try_from(ours) {
        headers.insert(header::WWW_AUTHENTICATE, ours);
    }
}

const PARAMETER: &str = "resource_metadata=\"";

async fn fetch(ctx: &Ctx, reach: &Http, path: &str) -> Option<Box<RawValue>> {
    let clients = ctx.state.clients.of(&reach.id);
    let client = clients.get(fastrand::usize(..clients.len().max(1)))?;
    let mut request = Request::new(Outgoing::Whole(Full::new(Bytes::new())));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::try_from(path).ok()?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, client.host.clone());
    headers.insert(header::ACCEPT, JSON);
    let (head, mut body) = client.call(request).await.ok()?.into_parts();
    if head.status != StatusCode::OK {
        return None;
    }
    let mut read = Pieces::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        if read.len() + data.len() > MAX_DOCUMENT {
            return None;
        }
        read.push(data);
    }
    serde_json::from_slice(&read.join()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_name_what_is_found_here() {
        let seen = Seen {
            authority: None,
            host: Some(HeaderValue::from_static("g")),
            told: Some(HeaderValue::from_static("https")),
            secured: false,
        };
        let check = |before: &'static str, after: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(before));
            rename(&mut headers, "/mcp", &seen);
            assert_eq!(headers[header::WWW_AUTHENTICATE], after);
        };
        check(
            "Bearer error=\"x\", resource_metadata=\"https://s/.well-known/a\", scope=\"b\"",
            "Bearer error=\"x\", resource_metadata=\"https://g/.well-known/oauth-protected-resource/mcp\", scope=\"b\"",
        );
        check("Bearer", "Bearer");
        check(
            "Bearer resource_metadata=\"open",
            "Bearer resource_metadata=\"open",
        );
    }
}
