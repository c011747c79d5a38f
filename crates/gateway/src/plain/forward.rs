//! The head of a request as a backend is sent it: each layer over the one before: client, gateway, declared changes,
//! credential.

use config::plain::{Edits, HostRewrite, Injection, Plain};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header, request::Parts};

use super::tunnel;
use crate::{ctx::Ctx, headers};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Returns the head for a backend whose own host is `own`, and the other protocol that the client asks for.
pub(super) fn head(
    ctx: &Ctx,
    plain: &Plain,
    edits: Option<&Edits>,
    mut head: Parts,
    path: &str,
    own: &HeaderValue,
) -> (Parts, Option<tunnel::Wanted>) {
    let upgrade = tunnel::Wanted::of(&mut head);
    let authority = head.uri.authority();
    let authority = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let asked = authority.or_else(|| head.headers.get(header::HOST).cloned());
    let trailers = takes_trailers(&head.headers);
    ctx.state.credentials.names.strip(&mut head.headers);
    headers::to_plain_upstream(&mut head.headers);
    if trailers {
        head.headers
            .insert(header::TE, HeaderValue::from_static("trailers"));
    }
    forwarded(ctx, &mut head.headers);
    plain.request.apply(&mut head.headers);
    if let Some(edits) = edits {
        edits.apply(&mut head.headers);
    }
    let host = match &plain.host {
        None => asked,
        Some(HostRewrite::Name(name)) => Some(name.clone()),
        Some(HostRewrite::Header(name)) => head.headers.get(name).cloned().or(asked),
        Some(HostRewrite::Backend) => Some(own.clone()),
    };
    head.headers
        .insert(header::HOST, host.unwrap_or_else(|| own.clone()));
    if let Some(injection) = &plain.credential {
        inject(injection, &mut head.headers);
    }
    let path = match &plain.path {
        Some(rewrite) => rewrite.apply(path),
        None => path.to_owned(),
    };
    let target = match head.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    // What came as a path makes one again, unless a rewrite broke it.
    head.uri = Uri::try_from(target).unwrap_or_default();
    head.version = Version::HTTP_11;
    (head, upgrade)
}

/// Says who asked, and how.
fn forwarded(ctx: &Ctx, headers: &mut HeaderMap) {
    let peer = ctx.peer().to_string();
    let mut line = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        line.extend_from_slice(value.as_bytes());
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(peer.as_bytes());
    if let Ok(line) = HeaderValue::from_bytes(&line) {
        headers.insert(FORWARDED_FOR, line);
    }
    let scheme = if ctx.is_secured() { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    headers.insert(headers::REQUEST_ID, ctx.request_id().clone());
}

fn inject(injection: &Injection, headers: &mut HeaderMap) {
    if !injection.overwrite && headers.contains_key(&injection.header) {
        return;
    }
    // The value was checked when it was resolved.
    if let Ok(mut value) = HeaderValue::from_str(injection.value.expose()) {
        value.set_sensitive(true);
        headers.insert(&injection.header, value);
    }
}

/// Returns whether the client takes trailers (RFC 9110, section 10.1.4).
fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}
