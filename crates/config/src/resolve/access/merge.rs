//! A policy that is laid over a wider one (`mergeType`), member by member.
//!
//! What the narrower one says it says whole, but for `authorization`, whose rules and default are members of their own:
//! a default alone must not take away the rules of the wider one. They are laid over one another as they were resolved,
//! so that each refers to what lies in its own namespace.

use std::sync::Arc;

use policy::{Authenticate, Authorize, Policies};

/// Returns what `above` and `below` demand together; `says_default` tells whether the former says what is done where none
/// of its rules matches.
pub(super) fn laid_over(above: &Policies, says_default: bool, below: &Policies) -> Policies {
    let id: Arc<str> = Arc::from(format!("{}+{}", above.id, below.id));
    if let Some(reason) = above.broken.as_ref().or(below.broken.as_ref()) {
        return Policies::broken(id, reason.as_str());
    }
    let (calls, otherwise) = (&above.authenticate, &below.authenticate);
    Policies {
        id,
        broken: None,
        cors: above.cors.clone().or_else(|| below.cors.clone()),
        ext_auth: above.ext_auth.clone().or_else(|| below.ext_auth.clone()),
        authenticate: Authenticate {
            api_key: calls.api_key.clone().or_else(|| otherwise.api_key.clone()),
            basic: calls.basic.clone().or_else(|| otherwise.basic.clone()),
            jwt: calls.jwt.clone().or_else(|| otherwise.jwt.clone()),
        },
        authorize: match (&above.authorize, &below.authorize) {
            (Some(above), Some(below)) => Some(Authorize {
                rules: if above.rules.is_empty() {
                    below.rules.clone()
                } else {
                    above.rules.clone()
                },
                otherwise: if says_default {
                    above.otherwise
                } else {
                    below.otherwise
                },
            }),
            (above, below) => above.clone().or_else(|| below.clone()),
        },
    }
}
