//! Rules against a ledger in memory: which keys they count under, and when they refuse.

use http::{HeaderMap, Method};
use llm::Usage;
use serde_json::json;

use super::{
    selector::Subject,
    store::{self, Claim, Ledger, State},
    window::Span,
    *,
};
use crate::cost::spec::{CostKind, LLMRequestCost};

const NOW: u64 = 1_735_689_661;

fn limits(rules: Value, switches: &Switches) -> Limits {
    let spec = json!({ "type": "Global", "global": { "rules": rules } });
    let spec: RateLimit = serde_json::from_value(spec).expect("a spec");
    let (limits, faults) = Limits::parse("default/policy", &spec, switches);
    assert_eq!(faults, []);
    limits
}

fn costs() -> Costs {
    let total = LLMRequestCost {
        metadata_key: "llm_total_token".to_owned(),
        kind: CostKind::TotalToken,
        cel: None,
    };
    Costs::parse(&[total], &[]).0
}

/// What an authorization service says of a request: its `limit`.
fn said(authz: Value) -> Metadata {
    [("authz".to_owned(), authz)].into()
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage {
        input: Some(input),
        output: Some(output),
        ..Usage::default()
    }
}

fn subject(usage: &Usage) -> cost::Subject<'_> {
    cost::Subject {
        model: "gpt-4o",
        backend: "default/openai",
        reference: "default/openai/route/r/rule/0/ref/0",
        route: "default/r",
        usage,
        money: cost::prices::Money::default(),
    }
}

/// A client of some limits, whose requests are counted in a ledger.
struct Client {
    limits: Limits,
    costs: Costs,
    ledger: Ledger,
    metadata: Metadata,
    now: u64,
}

impl Client {
    fn new(rules: Value, switches: &Switches) -> Self {
        Self {
            limits: limits(rules, switches),
            costs: costs(),
            ledger: Ledger::new(100),
            metadata: Metadata::new(),
            now: NOW,
        }
    }

    /// Begins a request of `user` that is expected to cost `expected`; returns what it owes, or the seconds that
    /// it has to wait.
    fn begin(&mut self, user: &str, expected: &Usage) -> Result<Ticket, u64> {
        let mut headers = HeaderMap::new();
        headers.insert("x-user-id", user.parse().expect("a value"));
        let request = Request {
            subject: Subject {
                headers: &headers,
                model: "gpt-4o",
                method: &Method::POST,
                path: "/v1/chat/completions",
                query: "",
                address: None,
                metadata: &self.metadata,
            },
            listener: "default/gw/http",
            rule: "R",
            costs: Some(&self.costs),
            estimate: subject(expected),
            now: self.now,
            due: self.now + 60,
        };
        let mut claims = Claims::default();
        for rule in &self.limits.rules {
            rule.claim(&request, &mut claims);
        }
        let states = self.ledger.admit(&claims.claims, self.now);
        if store::decide(&claims.claims, states.iter().map(|state| state.over)) {
            Ok(claims.ticket())
        } else {
            Err(claims.refused(&states, self.now).expect("a refusal").0)
        }
    }

    fn end(&mut self, ticket: Ticket, spent: &Usage) {
        let (_, settlements) = ticket.settle(Some(&subject(spent)), self.now);
        for settlement in settlements {
            self.ledger.settle(&settlement, self.now);
        }
    }

    /// Makes requests that cost `spent`, one after the other, and returns how many are admitted.
    fn run(&mut self, user: &str, spent: &Usage) -> usize {
        let mut admitted = 0;
        while let Ok(ticket) = self.begin(user, spent) {
            self.end(ticket, spent);
            admitted += 1;
            assert!(admitted < 1000, "no limit");
        }
        admitted
    }

    fn counters(&mut self) -> Vec<(String, u64)> {
        let mut entries = self.ledger.entries("", usize::MAX, self.now);
        entries.sort_by(|one, other| one.counter.cmp(&other.counter));
        let entries = entries.into_iter();
        entries
            .map(|entry| (entry.counter.to_string(), entry.used))
            .collect()
    }
}

fn token_rule(limit: u64) -> Value {
    json!([{
        "clientSelectors": [{ "headers": [{ "name": "x-user-id", "type": "Distinct" }] }],
        "limit": { "requests": limit, "unit": "Hour" },
        "cost": {
            "request": { "from": "Number", "number": 0 },
            "response": { "from": "Metadata", "metadata": { "namespace": NAMESPACE, "key": "llm_total_token" } },
        },
    }])
}

fn check_manner() -> Switches {
    Switches {
        mode: Switch::parse("check", switch::mode).expect("a word"),
        ..Switches::default()
    }
}

#[test]
fn requests_are_counted_by_default() {
    let rules = json!([{ "limit": { "requests": 3, "unit": "Minute" } }]);
    let mut client = Client::new(rules, &Switches::default());
    assert_eq!(client.run("a", &tokens(1, 1)), 3);
    assert_eq!(client.begin("a", &tokens(1, 1)).map(|_| ()), Err(59));
    let counter = "default/gw/http_R_R_rule-0-match--1_rule-0-match--1_1735689660";
    assert_eq!(client.counters(), [(counter.to_owned(), 3)]);
    client.now += 59;
    assert_eq!(client.run("a", &tokens(1, 1)), 3, "a new window");
}

#[test]
fn checked_tokens_admit_one_more() {
    let mut client = Client::new(token_rule(10), &check_manner());
    assert_eq!(client.run("alice", &tokens(3, 1)), 3);
    // Others have a counter of their own.
    assert_eq!(client.run("bob", &tokens(20, 0)), 1);
    let counter = |user, used| {
        let key = format!("default/gw/http_R_R_rule-0-match-0_{user}_1735689600");
        (key, used)
    };
    assert_eq!(client.counters(), [counter("alice", 12), counter("bob", 20)]);
}

#[test]
fn reserved_tokens_hold_the_limit() {
    let mut client = Client::new(token_rule(10), &Switches::default());
    assert_eq!(client.run("alice", &tokens(3, 1)), 2);
    // What is larger than the limit passes once.
    assert_eq!(client.run("bob", &tokens(20, 0)), 1);
    // Requests that run at the same time see one another.
    let first = client.begin("carol", &tokens(3, 3)).expect("room");
    assert!(client.begin("carol", &tokens(3, 3)).is_err());
    client.end(first, &tokens(1, 1));
    assert!(client.begin("carol", &tokens(3, 3)).is_ok());
}

#[test]
fn a_limit_of_nothing_admits_nothing() {
    let mut client = Client::new(token_rule(0), &Switches::default());
    assert_eq!(client.run("a", &tokens(0, 0)), 0);
}

#[test]
fn limits_come_with_requests() {
    let mut rules = token_rule(10);
    rules[0]["limit"]["fromMetadata"] = json!({ "namespace": "authz", "key": "limit" });
    let mut client = Client::new(rules, &check_manner());
    client.metadata = said(json!({ "limit": { "requests_per_unit": 1000, "unit": "HOUR" } }));
    assert_eq!(client.run("alice", &tokens(100, 0)), 11);
    client.metadata = said(json!({ "limit": { "requests_per_unit": -1, "unit": "HOUR" } }));
    assert_eq!(client.run("bob", &tokens(10, 0)), 2, "the limit of the rule");
    client.metadata = said(json!({ "limit": { "requests_per_unit": 0, "unit": "HOUR" } }));
    assert_eq!(
        client.run("carol", &tokens(10, 0)),
        1,
        "until something is charged"
    );
}

/// A unit of its own is a window of its own, and what was used of another stays there.
#[test]
fn limits_come_in_units_of_their_own() {
    let mut rules = token_rule(10);
    rules[0]["limit"]["fromMetadata"] = json!({ "namespace": "authz", "key": "limit" });
    let mut client = Client::new(rules, &Switches::default());
    let own = |requests: Value, unit: &str| {
        said(json!({ "limit": { "requests_per_unit": requests, "unit": unit } }))
    };
    client.metadata = own(json!(20.0), "HOUR");
    assert_eq!(client.run("a", &tokens(5, 0)), 4);
    client.metadata = own(json!(30), "HOUR");
    assert_eq!(client.run("a", &tokens(5, 0)), 2, "what was used stays");
    // As many as an unsigned number of 32 bits can say.
    client.metadata = own(json!(u32::MAX), "DAY");
    let held = client.begin("large", &tokens(2_000_000_000, 0));
    assert!(held.is_ok() && client.begin("large", &tokens(1_000_000_000, 0)).is_ok());
    client.metadata = own(json!(20), "MINUTE");
    assert_eq!(client.run("a", &tokens(5, 0)), 4, "another window");
    for (user, requests, unit) in [
        ("b", json!("20"), "HOUR"),
        ("c", json!(20.5), "HOUR"),
        ("d", json!(20), "hour"),
    ] {
        client.metadata = own(requests, unit);
        assert_eq!(
            client.run(user, &tokens(5, 0)),
            2,
            "{user}: the limit of the rule"
        );
    }
    // Nothing is left of nothing, so that a tenant is suspended at once.
    client.metadata = own(json!(0), "DAY");
    assert_eq!(client.run("suspended", &tokens(0, 0)), 0);
}

/// What a request counts when it arrives may be somebody else's word; what is no such number counts nothing.
#[test]
fn requests_count_what_is_said_of_them() {
    let weight = json!({ "from": "Metadata", "metadata": { "namespace": "authz", "key": "weight" } });
    let rule = |cost: Value| json!([{ "limit": { "requests": 10, "unit": "Hour" }, "cost": cost }]);
    let mut client = Client::new(rule(json!({ "request": weight })), &Switches::default());
    let mut check = |weight: Value, used: &[u64]| {
        client.metadata = said(json!({ "weight": weight }));
        assert!(client.begin("a", &tokens(1, 1)).is_ok(), "{weight}");
        let found: Vec<u64> = client.counters().into_iter().map(|(_, used)| used).collect();
        assert_eq!(found, used, "{weight}");
    };
    for none in [
        Value::Null,
        json!("4"),
        json!(-1),
        json!(0.5),
        json!(1_000_000_001_u64),
        json!(0),
    ] {
        check(none, &[]);
    }
    check(json!(4), &[4]);
    check(json!(6.0), &[10]);
    client.metadata = said(json!({ "weight": 1 }));
    assert!(client.begin("a", &tokens(1, 1)).is_err());
    // A number for each answer, whatever its tokens are.
    let fixed = json!({ "request": { "from": "Number", "number": 0 }, "response": { "from": "Number", "number": 5 } });
    let mut client = Client::new(rule(fixed), &Switches::default());
    assert_eq!(client.run("a", &tokens(100, 100)), 2);
}

#[test]
fn every_rule_counts_and_each_can_refuse() {
    let mut shadow = token_rule(1)[0].clone();
    shadow["shadowMode"] = json!(true);
    let shared = json!({ "limit": { "requests": 2, "unit": "Hour" }, "shared": true });
    let rules = json!([token_rule(1000)[0], shared, shadow]);
    let mut client = Client::new(rules, &Switches::default());
    assert_eq!(client.run("a", &tokens(5, 0)), 2);
    let shared =
        "default/policy_default/policy/rule/1_default/policy/rule/1_rule-1-match--1_rule-1-match--1_";
    let used: Vec<_> = client.counters();
    assert_eq!((used[0].1, used[1].1), (10, 10));
    assert_eq!(used[2], (format!("{shared}1735689600"), 2));
}

#[test]
fn a_number_that_is_not_known_is_not_counted() {
    let mut rules = token_rule(0);
    rules[0]["cost"]["response"]["metadata"]["key"] = json!("no_such_cost");
    let mut client = Client::new(rules, &Switches::default());
    assert!(
        client
            .begin("a", &tokens(1, 1))
            .is_ok_and(|ticket| ticket.is_empty())
    );
    let named = client.limits.costs();
    assert_eq!(named.collect::<Vec<_>>(), ["no_such_cost"]);
}

#[test]
fn what_is_left_is_told() {
    let asker = Asker {
        local: false,
        failure: Failure::Open,
        cuts: false,
        charge: None,
    };
    let claim = |limit, start, end| Claim {
        rule: "rule".into(),
        counter: Counter::new(String::new(), Span { start, end }),
        before: None,
        limit,
        charge: 1,
        hold: 0,
        due: 0,
        ahead: 0,
        manner: Manner::Reserve,
        vote: Vote::Must,
    };
    let claims = Claims {
        claims: vec![claim(100, 0, 3600), claim(5, 60, 120)],
        askers: vec![asker.clone(), asker],
        unread: None,
    };
    let state = |used, held| State {
        used,
        held,
        ..State::default()
    };
    let told = claims.told(&[state(10, 0), state(2, 1)], 90).expect("limits");
    assert_eq!(told.limit, "5, 100;w=3600, 5;w=60");
    assert_eq!((told.remaining, told.reset), (2, 30));
}

#[test]
fn faults_name_their_fields() {
    let spec = json!({ "global": { "rules": [
        { "limit": { "requests": 1, "unit": "Hour" }, "cost": { "response": { "from": "Number" } } },
        { "limit": { "requests": 1, "unit": "Hour" }, "clientSelectors": [{ "sourceCIDR": { "value": "x" } }] },
        { "limit": { "requests": 1, "unit": "Hour" } },
    ] }, "local": { "rules": [{ "limit": { "requests": 1, "unit": "Second" } }] } });
    let spec: RateLimit = serde_json::from_value(spec).expect("a spec");
    let (limits, faults) = Limits::parse("default/policy", &spec, &Switches::default());
    let fields: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "global.rules[0].cost.response.number",
            "global.rules[1].clientSelectors[0].sourceCIDR"
        ]
    );
    let rules = limits.rules.iter();
    let ids: Vec<_> = rules.map(|rule| (&*rule.id, rule.local, rule.unread)).collect();
    assert_eq!(
        ids,
        [
            ("default/policy/rule/0", false, true),
            ("default/policy/rule/1", false, true),
            ("default/policy/rule/2", false, false),
            ("default/policy/local/0", true, false)
        ]
    );
}

/// What each gateway counts by itself is not counted on the counter of what all share, though one store has both.
#[test]
fn rules_of_both_kinds_have_counters_of_their_own() {
    for shared in [false, true] {
        let rule = |limit: u64| json!({ "rules": [{ "limit": { "requests": limit, "unit": "Hour" }, "shared": shared }] });
        let spec = json!({ "global": rule(5), "local": rule(3) });
        let spec: RateLimit = serde_json::from_value(spec).expect("a spec");
        let mut client = Client::new(json!([]), &Switches::default());
        client.limits = Limits::parse("default/policy", &spec, &Switches::default()).0;
        assert_eq!(client.run("a", &tokens(1, 1)), 3);
        let used: Vec<u64> = client.counters().into_iter().map(|(_, used)| used).collect();
        assert_eq!(used, [3, 3]);
    }
}

/// Whatever an answer costs is not known where its route does not count it; what a request counts is.
#[test]
fn requests_count_where_their_answers_cannot() {
    let mut rules = token_rule(3);
    rules[0]["cost"]["response"]["metadata"]["key"] = json!("no_such_cost");
    rules[0]["cost"]["request"] = Value::Null;
    let mut client = Client::new(rules, &Switches::default());
    assert_eq!(client.run("a", &tokens(100, 1)), 3);
}
