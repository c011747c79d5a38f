//! A client that goes away takes its upstream call with it, and is accounted for.

use testkit::{Client, Reply, Upstream, fixture};

use crate::fixture::{CHAT, MESSAGES, MODEL, messages, openai, serve};

#[tokio::test]
async fn before_the_head() {
    let upstream = Upstream::start(Reply::new().stall()).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client
        .post(CHAT, &[], &fixture::openai::request(MODEL, false))
        .await
        .expect("sent");
    upstream.received(1).await;
    drop(client);
    upstream.closed().await;
    served
        .metric_reaches(
            "tollgate_requests_total",
            &["outcome=\"dropped\"", "status=\"499\""],
            1.0,
        )
        .await;
    served
        .metric_reaches("tollgate_requests_in_flight", &[], 0.0)
        .await;
}

#[tokio::test]
async fn in_the_middle_of_a_stream() {
    let begun = Reply::stream().frames(fixture::messages::frames("claude").into_iter().take(4));
    let upstream = Upstream::start(begun.stall()).await;
    let served = serve([messages(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client
        .post(MESSAGES, &[], &fixture::messages::request(MODEL, true))
        .await
        .expect("sent");
    client.head().await.expect("a head");
    client.frame().await.expect("an event");
    client.reset();
    upstream.closed().await;
    served
        .metric_reaches(
            "tollgate_requests_total",
            &["outcome=\"dropped\"", "status=\"200\""],
            1.0,
        )
        .await;
    // The prompt was counted in the first event.
    served
        .metric_reaches("gen_ai_client_token_usage_count", &["\"input\""], 1.0)
        .await;
}
