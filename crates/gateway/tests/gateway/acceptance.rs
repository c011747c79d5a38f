//! Vectors of the compatibility specification that no other test has.

use llm::{Provider, provider};
use serde_json::{Value, json};
use testkit::{Cloud, Reply, Upstream, client::Answer, event_stream::event, fixture};

use crate::fixture::{CHAT, KEY, MESSAGES, MODEL, To, messages, openai, serve, to};

#[tokio::test]
async fn a_limit_of_nothing_is_for_the_provider_to_refuse() {
    let upstream = Upstream::start(Cloud::VertexClaude.script(KEY)).await;
    let served = serve([to(&provider::VertexClaude, upstream.address())]).await;
    let mut request = fixture::openai::request(MODEL, false);
    request["max_completion_tokens"] = json!(0);
    let answer = served.post(CHAT, &request).await;
    assert_eq!(upstream.requests()[0].json()["max_tokens"], 0);
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("invalid_request_error"), &json!("400"))
    );
    // Who sets no limit is served within the model's own.
    let mut unlimited = request;
    let members = unlimited.as_object_mut().expect("an object");
    members.remove("max_completion_tokens");
    let answer = served.post(CHAT, &unlimited).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-tollgate-loss"), "max_completion_tokens");
}

#[tokio::test]
async fn what_is_too_hot_is_refused_once_and_asked_of_nobody() {
    let upstream = Upstream::start(Reply::json(200, &fixture::messages::response("c"))).await;
    let served = serve([messages(&upstream)]).await;
    let mut request = fixture::openai::request(MODEL, false);
    request["temperature"] = json!(2.0);
    let answer = served.post(CHAT, &request).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let error = &answer.json()["error"];
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("temperature 2.00 is not supported by Anthropic"),
        "{error}"
    );
    assert!(upstream.requests().is_empty());
    let labels = ["operation=\"chat\"", "status=\"422\""];
    served
        .metric_reaches("tollgate_requests_total", &labels, 1.0)
        .await;
}

/// Returns the chunks of a stream of chat completions.
fn chunks(answer: &Answer) -> Vec<Value> {
    let frames = answer.frames();
    let data = frames.iter().filter_map(|frame| frame.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data.trim()).ok())
        .collect()
}

#[tokio::test]
async fn a_ping_is_an_empty_step_of_the_answer() {
    let frame = |name: &str, data: Value| fixture::messages::frame(name, &data);
    let usage = json!({"input_tokens": 0, "cache_read_input_tokens": 15, "cache_creation_input_tokens": 10,
        "output_tokens": 0});
    let begun = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "c", "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage}});
    let mut frames = vec![
        frame("message_start", begun),
        frame("ping", json!({"type": "ping"})),
    ];
    frames.extend(fixture::messages::frames("c").into_iter().skip(1));
    let upstream = Upstream::start(Reply::sse(&frames)).await;
    let served = serve([messages(&upstream)]).await;
    let mut request = fixture::openai::request(MODEL, true);
    request["stream_options"] = json!({"include_usage": true});
    let chunks = chunks(&served.post(CHAT, &request).await);
    let first = chunks.first().expect("a chunk");
    assert_eq!(first["id"], "msg_1");
    assert_eq!(first["choices"][0]["delta"], json!({}));
    assert_eq!(first["choices"][0]["finish_reason"], json!(null));
    // The first word has the role still.
    let said = chunks
        .iter()
        .find(|chunk| chunk["choices"][0]["delta"]["content"].is_string());
    assert_eq!(said.expect("a word")["choices"][0]["delta"]["role"], "assistant");
    let counted = chunks.last().expect("a chunk");
    assert_eq!(counted["choices"], json!([]));
    assert!(
        counted["usage"]["prompt_tokens"].as_u64() >= Some(25),
        "{counted}"
    );
}

#[tokio::test]
async fn a_text_and_two_calls_of_converse_are_told_apart() {
    let delta = |index: u64, delta: Value| {
        event(
            "contentBlockDelta",
            &json!({"contentBlockIndex": index, "delta": delta}),
        )
    };
    let stop = |index: u64| event("contentBlockStop", &json!({"contentBlockIndex": index}));
    let call = |index: u64, id: &str| {
        let tool = json!({"toolUse": {"toolUseId": id, "name": "f"}});
        event(
            "contentBlockStart",
            &json!({"contentBlockIndex": index, "start": tool}),
        )
    };
    let bytes = [
        event("messageStart", &json!({"role": "assistant"})),
        delta(0, json!({"text": "Both."})),
        stop(0),
        call(1, "a"),
        delta(1, json!({"toolUse": {"input": "{\"n\":1}"}})),
        stop(1),
        call(2, "b"),
        delta(2, json!({"toolUse": {"input": "{}"}})),
        stop(2),
        event("messageStop", &json!({"stopReason": "tool_use"})),
        event(
            "metadata",
            &json!({"usage": {"inputTokens": 12, "outputTokens": 3}}),
        ),
    ];
    let head = [("content-type", "application/vnd.amazon.eventstream")];
    let reply = bytes
        .iter()
        .fold(Reply::chunked(200, &head), |reply, bytes| reply.frame(bytes));
    let upstream = Upstream::start(reply.end()).await;
    let served = serve([to(&provider::Bedrock, upstream.address())]).await;
    let mut request = fixture::openai::request(MODEL, true);
    request["stream_options"] = json!({"include_usage": true});
    let answer = served.post(CHAT, &request).await;
    let chunks = chunks(&answer);
    let steps = || chunks.iter().map(|chunk| &chunk["choices"][0]);
    let calls = steps().filter_map(|step| step["delta"]["tool_calls"][0]["index"].as_u64());
    let mut calls: Vec<u64> = calls.collect();
    calls.dedup();
    assert_eq!(calls, [0, 1]);
    let finish = steps().find_map(|step| step["finish_reason"].as_str());
    assert_eq!(finish, Some("tool_calls"));
    assert_eq!(chunks.last().expect("a chunk")["usage"]["total_tokens"], 15);
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
}

#[tokio::test]
async fn an_error_in_plain_text_is_said_in_the_envelope() {
    let text = "upstream connect error";
    let upstream = Upstream::start(Reply::whole(503, &[("content-type", "text/plain")], text)).await;
    for to in [openai(&upstream), to(&provider::Azure, upstream.address())] {
        let served = serve([to]).await;
        let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(
            (&error["type"], &error["code"], &error["message"]),
            (&json!("server_error"), &json!("503"), &json!(text))
        );
    }
    let served = serve([messages(&upstream)]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, false))
        .await;
    let error = &answer.json()["error"];
    assert_eq!(error["message"], text);
    assert_eq!(answer.json()["type"], "error");
}

#[tokio::test]
async fn a_native_request_changes_in_its_model_alone() {
    let reply = r#"{"model" : "other","content":[ ],"x":1.50,"usage":{"input_tokens":1,"output_tokens":2}}"#;
    let upstream = Upstream::start(Reply::whole(200, &[("content-type", "application/json")], reply)).await;
    let served = serve([To {
        model: Some("other".to_owned()),
        ..messages(&upstream)
    }])
    .await;
    let request =
        r#"{ "model":"m", "max_tokens":1e2,"messages":[{"role":"system","content":"a","x":[1.0]}] }"#;
    let mut client = testkit::Client::connect(served.address).await;
    let head = format!(
        "POST {MESSAGES}?beta=true HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        request.len()
    );
    client.send(format!("{head}{request}")).await.expect("sent");
    let answer = client.answer().await.expect("a reply");
    let sent = String::from_utf8_lossy(&upstream.requests()[0].body).into_owned();
    assert_eq!(sent, request.replace("\"m\"", "\"other\""));
    assert_eq!(answer.text(), reply.replace("\"other\"", "\"m\""));
}

#[tokio::test]
async fn what_nobody_serves_is_refused_with_a_document() {
    let upstream = Upstream::start(Reply::json(200, &json!({}))).await;
    let nobody: &[(&'static dyn Provider, &str)] = &[
        (&provider::Anthropic, "/cohere/v2/rerank"),
        (&provider::BedrockClaude, "/cohere/v2/rerank"),
        (&provider::VertexClaude, "/cohere/v2/rerank"),
        (&provider::OpenAi, "/cohere/v2/rerank"),
        (&provider::Azure, "/cohere/v2/rerank"),
        (&provider::AiStudio, "/cohere/v2/rerank"),
        (&provider::Bedrock, "/cohere/v2/rerank"),
        (&provider::Anthropic, "/v1/embeddings"),
        (&provider::Bedrock, "/v1/images/generations"),
        (&provider::AiStudio, "/v1/moderations"),
    ];
    for (provider, path) in nobody {
        let served = serve([to(*provider, upstream.address())]).await;
        let request = json!({"model": MODEL, "input": "a", "query": "q", "documents": ["a"], "prompt": "p"});
        let answer = served.post(path, &request).await;
        let document = answer.json();
        assert_eq!(answer.status, 422, "{path} at {}: {document}", provider.id());
        let message = document["message"]
            .as_str()
            .or(document["error"]["message"].as_str());
        assert!(
            message.is_some_and(|message| message.contains(path)),
            "{document}"
        );
    }
    assert!(upstream.requests().is_empty());
}
