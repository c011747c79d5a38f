//! Which policy guards which request.

use serde_json::Value;
use testkit::client;

use super::{BY_KEY, GATEWAY, KEYS, Setup, policy, serve, snapshot};
use crate::fixture::MODEL;

const ONE: (&str, &str) = ("authorization", "Bearer sk-client-one");

/// What lets in whoever sends this header.
fn by_header(name: &str) -> String {
    format!(
        "authorization: {{rules: [{{action: Allow, principal: {{headers: [{{name: {name}, values: [yes]}}]}}}}]}}"
    )
}

/// The narrowest policy counts, and replaces the others.
#[tokio::test]
async fn narrower_policies_replace_wider_ones() {
    let policies = [
        KEYS.to_owned(),
        policy("a-gateway", GATEWAY, BY_KEY),
        policy(
            "b-listener",
            &format!("{GATEWAY}, sectionName: http"),
            &by_header("x-listener"),
        ),
        policy("c-route", "kind: HTTPRoute, name: route", &by_header("x-route")),
        policy(
            "d-rule",
            "kind: HTTPRoute, name: rule, sectionName: only",
            &by_header("x-rule"),
        ),
        policy("e-rule", "kind: HTTPRoute, name: rule", &by_header("x-route")),
    ];
    let setup = serve(&["plain", "route", "rule"], &policies.concat()).await;
    for (model, header) in [("plain", "x-listener"), ("route", "x-route"), ("rule", "x-rule")] {
        for sent in ["x-listener", "x-route", "x-rule"] {
            let status = if sent == header { 200 } else { 403 };
            setup.check(model, &[(sent, "yes"), ONE], status).await;
        }
    }
}

/// A policy may be laid over the next wider one, and none beyond that.
#[tokio::test]
async fn narrower_policies_are_laid_over_wider_ones() {
    let merged = |rest: &str| format!("mergeType: StrategicMerge\n{rest}");
    let policies = [
        KEYS.to_owned(),
        policy("gateway", GATEWAY, &format!("{BY_KEY}{}", by_header("x-gateway"))),
        policy(
            "rules",
            "kind: HTTPRoute, name: rules",
            &merged(&by_header("x-rules")),
        ),
        policy(
            "default",
            "kind: HTTPRoute, name: default",
            &merged("authorization: {defaultAction: Allow}"),
        ),
        policy(
            "nothing",
            "kind: HTTPRoute, name: nothing",
            &merged("cors: {allowOrigins: ['*']}"),
        ),
        policy(
            "broken",
            "kind: HTTPRoute, name: broken",
            &merged("apiKeyAuth: {credentialRefs: [{name: absent}], extractFrom: [{headers: [a]}]}"),
        ),
        policy(
            "replaced",
            "kind: HTTPRoute, name: replaced",
            "mergeType: Replace\ncors: {}",
        ),
    ];
    let routes = ["rules", "default", "nothing", "broken", "replaced"];
    let setup = serve(&routes, &policies.concat()).await;
    for (model, headers, status) in [
        ("rules", &[("x-rules", "yes")][..], 401),
        ("rules", &[ONE, ("x-gateway", "yes")], 403),
        ("rules", &[ONE, ("x-rules", "yes")], 200),
        ("default", &[("x-gateway", "yes")], 401),
        ("default", &[ONE], 200),
        ("nothing", &[("x-gateway", "yes")], 401),
        ("nothing", &[ONE], 403),
        ("nothing", &[ONE, ("x-gateway", "yes")], 200),
        ("broken", &[ONE, ("x-gateway", "yes")], 500),
        ("replaced", &[], 200),
    ] {
        setup.check(model, headers, status).await;
    }
}

#[tokio::test]
async fn the_first_of_two_counts() {
    let policies = [
        policy("b", GATEWAY, &by_header("x-b")),
        policy("a", GATEWAY, &by_header("x-a")),
    ];
    let setup = serve(&["m"], &policies.concat()).await;
    setup.check("m", &[("x-a", "yes")], 200).await;
    setup.check("m", &[("x-b", "yes")], 403).await;
}

#[tokio::test]
async fn labels_select_routes() {
    let policy = "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: selected}
spec:
  targetSelectors: [{kind: HTTPRoute, matchLabels: {route: closed}}]
  authorization: {defaultAction: Deny}
";
    let setup = serve(&["open", "closed"], policy).await;
    setup.check("open", &[], 200).await;
    setup.check("closed", &[], 403).await;
}

/// A policy that cannot be honoured refuses everybody, and hurts nobody else.
#[tokio::test]
async fn broken_policies_let_nobody_in() {
    let broken = [
        policy("no-secret", "kind: HTTPRoute, name: one", BY_KEY),
        policy(
            "malformed",
            "kind: HTTPRoute, name: two",
            "authorization: {defaultAction: Allow, rules: [{action: Deny, principal: {clientCIDRs: [nowhere]}}]}",
        ),
        policy("unserved", "kind: HTTPRoute, name: three", "oidc: {clientID: a}"),
    ];
    let setup = serve(&["one", "two", "three", "free"], &broken.concat()).await;
    for route in ["one", "two", "three"] {
        let answer = setup.ask(route, &[ONE]).await;
        assert_eq!(answer.status, 500, "{route}: {}", answer.text());
        assert!(answer.text().contains("cannot be applied"), "{}", answer.text());
    }
    setup.check("free", &[], 200).await;
}

async fn listed(setup: &Setup, headers: &[(&str, &str)]) -> Result<Vec<String>, u16> {
    let answer = client::get(setup.served.address, "/v1/models", headers).await;
    if answer.status != 200 {
        return Err(answer.status);
    }
    let list = answer.json();
    let models = list["data"].as_array().cloned().unwrap_or_default();
    let ids = models.iter().map(|model| &model["id"]).filter_map(Value::as_str);
    Ok(ids.map(str::to_owned).collect())
}

/// What is listed is what can be asked for.
#[tokio::test]
async fn lists_show_what_the_caller_may_ask_for() {
    let policies = [
        policy("a", "kind: HTTPRoute, name: a", &by_header("x-a")),
        policy("b", "kind: HTTPRoute, name: b", &by_header("x-b")),
    ];
    let policies = policies.concat();
    let setup = serve(&["a", "b", "free"], &policies).await;
    let list = |headers: &'static [(&str, &str)]| listed(&setup, headers);
    assert_eq!(list(&[]).await, Ok(vec!["free".to_owned()]));
    let a = list(&[("x-a", "yes")]).await;
    assert_eq!(a, Ok(vec!["a".to_owned(), "free".to_owned()]));
    let all = list(&[("x-a", "yes"), ("x-b", "yes")]).await;
    assert_eq!(all.map(|models| models.len()), Ok(3));
    // Names behind policies are not suggested to those who may not pass them.
    let answer = setup.ask("bb", &[]).await;
    assert_eq!(answer.status, 404);
    assert!(!answer.text().contains("did you mean"), "{}", answer.text());

    let setup = serve(&["a", "b"], &policies).await;
    assert_eq!(listed(&setup, &[]).await, Err(403));
    assert_eq!(listed(&setup, &[("x-b", "yes")]).await, Ok(vec!["b".to_owned()]));
}

/// What a reload changes counts from the next request on, on the same connection.
#[tokio::test]
async fn policies_are_reloaded() {
    let setup = serve(&[MODEL], &policy("a", GATEWAY, &by_header("x-a"))).await;
    setup.check(MODEL, &[], 403).await;
    let open = snapshot(&setup.upstream, &[MODEL], "");
    setup.served.gateway.install(open).await.expect("nothing to bind");
    setup.check(MODEL, &[], 200).await;
}
