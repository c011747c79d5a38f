//! The base URL of a provider, taken apart into what resources say.

use http::Uri;

/// An address taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// Host name or IP address, without brackets.
    pub(super) host: String,
    /// Whether the host is an IP address.
    pub(super) ip: bool,
    /// The port, that of the scheme where none is given.
    pub(super) port: u16,
    /// Whether calls are encrypted.
    pub(super) tls: bool,
    /// The path that stands before those of the API, without slashes around.
    pub(super) prefix: Option<String>,
}

impl Base {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// What is wrong with it; never the text itself, which may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return Err("it must begin with http:// or https://".to_owned());
        }
        if text
            .split("://")
            .nth(1)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
        {
            return Err("missing hostname".to_owned());
        }
        let url: Uri = text
            .parse()
            .map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let (tls, default) = match url.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            scheme => return Err(format!("unsupported scheme {:?}", scheme.unwrap_or_default())),
        };
        let authority = url.authority().ok_or("missing hostname")?;
        if authority.as_str().contains('@') {
            return Err("it must not hold a user name or password".to_owned());
        }
        if url.query().is_some() {
            return Err("it must not have a query".to_owned());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err("missing hostname".to_owned());
        }
        let port = match authority.as_str().get(authority.host().len()..) {
            None | Some("") => default,
            Some(port) => port
                .trim_start_matches(':')
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or("the port is not a number from 1 to 65535")?,
        };
        let prefix = url.path().trim_matches('/');
        Ok(Self {
            ip: host.parse::<std::net::IpAddr>().is_ok(),
            host,
            port,
            tls,
            prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_taken_apart() {
        let good = |url: &str, host: &str, port, tls, prefix: Option<&str>| {
            let base = Base::parse(url).unwrap();
            let parts = (base.host.as_str(), base.port, base.tls, base.prefix.as_deref());
            assert_eq!(parts, (host, port, tls, prefix), "{url}");
            assert_eq!(base.ip, host.parse::<std::net::IpAddr>().is_ok(), "{url}");
        };
        good(
            "https://api.openai.com/v1",
            "api.openai.com",
            443,
            true,
            Some("v1"),
        );
        good("https://api.openai.com", "api.openai.com", 443, true, None);
        good(
            "https://openrouter.ai/api/v1/",
            "openrouter.ai",
            443,
            true,
            Some("api/v1"),
        );
        good(
            "http://localhost:8321/v1/openai/v1",
            "localhost",
            8321,
            false,
            Some("v1/openai/v1"),
        );
        good("http://127.0.0.1:11434/v1", "127.0.0.1", 11434, false, Some("v1"));
        good("http://[::1]:8080/v1", "::1", 8080, false, Some("v1"));
        good("http://[::1]/x", "::1", 80, false, Some("x"));
        let bad = |url: &str, reason: &str| {
            let message = Base::parse(url).unwrap_err();
            assert!(message.contains(reason), "{url}: {message}");
        };
        bad("api.openai.com/v1", "begin with http");
        bad("ftp://example.com/", "unsupported scheme \"ftp\"");
        bad("https://", "missing hostname");
        bad("http://:80/v1", "missing hostname");
        bad("http:///v1", "missing hostname");
        bad("http://example.com:0/", "port");
        bad("http://example.com:99999/", "port");
        bad("https://user:word@example.com/v1", "user name");
        bad("https://example.com/v1?key=1", "query");
    }
}
