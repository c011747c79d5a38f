//! Dresses calls with the upstream's credential, last of all, so that nothing else can take its place.
//!
//! `refresh` keeps what expires; `aws`, `azure`, `gcp` and `oidc` say where it is had; `brought` holds what
//! requests bring themselves. Secrets are exposed in this folder and nowhere else.

mod api_key;
mod aws;
mod azure;
pub(crate) mod brought;
mod gcp;
mod http;
mod jwt;
mod oauth;
mod oidc;
mod proxies;
mod refresh;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ::http::{HeaderMap, HeaderValue, StatusCode};
use config::{
    Credential, Secret, Snapshot,
    credential::{Scheme, Source},
};
use jiff::Timestamp;
use llm::{ApiError, ErrorKind};
use serde_json::{Value, json};

pub use self::proxies::ProxyError;
use self::{
    aws::Signer,
    brought::{Luggage, Names, Own},
    http::{Http, HttpError},
    refresh::{Minted, Refresher, Standing, Unavailable},
};
use crate::telemetry::own::Refreshes;

/// The credentials of a snapshot that are more than a key. Those that stay are carried over with all that they
/// have; those that go are no longer kept fresh.
#[derive(Default)]
pub(crate) struct Credentials {
    kept: HashMap<Arc<str>, Kept>,
    /// Where requests bring their own.
    pub(crate) names: Names,
}

/// What issuers are asked with.
#[derive(Default)]
pub(crate) struct World {
    http: Http,
    /// The same, through the proxy on the way to AWS.
    aws: Http,
    /// The same, through the proxy on the way to Entra.
    azure: Http,
    /// The same, through the proxy on the way to Google.
    gcp: Http,
    /// The environment of the process.
    variables: BTreeMap<String, String>,
    /// What is counted of asking.
    refreshes: Refreshes,
}

/// A credential that is kept, and what it was declared as.
#[derive(Clone)]
struct Kept {
    declared: Option<Source>,
    live: Live,
}

/// What is kept of a credential.
#[derive(Clone)]
enum Live {
    /// A token, as the value of its header.
    Token(Arc<Refresher<HeaderValue>>),
    /// What signs calls.
    Signer(Arc<Signer>),
}

/// A call that is to be dressed.
pub(crate) struct Call<'a> {
    pub(crate) headers: &'a mut HeaderMap,
    pub(crate) method: &'a str,
    /// Path and query.
    pub(crate) path: &'a str,
    /// The value of `host`.
    pub(crate) host: &'a str,
    /// `None` where it is sent while it arrives.
    pub(crate) body: Option<&'a [u8]>,
}

/// What a call was dressed with, should the upstream not take it.
pub(crate) enum Used {
    /// A token.
    Token(Arc<Refresher<HeaderValue>>, Arc<Minted<HeaderValue>>),
    /// A signature.
    Signature(Arc<Signer>, aws::Signed),
}

/// A call cannot be dressed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    /// The request has to bring a credential and brought none.
    #[error("missing upstream credential")]
    Missing,
    /// The request brought a part of a credential.
    #[error("incomplete upstream credential")]
    Partial,
    /// What the request brought is no credential of the kind, or not fit for a header.
    #[error("the upstream credential of the request cannot be used")]
    Unfit,
    /// The gateway's own credential cannot stand in a header.
    #[error("the key of {0} holds characters that a header cannot carry")]
    Key(Arc<str>),
    /// There is none now.
    #[error("the credential of {policy} is not available")]
    Unavailable {
        /// Whose.
        policy: Arc<str>,
        /// Why, for operators.
        #[source]
        source: Unavailable,
    },
    /// Signatures are made over whole bodies.
    #[error("a request that is sent while it arrives cannot be signed")]
    Streamed,
    /// The call cannot be signed.
    #[error("the call cannot be signed")]
    Sign,
}

/// A credential could not be had. Says nothing that an issuer may have repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    /// The issuer was not reached.
    #[error("the issuer gave no answer")]
    Http(#[from] HttpError),
    /// The issuer refused.
    #[error("the issuer refused with status {}: {reason}", status.as_u16())]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words, where they are words.
        reason: String,
    },
    /// The answer is not what it should be.
    #[error("{0}")]
    Malformed(&'static str),
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A declared key is of no use.
    #[error("the declared key cannot be used: {0}")]
    Key(&'static str),
    /// AWS gave none.
    #[error("AWS: {0}")]
    Aws(String),
    /// What was issued has expired already.
    #[error("what was issued has expired already")]
    Expired,
    /// The issuer took too long.
    #[error("the issuer did not answer in time")]
    Timeout,
}

impl World {
    /// Returns the world as seen by a process with `variables`, which counts what it asks for.
    ///
    /// # Errors
    /// If one of them is to name a proxy and does not.
    pub(crate) fn new(variables: BTreeMap<String, String>, refreshes: Refreshes) -> Result<Self, ProxyError> {
        let http = Http::default();
        let through = |variable| Ok(http.through(proxies::find(&variables, variable)?));
        Ok(Self {
            aws: through(proxies::AWS)?,
            azure: through(proxies::AZURE)?,
            gcp: through(proxies::GCP)?,
            http,
            variables,
            refreshes,
        })
    }

    fn variable(&self, name: &str) -> Option<String> {
        let value = self.variables.get(name).filter(|value| !value.is_empty());
        value.cloned()
    }
}

impl Credentials {
    /// Returns the credentials of `snapshot`, with those of `before` where nothing changed for them.
    pub(crate) fn new(snapshot: &Snapshot, before: &Credentials, world: &Arc<World>) -> Self {
        let mut kept: HashMap<Arc<str>, Kept> = HashMap::new();
        for credential in declared(snapshot) {
            if kept.contains_key(&credential.policy) {
                continue;
            }
            let known = before.kept.get(&credential.policy).cloned();
            let known = known.filter(|known| known.declared == credential.source);
            let entry = known.or_else(|| Kept::start(credential, world));
            if let Some(entry) = entry {
                kept.insert(Arc::clone(&credential.policy), entry);
            }
        }
        Self {
            kept,
            names: Names::new(snapshot),
        }
    }

    /// Puts `credential` on `call`, or what the request brought in its place.
    ///
    /// # Errors
    /// If there is none. The first call of all may wait for its token, for a bounded time.
    pub(crate) async fn apply(
        &self,
        credential: &Credential,
        luggage: &Luggage,
        call: &mut Call<'_>,
    ) -> Result<Option<Used>, CredentialError> {
        if let Some(brought) = &credential.brought {
            match luggage.find(&brought.place)? {
                Some(own) => return self.own(credential, own, call),
                None if brought.fallback => {}
                None => return Err(CredentialError::Missing),
            }
        }
        match (&credential.scheme, &credential.source) {
            (_, None) => Err(CredentialError::Missing),
            (Scheme::Header(kind), Some(Source::Key(key))) => {
                if !api_key::put(*kind, key.expose(), call.headers) {
                    return Err(CredentialError::Key(Arc::clone(&credential.policy)));
                }
                Ok(None)
            }
            (
                Scheme::Header(_),
                Some(Source::Aws(_) | Source::Azure(_) | Source::Gcp(_) | Source::Oidc(_)),
            ) => {
                let Some(Live::Token(refresher)) = self.live(credential) else {
                    return Err(CredentialError::Missing);
                };
                let minted = refresher.get().await;
                let minted = minted.map_err(|source| unavailable(credential, source))?;
                call.headers
                    .insert(::http::header::AUTHORIZATION, minted.value.clone());
                Ok(Some(Used::Token(Arc::clone(refresher), minted)))
            }
            (Scheme::Signature(signature), Some(_)) => {
                let Some(Live::Signer(signer)) = self.live(credential) else {
                    return Err(CredentialError::Missing);
                };
                let identity = signer.identity().await;
                let identity = identity.map_err(|source| unavailable(credential, source))?;
                let signed = signer.sign(signature, identity, call)?;
                Ok(Some(Used::Signature(Arc::clone(signer), signed)))
            }
        }
    }

    /// Puts what the request brought on `call`.
    fn own(
        &self,
        credential: &Credential,
        own: Own,
        call: &mut Call<'_>,
    ) -> Result<Option<Used>, CredentialError> {
        match (&credential.scheme, own) {
            (Scheme::Header(kind), Own::Key(key)) => {
                let fits = api_key::put(*kind, key.expose(), call.headers);
                fits.then_some(None).ok_or(CredentialError::Unfit)
            }
            (Scheme::Signature(signature), Own::Aws(keys)) => {
                let Some(Live::Signer(signer)) = self.live(credential) else {
                    return Err(CredentialError::Missing);
                };
                let signed = signer.sign(signature, aws::Keys::brought(&keys), call)?;
                Ok(Some(Used::Signature(Arc::clone(signer), signed)))
            }
            (Scheme::Header(_), Own::Aws(_)) | (Scheme::Signature(_), Own::Key(_)) => {
                Err(CredentialError::Unfit)
            }
        }
    }

    /// Returns how each credential stands that is kept fresh, as a document.
    pub(crate) fn standings(&self, now: Timestamp) -> Value {
        let kept: BTreeMap<&str, &Kept> = self.kept.iter().map(|(policy, kept)| (&**policy, kept)).collect();
        let standings = kept.into_iter().filter_map(|(policy, kept)| {
            let standing = match &kept.live {
                Live::Token(refresher) => refresher.standing(),
                Live::Signer(signer) => signer.standing()?,
            };
            let Standing {
                ready,
                age,
                left,
                error,
            } = standing;
            Some(json!({
                "policy": policy,
                "ready": ready,
                "issued": age.and_then(|age| now.checked_sub(age).ok()).map(seconds),
                "expires": left.and_then(|left| now.checked_add(left).ok()).map(seconds),
                "error": error,
            }))
        });
        json!({ "credentials": standings.collect::<Vec<_>>() })
    }

    fn live(&self, credential: &Credential) -> Option<&Live> {
        self.kept.get(&credential.policy).map(|kept| &kept.live)
    }
}

impl Kept {
    /// Begins to keep what has to be kept for `credential`.
    fn start(credential: &Credential, world: &Arc<World>) -> Option<Self> {
        let policy = Arc::clone(&credential.policy);
        let live = match (&credential.scheme, &credential.source) {
            (Scheme::Signature(_), source) => {
                let aws = match source {
                    Some(Source::Aws(aws)) => Some(aws),
                    Some(Source::Key(_) | Source::Azure(_) | Source::Gcp(_) | Source::Oidc(_)) | None => None,
                };
                Live::Signer(Arc::new(Signer::start(policy, aws, world)))
            }
            (Scheme::Header(_), Some(Source::Azure(azure))) => {
                let (azure, world) = (Arc::new(azure.clone()), Arc::clone(world));
                let refreshes = world.refreshes.clone();
                Live::Token(Arc::new(Refresher::start(policy, refreshes, move || {
                    let (azure, world) = (Arc::clone(&azure), Arc::clone(&world));
                    async move { header(azure::mint(&world, &azure).await?) }
                })))
            }
            (Scheme::Header(_), Some(Source::Gcp(gcp))) => {
                let (gcp, world) = (Arc::new(gcp.clone()), Arc::clone(world));
                let refreshes = world.refreshes.clone();
                Live::Token(Arc::new(Refresher::start(policy, refreshes, move || {
                    let (gcp, world) = (Arc::clone(&gcp), Arc::clone(&world));
                    async move { header(gcp::mint(&world, &gcp).await?) }
                })))
            }
            (Scheme::Header(_), Some(Source::Oidc(oidc))) => {
                let (oidc, world) = (Arc::new(oidc.clone()), Arc::clone(world));
                let refreshes = world.refreshes.clone();
                Live::Token(Arc::new(Refresher::start(policy, refreshes, move || {
                    let (oidc, world) = (Arc::clone(&oidc), Arc::clone(&world));
                    async move { header(oidc::ask(&world, &oidc).await?) }
                })))
            }
            (Scheme::Header(_), Some(Source::Key(_) | Source::Aws(_)) | None) => return None,
        };
        Some(Self {
            declared: credential.source.clone(),
            live,
        })
    }
}

impl Used {
    /// Learns from an answer that may mean that the credential was not taken; returns whether the same call
    /// may fare better with another one that is there now.
    pub(crate) async fn learn(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return false;
        }
        match self {
            Used::Token(refresher, minted) => {
                // A token that was taken is forbidden things for other reasons.
                status == StatusCode::UNAUTHORIZED && refresher.suspect(minted).await
            }
            Used::Signature(signer, signed) => signer.learn(signed, headers).await,
        }
    }
}

impl CredentialError {
    /// Returns what the client is told.
    pub(crate) fn to_api(&self) -> ApiError {
        match self {
            CredentialError::Missing | CredentialError::Partial | CredentialError::Unfit => {
                ApiError::new(ErrorKind::Authentication, self.to_string()).with_code("upstream_credential")
            }
            CredentialError::Unavailable { .. } => {
                ApiError::new(ErrorKind::Unavailable, self.to_string()).with_code("credential_unavailable")
            }
            CredentialError::Key(_) | CredentialError::Streamed | CredentialError::Sign => {
                ApiError::new(ErrorKind::Internal, self.to_string())
            }
        }
    }
}

impl MintError {
    /// Returns the message with all its causes.
    fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// Returns the credentials of all backends of `snapshot`, some of them more than once.
fn declared(snapshot: &Snapshot) -> impl Iterator<Item = &Credential> {
    let listeners = snapshot.listeners.values();
    let models = listeners
        .clone()
        .flat_map(|listener| listener.router.rules())
        .flat_map(|rule| rule.candidates.iter())
        .filter_map(|candidate| candidate.backend.as_ref().ok()?.credential.as_ref());
    let tools = listeners
        .flat_map(|listener| listener.mcp.routes())
        .flat_map(|route| route.backends.iter())
        .filter_map(|backend| backend.reach.as_ref().ok()?.http()?.token());
    models.chain(tools)
}

/// Returns `time` without fractions, which mean nothing here.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

fn unavailable(credential: &Credential, source: Unavailable) -> CredentialError {
    CredentialError::Unavailable {
        policy: Arc::clone(&credential.policy),
        source,
    }
}

/// Returns `token` as the value of its header.
fn header(token: Minted<Secret>) -> Result<Minted<HeaderValue>, MintError> {
    let value = bearer(&token.value)?;
    Ok(token.map(|_| value))
}

fn bearer(token: &Secret) -> Result<HeaderValue, MintError> {
    let header = api_key::header(llm::provider::CredentialKind::Bearer, token.expose());
    let header = header.map(|(_, value)| value);
    header.ok_or(MintError::Malformed(
        "the token has characters that a header cannot carry",
    ))
}
