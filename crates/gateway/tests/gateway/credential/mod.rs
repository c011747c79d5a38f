//! Credentials: what upstreams are given, where it is had, and what becomes of a request without one.

mod brought;
mod issuers;
mod signed;
mod token;

use config::{
    Credential, Secret,
    credential::{Aws, AwsBase, AwsKeys, Role, Scheme, Signature, Source},
};
use llm::provider::CredentialKind;
use testkit::aws::Key;

use crate::fixture::credential;

/// Headers of a client that tries them all.
pub(crate) const CLIENTS: [(&str, &str); 9] = [
    ("authorization", "Bearer client-secret"),
    ("x-api-key", "client-secret"),
    ("api-key", "client-secret"),
    ("x-goog-api-key", "client-secret"),
    ("cookie", "client-secret"),
    ("proxy-authorization", "client-secret"),
    ("x-amz-security-token", "client-secret"),
    ("x-amz-date", "client-secret"),
    ("x-ai-eg-upstream-host", "client-secret"),
];

/// The region of every signature.
const REGION: &str = "eu-west-3";

/// Returns `key` as it is declared.
fn keys(key: &Key) -> AwsKeys {
    AwsKeys {
        id: key.id.clone(),
        secret: Secret::new(key.secret.as_str()),
        session: key.session.as_deref().map(Secret::new),
    }
}

/// Returns the credential of calls that are signed.
fn aws(policy: &str, base: AwsBase, role: Option<Role>) -> Credential {
    let scheme = Scheme::Signature(Signature {
        region: REGION.to_owned(),
        service: "bedrock".to_owned(),
        host: None,
    });
    let aws = Aws {
        region: REGION.to_owned(),
        session: "ai-gateway-test".to_owned(),
        base,
        role,
    };
    credential(policy, scheme, Source::Aws(aws))
}

/// Returns the credential of calls that carry a token.
fn bearer(policy: &str, source: Source) -> Credential {
    credential(policy, Scheme::Header(CredentialKind::Bearer), source)
}
