//! Documents from the door: what a target is sent, and what its reply becomes.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::{
    ApiError, Call, End, Endpoint, Inbound, Site, Stream, Target,
    provider::{
        AiStudio, Anthropic, Azure, Bedrock, BedrockClaude, COHERE, COMPATIBLE, GROQ, MISTRAL, OpenAi,
        Provider, Vertex, VertexClaude,
    },
};

const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";
const INPUT_TOKENS: &str = "/v1/responses/input_tokens";
const COMPACT: &str = "/v1/responses/compact";
const TOKENIZE: &str = "/tokenize";
const COUNT: &str = "/anthropic/v1/messages/count_tokens";
const TOTAL: &str = "/v1beta/models/m:countTokens";
const IMAGES: &str = "/v1/images/generations";
const SPEECH: &str = "/v1/audio/speech";
const RERANK: &str = "/v1/rerank";
const COHERE_RERANK: &str = "/cohere/v2/rerank";
const MODERATIONS: &str = "/v1/moderations";

fn inbound(path: &str, body: &str) -> Result<Inbound, ApiError> {
    let place = Endpoint::find(path, "").expect("an endpoint");
    Inbound::parse(place, Bytes::copy_from_slice(body.as_bytes()))
}

fn call(provider: &'static dyn Provider, path: &str, body: &str, model: &str) -> Result<Call, ApiError> {
    let site = Site::default();
    let target = Target {
        provider,
        site: &site,
        model,
        now: 0,
    };
    inbound(path, body)?.call(&target, &HeaderMap::new())
}

#[track_caller]
fn check(provider: &'static dyn Provider, path: &str, model: &str, body: &Value, to: &str, sent: &Value) {
    let call = call(provider, path, &body.to_string(), model);
    let call = call.unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(call.path, to, "{path}");
    let body: Value = serde_json::from_slice(&call.body).expect("JSON");
    assert_eq!(body, *sent, "{path}");
}

#[test]
fn relayed_documents_differ_in_the_model_alone() {
    #[track_caller]
    fn relayed(provider: &'static dyn Provider, path: &str, to: &str) {
        let body = r#"{ "odd" : 1.50,"model":"m", "documents":[{"text":"é"}] }"#;
        let same = call(provider, path, body, "m").expect("served");
        assert_eq!(same.path, to, "{path}");
        assert_eq!(same.body, body, "{path}");
        let renamed = call(provider, path, body, "n/1").expect("served");
        assert_eq!(renamed.body, body.replace("\"m\"", "\"n/1\""), "{path}");
    }
    for (path, to) in [
        (COMPLETIONS, "/v1/completions"),
        (EMBEDDINGS, "/v1/embeddings"),
        (INPUT_TOKENS, "/v1/responses/input_tokens"),
        (COMPACT, "/v1/responses/compact"),
        (IMAGES, "/v1/images/generations"),
        (SPEECH, "/v1/audio/speech"),
        (MODERATIONS, "/v1/moderations"),
    ] {
        relayed(&OpenAi, path, to);
        relayed(&COMPATIBLE, path, to);
    }
    relayed(&COMPATIBLE, TOKENIZE, "/tokenize");
    relayed(&COMPATIBLE, RERANK, "/v1/rerank");
    relayed(&COMPATIBLE, "/rerank", "/v1/rerank");
    relayed(&COMPATIBLE, COHERE_RERANK, "/v1/rerank");
    relayed(&GROQ, SPEECH, "/openai/v1/audio/speech");
    relayed(&COHERE, RERANK, "/v2/rerank");
    relayed(&COHERE, COHERE_RERANK, "/v2/rerank");
    relayed(&Anthropic, COUNT, "/v1/messages/count_tokens");
}

#[test]
fn azure_serves_deployments() {
    let body = json!({ "model": "d", "x": 1 });
    let to = |suffix: &str| format!("/openai/deployments/d/{suffix}?api-version=2025-04-01-preview");
    for (path, suffix) in [
        (COMPLETIONS, "completions"),
        (EMBEDDINGS, "embeddings"),
        (IMAGES, "images/generations"),
        (SPEECH, "audio/speech"),
    ] {
        check(&Azure, path, "d", &body, &to(suffix), &body);
    }
    for (path, suffix) in [(INPUT_TOKENS, "input_tokens"), (COMPACT, "compact")] {
        let to = format!("/openai/responses/{suffix}?api-version=2025-04-01-preview");
        check(&Azure, path, "d", &body, &to, &body);
    }
}

#[test]
fn conversations_are_compacted_by_providers_of_responses_alone() {
    let body = json!({ "model": "m", "input": "a" }).to_string();
    let reply = json!({
        "id": "resp_1", "object": "response.compaction", "created_at": 1,
        "output": [{ "type": "compaction", "id": "cmp_1", "encrypted_content": "x" }],
        "usage": {
            "input_tokens": 9, "input_tokens_details": { "cached_tokens": 4 },
            "output_tokens": 3, "output_tokens_details": { "reasoning_tokens": 2 }, "total_tokens": 12,
        },
    });
    let reply = Bytes::from(reply.to_string());
    let relayed = call(&OpenAi, COMPACT, &body, "m").expect("served").reply;
    let answer = relayed.response(reply.clone()).expect("an answer");
    assert_eq!(answer.body, reply);
    let usage = answer.observed.usage;
    assert_eq!(
        (usage.input, usage.cache_read, usage.output),
        (Some(5), Some(4), Some(3))
    );
    assert_eq!(
        (answer.observed.model.as_deref(), answer.observed.complete),
        (Some("m"), true)
    );
    for provider in [
        &MISTRAL as &dyn Provider,
        &Anthropic,
        &Bedrock,
        &Vertex,
        &AiStudio,
        &COHERE,
    ] {
        let Err(error) = call(provider, COMPACT, &body, "m") else {
            panic!("{} is asked", provider.id());
        };
        assert_eq!(error.status, 422);
        let why =
            "does not serve /v1/responses/compact: what it makes can be read by providers of Responses alone";
        assert!(error.message.ends_with(why), "{}", error.message);
    }
}

#[test]
fn embeddings_go_where_the_model_is_served() {
    let body = json!({ "model": "x", "input": "a" });
    let instances = json!({ "instances": [{ "content": "a" }], "parameters": {} });
    let to = "/v1/publishers/google/models/gemini-embedding-001:predict";
    check(&Vertex, EMBEDDINGS, "gemini-embedding-001", &body, to, &instances);
    let content = json!({ "content": { "parts": [{ "text": "a" }] } });
    let to = "/v1/publishers/google/models/gemini-embedding-2:embedContent";
    check(&Vertex, EMBEDDINGS, "gemini-embedding-2", &body, to, &content);
    let requests = json!({ "requests": [
        { "model": "models/gemini-embedding-001", "content": { "parts": [{ "text": "a" }] } },
    ] });
    let to = "/v1beta/models/gemini-embedding-001:batchEmbedContents";
    check(
        &AiStudio,
        EMBEDDINGS,
        "gemini-embedding-001",
        &body,
        to,
        &requests,
    );
    let to = "/model/amazon.titan-embed-text-v2:0/invoke";
    check(
        &Bedrock,
        EMBEDDINGS,
        "amazon.titan-embed-text-v2:0",
        &body,
        to,
        &json!({ "inputText": "a" }),
    );
    let texts = json!({ "texts": ["a"], "input_type": "search_document", "embedding_types": ["float"] });
    let to = "/model/cohere.embed-v4:0/invoke";
    check(&Bedrock, EMBEDDINGS, "cohere.embed-v4:0", &body, to, &texts);
}

#[test]
fn requests_of_gemini_are_counted_everywhere() {
    let contents = json!([{ "role": "user", "parts": [{ "text": "a" }] }]);
    let plain = json!({ "contents": contents });
    let whole = json!({ "generateContentRequest": {
        "model": "models/m", "contents": contents, "systemInstruction": { "parts": [{ "text": "s" }] },
    } });
    let to = "/v1beta/models/n:countTokens";
    check(&AiStudio, TOTAL, "n", &plain, to, &plain);
    let mut renamed = whole.clone();
    renamed["generateContentRequest"]["model"] = json!("models/n");
    check(&AiStudio, TOTAL, "n", &whole, to, &renamed);
    check(
        &AiStudio,
        TOTAL,
        "m",
        &whole,
        "/v1beta/models/m:countTokens",
        &whole,
    );
    let to = "/v1/publishers/google/models/n:countTokens";
    check(&Vertex, TOTAL, "n", &plain, to, &plain);
    let messages = json!([{ "role": "user", "content": [{ "type": "text", "text": "a" }] }]);
    let told = json!({
        "model": "claude", "messages": messages, "system": [{ "type": "text", "text": "s" }],
    });
    check(
        &Anthropic,
        TOTAL,
        "claude",
        &whole,
        "/v1/messages/count_tokens",
        &told,
    );
    let told = json!({ "model": "gpt", "input": [{ "type": "message", "role": "user", "content": "a" }] });
    let sent = call(&OpenAi, TOTAL, &plain.to_string(), "gpt").expect("served");
    assert_eq!(sent.path, "/v1/responses/input_tokens");
    let sent: Value = serde_json::from_slice(&sent.body).expect("JSON");
    assert_eq!(sent["model"], told["model"]);
    assert!(sent["input"].to_string().contains("\"a\""), "{sent}");
}

#[test]
fn documents_are_ranked_by_google() {
    let model = "semantic-ranker-default@latest";
    let body = json!({ "model": "m", "query": "q", "documents": ["a", { "text": "b" }], "top_n": 1 });
    let records = json!([{ "id": "0", "content": "a" }, { "id": "1", "content": "b" }]);
    let sent = json!({
        "model": model, "query": "q", "records": records, "topN": 1, "ignoreRecordDetailsInResponse": true,
    });
    let to = "/v1/rankingConfigs/default_ranking_config:rank";
    for path in [RERANK, COHERE_RERANK] {
        check(&Vertex, path, model, &body, to, &sent);
    }
    let answer = |reply: &'static str| {
        let call = call(&Vertex, RERANK, &body.to_string(), model).expect("served");
        call.reply.response(Bytes::from_static(reply.as_bytes()))
    };
    let ranked = answer(r#"{"records":[{"id":"1","score":0.98},{"id":"0"}]}"#).expect("an answer");
    let results = json!([
        { "index": 1, "relevance_score": 0.98 },
        { "index": 0, "relevance_score": 0.0 },
    ]);
    let ranked: Value = serde_json::from_slice(&ranked.body).expect("JSON");
    assert_eq!(ranked, json!({ "model": model, "results": results }));
    for broken in ["{}", r#"{"records":[{"id":"x","score":1}]}"#] {
        assert_eq!(answer(broken).expect_err("broken").status, 502, "{broken}");
    }
}

#[test]
fn documents_are_ranked_on_bedrock() {
    let model = "cohere.rerank-v3-5:0";
    let body = json!({ "model": "m", "query": "q", "documents": ["a", { "text": "b" }], "top_n": 1 });
    let sent = json!({ "query": "q", "documents": ["a", "b"], "top_n": 1, "api_version": 2 });
    let to = "/model/cohere.rerank-v3-5:0/invoke";
    for path in [RERANK, COHERE_RERANK] {
        check(&Bedrock, path, model, &body, to, &sent);
    }
    let amazon = json!({ "query": "q", "documents": ["a", "b"], "top_n": 1 });
    check(
        &Bedrock,
        RERANK,
        "amazon.rerank-v1:0",
        &body,
        "/model/amazon.rerank-v1:0/invoke",
        &amazon,
    );

    let answer = |body: &Value| {
        let call = call(&Bedrock, RERANK, &body.to_string(), model).expect("served");
        let reply = r#"{"results":[{"index":1,"relevance_score":0.5},{"index":0,"relevance_score":0.25}]}"#;
        let answer = call
            .reply
            .response(Bytes::from_static(reply.as_bytes()))
            .expect("an answer");
        serde_json::from_slice::<Value>(&answer.body).expect("JSON")
    };
    let results = json!([
        { "index": 1, "relevance_score": 0.5 },
        { "index": 0, "relevance_score": 0.25 },
    ]);
    assert_eq!(answer(&body), json!({ "model": model, "results": results }));
    let mut returned = body.clone();
    returned["return_documents"] = json!(true);
    assert_eq!(
        answer(&returned)["results"][0]["document"],
        json!({ "text": "b" })
    );

    let picture = json!({ "model": "m", "query": "q", "documents": [{ "image": "x" }] });
    let refused = call(&Bedrock, RERANK, &picture.to_string(), model)
        .err()
        .expect("a refusal");
    assert_eq!(
        (refused.status, refused.param.as_deref()),
        (StatusCode::UNPROCESSABLE_ENTITY, Some("documents[0]"))
    );
    let unknown = call(&Bedrock, RERANK, &body.to_string(), "amazon.nova-pro-v1:0")
        .err()
        .expect("a refusal");
    assert_eq!(unknown.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[test]
fn conversations_are_counted_everywhere() {
    let chat = json!({
        "model": "x",
        "messages": [{ "role": "system", "content": "s" }, { "role": "user", "content": "a" }],
        "tools": [{ "type": "function", "function": {
            "name": "f", "description": "d", "parameters": { "type": "object" },
        } }],
    });
    let tools = json!([{ "name": "f", "description": "d", "input_schema": { "type": "object" } }]);
    let messages = json!({
        "model": "x",
        "system": "s",
        "messages": [{ "role": "user", "content": "a" }],
        "tools": tools,
        "metadata": { "user_id": "u" },
    });
    // Of the client's own format, what is counted is handed on as it is.
    let call = call(&VertexClaude, COUNT, &messages.to_string(), "claude-x@latest").expect("counted");
    assert_eq!(call.path, "/publishers/anthropic/models/count-tokens:rawPredict");
    let counted = json!({
        "model": "claude-x",
        "anthropic_version": "vertex-2023-10-16",
        "system": "s",
        "messages": [{ "role": "user", "content": "a" }],
        "tools": tools,
    });
    assert_eq!(
        serde_json::from_slice::<Value>(&call.body).expect("JSON"),
        counted
    );

    let sent = body_of(
        &Anthropic,
        TOKENIZE,
        &chat,
        "claude-x",
        "/v1/messages/count_tokens",
    );
    assert_eq!(sent["model"], "claude-x");
    assert_eq!(sent["tools"][0]["description"], "d");
    assert_eq!(sent.get("max_tokens"), None);

    let sent = body_of(&COMPATIBLE, COUNT, &messages, "local", "/tokenize");
    assert_eq!(sent["messages"][0]["role"], "system");
    assert_eq!(sent["tools"][0]["function"]["name"], "f");

    for (path, body) in [(TOKENIZE, &chat), (COUNT, &messages)] {
        let to = "/v1/publishers/google/models/gemini-2.5-pro:countTokens";
        let sent = body_of(&Vertex, path, body, "gemini-2.5-pro", to);
        assert_eq!(sent["contents"][0]["parts"][0]["text"], "a");
        assert_eq!(sent["systemInstruction"]["parts"][0]["text"], "s");
        assert_eq!(sent["tools"][0]["functionDeclarations"][0]["name"], "f");

        let to = "/v1beta/models/gemini-2.5-pro:countTokens";
        let sent = body_of(&AiStudio, path, body, "gemini-2.5-pro", to);
        let counted = &sent["generateContentRequest"];
        assert_eq!(counted["model"], "models/gemini-2.5-pro");
        assert_eq!(counted["contents"][0]["parts"][0]["text"], "a");

        let sent = body_of(&OpenAi, path, body, "gpt-5", "/v1/responses/input_tokens");
        assert_eq!(sent["model"], "gpt-5");
        assert_eq!(sent["tools"][0]["name"], "f");
        assert_eq!(sent.get("max_output_tokens"), None);
        assert_eq!(sent.get("store"), None);
    }
    let input = json!({ "model": "x", "instructions": "s", "input": "a" });
    let sent = body_of(
        &Anthropic,
        INPUT_TOKENS,
        &input,
        "claude-x",
        "/v1/messages/count_tokens",
    );
    assert_eq!(sent["messages"][0]["role"], "user");
    assert!(sent["system"].to_string().contains('s'));

    let nova = "us.amazon.nova-pro-v1:0";
    for (path, body) in [(TOKENIZE, &chat), (COUNT, &messages)] {
        let sent = body_of(
            &Bedrock,
            path,
            body,
            nova,
            "/model/amazon.nova-pro-v1:0/count-tokens",
        );
        let converse = &sent["input"]["converse"];
        assert_eq!(converse["system"][0]["text"], "s");
        assert_eq!(converse["messages"][0]["content"][0]["text"], "a");
        assert_eq!(converse["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
        assert_eq!(converse.get("inferenceConfig"), None);
    }
}

/// Returns what is sent to `to`.
#[track_caller]
fn body_of(provider: &'static dyn Provider, path: &str, body: &Value, model: &str, to: &str) -> Value {
    let call = call(provider, path, &body.to_string(), model);
    let call = call.unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(call.path, to, "{path}");
    serde_json::from_slice(&call.body).expect("JSON")
}

#[test]
fn bedrock_counts_what_claude_would_be_sent() {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let to = "/model/anthropic.claude-sonnet-4-5-20250929-v1:0/count-tokens";
    let messages = json!({
        "model": "x",
        "stream": true,
        "messages": [{ "role": "user", "content": "a" }],
    });
    let chat = json!({ "model": "x", "messages": [{ "role": "user", "content": "a" }] });
    let providers: [&'static dyn Provider; 2] = [&Bedrock, &BedrockClaude];
    for provider in providers {
        for (path, body) in [(COUNT, &messages), (TOKENIZE, &chat)] {
            let sent = body_of(provider, path, body, model, to);
            let inner = sent["input"]["invokeModel"]["body"].as_str().expect("a text");
            let inner = STANDARD.decode(inner).expect("base64");
            let inner: Value = serde_json::from_slice(&inner).expect("JSON");
            assert_eq!(inner["anthropic_version"], "bedrock-2023-05-31");
            assert!(inner["max_tokens"].as_u64() > Some(0));
            assert_eq!(inner.get("model"), None);
            assert_eq!(inner.get("stream"), None);
            assert_eq!(inner["messages"][0]["role"], "user");
        }
    }
}

#[test]
fn a_text_is_counted_as_what_a_user_says() {
    let prompt = json!({ "model": "x", "prompt": "a \"b\"" });
    let sent = body_of(
        &Anthropic,
        TOKENIZE,
        &prompt,
        "claude-x",
        "/v1/messages/count_tokens",
    );
    assert_eq!(sent["messages"][0]["role"], "user");
    assert!(sent["messages"].to_string().contains(r#"a \"b\""#));
}

#[test]
fn what_cannot_be_served_is_refused() {
    #[track_caller]
    fn refused(provider: &'static dyn Provider, path: &str, body: &Value, status: u16, param: Option<&str>) {
        let error = call(provider, path, &body.to_string(), "m")
            .err()
            .expect("refused");
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (status, param),
            "{path}: {error}"
        );
    }
    let plain = json!({ "model": "x", "messages": [] });
    // Clients that count take a 404 as advice.
    refused(&COHERE, COUNT, &plain, 404, None);
    refused(&COHERE, TOKENIZE, &plain, 404, None);
    refused(&GROQ, COUNT, &plain, 404, None);
    refused(&OpenAi, RERANK, &plain, 422, None);
    refused(&Anthropic, EMBEDDINGS, &plain, 422, None);
    refused(&Bedrock, EMBEDDINGS, &plain, 422, None);
    let both = json!({ "model": "x", "messages": [], "prompt": "a" });
    refused(&Anthropic, TOKENIZE, &both, 400, Some("prompt"));
    refused(
        &Anthropic,
        TOKENIZE,
        &json!({ "model": "x" }),
        400,
        Some("messages"),
    );
    let continued = json!({ "model": "x", "messages": [], "continue_final_message": true });
    refused(
        &Anthropic,
        TOKENIZE,
        &continued,
        400,
        Some("continue_final_message"),
    );
    let tokens = json!({ "model": "x", "input": [1, 2] });
    refused(&Vertex, EMBEDDINGS, &tokens, 422, Some("input"));
}

#[test]
fn malformed_documents_are_refused_before_anyone_is_asked() {
    #[track_caller]
    fn refused(path: &str, body: &str, param: Option<&str>) {
        let error = inbound(path, body).err().expect("refused");
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (400, param),
            "{path}: {error}"
        );
    }
    for path in [EMBEDDINGS, SPEECH, COHERE_RERANK, COUNT, IMAGES] {
        refused(path, "{", None);
        refused(path, "[]", None);
        refused(path, "{}", Some("model"));
        refused(path, r#"{"model":7}"#, Some("model"));
    }
    refused(
        SPEECH,
        r#"{"model":"m","stream_format":1}"#,
        Some("stream_format"),
    );
    refused(IMAGES, r#"{"model":"m","stream":"yes"}"#, Some("stream"));
}

#[test]
fn streams_are_asked_for_in_each_documents_way() {
    #[track_caller]
    fn check(path: &str, body: &str, expected: bool) {
        assert_eq!(
            inbound(path, body).expect("a request").stream,
            expected,
            "{path}: {body}"
        );
    }
    check(COMPLETIONS, r#"{"model":"m","stream":true}"#, true);
    check(IMAGES, r#"{"model":"m","stream":true}"#, true);
    check(SPEECH, r#"{"model":"m","stream_format":"sse"}"#, true);
    check(SPEECH, r#"{"model":"m","stream_format":"audio"}"#, false);
    check(EMBEDDINGS, r#"{"model":"m","stream":true}"#, false);
    check(MODERATIONS, r#"{"model":"m","stream":"odd"}"#, false);
}

#[test]
fn whole_replies_are_overheard() {
    #[track_caller]
    fn check(
        provider: &'static dyn Provider,
        path: &str,
        reply: &Value,
        model: Option<&str>,
        counts: (Option<u64>, Option<u64>),
    ) {
        let request = json!({ "model": "x", "messages": [] }).to_string();
        let call = call(provider, path, &request, "m").expect("served");
        let reply = Bytes::from(reply.to_string());
        let answer = call.reply.response(reply.clone()).expect("a reply");
        assert_eq!(answer.body, reply);
        let usage = answer.observed.usage;
        assert_eq!((usage.input, usage.output), counts, "{path}");
        assert_eq!(answer.observed.model.as_deref(), model, "{path}");
        assert!(answer.observed.complete && answer.observed.error.is_none());
    }
    let openai = json!({ "model": "gpt", "usage": { "prompt_tokens": 3, "total_tokens": 3 } });
    check(&OpenAi, EMBEDDINGS, &openai, Some("gpt"), (Some(3), None));
    let completed = json!({ "model": "gpt", "usage": { "prompt_tokens": 3, "completion_tokens": 4 } });
    check(&OpenAi, COMPLETIONS, &completed, Some("gpt"), (Some(3), Some(4)));
    let usage = json!({ "input_tokens": 5, "output_tokens": 6, "total_tokens": 11 });
    check(
        &OpenAi,
        IMAGES,
        &json!({ "data": [], "usage": usage }),
        Some("m"),
        (Some(5), Some(6)),
    );
    let counted = json!({ "object": "response.input_tokens", "input_tokens": 7 });
    check(&OpenAi, INPUT_TOKENS, &counted, None, (Some(7), None));
    check(
        &Anthropic,
        COUNT,
        &json!({ "input_tokens": 8 }),
        None,
        (Some(8), None),
    );
    let tokenized = json!({ "count": 2, "max_model_len": 9, "tokens": [1, 2] });
    check(&COMPATIBLE, TOKENIZE, &tokenized, Some("m"), (Some(2), None));
    let meta = json!({ "billed_units": { "search_units": 1 }, "tokens": { "input_tokens": 3.7, "output_tokens": 0 } });
    check(
        &COHERE,
        COHERE_RERANK,
        &json!({ "results": [], "meta": meta }),
        Some("m"),
        (Some(3), Some(0)),
    );
    let hosted = json!({ "results": [], "usage": { "total_tokens": 9 } });
    check(&COMPATIBLE, RERANK, &hosted, Some("m"), (Some(9), None));
    check(
        &COMPATIBLE,
        RERANK,
        &json!([{ "index": 0, "score": 0.5 }]),
        Some("m"),
        (None, None),
    );
    check(
        &OpenAi,
        MODERATIONS,
        &json!({ "model": "omni", "results": [] }),
        Some("omni"),
        (None, None),
    );
    // What has another shape than is known is still the upstream's answer.
    check(
        &OpenAi,
        EMBEDDINGS,
        &json!({ "usage": "free", "error": null }),
        None,
        (None, None),
    );
}

#[test]
fn counts_are_told_in_the_clients_words() {
    #[track_caller]
    fn check(provider: &'static dyn Provider, path: &str, model: &str, reply: &str, expected: &str) {
        let request =
            json!({ "model": "x", "messages": [{ "role": "user", "content": "a" }], "max_tokens": 1 });
        let call = call(provider, path, &request.to_string(), model).expect("served");
        let answer = call.reply.response(Bytes::copy_from_slice(reply.as_bytes()));
        let answer = answer.expect("a reply");
        assert_eq!(answer.body, expected, "{path}");
        assert_eq!(answer.observed.usage.input, Some(4));
    }
    check(
        &Anthropic,
        TOKENIZE,
        "c",
        r#"{"input_tokens":4}"#,
        r#"{"count":4}"#,
    );
    check(
        &Bedrock,
        TOKENIZE,
        "nova",
        r#"{"inputTokens":4}"#,
        r#"{"count":4}"#,
    );
    check(
        &Bedrock,
        COUNT,
        "anthropic.c",
        r#"{"inputTokens":4}"#,
        r#"{"input_tokens":4}"#,
    );
    check(
        &COMPATIBLE,
        COUNT,
        "v",
        r#"{"count":4,"tokens":[]}"#,
        r#"{"input_tokens":4}"#,
    );
    check(
        &Vertex,
        COUNT,
        "g",
        r#"{"totalTokens":4}"#,
        r#"{"input_tokens":4}"#,
    );
    check(
        &OpenAi,
        COUNT,
        "g",
        r#"{"input_tokens":4}"#,
        r#"{"input_tokens":4}"#,
    );
    let request = json!({ "model": "x", "messages": [] }).to_string();
    let call = call(&Bedrock, COUNT, &request, "anthropic.c").expect("served");
    assert_eq!(
        call.reply
            .response(Bytes::from_static(b"{}"))
            .expect_err("no count")
            .status,
        502
    );
}

#[test]
fn errors_keep_their_words_for_those_who_know_them() {
    #[track_caller]
    fn check(provider: &'static dyn Provider, path: &str, body: &str, expected: &str) {
        let request = json!({ "model": "x", "input": "a", "prompt": "a" }).to_string();
        let call = call(provider, path, &request, "titan-embed-text").expect("served");
        let body = Bytes::copy_from_slice(body.as_bytes());
        let error = call
            .reply
            .error(StatusCode::BAD_REQUEST, &HeaderMap::new(), &body);
        assert_eq!(error.status, 400);
        let endpoint = Endpoint::find(path, "").expect("an endpoint").endpoint;
        let told = endpoint.format.encode_error(&error);
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.starts_with(expected), "{path}: {told}");
    }
    let cohere = r#"{"id":"1","message":"too many documents"}"#;
    check(&COHERE, COHERE_RERANK, cohere, cohere);
    check(
        &COHERE,
        RERANK,
        cohere,
        r#"{"type":"error","error":{"message":"too many documents","type":"invalid_request_error""#,
    );
    check(&COHERE, COHERE_RERANK, "no JSON", r#"{"message":"no JSON"}"#);
    let openai = r#"{"error":{"message":"no","type":"odd","param":null,"code":null}}"#;
    check(&COMPATIBLE, RERANK, openai, openai);
    check(&COMPATIBLE, COHERE_RERANK, openai, r#"{"message":"no"}"#);
    check(&OpenAi, EMBEDDINGS, openai, openai);
    let google = r#"{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}"#;
    check(
        &Vertex,
        EMBEDDINGS,
        google,
        r#"{"type":"error","error":{"message":"no","type":"invalid_request_error""#,
    );
    check(
        &Bedrock,
        EMBEDDINGS,
        r#"{"message":"no"}"#,
        r#"{"type":"error","error":{"message":"no""#,
    );
    check(
        &Anthropic,
        TOKENIZE,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#,
        r#"{"type":"error","error":{"message":"no""#,
    );
}

/// Runs `frames` through the stream of a reply, cut into pieces of `size`.
fn stream(path: &str, request: &Value, frames: &str, size: usize) -> (String, Stream) {
    let call = call(&OpenAi, path, &request.to_string(), "m").expect("served");
    let mut stream = call.reply.stream();
    let mut out = Vec::new();
    for piece in frames.as_bytes().chunks(size) {
        out.extend(stream.push(Bytes::copy_from_slice(piece)));
    }
    out.extend(stream.end(End::Clean));
    (String::from_utf8(out).expect("text"), stream)
}

#[test]
fn streamed_completions_are_counted_on_the_clients_behalf() {
    let said =
        "data: {\"model\":\"gpt\",\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}\n\n";
    let ended =
        "data: {\"model\":\"gpt\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";
    let counted = "data: {\"model\":\"gpt\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
    let done = "data: [DONE]\n\n";
    let frames = [said, ended, counted, done].concat();
    let plain = json!({ "model": "m", "prompt": "p", "stream": true });
    let mut asking = plain.clone();
    asking["stream_options"] = json!({ "include_usage": true });
    let sent = call(&OpenAi, COMPLETIONS, &plain.to_string(), "m")
        .expect("served")
        .body;
    let sent: Value = serde_json::from_slice(&sent).expect("JSON");
    assert_eq!(sent, asking);
    for size in [1, 7, 1000] {
        for (request, expected) in [(&plain, [said, ended, done].concat()), (&asking, frames.clone())] {
            let (out, stream) = stream(COMPLETIONS, request, &frames, size);
            assert_eq!(out, expected);
            let observed = stream.observed();
            assert_eq!((observed.usage.input, observed.usage.output), (Some(3), Some(4)));
            assert_eq!(observed.model.as_deref(), Some("gpt"));
            assert!(observed.meaningful && observed.complete && observed.error.is_none());
        }
    }
    let (out, stream) = stream(COMPLETIONS, &plain, said, 1000);
    assert!(
        out.contains("\"error\"") && stream.observed().error.is_some(),
        "{out}"
    );
}

#[test]
fn streamed_pictures_and_speech_pass() {
    let partial = "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"AA\"}\n\n";
    let whole = "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"AA\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4,\"total_tokens\":7}}\n\n";
    let delta = "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AA\"}\n\n";
    let done =
        "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}\n\n";
    let image = json!({ "model": "m", "prompt": "p", "stream": true });
    let speech = json!({ "model": "m", "input": "p", "stream_format": "sse" });
    for (path, request, frames) in [
        (IMAGES, &image, [partial, whole].concat()),
        (SPEECH, &speech, [delta, done].concat()),
    ] {
        for size in [1, 11, 1000] {
            let (out, stream) = stream(path, request, &frames, size);
            assert_eq!(out, frames);
            let observed = stream.observed();
            assert_eq!((observed.usage.input, observed.usage.output), (Some(3), Some(4)));
            assert_eq!(observed.model.as_deref(), Some("m"));
            assert!(observed.meaningful && observed.complete && observed.error.is_none());
        }
    }
    // Not all servers say that they are done.
    let (out, stream) = stream(SPEECH, &speech, delta, 1000);
    assert_eq!(out, delta);
    assert!(stream.observed().complete);
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n";
    let (out, stream) = self::stream(IMAGES, &image, error, 1000);
    assert_eq!(out, error);
    assert!(!stream.observed().meaningful && stream.observed().error.is_some());
}

#[test]
fn sound_passes_as_it_is_and_breaks_off() {
    let speech = json!({ "model": "m", "input": "p" }).to_string();
    let opaque = || {
        let call = call(&OpenAi, SPEECH, &speech, "m").expect("served");
        assert!(call.reply.is_opaque());
        call.reply.opaque()
    };
    let sound = Bytes::from_static(b"ID3\x00\xff");
    let mut stream = opaque();
    assert!(stream.push(Bytes::new()).is_empty() && !stream.observed().meaningful);
    assert_eq!(stream.push(sound.clone()), sound);
    assert!(stream.observed().meaningful && !stream.observed().complete);
    assert!(stream.keep_alive().is_empty());
    assert!(stream.end(End::Clean).is_empty());
    assert!(stream.observed().complete && !stream.breaks_off());
    let mut stream = opaque();
    stream.push(sound.clone());
    assert!(stream.end(End::Cut).is_empty());
    assert!(stream.breaks_off() && !stream.observed().complete);
    let mut stream = opaque();
    stream.fail(ApiError::invalid("no"));
    assert!(stream.push(sound).is_empty() && stream.breaks_off());
}
