//! Signed tokens, with keys from a real server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use testkit::{Gate, Reply, Script, Upstream, signer::Signer};

use super::{GATEWAY, Setup, policy, serve, snapshot};

const ISSUER: &str = "https://idp.example";

fn bearer(signer: &Signer, claims: Value) -> String {
    let mut all = json!({"iss": ISSUER, "aud": "gateway", "sub": "u1", "exp": 4_000_000_000_u64});
    for (name, value) in claims.as_object().expect("an object") {
        all[name] = value.clone();
    }
    format!("Bearer {}", signer.token(&all))
}

/// A policy with one provider, whose keys are at `keys`.
fn by_token(target: &str, keys: &str, rest: &str) -> String {
    let jwt = format!(
        "
jwt:
  providers:
    - name: idp
      issuer: {ISSUER}
      audiences: [gateway]
      claimToHeaders: [{{header: x-user, claim: sub}}, {{header: x-team, claim: org.team}}]
      {keys}
{rest}"
    );
    policy("tokens", target, &jwt)
}

fn remote(issuer: &Upstream) -> String {
    format!("remoteJWKS: {{uri: 'http://{}/keys'}}", issuer.address())
}

async fn check(setup: &Setup, token: &str, status: u16) {
    setup.check("m", &[("authorization", token)], status).await;
}

#[tokio::test]
async fn tokens_are_held_against_keys_that_are_fetched() {
    let signer = Signer::new("k1");
    let issuer = Upstream::start(Reply::json(200, &Signer::keys(&[&signer]))).await;
    let setup = serve(&["m"], &by_token(GATEWAY, &remote(&issuer), "")).await;
    let token = bearer(&signer, json!({"org": {"team": "a"}}));
    check(&setup, &token, 200).await;
    check(&setup, &bearer(&Signer::new("k1"), json!({})), 401).await;
    check(&setup, &bearer(&signer, json!({"aud": "else"})), 401).await;
    check(&setup, &bearer(&signer, json!({"exp": 1_000_000_000})), 401).await;
    let forged = [("authorization", token.as_str()), ("x-user", "root")];
    setup.check("m", &forged, 200).await;
    for request in setup.upstream.requests() {
        assert_eq!(request.header("x-user"), "u1");
        assert_eq!(request.header("x-team"), "a");
        assert_eq!(request.header("authorization"), "");
    }
    // One fetch for all of them.
    assert_eq!(issuer.requests().len(), 1);
    let fetch = &issuer.requests()[0];
    assert_eq!((fetch.method.as_str(), fetch.target.as_str()), ("GET", "/keys"));
    assert_eq!(fetch.header("host"), issuer.address().to_string());

    let missing = setup.ask("m", &[]).await;
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"tollgate\"");
    let wrong = setup.ask("m", &[("authorization", "Bearer a.b.c")]).await;
    let challenge = wrong.header("www-authenticate");
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    assert_eq!(wrong.json()["error"]["code"], "invalid_token");
}

/// The keys of an issuer may lie behind a Service of one's own.
#[tokio::test]
async fn keys_are_fetched_from_a_service() {
    let signer = Signer::new("k1");
    let issuer = Upstream::start(Reply::json(200, &Signer::keys(&[&signer]))).await;
    let (ip, port) = (issuer.address().ip(), issuer.address().port());
    let service = format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: idp}}
spec: {{clusterIP: {ip}, ports: [{{port: {port}}}]}}
"
    );
    let references = format!("backendRefs: [{{name: idp, port: {port}}}]");
    let keys = format!("remoteJWKS: {{uri: 'http://idp.example/keys', {references}}}");
    let setup = serve(&["m"], &(service + &by_token(GATEWAY, &keys, ""))).await;
    check(&setup, &bearer(&signer, json!({})), 200).await;
    check(&setup, &bearer(&Signer::new("k1"), json!({})), 401).await;
    let asked = &issuer.requests()[0];
    assert_eq!(
        (asked.target.as_str(), asked.header("host")),
        ("/keys", "idp.example")
    );
}

#[tokio::test]
async fn keys_may_be_declared() {
    let signer = Signer::new("k1");
    let keys = format!("localJWKS: {{inline: '{}'}}", Signer::keys(&[&signer]));
    let rules = "
authorization:
  rules:
    - action: Allow
      principal: {jwt: {provider: idp, scopes: [chat], claims: [{name: org.team, values: [a, b]}]}}
";
    let setup = serve(&["m"], &by_token(GATEWAY, &keys, rules)).await;
    let team = |scope: &str, team: &str| bearer(&signer, json!({"scope": scope, "org": {"team": team}}));
    check(&setup, &team("read chat", "a"), 200).await;
    check(&setup, &team("read", "a"), 403).await;
    check(&setup, &team("chat", "c"), 403).await;
    setup.check("m", &[], 401).await;
}

/// An issuer that changes its key is asked again once a token shows it, and not for every wrong token.
#[tokio::test]
async fn keys_change() {
    let (old, new) = (Signer::new("k1"), Signer::new("k2"));
    let asked = Arc::new(AtomicUsize::new(0));
    let answers = [Signer::keys(&[&old]), Signer::keys(&[&new])];
    let count = Arc::clone(&asked);
    let script = Script::answer(move |_| {
        let keys = &answers[count.fetch_add(1, Ordering::Relaxed).min(1)];
        Reply::json(200, keys)
    });
    let issuer = Upstream::start(script).await;
    let setup = serve(&["m"], &by_token(GATEWAY, &remote(&issuer), "")).await;
    check(&setup, &bearer(&old, json!({})), 200).await;
    check(&setup, &bearer(&new, json!({})), 200).await;
    check(&setup, &bearer(&old, json!({})), 401).await;
    for guess in ["k3", "k4", "k5"] {
        check(&setup, &bearer(&Signer::new(guess), json!({})), 401).await;
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// The first requests wait for the first keys.
#[tokio::test]
async fn the_first_keys_are_waited_for() {
    let signer = Signer::new("k1");
    let gate = Gate::new();
    let body = Signer::keys(&[&signer]).to_string();
    let reply = Reply::new()
        .wait(&gate)
        .head(200, &[("content-length", &body.len().to_string())])
        .raw(body);
    let issuer = Upstream::start(reply).await;
    let setup = serve(&["m"], &by_token(GATEWAY, &remote(&issuer), "")).await;
    let token = bearer(&signer, json!({}));
    let open = async {
        issuer.received(1).await;
        gate.open();
    };
    tokio::join!(check(&setup, &token, 200), open);
}

/// Without keys nobody can tell: that is said, and other routes are not hurt.
#[tokio::test]
async fn without_keys_nobody_gets_in() {
    let signer = Signer::new("k1");
    let refusing = Upstream::refusing();
    let broken = Upstream::start(Reply::json(200, &json!({"keys": []}))).await;
    let failing = Upstream::start(Reply::json(500, &json!({}))).await;
    for address in [refusing.address, broken.address(), failing.address()] {
        let keys = format!("remoteJWKS: {{uri: 'http://{address}/keys'}}");
        let policies = by_token("kind: HTTPRoute, name: m", &keys, "");
        let setup = serve(&["m", "free"], &policies).await;
        let token = bearer(&signer, json!({}));
        let answer = setup.ask("m", &[("authorization", &token)]).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), "1");
        assert!(answer.text().contains("the keys of idp are not available"));
        check(&setup, "", 401).await;
        setup.check("free", &[], 200).await;
    }
}

/// Keys that were fetched outlive a reload, and are dropped with the last policy that names them.
#[tokio::test]
async fn keys_outlive_a_reload() {
    let signer = Signer::new("k1");
    let issuer = Upstream::start(Reply::json(200, &Signer::keys(&[&signer]))).await;
    let policies = by_token(GATEWAY, &remote(&issuer), "");
    let setup = serve(&["m"], &policies).await;
    let token = bearer(&signer, json!({}));
    check(&setup, &token, 200).await;
    for (policies, asked) in [(policies.as_str(), 1), ("", 1), (&policies, 2)] {
        let snapshot = snapshot(&setup.upstream, &["m"], policies);
        setup
            .served
            .gateway
            .install(snapshot)
            .await
            .expect("nothing to bind");
        check(&setup, &token, 200).await;
        assert_eq!(issuer.requests().len(), asked);
    }
}

/// What a token says may choose the route, with policies of its own.
#[tokio::test]
async fn claims_choose_the_route() {
    let signer = Signer::new("k1");
    let keys = format!(
        "localJWKS: {{inline: '{}'}}\n      recomputeRoute: true",
        Signer::keys(&[&signer])
    );
    let team = "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: team}
spec:
  parentRefs: [{name: gateway}]
  rules:
    - matches: [{headers: [{name: x-ai-eg-model, value: m}, {name: x-team, value: closed}]}]
      backendRefs: [{name: backend}]
";
    let policies = [
        team.to_owned(),
        by_token("kind: HTTPRoute, name: m", &keys, ""),
        policy(
            "closed",
            "kind: HTTPRoute, name: team",
            "authorization: {defaultAction: Deny}",
        ),
    ];
    let setup = serve(&["m"], &policies.concat()).await;
    check(&setup, &bearer(&signer, json!({"org": {"team": "open"}})), 200).await;
    check(&setup, &bearer(&signer, json!({"org": {"team": "closed"}})), 403).await;
}
