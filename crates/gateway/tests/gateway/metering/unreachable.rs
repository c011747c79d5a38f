//! Counters that cannot be asked: nobody waits for long, and each rule says what becomes of requests.

use std::time::{Duration, Instant};

use config::Secret;
use gateway::{Gateway, Options, RedisOptions};
use policy::rate_limit::{Switches, switch};
use serde_json::json;
use testkit::{Redis, Reply, Upstream, fixture};
use tokio::net::TcpListener;

use super::{Declared, ask, of_user};
use crate::fixture::{CHAT, MODEL, Served, openai, options};

/// What a request may take in a debug build, of which a quarter of a second is the gateway's patience.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves one upstream under a limit whose counters are at `address`.
pub(super) async fn serve(upstream: &Upstream, address: String, failure: &str) -> Served {
    let declared = Declared {
        switches: Switches {
            failure: switch::Switch::parse(failure, switch::failure).expect("a word"),
            ..Switches::default()
        },
        ..Declared::limit(of_user(1000))
    };
    serve_declared(declared, upstream, address).await
}

/// Serves one upstream under limits whose counters are at `address`, as far as all gateways share them.
pub(super) async fn serve_declared(declared: Declared, upstream: &Upstream, address: String) -> Served {
    let redis = RedisOptions {
        address: Secret::new(address),
        authorities: None,
        certificate: None,
    };
    let options = Options {
        redis: Some(redis),
        ..options()
    };
    let gateway = Gateway::start(options).await.expect("the admin port is free");
    let snapshot = declared.snapshot([openai(upstream)]);
    gateway.install(snapshot).await.expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    Served { gateway, address }
}

/// Waits until the counters can be asked.
pub(super) async fn answers(served: &Served) {
    let reached = async {
        while served.admin("/usage").await.json()["redis"] != json!({ "answers": true }) {
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    reached.expect("redis answers");
}

#[tokio::test]
async fn a_rule_lets_through_or_refuses() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    // One that takes connections and never answers, and one that takes none.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address")
    };
    for address in [silent.local_addr().expect("an address"), gone] {
        let address = format!("redis://{address}/0");
        let open = serve(&upstream, address.clone(), "open").await;
        let begun = Instant::now();
        for asked in 1..=3 {
            let answer = ask(&open, "alice", false).await;
            assert_eq!(answer.status, 200, "{address}: {}", answer.text());
            let labels = ["default/policy/rule/0", "reason=\"open\""];
            open.metric_reaches("tollgate_limited_total", &labels, f64::from(asked))
                .await;
        }
        assert!(begun.elapsed() < PATIENCE, "{address}");
        assert_eq!(
            open.admin("/usage").await.json()["redis"],
            json!({ "answers": false })
        );
        let closed = serve(&upstream, address, "closed").await;
        for stream in [false, true] {
            let body = fixture::openai::request(MODEL, stream);
            let headers = [("x-user-id", "alice")];
            let answer = testkit::client::post(closed.address, CHAT, &headers, &body).await;
            assert_eq!(answer.status, 500, "{}", answer.text());
            let message = &answer.json()["error"]["message"];
            assert_eq!(message, "the limits of this route cannot be checked now");
        }
        let labels = ["default/policy/rule/0", "reason=\"unknown\""];
        closed
            .metric_reaches("tollgate_limited_total", &labels, 2.0)
            .await;
    }
}

/// Servers, and whoever is between, close connections on which nothing is said: no request is the first to find out.
#[tokio::test]
async fn a_connection_that_was_closed_is_made_again_before_it_is_needed() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let redis = Redis::start().await;
    let served = serve(&upstream, redis.address(), "closed").await;
    redis.connected(1).await;
    answers(&served).await;
    redis.hang_up();
    redis.connected(2).await;
    answers(&served).await;
    let answer = ask(&served, "alice", false).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
