//! Who is left out because of how requests or probes fare, and who asked to be left alone.

use testkit::{Reply, Script, Upstream, fixture};

use crate::setup::{Setup, asked, at, failure, good, greeting, over};

const STRICT: &str =
    "healthCheck: { passive: { consecutive5XxErrors: 2, maxEjectionPercent: 100, baseEjectionTime: 300s } }";

#[tokio::test]
async fn who_fails_in_a_row_is_left_out() {
    let (first, second) = (Upstream::start(failure(500)).await, good().await);
    let setup = Setup::start(STRICT, &[at(&first), at(&second).after(1)]).await;
    for _ in 0..6 {
        assert_eq!(setup.ask().await.status, 200);
    }
    assert_eq!(asked([&first, &second]), [2, 6]);
    setup.reload().await;
    assert_eq!(setup.ask().await.status, 200);
    assert_eq!(asked([&first, &second]), [2, 7], "a reload forgets nothing");
}

#[tokio::test]
async fn who_cannot_be_reached_is_left_out() {
    let (first, second) = (Upstream::start(Reply::new().reset()).await, good().await);
    let split = "healthCheck: { passive: { splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3, \
                 maxEjectionPercent: 100 } }";
    let setup = Setup::start(split, &[at(&first), at(&second).after(1)]).await;
    for _ in 0..6 {
        assert_eq!(setup.ask().await.status, 200);
    }
    assert_eq!(asked([&first, &second]), [3, 6]);
}

#[tokio::test]
async fn who_was_left_out_comes_back() {
    let first = Upstream::start(vec![failure(500), greeting()]).await;
    let second = good().await;
    let policy = "healthCheck: { passive: { consecutive5XxErrors: 1, maxEjectionPercent: 100, baseEjectionTime: 50ms } }";
    let setup = Setup::start(policy, &[at(&first), at(&second).after(1)]).await;
    let back = async {
        while asked([&first])[0] < 2 {
            assert_eq!(setup.ask().await.status, 200);
        }
    };
    let limit = std::time::Duration::from_secs(20);
    assert!(
        tokio::time::timeout(limit, back).await.is_ok(),
        "it stays left out"
    );
}

/// Of two endpoints one is left out: the priority keeps 1.4 times the healthy half of its requests.
#[tokio::test]
async fn a_priority_that_is_half_left_out_gives_a_part_away() {
    let (sick, well, spare) = (Upstream::start(failure(500)).await, good().await, good().await);
    let policy = "healthCheck: { passive: { consecutive5XxErrors: 1, maxEjectionPercent: 100, baseEjectionTime: 300s } }";
    let setup = Setup::start(policy, &[over(&[&sick, &well]), at(&spare).after(1)]).await;
    let left_out = async {
        while asked([&sick])[0] == 0 {
            assert_eq!(setup.ask().await.status, 200);
        }
    };
    let limit = std::time::Duration::from_secs(20);
    let left_out = tokio::time::timeout(limit, left_out).await;
    left_out.expect("it is asked once");
    let [_, before] = asked([&well, &spare]);
    for _ in 0..300 {
        assert_eq!(setup.ask().await.status, 200);
    }
    let [sick, all] = asked([&sick, &spare]);
    let given_away = all - before;
    assert_eq!(sick, 1);
    assert!(
        (45..=135).contains(&given_away),
        "{given_away} of 300, not about 90"
    );
}

/// A percentage that permits nobody to be left out is respected, and so is the last one.
#[tokio::test]
async fn not_everybody_is_left_out() {
    let policies = [
        "healthCheck: { passive: { consecutive5XxErrors: 1 } }",
        "healthCheck: { passive: { consecutive5XxErrors: 1, maxEjectionPercent: 50 } }",
        "healthCheck: { passive: { consecutive5XxErrors: 1, maxEjectionPercent: 100 } }",
    ];
    for (policy, first_asked) in policies.into_iter().zip([5, 1, 1]) {
        let (first, second) = (
            Upstream::start(failure(500)).await,
            Upstream::start(failure(500)).await,
        );
        let setup = Setup::start(policy, &[at(&first), at(&second).after(1)]).await;
        for _ in 0..5 {
            assert_eq!(setup.ask().await.status, 500);
        }
        let [one, two] = asked([&first, &second]);
        assert_eq!(two, 5, "{policy}: the last one is always asked");
        assert!(one >= first_asked, "{policy}: {one}");
    }
}

#[tokio::test]
async fn with_health_always_looked_at_there_may_be_nobody() {
    let first = Upstream::start(failure(500)).await;
    let policy =
        "healthCheck: { panicThreshold: 0, passive: { consecutive5XxErrors: 1, maxEjectionPercent: 100 } }";
    let setup = Setup::start(policy, &[at(&first)]).await;
    assert_eq!(setup.ask().await.status, 500);
    let answer = setup.ask().await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(asked([&first]), [1]);
}

#[tokio::test]
async fn who_does_not_answer_probes_is_left_out() {
    let probed = |healthy: bool| {
        Script::answer(move |request| match request.target.as_str() {
            "/healthz" if healthy => Reply::whole(204, &[], ""),
            "/healthz" => Reply::whole(500, &[], ""),
            _ => greeting(),
        })
    };
    let (sick, well) = (
        Upstream::start(probed(false)).await,
        Upstream::start(probed(true)).await,
    );
    let policy = "healthCheck: { active: { type: HTTP, interval: 10ms, unhealthyThreshold: 2, http: { path: /healthz, \
                  expectedStatuses: [200, 204] } } }";
    let setup = Setup::start(policy, &[at(&sick), at(&well).after(1)]).await;
    sick.played(4).await;
    assert_eq!(setup.ask().await.status, 200);
    let paths = |upstream: &Upstream| {
        let requests = upstream.requests();
        requests
            .iter()
            .filter(|request| request.target == fixture::openai::PATH)
            .count()
    };
    assert_eq!((paths(&sick), paths(&well)), (0, 1));
}

#[tokio::test]
async fn who_takes_no_connection_is_left_out() {
    let (refusing, well) = (Upstream::refusing(), good().await);
    let policy = "healthCheck: { active: { type: TCP, interval: 10ms, unhealthyThreshold: 1 } }\n  retry: { numRetries: 0 }";
    let backends = [crate::setup::nowhere(refusing.address), at(&well).after(1)];
    let setup = Setup::start(policy, &backends).await;
    let noticed = async { while setup.ask().await.status != 200 {} };
    let limit = std::time::Duration::from_secs(20);
    assert!(
        tokio::time::timeout(limit, noticed).await.is_ok(),
        "nobody notices"
    );
}

#[tokio::test]
async fn who_asks_to_wait_is_left_alone() {
    let spent = [
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "1m30s"),
    ];
    let full = [("content-type", "application/json")];
    let body = fixture::openai::response("gpt").to_string();
    let replies = [
        ("429", Reply::whole(429, &[("retry-after", "60")], "{}")),
        ("503", Reply::whole(503, &[("retry-after", "60")], "{}")),
        (
            "spent",
            Reply::whole(200, &[spent.as_slice(), &full].concat(), &body),
        ),
    ];
    for (name, reply) in replies {
        let (first, second) = (Upstream::start(reply).await, good().await);
        let setup = Setup::start("timeout: {}", &[at(&first), at(&second).after(1)]).await;
        for _ in 0..3 {
            assert_eq!(setup.ask().await.status, 200, "{name}");
        }
        assert_eq!(asked([&first])[0], 1, "{name}");
    }
}

/// Nobody is left alone who is the only one.
#[tokio::test]
async fn who_is_alone_is_asked_all_the_same() {
    let only = Upstream::start(vec![
        Reply::whole(429, &[("retry-after", "60")], "{}"),
        greeting(),
    ])
    .await;
    let setup = Setup::start("timeout: {}", &[at(&only)]).await;
    assert_eq!(setup.ask().await.status, 429);
    assert_eq!(setup.ask().await.status, 200);
}
