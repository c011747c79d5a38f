//! How long a backend may take for its reply. What counts begins once the client has sent everything: until then it is
//! the client whose patience is measured.

use std::time::Duration;

use config::snapshot::Rule;
use tokio::time::{Instant, timeout_at};

use super::{arriving::Progress, failed::Failed};
use crate::{body::Pace, ctx::Ctx, upstream::CallError};

/// The longest silence of a backend within a reply, where a rule sets no other.
const IDLE: Duration = Duration::from_secs(300);

/// Stands for "no limit": nothing that is served lasts longer.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a reply may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For all attempts together.
    total: Option<Duration>,
    /// For one attempt.
    attempt: Option<Duration>,
    /// For the reply until its last byte.
    whole: Option<Duration>,
    /// Between any two pieces of it.
    pub(super) idle: Duration,
    /// How fast the request has to arrive.
    pace: Pace,
    began: Instant,
}

impl Limits {
    /// Returns the limits of a request that `rule` serves.
    pub(super) fn of(rule: &Rule, ctx: &Ctx) -> Self {
        let traffic = rule.traffic.as_deref();
        let retry = traffic.and_then(|traffic| traffic.retry.as_ref()?.timeout);
        let declared = rule.timeouts.declared || traffic.is_some_and(|traffic| traffic.request.is_some());
        let request = rule.timeouts.request.filter(|_| declared);
        let longest = traffic.and_then(|traffic| traffic.max_stream);
        Self {
            total: rule.timeouts.request,
            attempt: [rule.timeouts.attempt, retry].into_iter().flatten().min(),
            whole: [request, longest].into_iter().flatten().min(),
            idle: rule.timeouts.stream_idle.unwrap_or(IDLE),
            pace: ctx.pace(),
            began: ctx.began,
        }
    }

    /// Returns when the request has taken too long, as far as is known.
    pub(super) fn end(&self, progress: &Progress) -> Instant {
        let total = progress.ended().zip(self.total);
        total.map_or(self.began + FOREVER, |(ended, total)| ended + total)
    }

    /// Returns when the reply must have come to its end.
    pub(super) fn last(&self, progress: &Progress) -> Option<Instant> {
        let since = progress.ended().unwrap_or_else(Instant::now);
        self.whole.map(|whole| since + whole)
    }

    /// Returns what `call` gives in time.
    pub(super) async fn within<T>(
        &self,
        progress: &Progress,
        mut call: impl Future<Output = Result<T, CallError>> + Unpin,
    ) -> Result<T, Failed> {
        let began = Instant::now();
        let mut seen = (progress.bytes(), began);
        loop {
            let ended = progress.ended();
            let (until, late) = match ended {
                Some(ended) => self.until(began.max(ended), self.end(progress)),
                None => (self.look_at(), Failed::Silent),
            };
            match timeout_at(until, &mut call).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(_)) if progress.is_too_large() => return Err(Failed::TooLarge),
                Ok(Err(_)) if progress.is_broken() => return Err(Failed::Broken),
                Ok(Err(error)) => return Err(Failed::Call(error)),
                Err(_) if ended.is_some() => return Err(late),
                Err(_) => {}
            }
            let bytes = progress.bytes();
            if bytes != seen.0 {
                seen = (bytes, Instant::now());
            } else if progress.ended().is_none() && seen.1.elapsed() >= self.pace.silence {
                return Err(Failed::Silent);
            }
            if progress.ended().is_none() && self.pace.until.is_some_and(|until| until <= Instant::now()) {
                return Err(Failed::Silent);
            }
        }
    }

    /// Returns when an attempt has taken too long that counts from `since`, and what that amounts to.
    fn until(&self, since: Instant, end: Instant) -> (Instant, Failed) {
        match self.attempt.map(|attempt| since + attempt) {
            Some(until) if until < end => (until, Failed::Timeout),
            Some(_) | None => (end, Failed::Deadline),
        }
    }

    /// Returns when it is looked again whether the client still sends.
    fn look_at(&self) -> Instant {
        let shortest = [self.total, self.attempt].into_iter().flatten().min();
        let next = self.pace.next();
        shortest.map_or(next, |limit| next.min(Instant::now() + limit))
    }
}
