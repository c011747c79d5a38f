//! Keys and passwords.

use testkit::client;

use super::{BY_KEY, GATEWAY, KEYS, policy, serve};
use crate::fixture::{CHAT, MESSAGES};

#[tokio::test]
async fn clients_are_known_by_their_keys() {
    let setup = serve(&["m"], &format!("{KEYS}{}", policy("keys", GATEWAY, BY_KEY))).await;
    setup.check("m", &[], 401).await;
    setup
        .check("m", &[("authorization", "Bearer sk-client-three")], 401)
        .await;
    setup
        .check("m", &[("authorization", "Bearer sk-client-two")], 200)
        .await;
    // Nor can a client have what was verified of it kept to its own connection.
    let forged = [
        ("x-gateway-key", "sk-client-one"),
        ("x-client-id", "two"),
        ("connection", "keep-alive, x-client-id"),
    ];
    setup.check("m", &forged, 200).await;
    let requests = setup.upstream.requests();
    let clients: Vec<&str> = requests
        .iter()
        .map(|request| request.header("x-client-id"))
        .collect();
    assert_eq!(clients, ["two", "one"]);
    // No upstream learns by which key a client got in.
    for request in &requests {
        assert!(!format!("{:?}", request.headers).contains("sk-client"));
    }
}

#[tokio::test]
async fn refusals_are_said_in_the_dialect_of_the_path() {
    let setup = serve(&["m"], &format!("{KEYS}{}", policy("keys", GATEWAY, BY_KEY))).await;
    for path in [CHAT, MESSAGES] {
        let answer = setup.ask_at(path, "m", &[]).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"tollgate\"");
        assert_eq!(answer.header("cache-control"), "no-store");
        let error = &answer.json()["error"];
        assert_eq!(error["message"], "an API key is required");
        assert_eq!(error["type"], "authentication_error", "{error}");
    }
    setup
        .served
        .metric_reaches("tollgate_requests_total", &["operation=\"chat\""], 1.0)
        .await;
}

/// Where every route has the same policies nothing is done before they are asked: not even the body is looked
/// at, and names of models are not told to strangers.
#[tokio::test]
async fn strangers_learn_nothing() {
    let setup = serve(&["m"], &format!("{KEYS}{}", policy("keys", GATEWAY, BY_KEY))).await;
    let address = setup.served.address;
    for (path, status) in [("/v1/models", 401), ("/v1/model", 401), (CHAT, 401)] {
        let answer = client::get(address, path, &[]).await;
        assert_eq!(answer.status, status, "{path}");
    }
    let mut client = testkit::Client::connect(address).await;
    let request =
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n");
    client.send(request).await.expect("sent");
    assert_eq!(client.head().await.expect("an answer").status, 401);
    let answer = setup.ask("n", &[]).await;
    assert_eq!(answer.status, 401);
    assert!(!answer.text().contains("did you mean"));
}

#[tokio::test]
async fn clients_are_known_by_their_passwords() {
    let secret = "---
apiVersion: v1
kind: Secret
metadata: {name: users}
stringData: {.htpasswd: 'ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ='}
";
    let basic = "basicAuth: {users: {name: users}, forwardUsernameHeader: x-user}";
    let setup = serve(&["m"], &format!("{secret}{}", policy("users", GATEWAY, basic))).await;
    setup.check("m", &[], 401).await;
    // ann:secret, ann:guess
    setup
        .check("m", &[("authorization", "Basic YW5uOnNlY3JldA==")], 200)
        .await;
    setup
        .check("m", &[("authorization", "Basic YW5uOmd1ZXNz")], 401)
        .await;
    let request = &setup.upstream.requests()[0];
    assert_eq!(request.header("x-user"), "ann");
    assert_eq!(request.header("authorization"), "");
}

#[tokio::test]
async fn nothing_shows_a_credential() {
    let setup = serve(&["m"], &format!("{KEYS}{}", policy("keys", GATEWAY, BY_KEY))).await;
    let config = setup.served.admin("/config").await.text();
    assert!(config.contains("default/keys") && config.contains("\"one\""));
    assert!(!config.contains("sk-"), "{config}");
}
