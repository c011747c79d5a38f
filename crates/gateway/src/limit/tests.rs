//! The decision over the claims of a request where there is no room for more counters.

use http::{HeaderMap, Method};
use llm::Usage;
use policy::{
    Metadata,
    cost::prices::Money,
    rate_limit::{
        Limits, Request, Switches, selector,
        switch::{self, Switch},
    },
};
use serde_json::{Value, json};

use super::{memory::MAX_COUNTERS, *};

/// The beginning of a minute.
const NOW: u64 = 1_735_689_600;

/// One counter for each user, all of them together, and each user once more in whatever way `last` says.
fn limits(last: &Value, failure: &str) -> Limits {
    let user = json!([{ "headers": [{ "name": "x-user-id", "type": "Distinct" }] }]);
    let mut counted = json!({ "clientSelectors": user, "limit": { "requests": 5, "unit": "Minute" } });
    for (name, value) in last.as_object().into_iter().flatten() {
        counted[name] = value.clone();
    }
    let all = json!({
        "limit": { "requests": 1_000_000, "unit": "Minute" },
        "cost": {
            "request": { "from": "Number", "number": 1 },
            "response": { "from": "Number", "number": 7 },
        },
    });
    let spec = json!({ "global": { "rules": [all, counted] } });
    let switches = Switches {
        failure: Switch::parse(failure, switch::failure).expect("a word"),
        ..Switches::default()
    };
    let spec = serde_json::from_value(spec).expect("a spec");
    let (limits, faults) = Limits::parse("p/p", &spec, &switches);
    assert_eq!(faults, []);
    limits
}

/// Returns the ids of the rules that could not be asked, or that of the one that refuses.
async fn ask(limiter: &Limiter, limits: &Limits, user: &str, now: u64) -> Result<Vec<String>, String> {
    let mut headers = HeaderMap::new();
    headers.insert("x-user-id", user.parse().expect("a value"));
    let (metadata, expected) = (Metadata::new(), Usage::default());
    let request = Request {
        subject: selector::Subject {
            headers: &headers,
            model: "m",
            method: &Method::POST,
            path: "/",
            query: "",
            address: None,
            metadata: &metadata,
        },
        listener: "l",
        rule: "r",
        costs: None,
        estimate: Subject {
            model: "m",
            backend: "b",
            reference: "b",
            route: "r",
            usage: &expected,
            money: Money::default(),
        },
        now,
        due: now + 60,
    };
    let mut claims = Claims::default();
    for rule in &limits.rules {
        rule.claim(&request, &mut claims);
    }
    match limiter.admit(claims, true, now).await {
        Ok(admitted) => {
            limiter.settle(admitted.ticket, None, now);
            let unasked = admitted.unasked.iter();
            Ok(unasked.map(ToString::to_string).collect())
        }
        Err(Denied::Over { rule, .. }) => Err(format!("{rule} over")),
        Err(Denied::Unknown { rule }) => Err(format!("{rule} unknown")),
    }
}

/// Returns what is used and held of the counter of all.
fn all(limiter: &Limiter, now: u64) -> (u64, u64) {
    let fullest = limiter.fullest(now);
    let all = fullest.iter().find(|entry| &*entry.rule == "p/p/rule/0");
    all.map_or((0, 0), |entry| (entry.used, entry.held))
}

#[tokio::test]
async fn what_there_is_no_room_for_is_decided_by_the_rule() {
    let limiter = Limiter::default();
    let plain = json!({});
    let open = limits(&plain, "open");
    for user in 1..MAX_COUNTERS {
        assert_eq!(ask(&limiter, &open, &user.to_string(), NOW).await, Ok(Vec::new()));
    }
    let full = MAX_COUNTERS as u64 - 1;
    assert_eq!(all(&limiter, NOW), (full, 0));
    // The rule lets through whom it does not know; whom it knows it counts on.
    let unknown = vec!["p/p/rule/1".to_owned()];
    assert_eq!(ask(&limiter, &open, "new", NOW).await, Ok(unknown.clone()));
    assert_eq!(ask(&limiter, &open, "1", NOW).await, Ok(Vec::new()));
    assert_eq!(all(&limiter, NOW), (full + 2, 0));
    // Who is refused for it uses nothing of the others, and holds nothing.
    let closed = limits(&plain, "closed");
    for _ in 0..3 {
        let refused = ask(&limiter, &closed, "new", NOW).await;
        assert_eq!(refused, Err("p/p/rule/1 unknown".to_owned()));
        assert_eq!(all(&limiter, NOW), (full + 2, 0));
    }
    assert_eq!(ask(&limiter, &closed, "1", NOW).await, Ok(Vec::new()));
    // A rule that only counts refuses nobody.
    let shadow = limits(&json!({ "shadowMode": true }), "closed");
    assert_eq!(ask(&limiter, &shadow, "new", NOW).await, Ok(unknown.clone()));
    // A limit that holds is held whatever is not known beside it.
    let over = limits(
        &json!({ "clientSelectors": [], "limit": { "requests": 0, "unit": "Minute" } }),
        "open",
    );
    assert_eq!(
        ask(&limiter, &over, "new", NOW).await,
        Err("p/p/rule/1 over".to_owned())
    );
    // Within the window there is no more room, however often somebody asks; in the next one there is.
    assert_eq!(ask(&limiter, &open, "newer", NOW + 59).await, Ok(unknown));
    assert_eq!(ask(&limiter, &open, "newer", NOW + 60).await, Ok(Vec::new()));
    assert_eq!(limiter.entries("", usize::MAX, NOW + 60).len(), 2);
}
