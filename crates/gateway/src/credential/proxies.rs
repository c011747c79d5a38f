//! The proxies through which issuers are asked, as variables name them.

use std::collections::BTreeMap;

use config::{
    Secret,
    snapshot::{Proxy, Tls},
};
use http::Uri;
use percent_encoding::percent_decode_str;

/// Names the proxy on the way to AWS's token service and logins.
pub(super) const AWS: &str = "AI_GATEWAY_STS_PROXY_URL";

/// Names the proxy on the way to Entra.
pub(super) const AZURE: &str = "AI_GATEWAY_AZURE_PROXY_URL";

/// Names the proxy on the way to Google's token services.
pub(super) const GCP: &str = "AI_GATEWAY_GCP_AUTH_PROXY_URL";

/// A variable does not name a proxy. Does not repeat what it holds, which may be a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the URL of a proxy, such as http://proxy:3128")]
pub struct ProxyError(pub(super) &'static str);

/// Returns the proxy that `variable` names, if it names one.
///
/// # Errors
/// If it holds anything else.
pub(super) fn find(
    variables: &BTreeMap<String, String>,
    variable: &'static str,
) -> Result<Option<Proxy>, ProxyError> {
    let url = variables.get(variable).map(|url| url.trim());
    let url = url.filter(|url| !url.is_empty());
    url.map(|url| parse(url).ok_or(ProxyError(variable))).transpose()
}

fn parse(url: &str) -> Option<Proxy> {
    let uri: Uri = url.parse().ok()?;
    let (encrypted, port) = match uri.scheme_str()? {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    let login = uri.authority()?.as_str().rsplit_once('@').map(|(login, _)| login);
    let login = login.map(|login| percent_decode_str(login).decode_utf8().ok());
    let credentials = match login {
        Some(login) => Some(Secret::new(login.filter(|login| login.contains(':'))?)),
        None => None,
    };
    Some(Proxy {
        tls: encrypted.then(|| Tls::to(host.clone())),
        host,
        port: uri.port_u16().unwrap_or(port),
        credentials,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let proxy = parse("http://Proxy:3128").expect("a proxy");
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy", 3128));
        assert!(proxy.tls.is_none() && proxy.credentials.is_none());
        let proxy = parse("https://me:p%40ss@[::1]/").expect("a proxy");
        assert_eq!((proxy.host.as_str(), proxy.port), ("::1", 443));
        assert!(proxy.tls.is_some());
        let credentials = proxy.credentials.expect("a name and a password");
        assert_eq!(credentials.expose(), "me:p@ss");
    }

    #[test]
    fn what_is_no_proxy_is_named_by_its_variable() {
        for url in [
            "proxy:3128",
            "socks5://proxy",
            "http://",
            "http://me@proxy",
            "http://a b",
        ] {
            let variables = [(AZURE.to_owned(), url.to_owned())].into();
            assert_eq!(find(&variables, AZURE), Err(ProxyError(AZURE)), "{url}");
            assert_eq!(find(&variables, AWS), Ok(None));
        }
        let empty = [(AZURE.to_owned(), " ".to_owned())].into();
        assert_eq!(find(&empty, AZURE), Ok(None));
    }
}
