//! Where keys of AWS come from: what was declared, the chain that AWS's SDKs share, or a token's exchange; and
//! the role that is taken with them.

use std::time::{Duration, SystemTime};

use aws_config::{default_provider::credentials::DefaultCredentialsChain, provider_config::ProviderConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError},
};
use aws_sdk_sts::{
    config::{BehaviorVersion, Region},
    error::ProvideErrorMetadata,
};
use aws_smithy_async::{rt::sleep::TokioSleep, time::SystemTimeSource};
use aws_smithy_runtime_api::client::{identity::Identity, result::SdkError};
use config::credential::{Aws, AwsBase, Role};

use super::{credentials, sdk::Connections};
use crate::credential::{MintError, World, oidc, refresh::Minted};

/// Returns new keys.
pub(super) async fn mint(world: &std::sync::Arc<World>, aws: &Aws) -> Result<Minted<Identity>, MintError> {
    let connections = Connections::new(std::sync::Arc::clone(world));
    let base = match &aws.base {
        AwsBase::Keys(keys) => credentials(keys),
        AwsBase::Chain => chain(aws, &connections).await?,
        AwsBase::Web { role, token } => {
            let token = oidc::token(world, token).await?;
            let sts = sts(world, aws, &connections, None);
            let answer = sts
                .assume_role_with_web_identity()
                .role_arn(role)
                .role_session_name(&aws.session)
                .web_identity_token(token.expose())
                .send()
                .await
                .map_err(|error| refused(&error))?;
            given(answer.credentials)?
        }
    };
    let keys = match &aws.role {
        None => base,
        Some(role) => take(world, aws, role, &connections, base).await?,
    };
    let lifetime = keys.expiry().map(|expiry| {
        let left = expiry.duration_since(SystemTime::now());
        left.unwrap_or(Duration::ZERO)
    });
    Ok(Minted::new(keys.into(), lifetime))
}

/// Returns what AWS's SDKs would use in this process: variables, profiles, web identity, container and machine.
async fn chain(aws: &Aws, connections: &Connections) -> Result<Credentials, MintError> {
    let config = ProviderConfig::empty()
        .with_time_source(SystemTimeSource::new())
        .with_sleep_impl(TokioSleep::new())
        .with_http_client(connections.clone())
        .with_behavior_version(Some(BehaviorVersion::latest()));
    let chain = DefaultCredentialsChain::builder()
        .configure(config)
        .region(Region::new(aws.region.clone()))
        .build()
        .await;
    let keys = chain.provide_credentials().await;
    keys.map_err(|error| MintError::Aws(kind(&error).to_owned()))
}

async fn take(
    world: &World,
    aws: &Aws,
    role: &Role,
    connections: &Connections,
    base: Credentials,
) -> Result<Credentials, MintError> {
    let sts = sts(world, aws, connections, Some(base));
    let answer = sts
        .assume_role()
        .role_arn(&role.arn)
        .role_session_name(&aws.session)
        .set_external_id(role.external_id.clone())
        .send()
        .await
        .map_err(|error| refused(&error))?;
    given(answer.credentials)
}

/// Returns the token service of the region.
fn sts(
    world: &World,
    aws: &Aws,
    connections: &Connections,
    base: Option<Credentials>,
) -> aws_sdk_sts::Client {
    let endpoint = world.variable("AWS_ENDPOINT_URL_STS");
    let mut config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(aws.region.clone()))
        .http_client(connections.clone())
        .sleep_impl(TokioSleep::new())
        .time_source(SystemTimeSource::new());
    config.set_endpoint_url(endpoint);
    config.set_credentials_provider(base.map(SharedCredentialsProvider::new));
    aws_sdk_sts::Client::from_conf(config.build())
}

fn given(keys: Option<aws_sdk_sts::types::Credentials>) -> Result<Credentials, MintError> {
    let keys = keys.ok_or(MintError::Malformed("the answer holds no credentials"))?;
    let expiry = SystemTime::try_from(*keys.expiration()).ok();
    Ok(Credentials::new(
        keys.access_key_id,
        keys.secret_access_key,
        Some(keys.session_token),
        expiry,
        "tollgate",
    ))
}

/// Returns what a failure of the token service amounts to: its word, not its sentences.
fn refused<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> MintError {
    let word = match error {
        SdkError::ServiceError(error) => error.err().code().unwrap_or("no reason is given").to_owned(),
        SdkError::TimeoutError(_) => return MintError::Timeout,
        SdkError::DispatchFailure(_) => "the token service cannot be called".to_owned(),
        SdkError::ResponseError(_) => "the token service's answer cannot be read".to_owned(),
        _ => "the call to the token service cannot be made".to_owned(),
    };
    MintError::Aws(word)
}

fn kind(error: &CredentialsError) -> &'static str {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => "the default chain finds no credentials",
        CredentialsError::ProviderTimedOut(_) => "the default chain took too long",
        CredentialsError::InvalidConfiguration(_) => "the default chain is not configured as it must be",
        CredentialsError::ProviderError(_) => "a source of the default chain failed",
        _ => "the default chain failed",
    }
}
