//! From one format to another and back: what must survive the crossing.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{GEMINI_3, target};
use crate::{
    Call, End, Endpoint, Format, Inbound, Provider, Site, Target,
    provider::{AiStudio, Anthropic, Ask, OpenAi, Vertex},
};

const SIGNATURE: &str = "U0lHTkFUVVJF";

/// Sends `document` from a client at `path` to `model` at `provider`.
fn call(path: &str, document: &Value, provider: &'static dyn Provider, model: &str) -> Call {
    let place = Endpoint::find(path, "alt=sse").unwrap();
    let inbound = Inbound::parse(place, Bytes::from(document.to_string())).unwrap();
    let site = Site::default();
    let target = Target {
        provider,
        model,
        ..target(&site, model)
    };
    inbound.call(&target, &HeaderMap::new()).unwrap()
}

fn body(call: &Call) -> Value {
    serde_json::from_slice(&call.body).unwrap()
}

fn answer(call: Call, reply: &Value) -> Value {
    let answer = call.reply.response(Bytes::from(reply.to_string())).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

/// What the model answers in the loops below: two calls, the first one signed, as the provider writes them.
fn calls() -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": [
        {"text": "Two cities.", "thought": true},
        {"functionCall": {"name": "weather", "args": {"city": "Paris"}}, "thoughtSignature": SIGNATURE},
        {"functionCall": {"name": "weather", "args": {"city": "Rome"}}},
    ]}, "finishReason": "STOP", "index": 0}], "modelVersion": GEMINI_3, "responseId": "r1",
        "usageMetadata": {"promptTokenCount": 50, "cachedContentTokenCount": 20, "candidatesTokenCount": 8, "thoughtsTokenCount": 4}})
}

/// What the model is told in the second round.
fn told(results: Value) -> Value {
    json!([
        {"role": "user", "parts": [{"text": "Weather in Paris and Rome?"}]},
        {"role": "model", "parts": [
            {"text": "Two cities.", "thought": true},
            {"functionCall": {"name": "weather", "args": {"city": "Paris"}}, "thoughtSignature": SIGNATURE},
            {"functionCall": {"name": "weather", "args": {"city": "Rome"}}},
        ]},
        {"role": "user", "parts": results},
    ])
}

fn result(response: Value) -> Value {
    json!({"functionResponse": {"name": "weather", "response": response}})
}

#[test]
fn a_tool_loop_of_an_openai_client() {
    let path = "/v1/chat/completions";
    let mut asked = json!({"model": "m", "messages": [{"role": "user", "content": "Weather in Paris and Rome?"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]});
    let first = call(path, &asked, &Vertex, GEMINI_3);
    assert_eq!(
        first.path,
        "/v1/publishers/google/models/gemini-3-flash-preview:generateContent"
    );
    let reply = answer(first, &calls());
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(reply["usage"]["prompt_tokens"], 50);
    assert_eq!(reply["usage"]["completion_tokens"], 12);
    assert_eq!(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 20);
    let message = choice["message"].clone();
    let ids: Vec<Value> = message["tool_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["id"].clone())
        .collect();
    assert_ne!(ids[0], ids[1]);
    let messages = asked["messages"].as_array_mut().unwrap();
    messages.push(message);
    messages.push(json!({"role": "tool", "tool_call_id": ids[0], "content": "sunny"}));
    messages.push(json!({"role": "tool", "tool_call_id": ids[1], "content": "{\"sky\":\"grey\"}"}));
    let second = call(path, &asked, &Vertex, GEMINI_3);
    let results = json!([result(json!({"output": "sunny"})), result(json!({"sky": "grey"}))]);
    assert_eq!(body(&second)["contents"], told(results));
}

#[test]
fn a_tool_loop_of_a_messages_client() {
    let path = "/anthropic/v1/messages";
    let mut asked = json!({"model": "m", "max_tokens": 999, "messages": [{"role": "user", "content": "Weather in Paris and Rome?"}],
        "thinking": {"type": "adaptive"}, "tools": [{"name": "weather", "input_schema": {"type": "object"}}]});
    let reply = answer(call(path, &asked, &Vertex, GEMINI_3), &calls());
    assert_eq!(reply["stop_reason"], "tool_use");
    assert_eq!(reply["usage"]["input_tokens"], 30);
    assert_eq!(reply["usage"]["cache_read_input_tokens"], 20);
    let content = reply["content"].clone();
    let mut results: Vec<Value> = Vec::new();
    for block in content
        .as_array()
        .unwrap()
        .iter()
        .filter(|block| block["type"] == "tool_use")
    {
        let text = json!([{"type": "text", "text": "rain"}]);
        results.push(json!({"type": "tool_result", "tool_use_id": block["id"], "content": text}));
    }
    results[1]["is_error"] = json!(true);
    let messages = asked["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": content}));
    messages.push(json!({"role": "user", "content": results}));
    let second = call(path, &asked, &Vertex, GEMINI_3);
    let results = json!([
        result(json!({"output": "rain"})),
        result(json!({"error": "rain"}))
    ]);
    assert_eq!(body(&second)["contents"], told(results));
    assert_eq!(
        body(&second)["generationConfig"],
        json!({"maxOutputTokens": 999, "thinkingConfig": {"includeThoughts": true}})
    );
}

#[test]
fn a_tool_loop_of_a_gemini_client() {
    let path = "/v1beta/models/m:generateContent";
    let mut asked = json!({"contents": [{"role": "user", "parts": [{"text": "Weather?"}]}],
        "tools": [{"functionDeclarations": [{"name": "weather", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}]}],
        "generationConfig": {"maxOutputTokens": 4000, "thinkingConfig": {"thinkingBudget": 2000, "includeThoughts": true}}});
    let first = call(path, &asked, &Anthropic, "claude-sonnet-4-5");
    assert_eq!(
        body(&first)["tools"],
        json!([{"name": "weather", "description": "", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}])
    );
    assert_eq!(
        body(&first)["thinking"],
        json!({"type": "enabled", "budget_tokens": 2000, "display": "summarized"})
    );
    let thought = json!({"type": "thinking", "thinking": "Hm.", "signature": "sig"});
    let used = json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}});
    let reply = answer(
        first,
        &json!({"id": "msg_1", "model": "claude", "content": [thought, used], "stop_reason": "tool_use",
            "usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 3}}),
    );
    assert_eq!(reply["usageMetadata"]["promptTokenCount"], 12);
    // The library sends the whole content back, and results by name alone.
    let contents = asked["contents"].as_array_mut().unwrap();
    contents.push(reply["candidates"][0]["content"].clone());
    contents.push(json!({"role": "user", "parts": [result(json!({"result": "sunny"}))]}));
    let second = body(&call(path, &asked, &Anthropic, "claude-sonnet-4-5"));
    assert_eq!(second["messages"][1]["content"], json!([thought, used]));
    assert_eq!(
        second["messages"][2]["content"],
        json!([{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "{\"result\":\"sunny\"}"}]}])
    );
    let again = body(&call(path, &asked, &OpenAi, "gpt-4.1"));
    assert_eq!(again["messages"][1]["tool_calls"][0]["id"], "toolu_1");
    assert_eq!(again["messages"][2]["tool_call_id"], "toolu_1");
}

#[test]
fn pictures_documents_and_schemas_cross() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let asked = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.webp?x=1"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]}], "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    let document = body(&call("/v1/chat/completions", &asked, &Vertex, GEMINI_3));
    assert_eq!(
        document["contents"][0]["parts"],
        json!([
            {"text": "See"},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}},
            {"fileData": {"mimeType": "image/webp", "fileUri": "https://example.com/a.webp?x=1"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        ])
    );
    assert_eq!(
        document["generationConfig"],
        json!({"responseMimeType": "application/json", "responseJsonSchema": schema})
    );
}

/// The vendor fields of the compatibility specification, "Chat request as parsed".
#[test]
fn what_clients_of_openai_say_to_google_is_heard() {
    #[track_caller]
    fn check(members: Value, pointer: &str, expected: Value) {
        let mut asked = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        for (key, value) in members.as_object().unwrap() {
            asked[key] = value.clone();
        }
        let call = call("/v1/chat/completions", &asked, &Vertex, GEMINI_3);
        assert_eq!(body(&call).pointer(pointer), Some(&expected));
        assert!(call.losses.is_empty(), "{:?}", call.losses);
    }
    let settings = json!([{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]);
    check(
        json!({"safetySettings": settings.clone()}),
        "/safetySettings",
        settings,
    );
    check(
        json!({"generationConfig": {"media_resolution": "MEDIA_RESOLUTION_LOW"}}),
        "/generationConfig",
        json!({"mediaResolution": "MEDIA_RESOLUTION_LOW"}),
    );
    check(
        json!({"tools": [
            {"type": "google_search", "google_search": {"exclude_domains": ["a.b"], "time_range_filter": {"start_time": "2025-01-01T00:00:00Z"}}},
            {"type": "enterprise_search"},
            {"type": "function", "function": {"name": "f"}},
        ]}),
        "/tools",
        json!([
            {"googleSearch": {"excludeDomains": ["a.b"], "timeRangeFilter": {"startTime": "2025-01-01T00:00:00Z"}}},
            {"enterpriseWebSearch": {}},
            {"functionDeclarations": [{"name": "f"}]},
        ]),
    );
    check(
        json!({"guided_choice": ["yes", "no"]}),
        "/generationConfig",
        json!({"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["yes", "no"]}}),
    );
    check(
        json!({"guided_regex": "[a-z]+"}),
        "/generationConfig",
        json!({"responseMimeType": "application/json", "responseSchema": {"type": "STRING", "pattern": "[a-z]+"}}),
    );
    check(
        json!({"guided_json": {"type": "object"}}),
        "/generationConfig",
        json!({"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}),
    );
    check(
        json!({"reasoning_effort": "low", "n": 2, "top_logprobs": 3, "logprobs": true}),
        "/generationConfig",
        json!({"candidateCount": 2, "responseLogprobs": true, "logprobs": 3, "thinkingConfig": {"thinkingLevel": "LOW"}}),
    );
}

/// The provider writes a word with space around it and a text after a pattern in quotes.
#[test]
fn guided_answers_are_what_was_asked_for() {
    #[track_caller]
    fn check(guide: Value, said: &[&str], expected: &str) {
        let mut document = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        document
            .as_object_mut()
            .unwrap()
            .extend(guide.as_object().unwrap().clone());
        let reply = |text: &str| json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}]});
        let whole = answer(
            call("/v1/chat/completions", &document, &AiStudio, GEMINI_3),
            &reply(&said.concat()),
        );
        assert_eq!(whole["choices"][0]["message"]["content"], expected);
        document["stream"] = json!(true);
        let mut stream = call("/v1/chat/completions", &document, &AiStudio, GEMINI_3)
            .reply
            .stream();
        let mut out = Vec::new();
        for text in said {
            out.extend(stream.push(Bytes::from(format!("data: {}\n\n", reply(text)))));
        }
        out.extend(stream.end(End::Clean));
        let out = String::from_utf8(out).unwrap();
        let chunks = out
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let told = chunks.map(|chunk| {
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        assert_eq!(told.collect::<String>(), expected);
    }
    let choice = json!({"guided_choice": ["yes", "not yet"]});
    check(choice.clone(), &["\n yes \n"], "yes");
    check(choice, &["\n", " not", " ", "yet", " ", "\n"], "not yet");
    let regex = json!({"guided_regex": "[a-z\"]+"});
    check(regex.clone(), &["\"abc\""], "abc");
    check(regex.clone(), &["\"", "a\"", "bc", "\""], "a\"bc");
    check(regex, &["abc"], "abc");
}

#[test]
fn one_form_of_the_answer_excludes_another() {
    for other in [
        json!({"guided_choice": ["a"]}),
        json!({"response_format": {"type": "json_object"}}),
    ] {
        let mut document =
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "guided_regex": "a"});
        document
            .as_object_mut()
            .unwrap()
            .extend(other.as_object().unwrap().clone());
        let place = Endpoint::find("/v1/chat/completions", "").unwrap();
        let inbound = Inbound::parse(place, Bytes::from(document.to_string())).unwrap();
        let site = Site::default();
        let refused = inbound
            .call(&target(&site, GEMINI_3), &HeaderMap::new())
            .err()
            .unwrap();
        assert_eq!(refused.status, 422, "{other}");
    }
}

#[test]
fn paths_name_model_and_dialect() {
    #[track_caller]
    fn check(path: &str, model: Option<&str>, dialect: Format) {
        let place = Endpoint::find(path, "");
        assert_eq!(place.and_then(|place| place.name).as_deref(), model, "{path}");
        assert_eq!(Endpoint::dialect(path), dialect, "{path}");
    }
    check(
        "/v1beta/models/gemini-3-pro:generateContent",
        Some("gemini-3-pro"),
        Format::Gemini,
    );
    check(
        "/v1/models/org/m:7b:streamGenerateContent",
        Some("org/m:7b"),
        Format::Gemini,
    );
    check(
        "/v1beta/models/a%2Fb:generateContent",
        Some("a/b"),
        Format::Gemini,
    );
    check(
        "/v1beta1/publishers/google/models/m:generateContent",
        Some("m"),
        Format::Gemini,
    );
    check("/v1beta/models/:generateContent", None, Format::Gemini);
    check("/v1beta/models/m:embedContent", None, Format::Gemini);
    check("/v1beta", None, Format::Gemini);
    check("/v1betamax", None, Format::OpenAi);
    check("/v1/models", None, Format::OpenAi);
    check("/anthropic/v1/unknown", None, Format::Messages);

    let site = Site {
        prefix: Some("v1/projects/p/locations/europe-west1".to_owned()),
        ..Site::default()
    };
    let ask = |stream| Ask {
        operation: crate::Operation::Chat,
        format: Format::Gemini,
        stream,
    };
    assert_eq!(
        Vertex.path(ask(true), &target(&site, "gemini 3@1")),
        "/v1/projects/p/locations/europe-west1/publishers/google/models/gemini%203@1:streamGenerateContent?alt=sse"
    );
    assert_eq!(
        AiStudio.path(ask(false), &target(&Site::default(), "models/gemini-3")),
        "/v1beta/models/gemini-3:generateContent"
    );
}

#[test]
fn a_blocked_prompt_is_a_filtered_answer() {
    let blocked =
        json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}});
    let openai = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    let reply = answer(call("/v1/chat/completions", &openai, &Vertex, GEMINI_3), &blocked);
    assert_eq!(reply["choices"][0]["finish_reason"], "content_filter");
    let messages = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    let reply = answer(
        call("/anthropic/v1/messages", &messages, &Vertex, GEMINI_3),
        &blocked,
    );
    assert_eq!(reply["stop_reason"], "refusal");
}

#[test]
fn streams_cross_in_both_directions() {
    let asked = json!({"contents": [{"parts": [{"text": "hi"}]}]});
    let path = "/v1beta/models/m:streamGenerateContent";
    let mut stream = call(path, &asked, &OpenAi, "gpt-4.1").reply.stream();
    let chunks = r#"data: {"id":"c","model":"gpt","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}

data: {"id":"c","model":"gpt","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}

data: {"id":"c","model":"gpt","choices":[],"usage":{"prompt_tokens":4,"completion_tokens":1}}

data: [DONE]

"#;
    let mut out = stream.push(Bytes::from_static(chunks.as_bytes())).to_vec();
    out.extend_from_slice(&stream.end(End::Clean));
    let out = String::from_utf8(out).unwrap();
    assert!(
        out.contains(r#""text":"Hi""#) && out.contains(r#""finishReason":"MAX_TOKENS""#),
        "{out}"
    );
    assert!(out.contains(r#""promptTokenCount":4"#), "{out}");

    let asked = json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let mut stream = call("/anthropic/v1/messages", &asked, &Vertex, GEMINI_3)
        .reply
        .stream();
    let data = calls().to_string();
    let mut out = stream.push(Bytes::from(format!("data: {data}\n\n"))).to_vec();
    out.extend_from_slice(&stream.end(End::Clean));
    let out = String::from_utf8(out).unwrap();
    for expected in [
        r#""thinking":"Two cities.""#,
        &format!(r#""type":"redacted_thinking","data":"gemini:{SIGNATURE}""#),
        r#""stop_reason":"tool_use""#,
        r#""cache_read_input_tokens":20"#,
    ] {
        assert!(out.contains(expected), "{expected} in {out}");
    }
}

#[test]
fn a_picture_of_an_answer_reaches_who_can_show_it() {
    let parts = json!([
        {"text": "Here."},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
    ]);
    let candidate = json!({"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0});
    let shown = json!({"candidates": [candidate], "modelVersion": "m", "responseId": "r"});
    let asked = |more: Value| {
        let mut asked = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        let more = more.as_object().cloned().unwrap_or_default();
        asked.as_object_mut().expect("an object").extend(more);
        asked
    };
    let check = |path: &str, request: &Value, lost: &[&str], whole: &dyn Fn(&Value) -> Value, event: &str| {
        let body = Bytes::from(shown.to_string());
        let answer = call(path, request, &Vertex, GEMINI_3)
            .reply
            .response(body.clone())
            .expect("an answer");
        let reply: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(whole(&reply), json!(true), "{path}: {reply}");
        let names = |losses: &crate::Losses| losses.names(Format::OpenAi);
        assert_eq!(names(&answer.observed.losses), lost, "{path}");
        let mut streamed = request.clone();
        streamed["stream"] = json!(true);
        let mut stream = call(path, &streamed, &Vertex, GEMINI_3).reply.stream();
        let mut out = stream.push(Bytes::from(format!("data: {shown}\n\n"))).to_vec();
        out.extend_from_slice(&stream.end(End::Clean));
        let out = String::from_utf8(out).expect("text");
        assert!(out.contains(event), "{path}: {event} in {out}");
        assert_eq!(names(&stream.observed().losses), lost, "{path}");
    };
    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    check(
        "/v1/chat/completions",
        &asked(json!({})),
        &["choices[].message.content"],
        &|reply| json!(reply["choices"][0]["message"]["images"] == image),
        r#""images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]"#,
    );
    check(
        "/v1/responses",
        &json!({"model": "m", "input": "x", "store": false}),
        &["output"],
        &|reply| {
            let item = &reply["output"][1];
            json!(item["type"] == "image_generation_call" && item["result"] == "AAAA")
        },
        r#""status":"completed","result":"AAAA""#,
    );
    check(
        "/anthropic/v1/messages",
        &asked(json!({"max_tokens": 9})),
        &["content"],
        &|reply| json!(reply["content"] == json!([{"type": "text", "text": "Here."}])),
        r#""text":"Here.""#,
    );
}
