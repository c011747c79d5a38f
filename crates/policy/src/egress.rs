//! What policies need of the outside. Whoever runs them serves it; a policy does no IO of its own.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};

use crate::jwt::KeySet;

/// A future that is made behind a trait.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The outside, as policies see it.
pub trait Egress: Send + Sync {
    /// Sends `request` to the service called `to` and returns its whole answer, within `limit`. What comes after the
    /// body is among its headers.
    fn call<'a>(
        &'a self,
        to: &'a str,
        request: Request<Bytes>,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Response<Bytes>, EgressError>>;

    /// Returns the keys at `place`, which are fetched ahead of time. With `anew` they are fetched again where
    /// that has not just been done: a token was signed with a key that is not among them.
    fn keys<'a>(&'a self, place: &'a Remote, anew: bool) -> BoxFuture<'a, Result<Arc<KeySet>, KeysError>>;
}

/// Where keys are fetched.
///
/// Where `issuer` is set, the address is that of an authorization server, whose metadata name the keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// The service that has them.
    pub service: Arc<str>,
    /// Their address.
    pub uri: Uri,
    /// How long they may be used; what the answer says by default.
    pub keep: Option<Duration>,
    /// What the authorization server calls itself, if it is one.
    pub issuer: Option<Arc<str>>,
}

/// A service did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// There is no such service.
    #[error("the service is not known")]
    Unknown,
    /// It cannot be reached, or broke off.
    #[error("the service cannot be asked: {0}")]
    Failed(String),
    /// It took too long.
    #[error("the service did not answer in time")]
    Timeout,
    /// Its answer is too large.
    #[error("the answer exceeds {0} bytes")]
    TooLarge(usize),
}

/// There are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keys are not available")]
pub struct KeysError;
