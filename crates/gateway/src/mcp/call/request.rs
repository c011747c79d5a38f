//! What a backend is sent: the message in its line, the headers that the route names, and its credential.

use bytes::Bytes;
use config::mcp_route::{Http, Key};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use mcp::{
    Message,
    header::{METHOD, NAME, PARAM, encode},
    json::Object,
    modern,
    session::Entry,
};

use super::{Ask, Caller, Failure, Fault, LAST_EVENT, SESSION, VERSION, is_modern};
use crate::upstream::Outgoing;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

impl Caller<'_> {
    /// Returns a request with what servers of the line without sessions have to be told.
    pub(super) fn stamped(&self, message: &Message) -> Option<Message> {
        let Message::Request(request) = message else {
            return None;
        };
        let params = modern::stamped(request.params.as_deref(), &self.about)?;
        Some(Message::Request(mcp::Request {
            params: Some(params),
            ..request.clone()
        }))
    }

    /// Returns the request that asks it at `reach`, under the name `host`.
    pub(super) fn request(
        &self,
        reach: &Http,
        host: &HeaderValue,
        entry: Option<&Entry>,
        ask: Ask<'_>,
    ) -> Result<Request<Outgoing>, Failure> {
        let mut headers = self.headers(host);
        let (method, body) = match ask {
            Ask::Post(message) => {
                headers.insert(header::CONTENT_TYPE, JSON);
                headers.insert(header::ACCEPT, BOTH);
                self.go_on(self.last, &mut headers)?;
                if is_modern(entry) {
                    self.repeat(message, &mut headers)
                        .ok_or_else(|| self.unfit("what headers repeat"))?;
                }
                (Method::POST, Bytes::from(message.to_bytes()))
            }
            Ask::Get(last) => {
                headers.insert(header::ACCEPT, EVENTS);
                self.go_on(last, &mut headers)?;
                (Method::GET, Bytes::new())
            }
            Ask::Delete => (Method::DELETE, Bytes::new()),
        };
        if let Some(entry) = entry {
            if !entry.session.is_empty() {
                let session = HeaderValue::try_from(entry.session.as_str());
                headers.insert(SESSION, session.map_err(|_| self.unfit("its session"))?);
            }
            if let Some(version) = entry.version {
                headers.insert(VERSION, HeaderValue::from_static(version.name()));
            }
        }
        let path = self.credential(reach, &mut headers)?;
        let uri = Uri::try_from(path).map_err(|_| self.unfit("its path"))?;
        let mut request = Request::new(Outgoing::Whole(Full::new(body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Returns the headers that any request to it has: those that the route and the backend name of the client's.
    fn headers(&self, host: &HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(header::HOST, host.clone());
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        headers.insert(crate::headers::REQUEST_ID, self.request_id.clone());
        match &self.position {
            Some(position) => position.inject(&mut headers),
            None => {
                for name in ["traceparent", "tracestate"] {
                    if let Some(value) = self.client.get(name) {
                        headers.insert(name, value.clone());
                    }
                }
            }
        }
        for name in self.told {
            self.hand_on(name, name, &mut headers);
        }
        for (from, to) in &self.backend.forward {
            self.hand_on(from, to, &mut headers);
        }
        headers
    }

    /// Hands on all that the client says in a header, in place of what `headers` have under its new name.
    fn hand_on(&self, from: &HeaderName, to: &HeaderName, headers: &mut HeaderMap) {
        let mut values = self.client.get_all(from).iter().cloned();
        if let Some(first) = values.next() {
            headers.insert(to.clone(), first);
        }
        for value in values {
            headers.append(to.clone(), value);
        }
    }

    /// Says after which event a stream goes on, if it does.
    fn go_on(&self, last: Option<&str>, headers: &mut HeaderMap) -> Result<(), Failure> {
        if let Some(last) = last {
            let last = HeaderValue::try_from(last).map_err(|_| self.unfit("the id of its last event"))?;
            headers.insert(LAST_EVENT, last);
        }
        Ok(())
    }

    /// Adds what the backend is configured to be sent; returns its path, which may hold its key.
    fn credential(&self, reach: &Http, headers: &mut HeaderMap) -> Result<String, Failure> {
        for (name, value) in &reach.headers {
            let mut value = HeaderValue::try_from(value.expose()).map_err(|_| self.unfit("a header"))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        let mut path = reach.path.clone();
        // The credential comes last, so that nothing can take its place.
        match &reach.key {
            // A token is put on the call when there is one.
            None | Some(Key::Token(_)) => {}
            Some(Key::Header(name, key)) => {
                let mut value = HeaderValue::try_from(key.expose()).map_err(|_| self.unfit("its key"))?;
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
            Some(Key::Query(name, key)) => {
                path.push(if path.contains('?') { '&' } else { '?' });
                path.push_str(&escaped(name));
                path.push('=');
                path.push_str(&escaped(key.expose()));
            }
        }
        Ok(path)
    }

    fn unfit(&self, what: &str) -> Failure {
        Failure::new(
            &self.backend.name,
            Fault::Unreachable,
            format!("{what} cannot be sent"),
        )
    }

    /// Adds the headers that repeat what `message` says.
    fn repeat(&self, message: &Message, headers: &mut HeaderMap) -> Option<()> {
        let Message::Request(request) = message else {
            return Some(());
        };
        let value = |text: &str| HeaderValue::try_from(text).ok();
        headers.insert(HeaderName::from_static(METHOD), value(&request.method)?);
        let params = request.params.as_deref().and_then(Object::parse);
        if let Some(params) = &params
            && let Some(name) = modern::name(&request.method, params)
        {
            headers.insert(HeaderName::from_static(NAME), value(&encode(&name))?);
        }
        if self.modern {
            let own = self
                .client
                .iter()
                .filter(|(name, _)| name.as_str().starts_with(PARAM));
            headers.extend(own.map(|(name, value)| (name.clone(), value.clone())));
        }
        for (name, text) in &self.repeated {
            headers.insert(HeaderName::try_from(name).ok()?, value(text)?);
        }
        Some(())
    }
}

/// Writes `text` as a part of a query (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
