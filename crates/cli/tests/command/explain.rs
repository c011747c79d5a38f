//! `tollgate explain`: what a running gateway decided.

use testkit::client;

use crate::process::{Gateway, finish, tollgate};

#[tokio::test]
async fn a_request_is_explained() {
    let gateway = Gateway::start(&[], &[]);
    let request =
        serde_json::json!({"model": "sim-1", "messages": [{"role": "user", "content": "a secret"}]});
    let named = [("x-request-id", "of/a test")];
    // Spaces are not taken over from clients, so the first of these gets an id of the gateway's own.
    let named_well = [("x-request-id", "of/a-test")];
    for headers in [named, named_well] {
        let answer = client::post(gateway.address, "/v1/chat/completions", &headers, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let admin = gateway.admin.to_string();
    let explain = |arguments: &[&str]| {
        let all = [&["explain", "--admin", &admin], arguments].concat();
        finish(tollgate(&all, &[]), "")
    };
    let (code, said, complaint) = explain(&["of/a-test"]);
    assert_eq!((code, complaint.as_str()), (0, ""));
    for part in [
        "of/a-test",
        "POST /v1/chat/completions at localhost",
        "answered with 200",
        "rule 0",
        "attempt 1",
        "answered",
        "tokens in",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("secret"), "{said}");
    let (code, said, _) = explain(&[]);
    assert_eq!((code, said.lines().count()), (0, 2), "{said}");
    let (code, said, _) = explain(&["of/a-test", "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, told["attempts"][0]["outcome"].as_str()),
        (0, Some("answered"))
    );
    // What clients choose may have quotes, and moves no cursor.
    let unknown = serde_json::json!({"model": "a\u{1b}b", "messages": []});
    let named = [("x-request-id", "unknown")];
    let answer = client::post(gateway.address, "/v1/chat/completions", &named, &unknown).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    let (_, said, _) = explain(&["unknown"]);
    assert!(said.contains("the model \"a\\u{1b}b\" is not"), "{said}");
    let (code, said, complaint) = explain(&["another"]);
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(complaint.contains("no such request"), "{complaint}");
}
