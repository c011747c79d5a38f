//! Faults that a policy wants made: requests are held up, or refused before any upstream is asked.

use config::snapshot::Rule;
use policy::traffic::Abort;
use tokio::time::{Instant, sleep_until};

use crate::ctx::Ctx;

/// What a client is told whose request is refused.
pub(crate) const MESSAGE: &str = "a fault that a policy wants made";

/// Holds a request up, if the policy of `rule` wants that; returns how it is refused, if it is.
pub(crate) async fn inject(ctx: &Ctx, rule: &Rule) -> Option<Abort> {
    let faults = rule.traffic.as_deref()?.faults.as_ref()?;
    if let Some(time) = faults.delay(fastrand::f64) {
        let longest = ctx.deadline(rule.timeouts.request);
        sleep_until(longest.min(Instant::now() + time)).await;
    }
    faults.abort(fastrand::f64)
}
