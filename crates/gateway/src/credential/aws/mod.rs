//! Calls to AWS carry a signature in place of a key.
//!
//! `sign` makes it, `source` says where the keys come from, `sdk` lets AWS's own crates call through our
//! connections.

mod sdk;
mod sign;
mod source;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use config::credential::{Aws, AwsBase, AwsKeys, Signature};
use http::{HeaderMap, header};

use super::{
    Call, CredentialError, World,
    refresh::{Minted, Refresher, Standing, Unavailable},
};

/// Clocks that differ by less are not the reason why a signature is refused, for which AWS allows 5 minutes.
const MAX_SKEW: u64 = 240;

/// Signs calls.
pub(crate) struct Signer {
    source: Origin,
    /// Seconds that the upstream's clock is ahead of ours, as far as it differs too much.
    skew: AtomicI64,
}

/// Where the keys of a signer come from.
enum Origin {
    /// Each request brings them.
    Requests,
    /// They were declared.
    Declared(Identity),
    /// They are kept fresh.
    Kept(Box<Refresher<Identity>>),
}

/// Keys, fit for signing.
pub(super) enum Keys {
    Fixed(Identity),
    Kept(Arc<Minted<Identity>>),
}

/// How a call was signed.
pub(crate) struct Signed {
    minted: Option<Arc<Minted<Identity>>>,
    skew: i64,
}

impl Signer {
    /// Returns what signs calls with the credentials of `aws`.
    pub(super) fn start(policy: Arc<str>, aws: Option<&Aws>, world: &Arc<World>) -> Self {
        let source = match aws {
            None => Origin::Requests,
            Some(Aws {
                base: AwsBase::Keys(keys),
                role: None,
                ..
            }) => Origin::Declared(identity(keys)),
            Some(aws) => {
                let (aws, world) = (Arc::new(aws.clone()), Arc::clone(world));
                let refreshes = world.refreshes.clone();
                Origin::Kept(Box::new(Refresher::start(policy, refreshes, move || {
                    let (aws, world) = (Arc::clone(&aws), Arc::clone(&world));
                    async move { source::mint(&world, &aws).await }
                })))
            }
        };
        Self {
            source,
            skew: AtomicI64::new(0),
        }
    }

    /// Returns the keys to sign with.
    pub(super) async fn identity(&self) -> Result<Keys, Unavailable> {
        match &self.source {
            Origin::Requests => Err(Unavailable::none()),
            Origin::Declared(identity) => Ok(Keys::Fixed(identity.clone())),
            Origin::Kept(refresher) => refresher.get().await.map(Keys::Kept),
        }
    }

    /// Returns how the keys stand; `None` where nothing is kept fresh.
    pub(super) fn standing(&self) -> Option<Standing> {
        match &self.source {
            Origin::Requests | Origin::Declared(_) => None,
            Origin::Kept(refresher) => Some(refresher.standing()),
        }
    }

    /// Puts a signature on `call`.
    pub(super) fn sign(
        &self,
        signature: &Signature,
        keys: Keys,
        call: &mut Call<'_>,
    ) -> Result<Signed, CredentialError> {
        let skew = self.skew.load(Ordering::Relaxed);
        let now = shifted(SystemTime::now(), skew);
        let (identity, minted) = match &keys {
            Keys::Fixed(identity) => (identity, None),
            Keys::Kept(minted) => (&minted.value, Some(Arc::clone(minted))),
        };
        sign::sign(signature, identity, now, call)?;
        Ok(Signed { minted, skew })
    }

    /// Learns from a refusal: that our clock is wrong, or that the keys are no longer good.
    pub(super) async fn learn(&self, signed: &Signed, headers: &HeaderMap) -> bool {
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
        if let Some(theirs) = theirs {
            let ours = SystemTime::now();
            let wrong = difference(theirs, shifted(ours, signed.skew));
            if wrong.unsigned_abs() > MAX_SKEW {
                let skew = difference(theirs, ours);
                tracing::warn!(seconds = skew, "the clock differs from that of AWS");
                self.skew.store(skew, Ordering::Relaxed);
                return true;
            }
        }
        match (&self.source, &signed.minted) {
            (Origin::Kept(refresher), Some(minted)) => refresher.suspect(minted).await,
            (Origin::Requests | Origin::Declared(_) | Origin::Kept(_), _) => false,
        }
    }
}

impl Keys {
    /// Returns the keys that a request brought.
    pub(super) fn brought(keys: &AwsKeys) -> Self {
        Self::Fixed(identity(keys))
    }
}

fn identity(keys: &AwsKeys) -> Identity {
    credentials(keys).into()
}

fn credentials(keys: &AwsKeys) -> Credentials {
    let session = keys.session.as_ref().map(|session| session.expose().to_owned());
    Credentials::new(keys.id.as_str(), keys.secret.expose(), session, None, "tollgate")
}

fn shifted(time: SystemTime, seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let shifted = if seconds < 0 {
        time.checked_sub(by)
    } else {
        time.checked_add(by)
    };
    shifted.unwrap_or(time)
}

/// Returns the seconds from `earlier` to `later`.
fn difference(later: SystemTime, earlier: SystemTime) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match later.duration_since(earlier) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    }
}
