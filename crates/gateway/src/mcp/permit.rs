//! What whoever calls may use: rules of the route, held against calls and against what lists show.

use config::mcp_route::Backend;
use http::{HeaderValue, StatusCode, header};
use mcp::{List, Request, RpcError, error, json::value};
use policy::tools::{Asked, Rules, Verdict, What};
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
        match &self.route.access.rules {
            None => Ok(()),
            Some(rules) => self.judge(rules, method, &backend.name, what, params),
        }
    }

    /// Checks that a request may be made that is about nothing of a server's.
    ///
    /// # Errors
    /// As above.
    pub(super) fn admits(&self, request: &Request) -> Result<(), Box<Refused>> {
        let rules = self.route.access.rules.as_ref();
        match rules.filter(|rules| rules.name(&request.method)) {
            None => Ok(()),
            Some(rules) => self.judge(
                rules,
                &request.method,
                "",
                What::Server,
                request.params.as_deref(),
            ),
        }
    }

    fn judge(
        &self,
        rules: &Rules,
        method: &str,
        backend: &str,
        what: What<'_>,
        params: Option<&RawValue>,
    ) -> Result<(), Box<Refused>> {
        let read = match params.filter(|_| rules.read_params()) {
            None => Value::Null,
            Some(params) => value(params).ok_or_else(|| Refused::params("invalid params"))?,
        };
        let verdict = rules.decide(&self.asked(method, backend, what, Some(&read)));
        self.metrics().decided(verdict == Verdict::Allowed);
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Denied(scopes) => {
                tracing::debug!(route = %self.route.id, backend, method, "a call was not permitted");
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
        rules.decide(&self.asked(method, &backend.name, what, None)) == Verdict::Allowed
    }

    /// Returns whether whoever calls has a session with `backend`, if it is opened now.
    pub(super) fn selects(&self, backend: &Backend) -> bool {
        let selector = self.route.access.selector.as_ref();
        selector.is_none_or(|selector| {
            selector.selects(&self.asked("", &backend.name, What::Server, Some(&Value::Null)))
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
        backend: &'a str,
        what: What<'a>,
        params: Option<&'a Value>,
    ) -> Asked<'a> {
        Asked {
            caller: self.who.caller(),
            request: self.who.request(&self.route, &self.headers),
            method,
            backend,
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
