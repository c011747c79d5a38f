//! How calls to an upstream are authenticated, as declared: plain data that the gateway turns into headers.
//!
//! What travels ([`Scheme`]) and where it comes from ([`Source`]) are apart, because a request may bring what
//! travels itself. Tokens are never here: they are had at run time, and live in the gateway.

use std::{fmt, sync::Arc};

use http::HeaderName;
use llm::provider::CredentialKind;
use serde_json::{Value, json};

use crate::Secret;

/// How calls to an upstream are authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `namespace/name` of the BackendSecurityPolicy.
    pub policy: Arc<str>,
    /// What travels.
    pub scheme: Scheme,
    /// Where it comes from; `None` where each request has to bring its own.
    pub source: Option<Source>,
    /// Where a request may bring its own.
    pub brought: Option<Brought>,
    /// The first segments of paths at Vertex AI, where the backend names none: project and region.
    pub prefix: Option<String>,
}

/// What travels with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A key or a token, in a header.
    Header(CredentialKind),
    /// A signature of AWS.
    Signature(Signature),
}

/// What a signature of AWS is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The region, unless the host names another.
    pub region: String,
    /// The service.
    pub service: String,
    /// The host, where it is not the one that is called.
    pub host: Option<String>,
}

/// Where a credential comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A key, fit for a header.
    Key(Secret),
    /// AWS.
    Aws(Aws),
    /// Entra.
    Azure(Azure),
    /// Google.
    Gcp(Gcp),
    /// An authorization server that is nobody's cloud.
    Oidc(Oidc),
}

/// Credentials of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// The region whose token service is asked.
    pub region: String,
    /// What the session is called in AWS's records.
    pub session: String,
    /// The credentials.
    pub base: AwsBase,
    /// The role that is taken with them.
    pub role: Option<Role>,
}

/// Where credentials of AWS come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsBase {
    /// They were declared.
    Keys(AwsKeys),
    /// The environment of the process, in the order that AWS's SDKs share.
    Chain,
    /// A token is exchanged for those of a role.
    Web {
        /// The role.
        role: String,
        /// The token.
        token: Token,
    },
}

/// Keys of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKeys {
    /// The key's id.
    pub id: String,
    /// The key.
    pub secret: Secret,
    /// The token of a session.
    pub session: Option<Secret>,
}

/// A role that is taken with other credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The role.
    pub arn: String,
    /// What its owner demands to be told.
    pub external_id: Option<String>,
}

/// Tokens of Entra.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// What the token is for.
    pub scope: String,
    /// What it is had for.
    pub proof: AzureProof,
}

/// What proves to Entra who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureProof {
    /// An application's secret.
    Secret(Application, Secret),
    /// An application's certificate.
    Certificate {
        /// The application.
        application: Application,
        /// The certificate, as PEM.
        certificate: Secret,
        /// Its key, as PEM.
        key: Secret,
    },
    /// A token that the application is told to trust.
    Assertion(Application, Token),
    /// The machine; of several identities that of `client`.
    Machine {
        /// The identity's client id.
        client: Option<String>,
    },
}

/// An application that Entra knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// The URL of Entra, without the tenant.
    pub authority: String,
    /// The tenant.
    pub tenant: String,
    /// The client id.
    pub client: String,
}

/// Tokens of Google.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gcp {
    /// A key file, be it of a service account or of another kind.
    Key(Secret),
    /// A token is exchanged.
    Federation {
        /// The provider of the pool, as the audience names it.
        audience: String,
        /// The token.
        token: Token,
        /// The URL of the service that exchanges it.
        exchange: String,
        /// The URL that gives tokens of the service account to act as.
        impersonation: Option<String>,
    },
    /// The environment of the process, in the order that Google's libraries share.
    Default,
}

/// A token of one's own, to be exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// An issuer is asked.
    Oidc(Box<Oidc>),
    /// It lies in a file, which somebody keeps up to date.
    File(String),
}

/// An issuer of tokens, and who asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// The issuer's URL.
    pub issuer: String,
    /// Where tokens are had; `None` where the issuer's description is to be asked.
    pub endpoint: Option<String>,
    /// The client.
    pub client: String,
    /// The client's secret.
    pub secret: Secret,
    /// What the token is for.
    pub scopes: Vec<String>,
    /// Whom the token is for.
    pub audience: Option<String>,
    /// The address of what the token is for.
    pub resource: Option<String>,
}

/// Where a request may bring its own credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// Where.
    pub place: Place,
    /// Whether the declared credential serves requests that bring none.
    pub fallback: bool,
}

/// Where a request brings its credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a header.
    Header(HeaderName),
    /// In three headers: id, key and session token.
    Headers([HeaderName; 3]),
    /// In what a policy before it said, by namespace and name.
    Metadata {
        /// Who said it.
        namespace: String,
        /// Under which name.
        key: String,
    },
}

impl Credential {
    /// Returns the headers in which requests bring credentials, which are for nobody else.
    pub fn headers(&self) -> &[HeaderName] {
        match self.brought.as_ref().map(|brought| &brought.place) {
            Some(Place::Header(name)) => std::slice::from_ref(name),
            Some(Place::Headers(names)) => names,
            Some(Place::Metadata { .. }) | None => &[],
        }
    }

    pub(crate) fn dump(&self) -> Value {
        json!({
            "policy": self.policy,
            "kind": self.scheme.name(),
            "source": self.source.as_ref().map(Source::to_string),
            "brought": self.brought.as_ref().map(|brought| brought.dump()),
        })
    }
}

impl Scheme {
    /// Returns what documentation and dumps call it.
    pub fn name(&self) -> &'static str {
        match self {
            Scheme::Header(kind) => kind.name(),
            Scheme::Signature(_) => "aws-signature",
        }
    }
}

impl Brought {
    fn dump(&self) -> Value {
        let place = match &self.place {
            Place::Header(name) => json!({ "header": name.as_str() }),
            Place::Headers(names) => json!({ "headers": names.each_ref().map(HeaderName::as_str) }),
            Place::Metadata { namespace, key } => json!({ "namespace": namespace, "key": key }),
        };
        json!({ "in": place, "fallback": self.fallback })
    }
}

/// A few words for dumps and logs, without anything secret.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Key(_) => "key",
            Source::Aws(Aws { base, .. }) => match base {
                AwsBase::Keys(_) => "AWS keys",
                AwsBase::Chain => "AWS default chain",
                AwsBase::Web { .. } => "AWS web identity",
            },
            Source::Azure(Azure { proof, .. }) => match proof {
                AzureProof::Secret(..) => "Azure client secret",
                AzureProof::Certificate { .. } => "Azure client certificate",
                AzureProof::Assertion(..) => "Azure workload identity",
                AzureProof::Machine { .. } => "Azure managed identity",
            },
            Source::Gcp(gcp) => match gcp {
                Gcp::Key(_) => "Google key file",
                Gcp::Federation { .. } => "Google workload identity federation",
                Gcp::Default => "Google default credentials",
            },
            Source::Oidc(_) => "client credentials",
        })
    }
}
