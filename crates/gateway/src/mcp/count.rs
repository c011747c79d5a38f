//! What is counted of requests, read from what their answers say.

use std::{sync::Arc, time::Duration};

use config::mcp_route::Backend;
use mcp::{List, Method, Outcome, Request, Response, Session, json::Object, modern, name};
use tokio::time::Instant;

use super::{
    answering::Followed,
    call::{Failure, Fault, is_modern},
    initialize::Opened,
    outlet::Said,
    turn::Turn,
};
use crate::telemetry::tools::{Counting, Ended, UNSUPPORTED_RESPONSE};

/// The longest answer that is looked at for whether it says that a tool has failed: such answers are short.
const MAX_FAILURE: usize = 64 * 1024;

impl Turn {
    /// Returns what counts what becomes of requests.
    pub(super) fn metrics(&self) -> Counting<'_> {
        self.runtime.metrics.tools.of(&self.mapped)
    }

    /// Counts a request that was answered.
    pub(super) fn count(&self, method: Method, request: &Request, said: &Said, began: Instant) {
        let elapsed = began.elapsed();
        // What all are asked for is timed for each of them.
        let of_one = match method {
            Method::Initialize | Method::List(_) | Method::SetLevel | Method::Discover | Method::Listen => {
                None
            }
            Method::Ping | Method::Named(_) | Method::Resource(_) | Method::Complete => Some(elapsed),
        };
        let backend = self.meant(method, request).map(|backend| &backend.name);
        let ended = ended(method, said);
        let metrics = self.metrics();
        metrics.request(&request.method, backend, ended, of_one);
        metrics.served(&request.method, self.session.version.name(), ended, elapsed);
        self.account.note(|account| {
            account.end(ended, said.document.as_deref());
            if let (None, Some(backend)) = (account.backend(), backend) {
                account.meant = Some(Arc::clone(backend));
            }
        });
    }

    /// Times what one backend was asked.
    pub(super) fn count_asked(
        &self,
        method: &str,
        backend: &Backend,
        outcome: &Result<Followed, Failure>,
        elapsed: Duration,
    ) {
        let error = match outcome {
            Ok(Followed::Answer(Response { outcome, .. }, _)) => match outcome {
                Outcome::Result(_) => None,
                Outcome::Error(error) => Ended::Error(modern::code(error).unwrap_or_default()).error(),
            },
            Ok(Followed::Later | Followed::Asks(..)) => None,
            Err(failure) => Some(failure.kind()),
        };
        self.metrics().asked(method, &backend.name, error, elapsed);
    }

    /// Counts what came of one backend's part of a list.
    pub(super) fn count_part<T>(
        &self,
        list: List,
        backend: &Backend,
        outcome: &Result<T, Failure>,
        elapsed: Duration,
    ) {
        let kind = outcome.as_ref().err().map(Failure::kind);
        self.metrics().asked(list.method(), &backend.name, kind, elapsed);
        let error = outcome.as_ref().err().map(|failure| match failure.fault {
            Fault::BadReply => UNSUPPORTED_RESPONSE,
            Fault::Unreachable
            | Fault::Timeout
            | Fault::Status(_)
            | Fault::Broken
            | Fault::Overflow
            | Fault::Credential => "internal_error",
        });
        self.metrics().part(&backend.name, error, elapsed);
        if let Err(failure) = outcome {
            self.count_failure("list", failure);
        }
    }

    /// Counts what came of opening a session with a backend.
    pub(super) fn count_opened(
        &self,
        backend: &Backend,
        opened: &Result<Opened, Failure>,
        elapsed: Duration,
    ) {
        let kind = opened.as_ref().err().map(Failure::kind);
        let modern = opened.as_ref().is_ok_and(|opened| is_modern(Some(&opened.entry)));
        let method = if modern { "server/discover" } else { "initialize" };
        self.metrics().asked(method, &backend.name, kind, elapsed);
        match opened {
            Ok(opened) => {
                let capabilities = opened.entry.capabilities;
                let result = Object::parse(&opened.result);
                let said = result.as_ref().and_then(|result| result.object("capabilities"));
                let own = said.as_ref().and_then(|said| said.object("experimental"));
                let experimental = own.map_or(0, |own| own.members().count());
                let metrics = self.metrics();
                metrics.opened(&backend.name, capabilities, experimental, elapsed);
            }
            Err(failure) => self.count_failure("initialize", failure),
        }
    }

    /// Counts a call that came to nothing.
    pub(super) fn count_failure(&self, phase: &'static str, failure: &Failure) {
        self.metrics().failed(&failure.backend, phase, failure.kind());
    }

    /// Counts what the client of a session that is opened can do.
    pub(super) fn count_client(&self, session: &Session) {
        let Ok(capabilities) = serde_json::from_str::<serde_json::Value>(&session.client.capabilities) else {
            return;
        };
        let kinds = ["sampling", "elicitation"].into_iter().filter_map(|kind| {
            capabilities.get(kind)?;
            Some((kind, 1))
        });
        let changes = capabilities
            .get("roots")
            .and_then(|roots| roots.get("listChanged"));
        let roots = changes
            .is_some_and(|changes| *changes == true)
            .then_some(("roots", 1));
        let experimental = capabilities
            .get("experimental")
            .and_then(serde_json::Value::as_object);
        let experimental = experimental.map(|own| ("experimental", own.len() as u64));
        self.metrics().client(kinds.chain(roots).chain(experimental));
    }

    /// Returns the one backend that a request names, as far as its name says so.
    fn meant(&self, method: Method, request: &Request) -> Option<&Backend> {
        let named = match method {
            Method::Named(_) => "name",
            Method::Resource(_) => "uri",
            Method::Complete => "ref",
            Method::Initialize
            | Method::Ping
            | Method::List(_)
            | Method::SetLevel
            | Method::Discover
            | Method::Listen => return None,
        };
        if let [only] = self.route.backends.as_slice() {
            return Some(only);
        }
        let params = request.object()?;
        let reference = params.object(named);
        let object = reference.as_ref().unwrap_or(&params);
        let by_name = object.text("name");
        let by_name = by_name
            .as_deref()
            .and_then(name::split)
            .map(|(backend, _)| backend.to_owned());
        let by_uri = object.text("uri");
        let by_uri = || Some(name::split_uri(by_uri.as_deref()?)?.0.to_owned());
        let place = self.route.called(&by_name.or_else(by_uri)?)?;
        self.route.backends.get(place)
    }
}

fn ended(method: Method, said: &Said) -> Ended {
    let short = said
        .document
        .as_deref()
        .filter(|document| document.get().len() <= MAX_FAILURE);
    let Some(answer) = short.and_then(Object::parse) else {
        return Ended::Success;
    };
    if let Some(error) = answer.object("error") {
        let code = error.get("code").and_then(|code| code.get().parse().ok());
        return Ended::Error(code.unwrap_or_default());
    }
    let failed = || {
        let result = answer.get("result")?;
        // Nearly none says so, which is told sooner than by reading all that it says.
        let says = result.get().contains("isError").then(|| Object::parse(result));
        Some(says??.get("isError")?.get() == "true")
    };
    if matches!(method, Method::Named(_)) && failed().unwrap_or_default() {
        let validating = answer
            .get("result")
            .is_some_and(|result| result.get().contains("validating"));
        return Ended::Failed(validating);
    }
    Ended::Success
}
