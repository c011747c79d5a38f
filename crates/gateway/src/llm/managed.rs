//! Attempts under a policy: waiting before them, bounding them, and learning from them.

use std::pin::pin;

use http::header;
use policy::traffic::health::Fared;
use tokio::time::Instant;

use super::{attempt::Attempt, limit::Alarm, refused::Refused};
use crate::{
    ctx::Ctx,
    lane::{
        Busy,
        order::{Choice, Managed},
    },
    refusal::{Answer, Content},
};

/// An answer, and the attempt that it still is as long as it streams.
pub(super) type Tried = Result<(Answer, Option<Busy>), Box<Refused>>;

/// Makes the attempt that `choice` says, after a wait where it is a retry.
pub(super) async fn run<'a>(
    ctx: &mut Ctx,
    alarm: &mut Alarm,
    managed: &Managed<'a>,
    choice: &Choice<'a>,
    attempt: &mut Attempt<'a>,
) -> Tried {
    let retry = managed.attempts().saturating_sub(1);
    if let Some(policy) = managed.traffic().retry.as_ref().filter(|_| retry > 0) {
        let wait = policy.wait(retry, fastrand::f64());
        let until = (Instant::now() + wait).min(attempt.limits.total);
        // Nothing comes of it but the time.
        let _ = alarm.limit(until, std::future::pending::<()>()).await;
    }
    let busy = match choice.lane {
        None => None,
        Some((lane, way)) => match alarm
            .limit(attempt.limits.attempt, pin!(lane.admit(way, retry > 0)))
            .await
        {
            Some(Ok(busy)) => {
                if let Some(waited) = busy.waited {
                    ctx.runtime.metrics.own.queued(&choice.candidate.id, waited);
                }
                Some(busy)
            }
            Some(Err(_)) | None => {
                let refused = Refused::overflow();
                ctx.runtime
                    .metrics
                    .attempt(&choice.candidate.id, refused.cause.name());
                return Err(refused);
            }
        },
    };
    attempt.client = choice.way().map(|way| &way.client);
    attempt.refuses_filtered = managed.traffic().also.content_filter;
    let answer = attempt.run(ctx, alarm).await?;
    Ok((answer, busy))
}

/// Notes what an attempt tells of its endpoint, and hands its answer on.
pub(super) fn learn(
    ctx: &Ctx,
    managed: &Managed<'_>,
    choice: &Choice<'_>,
    tried: Tried,
) -> Result<Answer, Box<Refused>> {
    let records = &ctx.runtime.records;
    match tried {
        Ok((mut answer, busy)) => {
            managed.learn(choice, Fared::Well, records);
            if let (Some(record), Some(attempt)) = (choice.record(), &ctx.facts.attempt) {
                record.took(attempt.start.elapsed());
                record.cool(records.now(), None, &answer.headers);
            }
            if let Some(cookie) = &managed.affinity().cookie {
                answer.headers.append(header::SET_COOKIE, cookie.clone());
            }
            if let (Content::Stream(stream), Some(busy)) = (&mut answer.content, busy) {
                stream.weigh(busy);
            }
            Ok(answer)
        }
        Err(refused) => {
            if let Some(fared) = refused.fared() {
                managed.learn(choice, fared, records);
            }
            if let Some(record) = choice.record() {
                record.cool(records.now(), refused.error.retry_after, &refused.headers);
            }
            Err(refused)
        }
    }
}
