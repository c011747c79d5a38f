//! Answers that are kept for clients of Responses, where the upstream speaks another format.

use std::{sync::Arc, time::Duration};

use config::snapshot::{Rule, Timeouts};
use gateway::{Gateway, Options};
use policy::{ApiKey, Authenticate, Carrier, Policies, api_key::Keys};
use serde_json::{Value, json};
use testkit::{
    Reply, Upstream,
    client::{self, Answer},
};

use crate::fixture::{MODEL, Served, messages, openai, options, serve, serve_with, snapshot_with};

const RESPONSES: &str = "/v1/responses";

/// Returns an upstream of Messages that says "hi" to everything, streamed or not.
async fn upstream() -> Upstream {
    Upstream::start(testkit::Script::answer(|request| {
        if request.json()["stream"] == true {
            Reply::sse(STREAM)
        } else {
            Reply::json(200, &message())
        }
    }))
    .await
}

fn message() -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
        "content": [{ "type": "text", "text": "hi" }],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 3, "output_tokens": 1 },
    })
}

const STREAM: [&str; 6] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":0}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];

fn request(input: Value, more: Value) -> Value {
    let mut request = json!({ "model": MODEL, "max_output_tokens": 9, "input": input });
    if let (Some(request), Value::Object(more)) = (request.as_object_mut(), more) {
        request.extend(more);
    }
    request
}

/// Returns what was said, as role and text.
fn said(sent: &Value) -> Vec<(String, String)> {
    let turns = sent["messages"].as_array().cloned().unwrap_or_default();
    let text = |turn: &Value| match &turn["content"] {
        Value::String(text) => text.clone(),
        blocks => blocks[0]["text"].as_str().unwrap_or_default().to_owned(),
    };
    let role = |turn: &Value| turn["role"].as_str().unwrap_or_default().to_owned();
    turns.iter().map(|turn| (role(turn), text(turn))).collect()
}

fn turns(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(role, text): &(&str, &str)| ((*role).to_owned(), (*text).to_owned());
    expected.iter().map(owned).collect()
}

async fn ask(served: &Served, input: Value, more: Value) -> Value {
    let answer = served.post(RESPONSES, &request(input, more)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-loss"), "");
    answer.json()
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().expect("an id").to_owned()
}

async fn get(served: &Served, id: &str) -> Answer {
    client::get(served.address, &format!("{RESPONSES}/{id}"), &[]).await
}

#[tokio::test]
async fn a_conversation_goes_on_from_an_answer() {
    let upstream = upstream().await;
    let served = serve([messages(&upstream)]).await;
    let first = ask(&served, json!("one"), json!({ "instructions": "be brief" })).await;
    assert_eq!(
        (&first["store"], &first["previous_response_id"]),
        (&json!(true), &json!(null))
    );
    let second = json!([{ "role": "user", "content": [{ "type": "input_text", "text": "two" }] }]);
    let second = ask(&served, second, json!({ "previous_response_id": id(&first) })).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    assert_ne!(second["id"], first["id"]);
    let third = ask(
        &served,
        json!("three"),
        json!({ "previous_response_id": id(&second), "store": true }),
    );
    third.await;
    // Another way to go on from the first.
    ask(
        &served,
        json!("other"),
        json!({ "previous_response_id": id(&first) }),
    )
    .await;
    let sent = upstream.received(4).await;
    assert!(sent[0].json()["system"].to_string().contains("be brief"));
    // What was told beside the conversation is not told again.
    assert_eq!(sent[1].json().get("system"), None);
    let begun = [("user", "one"), ("assistant", "hi"), ("user", "two")];
    assert_eq!(said(&sent[1].json()), turns(&begun));
    let all = [&begun[..], &[("assistant", "hi"), ("user", "three")]].concat();
    assert_eq!(said(&sent[2].json()), turns(&all));
    assert_eq!(
        said(&sent[3].json()),
        turns(&[("user", "one"), ("assistant", "hi"), ("user", "other")])
    );
}

#[tokio::test]
async fn what_is_counted_and_compacted_goes_on_from_an_answer_too() {
    const COMPACT: &str = "/v1/responses/compact";
    let claude = Upstream::start(testkit::Script::answer(|request| match request.target.as_str() {
        "/v1/messages/count_tokens" => Reply::json(200, &json!({ "input_tokens": 4 })),
        _ => Reply::json(200, &message()),
    }))
    .await;
    let compaction = json!({ "id": "resp_c", "object": "response.compaction", "output": [] });
    let compacting = Upstream::start(Reply::json(200, &compaction)).await;
    let served = serve([messages(&claude), openai(&compacting).after()]).await;
    let first = ask(&served, json!("one"), json!({})).await;
    let more = request(json!("two"), json!({ "previous_response_id": id(&first) }));
    let counted = served.post("/v1/responses/input_tokens", &more).await;
    assert_eq!(counted.status, 200, "{}", counted.text());
    assert_eq!(
        (
            counted.json()["input_tokens"].as_u64(),
            counted.header("x-tollgate-loss")
        ),
        (Some(4), "")
    );
    let begun = [("user", "one"), ("assistant", "hi"), ("user", "two")];
    assert_eq!(said(&claude.received(2).await[1].json()), turns(&begun));
    let compacted = served.post(COMPACT, &more).await;
    assert_eq!((compacted.status, compacted.json()), (200, compaction));
    let sent = &compacting.received(1).await[0];
    assert_eq!(sent.target, COMPACT);
    assert_eq!(sent.json().get("previous_response_id"), None);
    assert_eq!(sent.json()["input"].as_array().map(Vec::len), Some(3));
    let mut unknown = more;
    unknown["previous_response_id"] = json!("resp_unknown");
    served.post(COMPACT, &unknown).await;
    assert_eq!(compacting.received(2).await[1].json(), unknown);
}

#[tokio::test]
async fn streamed_answers_are_kept_as_they_end() {
    let upstream = upstream().await;
    let served = serve([messages(&upstream)]).await;
    let streamed = request(json!("one"), json!({ "stream": true }));
    let answer = served.post(RESPONSES, &streamed).await;
    let last = answer.frames().last().cloned().expect("an event");
    let (_, data) = last.split_once("data: ").expect("data");
    let last: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(last["type"], "response.completed");
    let response = &last["response"];
    assert_eq!(response["store"], true);
    assert_eq!(get(&served, &id(response)).await.json(), *response);
    ask(
        &served,
        json!("two"),
        json!({ "previous_response_id": id(response) }),
    )
    .await;
    let sent = upstream.received(2).await[1].json();
    assert_eq!(
        said(&sent),
        turns(&[("user", "one"), ("assistant", "hi"), ("user", "two")])
    );
}

#[tokio::test]
async fn what_is_kept_is_read_and_deleted() {
    let upstream = upstream().await;
    let served = serve([messages(&upstream)]).await;
    let first = ask(&served, json!("one"), json!({})).await;
    let path = format!("{RESPONSES}/{}", id(&first));
    let answer = get(&served, &id(&first)).await;
    assert_eq!((answer.status, answer.json()), (200, first.clone()));
    // It is known at the host at which it was given.
    let elsewhere = client::get(served.address, &path, &[("host", "other.example")]).await;
    assert_eq!(elsewhere.status, 404);
    let answer = served.post(&path, &json!({})).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, DELETE"));
    let answer = client::delete(served.address, &path, &[]).await;
    let deleted = json!({ "id": first["id"], "object": "response", "deleted": true });
    assert_eq!((answer.status, answer.json()), (200, deleted));
    for answer in [
        client::get(served.address, &path, &[]).await,
        client::delete(served.address, &path, &[]).await,
    ] {
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["error"]["code"], "response_not_found");
    }
}

#[tokio::test]
async fn what_is_not_kept_is_refused_by_name() {
    let refused = async |served: &Served, id: &str| {
        let more = json!({ "previous_response_id": id });
        let answer = served.post(RESPONSES, &request(json!("two"), more)).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert_eq!(answer.json()["error"]["param"], "previous_response_id");
        assert_eq!(get(served, id).await.status, 404);
    };
    let upstream = upstream().await;
    let served = serve([messages(&upstream)]).await;
    let unwanted = ask(&served, json!("one"), json!({ "store": false })).await;
    assert_eq!(unwanted["store"], false);
    refused(&served, &id(&unwanted)).await;
    let kept = ask(&served, json!("one"), json!({})).await;
    // To go on from an answer does not mean to be kept.
    let more = json!({ "previous_response_id": id(&kept), "store": false });
    let unwanted = ask(&served, json!("two"), more).await;
    assert_eq!(unwanted["previous_response_id"], kept["id"]);
    refused(&served, &id(&unwanted)).await;

    for options in [
        Options {
            kept_memory: 0,
            ..options()
        },
        Options {
            kept_for: Duration::ZERO,
            ..options()
        },
    ] {
        let on = options.kept_memory > 0;
        let served = serve_with(options, Timeouts::default(), [messages(&upstream)]).await;
        let answer = ask(&served, json!("one"), json!({})).await;
        assert_eq!(answer["store"], on);
        refused(&served, &id(&answer)).await;
    }
}

#[tokio::test]
async fn the_oldest_answers_make_room() {
    let upstream = upstream().await;
    let options = Options {
        kept_memory: 16 * 1024,
        ..options()
    };
    let served = serve_with(options, Timeouts::default(), [messages(&upstream)]).await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(id(&ask(&served, json!("one"), json!({})).await));
    }
    assert_eq!(get(&served, &ids[0]).await.status, 404);
    assert_eq!(get(&served, &ids[29]).await.status, 200);
    // One that takes more than its share is answered, and not kept.
    let large = ask(&served, json!("a".repeat(4096)), json!({})).await;
    assert_eq!(large["store"], false);
    assert_eq!(get(&served, &ids[29]).await.status, 200);
}

#[tokio::test]
async fn providers_of_the_format_keep_for_themselves() {
    let own = json!({
        "id": "resp_own", "object": "response", "status": "completed", "model": "gpt", "output": [],
        "usage": { "input_tokens": 3, "output_tokens": 1 },
    });
    let provider = Upstream::start(Reply::json(200, &own)).await;
    let served = serve([openai(&provider)]).await;
    let asked = request(
        json!("two"),
        json!({ "previous_response_id": "resp_own", "store": true }),
    );
    let answer = served.post(RESPONSES, &asked).await;
    assert_eq!(answer.json(), own);
    assert_eq!(provider.received(1).await[0].json(), asked);
    assert_eq!(get(&served, "resp_own").await.status, 404);

    // What is kept here is told to a provider that does not know it.
    let other = Upstream::start(vec![
        Reply::json(200, &message()),
        Reply::json(500, &json!({ "error": { "message": "no" } })),
    ]);
    let other = other.await;
    let served = serve([messages(&other), openai(&provider).after()]).await;
    let first = ask(&served, json!("one"), json!({})).await;
    ask(
        &served,
        json!("two"),
        json!({ "previous_response_id": id(&first) }),
    )
    .await;
    let sent = provider.received(2).await[1].json();
    assert_eq!(sent.get("previous_response_id"), None);
    let input = sent["input"].as_array().expect("items").clone();
    assert_eq!(input[0], json!({ "role": "user", "content": "one" }));
    assert_eq!(
        (&input[1]["type"], &input[1]["role"]),
        (&json!("message"), &json!("assistant"))
    );
    assert_eq!((input[1].get("id"), input[1].get("status")), (None, None));
    assert_eq!(input[2], json!({ "role": "user", "content": "two" }));
}

/// Has a rule let in two clients by their keys.
fn guard(rule: &mut Rule) {
    let mut keys = Keys::default();
    for client in ["one", "two"] {
        keys.add(client, &format!("sk-client-{client}"));
    }
    rule.policies = Some(Arc::new(Policies {
        id: "default/keys".into(),
        authenticate: Authenticate {
            api_key: Some(ApiKey {
                keys,
                carriers: vec![Carrier::header(http::header::AUTHORIZATION)],
                told_in: None,
                sanitize: false,
            }),
            ..Authenticate::default()
        },
        ..Policies::default()
    }));
}

#[tokio::test]
async fn nobody_goes_on_from_an_answer_of_another() {
    let upstream = upstream().await;
    let gateway = Gateway::start(options()).await.expect("the admin port is free");
    let snapshot = snapshot_with(Timeouts::default(), [messages(&upstream)], guard);
    gateway.install(snapshot).await.expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    let one = [("authorization", "Bearer sk-client-one")];
    let two = [("authorization", "Bearer sk-client-two")];
    let first = client::post(address, RESPONSES, &one, &request(json!("one"), json!({}))).await;
    let id = id(&first.json());
    let (path, unknown) = (format!("{RESPONSES}/{id}"), format!("resp_{:032x}", 0));

    // That it is somebody else's looks as if it were not there.
    let mut told = Vec::new();
    for (previous, caller) in [(&id, &two), (&unknown, &one)] {
        let asked = request(json!("two"), json!({ "previous_response_id": previous }));
        let answer = client::post(address, RESPONSES, caller, &asked).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        told.push(answer.text().replace(previous.as_str(), "ID"));
        for answer in [
            client::get(address, &format!("{RESPONSES}/{previous}"), caller).await,
            client::delete(address, &format!("{RESPONSES}/{previous}"), caller).await,
        ] {
            assert_eq!(answer.status, 404);
            told.push(answer.text().replace(previous.as_str(), "ID"));
        }
    }
    assert_eq!(told[..3], told[3..]);
    assert_eq!(client::get(address, &path, &[]).await.status, 401);

    let asked = request(json!("two"), json!({ "previous_response_id": id }));
    assert_eq!(client::post(address, RESPONSES, &one, &asked).await.status, 200);
    assert_eq!(client::get(address, &path, &one).await.json(), first.json());
    assert_eq!(client::delete(address, &path, &one).await.status, 200);
    assert_eq!(upstream.received(2).await.len(), 2);
}

/// Returns a provider of Responses that knows the answers that it gave, by their ids.
async fn provider(name: &'static str) -> Upstream {
    Upstream::start(testkit::Script::answer(move |request| {
        let asked = request.json();
        let previous = asked["previous_response_id"].as_str();
        if previous.is_some_and(|previous| !previous.starts_with(name)) {
            let mut error = testkit::fixture::openai::error("invalid_request_error", "x", "not found");
            error["error"]["code"] = json!("previous_response_not_found");
            return Reply::json(400, &error);
        }
        let said = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": name, "annotations": []}]});
        let reply = json!({"id": format!("{name}_1"), "object": "response", "created_at": 1, "model": "gpt-5",
            "status": "completed", "store": true, "output": [said]});
        if asked["stream"] != true {
            return Reply::json(200, &reply);
        }
        let event = |kind: &str, more: Value| {
            let mut event = more;
            event["type"] = json!(kind);
            format!("event: {kind}\ndata: {event}\n\n")
        };
        Reply::sse([
            event("response.created", json!({"response": reply})),
            event("response.output_text.delta", json!({"delta": name})),
            event("response.completed", json!({"response": reply})),
        ])
    }))
    .await
}

#[tokio::test]
async fn who_keeps_an_answer_is_asked_to_go_on_from_it() {
    let (one, two) = (provider("one").await, provider("two").await);
    let to = |upstream: &Upstream| crate::fixture::to(&llm::provider::OpenAi, upstream.address());
    for stream in [false, true] {
        let served = serve([to(&one), to(&two)]).await;
        for _ in 0..8 {
            let asked = request(json!("hi"), json!({"stream": stream}));
            let first = served.post(RESPONSES, &asked).await;
            let name = if first.text().contains("one_1") {
                "one"
            } else {
                "two"
            };
            let before = (one.requests().len(), two.requests().len());
            let next = request(
                json!("go on"),
                json!({"previous_response_id": format!("{name}_1")}),
            );
            assert_eq!(
                served.post(RESPONSES, &next).await.json()["id"],
                format!("{name}_1")
            );
            let asked = (one.requests().len() - before.0, two.requests().len() - before.1);
            assert_eq!(asked, if name == "one" { (1, 0) } else { (0, 1) });
        }
    }
    // Another replica, which remembers nothing, finds out.
    let served = serve([to(&one), to(&two).after()]).await;
    let next = request(json!("go on"), json!({"previous_response_id": "two_7"}));
    assert_eq!(served.post(RESPONSES, &next).await.json()["id"], "two_1");
    let nobody = request(json!("go on"), json!({"previous_response_id": "three_1"}));
    let answer = served.post(RESPONSES, &nobody).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["code"], "previous_response_not_found");
}

#[tokio::test]
async fn an_answer_that_no_backend_of_the_rule_has_is_not_gone_on_from() {
    let (one, two) = (provider("one").await, provider("two").await);
    let to = |upstream: &Upstream| crate::fixture::to(&llm::provider::OpenAi, upstream.address());
    let served = serve([to(&one).after(), to(&two)]).await;
    served.post(RESPONSES, &request(json!("hi"), json!({}))).await;
    // The second backend is gone; the first has its name still.
    let snapshot = crate::fixture::snapshot(Timeouts::default(), [to(&one)]);
    served.gateway.install(snapshot).await.expect("served already");
    let next = request(json!("go on"), json!({"previous_response_id": "two_1"}));
    let answer = served.post(RESPONSES, &next).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(answer.json()["error"]["param"], "previous_response_id");
    assert!(one.requests().is_empty());
}
