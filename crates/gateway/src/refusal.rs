//! Answers, and the one place where a refusal becomes one, in the client's own format.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use llm::{ApiError, ErrorKind, Format, Losses};

use crate::{
    body::Body,
    ctx::Ctx,
    facts::{Facts, Verdict},
    headers,
    llm::reply::Stream,
    mcp,
    plain::{passing::Passing, tunnel::Tunnel},
    telemetry::error_type::{ErrorType, kind_name},
};

/// The longest list of losses that fits into a header.
const MAX_LOSS_HEADER: usize = 512;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A refusal, with what its upstream said in headers.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What the client is told.
    pub(crate) error: ApiError,
    /// Headers for the client.
    pub(crate) headers: HeaderMap,
    /// The document that is the answer, where somebody else has written it.
    pub(crate) document: Option<Bytes>,
}

/// An answer that is not dressed yet.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

/// The content of an answer.
pub(crate) enum Content {
    /// A document.
    Whole(Bytes),
    /// A stream that has been committed to.
    Stream(Box<Stream>),
    /// What MCP servers say.
    Mcp(Box<mcp::outlet::Stream>),
    /// A reply that is handed through.
    Passing(Box<Passing>),
    /// Another protocol, once the client has been told.
    Tunnel(Box<Tunnel>),
}

impl Refusal {
    /// Returns what an upstream's error says and a client of `dialect` is not told.
    fn untold(&self, dialect: Format) -> Losses {
        match (&self.document, &self.error.raw) {
            (None, Some(_)) => self.error.untold(&dialect.encode_error(&self.error)),
            (Some(_), _) | (None, None) => Losses::default(),
        }
    }
}

impl From<ApiError> for Box<Refusal> {
    fn from(error: ApiError) -> Self {
        Box::new(Refusal {
            error,
            headers: HeaderMap::new(),
            document: None,
        })
    }
}

impl From<Box<policy::Refusal>> for Box<Refusal> {
    fn from(refusal: Box<policy::Refusal>) -> Self {
        let policy::Refusal {
            error,
            headers,
            document,
        } = *refusal;
        Box::new(Refusal {
            error,
            headers,
            document,
        })
    }
}

impl Answer {
    /// Returns a document with status 200.
    pub(crate) fn json(body: Bytes) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, JSON);
        Self {
            status: StatusCode::OK,
            headers,
            content: Content::Whole(body),
        }
    }

    /// Returns an answer that says nothing, with status 200.
    pub(crate) fn empty() -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            content: Content::Whole(Bytes::new()),
        }
    }

    /// Returns `refusal` as a document in `dialect`.
    pub(crate) fn refused(refusal: Refusal, dialect: Format) -> Self {
        let Refusal {
            error,
            mut headers,
            document,
        } = refusal;
        if document.is_none() {
            headers.insert(header::CONTENT_TYPE, JSON);
        }
        if let Some(seconds) = error.retry_after {
            headers
                .entry(header::RETRY_AFTER)
                .or_insert(HeaderValue::from(seconds));
        }
        Self {
            status: error.status,
            headers,
            content: Content::Whole(document.unwrap_or_else(|| dialect.encode_error(&error))),
        }
    }
}

/// Returns the response to a request, with the facts inside.
pub(crate) fn respond(ctx: Ctx, answer: Result<Answer, Box<Refusal>>) -> Response<Body> {
    let Ctx {
        dialect,
        mut facts,
        access,
        connection,
        intake,
        ..
    } = ctx;
    if let Ok(Answer { status, content, .. }) = &answer
        && (status.is_client_error() || status.is_server_error())
        && matches!(content, Content::Whole(_))
        && facts.attempt.is_none()
    {
        let reason = kind_name(ErrorKind::of_status(*status));
        facts.runtime().metrics.own.refused(reason, *status);
    }
    let Answer {
        status,
        mut headers,
        content,
    } = answer.unwrap_or_else(|refusal| {
        let mut refusal = *refusal;
        facts.error = Some(match facts.verdict {
            Some(Verdict::Theirs) => ErrorType::upstreams(&refusal.error),
            Some(Verdict::Ours(_)) | None => ErrorType::own(&refusal.error),
        });
        if let Some(reason) = reason(&facts, &refusal.error) {
            facts.runtime().metrics.own.refused(reason, refusal.error.status);
        }
        if let Some(trail) = &mut facts.trail {
            trail.refused(&refusal.error);
        }
        if refusal.error.status == StatusCode::METHOD_NOT_ALLOWED
            && let Some(endpoint) = facts.endpoint
            && let Ok(allow) = HeaderValue::try_from(endpoint.allowed())
        {
            refusal.headers.insert(header::ALLOW, allow);
        }
        let untold = refusal.untold(dialect);
        facts.losses.extend(&untold);
        Answer::refused(refusal, dialect)
    });
    if let Some(access) = access {
        access.dress(&mut headers);
    }
    facts.status = status;
    headers.insert(headers::REQUEST_ID, facts.request_id.clone());
    if dialect == Format::Messages {
        let id = headers.entry(headers::ANTHROPIC_REQUEST_ID);
        id.or_insert_with(|| facts.request_id.clone());
    }
    if facts.tells_losses
        && let Some(losses) = loss_header(&facts.losses, dialect)
    {
        headers.insert(headers::LOSS, losses);
    }
    if facts.tells_attempts {
        headers.insert(headers::ATTEMPTS, HeaderValue::from(facts.attempts));
        let backend = facts.attempt.as_ref().map(|attempt| &*attempt.backend);
        if let Some(backend) = backend.and_then(|backend| HeaderValue::from_str(backend).ok()) {
            headers.insert(headers::BACKEND, backend);
        }
    }
    if let Some(intake) = &intake {
        intake.late.apply(&mut headers);
    }
    if let Some(details) = &mut facts.details {
        details.answered(&headers);
    }
    if let (Some(trace), Content::Whole(bytes)) = (&mut facts.trace, &content) {
        trace.answered(bytes);
    }
    let body = match content {
        Content::Whole(_) if facts.method == Method::HEAD => Body::whole(Bytes::new(), Some(facts)),
        Content::Whole(bytes) => Body::whole(bytes, Some(facts)),
        Content::Stream(stream) => Body::Streamed(Box::new(stream.with(facts))),
        Content::Mcp(stream) => Body::Mcp(Box::new(stream.with(facts))),
        Content::Passing(passing) => Body::Passing(Box::new(passing.with(facts))),
        Content::Tunnel(tunnel) => {
            connection.tunnel(tunnel.with(facts));
            Body::whole(Bytes::new(), None)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Returns why the gateway itself refuses a request; `None` if it repeats what an upstream has said.
fn reason(facts: &Facts, error: &ApiError) -> Option<&'static str> {
    match (facts.verdict, error.code.as_deref()) {
        (Some(Verdict::Theirs), _) => None,
        (Some(Verdict::Ours(cause)), _) => Some(cause),
        (None, Some("unknown_url")) => Some("unknown_path"),
        (None, Some("model_not_found")) => Some("unknown_model"),
        (None, _) => Some(kind_name(error.kind)),
    }
}

/// Returns the refusal of what has not been answered when the time to drain is over.
pub(crate) fn stopping() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the gateway is shutting down")
}

/// Returns the response where the facts were lost to a panic.
pub(crate) fn internal(dialect: Format) -> Response<Body> {
    let error = ApiError::new(ErrorKind::Internal, "the gateway failed on this request");
    let mut response = Response::new(Body::whole(dialect.encode_error(&error), None));
    *response.status_mut() = error.status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// Returns the client's names of what was lost, as many as fit.
fn loss_header(losses: &Losses, dialect: Format) -> Option<HeaderValue> {
    let mut text = String::new();
    for field in losses.names(dialect) {
        if text.len() + 2 + field.len() > MAX_LOSS_HEADER {
            break;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        // A client chooses the names of unknown members; not all of them can stand in a header.
        text.extend(
            field
                .chars()
                .map(|char| if char.is_ascii_graphic() { char } else { '?' }),
        );
    }
    HeaderValue::try_from(text).ok().filter(|value| !value.is_empty())
}
