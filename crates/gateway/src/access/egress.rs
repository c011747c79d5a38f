//! The outside, as policies see it: services that are asked over the gateway's own connections.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use config::snapshot::{Endpoint, Outside, Service, Tls};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use policy::{Egress, EgressError, KeysError, Remote, egress::BoxFuture, jwt::KeySet};
use tokio::time::timeout;

use policy::traffic::Connections;

use crate::{
    Runtime, State,
    upstream::{self, CallError, Client, Outgoing, Reply},
};

/// The largest answer that a service may give.
pub(crate) const MAX_ANSWER: usize = 1024 * 1024;

/// The clients of the services that policies ask.
#[derive(Default)]
pub(crate) struct Services {
    known: HashMap<Arc<str>, Known>,
}

/// A service, and the clients for the endpoints of each of its parts.
type Known = (Service, Vec<Vec<Arc<Client>>>);

/// A service was not asked, or gave no answer.
pub(crate) struct Missed {
    pub(crate) error: EgressError,
    /// Whether it has certainly not seen the request.
    unseen: bool,
}

/// The outside, for the policies of one request.
pub(crate) struct Outward {
    pub(crate) state: Arc<State>,
    pub(crate) runtime: Arc<Runtime>,
}

impl Services {
    /// Returns the clients for what is asked; those of `before` are kept where nothing changed for them.
    pub(crate) fn new(outside: &Outside, before: &Self) -> Self {
        // Reading the system's authorities takes a while: once for all, and only where one is needed.
        let mut shared = None;
        let mut known = HashMap::new();
        for (id, service) in &outside.services {
            let kept = before.known.get(id).filter(|(kept, _)| kept == service);
            let clients = kept.map(|(_, clients)| clients.clone()).unwrap_or_else(|| {
                if service.tls.is_some() && shared.is_none() {
                    shared = Some(upstream::tls_config());
                }
                let client = |endpoint: &Endpoint| {
                    let tls = service.tls.as_ref();
                    let client = Client::new(endpoint, tls, shared.as_ref(), service.connections);
                    Arc::new(client)
                };
                let parts = service.parts.iter();
                parts
                    .map(|part| part.endpoints.iter().map(client).collect())
                    .collect()
            });
            known.insert(Arc::clone(id), (service.clone(), clients));
        }
        Self { known }
    }

    /// Sends `request` to the service called `to` and returns its whole answer. One that is not reached is asked again as
    /// often as it is to be, and then what is in reserve.
    ///
    /// # Errors
    /// If there is no such service, or it does not answer as it should within `limit`.
    pub(crate) async fn call(
        &self,
        to: &str,
        request: Request<Bytes>,
        limit: Duration,
    ) -> Result<Response<Bytes>, EgressError> {
        let known = self.known.get(to).ok_or(EgressError::Unknown)?;
        let asking = async {
            let reserve = pick(known, true);
            let Some(first) = pick(known, false) else {
                let only = reserve.ok_or(EgressError::Unknown)?;
                return ask(only, request).await.map_err(|missed| missed.error);
            };
            let (service, _) = known;
            let again = (service.retries > 0 || reserve.is_some()).then(|| request.clone());
            let mut answered = ask(first, request).await;
            if let Some(request) = again {
                for turn in 0..=service.retries {
                    let other = if turn < service.retries {
                        pick(known, false)
                    } else {
                        reserve
                    };
                    let (Some(other), Err(Missed { unseen: true, .. })) = (other, &answered) else {
                        break;
                    };
                    answered = ask(other, request.clone()).await;
                }
            }
            answered.map_err(|missed| missed.error)
        };
        timeout(limit, asking).await.unwrap_or(Err(EgressError::Timeout))
    }

    /// Returns the client for one of the endpoints of the service called `to`.
    pub(crate) fn pick(&self, to: &str) -> Option<&Arc<Client>> {
        pick(self.known.get(to)?, false)
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn prune(&self) {
        for client in self.known.values().flat_map(|(_, clients)| clients).flatten() {
            client.prune();
        }
    }
}

/// Returns the client for one of the endpoints of a service, of those in reserve or of the others, by weight.
fn pick((service, clients): &Known, reserve: bool) -> Option<&Arc<Client>> {
    let parts = service.parts.iter().zip(clients);
    let parts = parts.filter(|(part, _)| part.reserve == reserve);
    let all: u64 = parts.clone().map(|(part, _)| u64::from(part.weight)).sum();
    let mut drawn = fastrand::u64(..all.max(1));
    let drawn = parts.into_iter().find(|(part, _)| {
        let weight = u64::from(part.weight);
        let hit = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        hit
    });
    let (_, clients) = drawn?;
    clients.get(fastrand::usize(..clients.len().max(1)))
}

/// Sends `request` to where its address leads, over a connection of its own, and returns the whole answer.
///
/// # Errors
/// If there is nobody, or nobody who answers as they should within `limit`.
pub(crate) async fn call_at(
    request: Request<Bytes>,
    limit: Duration,
) -> Result<Response<Bytes>, EgressError> {
    let uri = request.uri();
    let encrypted = uri.scheme_str() == Some("https");
    let host = uri.host().ok_or(EgressError::Unknown)?;
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let default_port = if encrypted { 443 } else { 80 };
    let endpoint = Endpoint::new(host.clone(), uri.port_u16().unwrap_or(default_port));
    let tls = encrypted.then(|| Tls::to(host));
    let shared = encrypted.then(upstream::tls_config);
    let client = Client::new(&endpoint, tls.as_ref(), shared.as_ref(), Connections::default());
    let answered = timeout(limit, ask(&Arc::new(client), request)).await;
    let answered = answered.map_err(|_| EgressError::Timeout)?;
    answered.map_err(|missed| missed.error)
}

/// Sends `request` and returns the whole answer, with what comes after it among its headers.
///
/// # Errors
/// Why there is none.
pub(crate) async fn ask(client: &Arc<Client>, request: Request<Bytes>) -> Result<Response<Bytes>, Missed> {
    let (mut head, body) = request.into_parts();
    let host = head
        .uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let host = host.and_then(|host| http::HeaderValue::try_from(host).ok());
    let host = host.unwrap_or_else(|| client.host.clone());
    head.headers.entry(header::HOST).or_insert(host);
    // A target without its origin is what servers expect (RFC 9112, section 3.2.1).
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    head.uri = target
        .parse()
        .map_err(|_| EgressError::Failed("the target is malformed".to_owned()))?;
    let request = Request::from_parts(head, Outgoing::Whole(Full::new(body)));
    let response = client.call(request).await.map_err(|error| Missed {
        unseen: matches!(error, CallError::Connect(_) | CallError::Refused(_)),
        error: failed(&error),
    })?;
    let (mut head, mut body) = response.into_parts();
    let body = whole(&mut body, &mut head.headers).await?;
    Ok(Response::from_parts(head, body))
}

impl From<EgressError> for Missed {
    fn from(error: EgressError) -> Self {
        Self { error, unseen: false }
    }
}

/// Reads a body to its end; what comes after it is put among `headers`, where gRPC looks for it in either case.
async fn whole(body: &mut Reply, headers: &mut HeaderMap) -> Result<Bytes, EgressError> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                headers.extend(frame.into_trailers().unwrap_or_default());
                continue;
            }
        };
        if read.len() + data.len() > MAX_ANSWER {
            return Err(EgressError::TooLarge(MAX_ANSWER));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.into())
}

/// Returns an error with all its causes.
fn failed(error: &dyn std::error::Error) -> EgressError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    EgressError::Failed(text)
}

impl Egress for Outward {
    fn call<'a>(
        &'a self,
        to: &'a str,
        request: Request<Bytes>,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Response<Bytes>, EgressError>> {
        Box::pin(self.state.services.call(to, request, limit))
    }

    fn keys<'a>(&'a self, place: &'a Remote, anew: bool) -> BoxFuture<'a, Result<Arc<KeySet>, KeysError>> {
        Box::pin(self.runtime.keys.get(place, anew))
    }
}
