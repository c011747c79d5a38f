//! Which headers cross the gateway, in either direction.
//!
//! Inwards nothing may pose as the gateway's own; towards upstreams go neither the client's credentials nor
//! what concerns one connection only; towards clients nothing that binds them to the provider's host.

use config::intake::{Intake, Underscores};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
};

/// Carries the id of a request, in both directions.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Carries the id of a request for clients of Anthropic's, who look for it there: the provider's own, or the gateway's.
pub(crate) const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Carries an upstream's own id of the request, whose usual place is taken by the gateway's.
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// Names what the answer's upstream did not hear, or what of its answer could not be said.
pub(crate) const LOSS: HeaderName = HeaderName::from_static("x-tollgate-loss");

/// Tells how many attempts there were.
pub(crate) const ATTEMPTS: HeaderName = HeaderName::from_static("x-tollgate-attempts");

/// Tells who was asked last.
pub(crate) const BACKEND: HeaderName = HeaderName::from_static("x-tollgate-backend");

/// Names the model that answered, where the answer calls it what the client did.
pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-tollgate-model");

/// Says that a circuit breaker is open, as Envoy says it: `true`.
pub(crate) const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// The longest request id that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// Returns the same headers, which do not hold on to the bytes that they came in.
pub(crate) fn apart(headers: &HeaderMap) -> HeaderMap {
    let values = headers.iter();
    values
        .map(|(name, value)| (name.clone(), value_apart(value)))
        .collect()
}

/// Returns the same value, which does not hold on to the bytes that it came in.
pub(crate) fn value_apart(value: &HeaderValue) -> HeaderValue {
    let mut apart = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    apart.set_sensitive(value.is_sensitive());
    apart
}

/// Removes what clients must not set.
pub(crate) fn strip_reserved(headers: &mut HeaderMap) {
    remove_where(headers, is_reserved);
}

/// Removes the headers that a client's `connection` names, and their names there: whoever adds one of that name later
/// adds it for good, and the client cannot say that upstreams are not to see it. What a request cannot do without stays.
pub(crate) fn strip_named_by_client(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let (mut kept, mut named) = (Vec::new(), Vec::new());
    for name in named_by_connection(headers) {
        if matches!(name.as_str(), "close" | "http2-settings") || is_hop_by_hop(name.as_str()) {
            kept.push(name);
        } else if !matches!(name.as_str(), "host" | "content-length") {
            named.push(name);
        }
    }
    for name in named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
    for name in kept {
        headers.append(header::CONNECTION, HeaderValue::from(name));
    }
}

/// Changes a client's headers as the policy for clients says, before anything is made of them.
pub(crate) fn early(headers: &mut HeaderMap, intake: &Intake) {
    if intake.underscores == Underscores::LeaveOut {
        remove_where(headers, |name| name.contains('_'));
    }
    if intake.own_request_id {
        headers.remove(REQUEST_ID);
    }
    intake.early.apply(headers);
}

/// Returns the client's request id if it can be trusted in logs and headers, or a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| {
        !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let id = format!("{:032x}", fastrand::u128(..));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

/// Turns a client's headers into those that every upstream may see.
pub(crate) fn to_upstream(headers: &mut HeaderMap, request_id: &HeaderValue) {
    strip_named_by_connection(headers);
    remove_where(headers, |name| is_hop_by_hop(name) || is_clients_own(name));
    join_by(headers, ANTHROPIC_BETA, b",");
    headers.insert(REQUEST_ID, request_id.clone());
}

/// Turns an upstream's headers into those that the client may see.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    strip_named_by_connection(headers);
    remove_where(headers, |name| {
        is_hop_by_hop(name) || is_upstreams_own(name) || is_reserved(name)
    });
    if let Some(id) = headers.remove(REQUEST_ID) {
        headers.insert(UPSTREAM_REQUEST_ID, id);
    }
}

/// Takes off a client's headers what concerns its connection alone; the rest is between the client and the upstream.
pub(crate) fn to_plain_upstream(headers: &mut HeaderMap) {
    strip_named_by_connection(headers);
    remove_where(headers, |name| {
        name != "trailer" && is_hop_by_hop(name)
            || matches!(name, "expect" | "http2-settings" | "proxy-authorization")
    });
    join_by(headers, header::COOKIE, b"; ");
}

/// Takes off an upstream's headers what concerns its connection alone, and what only the gateway may say.
pub(crate) fn to_plain_client(headers: &mut HeaderMap) {
    // Its pieces say how long a body is that comes in pieces (RFC 9112, section 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_named_by_connection(headers);
    remove_where(headers, |name| {
        name != "trailer" && is_hop_by_hop(name) || is_reserved(name)
    });
}

/// Returns the seconds that `retry-after` asks to wait, be it a number or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(seconds);
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let wait = at
        .duration_since(std::time::SystemTime::now())
        .unwrap_or_default();
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// Returns whether only the gateway may set a header.
fn is_reserved(name: &str) -> bool {
    name.starts_with("x-ai-eg-")
        || name.starts_with("x-envoy-")
        || name.starts_with("x-tollgate-")
        || name == "x-gateway-destination-endpoint"
}

/// Returns whether a header concerns one connection (RFC 9110, section 7.6.1).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    )
}

/// Returns whether an upstream must not see a client's header: credentials, and what describes the client's
/// own message.
fn is_clients_own(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "proxy-authorization"
            | "cookie"
            | "x-api-key"
            | "api-key"
            | "x-goog-api-key"
            | "host"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "accept-encoding"
            | "expect"
            | "http2-settings"
    ) || name.starts_with("x-aigw-")
        || name.starts_with("x-amz-")
}

/// Returns whether a client must not see an upstream's header: what describes the upstream's own message, and
/// what would bind the client to its host.
fn is_upstreams_own(name: &str) -> bool {
    matches!(
        name,
        "content-length"
            | "content-type"
            | "content-encoding"
            | "set-cookie"
            | "alt-svc"
            | "strict-transport-security"
            | "proxy-authenticate"
    )
}

fn strip_named_by_connection(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect()
}

/// Joins repeated headers into one line, because some readers look at one line only.
fn join_by(headers: &mut HeaderMap, name: HeaderName, separator: &[u8]) {
    let Entry::Occupied(mut entry) = headers.entry(name) else {
        return;
    };
    if entry.iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = entry.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(separator)) {
        entry.insert(joined);
    }
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[track_caller]
    fn check(
        change: impl Fn(&mut HeaderMap),
        before: &[(&'static str, &'static str)],
        after: &[(&'static str, &'static str)],
    ) {
        let mut headers = map(before);
        change(&mut headers);
        assert_eq!(headers, map(after));
    }

    #[test]
    fn clients_cannot_set_reserved_headers() {
        let before = [
            ("x-ai-eg-model", "a"),
            ("x-envoy-original-path", "/"),
            ("x-mine", "1"),
        ];
        check(strip_reserved, &before, &[("x-mine", "1")]);
    }

    #[test]
    fn lengths_of_bodies_in_pieces_are_not_believed() {
        let before = [
            ("transfer-encoding", "chunked"),
            ("content-length", "2"),
            ("x-a", "1"),
        ];
        check(to_plain_client, &before, &[("x-a", "1")]);
        check(to_plain_client, &before[1..], &before[1..]);
    }

    #[test]
    fn what_clients_keep_to_their_connection_is_gone_at_once() {
        let before = [
            ("connection", "X-User, keep-alive,, Upgrade"),
            ("connection", "host, close"),
            ("x-user", "1"),
            ("host", "a"),
            ("upgrade", "websocket"),
        ];
        let after = [
            ("connection", "keep-alive"),
            ("connection", "upgrade"),
            ("connection", "close"),
            ("host", "a"),
            ("upgrade", "websocket"),
        ];
        check(strip_named_by_client, &before, &after);
    }

    #[test]
    fn upstreams_see_neither_credentials_nor_hops() {
        let id = HeaderValue::from_static("7");
        let before = [
            ("authorization", "Bearer c"),
            ("x-api-key", "c"),
            ("api-key", "c"),
            ("x-goog-api-key", "c"),
            ("cookie", "c"),
            ("proxy-authorization", "c"),
            ("x-aigw-aws-session-token", "c"),
            ("x-amz-security-token", "c"),
            ("host", "gateway"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("anthropic-beta", "a"),
            ("anthropic-beta", "b"),
            ("user-agent", "sdk"),
            ("accept-encoding", "gzip"),
        ];
        let after = [
            ("anthropic-beta", "a,b"),
            ("user-agent", "sdk"),
            ("x-request-id", "7"),
        ];
        check(|headers| to_upstream(headers, &id), &before, &after);
    }

    #[test]
    fn clients_see_neither_cookies_nor_hops() {
        let before = [
            ("content-length", "9"),
            ("set-cookie", "a=b"),
            ("transfer-encoding", "chunked"),
            ("x-ratelimit-remaining", "3"),
            ("x-request-id", "req_1"),
        ];
        let after = [("x-ratelimit-remaining", "3"), ("x-upstream-request-id", "req_1")];
        check(to_client, &before, &after);
    }

    #[test]
    fn only_sane_request_ids_are_kept() {
        for (given, kept) in [("abc-1", true), ("", false), ("a b", false)] {
            let id = request_id(&map(&[("x-request-id", given)]));
            assert_eq!(id == given, kept, "{given:?}");
            assert!(!id.is_empty());
        }
    }
}
