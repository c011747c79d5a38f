//! Requests that give up while the counters are asked: what the answer holds for them is given back as soon as it comes.

use testkit::{Client, Gate, Redis, Reply, Upstream, fixture, redis::Called};

use super::{ask, request, unreachable};
use crate::fixture::CHAT;

/// Returns the counter and what is held on it until when, of a call for one claim.
fn held(admitted: &Called) -> (&str, &str, &str) {
    let arg = |at: usize| admitted.args.get(at).map_or("", String::as_str);
    (admitted.keys.first().map_or("", String::as_str), arg(4), arg(5))
}

/// Returns the counter and what is given back of it until when, of a call for one settlement that charges nothing.
fn given_back(settled: &Called) -> (&str, &str, &str) {
    let arg = |at: usize| settled.args.get(at).map_or("", String::as_str);
    assert_eq!((settled.keys.len(), arg(2)), (3, "0"), "{settled:?}");
    (settled.keys.get(1).map_or("", String::as_str), arg(3), arg(4))
}

#[tokio::test]
async fn a_request_that_has_waited_long_enough_holds_nothing() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let redis = Redis::start().await;
    let gate = Gate::new();
    redis.slow(&gate);
    let served = unreachable::serve(&upstream, redis.address(), "open").await;
    unreachable::answers(&served).await;
    let answer = ask(&served, "alice", false).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    gate.open();
    let (asked, settled) = (redis.admits(1).await, redis.settles(1).await);
    assert_eq!(given_back(&settled[0]), held(&asked[0]));
}

#[tokio::test]
async fn a_request_whose_client_has_gone_holds_nothing() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let redis = Redis::start().await;
    let gate = Gate::new();
    redis.slow(&gate);
    let served = unreachable::serve(&upstream, redis.address(), "closed").await;
    unreachable::answers(&served).await;
    let mut client = Client::connect(served.address).await;
    let headers = [("x-user-id", "alice")];
    client.post(CHAT, &headers, &request(false)).await.expect("sent");
    let asked = redis.admits(1).await;
    client.reset();
    served.metric_reaches("tollgate_requests_total", &[], 1.0).await;
    gate.open();
    let settled = redis.settles(1).await;
    assert_eq!(given_back(&settled[0]), held(&asked[0]));
    assert!(upstream.requests().is_empty());
}

/// What Redis does not take now is kept and offered again; it is nothing that was lost.
#[tokio::test]
async fn what_is_not_taken_now_is_booked_later() {
    for refusal in [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "NOREPLICAS Not enough good replicas to write.",
        "READONLY You can't write against a read only replica.",
        // Before version 7 the failure of a script says why in its words.
        "ERR Error running script (call to f_0): @user_script:8: -READONLY You can't write against a read only replica. ",
    ] {
        let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
        let redis = Redis::start().await;
        redis.refuse(Some(refusal));
        let served = unreachable::serve(&upstream, redis.address(), "closed").await;
        unreachable::answers(&served).await;
        assert_eq!(ask(&served, "alice", false).await.status, 200);
        redis.settles(1).await;
        redis.refuse(None);
        let settled = redis.settles(2).await;
        let (first, last) = (&settled[0], settled.last().expect("two"));
        // It is the same batch, so that it is booked once whatever became of the first.
        assert_eq!(
            (&first.keys, batch(first)),
            (&last.keys, batch(last)),
            "{refusal}"
        );
    }
}

/// Returns the number of the batch that a call for settlements is for.
fn batch(settled: &Called) -> Option<u64> {
    settled.args.get(1).and_then(|number| number.parse().ok())
}

/// What a gateway leaves in Redis to have each batch booked once is one key, however many batches there are.
#[tokio::test]
async fn batches_are_numbered_and_not_named() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let redis = Redis::start().await;
    let served = unreachable::serve(&upstream, redis.address(), "closed").await;
    unreachable::answers(&served).await;
    let mut last = 0;
    for count in 1..=3 {
        assert_eq!(ask(&served, "alice", false).await.status, 200);
        let settled = redis.settles(count).await;
        let newest = settled.last().expect("one");
        assert_eq!(newest.keys.first(), settled[0].keys.first());
        let number = batch(newest).expect("a number");
        assert!(number > last, "{number} after {last}");
        last = number;
    }
}
