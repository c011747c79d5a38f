//! Which property of a request chooses its endpoint, where a policy says so.

use std::{borrow::Cow, net::IpAddr};

use http::{HeaderMap, HeaderValue};
use policy::traffic::{
    Balance,
    balance::{Cookie, HashKey, hash, of_address},
    session::Bound,
};

/// What chooses the endpoint of a request.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    /// The hash of the property; `None` where the request does not have it.
    pub(crate) key: Option<u64>,
    /// The cookie that the client is given, because it has none.
    pub(crate) cookie: Option<HeaderValue>,
    /// The client's session.
    pub(crate) session: Option<Bound>,
}

impl Affinity {
    /// Returns what chooses the endpoint of a request from `peer`, with these headers and this query. `opening` is
    /// what the conversation begins with.
    pub(crate) fn of<'o>(
        balance: &Balance,
        peer: IpAddr,
        headers: &HeaderMap,
        query: &str,
        opening: impl FnOnce() -> Vec<&'o str>,
    ) -> Self {
        let key = match balance {
            Balance::Random | Balance::RoundRobin | Balance::LeastRequest | Balance::Latency => None,
            Balance::Consistent(HashKey::Source) => Some(of_address(peer)),
            Balance::Consistent(HashKey::Headers(names)) => {
                let values = names.iter().flat_map(|name| headers.get_all(name));
                joined(values.map(HeaderValue::as_bytes))
            }
            Balance::Consistent(HashKey::Query(names)) => {
                let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                let values = pairs.filter(|(name, _)| names.iter().any(|wanted| wanted == name));
                joined(values.map(|(_, value)| value.as_bytes()))
            }
            Balance::Consistent(HashKey::Cookie(cookie)) => return of_cookie(cookie, headers),
            Balance::Consistent(HashKey::Prefix) => joined(opening().into_iter().map(str::as_bytes)),
        };
        Self {
            key,
            ..Self::default()
        }
    }
}

fn joined<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<u64> {
    let first = hash(0, values.next()?);
    Some(values.fold(first, hash))
}

fn of_cookie(cookie: &Cookie, headers: &HeaderMap) -> Affinity {
    let found = policy::carrier::cookies(headers).find(|(name, _)| *name == cookie.name);
    let value = found.map_or_else(
        || Cow::Owned(format!("{:016x}", fastrand::u64(..))),
        |(_, value)| Cow::Borrowed(value),
    );
    let given = cookie.ttl.filter(|_| found.is_none()).and_then(|ttl| {
        let Cookie { name, attributes, .. } = cookie;
        let age = ttl.as_secs();
        HeaderValue::try_from(format!("{name}={value}; Max-Age={age}; HttpOnly{attributes}")).ok()
    });
    Affinity {
        key: Some(hash(0, value.as_bytes())),
        cookie: given,
        session: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header;

    use super::*;

    #[test]
    fn a_cookie_is_read_or_given() {
        let cookie = Cookie {
            name: "lane".to_owned(),
            ttl: Some(Duration::from_secs(60)),
            attributes: "; Path=/".to_owned(),
        };
        let mut headers = HeaderMap::new();
        let given = of_cookie(&cookie, &headers).cookie.expect("a cookie");
        let given = given.to_str().expect("text");
        assert!(given.starts_with("lane=") && given.ends_with("; Max-Age=60; HttpOnly; Path=/"));
        let value = given.split(';').next().expect("a pair");
        headers.insert(
            header::COOKIE,
            HeaderValue::try_from(format!("a=b; {value}")).expect("a header"),
        );
        let again = of_cookie(&cookie, &headers);
        assert!(again.cookie.is_none() && again.key.is_some());
    }
}
