//! Quotas against a ledger in memory: what is let through, and which counters are charged.

use http::{HeaderMap, Method};
use llm::Usage;
use serde_json::{Value, json};

use super::*;
use crate::{
    Metadata, cost,
    rate_limit::{
        selector::Subject,
        store::{self, Ledger},
    },
};

const NOW: u64 = 1_735_689_661;

/// A client whose requests use up quotas.
struct Client {
    quota: Quota,
    ledger: Ledger,
    now: u64,
}

impl Client {
    fn new(together: Together, service: Option<Value>, model: Value) -> Self {
        let owner = Owner {
            backend: "default/openai",
            policy: "default/quota",
            switches: &Switches::default(),
            together,
        };
        let mut quota = Quota::default();
        if let Some(service) = service {
            let service = serde_json::from_value(service).expect("a quota");
            quota.serve(owner, &service).expect("well-formed");
        }
        let model = json!({ "modelName": "gpt-4o", "quota": model });
        quota
            .limit(owner, &serde_json::from_value(model).expect("a quota"))
            .expect("well-formed");
        Self {
            quota,
            ledger: Ledger::new(100),
            now: NOW,
        }
    }

    /// Makes one request; returns whether it was admitted.
    fn ask(&mut self, model: &str, user: Option<&str>, tokens: u64) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(user) = user {
            headers.insert("x-user-id", user.parse().expect("a value"));
        }
        let usage = Usage {
            input: Some(tokens),
            ..Usage::default()
        };
        let subject = cost::Subject {
            model,
            backend: "default/openai",
            reference: "",
            route: "default/r",
            usage: &usage,
            money: cost::prices::Money::default(),
        };
        let request = Request {
            subject: Subject {
                headers: &headers,
                model,
                method: &Method::POST,
                path: "/v1/chat/completions",
                query: "",
                address: None,
                metadata: &Metadata::new(),
            },
            listener: "default/gw/http",
            rule: "R",
            costs: None,
            estimate: subject,
            now: self.now,
            due: self.now + 60,
        };
        let claims = self.quota.claims(model, &request);
        let states = self.ledger.admit(&claims.claims, self.now);
        let admitted = store::decide(&claims.claims, states.iter().map(|state| state.over));
        if admitted {
            for settlement in claims.ticket().settle(Some(&subject), self.now).1 {
                self.ledger.settle(&settlement, self.now);
            }
        }
        admitted
    }

    #[track_caller]
    fn check(&mut self, expected: &[(&str, u64)]) {
        let mut entries = self.ledger.entries("", usize::MAX, self.now);
        entries.sort_by(|one, other| one.counter.cmp(&other.counter));
        let found: Vec<_> = entries
            .iter()
            .map(|entry| (&*entry.counter, entry.used))
            .collect();
        assert_eq!(found, expected);
    }
}

fn bucket(limit: u64) -> Value {
    json!({ "limit": limit, "duration": "1h" })
}

fn of_user(user: &str, limit: u64) -> Value {
    let header = json!({ "name": "x-user-id", "type": "Exact", "value": user });
    json!({ "clientSelectors": [{ "headers": [header] }], "quota": bucket(limit) })
}

#[test]
fn a_model_has_a_quota() {
    let mut client = Client::new(Together::Any, None, json!({ "defaultBucket": bucket(10) }));
    assert!(
        client.ask("gpt-4o", None, 20),
        "larger than the quota, but the first"
    );
    assert!(!client.ask("gpt-4o", None, 20));
    assert!(client.ask("gpt-4o-mini", None, 20), "no quota");
    client.check(&[(
        "ai-gateway-quota_backend_name_default/openai_model_name_override_gpt-4o_1735689600",
        20,
    )]);
    client.now += 3600;
    assert!(client.ask("gpt-4o", None, 5), "a new window");
}

#[test]
fn a_limit_of_nothing_refuses() {
    let mut client = Client::new(Together::Any, None, json!({ "defaultBucket": bucket(0) }));
    assert!(!client.ask("gpt-4o", None, 1));
}

#[test]
fn buckets_burst_or_restrict() {
    let quota = json!({ "defaultBucket": bucket(30), "bucketRules": [of_user("alice", 10)] });
    let mut burst = Client::new(Together::Any, None, quota.clone());
    // Alice uses hers, then what all have.
    assert!((0..3).all(|_| burst.ask("gpt-4o", Some("alice"), 10)));
    assert!(!burst.ask("gpt-4o", Some("alice"), 10));
    let prefix = "ai-gateway-quota_backend_name_default/openai_model_name_override_gpt-4o";
    let entry = "rule-0-x-user-id|alice-match-0";
    burst.check(&[
        (&format!("{prefix}_{entry}_{entry}_1735689600"), 30),
        (
            &format!("{prefix}_rule-1-match--1_rule-1-match--1_1735689600"),
            30,
        ),
    ]);
    let mut restrict = Client::new(Together::All, None, quota);
    assert!(restrict.ask("gpt-4o", Some("alice"), 10));
    assert!(!restrict.ask("gpt-4o", Some("alice"), 10));
    assert!(restrict.ask("gpt-4o", Some("bob"), 10));
}

#[test]
fn each_value_is_checked_and_charged_alike() {
    let header = json!({ "name": "x-user-id", "type": "Distinct" });
    let rule = json!({ "clientSelectors": [{ "headers": [header] }], "quota": bucket(10) });
    let mut client = Client::new(Together::Any, None, json!({ "bucketRules": [rule] }));
    for user in ["alice", "bob"] {
        assert!(client.ask("gpt-4o", Some(user), 10), "{user}");
        assert!(!client.ask("gpt-4o", Some(user), 10), "{user}");
    }
    let key =
        "ai-gateway-quota_backend_name_default/openai_model_name_override_gpt-4o_rule-0-x-user-id-match-0";
    client.check(&[
        (&format!("{key}_alice_1735689600"), 10),
        (&format!("{key}_bob_1735689600"), 10),
    ]);
    assert!(client.ask("gpt-4o", None, 10), "no bucket is for it");
}

#[test]
fn inverted_conditions_are_charged_as_they_are_checked() {
    let header = json!({ "name": "x-user-id", "value": "alice", "invert": true });
    let rule = json!({ "clientSelectors": [{ "headers": [header] }], "quota": bucket(10) });
    let mut client = Client::new(Together::Any, None, json!({ "bucketRules": [rule] }));
    assert!((0..5).all(|_| client.ask("gpt-4o", Some("alice"), 10)));
    assert!(client.ask("gpt-4o", Some("bob"), 10));
    assert!(!client.ask("gpt-4o", Some("bob"), 10));
}

#[test]
fn a_shadow_counts_and_decides_nothing() {
    let mut shadow = of_user("alice", 1);
    shadow["shadowMode"] = json!(true);
    let quota = json!({ "defaultBucket": bucket(20), "bucketRules": [shadow] });
    let mut client = Client::new(Together::Any, None, quota);
    assert!((0..2).all(|_| client.ask("gpt-4o", Some("alice"), 10)));
    assert!(
        !client.ask("gpt-4o", Some("alice"), 10),
        "the other bucket still refuses"
    );
}

#[test]
fn a_backend_has_a_quota_over_all_models() {
    let service = json!({ "costExpression": "total_tokens * 2u", "quota": bucket(50) });
    let mut client = Client::new(
        Together::Any,
        Some(service),
        json!({ "defaultBucket": bucket(1000) }),
    );
    assert!(client.ask("gpt-4o", None, 10));
    assert!(client.ask("other", None, 10));
    assert!(!client.ask("gpt-4o", None, 10));
    assert!(!client.ask("other", None, 10));
}

#[test]
fn malformed() {
    let owner = Owner {
        backend: "default/openai",
        policy: "default/quota",
        switches: &Switches::default(),
        together: Together::Any,
    };
    for (quota, field) in [
        (json!({ "costExpression": "1.5x" }), "quota.costExpression"),
        (
            json!({ "defaultBucket": { "limit": 1, "duration": "2h" } }),
            "quota.defaultBucket.duration",
        ),
        (
            json!({ "bucketRules": [{ "quota": bucket(1), "clientSelectors": [{ "headers": [{ "name": "a" }] }] }] }),
            "quota.bucketRules[0].clientSelectors[0].headers[0]",
        ),
    ] {
        let written = json!({ "modelName": "m", "quota": quota });
        let written = serde_json::from_value(written).expect("a quota");
        let fault = Quota::default().limit(owner, &written).expect_err("a fault");
        assert_eq!(fault.0, field);
    }
}
