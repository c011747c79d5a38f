//! Same format on both sides: the client's bytes go through.

use serde_json::json;
use testkit::{Client, Reply, Upstream, client::Answer, fixture};

use crate::fixture::{CHAT, KEY, MESSAGES, MODEL, To, messages, openai, serve};

#[tokio::test]
async fn a_document_goes_through_byte_for_byte() {
    let request = r#"{ "model":"m", "messages":[{"role":"user","content":"hi"}],"x_new":[1.50, 1e3] }"#;
    let reply = fixture::openai::response("m-1").to_string().replace(':', " : ");
    let upstream = Upstream::start(Reply::whole(200, &[("content-type", "application/json")], &reply)).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client.send(raw(CHAT, request)).await.expect("sent");
    let answer = client.answer().await.expect("a reply");
    assert_eq!((answer.status, answer.text()), (200, reply));
    assert_eq!(answer.header("content-type"), "application/json");
    let received = &upstream.requests()[0];
    assert_eq!(received.body, request.as_bytes());
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(received.header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(received.header("content-length"), request.len().to_string());
}

#[tokio::test]
async fn an_override_changes_the_model_alone() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("other"))).await;
    let to = To {
        model: Some("other".to_owned()),
        ..openai(&upstream)
    };
    let served = serve([to]).await;
    let mut request = fixture::openai::request(MODEL, false);
    assert_eq!(served.post(CHAT, &request).await.status, 200);
    request["model"] = json!("other");
    assert_eq!(upstream.requests()[0].json(), request);
}

#[tokio::test]
async fn both_formats_are_relayed_and_counted() {
    let chat = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&chat)]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!(answer.json(), fixture::openai::response("gpt"));
    let tokens = ["gen_ai_token_type=\"output\"", "gen_ai_response_model=\"gpt\""];
    served
        .metric_reaches("gen_ai_client_token_usage_count", &tokens, 1.0)
        .await;
    served
        .metric_reaches("gen_ai_server_request_duration_seconds_count", &[], 1.0)
        .await;
    served
        .metric_reaches(
            "tollgate_requests_total",
            &["outcome=\"complete\"", "status=\"200\""],
            1.0,
        )
        .await;
    served
        .metric_reaches("tollgate_requests_in_flight", &[], 0.0)
        .await;

    let claude = Upstream::start(Reply::json(200, &fixture::messages::response("claude"))).await;
    let served = serve([messages(&claude)]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, false))
        .await;
    assert_eq!(answer.json(), fixture::messages::response("claude"));
    assert_eq!(claude.requests()[0].header("x-api-key"), KEY);
    assert_eq!(claude.requests()[0].header("anthropic-version"), "2023-06-01");
}

#[tokio::test]
async fn connections_are_used_again() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    for _ in 0..20 {
        client
            .post(CHAT, &[], &fixture::openai::request(MODEL, false))
            .await
            .expect("sent");
        assert_eq!(client.answer().await.expect("a reply").status, 200);
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (20, 1));
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let reply = Reply::json(200, &fixture::openai::response("gpt"));
    let upstream = Upstream::start(vec![reply.clone().close(), reply]).await;
    let served = serve([openai(&upstream)]).await;
    let request = fixture::openai::request(MODEL, false);
    assert_eq!(served.post(CHAT, &request).await.status, 200);
    upstream.played(1).await;
    let Answer { status, .. } = served.post(CHAT, &request).await;
    assert_eq!((status, upstream.requests().len()), (200, 2));
}

fn raw(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
