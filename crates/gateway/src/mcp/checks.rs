//! What a request must be before anything is read of it: that it comes from where it may, and that its sender
//! takes what it will be sent.

use config::mcp_route::Route;
use http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use mcp::{RpcError, Version, error};
use serde_json::json;

use super::{
    call::{VERSION, media_type},
    refused::Refused,
};

/// Which kinds of answers a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takes {
    /// A document.
    pub(super) document: bool,
    /// A stream.
    pub(super) stream: bool,
}

/// Refuses requests that a web page was led to send here (DNS rebinding). `host` is without port; `local` tells
/// whether only this machine can reach us.
pub(super) fn origin(
    route: &Route,
    headers: &HeaderMap,
    host: &str,
    local: bool,
) -> Result<(), Box<Refused>> {
    let forbidden = |what: &str| {
        Refused::new(
            StatusCode::FORBIDDEN,
            RpcError::new(error::SERVER, format!("{what} is not allowed")),
        )
    };
    let known_host = match route.hosts.as_slice() {
        [] => !local || is_loopback(host) || route.hostnames,
        hosts => hosts.iter().any(|own| own == "*" || own == host),
    };
    if !known_host {
        return Err(forbidden("the host"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let known_origin = match route.origins.as_slice() {
        [] => {
            let uri: Option<Uri> = origin.parse().ok();
            let from = uri
                .as_ref()
                .and_then(Uri::host)
                .map(|from| from.trim_matches(['[', ']']).to_ascii_lowercase());
            from.is_some_and(|from| if local { is_loopback(&from) } else { from == host })
        }
        origins => origins
            .iter()
            .any(|own| own == "*" || own.eq_ignore_ascii_case(origin)),
    };
    if known_origin {
        Ok(())
    } else {
        Err(forbidden("the origin"))
    }
}

fn is_loopback(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1")
}

/// Refuses a message that is not announced as JSON.
pub(super) fn content(headers: &HeaderMap) -> Result<(), Box<Refused>> {
    match media_type(headers) {
        Some(kind) if kind.eq_ignore_ascii_case("application/json") => Ok(()),
        Some(_) | None => Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            RpcError::invalid_request("content-type must be application/json"),
        )),
    }
}

/// Returns what the client takes; one that says nothing takes anything.
pub(super) fn accept(headers: &HeaderMap) -> Takes {
    let mut lines = headers.get_all(header::ACCEPT).iter().peekable();
    if lines.peek().is_none() {
        return Takes {
            document: true,
            stream: true,
        };
    }
    let mut takes = Takes {
        document: false,
        stream: false,
    };
    let kinds = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    for kind in kinds {
        match kind
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "application/json" | "application/*" => takes.document = true,
            "text/event-stream" | "text/*" => takes.stream = true,
            "*/*" => {
                takes.document = true;
                takes.stream = true;
            }
            _ => {}
        }
    }
    takes
}

/// Returns the refusal of a client that takes nothing that it could be sent.
pub(super) fn not_acceptable(what: &str) -> Box<Refused> {
    Refused::new(
        StatusCode::NOT_ACCEPTABLE,
        RpcError::invalid_request(format!("the client must accept {what}")),
    )
}

/// Refuses a client that says it speaks a revision that is not served in sessions.
pub(super) fn version(headers: &HeaderMap) -> Result<(), Box<Refused>> {
    let Some(said) = headers.get(VERSION) else {
        return Ok(());
    };
    let said = said.to_str().unwrap_or_default().trim();
    match Version::parse(said) {
        Some(version) if !version.is_modern() => Ok(()),
        Some(_) | None => {
            let legacy = Version::ALL.iter().filter(|version| !version.is_modern());
            let supported: Vec<&str> = legacy.map(|version| version.name()).collect();
            let shown: String = said.chars().take(64).collect();
            let error = RpcError::new(error::UNSUPPORTED_VERSION, "unsupported protocol version");
            Err(Refused::bad(
                error.with_data(json!({ "supported": supported, "requested": shown })),
            ))
        }
    }
}

/// Refuses clients of the line of the protocol that `route` does not serve.
pub(super) fn line(route: &Route, headers: &HeaderMap, modern: bool) -> Result<(), Box<Refused>> {
    if route.modern.is_none_or(|served| served == modern) {
        return Ok(());
    }
    let served = Version::ALL
        .iter()
        .filter(|version| version.is_modern() != modern);
    let supported: Vec<&str> = served.map(|version| version.name()).collect();
    let said: String = text(headers, &VERSION)
        .unwrap_or_default()
        .chars()
        .take(64)
        .collect();
    let error = RpcError::new(error::UNSUPPORTED_VERSION, "unsupported protocol version");
    Err(Refused::bad(
        error.with_data(json!({ "supported": supported, "requested": said })),
    ))
}

/// Returns the value of a header; an error if there are several, which two readers could take for different.
pub(super) fn once<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(());
    }
    first.map(|value| value.to_str().map_err(|_| ())).transpose()
}

/// Returns the one value of a header as text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn clients_say_what_they_take() {
        let check = |said: &[&'static str], document: bool, stream: bool| {
            let mut headers = HeaderMap::new();
            for said in said {
                headers.append(header::ACCEPT, HeaderValue::from_static(said));
            }
            assert_eq!(accept(&headers), Takes { document, stream }, "{said:?}");
        };
        check(&[], true, true);
        check(&["*/*"], true, true);
        check(&["application/json, text/event-stream"], true, true);
        check(&["application/json", "text/event-stream;q=0.5"], true, true);
        check(&["Application/JSON"], true, false);
        check(&["text/event-stream"], false, true);
        check(&["text/html"], false, false);
    }
}
