//! Policies, one folder each: what a resource says (`spec`), what it means once resolved, and its application.
//!
//! A policy does no IO and reads no clock; what one needs of the outside it has from an [`Egress`]. Those that decide who may call are fields of [`Policies`], which runs
//! them; those that change what an upstream is sent are applied by whoever calls it.

pub mod access_log;
pub mod address;
pub mod api_key;
pub mod authorize;
pub mod basic;
pub mod body;
pub mod carrier;
pub mod claims;
pub mod cors;
pub mod cost;
pub mod egress;
pub mod ext_auth;
pub mod ext_proc;
pub mod grpc;
pub mod header_edit;
pub mod headers;
pub mod jwt;
pub mod protobuf;
pub mod quota;
pub mod rate_limit;
mod structure;
pub mod tools;
pub mod traffic;
pub mod value;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use llm::{ApiError, ErrorKind};
use serde_json::{Value, json};

pub use address::{Cidr, ClientAddress};
pub use api_key::ApiKey;
pub use authorize::Authorize;
pub use basic::Basic;
pub use carrier::Carrier;
pub use claims::Claims;
pub use cors::Cors;
pub use egress::{Egress, EgressError, KeysError, Remote};
pub use ext_auth::ExtAuth;
pub use jwt::Jwt;

/// Who may call, and who says so. The fields are in the order in which they run, which is a matter of security:
/// a browser's question comes first because it carries no credential; a service that is asked may put into the
/// request what the others verify; authorization comes last because it judges by what the others have verified.
#[derive(Debug, Default)]
pub struct Policies {
    /// `namespace/name` of the resource that declares them.
    pub id: Arc<str>,
    /// Why nobody is let in: what was declared cannot be honoured.
    pub broken: Option<String>,
    /// Which pages in browsers may call.
    pub cors: Option<Cors>,
    /// A service that decides.
    pub ext_auth: Option<ExtAuth>,
    /// Who calls.
    pub authenticate: Authenticate,
    /// Whether who calls may do this.
    pub authorize: Option<Authorize>,
}

/// Who calls. Each that is present has to be satisfied.
#[derive(Debug, Default)]
pub struct Authenticate {
    /// By a key.
    pub api_key: Option<ApiKey>,
    /// By name and password.
    pub basic: Option<Basic>,
    /// By a signed token.
    pub jwt: Option<Jwt>,
}

/// Where a rule was declared.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// `namespace/name` of its route.
    pub route: &'a str,
    /// Its own name.
    pub rule: Option<&'a str>,
    /// Annotations of the route, as the reference tells them: those that begin with its own name, without that.
    pub annotations: Option<&'a BTreeMap<String, String>>,
}

/// What policies say of a request, by their namespaces.
pub type Metadata = BTreeMap<String, Value>;

/// What policies know and find out about one request.
pub struct PolicyCtx<'a> {
    /// The outside.
    pub egress: &'a dyn Egress,
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
    /// The client's address.
    pub client: IpAddr,
    /// Whether the client's connection is encrypted.
    pub secured: bool,
    /// The id of the request.
    pub request_id: &'a str,
    /// The rule that the request is for, where that is known.
    pub rule: Option<Place<'a>>,
    /// What was verified of whoever calls.
    pub caller: Caller,
    /// Headers for the answer, whatever it will be.
    pub response: HeaderMap,
    /// What policies say of the request, by their namespaces.
    pub metadata: Metadata,
    /// Why a service could not be asked, for the log.
    pub trouble: Option<String>,
}

/// What was verified of whoever calls.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The client whose API key it is.
    pub client_id: Option<Arc<str>>,
    /// The name whose password it is.
    pub username: Option<String>,
    /// What tokens say, by the provider that vouches for it.
    pub claims: Vec<(Arc<str>, Claims)>,
}

/// A request that is not let in.
#[derive(Debug)]
pub struct Refusal {
    /// What the client is told; its status is the answer's.
    pub error: ApiError,
    /// Headers for the client.
    pub headers: HeaderMap,
    /// The document that is the answer, where somebody else has written it.
    pub document: Option<Bytes>,
}

impl Caller {
    /// Returns what tokens say for which `provider` vouches; anybody, if it is not said who.
    pub fn vouched(&self, provider: Option<&str>) -> impl Iterator<Item = &Claims> {
        let claims = self.claims.iter();
        claims
            .filter(move |(own, _)| provider.is_none_or(|provider| provider == &**own))
            .map(|(_, claims)| claims)
    }
}

impl<'a> PolicyCtx<'a> {
    /// Returns what is known of a request from `client` before anything was verified.
    pub fn new(egress: &'a dyn Egress, now: u64, client: IpAddr) -> Self {
        Self {
            egress,
            now,
            client,
            secured: false,
            request_id: "",
            rule: None,
            caller: Caller::default(),
            response: HeaderMap::new(),
            metadata: Metadata::new(),
            trouble: None,
        }
    }
}

impl Caller {
    /// Returns who calls as one text, the same for every request of theirs; `None` if nobody was verified. A token
    /// that names no subject is known by all that it says.
    pub fn identity(&self) -> Option<String> {
        if self.client_id.is_none() && self.username.is_none() && self.claims.is_empty() {
            return None;
        }
        let subjects = self.claims.iter().map(|(provider, claims)| {
            let subject = ["sub", "client_id", "azp"]
                .into_iter()
                .find_map(|name| claims.text(name));
            match subject {
                Some(subject) => json!([provider, claims.text("iss"), subject]),
                None => json!([provider, claims.as_map()]),
            }
        });
        let subjects: Vec<Value> = subjects.collect();
        Some(json!([self.client_id, self.username, subjects]).to_string())
    }
}

impl Policies {
    /// Returns what lets nobody in.
    pub fn broken(id: impl Into<Arc<str>>, reason: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            broken: Some(reason.into()),
            ..Self::default()
        }
    }

    /// Returns how much of a request's body is to be given to [`Policies::identify`]; `None` for nothing.
    pub fn shows(&self) -> Option<usize> {
        self.ext_auth.as_ref()?.body
    }

    /// Returns whether a service is told which rule a request is for: it cannot be asked before that is known.
    pub fn tells_rule(&self) -> bool {
        self.ext_auth.as_ref().is_some_and(|ext_auth| ext_auth.tells_rule)
    }

    /// Finds out who calls. `body` is the request's, as far as [`Policies::shows`] asks for it.
    ///
    /// # Errors
    /// A 401 that says what is missing; a 500 if the policies are broken; a 503 if what is needed to tell is not
    /// there; what a service says that is asked.
    pub async fn identify(
        &self,
        ctx: &mut PolicyCtx<'_>,
        head: &mut Parts,
        body: &Bytes,
    ) -> Result<(), Box<Refusal>> {
        if self.broken.is_some() {
            // The reason is the operator's; the report and the log have it.
            let message = "the access policy of this route cannot be applied";
            return Err(Refusal::new(ErrorKind::Internal, message));
        }
        if let Some(cors) = &self.cors {
            cors.allow(&head.headers, &mut ctx.response);
        }
        if let Some(ext_auth) = &self.ext_auth {
            ext_auth.check(ctx, head, body).await?;
        }
        let Authenticate { api_key, basic, jwt } = &self.authenticate;
        if let Some(api_key) = api_key {
            ctx.caller.client_id = Some(api_key.verify(head)?);
        }
        if let Some(basic) = basic {
            ctx.caller.username = Some(basic.verify(&mut head.headers)?);
        }
        if let Some(jwt) = jwt {
            let vouched = jwt.verify(ctx.egress, ctx.now, head).await?;
            ctx.caller.claims.extend(vouched);
        }
        Ok(())
    }

    /// Decides whether whoever calls may do so.
    ///
    /// # Errors
    /// A 403.
    pub fn decide(&self, ctx: &mut PolicyCtx<'_>, head: &Parts) -> Result<(), Box<Refusal>> {
        match &self.authorize {
            Some(authorize) if !authorize.allows(ctx.client, &ctx.caller, &head.method, &head.headers) => {
                Err(Refusal::new(ErrorKind::Permission, "access denied"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes off the credentials by which a client has identified itself, so that no upstream learns them.
    pub fn strip_credentials(&self, headers: &mut HeaderMap) {
        let Authenticate { api_key, basic, jwt } = &self.authenticate;
        let keys = api_key.iter().flat_map(|api_key| &api_key.carriers);
        let providers = jwt.iter().flat_map(|jwt| &jwt.providers);
        let tokens = providers.flat_map(|provider| &provider.carriers);
        for carrier in keys.chain(tokens) {
            carrier.strip_header(headers);
        }
        if basic.is_some() {
            headers.remove(header::AUTHORIZATION);
        }
    }

    /// Returns whether the route is to be chosen anew once the policies have looked at a request.
    pub fn recomputes_route(&self) -> bool {
        let by_service = self
            .ext_auth
            .as_ref()
            .is_some_and(|ext_auth| ext_auth.recompute_route);
        by_service || self.authenticate.jwt.as_ref().is_some_and(Jwt::recomputes_route)
    }

    /// Returns what is declared, as JSON without secrets.
    pub fn dump(&self) -> Value {
        json!({
            "broken": self.broken,
            "cors": self.cors.as_ref().map(Cors::dump),
            "extAuth": self.ext_auth.as_ref().map(ExtAuth::dump),
            "apiKey": self.authenticate.api_key.as_ref().map(ApiKey::dump),
            "basic": self.authenticate.basic.as_ref().map(Basic::dump),
            "jwt": self.authenticate.jwt.as_ref().map(Jwt::dump),
            "authorize": self.authorize.as_ref().map(Authorize::dump),
        })
    }
}

impl Refusal {
    /// Returns a refusal with the kind's own status.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            error: ApiError::new(kind, message),
            headers: HeaderMap::new(),
            document: None,
        })
    }

    /// Returns a 401 that tells by `challenge` how to do better (RFC 9110, section 11.6.1).
    pub fn challenge(message: impl Into<String>, challenge: HeaderValue) -> Box<Self> {
        let mut refusal = Self::new(ErrorKind::Authentication, message);
        refusal.headers.insert(header::WWW_AUTHENTICATE, challenge);
        refusal
    }
}

/// Why a header cannot carry what was verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a header's name.
    #[error("\"{0}\" is not a header name")]
    Malformed(String),
    /// A name that the gateway or HTTP itself needs.
    #[error("\"{0}\" belongs to the gateway")]
    Reserved(String),
}

/// Returns the header in which upstreams are told what was verified.
///
/// # Errors
/// If `written` is no header name, or one that means something to the gateway or to HTTP.
pub fn told_in(written: &str) -> Result<HeaderName, NameError> {
    let name = HeaderName::from_bytes(written.to_ascii_lowercase().as_bytes())
        .map_err(|_| NameError::Malformed(written.to_owned()))?;
    if is_reserved(name.as_str()) {
        return Err(NameError::Reserved(written.to_owned()));
    }
    Ok(name)
}

/// Returns whether a policy must not set a header: by the first ones the gateway knows what it has decided, by
/// the others HTTP delimits messages.
pub fn is_reserved(name: &str) -> bool {
    ["x-ai-eg-", "x-envoy-", "x-tollgate-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            "connection"
                | "content-encoding"
                | "content-length"
                | "expect"
                | "host"
                | "keep-alive"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "x-gateway-destination-endpoint"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_decide_cannot_be_set() {
        for name in ["x-ai-eg-model", "X-Envoy-Original-Path", "Content-Length", "host"] {
            assert_eq!(told_in(name), Err(NameError::Reserved(name.to_owned())), "{name}");
        }
        assert_eq!(told_in("a b"), Err(NameError::Malformed("a b".to_owned())));
        assert_eq!(told_in("X-User-Id").expect("a name").as_str(), "x-user-id");
    }

    /// An outside in which nobody answers.
    struct Nobody;

    impl Egress for Nobody {
        fn call<'a>(
            &'a self,
            _: &'a str,
            _: http::Request<Bytes>,
            _: std::time::Duration,
        ) -> egress::BoxFuture<'a, Result<http::Response<Bytes>, EgressError>> {
            Box::pin(async { Err(EgressError::Unknown) })
        }

        fn keys<'a>(
            &'a self,
            _: &'a Remote,
            _: bool,
        ) -> egress::BoxFuture<'a, Result<Arc<jwt::KeySet>, KeysError>> {
            Box::pin(async { Err(KeysError) })
        }
    }

    #[test]
    fn what_is_broken_lets_nobody_in_and_keeps_the_reason() {
        let (mut head, ()) = http::Request::new(()).into_parts();
        let mut ctx = PolicyCtx::new(&Nobody, 0, IpAddr::from([127, 0, 0, 1]));
        let policies = Policies::broken("a/b", "Secret a/keys does not exist");
        let nothing = Bytes::new();
        let mut verdict = std::pin::pin!(policies.identify(&mut ctx, &mut head, &nothing));
        let mut waker = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Err(refusal)) = verdict.as_mut().poll(&mut waker) else {
            panic!("nobody gets in");
        };
        assert_eq!(refusal.error.status, 500);
        assert!(!refusal.error.message.contains("Secret"));
    }
}
