//! Where requests stand in traces: what upstreams are told of it, when their streams began to say something, and which
//! requests stand nowhere.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testkit::{Client, Gate, Reply, Script, Upstream, client, fixture};

use super::PARENT;
use crate::process::Gateway;

const CHAT: &str = "/v1/chat/completions";

fn request(stream: bool) -> Value {
    fixture::openai::request("gpt-5", stream)
}

/// Returns the spans that a gateway in front of `upstream` exports while it is `used`.
async fn spans(
    upstream: &Upstream,
    variables: &[(&str, &str)],
    used: impl AsyncFnOnce(&Gateway),
) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spans");
    let base = format!("http://{}/v1", upstream.address());
    let own = [
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OPENAI_API_KEY", "key"),
        ("OPENAI_BASE_URL", base.as_str()),
    ];
    let variables = [&own[..], variables].concat();
    let stdout = std::fs::File::create(&path).unwrap();
    let mut gateway = Gateway::start_to(stdout.into(), &["--access-log", "off"], &variables);
    used(&gateway).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let written = std::fs::read_to_string(&path).unwrap();
    written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// An upstream is told where its attempt stands in place of what the client said, once, be it recorded or not.
#[tokio::test]
async fn upstreams_are_told_once_where_they_stand() {
    for (sampler, recorded) in [("always_on", true), ("always_off", false)] {
        let upstream = Upstream::start(Script::answer(|_| {
            Reply::json(200, &fixture::openai::response("gpt"))
        }))
        .await;
        let ask = async |gateway: &Gateway| {
            let headers = [("traceparent", PARENT), ("tracestate", "vendor=1")];
            client::post(gateway.address, CHAT, &headers, &request(false)).await;
        };
        let spans = spans(&upstream, &[("OTEL_TRACES_SAMPLER", sampler)], ask).await;
        assert_eq!(spans.len(), if recorded { 2 } else { 0 }, "{sampler}");
        let received = upstream.requests();
        let places: Vec<&str> = received[0]
            .headers
            .get_all("traceparent")
            .iter()
            .map(|place| place.to_str().unwrap())
            .collect();
        let [place] = places.as_slice() else {
            panic!("one place: {places:?}");
        };
        let trace = &PARENT[..35];
        assert!(place.starts_with(trace) && *place != PARENT, "{place}");
        assert!(place.ends_with(if recorded { "-01" } else { "-00" }), "{place}");
        assert_eq!(received[0].header("tracestate"), "vendor=1");
        let attempt = spans.iter().find(|span| span["name"] == "attempt");
        if let Some(attempt) = attempt {
            assert_eq!(place.split('-').nth(2), attempt["spanId"].as_str());
        }
    }
}

/// The first token is stamped when it comes, and not when the stream ends.
#[tokio::test]
async fn the_first_token_is_stamped_when_it_comes() {
    let gate = Gate::new();
    let frames = fixture::openai::frames("gpt");
    let (first, rest) = frames.split_at(2);
    let stream = Reply::stream().frames(first).wait(&gate).frames(rest).end();
    let upstream = Upstream::start(stream).await;
    let mut heard = 0;
    let ask = async |gateway: &Gateway| {
        let mut client = Client::connect(gateway.address).await;
        client.post(CHAT, &[], &request(true)).await.unwrap();
        client.head().await.unwrap();
        client.frame().await.unwrap();
        heard = now();
        gate.open();
        while client.frame().await.unwrap().is_some() {}
    };
    let spans = spans(&upstream, &[], ask).await;
    let span = spans
        .iter()
        .find(|span| span["name"] == "ChatCompletion")
        .unwrap();
    let event = &span["events"][0];
    assert_eq!(event["name"], "First Token Stream Event");
    let (at, end) = (event["time"].as_u64().unwrap(), span["end"].as_u64().unwrap());
    assert!(at > span["start"].as_u64().unwrap(), "{span:#}");
    assert!(at < heard && heard < end, "{heard}: {span:#}");
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

/// What no rule serves, and lists of models, have no span.
#[tokio::test]
async fn what_finds_no_rule_has_no_span() {
    let upstream = Upstream::start(Reply::new()).await;
    let ask = async |gateway: &Gateway| {
        for path in ["/v1/nothing", CHAT] {
            let answer = client::post(gateway.address, path, &[], &json!({})).await;
            assert!(answer.status >= 400, "{path}: {}", answer.text());
        }
        assert_eq!(client::get(gateway.address, "/v1/models", &[]).await.status, 200);
    };
    assert_eq!(spans(&upstream, &[], ask).await, Vec::<Value>::new());
}
