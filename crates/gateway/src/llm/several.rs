//! One request that is several calls, because the upstream takes only a part of it at once.
//!
//! They are made side by side, so many at a time, and are one attempt: the first that fails is the refusal, and
//! ends the others. The replies are one answer, in the order of what was asked.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use config::Credential;
use http::{HeaderMap, StatusCode, header, response::Parts};
use llm::{ApiError, Losses};

use super::{
    arriving::Arriving,
    asked::{Head, JSON, Payload},
    attempt::{Attempt, MAX_REPLY, Patience, coding_of, failed, illegible},
    limit::Alarm,
    refused::{Cause, Refused},
};
use crate::{
    coding::{Coding, Decoder},
    ctx::Ctx,
    headers,
    refusal::{Answer, Content},
    upstream::Client,
};

/// So many calls are made at once for one request.
const AT_ONCE: usize = 8;

/// What is asked in several calls.
pub(super) struct Several<'a> {
    pub(super) client: &'a Arc<Client>,
    pub(super) credential: Option<&'a Credential>,
    /// The head of each.
    pub(super) head: Head,
    pub(super) bodies: Vec<Payload>,
    pub(super) patience: Patience,
}

/// What all calls for one request share.
struct Shared<'a> {
    client: &'a Arc<Client>,
    credential: Option<&'a Credential>,
    /// What tells the upstream of the trace.
    traced: &'a HeaderMap,
    /// How many bytes were read of all replies.
    read: &'a AtomicUsize,
    patience: Patience,
}

/// Why one of the calls has brought nothing.
enum Failure {
    /// There is no reply.
    Refused(Box<Refused>),
    /// The reply is an error.
    Status(Box<Parts>, Bytes),
}

impl From<Box<Refused>> for Failure {
    fn from(refused: Box<Refused>) -> Self {
        Failure::Refused(refused)
    }
}

impl Attempt<'_> {
    /// Makes each of `several` calls, and returns what `reply` makes of all replies.
    pub(super) async fn ask_each(
        &self,
        ctx: &mut Ctx,
        several: Several<'_>,
        mut reply: llm::Reply,
        losses: Losses,
    ) -> Result<Answer, Box<Refused>> {
        let mut traced = HeaderMap::new();
        if let Some(trace) = &mut ctx.facts.trace {
            trace.call(ctx.facts.attempts, &mut traced);
        }
        if let Some(arrived) = ctx.facts.arrived.take() {
            ctx.runtime.metrics.own.prepared(arrived.elapsed());
        }
        let (read, head) = (AtomicUsize::new(0), several.head);
        let shared = Shared {
            client: several.client,
            credential: several.credential,
            traced: &traced,
            read: &read,
            patience: several.patience,
        };
        let made = {
            let (ctx, shared) = (&*ctx, &shared);
            let calls = several
                .bodies
                .into_iter()
                .map(|body| self.ask_one(ctx, shared, head.clone(), body));
            side_by_side(AT_ONCE, calls).await
        };
        let mut replies = made.map_err(|failure| match failure {
            Failure::Refused(refused) => refused,
            Failure::Status(head, bytes) => {
                let retry_after = headers::retry_after(&head.headers);
                let mut headers = head.headers;
                headers::to_client(&mut headers);
                failed(head.status, headers, retry_after, &reply, &bytes)
            }
        })?;
        let broken = |error| Refused::new(Cause::BadReply, error);
        let last = replies.pop();
        for (head, body) in &replies {
            reply.hear(head);
            reply.take(body).map_err(broken)?;
        }
        let (mut headers, body) = last.unwrap_or_default();
        reply.hear(&headers);
        let answer = reply.response(body).map_err(broken)?;
        ctx.facts.losses = losses;
        ctx.facts.observe(&answer.observed);
        headers::to_client(&mut headers);
        self.tell_model(&mut headers, answer.observed.model.as_deref());
        headers.insert(header::CONTENT_TYPE, JSON);
        Ok(Answer {
            status: StatusCode::OK,
            headers,
            content: Content::Whole(answer.body),
        })
    }

    /// Makes one call and reads its reply to the end.
    async fn ask_one(
        &self,
        ctx: &Ctx,
        shared: &Shared<'_>,
        head: Head,
        body: Payload,
    ) -> Result<(HeaderMap, Bytes), Failure> {
        let mut alarm = Alarm::new(self.limits.next());
        let (mut request, body) = self.request(ctx, &shared.client.host, head, body)?;
        request.headers_mut().extend(shared.traced.clone());
        let used = match shared.credential {
            Some(credential) => {
                self.dress(ctx, &mut alarm, credential, &mut request, body)
                    .await?
            }
            None => None,
        };
        let response = self
            .call(&mut alarm, shared.client, request, used, shared.patience)
            .await?;
        let (head, body) = response.into_parts();
        let decoder = match coding_of(&head.headers) {
            None => None,
            Some(coding) => match Coding::of(coding).and_then(Decoder::new) {
                Some(decoder) => Some(decoder),
                None if head.status.is_success() => return Err(illegible(coding).into()),
                None => return Err(Failure::Status(Box::new(head), Bytes::new())),
            },
        };
        let read = self.whole(&mut alarm, &mut Arriving::new(body, decoder)).await;
        if !head.status.is_success() {
            // An error is known by its status, whatever else it says.
            return Err(Failure::Status(Box::new(head), read.unwrap_or_default()));
        }
        let bytes = read?;
        if shared.read.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len() > MAX_REPLY {
            let error = ApiError::bad_reply("the upstream's replies exceed 64 MiB");
            return Err(Refused::new(Cause::BadReply, error).into());
        }
        Ok((head.headers, bytes))
    }
}

/// Runs `futures`, no more than `at_once` at a time, and returns what they give, in their order.
///
/// # Errors
/// The first error that one of them gives; the others are dropped.
async fn side_by_side<T, E, F>(at_once: usize, futures: impl IntoIterator<Item = F>) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = futures.into_iter().map(Box::pin).enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> = waiting.by_ref().take(at_once).collect();
    let mut done: Vec<(usize, T)> = Vec::new();
    poll_fn(|cx| {
        let mut at = 0;
        while let Some((index, future)) = running.get_mut(at) {
            match future.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(output)) => {
                    done.push((*index, output));
                    running.swap_remove(at);
                    running.extend(waiting.next());
                }
            }
        }
        if running.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await?;
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, output)| output).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::side_by_side;

    #[tokio::test]
    async fn outputs_come_in_order_and_no_more_run_than_may() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let one = |index: usize| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                for _ in 0..(10 - index) {
                    tokio::task::yield_now().await;
                }
                running.set(running.get() - 1);
                Ok::<_, ()>(index)
            }
        };
        let outputs = side_by_side(3, (0..10).map(one)).await;
        assert_eq!(outputs, Ok((0..10).collect()));
        assert_eq!(most.get(), 3);
        assert_eq!(side_by_side(3, (0..0).map(one)).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn the_first_error_ends_the_others() {
        let ended = Cell::new(0);
        let one = |index: usize| {
            let ended = &ended;
            async move {
                for _ in 0..index {
                    tokio::task::yield_now().await;
                }
                if index == 2 {
                    return Err(index);
                }
                ended.set(ended.get() + 1);
                Ok(index)
            }
        };
        assert_eq!(side_by_side(8, (0..8).map(one)).await, Err(2));
        assert_eq!(ended.get(), 2);
    }
}
