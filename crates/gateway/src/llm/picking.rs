//! Asks the picker of a pool which endpoints serve a request, before anybody is called.
//!
//! The picker is shown the request as an endpoint would be sent it, but for the credential, with the model in the header
//! that routes know it by.

use std::{future::poll_fn, pin::Pin};

use bytes::Bytes;
use config::{
    router::MODEL_HEADER,
    snapshot::{Backend, Candidate, Picker, Rule},
};
use http::{HeaderName, HeaderValue, Method};
use http_body::Body as _;
use llm::{ApiError, ErrorKind, Target};
use tokio::time::Instant;

use super::{
    asked::Asked,
    attempt::{Attempt, MAX_REPLY},
};
use crate::{
    body::{self, Pieces},
    ctx::Ctx,
    facts::Verdict,
    picker::{self, Pick, Question},
    refusal::Refusal,
    upstream::Outgoing,
};

/// The largest form that a picker is shown.
const MAX_FORM: usize = MAX_REPLY;

/// Returns the one that serves `rule`, if its endpoints are named by a picker: a pool has a rule for itself.
pub(super) fn pooled(rule: &Rule) -> Option<(&Candidate, &Backend, &Picker)> {
    let mut candidates = rule.candidates.iter().filter(|candidate| candidate.weight > 0);
    candidates.find_map(|candidate| {
        let backend = candidate.backend.as_ref().ok()?;
        Some((candidate, &**backend, backend.picker.as_deref()?))
    })
}

/// Asks `picker` where the request of `attempt` goes.
///
/// # Errors
/// If the request cannot be said, or nobody says where it goes.
pub(super) async fn pick(
    ctx: &mut Ctx,
    attempt: &Attempt<'_>,
    (backend, picker): (&Backend, &Picker),
    deadline: Instant,
) -> Result<Pick, Box<Refusal>> {
    let model = attempt
        .candidate
        .model
        .as_deref()
        .unwrap_or(attempt.asked.model());
    let target = Target {
        provider: backend.provider,
        site: &backend.site,
        model,
        now: u64::try_from(ctx.facts.began.as_second()).unwrap_or_default(),
    };
    if let Asked::Form(upload) = attempt.asked {
        // Whoever is named next is sent it again.
        upload.hold(MAX_FORM).await?;
    }
    let said = attempt.asked.say(&target, attempt.headers)?;
    let host = host(ctx);
    let request = attempt.request(ctx, &host, said.head, said.payload);
    let (request, held) = request.map_err(|refused| refused.error)?;
    let (head, body) = request.into_parts();
    let body = match held {
        Some(body) => body,
        None => gathered(body).await?,
    };
    let mut headers = head.headers;
    if let Ok(model) = HeaderValue::from_str(model) {
        headers.insert(HeaderName::from_static(MODEL_HEADER), model);
    }
    let question = Question {
        method: &Method::POST,
        target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
        scheme: if ctx.is_secured() { "https" } else { "http" },
        headers: &headers,
        body,
    };
    let picked = Box::pin(picker::pick(ctx, backend, picker, question, deadline)).await;
    picked.map_err(|failed| {
        ctx.facts.verdict = Some(Verdict::Ours("picker"));
        let error = ApiError {
            status: failed.status(deadline),
            ..ApiError::new(ErrorKind::Unavailable, failed.to_string())
        };
        error.into()
    })
}

/// Returns a form that is held, as it is sent.
async fn gathered(mut form: Outgoing) -> Result<Bytes, ApiError> {
    let mut read = Pieces::default();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut form).poll_frame(cx)).await {
        let frame = frame.map_err(|error| ApiError::invalid(error.to_string()))?;
        let data = frame.into_data().unwrap_or_default();
        if read.len() + data.len() > MAX_FORM {
            return Err(body::too_large(MAX_FORM));
        }
        read.push(data);
    }
    Ok(read.join())
}

/// Returns whom the client asks: endpoints of a pool see that.
pub(super) fn host(ctx: &Ctx) -> HeaderValue {
    HeaderValue::from_str(&ctx.facts.host).unwrap_or(HeaderValue::from_static("invalid"))
}
