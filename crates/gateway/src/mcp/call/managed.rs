//! Calls under a policy: which endpoint is asked, how many calls there are at once, whether there is another, and what
//! they tell of endpoints.
//!
//! A call may be made again if it only asks for something. One that may have changed something is, if it was certainly not
//! taken.

use std::sync::Arc;

use config::mcp_route::Http;
use http::StatusCode;
use mcp::{Message, Method, method::Named, session::Entry};
use policy::traffic::{Traffic, health::Fared, retry};

use super::{Ask, Caller, Failure, Fault, Missed, Replied, way};
use crate::lane::{
    Lane,
    affinity::Affinity,
    order::{Choice, Managed},
};

/// An endpoint that is asked, of the lane of a backend.
type Chosen<'a> = Choice<'a, ()>;

impl Caller<'_> {
    /// Calls an endpoint as `traffic` says, and others if it fails.
    pub(super) async fn managed(
        &self,
        traffic: &Traffic,
        reach: &Http,
        entry: Option<&Entry>,
        ask: Ask<'_>,
    ) -> Result<Replied, Failure> {
        let fail = |reason: &str| Failure::new(&self.backend.name, Fault::Unreachable, reason);
        let lane = self.state.lanes.find(traffic, &reach.id);
        let lane = lane.ok_or_else(|| fail("it has no endpoint"))?;
        let kept = place(lane, entry).await;
        if kept == Place::Gone {
            return Err(Failure {
                lost: true,
                ..fail(way::GONE)
            });
        }
        let affinity = Affinity::of(&traffic.balance, self.peer, self.client, "", Vec::new);
        let mut managed = Managed::of(lane, affinity, kept.way());
        self.runtime.retries.deposit();
        let mut last = None;
        while let Some(choice) = managed.next(&self.runtime.records) {
            if choice.is_repeated && !self.runtime.retries.withdraw() {
                tracing::debug!(backend = %self.backend.name, "retry budget is spent");
                break;
            }
            // The connection of the reply before is let go of.
            drop(last.take());
            let tried = self.attempt(&managed, &choice, reach, entry, ask).await;
            let goes_on = self.judge(&mut managed, &choice, &tried, ask);
            last = Some(tried);
            if !goes_on || !managed.has_more() {
                break;
            }
        }
        let lost = kept.way().is_some() && lane.ways.len() > 1;
        match last {
            Some(Ok(replied)) => Ok(replied),
            Some(Err(missed)) => Err(Failure {
                lost: missed.failure.lost || (lost && missed.failure.fault == Fault::Unreachable),
                ..missed.failure
            }),
            None => Err(Failure {
                lost,
                ..fail("no endpoint of it is healthy")
            }),
        }
    }

    /// Makes one attempt, after a wait where it is a retry.
    async fn attempt(
        &self,
        managed: &Managed<'_, ()>,
        choice: &Chosen<'_>,
        reach: &Http,
        entry: Option<&Entry>,
        ask: Ask<'_>,
    ) -> Result<Replied, Missed> {
        let retry = managed.attempts().saturating_sub(1);
        if let Some(policy) = managed.traffic().retry.as_ref().filter(|_| retry > 0) {
            tokio::time::sleep(policy.wait(retry, fastrand::f64())).await;
        }
        let missed = |kind, fault, reason: &str| Missed {
            kind,
            failure: Failure::new(&self.backend.name, fault, reason),
        };
        let (Some(way), Some((lane, place))) = (choice.way(), choice.lane) else {
            return Err(missed(
                retry::Failure::Unresolved,
                Fault::Unreachable,
                "it has no endpoint",
            ));
        };
        let Ok(busy) = lane.admit(place, retry > 0).await else {
            return Err(missed(
                retry::Failure::Overflow,
                Fault::Overflow,
                "it is asked too much at once already",
            ));
        };
        let began = std::time::Instant::now();
        let called = self
            .call(std::slice::from_ref(&way.client), reach, entry, ask)
            .await;
        let mut replied = called?;
        way.record.took(began.elapsed());
        replied.busy = Some(busy);
        Ok(replied)
    }

    /// Learns from an attempt; returns whether another one may be made.
    fn judge<'a>(
        &self,
        managed: &mut Managed<'a, ()>,
        choice: &Chosen<'a>,
        tried: &Result<Replied, Missed>,
        ask: Ask<'_>,
    ) -> bool {
        let (failure, status) = match tried {
            Ok(replied) => {
                let status = replied.response.status();
                let wrong = status.is_client_error() || status.is_server_error();
                (wrong.then(|| retry::Failure::of_status(status.as_u16())), status)
            }
            Err(missed) => (Some(missed.kind), StatusCode::SERVICE_UNAVAILABLE),
        };
        let records = &self.runtime.records;
        if let Some(fared) = failure.map_or(Some(Fared::Well), retry::Failure::fared) {
            managed.learn(choice, fared, records);
        }
        if let (Ok(replied), Some(record)) = (tried, choice.record()) {
            record.cool(records.now(), None, replied.response.headers());
        }
        let Some(failure) = failure else { return false };
        let again = managed.refused(choice, failure, status);
        again && (is_untaken(failure) || only_asks(ask))
    }
}

/// Where a session is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It does not matter, or is not known.
    Any,
    /// With the endpoint of this way.
    Way(usize),
    /// With one that is not there any more.
    Gone,
}

impl Place {
    fn way(self) -> Option<usize> {
        match self {
            Place::Way(way) => Some(way),
            Place::Any | Place::Gone => None,
        }
    }
}

async fn place(lane: &Arc<Lane>, entry: Option<&Entry>) -> Place {
    let Some(name) = way::kept(entry) else {
        return Place::Any;
    };
    for (index, way) in lane.ways.iter().enumerate() {
        if way.client.find(name).await.is_some() {
            return Place::Way(index);
        }
    }
    let clients = lane.ways.iter().map(|way| &way.client);
    if way::is_lost(clients) {
        Place::Gone
    } else {
        Place::Any
    }
}

/// Returns whether a server has certainly not taken a call that failed like this.
fn is_untaken(failure: retry::Failure) -> bool {
    matches!(
        failure,
        retry::Failure::Connect | retry::Failure::Overflow | retry::Failure::RefusedStream
    )
}

/// Returns whether nothing comes of it if it is asked twice.
fn only_asks(ask: Ask<'_>) -> bool {
    match ask {
        Ask::Get(_) | Ask::Delete => true,
        Ask::Post(Message::Request(request)) => {
            Method::find(&request.method).is_some_and(|method| method != Method::Named(Named::Tool))
        }
        Ask::Post(Message::Notification(_) | Message::Response(_)) => false,
    }
}
