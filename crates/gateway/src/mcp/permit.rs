//! What whoever calls may use: rules of the route, held against calls and against what lists show.

use config::mcp_route::Backend;
use http::{HeaderValue, StatusCode, header};
use mcp::{List, RpcError, error};
use policy::tools::{Asked, Verdict, What};
use serde_json::{Value, json, value::RawValue};

use super::{refused::Refused, turn::Turn};

impl Turn {
    /// Checks that `what` of `backend` may be used by `method`, with these parameters.
    ///
    /// # Errors
    /// A 403, which says what scopes would do.
    pub(super) fn permit(
        &self,
        method: &str,
        backend: &Backend,
        what: What<'_>,
        params: Option<&RawValue>,
    ) -> Result<(), Box<Refused>> {
        let Some(rules) = &self.route.access.rules else {
            return Ok(());
        };
        let read = params.and_then(|params| serde_json::from_str(params.get()).ok());
        let read: Value = read.unwrap_or_default();
        let verdict = rules.decide(&self.asked(method, backend, what, Some(&read)));
        self.metrics().decided(verdict == Verdict::Allowed);
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Denied(scopes) => {
                tracing::debug!(route = %self.route.id, backend = %backend.name, method, "a call was not permitted");
                let mut refused = denied();
                if !scopes.is_empty()
                    && let Ok(step_up) = HeaderValue::try_from(self.route.access.step_up(&scopes))
                {
                    refused.headers.insert(header::WWW_AUTHENTICATE, step_up);
                }
                Err(refused)
            }
        }
    }

    /// Returns whether a list shows what `backend` calls `own`.
    pub(super) fn shows(&self, list: List, backend: &Backend, own: &str) -> bool {
        if !backend.offer.allows(list, own) {
            return false;
        }
        let Some(rules) = &self.route.access.rules else {
            return true;
        };
        let (method, what) = match list {
            List::Tools => ("tools/call", What::Tool(own)),
            List::Prompts => ("prompts/get", What::Prompt(own)),
            List::Resources | List::Templates => ("resources/read", What::Resource(own)),
        };
        rules.decide(&self.asked(method, backend, what, None)) == Verdict::Allowed
    }

    /// Returns whether whoever calls has a session with `backend`, if it is opened now.
    pub(super) fn selects(&self, backend: &Backend) -> bool {
        let selector = self.route.access.selector.as_ref();
        selector.is_none_or(|selector| {
            selector.selects(&self.asked("", backend, What::Server, Some(&Value::Null)))
        })
    }

    /// Returns whether `backend` is of the session still, where that is asked for every request.
    pub(super) fn keeps(&self, backend: &Backend) -> bool {
        let selector = self.route.access.selector.as_ref();
        !selector.is_some_and(|selector| selector.per_request) || self.selects(backend)
    }

    fn asked<'a>(
        &'a self,
        method: &'a str,
        backend: &'a Backend,
        what: What<'a>,
        params: Option<&'a Value>,
    ) -> Asked<'a> {
        Asked {
            caller: self.who.caller(),
            request: self.who.request(&self.route, &self.headers),
            method,
            backend: &backend.name,
            what,
            params,
        }
    }
}

/// Returns the refusal of what may not be done.
pub(super) fn denied() -> Box<Refused> {
    let error = RpcError::new(error::SERVER, "access denied");
    Refused::new(
        StatusCode::FORBIDDEN,
        error.with_data(json!({ "reason": "access_denied" })),
    )
}
