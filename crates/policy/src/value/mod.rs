//! Values that changes put into requests: written down, or taken from the request itself.

pub mod spec;

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use self::spec::{Attribute, ValueFrom};
use crate::{Caller, Metadata};

/// A value that is put into a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<T> {
    /// It is written down.
    Written(T),
    /// It comes from the request.
    Drawn(Origin),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A header of the client's.
    Header(HeaderName),
    /// A claim of a token.
    Claim(String),
    /// What a policy said: its namespace, and the name there.
    Metadata(String, String),
    /// What the gateway knows.
    Attribute(Attribute),
}

/// What is known of a request on its way to one upstream.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The client's headers, as upstreams may see them.
    pub headers: &'a HeaderMap,
    /// Who was verified.
    pub caller: Option<&'a Caller>,
    /// What policies said.
    pub metadata: &'a Metadata,
    /// The model as the client calls it.
    pub model: &'a str,
    /// The model that the upstream is asked for.
    pub upstream_model: &'a str,
    /// `namespace/name` of the backend.
    pub backend: &'a str,
    /// `namespace/name` of the route.
    pub route: &'a str,
    /// Where the request comes from.
    pub client: IpAddr,
    /// The id of the request.
    pub request_id: &'a HeaderValue,
}

/// Why a value cannot be taken from requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// None or several are named.
    #[error("exactly one of header, claim, metadata and attribute must be specified")]
    Several,
    /// Not a header's name.
    #[error("\"{0}\" is not a header name")]
    Name(String),
    /// A header that the gateway keeps from upstreams.
    #[error("\"{0}\" belongs to the gateway; what it knows is named by attribute")]
    Reserved(String),
    /// A claim or metadata without a name.
    #[error("a name must not be empty")]
    Empty,
}

/// Why a value that was found cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A list or an object.
    #[error("the value is a list or an object, which headers cannot carry")]
    NotText,
    /// It has characters that headers must not have.
    #[error("the value has characters that headers must not have")]
    Characters,
}

impl Origin {
    /// Checks what a resource says.
    ///
    /// # Errors
    /// If not exactly one place is named, or not by a name.
    pub fn parse(spec: &ValueFrom) -> Result<Self, OriginError> {
        match (&spec.header, &spec.claim, &spec.metadata, spec.attribute) {
            (Some(name), None, None, None) => {
                let lower = name.to_ascii_lowercase();
                if lower.starts_with("x-ai-eg-") {
                    return Err(OriginError::Reserved(name.clone()));
                }
                let parsed = HeaderName::from_bytes(lower.as_bytes());
                parsed
                    .map(Origin::Header)
                    .map_err(|_| OriginError::Name(name.clone()))
            }
            (None, Some(claim), None, None) if claim.is_empty() => Err(OriginError::Empty),
            (None, Some(claim), None, None) => Ok(Origin::Claim(claim.clone())),
            (None, None, Some(named), None) if named.namespace.is_empty() || named.key.is_empty() => {
                Err(OriginError::Empty)
            }
            (None, None, Some(named), None) => {
                Ok(Origin::Metadata(named.namespace.clone(), named.key.clone()))
            }
            (None, None, None, Some(attribute)) => Ok(Origin::Attribute(attribute)),
            _ => Err(OriginError::Several),
        }
    }

    /// Returns the value as a header carries it; `None` if there is none.
    ///
    /// # Errors
    /// If headers cannot carry it.
    pub fn header(&self, known: &Known<'_>) -> Result<Option<HeaderValue>, ValueError> {
        let mut value = match self {
            Origin::Header(name) => match joined(known.headers, name) {
                Some(value) => HeaderValue::from_bytes(&value).map_err(|_| ValueError::Characters)?,
                None => return Ok(None),
            },
            Origin::Claim(_) | Origin::Metadata(..) | Origin::Attribute(_) => {
                let text = match self.json(known) {
                    None | Some(Value::Null) => return Ok(None),
                    Some(Value::String(text)) => text,
                    Some(Value::Bool(truth)) => truth.to_string(),
                    Some(Value::Number(number)) => number.to_string(),
                    Some(Value::Array(_) | Value::Object(_)) => return Err(ValueError::NotText),
                };
                HeaderValue::try_from(text).map_err(|_| ValueError::Characters)?
            }
        };
        // It says something of whoever calls: Debug does not show it then, and HTTP/2 does not index it.
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Returns the value with the type that it has; `None` if there is none.
    pub fn json(&self, known: &Known<'_>) -> Option<Value> {
        match self {
            Origin::Header(name) => {
                let value = joined(known.headers, name)?;
                Some(Value::from(String::from_utf8_lossy(&value)))
            }
            Origin::Claim(name) => {
                let caller = known.caller?;
                caller.vouched(None).find_map(|claims| claims.get(name)).cloned()
            }
            Origin::Metadata(namespace, key) => known.metadata.get(namespace)?.get(key).cloned(),
            Origin::Attribute(attribute) => attribute.of(known).map(Value::from),
        }
    }
}

impl Attribute {
    fn of(self, known: &Known<'_>) -> Option<String> {
        match self {
            Attribute::Model => Some(known.model.to_owned()),
            Attribute::UpstreamModel => Some(known.upstream_model.to_owned()),
            Attribute::Backend => Some(known.backend.to_owned()),
            Attribute::Route => Some(known.route.to_owned()),
            Attribute::ClientAddress => Some(known.client.to_string()),
            Attribute::ClientID => known.caller?.client_id.as_deref().map(str::to_owned),
            Attribute::Username => known.caller?.username.clone(),
            Attribute::RequestID => known.request_id.to_str().ok().map(str::to_owned),
        }
    }
}

/// Returns all lines of a header as one (RFC 9110, section 5.3).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use serde_json::json;

    use super::*;
    use crate::{Claims, rate_limit::spec::MetadataKey};

    /// Calls `check` with what is known of a request with these headers.
    pub(crate) fn with_known<T>(headers: &HeaderMap, check: impl FnOnce(&Known<'_>) -> T) -> T {
        let claims = json!({"sub": "u1", "org": {"id": 7}, "teams": ["a", "b"], "bad": "x\ny"});
        let claims = Claims::new(claims.as_object().expect("an object").clone());
        let caller = Caller {
            client_id: Some(Arc::from("app")),
            username: None,
            claims: vec![(Arc::from("issuer"), claims)],
        };
        let metadata = Metadata::from([("auth".to_owned(), json!({"tier": "gold", "cap": 12}))]);
        let request_id = HeaderValue::from_static("r1");
        check(&Known {
            headers,
            caller: Some(&caller),
            metadata: &metadata,
            model: "fast",
            upstream_model: "fast-2",
            backend: "default/openai",
            route: "default/chat",
            client: Ipv4Addr::new(192, 0, 2, 7).into(),
            request_id: &request_id,
        })
    }

    fn header(name: &str) -> ValueFrom {
        ValueFrom {
            header: Some(name.to_owned()),
            ..ValueFrom::default()
        }
    }

    pub(crate) fn claim(name: &str) -> ValueFrom {
        ValueFrom {
            claim: Some(name.to_owned()),
            ..ValueFrom::default()
        }
    }

    fn metadata(namespace: &str, key: &str) -> ValueFrom {
        ValueFrom {
            metadata: Some(MetadataKey {
                namespace: namespace.to_owned(),
                key: key.to_owned(),
            }),
            ..ValueFrom::default()
        }
    }

    fn attribute(attribute: Attribute) -> ValueFrom {
        ValueFrom {
            attribute: Some(attribute),
            ..ValueFrom::default()
        }
    }

    #[test]
    fn values_are_found() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-b", "2"), ("x-a", "3")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let check = |spec: ValueFrom, text: Result<Option<&str>, ValueError>, json: Option<Value>| {
            let origin = Origin::parse(&spec).expect("one place is named");
            with_known(&headers, |known| {
                let found = origin.header(known);
                let found = found
                    .as_ref()
                    .map(|value| value.as_ref().map(|value| value.to_str().expect("text")));
                assert_eq!(found.map_err(|error| *error), text, "{spec:?}");
                assert_eq!(origin.json(known), json, "{spec:?}");
            });
        };
        check(header("X-A"), Ok(Some("1, 3")), Some(json!("1, 3")));
        check(header("x-none"), Ok(None), None);
        check(claim("sub"), Ok(Some("u1")), Some(json!("u1")));
        check(claim("org.id"), Ok(Some("7")), Some(json!(7)));
        check(claim("teams"), Err(ValueError::NotText), Some(json!(["a", "b"])));
        check(claim("bad"), Err(ValueError::Characters), Some(json!("x\ny")));
        check(claim("absent"), Ok(None), None);
        check(metadata("auth", "tier"), Ok(Some("gold")), Some(json!("gold")));
        check(metadata("auth", "none"), Ok(None), None);
        for (known, expected) in [
            (Attribute::Model, Some("fast")),
            (Attribute::UpstreamModel, Some("fast-2")),
            (Attribute::Backend, Some("default/openai")),
            (Attribute::Route, Some("default/chat")),
            (Attribute::ClientAddress, Some("192.0.2.7")),
            (Attribute::ClientID, Some("app")),
            (Attribute::Username, None),
            (Attribute::RequestID, Some("r1")),
        ] {
            check(attribute(known), Ok(expected), expected.map(Value::from));
        }
    }

    #[test]
    fn malformed() {
        let two = ValueFrom {
            claim: Some("sub".to_owned()),
            ..header("x-a")
        };
        for (spec, expected) in [
            (ValueFrom::default(), OriginError::Several),
            (two, OriginError::Several),
            (header("a b"), OriginError::Name("a b".to_owned())),
            (
                header("X-AI-EG-Model"),
                OriginError::Reserved("X-AI-EG-Model".to_owned()),
            ),
            (claim(""), OriginError::Empty),
            (metadata("", "k"), OriginError::Empty),
        ] {
            assert_eq!(Origin::parse(&spec), Err(expected), "{spec:?}");
        }
    }
}
