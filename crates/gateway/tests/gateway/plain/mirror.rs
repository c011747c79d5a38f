//! Copies of requests for other backends.

use testkit::{Gate, Reply, Script, Upstream, client};

use super::{EVERYTHING, Setup};

/// A route that sends everything to the first backend, and copies to the second.
fn mirrored(share: &str) -> String {
    let filter = format!(
        "filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: v2, port: 8080}}, {share}}}}}], "
    );
    EVERYTHING.replace("backendRefs", &format!("{filter}backendRefs"))
}

#[tokio::test]
async fn a_copy_is_the_request_and_its_reply_is_nobodys() {
    let setup = Setup::new(&mirrored("")).await;
    let [first, second] = [&setup.upstreams[0], &setup.upstreams[1]];
    let body = serde_json::json!({ "x": "y".repeat(100_000) });
    let address = setup.served.address;
    let answer = client::post(address, "/a?b=c", &[("x-own", "1")], &body).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "v1"));
    second.received(1).await;
    let (asked, copied) = (first.requests(), second.requests());
    assert_eq!(asked[0].body, copied[0].body);
    assert_eq!(asked[0].target, copied[0].target);
    assert_eq!(copied[0].headers["x-own"], "1");
    assert_eq!(client::get(address, "/", &[]).await.text(), "v1");
    second.received(2).await;
}

#[tokio::test]
async fn nobody_waits_for_a_copy() {
    let gate = Gate::new();
    let silent = Reply::new().wait(&gate).close();
    let upstreams = vec![
        Upstream::start(Reply::whole(200, &[], "v1")).await,
        Upstream::start(Script::answer(move |_| silent.clone())).await,
    ];
    let setup = Setup::over(&mirrored(""), upstreams).await;
    for _ in 0..3 {
        assert_eq!(client::get(setup.served.address, "/", &[]).await.text(), "v1");
    }
    setup.upstreams[1].received(3).await;
    gate.open();
    let labels = ["backend=\"service/default/v2:8080\"", "outcome=\"mirror_failed\""];
    setup
        .served
        .metric_reaches("tollgate_attempts_total", &labels, 3.0)
        .await;
}

/// What cannot be kept is handed on all the same.
#[tokio::test]
async fn what_is_too_large_is_not_copied() {
    let setup = Setup::new(&mirrored("")).await;
    let body = serde_json::json!("x".repeat(3 << 20));
    let answer = client::post(setup.served.address, "/", &[], &body).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "v1"));
    let labels = ["outcome=\"mirror_dropped\""];
    setup
        .served
        .metric_reaches("tollgate_attempts_total", &labels, 1.0)
        .await;
    assert_eq!(setup.upstreams[1].requests().len(), 0);
}

#[tokio::test]
async fn a_share_is_copied() {
    for (share, expected) in [
        ("percent: 0", 0..=0),
        ("percent: 100", 200..=200),
        ("fraction: {numerator: 1, denominator: 2}", 60..=140),
        ("fraction: {numerator: 0, denominator: 1}", 0..=0),
    ] {
        let setup = Setup::new(&mirrored(share)).await;
        for _ in 0..200 {
            assert_eq!(client::get(setup.served.address, "/", &[]).await.text(), "v1");
        }
        setup.upstreams[1].received(*expected.start()).await;
        let copied = setup.upstreams[1].requests().len();
        assert!(expected.contains(&copied), "{share}: {copied}");
    }
}
