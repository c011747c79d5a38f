//! The straight line: what happens to a request, in order.
//!
//! open → policies → plain route → endpoint → body → route → attempts → respond. Every step that can refuse returns
//! an error, and one
//! place says it in the client's format. Nothing here is spawned: when the client goes away the future is
//! dropped, and with it all that was done on its behalf.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use llm::{Inbound, Operation, upload};

use crate::{
    access::{self, Shown},
    apart,
    body::{self, Body},
    ctx::Ctx,
    framing,
    given::Given,
    kept,
    llm::Asked,
    mcp, models, plain,
    refusal::{self, Answer, Refusal},
    server::Connection,
};

/// Serves one request.
pub(crate) async fn handle(connection: Arc<Connection>, request: Request<Incoming>) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let version = head.version;
    let mut ctx = Ctx::open(&connection, &mut head);
    let mut stop = ctx.runtime.stop.wait();
    let answer = {
        let mut serve = pin!(serve(&mut ctx, head, Given::Arriving(body)));
        poll_fn(|cx| match serve.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(answer),
            Poll::Pending => stop.poll(cx).map(|()| Err(refusal::stopping().into())),
        })
        .await
    };
    let mut response = refusal::respond(ctx, answer);
    // HTTP/2 says so in a frame of its own.
    if connection.is_ending() && version != Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn serve(
    ctx: &mut Ctx,
    mut head: http::request::Parts,
    mut body: Given,
) -> Result<Answer, Box<Refusal>> {
    framing::check(&head)?;
    ctx.directed()?;
    ctx.taken(&head)?;
    if ctx.is_health_check(&head) {
        return Ok(Answer::empty());
    }
    // A route may serve all paths; the documents about it stay where clients look for them.
    if let Some((route, document)) = ctx.login(&head) {
        return Ok(mcp::login::serve(ctx, &route, document, &head).await);
    }
    if let Some((route, policies)) = ctx.tools(&head) {
        // Held apart, as are uploads: every request keeps room for the largest of those that are not.
        return Ok(apart::begun(|| mcp::serve(ctx, &route, policies, head, body)).await);
    }
    if let Some(answer) = access::preflight(ctx, &head) {
        return Ok(answer);
    }
    if let Err(refusal) = access::ahead(ctx, &mut head, &mut Shown::Given(&mut body)).await {
        body::turn_away(&head.headers, body).await;
        return Err(refusal);
    }
    if let Some(rule) = access::plain(ctx, &mut head, &mut Shown::Given(&mut body)).await? {
        return plain::serve(ctx, &rule, head, body).await;
    }
    let place = ctx.place(&head)?;
    match place.endpoint.operation {
        Operation::Models => models::list(ctx, place.endpoint, &head).await,
        Operation::Model => models::one(ctx, &place, &head).await,
        Operation::Kept => {
            let passed = access::passed(ctx, &head).await?;
            kept::answer(ctx, &head.method, &place, &passed).map_err(Into::into)
        }
        Operation::Chat | Operation::Document(_) => {
            // The reservation is given back when the last attempt has been decided.
            let (bytes, reserved) = body::read(
                &head.headers,
                body,
                ctx.largest_body(),
                ctx.pace(),
                &ctx.runtime.memory,
            )
            .await?;
            ctx.facts.bytes_received = bytes.len() as u64;
            ctx.facts.arrived = Some(Instant::now());
            if let Some(trace) = &mut ctx.facts.trace {
                trace.asked(&bytes);
            }
            upload::refuse(&head.headers, place.endpoint.path)?;
            let mut inbound = Inbound::parse(place, bytes)?;
            let mut shown = Shown::Whole(inbound.bytes());
            let rule = access::route(ctx, &inbound.model, inbound.stream, &mut head, &mut shown).await?;
            if rule.plain.is_some() {
                body::decoded(&mut head.headers);
                let held = Given::Held(inbound.bytes().clone(), reserved);
                return plain::serve(ctx, &rule, head, held).await;
            }
            kept::prepare(ctx, &mut inbound)?;
            ctx.fits(&rule, inbound.len())?;
            crate::llm::serve(ctx, &rule, Asked::Document(&inbound), head.headers).await
        }
        Operation::Upload(upload) => {
            apart::begun(|| crate::llm::upload::serve(ctx, place.endpoint, upload, head, body)).await
        }
    }
}
