//! Lets a request in, or not: runs the policies that guard it as early as it is known which those are.
//!
//! Where the same policies guard every rule of a host, they run before anything else is done. Where it depends
//! on the rule, and so on the model, they run once that is known, before anything is done for the request. A
//! request that nothing guards costs one look at a flag.

pub(crate) mod egress;
pub(crate) mod issuer;
pub(crate) mod keys;

use std::sync::Arc;

use bytes::Bytes;
use config::{router::Gate, snapshot::Rule};
use http::{HeaderMap, Method, header, request::Parts};
use llm::{ApiError, ErrorKind};
use policy::{Caller, Place, Policies, PolicyCtx};
use tracing::debug;

use self::egress::Outward;
use crate::{
    apart, body,
    ctx::Ctx,
    given::Given,
    llm::upload,
    refusal::{Answer, Content, Refusal},
};

/// How many policies are asked, at the most, about one list of models; what others guard is left out of it.
const MAX_ASKED: usize = 32;

/// How many rules a request may be led through by what policies tell.
const MAX_ROUTES: usize = 3;

/// Where the body of a request is, for policies that have to see it.
pub(crate) enum Shown<'a> {
    /// It may still be on its way, and is held once it was seen.
    Given(&'a mut Given),
    /// It has been read.
    Whole(&'a Bytes),
    /// It is a form of which the beginning has been read; what is seen of it is held.
    Form(&'a upload::Shared),
    /// The request has none that is looked at.
    Nothing,
}

/// The policies that a request has been held against.
pub(crate) struct Admitted {
    policies: Arc<Policies>,
    /// Whether they let it in.
    passed: bool,
    /// Who was verified.
    pub(crate) caller: Caller,
    /// Headers for the answer.
    response: HeaderMap,
}

/// Policies that have let a request in, and whom they took the caller for.
pub(crate) struct Passed {
    pub(crate) policies: Arc<Policies>,
    pub(crate) caller: Option<String>,
}

/// Answers a browser that asks whether a page may send a request; `None` if it does not ask, or the page may not.
///
/// Where the rule is known that would serve the request, it alone says so; which one serves a model is not known yet, so
/// that any of them may.
pub(crate) fn preflight(ctx: &Ctx, head: &Parts) -> Option<Answer> {
    if head.method != Method::OPTIONS {
        return None;
    }
    let meant = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let meant = Method::from_bytes(meant.as_bytes()).ok()?;
    let rule = ctx.plain(head, &meant);
    let policies = match &rule {
        Some(rule) => rule.policies.iter().collect(),
        None => ctx.listener()?.router.policies_of_models(&ctx.facts.host),
    };
    let cors = policies.iter().filter_map(|policies| policies.cors.as_ref());
    let (head, ()) = cors
        .filter_map(|cors| cors.preflight(&head.method, &head.headers))
        .next()?
        .into_parts();
    Some(Answer {
        status: head.status,
        headers: head.headers,
        content: Content::Whole(Bytes::new()),
    })
}

/// Runs the policies that guard every rule of the request's host, if they are the same for all.
///
/// # Errors
/// What the policies say.
pub(crate) async fn ahead(
    ctx: &mut Ctx,
    head: &mut Parts,
    shown: &mut Shown<'_>,
) -> Result<(), Box<Refusal>> {
    let gate = ctx
        .listener()
        .map(|listener| listener.router.gate(&ctx.facts.host));
    let Some(Gate::Same(policies)) = gate else {
        return Ok(());
    };
    if policies.tells_rule() {
        return Ok(());
    }
    let policies = Arc::clone(policies);
    // Whoever is refused is counted for what was asked.
    ctx.facts.endpoint = ctx.endpoint(head.uri.path());
    apart::begun(|| admit(ctx, (&policies, None), head, shown)).await
}

/// Runs the policies that would have run ahead but for telling of the rule: there is none for what was asked, which
/// nobody is to learn whom they do not let in.
///
/// # Errors
/// What the policies say.
async fn nowhere(ctx: &mut Ctx, head: &mut Parts, shown: &mut Shown<'_>) -> Result<(), Box<Refusal>> {
    let gate = ctx
        .listener()
        .map(|listener| listener.router.gate(&ctx.facts.host));
    let Some(Gate::Same(policies)) = gate else {
        return Ok(());
    };
    let policies = Arc::clone(policies);
    if has_passed(ctx, &policies) {
        return Ok(());
    }
    apart::begun(|| admit(ctx, (&policies, None), head, shown)).await
}

/// Returns the rule that serves the request whatever its body says, once its policies have let the request in.
///
/// # Errors
/// What the policies say.
pub(crate) async fn plain(
    ctx: &mut Ctx,
    head: &mut Parts,
    shown: &mut Shown<'_>,
) -> Result<Option<Arc<Rule>>, Box<Refusal>> {
    for _ in 0..MAX_ROUTES {
        let Some(rule) = ctx.plain(head, &head.method) else {
            return Ok(None);
        };
        if !enter(ctx, &rule, head, shown).await? {
            return Ok(Some(rule));
        }
    }
    Err(astray().into())
}

/// Returns the rule that serves `model`, once its policies have let the request in; no upstream is to see by
/// which credential they did. `stream` tells whether the client wants a stream.
///
/// # Errors
/// A 404 that names the nearest models; what the policies say.
pub(crate) async fn route(
    ctx: &mut Ctx,
    model: &str,
    stream: bool,
    head: &mut Parts,
    shown: &mut Shown<'_>,
) -> Result<Arc<Rule>, Box<Refusal>> {
    for _ in 0..MAX_ROUTES {
        let rule = match ctx.route(model, stream, head) {
            Ok(rule) => rule,
            Err(error) => {
                nowhere(ctx, head, shown).await?;
                return Err(error.into());
            }
        };
        if !enter(ctx, &rule, head, shown).await? {
            return Ok(rule);
        }
    }
    Err(astray().into())
}

/// Lets the request in to `rule`, if its policies do; no upstream is to see by which credential they did. Returns
/// whether the rule has to be chosen anew: what a policy tells upstreams may lead to another, with policies of its own.
///
/// # Errors
/// What the policies say.
async fn enter(
    ctx: &mut Ctx,
    rule: &Rule,
    head: &mut Parts,
    shown: &mut Shown<'_>,
) -> Result<bool, Box<Refusal>> {
    let Some(policies) = &rule.policies else {
        return Ok(false);
    };
    let passed = has_passed(ctx, policies);
    if !passed {
        apart::begun(|| admit(ctx, (policies, Some(rule)), head, shown)).await?;
    }
    policies.strip_credentials(&mut head.headers);
    Ok(!passed && policies.recomputes_route())
}

fn astray() -> ApiError {
    ApiError::new(
        ErrorKind::Internal,
        "the access policies lead from route to route",
    )
}

/// Returns the policies of the request's host that let it in: what they guard may be listed.
///
/// # Errors
/// What the first of them says, if none lets it in and nothing is open.
pub(crate) async fn passed(ctx: &mut Ctx, head: &Parts) -> Result<Vec<Passed>, Box<Refusal>> {
    let host = &ctx.facts.host;
    let asked: Vec<Arc<Policies>> = match ctx.listener().map(|listener| &listener.router) {
        Some(router) => router
            .policies(host)
            .into_iter()
            .take(MAX_ASKED)
            .cloned()
            .collect(),
        None => Vec::new(),
    };
    let mut passed = Vec::new();
    let mut refused = None;
    for policies in asked {
        let (mut head, mut shown) = (head.clone(), Shown::Nothing);
        if !has_passed(ctx, &policies)
            && let Err(refusal) = apart::begun(|| admit(ctx, (&policies, None), &mut head, &mut shown)).await
        {
            refused.get_or_insert(refusal);
            continue;
        }
        let caller = ctx.access.as_deref().and_then(Admitted::caller);
        passed.push(Passed { policies, caller });
    }
    let router = ctx.listener().map(|listener| &listener.router);
    let open = || router.is_some_and(|router| !router.models_behind(&ctx.facts.host, |_| false).is_empty());
    match refused {
        Some(refusal) if passed.is_empty() && !open() => Err(refusal),
        Some(_) | None => Ok(passed),
    }
}

/// Holds the request against `policies`; it is known by which rule it would be served, or not.
///
/// # Errors
/// What the policies say.
pub(crate) async fn admit(
    ctx: &mut Ctx,
    (policies, rule): (&Arc<Policies>, Option<&Rule>),
    head: &mut Parts,
    shown: &mut Shown<'_>,
) -> Result<(), Box<Refusal>> {
    let body = match policies.shows() {
        Some(limit) => shown.whole(ctx, head, limit).await?,
        None => Bytes::new(),
    };
    let outward = Outward {
        state: Arc::clone(&ctx.state),
        runtime: Arc::clone(&ctx.runtime),
    };
    let now = u64::try_from(ctx.facts.began.as_second()).unwrap_or_default();
    let mut found = PolicyCtx::new(&outward, now, ctx.client(&head.headers));
    found.secured = ctx.is_secured();
    found.request_id = ctx.request_id().to_str().unwrap_or_default();
    found.rule = rule.map(|rule| Place {
        route: &rule.route,
        rule: rule.name.as_deref(),
        annotations: rule.annotations.as_deref(),
    });
    let verdict = policies
        .identify(&mut found, head, &body)
        .await
        .and_then(|()| policies.decide(&mut found, head));
    if let Err(refusal) = &verdict {
        let reason = found.trouble.as_deref().or(policies.broken.as_deref());
        debug!(policy = %policies.id, status = refusal.error.status.as_u16(), reason, "request refused");
    }
    let PolicyCtx {
        caller,
        response,
        metadata,
        ..
    } = found;
    ctx.metadata.extend(metadata);
    if verdict.is_ok() {
        // Headers that say who was verified are what upstreams are told, and not what the client has made up.
        ctx.facts.captured = ctx.runtime.attributes.capture(&head.headers);
    }
    ctx.access = Some(Box::new(Admitted {
        policies: Arc::clone(policies),
        passed: verdict.is_ok(),
        caller,
        response,
    }));
    verdict.map_err(Into::into)
}

fn has_passed(ctx: &Ctx, policies: &Arc<Policies>) -> bool {
    let admitted = ctx.access.as_ref();
    admitted.is_some_and(|admitted| admitted.passed && Arc::ptr_eq(&admitted.policies, policies))
}

impl Shown<'_> {
    /// Returns the whole body, which is held from now on.
    async fn whole(&mut self, ctx: &Ctx, head: &Parts, limit: usize) -> Result<Bytes, ApiError> {
        match self {
            Shown::Given(given) => {
                let memory = &ctx.runtime.memory;
                given.hold(&head.headers, limit, ctx.pace(), memory).await
            }
            Shown::Whole(bytes) if bytes.len() > limit => Err(body::too_large(limit)),
            Shown::Whole(bytes) => Ok(bytes.clone()),
            Shown::Form(form) => upload::whole(form, limit).await,
            Shown::Nothing => Ok(Bytes::new()),
        }
    }
}

impl Admitted {
    /// Returns who was verified, as one text; what one resource vouches for is not what another does.
    pub(crate) fn caller(&self) -> Option<String> {
        let identity = self.caller.identity()?;
        Some(format!("{} {identity}", self.policies.id))
    }

    /// Adds what others, who were asked before, have found out.
    pub(crate) fn join(&mut self, before: Self) {
        let own = std::mem::replace(&mut self.response, before.response);
        self.response.extend(own);
        let caller = &mut self.caller;
        caller.claims.extend(before.caller.claims);
        caller.client_id = caller.client_id.take().or(before.caller.client_id);
        caller.username = caller.username.take().or(before.caller.username);
    }

    /// Puts into the headers of an answer what the policies have for it.
    pub(crate) fn dress(self, headers: &mut HeaderMap) {
        for (name, value) in &self.response {
            if *name == header::VARY {
                headers.append(name, value.clone());
            } else {
                headers.insert(name, value.clone());
            }
        }
    }
}
