//! Several limits at once, of this gateway and of all, as laws over random requests: held, checked, only counted, with
//! windows that turn while requests are under way, and requests that one store admits and the other refuses.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, Method};
use llm::Usage;
use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::{
    Claims, Limits, NAMESPACE, Request, Switches, Ticket,
    selector::Subject,
    spec::RateLimit,
    store::{Claim, Ledger, Manner, Vote, decide},
    switch::{self, Mode, Switch},
    window::Span,
};
use crate::{
    Metadata,
    cost::{
        self, Costs,
        spec::{CostKind, LLMRequestCost},
    },
};

/// How long windows are, in seconds.
const MINUTE: u64 = 60;

/// How long something is held at most, in seconds.
const HELD: u64 = 90;

/// The rule of all gateways that is checked.
const CHECKED: &str = "/rule/1";

/// The rule of this gateway whose answers cost nothing.
const REQUESTS: &str = "/local/0";

/// What a request is expected to cost and what it costs beyond that, and the user whose it is.
#[derive(Clone, Debug)]
struct Call {
    user: usize,
    expected: u64,
    beyond: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Begin(Call),
    /// The client goes away once the first store has decided.
    Leave(Call),
    /// The request at that place among those under way ends.
    End(usize),
    /// It is not served.
    Fail(usize),
    /// It is forgotten.
    Forget(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let call = || {
        let call = (0..2_usize, 0..30_u64, 0..8_u64);
        call.prop_map(|(user, expected, beyond)| Call {
            user,
            expected,
            beyond,
        })
    };
    prop_oneof![
        8 => call().prop_map(Step::Begin),
        1 => call().prop_map(Step::Leave),
        6 => (0..12_usize).prop_map(Step::End),
        1 => (0..12_usize).prop_map(Step::Fail),
        1 => (0..12_usize).prop_map(Step::Forget),
        2 => (1..40_u64).prop_map(Step::Wait),
    ]
}

/// A gateway that has a ledger of its own and one with all others.
struct Gateway {
    limits: Limits,
    costs: Costs,
    local: Ledger,
    shared: Ledger,
    now: u64,
}

/// A request that was admitted.
struct Open {
    call: Call,
    ticket: Ticket,
    /// What it has claimed, as the model knows it.
    claims: Vec<Claim>,
}

/// What the model says of counters, by name.
#[derive(Default)]
struct Model {
    used: BTreeMap<String, u64>,
    /// By how much each may exceed its limit.
    beyond: BTreeMap<String, u64>,
    /// Those that do not hold their limits: they are checked, or only count.
    loose: BTreeSet<String>,
}

fn usage(tokens: u64) -> Usage {
    Usage {
        input: Some(tokens),
        ..Usage::default()
    }
}

fn subject(usage: &Usage) -> cost::Subject<'_> {
    cost::Subject {
        model: "m",
        backend: "default/b",
        reference: "default/b/route/r/rule/0/ref/0",
        route: "default/r",
        usage,
        money: cost::prices::Money::default(),
    }
}

impl Gateway {
    fn new((shared, requests, local): (u64, u64, u64)) -> Self {
        let total = LLMRequestCost {
            metadata_key: "tokens".to_owned(),
            kind: CostKind::TotalToken,
            cel: None,
        };
        let user = json!([{ "headers": [{ "name": "x-user-id", "type": "Distinct" }] }]);
        let rule = |limit: u64, charge: u64| {
            json!({
                "clientSelectors": user,
                "limit": { "requests": limit, "unit": "Minute" },
                "cost": {
                    "request": { "from": "Number", "number": charge },
                    "response": { "from": "Metadata", "metadata": { "namespace": NAMESPACE, "key": "tokens" } },
                },
            })
        };
        let mut shadow = rule(1, 1);
        shadow["shadowMode"] = json!(true);
        let spec = json!({
            "global": { "rules": [rule(shared, 0), rule(shared, 1), shadow] },
            "local": { "rules": [{ "limit": { "requests": requests, "unit": "Minute" } }, rule(local, 2)] },
        });
        let spec: RateLimit = serde_json::from_value(spec).expect("a spec");
        let switches = Switches {
            mode: Switch::parse("reserve", switch::mode).expect("a word"),
            ..Switches::default()
        };
        let (mut limits, faults) = Limits::parse("p/p", &spec, &switches);
        assert_eq!(faults, []);
        for rule in &mut limits.rules {
            if rule.id.ends_with(CHECKED) {
                rule.mode = Mode::Check;
            }
        }
        Self {
            limits,
            costs: Costs::parse(&[total], &[]).0,
            // Room for the counters of three windows, so that those that are over are forgotten.
            local: Ledger::new(40),
            shared: Ledger::new(40),
            now: 1000,
        }
    }

    fn claims(&self, call: &Call) -> Claims {
        let mut headers = HeaderMap::new();
        headers.insert("x-user-id", call.user.to_string().parse().expect("a value"));
        let (metadata, expected) = (Metadata::new(), usage(call.expected));
        let request = Request {
            subject: Subject {
                headers: &headers,
                model: "m",
                method: &Method::POST,
                path: "/v1/chat/completions",
                query: "",
                address: None,
                metadata: &metadata,
            },
            listener: "l",
            rule: "r",
            costs: Some(&self.costs),
            estimate: subject(&expected),
            now: self.now,
            due: self.now + HELD,
        };
        let mut claims = Claims::default();
        for rule in &self.limits.rules {
            rule.claim(&request, &mut claims);
        }
        claims
    }

    /// Asks one store and then the other, as the gateway does; what the first has given is given back where the second
    /// refuses. `None` if one refuses, with the claims that were made until then.
    fn begin(&mut self, call: &Call, leaves: bool) -> (Option<Ticket>, Vec<Claim>) {
        let (local, shared) = self.claims(call).split();
        let mut asked = local.claims.clone();
        let states = self.local.admit(&local.claims, self.now);
        if !decide(&local.claims, states.iter().map(|state| state.over)) {
            return (None, asked);
        }
        let (used, mut ticket) = (local.used(), local.ticket());
        let admitted = !leaves && {
            asked.extend(shared.claims.iter().cloned());
            let states = self.shared.admit(&shared.claims, self.now);
            decide(&shared.claims, states.iter().map(|state| state.over))
        };
        if !admitted {
            for (counter, charge) in used {
                self.local.take_back(&counter, charge);
            }
            self.settle(ticket, None);
            return (None, asked);
        }
        ticket.append(shared.ticket());
        (Some(ticket), asked)
    }

    fn settle(&mut self, ticket: Ticket, spent: Option<u64>) {
        let usage = spent.map(usage);
        let spent = usage.as_ref().map(subject);
        let (local, shared) = ticket.settle(spent.as_ref(), self.now);
        for (ledger, settlements) in [(&mut self.local, local), (&mut self.shared, shared)] {
            for settlement in settlements {
                ledger.settle(&settlement, self.now);
            }
        }
    }

    /// Returns the counters: what of each is used and held, and its limit.
    fn counters(&mut self, now: u64) -> BTreeMap<String, (u64, u64, u64)> {
        let local = self.local.entries("", usize::MAX, now);
        let all = local.into_iter().chain(self.shared.entries("", usize::MAX, now));
        let all = all.map(|entry| (entry.counter.to_string(), (entry.used, entry.held, entry.limit)));
        all.collect()
    }
}

impl Model {
    /// Notes a request that has made `claim`.
    fn begin(&mut self, claim: &Claim, admitted: bool) {
        let name = claim.counter.name();
        let checked = claim.manner == Manner::Check;
        if admitted || checked {
            *self.used.entry(name.to_owned()).or_default() += claim.charge;
        }
        if checked || claim.vote == Vote::Never {
            self.loose.insert(name.to_owned());
        }
    }

    /// Notes what a request has cost that has made `claim`, and ends at `now`.
    fn end(&mut self, call: &Call, claim: &Claim, now: u64) {
        if claim.rule.ends_with(REQUESTS) {
            return;
        }
        let cost = call.expected + call.beyond;
        let counter = match claim.manner {
            Manner::Reserve => claim.counter.clone(),
            Manner::Check => {
                let start = now - now % MINUTE;
                let end = start + MINUTE;
                claim.counter.at(Span { start, end })
            }
        };
        *self.used.entry(counter.name().to_owned()).or_default() += cost;
        let late = if now >= claim.due { call.expected } else { 0 };
        // What is larger than the whole limit is let through where nothing else was used.
        let held = claim.hold.max(1);
        let beyond = call.beyond + late + call.expected.saturating_sub(held);
        *self.beyond.entry(counter.name().to_owned()).or_default() += beyond;
    }
}

proptest! {
    /// Whatever requests do: those that are refused, or given up, use and hold nothing but of limits that are checked; of no
    /// limit more is used than it has and requests cost beyond their estimates; every unit is found on the counter of the
    /// window that it belongs to; and nothing is held for longer than it may be.
    #[test]
    fn several_limits_hold(
        steps in vec(step(), 0..150),
        limits in (1..120_u64, 1..20_u64, 1..120_u64),
    ) {
        let mut gateway = Gateway::new(limits);
        let (mut model, mut open) = (Model::default(), Vec::<Open>::new());
        for step in steps {
            let leaves = matches!(step, Step::Leave(_));
            match step {
                Step::Wait(seconds) => gateway.now += seconds,
                Step::Begin(call) | Step::Leave(call) => {
                    let before = gateway.counters(gateway.now);
                    let (ticket, claims) = gateway.begin(&call, leaves);
                    let admitted = ticket.is_some();
                    for claim in &claims {
                        model.begin(claim, admitted);
                    }
                    if let Some(ticket) = ticket {
                        open.push(Open { call, ticket, claims });
                    } else {
                        let mut after = gateway.counters(gateway.now);
                        let checked: Vec<_> = claims.iter().filter(|claim| claim.manner == Manner::Check).collect();
                        after.retain(|name, (used, held, _)| {
                            let is_new = (*used, *held) == (0, 0) && !before.contains_key(name);
                            !is_new && !checked.iter().any(|claim| claim.counter.name() == name)
                        });
                        for (name, counter) in after {
                            prop_assert_eq!(Some(&counter), before.get(&name), "{}", name);
                        }
                    }
                }
                Step::End(place) if place < open.len() => {
                    let Open { call, ticket, claims } = open.swap_remove(place);
                    for claim in &claims {
                        model.end(&call, claim, gateway.now);
                    }
                    gateway.settle(ticket, Some(call.expected + call.beyond));
                }
                Step::Fail(place) if place < open.len() => {
                    let Open { ticket, .. } = open.swap_remove(place);
                    gateway.settle(ticket, None);
                }
                Step::Forget(place) if place < open.len() => {
                    open.swap_remove(place);
                }
                Step::End(_) | Step::Fail(_) | Step::Forget(_) => {}
            }
            // Of all windows, also those that are over.
            for (name, (used, _, limit)) in gateway.counters(0) {
                prop_assert_eq!(used, model.used.get(&name).copied().unwrap_or(0), "{}", &name);
                let beyond = model.beyond.get(&name).copied().unwrap_or(0);
                let holds = !model.loose.contains(&name);
                prop_assert!(!holds || used <= limit + beyond, "{name}: {used} > {limit} + {beyond}");
            }
        }
        // Whatever is not settled is given back when it is due.
        for (name, (_, held, _)) in gateway.counters(gateway.now + HELD) {
            prop_assert_eq!(held, 0, "{}", name);
        }
    }
}

#[test]
fn the_rules_of_the_model_are_those_that_are_meant() {
    let gateway = Gateway::new((1, 1, 1));
    let rules = gateway.limits.rules.iter();
    let found: Vec<_> = rules
        .map(|rule| (&*rule.id, rule.mode, rule.vote, rule.local))
        .collect();
    assert_eq!(
        found,
        [
            ("p/p/rule/0", Mode::Reserve, Vote::Must, false),
            ("p/p/rule/1", Mode::Check, Vote::Must, false),
            ("p/p/rule/2", Mode::Reserve, Vote::Never, false),
            ("p/p/local/0", Mode::Reserve, Vote::Must, true),
            ("p/p/local/1", Mode::Reserve, Vote::Must, true),
        ]
    );
}
