//! Access records in the forms that resources declare, written to files.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use config::{
    kind::envoy_proxy::Setting,
    snapshot::{DeclaredLog, Timeouts},
};
use gateway::{Gateway, Options, Telemetry};
use policy::{
    access_log::AccessLog,
    cost::Costs,
    quota::{Owner, Quota, Together},
    rate_limit::Switches,
};
use serde_json::{Value, json};
use testkit::{Reply, Upstream, client, fixture};

use crate::fixture::{CHAT, MODEL, To, openai, options, snapshot_with};

/// Returns the lines that a request leaves in a log with `setting`, whose file is put in.
async fn lines(name: &str, mut setting: Value, model: &str, headers: &[(&str, &str)]) -> Vec<String> {
    let folder: PathBuf = std::env::temp_dir().join(format!("tollgate-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("log");
    setting["sinks"] = json!([]);
    let setting: Setting = serde_json::from_value(setting).expect("a setting");
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let costs = json!([{ "metadataKey": "in_all", "type": "CEL", "cel": "total_tokens * 2u" }]);
    let costs: Vec<_> = serde_json::from_value(costs).expect("costs");
    let (costs, faults) = Costs::parse(&costs, &[]);
    assert_eq!(faults, []);
    let to = To {
        model: Some("up".to_owned()),
        ..openai(&upstream).priced("USD; input=2, output=10")
    };
    let mut snapshot = snapshot_with(Timeouts::default(), [to], |rule| {
        rule.costs = Some(Arc::new(costs.clone()));
        let candidates = Arc::make_mut(&mut rule.candidates).iter_mut();
        for backend in candidates.flat_map(|candidate| &mut candidate.backend) {
            Arc::make_mut(backend).quota = Some(Arc::new(quota(&backend.id.clone())));
        }
    });
    let files = vec![path.display().to_string()];
    let log = AccessLog::parse(setting.format.as_ref(), &setting.matches, files).expect("a sound setting");
    let log = DeclaredLog {
        log,
        receivers: Vec::new(),
    };
    for listener in snapshot.listeners.values_mut() {
        listener.access_logs = Some(vec![log.clone()]);
    }
    let options = Options {
        telemetry: Telemetry::from_environment(&|_| None).expect("the defaults"),
        ..options()
    };
    let gateway = Gateway::start(options).await.expect("the admin port is free");
    gateway.install(snapshot).await.expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    let request = fixture::openai::request(model, false);
    client::post(address, CHAT, headers, &request).await;
    // The end waits for the records.
    gateway.drain().await;
    let written = fs::read_to_string(&path).unwrap_or_default();
    fs::remove_dir_all(&folder).expect("it is ours");
    written.lines().map(str::to_owned).collect()
}

/// Returns a quota of the model `up` in which an answer counts by half.
fn quota(backend: &str) -> Quota {
    let mut quota = Quota::default();
    let owner = Owner {
        backend,
        policy: "default/quota",
        switches: &Switches::default(),
        together: Together::Any,
    };
    let limit =
        json!({"costExpression": "total_tokens / 2u", "defaultBucket": {"limit": 1000, "duration": "1y"}});
    let written = json!({"modelName": "up", "quota": limit});
    let written = serde_json::from_value(written).expect("a quota");
    quota.limit(owner, &written).expect("well-formed");
    quota
}

#[tokio::test]
async fn json_records_keep_types_and_say_null() {
    let setting = json!({"format": {"type": "JSON", "json": {
        "model": "%REQ(X-AI-EG-MODEL)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "status": "%RESPONSE_CODE%",
        "both": "%PROTOCOL% %RESPONSE_FLAGS%",
        "agent": "%REQ(USER-AGENT)%",
        "kind": "%RESP(CONTENT-TYPE)%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "absent": "%REQ(X-ABSENT)%",
        "id": "%REQ(X-REQUEST-ID)%",
        "session": "%DYNAMIC_METADATA(io.envoy.ai_gateway:session.id)%",
        "answered": "%DYNAMIC_METADATA(io.envoy.ai_gateway:response_model)%",
        "total": "%DYNAMIC_METADATA(io.envoy.ai_gateway:llm_total_token)%",
        "route": "%ROUTE_NAME%",
        "cost": "%DYNAMIC_METADATA(io.envoy.ai_gateway:in_all)%",
        "money": "%DYNAMIC_METADATA(io.envoy.ai_gateway:usage_cost)%",
        "quota": "%DYNAMIC_METADATA(io.envoy.ai_gateway:quota_cost)%",
        "sent": "%DYNAMIC_METADATA(io.envoy.ai_gateway:content_length)%",
        "override": "%DYNAMIC_METADATA(io.envoy.ai_gateway:model_name_override)%",
        "currency": "%DYNAMIC_METADATA(io.envoy.ai_gateway:usage_cost_currency)%",
    }}});
    let headers = [("user-agent", "sdk"), ("agent-session-id", "s-1")];
    let lines = lines("json", setting, MODEL, &headers).await;
    let [line] = lines.as_slice() else {
        panic!("one line: {lines:?}");
    };
    let mut record: Value = serde_json::from_str(line).expect("JSON");
    assert!(record["total"].as_u64() > Some(0), "{record}");
    record["total"] = Value::Null;
    let mut sent = fixture::openai::request(MODEL, false);
    sent["model"] = json!("up");
    assert_eq!(record["sent"].take(), json!(sent.to_string().len()));
    // The client has sent none.
    let id = record["id"].take();
    assert!(id.as_str().is_some_and(|id| id.len() >= 16), "{id}");
    let expected = json!({
        "model": "m", "path": CHAT, "status": 200, "both": "HTTP/1.1 -", "agent": "sdk",
        "kind": "application/json", "details": "via_upstream", "cluster": "default/backend-0",
        "client": "127.0.0.1", "absent": null, "id": null, "session": "s-1", "answered": "gpt", "total": null,
        "route": "default/route", "cost": 36, "money": 0.000_092, "currency": "USD",
        "quota": 9, "sent": null, "override": "up",
    });
    assert_eq!(record, expected);
}

#[tokio::test]
async fn text_records_are_lines() {
    let setting = json!({"format": {"type": "Text", "text": "[%START_TIME(%Y)%] %REQ(:METHOD)% %RESPONSE_CODE% %REQ(X-ABSENT)%\n"}});
    let lines = lines("text", setting, "unknown", &[]).await;
    let [line] = lines.as_slice() else {
        panic!("one line: {lines:?}");
    };
    assert!(
        line.starts_with("[20") && line.ends_with("] POST 404 -"),
        "{line}"
    );
}

#[tokio::test]
async fn conditions_choose_requests() {
    let of_models = json!({"matches": ["request.headers['x-ai-eg-model'] != ''"]});
    assert_eq!(lines("of-models", of_models.clone(), MODEL, &[]).await.len(), 1);
    // Nobody serves it, and the client has named it all the same.
    assert_eq!(lines("of-none", of_models.clone(), "unknown", &[]).await.len(), 1);
    assert_eq!(lines("of-nothing", of_models, "", &[]).await.len(), 0);
    let of_errors = json!({"matches": ["response.code >= 400", "request.headers['x-team'] == 'red'"]});
    let red = [("x-team", "red")];
    assert_eq!(
        lines("of-errors", of_errors.clone(), "unknown", &red).await.len(),
        1
    );
    assert_eq!(lines("of-answers", of_errors, MODEL, &red).await.len(), 0);
}

#[tokio::test]
async fn headers_become_labels_and_members() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let variable = |name: &str| {
        (name == "OTEL_AIGW_METRICS_REQUEST_HEADER_ATTRIBUTES").then(|| "x-team:team.id".to_owned())
    };
    let options = Options {
        telemetry: Telemetry::from_environment(&variable).expect("a list"),
        ..options()
    };
    let served = crate::fixture::serve_with(options, Timeouts::default(), [openai(&upstream)]).await;
    let request = fixture::openai::request(MODEL, false);
    client::post(served.address, CHAT, &[("x-team", "red")], &request).await;
    client::post(served.address, CHAT, &[], &request).await;
    let name = "gen_ai_server_request_duration_seconds_count";
    served.metric_reaches(name, &[], 2.0).await;
    tokio::time::timeout(
        Duration::from_secs(10),
        served.metric_reaches(name, &["team_id=\"red\""], 1.0),
    )
    .await
    .expect("it is counted");
}
