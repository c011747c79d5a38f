//! Who calls: lets a request in to a route, and says whose a session is.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use config::{mcp_route::Route, router::ROUTE_HEADER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};
use mcp::{
    Session,
    session::{self, Owner, Tokens},
};
use policy::{Caller, Claims, Policies, tools};

use super::refused::Refused;
use crate::{
    access::{self, Shown},
    ctx::Ctx,
};

/// Which servers whoever is trusted with it has chosen for a session; clients cannot say this.
const SUBSET: HeaderName = HeaderName::from_static("x-ai-eg-mcp-backend-subset");

/// Where policies say which servers are meant.
const NAMESPACE: &str = "aigateway.envoy.io";

/// What pages in browsers may read of an answer.
const EXPOSED: HeaderValue = HeaderValue::from_static("www-authenticate, mcp-session-id");

/// Whoever calls, and how.
#[derive(Debug, Default)]
pub(super) struct Who {
    caller: Caller,
    method: Method,
    host: String,
    path: String,
    subset: String,
    request: OnceLock<tools::Request>,
}

/// Somebody whom a policy vouches for.
struct Principal<'a> {
    issuer: &'a str,
    subject: Cow<'a, str>,
    /// Whether a token says so, rather than a key or a password.
    token: bool,
}

/// Lets a request in to `route` if `attached` policies and the route's own do.
pub(super) async fn admit(
    ctx: &mut Ctx,
    route: &Route,
    attached: Option<&Arc<Policies>>,
    head: &mut Parts,
    body: &mut Shown<'_>,
) -> Result<Arc<Who>, Box<Refused>> {
    let shown = head.headers.contains_key(header::AUTHORIZATION);
    let own = route.access.policies.as_ref();
    for policies in attached.into_iter().chain(own) {
        let before = ctx.access.take();
        let admitted = access::admit(ctx, (policies, None), head, body).await;
        if let (Some(access), Some(before)) = (&mut ctx.access, before) {
            access.join(*before);
        }
        admitted.map_err(|refusal| challenged(route, shown, refusal.into()))?;
    }
    if let Some(attached) = attached {
        attached.strip_credentials(&mut head.headers);
    }
    let caller = ctx
        .access
        .as_mut()
        .map(|access| std::mem::take(&mut access.caller));
    let subset = ctx
        .metadata
        .get(NAMESPACE)
        .and_then(|own| own.get("mcp_backend_subset"));
    Ok(Arc::new(Who {
        caller: caller.unwrap_or_default(),
        method: head.method.clone(),
        host: ctx.facts.host.clone(),
        path: head.uri.path().to_owned(),
        subset: subset
            .and_then(|subset| subset.as_str())
            .unwrap_or_default()
            .to_owned(),
        request: OnceLock::new(),
    }))
}

/// Tells a client that has to log in where, whoever refused it; pages in browsers are to be able to read it.
fn challenged(route: &Route, shown: bool, mut refused: Box<Refused>) -> Box<Refused> {
    if let Some(login) = &route.access.login
        && refused.status == http::StatusCode::UNAUTHORIZED
        && let Ok(challenge) = HeaderValue::try_from(login.challenge(shown))
    {
        refused.headers.insert(header::WWW_AUTHENTICATE, challenge);
        super::login::open(&mut refused.headers);
        refused
            .headers
            .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    refused
}

impl Who {
    /// Returns whose a session is that is opened now.
    pub(super) fn owner(&self, tokens: &Tokens) -> Owner {
        let principal = self.principal();
        principal.map_or(Owner::Anyone, |own| tokens.owner(own.issuer, &own.subject))
    }

    /// Returns whether `session` is one of whoever calls.
    pub(super) fn owns(&self, session: &Session) -> bool {
        match (self.principal(), &session.owner) {
            // Tokens of the compatibility specification name a subject whether anybody vouches for it or not.
            (None, Owner::Anyone | Owner::Subject(_)) => true,
            (None, Owner::Hash(_)) => false,
            // They name none for whoever has a key, and do not end.
            (Some(own), Owner::Anyone) => !own.token && session.expires.is_none(),
            (Some(own), owner) => owner.is(own.issuer, &own.subject),
        }
    }

    /// Returns who calls, as far as policies vouch for it.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns what the request looks like to rules. `headers` are the client's.
    pub(super) fn request(&self, route: &Route, headers: &HeaderMap) -> &tools::Request {
        self.request.get_or_init(|| {
            let more = [
                (SUBSET, self.subset.clone()),
                (ROUTE_HEADER, route.id.to_string()),
            ];
            tools::Request::new(&self.method, &self.host, &self.path, headers, &more, &self.caller)
        })
    }

    fn principal(&self) -> Option<Principal<'_>> {
        if let Some((provider, claims)) = self.caller.claims.first() {
            let said = |name| claims.get(name).and_then(serde_json::Value::as_str);
            return Some(Principal {
                issuer: said("iss").unwrap_or(provider),
                subject: said("sub").map_or_else(|| unnamed(claims).into(), Cow::Borrowed),
                token: true,
            });
        }
        let key = self.caller.client_id.as_deref().map(|client| ("key", client));
        let name = || self.caller.username.as_deref().map(|name| ("password", name));
        key.or_else(name).map(|(issuer, subject)| Principal {
            issuer,
            subject: Cow::Borrowed(subject),
            token: false,
        })
    }
}

/// Returns what stands for whoever holds a token that does not say whom it is about, as not every issuer has it do: all that
/// it does say, but for what differs between the tokens of one holder. Two who say the same are one.
fn unnamed(claims: &Claims) -> String {
    let said = claims.as_map().iter();
    let said: BTreeMap<_, _> = said
        .filter(|(name, _)| !OF_ONE_TOKEN.contains(&name.as_str()))
        .collect();
    let said = serde_json::to_string(&said).unwrap_or_default();
    format!(
        "unnamed {:032x}",
        u128::from_be_bytes(session::fingerprint(&said))
    )
}

/// Claims about a token, and not about its holder.
const OF_ONE_TOKEN: [&str; 8] = ["exp", "iat", "nbf", "auth_time", "jti", "nonce", "scope", "scp"];
