//! Calls to backends that came to nothing, as the client is told of them.

use http::{HeaderValue, StatusCode, header};
use mcp::{RpcError, error, session::Owner};
use serde_json::json;

use super::{
    call::{Failure, Fault, demands_login},
    refused::Refused,
    turn::Turn,
};

impl Turn {
    /// Returns the refusal of a call that came to nothing, which is counted.
    pub(super) fn failed(&self, failure: Failure) -> Box<Refused> {
        self.count_failure("call", &failure);
        let demand = self.demand(&failure);
        demanding(demand, failure.into())
    }

    /// Returns the refusal where no backend, or not every one that is needed, could be spoken with.
    pub(super) fn none_opened(&self, failures: &[Failure]) -> Box<Refused> {
        let reasons: Vec<_> = failures
            .iter()
            .map(|failure| json!({ "backend": &*failure.backend, "reason": failure.reason }))
            .collect();
        let error = RpcError::new(error::SERVER, "no session could be opened");
        let cause = failures
            .first()
            .map_or("no backend", |failure| failure.reason.as_str());
        let plain = format!("failed to create new session: {cause}");
        let refused = Refused::new(
            StatusCode::BAD_GATEWAY,
            error.with_data(json!({ "backends": reasons })),
        );
        let refused = refused.plainly(StatusCode::INTERNAL_SERVER_ERROR, plain);
        let demand = failures.iter().find_map(|failure| self.demand(failure));
        demanding(demand, refused)
    }

    /// Returns what the only backend demands of whoever calls. Where nobody else asks who that is, it is the client's
    /// business.
    fn demand(&self, failure: &Failure) -> Option<(StatusCode, HeaderValue)> {
        let Fault::Status(status) = failure.fault else {
            return None;
        };
        let [only] = self.route.backends.as_slice() else {
            return None;
        };
        let alone = !only.is_shown_token()
            && self.route.access.login.is_none()
            && matches!(self.session.owner, Owner::Anyone);
        let challenge = failure.challenge.clone()?;
        (alone && demands_login(status)).then_some((status, challenge))
    }
}

fn demanding(demand: Option<(StatusCode, HeaderValue)>, mut refused: Box<Refused>) -> Box<Refused> {
    if let Some((status, challenge)) = demand {
        refused.status = status;
        refused.headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    refused
}
