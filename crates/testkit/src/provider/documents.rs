//! Plays what providers serve beside chat: vectors, documents in order, counts, pictures, sound.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    fixture::PIXEL,
    script::Reply,
    strict::{self, Refusal},
    upstream::Received,
};

/// Answers as OpenAI does; `None` if it is no operation of this kind.
pub(super) fn openai(request: &Received, key: &str) -> Option<Reply> {
    let answer = match request.target.as_str() {
        "/v1/embeddings" => embeddings,
        "/v1/responses/input_tokens" => input_tokens,
        "/v1/images/generations" => |_: &Value| {
            let usage = json!({"input_tokens": 3, "output_tokens": 5, "total_tokens": 8});
            let reply = json!({"created": 1_750_000_000, "data": [{"b64_json": PIXEL}], "usage": usage});
            Ok(Reply::json(200, &reply))
        },
        "/v1/audio/speech" => {
            |_: &Value| Ok(Reply::whole(200, &[("content-type", "audio/mpeg")], "ID3 sound"))
        }
        "/v1/moderations" => |body: &Value| {
            let flagged = body["input"].to_string().contains("bad");
            let result = json!({"flagged": flagged, "categories": {}, "category_scores": {}});
            Ok(Reply::json(
                200,
                &json!({"id": "modr_testkit", "model": body["model"], "results": [result]}),
            ))
        },
        _ => return None,
    };
    let judged =
        strict::openai::check_head(request, &request.target, key).and_then(|()| answer(&request.json()));
    Some(judged.unwrap_or_else(|refusal| refusal.openai()))
}

/// Counts the tokens of a body of Responses.
pub(super) fn input_tokens(body: &Value) -> Result<Reply, Refusal> {
    let length = body.to_string().len();
    Ok(Reply::json(
        200,
        &json!({"object": "response.input_tokens", "input_tokens": length}),
    ))
}

/// Answers with one vector for each text.
pub(super) fn embeddings(body: &Value) -> Result<Reply, Refusal> {
    let known = ["model", "input", "encoding_format", "dimensions", "user"];
    strict::only(strict::object(body, "")?, &known, "")?;
    let texts = match &body["input"] {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts
            .iter()
            .filter_map(|text| Some(text.as_str()?.to_owned()))
            .collect(),
        _ => return Err(Refusal::new("input", "a text or texts are expected")),
    };
    let base64 = body["encoding_format"] == "base64";
    let data = texts.iter().enumerate().map(|(index, text)| {
        let vector = vector(text);
        let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        let embedding = if base64 {
            json!(BASE64_STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<Value> = data.collect();
    let tokens = texts.len();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(Reply::json(
        200,
        &json!({"object": "list", "data": data, "model": body["model"], "usage": usage}),
    ))
}

/// Answers as Cohere does: documents by how often they hold the words of the query, and vectors.
pub(super) fn cohere(request: &Received, key: &str) -> Reply {
    let body = request.json();
    let said = |status: u16, message: &str| Reply::json(status, &json!({ "message": message }));
    if request.header("authorization") != format!("Bearer {key}") {
        return said(401, "invalid api token");
    }
    let strings = |key: &str| body[key].as_array().cloned().unwrap_or_default();
    match request.target.as_str() {
        "/v2/rerank" => {
            let query = body["query"].as_str().unwrap_or_default();
            let ranked = strings("documents")
                .into_iter()
                .enumerate()
                .map(|(index, document)| {
                    let found = document.as_str().is_some_and(|document| document.contains(query));
                    (index, if found { 0.9 } else { 0.1 })
                });
            let mut ranked: Vec<(usize, f64)> = ranked.collect();
            ranked.sort_by(|(_, one), (_, other)| other.total_cmp(one));
            let results = ranked
                .into_iter()
                .map(|(index, score)| json!({"index": index, "relevance_score": score}));
            let meta = json!({"api_version": {"version": "2"}, "billed_units": {"search_units": 1.0}});
            let results: Vec<Value> = results.collect();
            Reply::json(
                200,
                &json!({"id": "rerank-testkit", "results": results, "meta": meta}),
            )
        }
        "/v2/embed" if body["input_type"].is_string() && body["embedding_types"].is_array() => {
            let texts = strings("texts");
            let vectors: Vec<Value> = texts
                .iter()
                .map(|text| json!(vector(text.as_str().unwrap_or_default())))
                .collect();
            let meta = json!({"billed_units": {"input_tokens": texts.len()}});
            let reply = json!({"id": "embed-testkit", "embeddings": {"float": vectors}, "texts": texts, "meta": meta});
            Reply::json(200, &reply)
        }
        "/v2/embed" => said(
            400,
            "invalid request: input_type and embedding_types are required",
        ),
        _ => said(404, "not found"),
    }
}

/// Answers as Gemini does; `None` if `method` is no operation of this kind.
pub(super) fn gemini(method: &str, body: &Value) -> Option<Reply> {
    match method {
        "batchEmbedContents" => {
            let requests = body["requests"].as_array().into_iter().flatten();
            let vectors = requests.map(|request| {
                let text = request.pointer("/content/parts/0/text").and_then(Value::as_str);
                json!({"values": vector(text.unwrap_or_default())})
            });
            let vectors: Vec<Value> = vectors.collect();
            Some(Reply::json(200, &json!({ "embeddings": vectors })))
        }
        "countTokens" => {
            let length = body.to_string().len();
            Some(Reply::json(200, &json!({"totalTokens": length})))
        }
        _ => None,
    }
}

/// Returns the vector of `text`: its length, and a half.
#[expect(clippy::cast_precision_loss, reason = "texts of tests are short")]
fn vector(text: &str) -> [f32; 2] {
    [text.len() as f32, 0.5]
}
