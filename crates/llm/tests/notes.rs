//! What is said about texts, from every format that says it to every other: log-probabilities and citations, of whole
//! answers and in streams. And what formats are told alike of a service: OpenAI's two, and Gemini of its tier.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::HeaderMap;
use llm::{
    Call, Endpoint, Format, Inbound, Provider, Site, Target,
    frame::sse::Sse,
    provider::{AiStudio, MISTRAL, OPENAI_RESPONSES, TOGETHER},
    reply::End,
};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const GEMINI: &str = "/v1beta/models/m:generateContent";

/// What the model says, the page that it cites for the second word, and where that word stands.
const TEXT: &str = "é see";
const URL: &str = "https://example.com/a";
const SPAN: (u64, u64) = (2, 5);

fn call(path: &str, provider: &'static dyn Provider, document: &Value) -> Call {
    let place = Endpoint::find(path, "alt=sse").expect("the path is in the table");
    let inbound = Inbound::parse(place, Bytes::from(document.to_string())).expect("the request is valid");
    let site = Site::default();
    let target = Target {
        provider,
        site: &site,
        model: "m",
        now: 1_700_000_000,
    };
    inbound
        .call(&target, &HeaderMap::new())
        .unwrap_or_else(|error| panic!("the request can be said: {error}"))
}

/// Returns a request of a client at `path` for an answer, streamed or not.
fn request(path: &str, stream: bool) -> Value {
    match path {
        CHAT => json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}),
        RESPONSES => json!({"model": "m", "stream": stream, "input": "hi"}),
        _ => json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
    }
}

fn token(text: &str, logprob: f64) -> Value {
    json!({"token": text, "logprob": logprob, "bytes": text.as_bytes(), "top_logprobs": [
        {"token": text, "logprob": logprob, "bytes": text.as_bytes()},
    ]})
}

fn page() -> Value {
    json!({"url": URL, "title": "A", "start_index": SPAN.0, "end_index": SPAN.1})
}

fn cited() -> Value {
    let mut page = page();
    page["type"] = json!("url_citation");
    page
}

/// Returns what an upstream of chat completions answers.
fn openai(stream: bool) -> Vec<Value> {
    let head = |choice: Value| json!({"id": "c", "created": 5, "model": "m", "choices": [choice]});
    let annotations = json!([{"type": "url_citation", "url_citation": page()}]);
    if !stream {
        return vec![head(json!({"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": TEXT, "annotations": annotations},
            "logprobs": {"content": [token("é", -0.5), token(" see", -0.25)], "refusal": null}}))];
    }
    vec![
        head(
            json!({"index": 0, "delta": {"role": "assistant", "content": "é"}, "logprobs": {"content": [token("é", -0.5)]}}),
        ),
        head(
            json!({"index": 0, "delta": {"content": " see"}, "logprobs": {"content": [token(" see", -0.25)]}}),
        ),
        head(json!({"index": 0, "delta": {"annotations": annotations}})),
        head(json!({"index": 0, "delta": {}, "finish_reason": "stop"})),
    ]
}

/// Returns what an upstream of Responses answers.
fn responses(stream: bool) -> Vec<Value> {
    let item = json!({"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [{
        "type": "output_text", "text": TEXT, "annotations": [cited()],
        "logprobs": [token("é", -0.5), token(" see", -0.25)],
    }]});
    let whole = json!({"id": "resp_1", "object": "response", "created_at": 5, "model": "m", "status": "completed",
        "output": [item], "usage": {"input_tokens": 1, "output_tokens": 2}});
    if !stream {
        return vec![whole];
    }
    let delta = |text: &str, logprob: f64| {
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text,
            "logprobs": [token(text, logprob)]})
    };
    vec![
        json!({"type": "response.created", "response": {"id": "resp_1", "model": "m", "created_at": 5}}),
        json!({"type": "response.output_item.added", "output_index": 0,
            "item": {"type": "message", "id": "i", "role": "assistant", "content": []}}),
        delta("é", -0.5),
        delta(" see", -0.25),
        json!({"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0,
            "annotation_index": 0, "annotation": cited()}),
        json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": TEXT}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": whole}),
    ]
}

/// Returns what an upstream of Gemini answers; it counts in bytes.
fn gemini(stream: bool) -> Vec<Value> {
    let head = |text: &str, more: Value| {
        let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": [{"text": text}]}});
        let members = candidate.as_object_mut().expect("an object");
        members.extend(more.as_object().cloned().unwrap_or_default());
        json!({"candidates": [candidate], "modelVersion": "m", "responseId": "r"})
    };
    let logprobs = |tokens: &[(&str, f64)]| {
        let chosen = tokens
            .iter()
            .map(|(text, logprob)| json!({"token": text, "logProbability": logprob}));
        let chosen: Vec<Value> = chosen.collect();
        let top: Vec<Value> = chosen
            .iter()
            .map(|chosen| json!({"candidates": [chosen]}))
            .collect();
        json!({"chosenCandidates": chosen, "topCandidates": top})
    };
    let grounding = json!({"groundingChunks": [{"web": {"uri": URL, "title": "A"}}], "groundingSupports": [
        {"segment": {"startIndex": 3, "endIndex": 6, "text": "see"}, "groundingChunkIndices": [0]},
    ]});
    if !stream {
        let both = logprobs(&[("é", -0.5), (" see", -0.25)]);
        return vec![head(
            TEXT,
            json!({"finishReason": "STOP", "logprobsResult": both, "groundingMetadata": grounding}),
        )];
    }
    vec![
        head("é", json!({"logprobsResult": logprobs(&[("é", -0.5)])})),
        head(
            " see",
            json!({"finishReason": "STOP", "logprobsResult": logprobs(&[(" see", -0.25)]), "groundingMetadata": grounding}),
        ),
    ]
}

/// What a client is told of an answer.
#[derive(Debug, PartialEq)]
struct Told {
    text: String,
    /// The tokens, with their log-probabilities.
    tokens: Vec<(String, f64)>,
    /// The pages that are cited, and for which characters.
    cited: Vec<(String, u64, u64)>,
}

/// Returns what a client at `path` is told: text, tokens with their log-probabilities, and the pages that are cited
/// with where they are.
fn told(path: &str, documents: &[Value]) -> Told {
    let (mut text, mut tokens, mut cited) = (String::new(), Vec::new(), Vec::new());
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().expect("a number");
    let mut token = |token: &Value, logprob: &str, name: &str| {
        tokens.push((string(&token[name]), token[logprob].as_f64().expect("a number")));
    };
    for document in documents {
        match path {
            CHAT => {
                let choice = &document["choices"][0];
                let said = choice.get("delta").unwrap_or(&choice["message"]);
                text += &string(&said["content"]);
                for logprob in list(&choice["logprobs"]["content"]) {
                    token(&logprob, "logprob", "token");
                }
                for annotation in list(&said["annotations"]) {
                    assert_eq!(annotation["type"], "url_citation");
                    let page = &annotation["url_citation"];
                    cited.push((
                        string(&page["url"]),
                        number(&page["start_index"]),
                        number(&page["end_index"]),
                    ));
                }
            }
            RESPONSES => match string(&document["type"]).as_str() {
                "response.output_text.delta" => {
                    text += &string(&document["delta"]);
                    for logprob in list(&document["logprobs"]) {
                        token(&logprob, "logprob", "token");
                    }
                }
                "response.output_text.annotation.added" => {
                    let page = &document["annotation"];
                    cited.push((
                        string(&page["url"]),
                        number(&page["start_index"]),
                        number(&page["end_index"]),
                    ));
                }
                "" => {
                    let piece = &document["output"][0]["content"][0];
                    text += &string(&piece["text"]);
                    for logprob in list(&piece["logprobs"]) {
                        token(&logprob, "logprob", "token");
                    }
                    for page in list(&piece["annotations"]) {
                        cited.push((
                            string(&page["url"]),
                            number(&page["start_index"]),
                            number(&page["end_index"]),
                        ));
                    }
                }
                _ => {}
            },
            _ => {
                let candidate = &document["candidates"][0];
                for part in list(&candidate["content"]["parts"]) {
                    text += &string(&part["text"]);
                }
                for chosen in list(&candidate["logprobsResult"]["chosenCandidates"]) {
                    token(&chosen, "logProbability", "token");
                }
                let grounding = &candidate["groundingMetadata"];
                for support in list(&grounding["groundingSupports"]) {
                    let index = number(&support["groundingChunkIndices"][0]) as usize;
                    let (segment, url) = (
                        &support["segment"],
                        &grounding["groundingChunks"][index]["web"]["uri"],
                    );
                    assert_eq!(segment["text"], "see");
                    // It counts in bytes, of which the first character has two.
                    cited.push((
                        string(url),
                        number(&segment["startIndex"]) - 1,
                        number(&segment["endIndex"]) - 1,
                    ));
                }
            }
        }
    }
    Told { text, tokens, cited }
}

/// Returns the documents in the data of a stream.
fn data(stream: &[u8]) -> Vec<Value> {
    let mut documents = Vec::new();
    Sse::default()
        .push(stream, |frame, _| {
            documents.extend(serde_json::from_str::<Value>(frame.data).ok());
        })
        .expect("no event is too large");
    documents
}

/// Returns the request, with the search that a provider's answer comes of.
fn asked(path: &str, provider: &dyn Provider, stream: bool) -> Value {
    let mut request = request(path, stream);
    if path == CHAT && provider.id() == AiStudio.id() {
        request["tools"] = json!([{"type": "google_search"}]);
    }
    request
}

fn check(path: &str, provider: &'static dyn Provider, reply: fn(bool) -> Vec<Value>) {
    let what = format!("{path} of {}", provider.id());
    let expected = Told {
        text: TEXT.to_owned(),
        tokens: vec![("é".to_owned(), -0.5), (" see".to_owned(), -0.25)],
        cited: vec![(URL.to_owned(), SPAN.0, SPAN.1)],
    };
    let whole = call(path, provider, &asked(path, provider, false));
    let body = Bytes::from(reply(false).first().map(Value::to_string).unwrap_or_default());
    let answer = whole.reply.response(body).expect("a whole answer");
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(told(path, &[document]), expected, "{what}, whole");

    let streamed = match path {
        GEMINI => "/v1beta/models/m:streamGenerateContent",
        other => other,
    };
    let mut stream = call(streamed, provider, &asked(path, provider, true))
        .reply
        .stream();
    let events = reply(true);
    let events = events.iter().map(|event| format!("data: {event}\n\n"));
    let mut out = stream.push(Bytes::from(events.collect::<String>())).to_vec();
    out.extend_from_slice(&stream.end(End::Clean));
    assert_eq!(told(path, &data(&out)), expected, "{what}, streamed");
}

#[test]
fn tokens_and_citations_reach_every_client() {
    type Cell = (&'static str, &'static dyn Provider, fn(bool) -> Vec<Value>);
    let cells: [Cell; 4] = [
        (CHAT, &OPENAI_RESPONSES, responses),
        (GEMINI, &OPENAI_RESPONSES, responses),
        (RESPONSES, &MISTRAL, openai),
        (CHAT, &AiStudio, gemini),
    ];
    for (path, provider, reply) in cells {
        check(path, provider, reply);
    }
}

/// What Google says of an answer in its own words reaches clients that know the words; the compatibility specification,
/// "Non-standard message members".
#[test]
fn ratings_and_grounding_are_told_verbatim() {
    let ratings = json!([{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]);
    let grounding = json!({"webSearchQueries": ["see"]});
    let candidate = json!({"index": 0, "content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP",
        "safetyRatings": ratings, "groundingMetadata": grounding});
    let reply = json!({"candidates": [candidate], "modelVersion": "m", "responseId": "r"});
    let whole = call(CHAT, &AiStudio, &request(CHAT, false));
    let answer = whole
        .reply
        .response(Bytes::from(reply.to_string()))
        .expect("a whole answer");
    assert!(answer.observed.losses.is_empty(), "{:?}", answer.observed.losses);
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let message = &document["choices"][0]["message"];
    assert_eq!(
        (&message["safety_ratings"], &message["grounding_metadata"]),
        (&ratings, &grounding)
    );

    let mut stream = call(CHAT, &AiStudio, &request(CHAT, true)).reply.stream();
    let mut out = stream.push(Bytes::from(format!("data: {reply}\n\n"))).to_vec();
    out.extend_from_slice(&stream.end(End::Clean));
    let last = data(&out).pop().expect("a chunk");
    let delta = &last["choices"][0]["delta"];
    assert_eq!(
        (&delta["safety_ratings"], &delta["grounding_metadata"]),
        (&ratings, &grounding)
    );

    // Others are told that there was something.
    let whole = call(RESPONSES, &AiStudio, &request(RESPONSES, false));
    let answer = whole
        .reply
        .response(Bytes::from(reply.to_string()))
        .expect("a whole answer");
    assert_eq!(answer.observed.losses.iter().count(), 2);
}

fn check_members(path: &str, provider: &'static dyn Provider, said: &Value, expected: &Value, lost: &[&str]) {
    let mut document = request(path, false);
    let members = document.as_object_mut().expect("an object");
    members.extend(said.as_object().cloned().unwrap_or_default());
    let call = call(path, provider, &document);
    let sent: Value = serde_json::from_slice(&call.body).expect("JSON");
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(
            sent.get(key).unwrap_or(&Value::Null),
            value,
            "{key} from {path} in {sent}"
        );
    }
    let losses: Vec<String> = call
        .losses
        .iter()
        .map(|loss| format!("{:?}", loss.field))
        .collect();
    let lost: Vec<String> = lost.iter().map(|key| format!("Extension(\"{key}\")")).collect();
    assert_eq!(BTreeSet::from_iter(losses), BTreeSet::from_iter(lost), "{path}");
}

#[test]
fn what_openais_formats_share_is_carried_both_ways() {
    let both = json!({
        "metadata": {"team": "a"}, "prompt_cache_key": "k", "prompt_cache_retention": "24h",
        "safety_identifier": "hash", "service_tier": "flex", "parallel_tool_calls": false,
    });
    let mut chat = both.clone();
    chat["verbosity"] = json!("low");
    chat["store"] = json!(true);
    chat["logprobs"] = json!(true);
    chat["top_logprobs"] = json!(2);
    let told = json!({
        "metadata": {"team": "a"}, "prompt_cache_key": "k", "prompt_cache_retention": "24h",
        "safety_identifier": "hash", "user": null, "service_tier": "flex", "store": true,
        "text": {"verbosity": "low"}, "top_logprobs": 2, "include": ["message.output_text.logprobs"],
    });
    check_members(CHAT, &OPENAI_RESPONSES, &chat, &told, &[]);

    let mut responses = both.clone();
    responses["text"] = json!({"verbosity": "low"});
    let told = json!({
        "metadata": {"team": "a"}, "prompt_cache_key": "k", "prompt_cache_retention": "24h",
        "safety_identifier": "hash", "user": null, "service_tier": "flex", "verbosity": "low",
    });
    check_members(RESPONSES, &TOGETHER, &responses, &told, &[]);
    // Two names for the user are two members.
    let named = json!({"user": "u", "safety_identifier": "hash"});
    check_members(RESPONSES, &TOGETHER, &named, &named, &[]);
    // A server that takes nothing of the kind is sent nothing of it.
    let told = json!({"metadata": null, "prompt_cache_key": null, "verbosity": null});
    let some = json!({"metadata": {"team": "a"}, "prompt_cache_key": "k", "text": {"verbosity": "low"}});
    check_members(
        RESPONSES,
        &MISTRAL,
        &some,
        &told,
        &["text.verbosity", "metadata", "prompt_cache_key"],
    );
    // What is kept is not what is stored elsewhere.
    let stored = json!({"store": null});
    check_members(RESPONSES, &TOGETHER, &json!({"store": true}), &stored, &["store"]);
}

/// Returns what a client at `path` is told of an answer by `provider`, which is `document`, and what was lost.
fn answered(path: &str, provider: &'static dyn Provider, document: &Value) -> (Value, Vec<String>) {
    let reply = call(path, provider, &request(path, false)).reply;
    let answer = reply
        .response(Bytes::from(document.to_string()))
        .expect("an answer");
    let losses = answer.observed.losses.names(Format::OpenAi);
    let told = serde_json::from_slice(&answer.body).expect("JSON");
    (told, losses.into_iter().map(String::from).collect())
}

#[test]
fn the_tier_of_service_comes_back_from_gemini() {
    #[track_caller]
    fn check(counts: &Value, told: &Value, lost: &[&str]) {
        let mut document = gemini(false).remove(0);
        document["usageMetadata"] = counts.clone();
        let (answer, losses) = answered(CHAT, &AiStudio, &document);
        assert_eq!(answer["service_tier"], *told, "{counts}");
        assert_eq!(losses, lost, "{counts}");
    }
    check(&json!({"serviceTier": "standard"}), &json!("default"), &[]);
    check(&json!({"serviceTier": "flex"}), &json!("flex"), &[]);
    check(&json!({"trafficType": "ON_DEMAND"}), &json!("default"), &[]);
    check(
        &json!({"trafficType": "ON_DEMAND_PRIORITY"}),
        &json!("priority"),
        &[],
    );
    check(
        &json!({"trafficType": "PROVISIONED_THROUGHPUT"}),
        &json!("scale"),
        &[],
    );
    check(
        &json!({"serviceTier": "unspecified", "trafficType": "TRAFFIC_TYPE_UNSPECIFIED"}),
        &Value::Null,
        &[],
    );
    check(
        &json!({"serviceTier": "odd"}),
        &Value::Null,
        &["usageMetadata.serviceTier"],
    );
}

#[test]
fn the_tier_of_service_comes_back_to_gemini() {
    #[track_caller]
    fn check(tier: &str, told: [&str; 2], lost: &[&str]) {
        let mut document = openai(false).remove(0);
        document["service_tier"] = json!(tier);
        document["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 2});
        let (answer, losses) = answered(GEMINI, &TOGETHER, &document);
        let counts = &answer["usageMetadata"];
        let said = |key: &str| counts[key].as_str().unwrap_or_default();
        assert_eq!([said("serviceTier"), said("trafficType")], told, "{tier}");
        assert_eq!(losses, lost, "{tier}");
    }
    check("default", ["standard", "ON_DEMAND"], &[]);
    check("flex", ["flex", "ON_DEMAND_FLEX"], &[]);
    check("priority", ["priority", "ON_DEMAND_PRIORITY"], &[]);
    check("scale", ["", "PROVISIONED_THROUGHPUT"], &[]);
    check("batch", ["", ""], &["service_tier"]);
}
