//! What was decided about requests, and why, as the admin listener tells it.

use std::time::Duration;

use config::snapshot::Timeouts;
use gateway::Options;
use serde_json::{Value, json};
use testkit::{Reply, Upstream, client, fixture};

use crate::fixture::{CHAT, KEY, MESSAGES, MODEL, Served, openai, options, serve, serve_with};

/// Returns what is told of the request `id`, once it is: a record follows its answer.
async fn decision(served: &Served, id: &str) -> Value {
    let found = async {
        loop {
            let answer = served.admin(&format!("/debug/requests/{id}")).await;
            if answer.status == 200 {
                assert!(!answer.text().contains(KEY));
                return answer.json();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found)
        .await
        .expect("the request is recorded")
}

async fn ask(served: &Served, id: &str, model: &str) -> u16 {
    let request = fixture::openai::request(model, false);
    client::post(served.address, CHAT, &[("x-request-id", id)], &request)
        .await
        .status
}

#[tokio::test]
async fn a_failover_is_explained() {
    let failing = Upstream::start(Reply::json(
        500,
        &json!({"error": {"message": "quotes the prompt"}}),
    ))
    .await;
    let sound = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let mut spare = openai(&sound).after();
    spare.priority = 2;
    let mut never = openai(&sound);
    never.weight = 0;
    let served = serve([openai(&failing), openai(&sound).after(), spare, never]).await;
    assert_eq!(ask(&served, "one/1", MODEL).await, 200);
    let told = decision(&served, "one%2F1").await;
    assert_eq!(told["route"], "default/route");
    assert_eq!(
        (&told["status"], &told["outcome"]),
        (&json!(200), &json!("complete"))
    );
    let attempts = told["attempts"].as_array().expect("attempts");
    let outcomes: Vec<&Value> = attempts.iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "answered"]);
    assert_eq!(
        (&attempts[0]["status"], &attempts[0]["error"]),
        (&json!(500), &json!("internal"))
    );
    assert!(attempts.iter().all(|attempt| attempt["took"].is_number()));
    let left_out: Vec<&Value> = told["candidates"]
        .as_array()
        .expect("candidates")
        .iter()
        .map(|candidate| &candidate["leftOut"])
        .collect();
    assert_eq!(
        left_out,
        [
            &Value::Null,
            &json!("its weight is 0"),
            &Value::Null,
            &json!("the answer came before its turn")
        ]
    );
    assert_eq!(told["candidates"][0]["credential"], "default/key");
    assert_eq!(told["answer"]["model"], "gpt");
    assert!(told["usage"]["total"].as_u64() > Some(0), "{told}");
    assert!(!told.to_string().contains("quotes"), "{told}");
}

#[tokio::test]
async fn what_nobody_reads_of_an_answer_is_told_once() {
    let mut document = fixture::openai::response("gpt");
    document["choices"][0]["unheard"] = json!("of");
    let upstream = Upstream::start(Reply::json(200, &document)).await;
    let served = serve([openai(&upstream)]).await;
    let mut request = fixture::messages::request(MODEL, false);
    request["messages"][0]["one"] = json!(1);
    request["messages"][0]["other"] = json!(2);
    let answer = served.post(MESSAGES, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-loss"), "messages[0]; choices[].unheard");

    let more = |text: &str| {
        let delta = json!({"content": text, "unheard": "of"});
        fixture::openai::delta("gpt", delta, Value::Null)
    };
    let mut frames = fixture::openai::frames("gpt");
    let last = frames.len() - 3;
    frames.splice(last..last, [more("one"), more("two")]);
    let upstream = Upstream::start(Reply::sse(&frames)).await;
    let served = serve([openai(&upstream)]).await;
    let request = fixture::messages::request(MODEL, true);
    let answer = client::post(served.address, MESSAGES, &[("x-request-id", "late")], &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = decision(&served, "late").await;
    let losses = told["losses"].as_array().expect("losses").iter();
    let fields: Vec<&Value> = losses.map(|loss| &loss["field"]).collect();
    assert_eq!(fields, ["choices[].delta.unheard"]);
}

#[tokio::test]
async fn a_refusal_says_why() {
    let upstream = Upstream::start(Reply::json(400, &json!({"error": {"message": "no"}}))).await;
    let served = serve([openai(&upstream), openai(&upstream).after()]).await;
    assert_eq!(ask(&served, "unknown", "nothing").await, 404);
    let told = decision(&served, "unknown").await;
    let refusal = told["refusal"].as_str().expect("a refusal");
    assert!(refusal.contains("\"nothing\" is not served here"), "{told}");
    assert_eq!(told["attempts"], json!([]));
    assert_eq!(told["model"], "nothing");
    let long = "long".repeat(1000);
    assert_eq!(ask(&served, "long", &long).await, 404);
    assert_eq!(decision(&served, "long").await["model"], long[..200]);
    // Whoever makes up names makes no series.
    let metrics = served.admin("/metrics").await;
    assert!(!metrics.text().contains("nothing"), "{}", metrics.text());
    assert_eq!(ask(&served, "rejected", MODEL).await, 400);
    let told = decision(&served, "rejected").await;
    assert_eq!(told["attempts"][0]["outcome"], "rejected");
    assert_eq!(told["candidates"][1]["leftOut"], "the refusal before it is final");
}

#[tokio::test]
async fn the_newest_come_first_and_the_oldest_go() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let few = Options {
        decisions: 2,
        ..options()
    };
    let served = serve_with(few, Timeouts::default(), [openai(&upstream)]).await;
    for id in ["a", "b", "c"] {
        ask(&served, id, MODEL).await;
        decision(&served, id).await;
    }
    let ids = async |path: &str| -> Vec<String> {
        let list = served.admin(path).await.json();
        let list = list.as_array().expect("a list").iter();
        list.map(|entry| entry["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(ids("/debug/requests").await, ["c", "b"]);
    assert_eq!(ids("/debug/requests?limit=1").await, ["c"]);
    assert_eq!(served.admin("/debug/requests/a").await.status, 404);
    assert_eq!(served.admin("/debug/requests?limit=x").await.status, 400);
}

#[tokio::test]
async fn nothing_is_kept_where_nobody_may_ask() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let none = Options {
        decisions: 0,
        ..options()
    };
    let served = serve_with(none, Timeouts::default(), [openai(&upstream)]).await;
    assert_eq!(ask(&served, "a", MODEL).await, 200);
    assert_eq!(served.admin("/debug/requests").await.status, 404);
}
