//! What answers call a model that a route names in place of the client's.

use llm::{Provider, provider};
use serde_json::{Value, json};
use testkit::{Cloud, Provider as Played, Reply, Script, Upstream, client::Answer, fixture};

use crate::fixture::{CHAT, KEY, MESSAGES, MODEL, To, serve, to};

const RESPONSES: &str = "/v1/responses";

/// Who is asked for which model, and who plays that.
type Row = (&'static dyn Provider, fn() -> Script, &'static str);

const ROWS: &[Row] = &[
    (&provider::OpenAi, || Played::OpenAi.script(KEY), "gpt-5"),
    (
        &provider::Anthropic,
        || Played::Messages.script(KEY),
        "claude-sonnet-4-5",
    ),
    (
        &provider::AiStudio,
        || Cloud::AiStudio.script(KEY),
        "gemini-2.5-pro",
    ),
    (
        &provider::BedrockClaude,
        || Cloud::InvokeModel.script(KEY),
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
    ),
];

/// What each client sends, where, and where its answers name the model, whole and in events.
fn clients(stream: bool) -> Vec<(String, Value, [&'static str; 2])> {
    let gemini = |action: &str| format!("/v1beta/models/{MODEL}:{action}");
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "Hi."}]}]});
    let mut chat = fixture::openai::request(MODEL, stream);
    chat["max_completion_tokens"] = json!(64);
    let (whole, array) = (gemini("generateContent"), gemini("streamGenerateContent"));
    let events = format!("{array}?alt=sse");
    let mut clients = vec![
        (CHAT.to_owned(), chat, ["/model", "/model"]),
        (
            RESPONSES.to_owned(),
            json!({"model": MODEL, "input": "Hi.", "stream": stream}),
            ["/model", "/response/model"],
        ),
        (
            MESSAGES.to_owned(),
            fixture::messages::request(MODEL, stream),
            ["/model", "/message/model"],
        ),
        (
            if stream { events } else { whole },
            contents.clone(),
            ["/modelVersion", "/modelVersion"],
        ),
    ];
    if stream {
        clients.push((array, contents, ["/modelVersion", "/modelVersion"]));
    }
    clients
}

#[tokio::test]
async fn answers_call_the_model_what_the_client_called_it() {
    for (provider, played, model) in ROWS {
        let upstream = Upstream::start(played()).await;
        let served = serve([named(*provider, &upstream, model)]).await;
        for stream in [false, true] {
            for (path, request, places) in clients(stream) {
                let answer = served.post(&path, &request).await;
                let cell = format!("{path} at {}", provider.id());
                assert_eq!(answer.status, 200, "{cell}: {}", answer.text());
                let names = names(&answer, places);
                assert!(!names.is_empty(), "{cell}: {}", answer.text());
                assert!(names.iter().all(|name| name == MODEL), "{cell}: {names:?}");
                assert_eq!(answer.header("x-tollgate-model"), *model, "{cell}");
            }
        }
        served
            .metric_reaches(
                "gen_ai_server_request_duration_seconds_count",
                &[&format!("gen_ai_response_model=\"{model}\"")],
                9.0,
            )
            .await;
    }
}

#[tokio::test]
async fn a_model_that_no_route_renames_keeps_its_providers_name() {
    let dated = fixture::openai::response("m-2026-01-01");
    let upstream = Upstream::start(Reply::json(200, &dated)).await;
    for model in [None, Some(MODEL.to_owned())] {
        let served = serve([To {
            model,
            ..to(&provider::OpenAi, upstream.address())
        }])
        .await;
        let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
        assert_eq!(answer.json(), dated);
        assert_eq!(answer.header("x-tollgate-model"), "");
    }
}

#[tokio::test]
async fn what_else_an_upstream_says_stays_as_it_wrote_it() {
    let reply = fixture::openai::response("other").to_string().replace(':', " : ");
    let upstream = Upstream::start(Reply::whole(200, &[("content-type", "application/json")], &reply)).await;
    let served = serve([named(&provider::OpenAi, &upstream, "other")]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!(answer.text(), reply.replace("\"other\"", "\"m\""));
    let frames = fixture::openai::frames("other")
        .concat()
        .replace("\n\n", "\r\n\r\n");
    let upstream = Upstream::start(Reply::sse([&frames])).await;
    let served = serve([named(&provider::OpenAi, &upstream, "other")]).await;
    let mut request = fixture::openai::request(MODEL, true);
    request["stream_options"] = json!({"include_usage": true});
    let answer = served.post(CHAT, &request).await;
    assert_eq!(answer.text(), frames.replace("\"other\"", "\"m\""));
}

#[tokio::test]
async fn vectors_name_the_model_too() {
    let upstream = Upstream::start(Cloud::AiStudio.script(KEY)).await;
    let relayed = Upstream::start(Played::OpenAi.script(KEY)).await;
    for (to, model) in [
        (
            named(&provider::AiStudio, &upstream, "gemini-embedding-001"),
            "gemini-embedding-001",
        ),
        (
            named(&provider::OpenAi, &relayed, "text-embedding-3-small"),
            "text-embedding-3-small",
        ),
    ] {
        let served = serve([to]).await;
        let answer = served
            .post("/v1/embeddings", &json!({"model": MODEL, "input": "a"}))
            .await;
        assert_eq!(answer.json()["model"], MODEL, "{}", answer.text());
        assert_eq!(answer.header("x-tollgate-model"), model);
    }
}

fn named(provider: &'static dyn Provider, upstream: &Upstream, model: &str) -> To {
    To {
        model: Some(model.to_owned()),
        ..to(provider, upstream.address())
    }
}

/// Returns every name of the model in `answer`: a document, an array of documents, or events.
fn names(answer: &Answer, [whole, event]: [&str; 2]) -> Vec<String> {
    let text = answer.text();
    let documents: Vec<Value> = match serde_json::from_str(&text) {
        Ok(Value::Array(documents)) => documents,
        Ok(document) => vec![document],
        Err(_) => {
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            data.filter_map(|data| serde_json::from_str(data).ok()).collect()
        }
    };
    let found = documents
        .iter()
        .filter_map(|document| document.pointer(whole).or_else(|| document.pointer(event)));
    found.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}
