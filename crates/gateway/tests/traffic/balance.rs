//! Which endpoint is asked.

use serde_json::json;
use testkit::client;

use crate::setup::{PATH, Setup, asked, at, good, over};

#[tokio::test]
async fn endpoints_take_turns() {
    let (one, two, three) = (good().await, good().await, good().await);
    let setup = Setup::start(
        "loadBalancer: { type: RoundRobin }",
        &[over(&[&one, &two, &three])],
    )
    .await;
    for _ in 0..9 {
        assert_eq!(setup.ask().await.status, 200);
    }
    assert_eq!(asked([&one, &two, &three]), [3, 3, 3]);
}

#[tokio::test]
async fn weights_are_shares_of_backends_not_of_endpoints() {
    let (one, two, three) = (good().await, good().await, good().await);
    let backends = [at(&one).weighing(3), over(&[&two, &three])];
    let setup = Setup::start("loadBalancer: { type: RoundRobin }", &backends).await;
    for _ in 0..80 {
        assert_eq!(setup.ask().await.status, 200);
    }
    let [one, two, three] = asked([&one, &two, &three]);
    assert!((58..=62).contains(&one), "{one}, {two}, {three}");
    assert!(two.abs_diff(three) <= 3, "{one}, {two}, {three}");
}

/// Checks that requests with one property go to one endpoint, and those with many to all.
async fn check(annotations: &str, policy: &str, headers: fn(usize) -> Vec<(&'static str, String)>) {
    let (one, two) = (good().await, good().await);
    let setup = Setup::annotated(annotations, policy, &[over(&[&one, &two])]).await;
    let ask = |which: usize| {
        let setup = &setup;
        async move {
            let headers = headers(which);
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            assert_eq!(setup.ask_with(&headers).await.status, 200);
        }
    };
    for _ in 0..6 {
        ask(7).await;
    }
    let [first, second] = asked([&one, &two]);
    assert!(first == 0 || second == 0, "{policy}: {first}, {second}");
    for which in 0..32 {
        ask(which).await;
    }
    let [first, second] = asked([&one, &two]);
    assert!(first > 3 && second > 3, "{policy}: {first}, {second}");
}

#[tokio::test]
async fn a_property_of_the_request_chooses() {
    check(
        "",
        "loadBalancer: { type: ConsistentHash, consistentHash: { type: Header, header: { name: x-user } } }",
        |which| vec![("x-user", format!("user-{which}"))],
    )
    .await;
    check(
        "",
        "loadBalancer: { type: ConsistentHash, consistentHash: { type: Cookie, cookie: { name: lane } } }",
        |which| vec![("cookie", format!("a=b; lane=user-{which}"))],
    )
    .await;
}

#[tokio::test]
async fn a_client_without_a_cookie_is_given_one() {
    let (one, two) = (good().await, good().await);
    let setup = Setup::start(
        "loadBalancer: { type: ConsistentHash, consistentHash: { type: Cookie, cookie: { name: lane, ttl: 60s } } }",
        &[over(&[&one, &two])],
    )
    .await;
    let answer = setup.ask().await;
    let given = answer
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    assert!(given.starts_with("lane="), "{given}");
    for _ in 0..5 {
        let answer = setup.ask_with(&[("cookie", &given)]).await;
        assert_eq!(answer.header("set-cookie"), "");
    }
    let [first, second] = asked([&one, &two]);
    assert!(first == 0 || second == 0, "{first}, {second}");
}

/// A conversation stays where its cache is warm, however long it grows.
#[tokio::test]
async fn a_conversation_stays() {
    let (one, two) = (good().await, good().await);
    let setup = Setup::annotated(
        "tollgate.dev/balance: prefix",
        "timeout: {}",
        &[over(&[&one, &two])],
    )
    .await;
    let mut seen = [0, 0];
    for topic in 0..16 {
        let before = asked([&one, &two]);
        let mut turns = vec![
            json!({"role": "system", "content": "be brief"}),
            json!({"role": "user", "content": format!("of topic {topic}")}),
        ];
        for _ in 0..3 {
            let body = json!({"model": "m", "messages": turns});
            assert_eq!(client::post(setup.address, PATH, &[], &body).await.status, 200);
            turns.push(json!({"role": "assistant", "content": "yes"}));
            turns.push(json!({"role": "user", "content": "and then?"}));
        }
        let after = asked([&one, &two]);
        let moved = [after[0] - before[0], after[1] - before[1]];
        assert!(moved == [3, 0] || moved == [0, 3], "topic {topic}: {moved:?}");
        seen = [seen[0] + moved[0], seen[1] + moved[1]];
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}
