//! Each form: what it is sent, what is lost, and what its reply becomes.

use serde_json::{Value, json};

use super::*;
use crate::{
    Severity, Site,
    provider::{self, Target},
};

fn target<'a>(site: &'a Site, model: &'a str) -> Target<'a> {
    Target {
        provider: &provider::COMPATIBLE,
        site,
        model,
        now: 0,
    }
}

/// Says `request` in `form`; returns the first document and the names of what was lost, materially or not.
fn say(form: Form, request: &Value) -> (Value, Vec<(String, Severity)>) {
    let (mut documents, losses) = say_all(form, request);
    (documents.swap_remove(0), losses)
}

fn say_all(form: Form, request: &Value) -> (Vec<Value>, Vec<(String, Severity)>) {
    let mut losses = Losses::default();
    let body = request.to_string();
    let request = Request::parse(body.as_bytes(), &mut losses).expect("a request");
    let site = Site::default();
    let (body, more) = form.encode(request, &target(&site, "m"), &mut losses);
    let losses = losses
        .iter()
        .map(|loss| (Format::OpenAi.field(&loss.field).into_owned(), loss.severity));
    let bodies = std::iter::once(body).chain(more);
    let documents = bodies.map(|body| serde_json::from_slice(&body).expect("JSON"));
    (documents.collect(), losses.collect())
}

#[track_caller]
fn check(form: Form, request: &Value, expected: &Value) {
    let (body, losses) = say(form, request);
    assert_eq!(body, *expected, "{form:?}");
    assert_eq!(losses, [], "{form:?}");
}

/// Checks what is lost, in the order in which it is found: `!` marks what is refused.
#[track_caller]
fn check_lost(form: Form, request: &Value, expected: &[&str]) {
    let (_, losses) = say(form, request);
    let losses: Vec<String> = losses
        .into_iter()
        .map(|(field, severity)| match severity {
            Severity::Advisory => field,
            Severity::Material => format!("!{field}"),
        })
        .collect();
    assert_eq!(losses, expected, "{form:?}: {request}");
}

#[test]
fn predict_has_an_instance_for_each_text() {
    check(
        Form::Predict,
        &json!({ "model": "x", "input": "a" }),
        &json!({ "instances": [{ "content": "a" }], "parameters": {} }),
    );
    check(
        Form::Predict,
        &json!({
            "model": "x",
            "input": [
                { "content": ["a", "b"], "task_type": "RETRIEVAL_DOCUMENT", "title": "t" },
                { "content": "c", "task_type": "CLUSTERING", "title": "t" },
                "d",
            ],
            "dimensions": 64,
            "auto_truncate": false,
        }),
        &json!({
            "instances": [
                { "content": "a", "task_type": "RETRIEVAL_DOCUMENT", "title": "t" },
                { "content": "b", "task_type": "RETRIEVAL_DOCUMENT", "title": "t" },
                { "content": "c", "task_type": "CLUSTERING" },
                { "content": "d" },
            ],
            "parameters": { "autoTruncate": false, "outputDimensionality": 64 },
        }),
    );
    check(
        Form::Predict,
        &json!({ "input": [{ "content": "a", "task_type": "CLUSTERING" }], "task_type": "CLASSIFICATION", "title": "t" }),
        &json!({
            "instances": [{ "content": "a", "task_type": "CLASSIFICATION", "title": "t" }],
            "parameters": {},
        }),
    );
}

#[test]
fn embed_content_makes_one_vector_of_text_and_media() {
    check(
        Form::EmbedContent,
        &json!({ "input": ["a"] }),
        &json!({ "content": { "parts": [{ "text": "a" }] } }),
    );
    let image = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } });
    check(
        Form::EmbedContent,
        &json!({
            "messages": [
                { "role": "system", "content": "ignored" },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, image] },
                { "role": "user", "content": "b" },
            ],
            "dimensions": 8,
            "task_type": "CLUSTERING",
            "title": "t",
            "auto_truncate": false,
        }),
        &json!({
            "content": { "parts": [
                { "text": "a" },
                { "inlineData": { "mimeType": "image/png", "data": "AAAA" } },
                { "text": "b" },
            ] },
            "embedContentConfig": {
                "taskType": "CLUSTERING", "title": "t", "outputDimensionality": 8, "autoTruncate": false,
            },
        }),
    );
}

#[test]
fn a_batch_has_a_request_for_each_text() {
    check(
        Form::BatchEmbedContents,
        &json!({ "input": ["a", { "content": "b", "task_type": "CLUSTERING" }], "dimensions": 8 }),
        &json!({ "requests": [
            { "model": "models/m", "content": { "parts": [{ "text": "a" }] }, "outputDimensionality": 8 },
            {
                "model": "models/m",
                "content": { "parts": [{ "text": "b" }] },
                "taskType": "CLUSTERING",
                "outputDimensionality": 8,
            },
        ] }),
    );
}

#[test]
fn titan_takes_one_text() {
    check(
        Form::Titan,
        &json!({ "input": ["a"], "dimensions": 256 }),
        &json!({ "inputText": "a", "dimensions": 256 }),
    );
}

#[test]
fn nova_is_told_what_vectors_are_for() {
    let sent = |purpose: &str, mode: &str| {
        json!({ "taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {
            "embeddingPurpose": purpose, "text": { "truncationMode": mode, "value": "a" },
        } })
    };
    check(
        Form::Nova,
        &json!({ "input": ["a"] }),
        &sent("GENERIC_INDEX", "END"),
    );
    for (told, purpose) in [
        (json!({ "task_type": "RETRIEVAL_QUERY" }), "GENERIC_RETRIEVAL"),
        (json!({ "input_type": "search_query" }), "GENERIC_RETRIEVAL"),
        (json!({ "input_type": "clustering" }), "CLUSTERING"),
    ] {
        let mut request = told;
        request["input"] = json!("a");
        request["auto_truncate"] = json!(false);
        check(Form::Nova, &request, &sent(purpose, "NONE"));
    }
    let mut sized = sent("GENERIC_INDEX", "END");
    sized["singleEmbeddingParams"]["embeddingDimension"] = json!(384);
    check(Form::Nova, &json!({ "input": "a", "dimensions": 384 }), &sized);
}

#[test]
fn each_text_is_a_document_where_a_form_holds_one() {
    #[track_caller]
    fn check(form: Form, request: &Value, texts: &[&str], lost: &[&str]) {
        let (documents, losses) = say_all(form, request);
        let said: Vec<&str> = documents
            .iter()
            .map(|document| {
                let nova = &document["singleEmbeddingParams"]["text"]["value"];
                let google = &document["content"]["parts"][0]["text"];
                let mut texts = [&document["inputText"], nova, google].into_iter();
                texts.find_map(Value::as_str).expect("a text")
            })
            .collect();
        assert_eq!(said, texts, "{form:?}");
        let losses: Vec<&str> = losses.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(losses, lost, "{form:?}");
    }
    let batch = json!({ "input": ["a", { "content": ["b", "c"], "task_type": "CLUSTERING" }], "odd": 1 });
    check(Form::Titan, &batch, &["a", "b", "c"], &["odd", "task_type"]);
    check(Form::Nova, &batch, &["a", "b", "c"], &["odd"]);
    check(Form::EmbedContent, &batch, &["a", "b", "c"], &["odd"]);
    let (documents, _) = say_all(Form::EmbedContent, &batch);
    let tasks: Vec<&Value> = documents
        .iter()
        .map(|document| &document["embedContentConfig"]["taskType"])
        .collect();
    assert_eq!(tasks, [&Value::Null, &json!("CLUSTERING"), &json!("CLUSTERING")]);
}

#[test]
fn cohere_is_told_what_texts_are() {
    let sent = |input_type: &str| json!({ "model": "m", "texts": ["a"], "input_type": input_type, "embedding_types": ["float"] });
    check(Form::Cohere, &json!({ "input": "a" }), &sent("search_document"));
    check(
        Form::Cohere,
        &json!({ "input": "a", "task_type": "RETRIEVAL_QUERY" }),
        &sent("search_query"),
    );
    check(
        Form::Cohere,
        &json!({ "input": "a", "input_type": "image" }),
        &sent("image"),
    );
    check(
        Form::BedrockCohere,
        &json!({ "input": ["a", "b"], "dimensions": 256, "auto_truncate": true }),
        &json!({
            "texts": ["a", "b"],
            "input_type": "search_document",
            "embedding_types": ["float"],
            "output_dimension": 256,
            "truncate": "END",
        }),
    );
}

#[test]
fn what_cannot_be_embedded_is_named() {
    let tokens = json!({ "input": [[1, 2], [3]] });
    for form in [
        Form::Predict,
        Form::EmbedContent,
        Form::BatchEmbedContents,
        Form::Titan,
        Form::BedrockCohere,
        Form::Cohere,
    ] {
        check_lost(form, &tokens, &["!input"]);
        check_lost(form, &json!({ "input": [7] }), &["!input"]);
        check_lost(
            form,
            &json!({ "input": "a", "user": "u", "odd": 1 }),
            &["user", "odd"],
        );
    }
    let too_many = json!({ "input": vec!["a"; MAX_TEXTS + 1] });
    for form in [Form::Titan, Form::Nova, Form::EmbedContent] {
        check_lost(form, &too_many, &["!input"]);
        check_lost(form, &json!({ "input": [] }), &["!input"]);
    }
    let chat = json!({ "messages": [{ "role": "user", "content": "a" }] });
    for form in [Form::Predict, Form::Titan, Form::Cohere, Form::BedrockCohere] {
        check_lost(form, &chat, &["!messages"]);
    }
    let silent = json!({ "messages": [{ "role": "system", "content": "a" }] });
    check_lost(Form::EmbedContent, &silent, &["!messages"]);
    let told = json!({ "input": "a", "task_type": "CLUSTERING", "title": "t", "auto_truncate": true });
    check_lost(Form::Titan, &told, &["task_type", "title", "auto_truncate"]);
    check_lost(Form::Nova, &told, &["title"]);
    check_lost(
        Form::Nova,
        &json!({ "input": "a", "input_type": "image" }),
        &["input_type"],
    );
    check_lost(Form::Cohere, &told, &["title"]);
    let odd = json!({ "input": "a", "task_type": "SEMANTIC_SIMILARITY" });
    check_lost(Form::Cohere, &odd, &["task_type"]);
    let mixed = json!({ "input": ["a", { "content": "b", "task_type": "CLUSTERING" }] });
    check_lost(Form::Cohere, &mixed, &["!input"]);
    check_lost(
        Form::Predict,
        &json!({ "input": "a", "input_type": "x" }),
        &["input_type"],
    );
}

#[test]
fn malformed_requests_are_told_where() {
    #[track_caller]
    fn check(request: &Value, param: &str) {
        let error = Request::parse(request.to_string().as_bytes(), &mut Losses::default());
        let error = error.expect_err("refused");
        assert_eq!(error.status, 400);
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
    }
    check(&json!({}), "input");
    check(&json!({ "input": "a", "messages": [] }), "messages");
    check(&json!({ "input": true }), "input");
    check(&json!({ "input": ["a", null] }), "input[1]");
    check(&json!({ "input": { "content": [] } }), "input.content");
    check(
        &json!({ "input": [{ "content": ["a", ""] }] }),
        "input[0].content",
    );
    check(
        &json!({ "input": [{ "task_type": "CLUSTERING" }] }),
        "input[0].content",
    );
    check(
        &json!({ "input": "a", "encoding_format": "int8" }),
        "encoding_format",
    );
    check(&json!({ "input": "a", "dimensions": "8" }), "dimensions");
}

#[test]
fn replies_become_openais() {
    #[track_caller]
    fn check(form: Form, reply: &Value, vectors: &[(&[f32], bool)], tokens: Option<u64>) {
        let reply = form.decode(reply.to_string().as_bytes()).expect("a reply");
        let expected = vectors.iter().map(|(values, truncated)| Vector {
            values: values.to_vec(),
            truncated: *truncated,
        });
        assert_eq!(
            reply,
            Reply {
                vectors: expected.collect(),
                tokens,
            },
            "{form:?}"
        );
    }
    check(
        Form::Predict,
        &json!({ "predictions": [
            { "embeddings": { "values": [0.5, -1.0], "statistics": { "token_count": 3, "truncated": false } } },
            { "embeddings": { "values": [0.25], "statistics": { "token_count": 4.0, "truncated": true } } },
        ] }),
        &[(&[0.5, -1.0], false), (&[0.25], true)],
        Some(7),
    );
    check(Form::Predict, &json!({}), &[], None);
    check(
        Form::EmbedContent,
        &json!({ "embedding": { "values": [0.5] }, "truncated": true, "usageMetadata": { "promptTokenCount": 2 } }),
        &[(&[0.5], true)],
        Some(2),
    );
    check(
        Form::BatchEmbedContents,
        &json!({ "embeddings": [{ "values": [0.5] }, { "values": [1] }] }),
        &[(&[0.5], false), (&[1.0], false)],
        None,
    );
    check(
        Form::Titan,
        &json!({ "embedding": [0.5], "inputTextTokenCount": 5 }),
        &[(&[0.5], false)],
        Some(5),
    );
    let meta = json!({ "billed_units": { "input_tokens": 4.0 } });
    check(
        Form::Cohere,
        &json!({ "id": "x", "embeddings": { "float": [[0.5], [1.5]] }, "meta": meta }),
        &[(&[0.5], false), (&[1.5], false)],
        Some(4),
    );
    check(
        Form::BedrockCohere,
        &json!({ "embeddings": [[0.5]], "response_type": "embeddings_floats" }),
        &[(&[0.5], false)],
        None,
    );
    check(
        Form::Nova,
        &json!({ "embeddings": [{ "embeddingType": "TEXT", "embedding": [0.5], "truncatedCharLength": 3 }] }),
        &[(&[0.5], true)],
        None,
    );
    for form in [Form::Titan, Form::Nova, Form::Cohere, Form::BedrockCohere] {
        assert_eq!(form.decode(b"{}").expect_err("broken").status, 502);
    }
    assert_eq!(Form::Predict.decode(b"<html>").expect_err("broken").status, 502);
}

#[test]
fn vectors_are_numbers_or_base64() {
    let reply = Reply {
        vectors: vec![
            Vector {
                values: vec![0.1, -2.0],
                truncated: false,
            },
            Vector {
                values: vec![1.0],
                truncated: true,
            },
        ],
        tokens: Some(3),
    };
    assert_eq!(
        reply.encode("m", false),
        concat!(
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-2.0]},"#,
            r#"{"object":"embedding","index":1,"embedding":[1.0],"truncated":true}],"#,
            r#""model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#
        )
    );
    let encoded: Value = serde_json::from_slice(&reply.encode("m", true)).expect("JSON");
    let bytes = STANDARD.decode(encoded["data"][0]["embedding"].as_str().expect("text"));
    assert_eq!(
        bytes.expect("base64"),
        [0.1f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat()
    );
}
