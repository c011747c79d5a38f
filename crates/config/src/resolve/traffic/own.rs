//! What the rules of HTTPRoutes say themselves of their upstreams, laid over what a policy says.

use std::sync::Arc;

use http::HeaderName;
use policy::traffic::{Retry, Session, Traffic, balance, retry::Trigger, session::Carrier};

use super::{annotated::Annotated, settings};
use crate::{
    Key,
    kind::{
        BackendTrafficPolicy,
        http_route::{self, CookieLifetime, Rule, SessionKind, SessionPersistence},
    },
};

/// What a rule says itself of its upstreams.
#[derive(Clone, Debug, Default)]
pub(in crate::resolve) struct Own {
    retry: Option<Retry>,
    session: Option<Session>,
}

impl Own {
    /// Returns what the rule at `index` of the HTTPRoute `key` says.
    pub(in crate::resolve) fn of(key: &Key, index: usize, rule: &Rule) -> Self {
        let session = rule.session_persistence.as_ref();
        Self {
            retry: rule.retry.as_ref().map(retry),
            session: session.and_then(|own| bound(own, key, index)),
        }
    }

    /// Returns how the rule's upstreams are treated where a policy says `traffic`; `None` where nobody says anything.
    ///
    /// A plain request may change something with every attempt: there is one, unless somebody says otherwise.
    pub(in crate::resolve) fn over(&self, traffic: Option<Arc<Traffic>>) -> Option<Arc<Traffic>> {
        let says = self.retry.is_some() || self.session.is_some();
        let mut traffic = match traffic {
            Some(traffic) => traffic,
            None if says => {
                let spec = BackendTrafficPolicy::default();
                Arc::new(settings::traffic(RULE.to_owned(), &spec, &Annotated::default()))
            }
            None => return None,
        };
        if says || traffic.retry.is_none() {
            let changed = Arc::make_mut(&mut traffic);
            let once = Retry {
                retries: 0,
                ..Retry::default()
            };
            let declared = self.retry.clone().or(changed.retry.take());
            changed.retry = Some(declared.unwrap_or(once));
            changed.session.clone_from(&self.session);
        }
        Some(traffic)
    }
}

fn retry(written: &http_route::Retry) -> Retry {
    let usual = Retry::default();
    let base = written.backoff.map_or(usual.base, |backoff| backoff.0);
    Retry {
        retries: written.attempts.unwrap_or(usual.retries),
        triggers: vec![
            Trigger::ConnectFailure,
            Trigger::RefusedStream,
            Trigger::Reset,
            Trigger::StatusCodes,
        ],
        statuses: written.codes.clone(),
        base,
        max: base.saturating_mul(10),
        ..usual
    }
}

fn bound(written: &SessionPersistence, key: &Key, index: usize) -> Option<Session> {
    let name = written.session_name.clone().unwrap_or_else(|| {
        let rule = format!("{key}/{index}");
        format!("tollgate-{:08x}", balance::hash(0, rule.as_bytes()) >> 32)
    });
    let lifetime = written.cookie_config.unwrap_or_default().lifetime_type;
    Some(Session {
        carrier: match written.kind {
            None | Some(SessionKind::Cookie) => Carrier::Cookie {
                name,
                permanent: lifetime == Some(CookieLifetime::Permanent),
            },
            Some(SessionKind::Header) => {
                let name = HeaderName::try_from(name.to_ascii_lowercase());
                Carrier::Header(name.ok()?)
            }
        },
        lasts: written.absolute_timeout.and_then(|timeout| timeout.limit()),
        idle: written.idle_timeout.and_then(|timeout| timeout.limit()),
    })
}

/// What stands for the name of a policy where a rule says everything itself.
const RULE: &str = "rule";
