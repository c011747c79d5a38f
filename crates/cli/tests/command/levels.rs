//! What the process says about itself at each level, which changes while it runs, and in which form; and that at no level
//! it says what clients and upstreams have said.

use std::{fs, net::SocketAddr};

use serde_json::{Value, json};
use testkit::{Client, Reply, Script, Upstream, client, fixture};

use crate::process::{Gateway, PATIENCE, finish, tollgate};

const CHAT: &str = "/v1/chat/completions";

/// An upstream that repeats what it must not, in answers, errors and headers.
async fn talkative() -> Upstream {
    Upstream::start(Script::answer(|request| {
        let headers = [
            ("content-type", "application/json"),
            ("set-cookie", "session=mark-cookie"),
            ("x-amzn-session-token", "mark-token"),
        ];
        let asked = String::from_utf8_lossy(&request.body);
        if asked.contains("mark-odd") {
            return Reply::whole(200, &headers, &json!({ "choices": "mark-answer" }).to_string());
        }
        if request.target.ends_with("/chat/completions") && !asked.contains("mark-refused") {
            let mut answer = fixture::openai::response("gpt");
            answer["choices"][0]["message"]["content"] = "mark-answer".into();
            return Reply::whole(200, &headers, &answer.to_string());
        }
        let message = format!("mark-error: {asked}");
        let error = json!({ "error": { "message": message, "type": "invalid_request_error" } });
        Reply::whole(400, &headers, &error.to_string())
    }))
    .await
}

fn variables(upstream: &Upstream) -> [(&'static str, String); 2] {
    [
        ("OPENAI_API_KEY", "mark-key".to_owned()),
        ("OPENAI_BASE_URL", format!("http://{}/v1", upstream.address())),
    ]
}

/// Everything with content that can be asked for.
fn requests() -> Vec<(&'static str, Value)> {
    let model = "gpt-5";
    let said = json!([{ "role": "user", "content": "mark-said" }]);
    let refused = json!([{ "role": "user", "content": "mark-refused" }]);
    vec![
        (CHAT, json!({ "model": model, "messages": said })),
        (CHAT, json!({ "model": model, "messages": refused })),
        (CHAT, json!({ "model": model, "messages": "mark-malformed" })),
        (
            "/v1/completions",
            json!({ "model": model, "prompt": "mark-said" }),
        ),
        ("/v1/embeddings", json!({ "model": model, "input": "mark-said" })),
        (
            "/v1/images/generations",
            json!({ "model": model, "prompt": "mark-said" }),
        ),
        (
            "/v1/responses",
            json!({ "model": model, "input": "mark-said", "instructions": "mark-said" }),
        ),
        (
            "/v1/responses/input_tokens",
            json!({ "model": model, "input": "mark-said" }),
        ),
        (
            "/anthropic/v1/messages",
            json!({ "model": model, "messages": said, "system": "mark-said", "max_tokens": 9 }),
        ),
        (
            "/anthropic/v1/messages",
            json!({ "model": model, "messages": "mark-malformed", "max_tokens": 9 }),
        ),
        (
            "/anthropic/v1/messages",
            json!({ "model": model, "messages": [{ "role": "user", "content": "mark-odd" }], "max_tokens": 9 }),
        ),
        (
            "/anthropic/v1/messages/count_tokens",
            json!({ "model": model, "messages": said, "system": "mark-said" }),
        ),
        (
            "/v1/rerank",
            json!({ "model": model, "query": "mark-said", "documents": ["mark-said"] }),
        ),
        ("/tokenize", json!({ "model": model, "prompt": "mark-said" })),
        (
            "/v1/audio/speech",
            json!({ "model": model, "input": "mark-said", "voice": "alloy" }),
        ),
        ("/v1/moderations", json!({ "model": model, "input": "mark-said" })),
    ]
}

/// Asks for everything at `level`, and finds nothing of it in the log and in the records.
async fn check(level: &str, talks: bool) {
    let upstream = talkative().await;
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    let output = fs::File::create(&records).unwrap();
    let arguments = ["--log-level", level, "--access-log", "json"];
    let variables = variables(&upstream);
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut gateway = Gateway::start_to(output.into(), &arguments, &variables);
    let headers = [
        ("authorization", "Bearer mark-client"),
        ("x-api-key", "mark-client"),
        ("x-team-session-token", "mark-client"),
        ("cookie", "a=mark-client"),
    ];
    let requests = requests();
    for (path, request) in &requests {
        client::post(gateway.address, path, &headers, request).await;
    }
    assert!(!upstream.requests().is_empty());
    // A record follows its answer.
    let recorded = async {
        loop {
            let recent = client::get(gateway.admin, "/debug/requests", &[]).await.json();
            if recent.as_array().unwrap().len() == requests.len() {
                return recent;
            }
            tokio::task::yield_now().await;
        }
    };
    let recent = tokio::time::timeout(PATIENCE, recorded).await.unwrap();
    for told in recent.as_array().unwrap() {
        let id = told["id"].as_str().unwrap();
        let told = client::get(gateway.admin, &format!("/debug/requests/{id}"), &[]).await;
        assert!(!told.text().contains("mark-"), "{}", told.text());
    }
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let said = gateway.rest();
    let written = fs::read_to_string(&records).unwrap();
    assert_eq!(written.lines().count(), requests.len(), "{written}");
    for line in said.iter().map(String::as_str).chain(written.lines()) {
        assert!(!line.contains("mark-"), "{level}: {line}");
    }
    let talked = said.iter().any(|line| line.contains("attempt refused"));
    assert_eq!(talked, talks, "{level}: {said:#?}");
}

#[tokio::test]
async fn at_no_level_anything_is_repeated() {
    for (level, talks) in [
        ("error", false),
        ("warn", false),
        ("info", false),
        ("debug", true),
        ("trace", true),
    ] {
        check(level, talks).await;
    }
}

#[tokio::test]
async fn the_level_changes_while_the_process_runs() {
    let upstream = talkative().await;
    let variables = variables(&upstream);
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut gateway = Gateway::start(&[], &variables);
    let refused = json!({ "model": "gpt-5", "messages": [{ "role": "user", "content": "mark-refused" }] });
    let ask = async |address: SocketAddr| client::post(address, CHAT, &[], &refused).await.status;
    let level = async |admin: SocketAddr, method: &str, level: &str| {
        let mut client = Client::connect(admin).await;
        let length = level.len();
        let request =
            format!("{method} /log-level HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{level}");
        client.send(request).await.unwrap();
        let answer = client.answer().await.unwrap();
        (answer.status, answer.text())
    };
    let (address, admin) = (gateway.address, gateway.admin);
    assert_eq!(level(admin, "GET", "").await, (200, "warn\n".to_owned()));
    assert_eq!(ask(address).await, 400);
    assert_eq!(level(admin, "PUT", "debug").await, (200, "debug\n".to_owned()));
    assert_eq!(ask(address).await, 400);
    gateway.hear("attempt refused");
    let before = gateway
        .heard
        .iter()
        .filter(|line| line.contains("attempt refused"));
    assert_eq!(before.count(), 1, "nothing was said before: {:#?}", gateway.heard);
    for none in ["=,=", "loud", "", "warn,gateway"] {
        assert_eq!(level(admin, "PUT", none).await.0, 400, "{none}");
    }
    assert_eq!(level(admin, "POST", "warn").await.0, 405);
    assert_eq!(level(admin, "GET", "").await, (200, "debug\n".to_owned()));
    assert_eq!(level(admin, "PUT", "error").await, (200, "error\n".to_owned()));
    assert_eq!(ask(address).await, 400);
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let said = gateway.rest();
    let refusals = said.iter().filter(|line| line.contains("attempt refused"));
    assert_eq!(refusals.count(), 1, "{said:#?}");
}

/// Reads a line of the log as a document; returns its level and its message.
fn record(line: &str) -> (String, String) {
    let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |name: &str| {
        let text = record[name].as_str().filter(|text| !text.is_empty());
        text.unwrap_or_else(|| panic!("{name}: {line}")).to_owned()
    };
    let (time, _) = (text("timestamp"), text("target"));
    assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
    (text("level"), text("message"))
}

#[tokio::test]
async fn the_log_may_be_json() {
    let upstream = talkative().await;
    let variables = variables(&upstream);
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain([("TOLLGATE_LOG_FORMAT", "json")])
        .collect();
    let mut gateway = Gateway::start(&["--log-level", "debug"], &variables);
    let refused = json!({ "model": "gpt-5", "messages": [{ "role": "user", "content": "mark-refused" }] });
    let answer = client::post(gateway.address, CHAT, &[], &refused).await;
    assert_eq!(answer.status, 400);
    let line = gateway.hear("attempt refused");
    assert_eq!(record(&line), ("DEBUG".to_owned(), "attempt refused".to_owned()));
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let said: Vec<_> = gateway.rest().iter().map(|line| record(line)).collect();
    let banner = said.iter().find(|(_, message)| message.contains("listening on"));
    assert_eq!(banner.map(|(level, _)| level.as_str()), Some("INFO"), "{said:#?}");
}

#[test]
fn faults_of_a_start_may_be_json() {
    let check = |arguments: &[&str], expected: &str| {
        let all = [
            &["run", "--port", "0", "--admin-port", "0", "--log-format", "json"],
            arguments,
        ]
        .concat();
        let (code, out, err) = finish(tollgate(&all, &[]), "");
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        let said: Vec<_> = err.lines().map(record).collect();
        assert!(said.iter().all(|(level, _)| level == "ERROR"), "{said:?}");
        assert!(
            said.iter().any(|(_, message)| message.contains(expected)),
            "{said:?}"
        );
    };
    check(&["no/such/folder"], "no/such/folder");
    check(&["--mcp-session-seed-file", "no/such/seed"], "no/such/seed");
    let (code, _, err) = finish(tollgate(&["run", "--log-format", "xml"], &[]), "");
    assert!(code == 2 && err.contains("--log-format"), "{err}");
}
