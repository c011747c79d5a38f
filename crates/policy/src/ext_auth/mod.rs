//! A service that decides about each request, asked over HTTP or by gRPC.
//!
//! It is asked before anything else is found out about the caller, as the reference asks it, so that what it puts into
//! a request counts for everything that comes later. Where it cannot be asked nobody is let in, unless the policy says
//! otherwise.

mod edit;
mod grpc;
mod over_http;

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request::Parts};
use llm::{ApiError, ErrorKind};
use serde_json::{Map, Value, json};

pub use grpc::{Answer, Decision};

use self::edit::Edit;
use crate::{EgressError, Place, PolicyCtx, Refusal, header_edit::HeaderEdit, protobuf::Malformed};

/// Who says of a request what a service has said of it.
pub const NAMESPACE: &str = "envoy.filters.http.ext_authz";

/// A service that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtAuth {
    /// What the outside calls it.
    pub service: Arc<str>,
    /// How it is asked.
    pub protocol: Protocol,
    /// The client's headers that it is shown, beside those that it always is.
    pub shown: Shown,
    /// How much of the body it is shown; a longer one is refused. None is shown if `None`.
    pub body: Option<usize>,
    /// Whether a request is let in where the service cannot be asked.
    pub fail_open: bool,
    /// The status where it cannot be asked and that is not so.
    pub status_on_error: StatusCode,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether the route is chosen by its headers too.
    pub recompute_route: bool,
    /// Whether it is told by gRPC where the rule was declared that a request is for.
    pub tells_rule: bool,
}

/// How a service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// With a request like the client's; status 200 lets it in.
    Http {
        /// What stands before the path.
        path: String,
        /// Headers of its answer that upstreams are sent; a client's own are taken off.
        to_upstream: Vec<HeaderName>,
    },
    /// By `envoy.service.auth.v3.Authorization/Check`.
    Grpc {
        /// What it is told beside the request.
        extensions: Extensions,
    },
}

/// What a service is told beside a request, by name. Debug shows no values, which may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Extensions(pub BTreeMap<String, String>);

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Headers that a service is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All.
    All,
    /// These.
    These(Vec<HeaderName>),
}

/// What a service is told of a request.
struct Asked<'a> {
    head: &'a Parts,
    client: IpAddr,
    id: &'a str,
    scheme: &'static str,
    body: &'a Bytes,
    rule: Option<Place<'a>>,
}

/// What a service has decided.
#[derive(Debug)]
enum Verdict {
    /// The request is let in.
    In(Pass),
    /// It is not: the answer for the client.
    Out(Box<Refusal>),
}

/// How a request is let in.
#[derive(Debug, Default)]
struct Pass {
    /// Changes of the request, in their order.
    edits: Vec<Edit>,
    /// Headers for the answer.
    response: Vec<(HeaderName, HeaderValue)>,
    /// What the service says of the request, for policies that come later.
    metadata: Map<String, Value>,
}

/// A service has not decided.
#[derive(Debug, thiserror::Error)]
enum NoVerdict {
    /// It did not answer.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// Its answer is none that can be understood.
    #[error("the service answered with {0}")]
    Answer(String),
}

impl From<Malformed> for NoVerdict {
    fn from(malformed: Malformed) -> Self {
        NoVerdict::Answer(malformed.to_string())
    }
}

impl ExtAuth {
    /// Asks the service about a request, whose `body` is looked at where the service is to be shown it; changes the
    /// request as the service wishes.
    ///
    /// # Errors
    /// What the service says; the status for errors if it says nothing.
    pub async fn check(
        &self,
        ctx: &mut PolicyCtx<'_>,
        head: &mut Parts,
        body: &Bytes,
    ) -> Result<(), Box<Refusal>> {
        let asked = Asked {
            head,
            client: ctx.client,
            id: ctx.request_id,
            scheme: if ctx.secured { "https" } else { "http" },
            body,
            rule: ctx.rule.filter(|_| self.tells_rule),
        };
        let verdict = match &self.protocol {
            Protocol::Http { path, to_upstream } => {
                self.ask_http(ctx.egress, path, to_upstream, &asked).await
            }
            Protocol::Grpc { extensions } => self.ask_grpc(ctx.egress, extensions, &asked).await,
        };
        let pass = match verdict {
            Ok(Verdict::In(pass)) => pass,
            Ok(Verdict::Out(refusal)) => return Err(refusal),
            Err(error) => {
                ctx.trouble = Some(error.to_string());
                if !self.fail_open {
                    return Err(self.unasked());
                }
                // Nobody has vouched for what a client says in these headers.
                Pass {
                    edits: self
                        .vouched_for()
                        .iter()
                        .cloned()
                        .map(HeaderEdit::Remove)
                        .map(Edit::Header)
                        .collect(),
                    ..Pass::default()
                }
            }
        };
        for edit in &pass.edits {
            edit.apply(head);
        }
        for (name, value) in pass.response {
            ctx.response.append(name, value);
        }
        if !pass.metadata.is_empty() {
            ctx.metadata
                .insert(NAMESPACE.to_owned(), Value::Object(pass.metadata));
        }
        Ok(())
    }

    /// Returns what is declared.
    pub fn dump(&self) -> Value {
        let names = |names: &[HeaderName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let protocol = match &self.protocol {
            Protocol::Http { path, to_upstream } => {
                json!({ "http": { "path": path, "headersToBackend": names(to_upstream) } })
            }
            Protocol::Grpc { extensions } => {
                json!({ "grpc": { "contextExtensions": extensions.0.keys().collect::<Vec<_>>() } })
            }
        };
        json!({
            "service": self.service,
            "protocol": protocol,
            "headersToExtAuth": match &self.shown {
                Shown::All => json!("all"),
                Shown::These(shown) => json!(names(shown)),
            },
            "bodyToExtAuth": self.body,
            "failOpen": self.fail_open,
            "statusOnError": self.status_on_error.as_u16(),
            "timeout": self.timeout.as_secs_f64(),
            "recomputeRoute": self.recompute_route,
            "includeRouteMetadata": self.tells_rule,
        })
    }

    fn vouched_for(&self) -> &[HeaderName] {
        match &self.protocol {
            Protocol::Http { to_upstream, .. } => to_upstream,
            Protocol::Grpc { .. } => &[],
        }
    }

    /// Returns the refusal where the service has not decided. Why is the operator's to know.
    fn unasked(&self) -> Box<Refusal> {
        let status = self.status_on_error;
        let message = "the authorization service has not decided";
        let mut refusal = Refusal::new(ErrorKind::of_status(status), message);
        refusal.error.status = status;
        refusal.error.code = Some("authorization_unavailable".to_owned());
        refusal
    }
}

/// Returns the refusal that a service has written. Without a document the client is told in its own dialect.
fn denial(status: StatusCode, headers: HeaderMap, document: Bytes) -> Box<Refusal> {
    Box::new(Refusal {
        error: ApiError {
            status,
            ..ApiError::new(ErrorKind::of_status(status), "access denied")
        },
        headers,
        document: Some(document).filter(|document| !document.is_empty()),
    })
}

/// Says that the body is shown whole, if it is, as the reference does.
const PARTIAL_BODY: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");
