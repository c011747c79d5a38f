//! Operations that take one document and give one back: embeddings, rerank, counts, moderations, pictures.

use llm::provider::{Bedrock, GROQ, Vertex};
use serde_json::{Value, json};
use testkit::{Reply, Script, Upstream};

use crate::fixture::{MODEL, To, messages, openai, serve, to};

const EMBEDDINGS: &str = "/v1/embeddings";
const COUNT: &str = "/anthropic/v1/messages/count_tokens";
const RERANK: &str = "/cohere/v2/rerank";
const IMAGES: &str = "/v1/images/generations";

fn request() -> Value {
    json!({ "model": MODEL, "input": ["a"] })
}

fn vectors() -> Value {
    json!({
        "object": "list",
        "data": [{ "object": "embedding", "index": 0, "embedding": [0.5] }],
        "model": "text-embedding",
        "usage": { "prompt_tokens": 3, "total_tokens": 3 },
    })
}

#[tokio::test]
async fn embeddings_are_relayed_and_counted_once() {
    let upstream = Upstream::start(Reply::json(200, &vectors())).await;
    let served = serve([openai(&upstream)]).await;
    let answer = served.post(EMBEDDINGS, &request()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), vectors());
    let sent = &upstream.received(1).await[0];
    assert_eq!((sent.target.as_str(), sent.json()), (EMBEDDINGS, request()));
    let labels = [
        "gen_ai_operation_name=\"embeddings\"",
        "gen_ai_response_model=\"text-embedding\"",
        "gen_ai_token_type=\"input\"",
    ];
    served
        .metric_reaches("gen_ai_client_token_usage_sum", &labels, 3.0)
        .await;
    let output = ["gen_ai_token_type=\"output\""];
    assert_eq!(
        served.metric("gen_ai_client_token_usage_count", &output).await,
        0.0
    );
}

#[tokio::test]
async fn embeddings_fall_back_to_another_form() {
    let failing = Upstream::start(Reply::json(503, &json!({ "error": { "message": "full" } }))).await;
    let predictions = json!({ "predictions": [
        { "embeddings": { "values": [0.5], "statistics": { "token_count": 2, "truncated": false } } },
    ] });
    let vertex = Upstream::start(Reply::json(200, &predictions)).await;
    let second = To {
        model: Some("text-embedding-005".to_owned()),
        ..to(&Vertex, vertex.address()).after()
    };
    let served = serve([openai(&failing), second]).await;
    let mut request = request();
    request["user"] = json!("u");
    let answer = served.post(EMBEDDINGS, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["model"], MODEL);
    assert_eq!(answer.header("x-tollgate-model"), "text-embedding-005");
    assert_eq!(answer.json()["data"][0]["embedding"], json!([0.5]));
    assert_eq!(answer.header("x-tollgate-loss"), "user");
    let sent = &vertex.received(1).await[0];
    assert_eq!(
        sent.target,
        "/v1/publishers/google/models/text-embedding-005:predict"
    );
    assert_eq!(sent.json()["instances"], json!([{ "content": "a" }]));
    let input = [
        "gen_ai_provider_name=\"gcp.vertex_ai\"",
        "gen_ai_token_type=\"input\"",
    ];
    served
        .metric_reaches("gen_ai_client_token_usage_sum", &input, 2.0)
        .await;
}

/// Returns an upstream that embeds one text, a number, as that number.
async fn one_by_one() -> Upstream {
    let embed = |text: &str| -> f32 { text.parse().expect("the text is a number") };
    let script = Script::answer(move |asked| {
        let body = asked.json();
        if asked.target.contains("titan") {
            let text = body["inputText"].as_str().expect("one text");
            if text == "busy" {
                let head = [("x-amzn-errortype", "ThrottlingException"), ("retry-after", "7")];
                return Reply::whole(429, &head, r#"{"message":"Too many requests"}"#);
            }
            return Reply::json(
                200,
                &json!({ "embedding": [embed(text)], "inputTextTokenCount": 2 }),
            );
        }
        let text = &body["singleEmbeddingParams"]["text"]["value"];
        let vectors = json!({ "embeddings": [{ "embedding": [embed(text.as_str().expect("one text"))] }] });
        let head = [
            ("content-type", "application/json"),
            ("x-amzn-bedrock-input-token-count", "3"),
        ];
        Reply::whole(200, &head, &vectors.to_string())
    });
    Upstream::start(script).await
}

fn of_bedrock(upstream: &Upstream, model: &str) -> To {
    To {
        model: Some(model.to_owned()),
        ..to(&Bedrock, upstream.address())
    }
}

#[tokio::test]
async fn texts_are_embedded_one_by_one_where_a_model_takes_no_more() {
    const COUNT: u16 = 40;
    let texts: Vec<String> = (0..COUNT).map(|text| text.to_string()).collect();
    for (model, tokens) in [
        ("amazon.titan-embed-text-v2:0", 2_u16),
        ("amazon.nova-2-multimodal-embeddings-v1:0", 3),
    ] {
        let upstream = one_by_one().await;
        let served = serve([of_bedrock(&upstream, model)]).await;
        let answer = served
            .post(EMBEDDINGS, &json!({ "model": MODEL, "input": texts }))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let document = answer.json();
        let data: Vec<Value> = (0..COUNT)
            .map(|text| json!({ "object": "embedding", "index": text, "embedding": [f32::from(text)] }))
            .collect();
        assert_eq!(document["data"], json!(data), "{model}");
        let total = COUNT * tokens;
        assert_eq!(
            document["usage"],
            json!({ "prompt_tokens": total, "total_tokens": total })
        );
        assert_eq!(
            (&document["model"], answer.header("x-tollgate-model")),
            (&json!(MODEL), model)
        );
        assert_eq!(upstream.requests().len(), usize::from(COUNT));
        let input = ["gen_ai_token_type=\"input\""];
        served
            .metric_reaches("gen_ai_client_token_usage_sum", &input, f64::from(total))
            .await;
    }
}

#[tokio::test]
async fn one_text_that_fails_fails_them_all() {
    let upstream = one_by_one().await;
    let titan = || of_bedrock(&upstream, "amazon.titan-embed-text-v2:0");
    let request = json!({ "model": MODEL, "input": ["1", "busy", "2"] });
    let answer = serve([titan()]).await.post(EMBEDDINGS, &request).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"));
    let error = &answer.json()["error"];
    assert_eq!(error["message"], "Too many requests");
    assert_eq!(error["code"], "ThrottlingException");
    let other = Upstream::start(Reply::json(200, &vectors())).await;
    let served = serve([titan(), openai(&other).after()]).await;
    let answer = served.post(EMBEDDINGS, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(other.received(1).await[0].json(), request);
}

#[tokio::test]
async fn who_cannot_embed_is_passed_over() {
    let other = Upstream::start(Reply::json(200, &json!({}))).await;
    let upstream = Upstream::start(Reply::json(200, &vectors())).await;
    let served = serve([messages(&other), openai(&upstream).after()]).await;
    let answer = served.post(EMBEDDINGS, &request()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn tokens_are_counted_by_whoever_serves_the_model() {
    let request = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "a" }] });
    let own = Upstream::start(Reply::json(200, &json!({ "input_tokens": 4 }))).await;
    let bedrock = Upstream::start(Reply::json(200, &json!({ "inputTokens": 4 }))).await;
    let local = Upstream::start(Reply::json(200, &json!({ "count": 4, "max_model_len": 9 }))).await;
    let of_bedrock = To {
        model: Some("eu.amazon.nova-pro-v1:0".to_owned()),
        ..to(&Bedrock, bedrock.address())
    };
    for (to, upstream, path) in [
        (messages(&own), &own, "/v1/messages/count_tokens"),
        (of_bedrock, &bedrock, "/model/amazon.nova-pro-v1:0/count-tokens"),
        (openai(&local), &local, "/tokenize"),
    ] {
        let served = serve([to]).await;
        let answer = served.post(COUNT, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json(), json!({ "input_tokens": 4 }));
        assert_eq!(upstream.received(1).await[0].target, path);
        let labels = [
            "gen_ai_operation_name=\"count_tokens\"",
            "gen_ai_token_type=\"input\"",
        ];
        served
            .metric_reaches("gen_ai_client_token_usage_sum", &labels, 4.0)
            .await;
    }
}

#[tokio::test]
async fn tokens_that_nobody_counts_are_estimated() {
    const INPUT_TOKENS: &str = "/v1/responses/input_tokens";
    let chat = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "abc" }] });
    let input = json!({ "model": MODEL, "input": "abcdef" });
    let nowhere = Upstream::start(Reply::json(404, &json!({ "detail": "Not Found" }))).await;
    let unasked = || to(&GROQ, nowhere.address());
    let served = serve([unasked()]).await;
    for (path, request, expected) in [
        (COUNT, &chat, json!({ "input_tokens": 10, "estimated": true })),
        ("/tokenize", &chat, json!({ "count": 10, "estimated": true })),
        (
            INPUT_TOKENS,
            &input,
            json!({ "object": "response.input_tokens", "input_tokens": 2, "estimated": true }),
        ),
    ] {
        let answer = served.post(path, request).await;
        assert_eq!((answer.status, answer.json()), (200, expected), "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert!(!answer.header("x-tollgate-loss").is_empty(), "{path}");
    }
    // Only for the last is there a path to try.
    assert_eq!(nowhere.requests().len(), 1);

    let unknown =
        json!({ "error": { "message": "The model `x` does not exist", "code": "model_not_found" } });
    for (status, reply, expected) in [
        (404, json!({ "detail": "Not Found" }), 200),
        (404, unknown, 404),
        (400, json!({ "error": { "message": "odd" } }), 400),
    ] {
        let local = Upstream::start(Reply::json(status, &reply)).await;
        let served = serve([openai(&local)]).await;
        let answer = served.post("/tokenize", &chat).await;
        assert_eq!(answer.status, expected, "{}", answer.text());
    }

    // Who counts is asked before anyone guesses.
    let counts = Upstream::start(Reply::json(200, &json!({ "input_tokens": 4 }))).await;
    let served = serve([unasked(), messages(&counts).after()]).await;
    let answer = served.post(COUNT, &chat).await;
    assert_eq!(answer.json(), json!({ "input_tokens": 4 }));
    assert_eq!(answer.header("x-tollgate-loss"), "");
}

#[tokio::test]
async fn who_cannot_rank_is_refused_in_the_clients_words() {
    let upstream = Upstream::start(Reply::json(200, &json!({}))).await;
    let served = serve([to(&llm::provider::OpenAi, upstream.address())]).await;
    let request = json!({ "model": MODEL, "documents": [] });
    let answer = served.post(RERANK, &request).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(
        answer.json(),
        json!({ "message": "openai does not serve /cohere/v2/rerank" })
    );
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn documents_are_ranked_as_texts_and_as_objects() {
    let ranked = json!({
        "results": [{ "index": 1, "relevance_score": 0.9 }],
        "meta": {
            "tokens": { "input_tokens": 7.0, "output_tokens": 0.0 }, "billed_units": { "search_units": 2.0 },
        },
    });
    let upstream = Upstream::start(Reply::json(200, &ranked)).await;
    let served = serve([openai(&upstream)]).await;
    for (count, path) in [RERANK, "/v1/rerank", "/rerank"].into_iter().enumerate() {
        let request = json!({ "model": MODEL, "query": "q", "documents": ["a", { "text": "b" }] });
        let answer = served.post(path, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json(), ranked);
        let sent = upstream.received(count + 1).await;
        assert_eq!(sent[count].target, "/v1/rerank");
        assert_eq!(sent[count].json(), request);
    }
    let labels = ["gen_ai_operation_name=\"rerank\"", "gen_ai_token_type=\"input\""];
    served
        .metric_reaches("gen_ai_client_token_usage_sum", &labels, 21.0)
        .await;
    let labels = ["gen_ai_provider_name=", "gen_ai_request_model=\"m\""];
    served
        .metric_reaches("tollgate_search_units_total", &labels, 6.0)
        .await;
}

#[tokio::test]
async fn errors_are_said_in_the_dialect_of_the_path() {
    let error = json!({ "error": { "message": "too long", "type": "invalid_request_error", "param": null, "code": null } });
    let upstream = Upstream::start(Reply::json(400, &error)).await;
    let served = serve([openai(&upstream)]).await;
    let answer = served.post(RERANK, &json!({ "model": MODEL })).await;
    assert_eq!(
        (answer.status, answer.json()),
        (400, json!({ "message": "too long" }))
    );
    let answer = served.post(EMBEDDINGS, &request()).await;
    assert_eq!((answer.status, answer.json()), (400, error));
    for path in [
        EMBEDDINGS,
        "/v1/completions",
        "/v1/audio/speech",
        "/v1/moderations",
    ] {
        let answer = served.post(path, &json!({})).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"]["code"], "model_required", "{path}");
        let answer = served.post(path, &json!({ "model": "other" })).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["error"]["code"], "model_not_found", "{path}");
        let answer = testkit::client::get(served.address, path, &[]).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{path}");
    }
    let answer = served.post(RERANK, &json!({ "model": "other" })).await;
    assert_eq!(answer.status, 404);
    assert!(answer.json()["message"].is_string(), "{}", answer.text());
    let answer = served.post(COUNT, &json!({ "model": "other" })).await;
    assert_eq!(
        answer.json()["error"]["type"],
        "not_found_error",
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_reply_that_is_no_document_goes_to_the_next_upstream() {
    let page = Reply::whole(200, &[("content-type", "text/html")], "<html>");
    let broken = Upstream::start(page).await;
    let upstream = Upstream::start(Reply::json(200, &vectors())).await;
    let served = serve([openai(&broken), openai(&upstream).after()]).await;
    let answer = served.post(EMBEDDINGS, &request()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let served = serve([openai(&broken)]).await;
    let answer = served.post(EMBEDDINGS, &request()).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
}

#[tokio::test]
async fn pictures_are_streamed() {
    let frames = [
        "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"AA\"}",
        "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"AA\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4,\"total_tokens\":7}}",
    ];
    let upstream = Upstream::start(Reply::sse(frames.map(|frame| format!("{frame}\n\n")))).await;
    let served = serve([openai(&upstream)]).await;
    let request = json!({ "model": MODEL, "prompt": "p", "stream": true });
    let answer = served.post(IMAGES, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.frames(), frames);
    let labels = [
        "gen_ai_operation_name=\"image_generation\"",
        "gen_ai_token_type=\"output\"",
    ];
    served
        .metric_reaches("gen_ai_client_token_usage_sum", &labels, 4.0)
        .await;
}

#[tokio::test]
async fn completions_are_streamed_and_counted() {
    let frames = [
        "data: {\"model\":\"gpt\",\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}",
        "data: {\"model\":\"gpt\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}",
        "data: {\"model\":\"gpt\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}",
        "data: [DONE]",
    ];
    let upstream = Upstream::start(Reply::sse(frames.map(|frame| format!("{frame}\n\n")))).await;
    let served = serve([openai(&upstream)]).await;
    let request = json!({ "model": MODEL, "prompt": "p", "stream": true });
    let answer = served.post("/v1/completions", &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.frames(), [frames[0], frames[1], frames[3]]);
    let sent = upstream.received(1).await[0].json();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    let labels = ["gen_ai_operation_name=\"completion\""];
    served
        .metric_reaches("gen_ai_client_token_usage_count", &labels, 2.0)
        .await;
}

#[tokio::test]
async fn one_model_is_answered_from_the_snapshot() {
    let upstream = Upstream::start(Reply::json(200, &json!({}))).await;
    let served = serve([openai(&upstream)]).await;
    let get = async |path: String| testkit::client::get(served.address, &path, &[]).await;
    let answer = get(format!("/v1/models/{MODEL}")).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (
            200,
            r#"{"id":"m","created":1735689600,"object":"model","owned_by":"owner"}"#
        )
    );
    let answer = get(format!("/anthropic/v1/models/{MODEL}")).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (
            200,
            r#"{"id":"m","type":"model","display_name":"m","created_at":"2025-01-01T00:00:00Z"}"#
        )
    );
    let answer = get("/v1/models/meta/other".to_owned()).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
    let answer = get("/anthropic/v1/models/other".to_owned()).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
    let answer = served.post("/v1/models/m", &json!({})).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET"));
    assert_eq!(upstream.requests().len(), 0);
}
