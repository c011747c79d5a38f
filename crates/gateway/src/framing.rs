//! What a request must say of where it goes and of where its body ends (RFC 9112, sections 3.2 and 6.1).
//!
//! What two readers might read in two ways is not read at all: neither policies nor upstreams are to see another request
//! than the one that was matched.

use http::{HeaderValue, Method, StatusCode, Version, header, request::Parts, uri::Authority};
use llm::{ApiError, ErrorKind};

/// Checks that `head` means one thing.
///
/// # Errors
/// A 400, a 405 for tunnels to anywhere, or a 501 for a body that nobody here can read.
pub(crate) fn check(head: &Parts) -> Result<(), ApiError> {
    if head.method == Method::CONNECT {
        let message = "tunnels to other hosts are not opened here";
        return Err(ApiError::new(ErrorKind::MethodNotAllowed, message));
    }
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !codings.all(chunked) {
        return Err(ApiError {
            status: StatusCode::NOT_IMPLEMENTED,
            ..ApiError::invalid("the request body comes in a transfer coding that is not known here")
        });
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err(ApiError::invalid("the request names more than one host"));
    }
    if host.is_none() && head.version == Version::HTTP_11 {
        return Err(ApiError::invalid("the request names no host"));
    }
    let target = head.uri.authority().map(|own| own.as_str().as_bytes());
    let named = host.map(HeaderValue::as_bytes).filter(|host| !host.is_empty());
    if ![target, named].into_iter().flatten().all(is_host) {
        return Err(ApiError::invalid("the request names a host that is none"));
    }
    Ok(())
}

/// Returns whether `host` is a name or an address, with or without a port, and nothing else.
fn is_host(host: &[u8]) -> bool {
    !host.contains(&b'@') && Authority::try_from(host).is_ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check_head(method: &str, target: &str, headers: &[(&str, &str)], expected: Option<u16>) {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let found = check(&head).err().map(|error| error.status.as_u16());
        assert_eq!(found, expected, "{method} {target} {headers:?}");
    }

    #[test]
    fn requests_mean_one_thing() {
        let host = ("host", "a.example:8080");
        for (headers, expected) in [
            (&[host][..], None),
            (&[("host", "")], None),
            (&[("host", "[::1]:80")], None),
            (&[host, ("transfer-encoding", "Chunked")], None),
            (&[], Some(400)),
            (&[host, host], Some(400)),
            (&[("host", "u:p@a.example")], Some(400)),
            (&[("host", "a b")], Some(400)),
            (&[("host", "a/b")], Some(400)),
            (&[host, ("transfer-encoding", "gzip, chunked")], Some(501)),
            (
                &[
                    host,
                    ("transfer-encoding", "gzip"),
                    ("transfer-encoding", "chunked"),
                ],
                Some(501),
            ),
        ] {
            check_head("POST", "/a", headers, expected);
        }
        check_head("GET", "http://b.example/a", &[host], None);
        check_head("GET", "http://u@b.example/a", &[host], Some(400));
        check_head("CONNECT", "a.example:443", &[host], Some(405));
    }
}
