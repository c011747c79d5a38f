//! Whom a request asks, and in which order.
//!
//! Without a policy each candidate of the rule is asked once, by priority, by chance within one. With a policy
//! each endpoint of each candidate is asked for itself, by what the policy says of balance, health and retries. Where a
//! picker has named endpoints, they are asked in its order.

use std::sync::Arc;

use config::snapshot::{Candidate, Rule};
use http::StatusCode;
use policy::traffic::{
    Balance, Traffic,
    balance::Unit,
    health::Fared,
    retry::{Failure, When},
};

use super::{Lane, Lanes, Record, Records, Way, affinity::Affinity, retry::Draw, wish::Wish};
use crate::picker::Walk;

/// Whom a request asks, and in which order.
pub(crate) enum Order<'a> {
    /// Without a policy.
    Usual(Usual<'a>),
    /// As a policy says.
    Managed(Box<Managed<'a>>),
    /// As a picker says.
    Picked(&'a Candidate, Walk<'a>),
}

/// Who is asked next; `C` is what endpoints belong to, where there is more than one of it.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a, C = &'a Candidate> {
    pub(crate) candidate: C,
    /// The way there; `None` without a policy, or where there is none.
    pub(crate) lane: Option<(&'a Arc<Lane>, usize)>,
    /// Whether it was asked by this request before.
    pub(crate) is_repeated: bool,
    unit: usize,
}

/// Each candidate once; one that was not reached, and is the only one, once more.
pub(crate) struct Usual<'a> {
    draw: Draw<'a>,
    again: Option<&'a Candidate>,
    asked: u32,
    once: bool,
}

/// As a policy says.
pub(crate) struct Managed<'a, C = &'a Candidate> {
    traffic: &'a Traffic,
    endpoints: Vec<Endpoint<'a, C>>,
    affinity: Affinity,
    /// Attempts that count, so far.
    attempts: u32,
    /// Attempts that there may be.
    most: u32,
}

/// One endpoint of one candidate.
struct Endpoint<'a, C> {
    candidate: C,
    /// The share of the candidate.
    weight: u32,
    lane: Option<(&'a Arc<Lane>, usize)>,
    level: u32,
    tried: u32,
    /// Whether it has shown that it cannot serve this request at all.
    is_out: bool,
}

/// How fit an endpoint is to be asked; the fitter the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    /// It is left out.
    Unhealthy,
    /// It asked to be left alone.
    Cooling,
    /// It may be asked.
    Fit,
}

impl<'a> Order<'a> {
    /// Returns the order in which a request without a policy asks the candidates of `rule`.
    pub(crate) fn usual(rule: &'a Rule, wish: Option<&Wish>) -> Self {
        Order::Usual(Usual {
            draw: Draw::new(&rule.candidates),
            again: None,
            asked: 0,
            once: wish.is_some_and(Wish::declines),
        })
    }

    /// Returns who is asked next; `None` if nobody is left.
    pub(crate) fn next(&mut self, records: &Records) -> Option<Choice<'a>> {
        match self {
            Order::Usual(usual) => usual.next(),
            Order::Managed(managed) => managed.next(records),
            Order::Picked(candidate, walk) => {
                let (place, is_repeated) = walk.next()?;
                Some(Choice {
                    candidate: *candidate,
                    lane: None,
                    is_repeated,
                    unit: place,
                })
            }
        }
    }

    /// Returns whether somebody is left.
    pub(crate) fn has_more(&self) -> bool {
        match self {
            Order::Usual(usual) => usual.draw.has_more() && !usual.once,
            Order::Managed(managed) => managed.has_more(),
            Order::Picked(_, walk) => walk.has_more(),
        }
    }

    /// Notes that an attempt failed, for which `status` stands; returns whether somebody else may be asked.
    pub(crate) fn refused(&mut self, choice: &Choice<'a>, failure: Failure, status: StatusCode) -> bool {
        match self {
            Order::Usual(usual) => usual.refused(choice, failure),
            Order::Managed(managed) => managed.refused(choice, failure, status),
            Order::Picked(_, walk) => walk.refused(failure, status),
        }
    }

    /// Notes that the candidate is not to be asked at all; that it was chosen is no attempt.
    pub(crate) fn leave_out(&mut self, choice: &Choice<'a>) {
        match self {
            Order::Usual(usual) => usual.asked = usual.asked.saturating_sub(1),
            Order::Managed(managed) => managed.leave_out(choice.candidate),
            Order::Picked(_, walk) => walk.leave_out(),
        }
    }

    /// Returns the policy's part.
    pub(crate) fn as_managed(&self) -> Option<&Managed<'a>> {
        match self {
            Order::Usual(_) | Order::Picked(..) => None,
            Order::Managed(managed) => Some(managed),
        }
    }

    /// Returns what is left of the endpoints that a picker has named.
    pub(crate) fn as_picked(&self) -> Option<Walk<'a>> {
        match self {
            Order::Usual(_) | Order::Managed(_) => None,
            Order::Picked(_, walk) => Some(*walk),
        }
    }
}

impl<'a> Usual<'a> {
    fn next(&mut self) -> Option<Choice<'a>> {
        if self.once && self.asked > 0 {
            return None;
        }
        let again = self.again.take();
        let is_repeated = again.is_some();
        let candidate = again.or_else(|| self.draw.next())?;
        self.asked += 1;
        Some(Choice {
            candidate,
            lane: None,
            is_repeated,
            unit: 0,
        })
    }

    fn refused(&mut self, choice: &Choice<'a>, failure: Failure) -> bool {
        if failure == Failure::Connect && !self.draw.has_more() && self.asked == 1 {
            self.again = Some(choice.candidate);
        }
        failure.usually()
    }
}

impl<'a> Managed<'a> {
    /// Returns the order in which a request asks the candidates of `rule` under `traffic`; `None` if none of
    /// those that it wishes for is there.
    pub(crate) fn new(
        rule: &'a Rule,
        traffic: &'a Traffic,
        lanes: &'a Lanes,
        wish: Option<&Wish>,
        affinity: Affinity,
    ) -> Option<Self> {
        let wished = wish.filter(|_| traffic.trusts_order);
        let mut endpoints = Vec::new();
        let named = rule.candidates.iter().filter(|candidate| !candidate.is_picked());
        for candidate in named.filter(|candidate| candidate.weight > 0) {
            let level = match wished {
                Some(wish) => wish.place(candidate),
                None => Some(candidate.priority),
            };
            let Some(level) = level else {
                continue;
            };
            let endpoint = |lane| Endpoint {
                candidate,
                weight: candidate.weight,
                lane,
                level,
                tried: 0,
                is_out: false,
            };
            match lanes.find(traffic, &candidate.id) {
                Some(lane) => endpoints.extend((0..lane.ways.len()).map(|way| endpoint(Some((lane, way))))),
                None => endpoints.push(endpoint(None)),
            }
        }
        if wished.is_some_and(Wish::names) && endpoints.is_empty() {
            return None;
        }
        let most = match &traffic.retry {
            _ if wish.is_some_and(Wish::declines) => 1,
            Some(retry) => retry.retries.saturating_add(1),
            None => u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
        };
        Some(Self {
            traffic,
            endpoints,
            affinity,
            attempts: 0,
            most,
        })
    }

    fn leave_out(&mut self, candidate: &Candidate) {
        self.attempts = self.attempts.saturating_sub(1);
        let endpoints = self.endpoints.iter_mut();
        for endpoint in endpoints.filter(|endpoint| std::ptr::eq(endpoint.candidate, candidate)) {
            endpoint.is_out = true;
        }
    }
}

impl<'a> Managed<'a, ()> {
    /// Returns the order in which the endpoints of one lane are asked; if it is `kept` to one, only that.
    pub(crate) fn of(lane: &'a Arc<Lane>, affinity: Affinity, kept: Option<usize>) -> Self {
        let endpoint = |way| Endpoint {
            candidate: (),
            weight: 1,
            lane: Some((lane, way)),
            level: 0,
            tried: 0,
            is_out: kept.is_some_and(|kept| kept != way),
        };
        let endpoints: Vec<_> = (0..lane.ways.len()).map(endpoint).collect();
        let each = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        let retry = lane.traffic.retry.as_ref();
        Self {
            traffic: &lane.traffic,
            endpoints,
            affinity,
            attempts: 0,
            most: retry.map_or(each, |retry| retry.retries.saturating_add(1)),
        }
    }
}

impl<'a, C: Copy> Managed<'a, C> {
    /// Returns what the request chooses its endpoint by.
    pub(crate) fn affinity(&self) -> &Affinity {
        &self.affinity
    }

    /// Returns the policy.
    pub(crate) fn traffic(&self) -> &'a Traffic {
        self.traffic
    }

    /// Returns how many attempts there were that count.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns who is asked next; `None` if nobody is left.
    pub(crate) fn next(&mut self, records: &Records) -> Option<Choice<'a, C>> {
        if self.attempts >= self.most {
            return None;
        }
        let place = self.choose(records.now())?;
        let endpoint = self.endpoints.get_mut(place)?;
        let is_repeated = endpoint.tried > 0;
        endpoint.tried += 1;
        self.attempts += 1;
        Some(Choice {
            candidate: endpoint.candidate,
            lane: endpoint.lane,
            is_repeated,
            unit: place,
        })
    }

    /// Returns whether somebody is left.
    pub(crate) fn has_more(&self) -> bool {
        self.attempts < self.most && (self.traffic.retry.is_some() || self.open().next().is_some())
    }

    /// Returns the endpoints at priorities that have not had their share of attempts.
    fn open(&self) -> impl Iterator<Item = (usize, &Endpoint<'a, C>)> {
        let per_priority = self.traffic.retry.as_ref().map_or(0, |retry| retry.per_priority);
        let endpoints = self.endpoints.iter().enumerate();
        endpoints.filter(move |(_, endpoint)| {
            let spent = || {
                let level = self
                    .endpoints
                    .iter()
                    .filter(|other| other.level == endpoint.level);
                level.map(|other| other.tried).sum::<u32>()
            };
            !endpoint.is_out
                && match per_priority {
                    0 => endpoint.tried == 0,
                    most => spent() < most,
                }
        })
    }

    fn choose(&mut self, now: u64) -> Option<usize> {
        if self.open().next().is_none() {
            // Everybody had a share: with retries to spare it begins anew.
            let alive = self.endpoints.iter().any(|endpoint| !endpoint.is_out);
            if self.traffic.retry.is_none() || !alive {
                return None;
            }
            for endpoint in &mut self.endpoints {
                endpoint.tried = 0;
            }
        }
        let open: Vec<(usize, &Endpoint<'a, C>, Fitness)> = self
            .open()
            .map(|(place, endpoint)| (place, endpoint, endpoint.fitness(now)))
            .collect();
        let best = open.iter().map(|(_, _, fitness)| *fitness).max()?;
        if best == Fitness::Unhealthy && self.traffic.panic_threshold == 0 {
            return None;
        }
        let (level, least) = if self.attempts == 0 && best > Fitness::Unhealthy {
            self.spill(&open, best)
        } else {
            let fit = open.iter().filter(|(_, _, fitness)| *fitness == best);
            (fit.map(|(_, endpoint, _)| endpoint.level).min()?, best)
        };
        let of_level = open
            .iter()
            .filter(|(_, endpoint, fitness)| endpoint.level == level && *fitness >= least);
        let freshest = of_level.clone().map(|(_, endpoint, _)| endpoint.tried).min()?;
        let eligible: Vec<&(usize, &Endpoint<'a, C>, Fitness)> = of_level
            .filter(|(_, endpoint, _)| endpoint.tried == freshest)
            .collect();
        let units: Vec<Unit> = eligible
            .iter()
            .map(|(_, endpoint, _)| endpoint.unit(self.traffic, now))
            .collect();
        let turn = match (&self.traffic.balance, eligible.as_slice()) {
            // Where there is no choice nobody takes a turn.
            (Balance::RoundRobin, [(_, endpoint, _), _, ..]) => {
                endpoint.lane.map_or(0, |(lane, _)| lane.turn())
            }
            (_, _) => 0,
        };
        let session = self.affinity.session;
        if let Some(place) = session.and_then(|bound| named(&eligible, bound.endpoint)) {
            return Some(place);
        }
        let key = self.affinity.key;
        let picked = self.traffic.balance.pick(&units, turn, key, fastrand::f64)?;
        eligible.get(picked).map(|(place, _, _)| *place)
    }

    /// Returns the priority of a first attempt, and how fit an endpoint there must be: a priority of which a part
    /// is left out gives a part of its requests to the next one.
    fn spill(&self, open: &[(usize, &Endpoint<'a, C>, Fitness)], best: Fitness) -> (u32, Fitness) {
        let mut levels: Vec<u32> = open.iter().map(|(_, endpoint, _)| endpoint.level).collect();
        levels.sort_unstable();
        levels.dedup();
        let mut shares = Vec::with_capacity(levels.len());
        let mut left = 100.0_f64;
        for level in levels {
            let of_level = open.iter().filter(|(_, endpoint, _)| endpoint.level == level);
            let fit = of_level
                .clone()
                .filter(|(_, _, fitness)| *fitness >= best)
                .count();
            let healthy = 100.0 * fit as f64 / of_level.count() as f64;
            let share = (healthy * OVERPROVISIONED).min(left);
            left -= share;
            shares.push((level, share, healthy));
        }
        let total = 100.0 - left;
        let mut drawn = fastrand::f64() * total;
        let hit = shares.iter().find(|(_, share, _)| {
            drawn -= share;
            drawn < 0.0
        });
        let Some((level, _, healthy)) = hit.or(shares.iter().rev().find(|(_, share, _)| *share > 0.0)) else {
            return (0, best);
        };
        let panics = total < 100.0 && *healthy < f64::from(self.traffic.panic_threshold);
        (*level, if panics { Fitness::Unhealthy } else { best })
    }

    /// Notes that an attempt failed, for which `status` stands; returns whether somebody else may be asked.
    pub(crate) fn refused(&mut self, choice: &Choice<'a, C>, failure: Failure, status: StatusCode) -> bool {
        if failure.when() == When::Always {
            self.attempts -= 1;
            if let Some(endpoint) = self.endpoints.get_mut(choice.unit) {
                endpoint.is_out = true;
            }
            return true;
        }
        let demanded = match failure {
            Failure::ContextLength => self.traffic.also.context_length,
            Failure::ContentFilter => self.traffic.also.content_filter,
            _ => false,
        };
        if demanded {
            return true;
        }
        match &self.traffic.retry {
            Some(retry) => retry.covers(failure, status.as_u16()),
            None => {
                if failure == Failure::Connect
                    && let [only] = self.endpoints.as_mut_slice()
                    && self.most == 1
                    && self.attempts == 1
                {
                    only.tried = 0;
                    self.most = 2;
                }
                failure.usually()
            }
        }
    }

    /// Notes what an attempt tells of its endpoint's health.
    pub(crate) fn learn(&self, choice: &Choice<'a, C>, fared: Fared, records: &Records) {
        let Some(record) = choice.record() else {
            return;
        };
        let Some(passive) = &self.traffic.passive else {
            return;
        };
        let now = records.now();
        if !record.note(fared, passive, now) || !record.is_healthy(now) {
            return;
        }
        let known = self.endpoints.iter().filter_map(|endpoint| endpoint.record());
        let (mut ejected, mut all) = (0, 0);
        for record in known {
            all += 1;
            ejected += usize::from(!record.is_healthy(now));
        }
        // Nobody is left out who is the last, unless it is asked for that health is always looked at.
        let is_last = ejected + 1 >= all && self.traffic.panic_threshold > 0;
        if passive.permits(ejected, all) && !is_last {
            record.eject(now, passive);
        }
    }
}

impl<C> Endpoint<'_, C> {
    fn record(&self) -> Option<&Record> {
        way(self.lane).map(|way| &*way.record)
    }

    fn fitness(&self, now: u64) -> Fitness {
        match self.record() {
            Some(record) if !record.is_healthy(now) => Fitness::Unhealthy,
            Some(record) if record.is_cooling(now) => Fitness::Cooling,
            Some(_) | None => Fitness::Fit,
        }
    }

    fn unit(&self, traffic: &Traffic, now: u64) -> Unit {
        let ways = self.lane.map_or(1, |(lane, _)| lane.ways.len());
        let record = self.record();
        let warmth = match (record, traffic.slow_start) {
            (Some(record), Some(window)) => record.warmth(now, window),
            (_, _) => 1.0,
        };
        let load = match (record, &traffic.balance) {
            (Some(record), Balance::Latency) => record.expected(),
            (Some(record), Balance::LeastRequest) => f64::from(record.in_flight()),
            (_, _) => 0.0,
        };
        Unit {
            weight: f64::from(self.weight) / ways as f64 * warmth,
            load,
            name: way(self.lane).map_or(0, |way| way.name),
        }
    }
}

impl<'a, C> Choice<'a, C> {
    /// Returns its place among those that a picker has named.
    pub(crate) fn place(&self) -> usize {
        self.unit
    }

    /// Returns the way that was chosen.
    pub(crate) fn way(&self) -> Option<&'a Way> {
        way(self.lane)
    }

    /// Returns what is known of the endpoint.
    pub(crate) fn record(&self) -> Option<&'a Record> {
        self.way().map(|way| &*way.record)
    }
}

/// Returns the place of the endpoint whose name has this hash.
fn named<C>(eligible: &[&(usize, &Endpoint<'_, C>, Fitness)], name: u64) -> Option<usize> {
    let mut named = eligible.iter();
    let found = named.find(|(_, endpoint, _)| way(endpoint.lane).is_some_and(|way| way.name == name));
    found.map(|(place, _, _)| *place)
}

fn way(lane: Option<(&Arc<Lane>, usize)>) -> Option<&Way> {
    let (lane, way) = lane?;
    lane.ways.get(way)
}

/// How much more than its share of healthy endpoints a priority is trusted with.
const OVERPROVISIONED: f64 = 1.4;
