//! What requests cost in money: by whoever has answered, whatever becomes of them, and held against limits.

use std::sync::Arc;

use gateway::Gateway;
use policy::{
    cost::{Costs, prices::Prices},
    rate_limit::{Limits, Switches, switch},
};
use serde_json::{Value, json};
use testkit::{Client, Reply, Upstream, fixture};

use crate::fixture::{CHAT, MODEL, Served, messages, openai, options, serve, snapshot_with};

const PRICES: &str = "USD; m: input=2, output=10, flex=0.5";

/// What an answer of the fixture costs by those: 11 tokens and 7.
const AMOUNT: f64 = 0.000_092;

/// Returns what is told of the last request's costs, once it is.
async fn costs(served: &Served) -> Value {
    served.metric_reaches("tollgate_requests_total", &[], 1.0).await;
    let recent = served.admin("/debug/requests?limit=1").await.json();
    let id = recent[0]["id"].as_str().expect("an id").to_owned();
    let told = served.admin(&format!("/debug/requests/{id}")).await.json();
    told["costs"].clone()
}

async fn ask(served: &Served) -> u16 {
    let request = fixture::openai::request(MODEL, false);
    served.post(CHAT, &request).await.status
}

#[tokio::test]
async fn an_answer_costs_what_its_tokens_cost() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream).priced(PRICES)]).await;
    assert_eq!(ask(&served).await, 200);
    let money = json!({ "total": AMOUNT, "prompt": 0.000_022, "answer": 0.000_07, "currency": "USD" });
    let expected = json!({ "estimated": false, "charged": {}, "money": money });
    assert_eq!(costs(&served).await, expected);
    let labels = [
        "currency=\"USD\"",
        "gen_ai_provider_name=\"openai\"",
        "gen_ai_request_model=\"m\"",
        "route=\"default/route\"",
    ];
    served
        .metric_reaches("tollgate_spending_total", &labels, AMOUNT)
        .await;
    assert_eq!(served.metric("tollgate_unpriced_total", &[]).await, 0.0);
}

/// The tier at which it was served is the provider's word.
#[tokio::test]
async fn a_tier_of_service_has_a_factor() {
    let mut answer = fixture::openai::response("gpt");
    answer["service_tier"] = json!("flex");
    let upstream = Upstream::start(Reply::json(200, &answer)).await;
    let served = serve([openai(&upstream).priced(PRICES)]).await;
    assert_eq!(ask(&served).await, 200);
    assert_eq!(costs(&served).await["money"]["total"], json!(0.000_046));
}

/// What a backend does not say of a model its Gateway may, and where neither does the model has no price.
#[tokio::test]
async fn a_gateway_has_prices_for_models_of_which_backends_say_nothing() {
    const NONE: &str = "USD; other: input=1";
    for (own, usual, expected) in [
        (None, PRICES, Some("USD")),
        (Some(NONE), "EUR; m: input=2, output=10", Some("EUR")),
        (Some(PRICES), "EUR; m: input=7", Some("USD")),
        (Some(NONE), NONE, None),
        (None, NONE, None),
    ] {
        let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
        let to = openai(&upstream);
        let to = match own {
            Some(own) => to.priced(own),
            None => to,
        };
        let snapshot = snapshot_with(Default::default(), [to], |rule| {
            rule.prices = Some(Arc::new(Prices::parse(usual).expect("prices")));
        });
        let gateway = Gateway::start(options()).await.expect("the admin port is free");
        gateway.install(snapshot).await.expect("the port is free");
        let address = *gateway.addresses().first().expect("one listener");
        let served = Served { gateway, address };
        assert_eq!(ask(&served).await, 200);
        let money = costs(&served).await["money"].clone();
        match expected {
            Some(currency) => {
                let found = (&money["total"], &money["currency"]);
                assert_eq!(found, (&json!(AMOUNT), &json!(currency)), "{own:?} {usual}");
            }
            None => {
                assert_eq!(money, Value::Null, "{own:?} {usual}");
                served.metric_reaches("tollgate_unpriced_total", &[], 1.0).await;
            }
        }
    }
}

/// Whoever answers is paid, by its own list, and nobody for a failure.
#[tokio::test]
async fn whoever_answers_is_paid() {
    let failing = Upstream::start(Reply::json(500, &json!({}))).await;
    let sound = Upstream::start(Reply::json(200, &fixture::messages::response("claude"))).await;
    let spare = messages(&sound).after().priced("EUR; input=1");
    let served = serve([openai(&failing).priced(PRICES), spare]).await;
    assert_eq!(ask(&served).await, 200);
    let money = &costs(&served).await["money"];
    assert_eq!(
        (&money["total"], &money["currency"]),
        (&json!(0.000_011), &json!("EUR"))
    );
    assert_eq!(
        served
            .metric("tollgate_spending_total", &["currency=\"USD\""])
            .await,
        0.0
    );

    let served = serve([openai(&failing).priced(PRICES)]).await;
    assert_eq!(ask(&served).await, 500);
    assert_eq!(costs(&served).await["money"], Value::Null);
    assert_eq!(served.metric("tollgate_unpriced_total", &[]).await, 0.0);
}

/// A model that the list forgets is counted, so that somebody notices.
#[tokio::test]
async fn a_model_without_a_price_is_noticed() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream).priced("USD; gpt-*: input=1")]).await;
    assert_eq!(ask(&served).await, 200);
    assert_eq!(costs(&served).await["money"], Value::Null);
    let labels = ["gen_ai_request_model=\"m\"", "gen_ai_provider_name=\"openai\""];
    served
        .metric_reaches("tollgate_unpriced_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn what_nobody_waited_for_is_paid_by_an_estimate() {
    let begun = Reply::stream().frames(fixture::openai::frames("gpt").into_iter().take(2));
    let upstream = Upstream::start(begun.stall()).await;
    let served = serve([openai(&upstream).priced(PRICES)]).await;
    let mut client = Client::connect(served.address).await;
    let request = fixture::openai::request(MODEL, true);
    client.post(CHAT, &[], &request).await.expect("sent");
    client.head().await.expect("a head");
    client.frame().await.expect("an event");
    client.reset();
    upstream.closed().await;
    let costs = costs(&served).await;
    assert_eq!(costs["estimated"], true);
    assert!(costs["money"]["total"].as_f64() > Some(0.0), "{costs}");
}

/// A limit may be an amount of money: an expression knows what the answer costs, in millionths.
#[tokio::test]
async fn money_is_held_against_limits() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let counted = json!([{ "metadataKey": "spent", "type": "CEL", "cel": "money_micros" }]);
    let counted: Vec<_> = serde_json::from_value(counted).expect("costs");
    let (counted, faults) = Costs::parse(&counted, &[]);
    assert_eq!(faults, []);
    let metadata = json!({ "namespace": "io.envoy.ai_gateway", "key": "spent" });
    let rule = json!({
        "limit": { "requests": 200, "unit": "Year" },
        "cost": {
            "request": { "from": "Number", "number": 0 },
            "response": { "from": "Metadata", "metadata": metadata },
        },
    });
    let spec = serde_json::from_value(json!({ "type": "Global", "global": { "rules": [rule] } }));
    let switches = Switches {
        mode: switch::Switch::parse("check", switch::mode).expect("a word"),
        ..Switches::default()
    };
    let (limits, faults) = Limits::parse("default/policy", &spec.expect("a spec"), &switches);
    assert_eq!(faults, []);
    let snapshot = snapshot_with(Default::default(), [openai(&upstream).priced(PRICES)], |rule| {
        rule.costs = Some(Arc::new(counted.clone()));
        rule.limits = Some(Arc::new(limits.clone()));
    });
    let gateway = Gateway::start(options()).await.expect("the admin port is free");
    gateway.install(snapshot).await.expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    let served = Served { gateway, address };
    // 92 each: two leave something of 200, and the third uses it up.
    for asked in 1..=3 {
        assert_eq!(ask(&served).await, 200, "{asked}");
        let spent = 92.0 * f64::from(asked);
        served
            .metric_reaches("tollgate_costs_total", &["cost=\"spent\""], spent)
            .await;
    }
    assert_eq!(ask(&served).await, 429);
    assert_eq!(upstream.requests().len(), 3);
}
