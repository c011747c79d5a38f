//! `tollgate run` as its users see it: a process, its ports and its words.

use std::{fs, path::Path};

use serde_json::{Value, json};
use testkit::{Client, client};

use crate::process::{Gateway, finish, tollgate};

/// Both forms of client against both forms of upstream, whole and streamed.
#[tokio::test]
async fn the_simulated_provider_answers_in_all_four_cells() {
    let gateway = Gateway::start(&[], &[]);
    for model in ["sim-1", "claude-sim-1"] {
        let said = format!("This is {model}, a simulated model. You said: Hello");
        let prompt = "Hello";
        let answer = client::post(gateway.address, OPENAI, &[], &openai(model, prompt)).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        let reply = answer.json();
        assert_eq!(reply["choices"][0]["message"]["content"], said);
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
        assert!(reply["usage"]["prompt_tokens"].as_u64() > Some(0), "{reply}");
        let answer = client::post(gateway.address, MESSAGES, VERSION, &messages(model, prompt)).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        let reply = answer.json();
        assert_eq!(reply["content"][0]["text"], said);
        assert_eq!(reply["stop_reason"], "end_turn");
        assert!(reply["usage"]["output_tokens"].as_u64() > Some(0), "{reply}");

        let mut request = openai(model, prompt);
        request["stream"] = true.into();
        let answer = client::post(gateway.address, OPENAI, &[], &request).await;
        let events = events(&answer.frames());
        let deltas = texts(&events, "/choices/0/delta/content");
        assert!(deltas.len() > 2, "{events:?}");
        assert_eq!(deltas.concat(), said);
        assert!(answer.text().trim_end().ends_with("data: [DONE]"));
        let mut request = messages(model, prompt);
        request["stream"] = true.into();
        let answer = client::post(gateway.address, MESSAGES, VERSION, &request).await;
        let events = self::events(&answer.frames());
        let deltas = texts(&events, "/delta/text");
        assert!(deltas.len() > 2, "{events:?}");
        assert_eq!(deltas.concat(), said);
        assert_eq!(events.last().unwrap()["type"], "message_stop");
    }
}

#[tokio::test]
async fn the_simulated_provider_takes_a_tool_loop_round() {
    let gateway = Gateway::start(&[], &[]);
    for model in ["sim-1", "claude-sim-1"] {
        let mut request = openai(model, "What is the weather in Paris?");
        request["tools"] = json!([{"type": "function", "function": {"name": "get_weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]);
        let answer = client::post(gateway.address, OPENAI, &[], &request).await.json();
        let message = answer["choices"][0]["message"].clone();
        let call = &message["tool_calls"][0];
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
        assert_eq!(
            call["function"],
            json!({"name": "get_weather", "arguments": r#"{"city":"Paris"}"#})
        );
        let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "18 degrees"});
        request["messages"]
            .as_array_mut()
            .unwrap()
            .extend([message, result]);
        let answer = client::post(gateway.address, OPENAI, &[], &request).await.json();
        let said = format!("Simulated answer of {model}. get_weather answered: 18 degrees");
        assert_eq!(answer["choices"][0]["message"]["content"], said, "{answer}");
    }
}

#[tokio::test]
async fn the_simulated_provider_refuses_what_providers_refuse() {
    let gateway = Gateway::start(&[], &[]);
    let check = async |path: &str, body: Value, status: u16| {
        let answer = client::post(gateway.address, path, VERSION, &body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string(), "{}", answer.text());
    };
    check(OPENAI, json!({"model": "sim-1"}), 400).await;
    check(
        OPENAI,
        json!({"model": "sim-1", "messages": [{"role": "nobody", "content": "x"}]}),
        400,
    )
    .await;
    check(MESSAGES, json!({"model": "claude-sim-1", "messages": []}), 400).await;
    check(OPENAI, openai("sim-2", "Hello"), 404).await;
}

#[test]
fn the_banner_says_where_what_and_how() {
    let mut gateway = Gateway::start(&[], &[]);
    gateway.hear("curl -N");
    let said = gateway.heard.join("\n");
    for part in [
        &format!(
            "listening on http://{} (admin http://{})",
            gateway.address, gateway.admin
        ),
        "configuration: a simulated provider",
        "models: sim-1, sim-1-mini, claude-sim-1",
        &format!("  curl http://{}/v1/chat/completions ", gateway.address),
        &format!("  curl http://{}/anthropic/v1/messages ", gateway.address),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// What the banner offers is parsed as a shell would, so that it is known to work when pasted.
#[tokio::test]
async fn every_line_of_the_banner_works() {
    let mut gateway = Gateway::start(&[], &[]);
    gateway.hear("curl -N");
    let lines: Vec<_> = gateway
        .heard
        .iter()
        .filter(|line| line.starts_with("  curl"))
        .collect();
    assert_eq!(lines.len(), 3);
    for line in lines {
        let url = line.split("http://").nth(1).unwrap().split(' ').next().unwrap();
        let (authority, path) = url.split_at(url.find('/').unwrap());
        let body = line.split("-d '").nth(1).unwrap().trim_end_matches('\'');
        let body = serde_json::from_str(body).unwrap();
        let answer = client::post(authority.parse().unwrap(), path, &[], &body).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_served_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.yaml");
    fs::write(&file, configuration("first")).unwrap();
    let mut gateway = Gateway::start(&[file.to_str().unwrap()], &[]);
    assert_eq!(models(&gateway).await, ["first"]);
    let created = created(&gateway).await;
    assert!(created > 1_700_000_000, "{created}");

    fs::write(&file, configuration("second")).unwrap();
    gateway.hear("configuration reloaded");
    assert_eq!(models(&gateway).await, ["second"]);
    assert_eq!(self::created(&gateway).await, created);

    replace(
        &file,
        &configuration("third").replace("backendRefs", "backendReefs"),
    );
    let fault = gateway.hear("backendReefs");
    assert!(
        fault.starts_with(&format!("{}:", file.display())) && fault.contains(": error: "),
        "{fault}"
    );
    gateway.hear("the one before stays");
    assert_eq!(models(&gateway).await, ["second"]);

    replace(&file, &configuration("fourth"));
    gateway.hear("configuration reloaded");
    assert_eq!(models(&gateway).await, ["fourth"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_watched_for_files_that_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), configuration("first")).unwrap();
    let mut gateway = Gateway::start(&[folder.path().to_str().unwrap()], &[]);
    let more = folder.path().join("b.yaml");
    fs::write(&more, route("more", "second")).unwrap();
    gateway.hear("configuration reloaded");
    assert_eq!(models(&gateway).await, ["first", "second"]);
    fs::remove_file(&more).unwrap();
    gateway.hear("configuration reloaded");
    assert_eq!(models(&gateway).await, ["first"]);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_without_a_difference_is_not_mentioned() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.yaml");
    fs::write(&file, configuration("first")).unwrap();
    let mut gateway = Gateway::start(&[file.to_str().unwrap()], &[]);
    let before = gateway.heard.len();
    replace(&file, &configuration("first"));
    gateway.signal("HUP");
    replace(&file, &configuration("second"));
    gateway.signal("HUP");
    gateway.hear("configuration reloaded");
    assert_eq!(gateway.heard.len(), before + 1, "{:#?}", gateway.heard);
}

#[cfg(unix)]
#[tokio::test]
async fn the_end_is_orderly() {
    for signal in ["TERM", "INT"] {
        let mut gateway = Gateway::start(&[], &[]);
        gateway.signal(signal);
        assert_eq!(gateway.ended(), 0, "{signal}");
    }
}

/// A request that is being served holds the first signal up; the second does not wait for it.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once() {
    let upstream = testkit::Upstream::start(testkit::Reply::new().stall()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.yaml");
    let port = upstream.address().port().to_string();
    fs::write(&file, configuration("first").replace("11434", &port)).unwrap();
    let mut gateway = Gateway::start(&[file.to_str().unwrap()], &[]);
    let mut client = Client::connect(gateway.address).await;
    client.post(OPENAI, &[], &openai("first", "Hello")).await.unwrap();
    upstream.received(1).await;
    gateway.signal("TERM");
    // The listener closes when draining begins.
    while tokio::net::TcpStream::connect(gateway.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 1);
}

#[tokio::test]
async fn health_is_asked_within_a_second() {
    let gateway = Gateway::start(&[], &[]);
    let url = format!("http://{}/ready", gateway.admin);
    let check = |url: &str, code: i32, said: &str| {
        let (status, out, err) = finish(tollgate(&["healthcheck", "--url", url], &[]), "");
        assert_eq!((status, out.as_str()), (code, ""), "{url}: {err}");
        assert!(err.contains(said), "{url}: {err}");
    };
    check(&url, 0, "");
    check(&url.replace("/ready", "/nothing"), 1, "status 404");
    check("https://127.0.0.1/ready", 1, "only http://");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    check(
        &format!("http://{}/ready", silent.local_addr().unwrap()),
        1,
        "no answer",
    );
    let gone = testkit::Upstream::refusing();
    check(&format!("http://{}/ready", gone.address), 1, "cannot connect");
}

#[test]
fn what_cannot_be_served_is_said_whole_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let check = |arguments: &[&str], variables: &[(&str, &str)], said: &[&str]| {
        let mut all = vec!["run", "--admin-port", "0"];
        all.extend(arguments);
        let (code, out, err) = finish(tollgate(&all, variables), "");
        assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}: {err}");
        for part in said {
            assert!(err.contains(part), "{arguments:?}: {part}: {err}");
        }
    };
    let bad = configuration("first")
        .replace("schema:", "scheme:")
        .replace("endpoints:", "endpoint:");
    check(
        &[&at("bad.yaml", &bad)],
        &[],
        &["scheme", "endpoint", "nothing is served"],
    );
    check(&["/nowhere.yaml"], &[], &["/nowhere.yaml: error: cannot be read"]);
    check(&[&at("secret.yaml", SECRET)], &[], &["no Gateway"]);
    check(
        &[],
        &[("AZURE_OPENAI_API_KEY", "k")],
        &["AZURE_OPENAI_API_KEY is set, but AZURE_OPENAI_ENDPOINT is not"],
    );
    check(
        &[],
        &[
            ("OPENAI_API_KEY", "very-secret"),
            ("OPENAI_BASE_URL", "ftp://example.com/"),
        ],
        &["OPENAI_BASE_URL: invalid base URL: unsupported scheme \"ftp\""],
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    check(
        &["--port", &port],
        &[],
        &[&format!("cannot listen on 127.0.0.1:{port}")],
    );
    let listener = "    - { name: http, protocol: HTTP, port: 1975 }\n";
    let two = format!("{listener}    - {{ name: other, protocol: HTTP, port: 1976 }}\n");
    let two = at("two.yaml", &configuration("first").replace(listener, &two));
    check(
        &[&two, "--port", "0"],
        &[],
        &["--port cannot stand for the 2 ports"],
    );
    let broken = configuration("first").replace("kind: Backend, name: up", "kind: Backend, name: none");
    check(
        &[&at("broken.yaml", &broken), "--strict"],
        &[],
        &["nothing is served"],
    );
}

#[tokio::test]
async fn what_is_sound_is_served_beside_what_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.yaml");
    let broken = route("broken", "second").replace("[{ name: up }]", "[{ name: none }]");
    fs::write(&file, configuration("first") + &broken).unwrap();
    let gateway = Gateway::start(&[file.to_str().unwrap()], &[]);
    let said = gateway.heard.join("\n");
    assert!(said.contains("AIGatewayRoute default/broken"), "{said}");
    assert!(models(&gateway).await.contains(&"first".to_owned()));
}

#[test]
fn a_wrong_call_ends_with_2() {
    for arguments in [
        &["run", "--nonsense"] as &[&str],
        &["walk"],
        &[],
        &["run", "--port", "70000"],
        &["run", "--drain", "soon"],
        &["run", "--log-level", "=,="],
        &["run", "--log-level", "loud"],
        &["check", "--output", "xml"],
    ] {
        let (code, out, err) = finish(tollgate(arguments, &[]), "");
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains("--help"), "{arguments:?}: {err}");
    }
}

#[test]
fn variables_set_what_flags_set() {
    let (code, _, err) = finish(tollgate(&["run"], &[("TOLLGATE_DRAIN", "soon")]), "");
    assert!(code == 2 && err.contains("not a time"), "{err}");
    let gateway = Gateway::start(
        &[],
        &[("TOLLGATE_ADDRESS", "127.0.0.2"), ("TOLLGATE_STRICT", "1")],
    );
    assert_eq!(gateway.address.ip().to_string(), "127.0.0.2");
}

/// Empty variables are those of compose files; the address is what a cluster puts there.
#[test]
fn variables_that_are_not_meant_for_us_are_passed_over() {
    let foreign = [
        ("TOLLGATE_PORT", "tcp://10.0.0.1:1975"),
        ("TOLLGATE_CONFIG", ""),
        ("TOLLGATE_DRAIN", ""),
    ];
    let (code, _, err) = finish(tollgate(&["run", "/nowhere.yaml"], &foreign), "");
    assert!(code == 1 && err.contains("/nowhere.yaml"), "{err}");
}

pub(crate) async fn models(gateway: &Gateway) -> Vec<String> {
    let list = client::get(gateway.address, "/v1/models", &[]).await.json();
    let ids = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap().to_owned());
    ids.collect()
}

/// Returns the age of the first model, of which the configuration says nothing.
async fn created(gateway: &Gateway) -> u64 {
    let list = client::get(gateway.address, "/v1/models", &[]).await.json();
    list["data"][0]["created"].as_u64().unwrap()
}

/// Replaces a file as editors do.
pub(crate) fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}

fn openai(model: &str, prompt: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}]})
}

fn messages(model: &str, prompt: &str) -> Value {
    json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]})
}

/// Returns the JSON of each frame that has any.
fn events(frames: &[String]) -> Vec<Value> {
    let data = frames.iter().filter_map(|frame| {
        let line = frame.lines().find_map(|line| line.strip_prefix("data: "))?;
        serde_json::from_str(line).ok()
    });
    data.collect()
}

fn texts(events: &[Value], pointer: &str) -> Vec<String> {
    let texts = events.iter().filter_map(|event| event.pointer(pointer)?.as_str());
    texts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

pub(crate) fn configuration(model: &str) -> String {
    "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: tollgate }
spec: { controllerName: gateway.envoyproxy.io/gatewayclass-controller }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: tollgate, namespace: default }
spec:
  gatewayClassName: tollgate
  listeners:
    - { name: http, protocol: HTTP, port: 1975 }
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: { name: up, namespace: default }
spec:
  schema: { name: OpenAI }
  backendRef: { group: gateway.envoyproxy.io, kind: Backend, name: up }
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: { name: up, namespace: default }
spec:
  endpoints:
    - ip: { address: 127.0.0.1, port: 11434 }
"
    .to_owned()
        + &route("first", model)
}

pub(crate) fn route(name: &str, model: &str) -> String {
    format!(
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{ name: {name}, namespace: default }}
spec:
  parentRefs:
    - {{ name: tollgate, kind: Gateway, group: gateway.networking.k8s.io }}
  rules:
    - matches:
        - headers: [{{ type: Exact, name: x-ai-eg-model, value: {model} }}]
      backendRefs: [{{ name: up }}]
"
    )
}

const OPENAI: &str = "/v1/chat/completions";

const MESSAGES: &str = "/anthropic/v1/messages";

const VERSION: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\nstringData: {apiKey: k}\n";
