//! Calls to those who issue credentials, over the same connections as calls to upstreams.
//!
//! A call has a connection of its own: there are few, and they are far apart.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use bytes::{Bytes, BytesMut};
use config::snapshot::{Endpoint, Proxy, Tls};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use rustls::ClientConfig;

use crate::upstream::{Broken, CallError, Client, Outgoing, TlsError, tls_config};
use policy::traffic::Connections;

/// The longest answer that is read: tokens are some kilobytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Makes the calls.
#[derive(Clone, Default)]
pub(crate) struct Http {
    /// Made when it is first needed: reading the system's authorities takes a while.
    tls: Arc<OnceLock<Result<Arc<ClientConfig>, TlsError>>>,
    proxy: Option<Arc<Proxy>>,
}

/// No answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The URL is not one that can be called.
    #[error("\"{0}\" is not a URL that can be called")]
    Url(String),
    /// The call failed.
    #[error("{host} cannot be called")]
    Call {
        /// Who was called.
        host: String,
        /// Why it failed.
        #[source]
        source: CallError,
    },
    /// The answer broke off.
    #[error("the answer broke off")]
    Cut(#[source] Broken),
    /// The answer is longer than any that can be meant.
    #[error("the answer is too long")]
    TooLong,
}

impl Http {
    /// Returns what makes calls through `proxy`, but to this machine and to those who serve it alone.
    pub(crate) fn through(&self, proxy: Option<Proxy>) -> Self {
        Self {
            tls: Arc::clone(&self.tls),
            proxy: proxy.map(Arc::new),
        }
    }

    /// Returns the answer to `request`, whose URI is absolute.
    pub(crate) async fn call(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut target = Target::parse(request.uri())?;
        target.endpoint.proxy = self.proxy.clone().filter(|_| !is_near(&target.endpoint.host));
        let encrypted = target.tls.is_some() || self.proxy.as_ref().is_some_and(|proxy| proxy.tls.is_some());
        let shared = encrypted.then(|| self.tls.get_or_init(tls_config));
        let client = Arc::new(Client::new(
            &target.endpoint,
            target.tls.as_ref(),
            shared,
            Connections::default(),
        ));
        let path = request.uri().path_and_query();
        let path = path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        request.headers_mut().insert(header::HOST, client.host.clone());
        let request = request.map(|body| Outgoing::Whole(Full::new(body)));
        let host = target.endpoint.host;
        let response = client.call(request).await;
        let (head, mut body) = response
            .map_err(|source| HttpError::Call { host, source })?
            .into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(HttpError::Cut)?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > MAX_ANSWER {
                return Err(HttpError::TooLong);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Response::from_parts(head, bytes.freeze()))
    }

    /// Returns status and body of the answer to GET `url`.
    pub(crate) async fn get(&self, url: &str, headers: HeaderMap) -> Result<(StatusCode, Bytes), HttpError> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = parse(url)?;
        *request.headers_mut() = headers;
        let response = self.call(request).await?;
        Ok((response.status(), response.into_body()))
    }

    /// Returns status and body of the answer to POST `url`.
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let mut request = Request::new(body.into());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = parse(url)?;
        *request.headers_mut() = headers;
        let response = self.call(request).await?;
        Ok((response.status(), response.into_body()))
    }
}

/// Where a URL leads.
struct Target {
    endpoint: Endpoint,
    tls: Option<Tls>,
}

impl Target {
    fn parse(uri: &Uri) -> Result<Self, HttpError> {
        let unfit = || HttpError::Url(uri.to_string());
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(unfit)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (Some(Tls::to(host.clone())), 443),
            Some("http") => (None, 80),
            Some(_) | None => return Err(unfit()),
        };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self {
            endpoint: Endpoint::new(host, port),
            tls,
        })
    }
}

/// Returns whether `host` is this machine, or one that serves its machine alone, such as those that know a machine's
/// identity.
fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unicast_link_local() || address.is_unique_local()
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn parse(url: &str) -> Result<Uri, HttpError> {
    url.parse().map_err(|_| HttpError::Url(url.to_owned()))
}
