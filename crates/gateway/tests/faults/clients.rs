//! Clients that go away, and clients that do not keep up.

use testkit::{Client, Provider, Reply, Upstream, client, fixture};

use crate::setup::{Limits, Setup, frames, good, request, upstream_model};

const FORMATS: [Provider; 2] = [Provider::OpenAi, Provider::Messages];

#[tokio::test]
async fn a_client_that_goes_away_before_the_head_takes_its_call_along() {
    for client in FORMATS {
        for provider in FORMATS {
            for stream in [false, true] {
                for reset in [false, true] {
                    check_gone_before_the_head(client, provider, stream, reset).await;
                }
            }
        }
    }
}

async fn check_gone_before_the_head(client: Provider, provider: Provider, stream: bool, reset: bool) {
    let upstream = Upstream::start(Reply::new().stall()).await;
    let fallback = Upstream::start(Reply::new().stall()).await;
    let backends = [(provider, upstream.address()), (client, fallback.address())];
    let setup = Setup::start(Limits::Patient, &backends).await;
    let mut connection = Client::connect(setup.address).await;
    let (path, body) = request(client, stream);
    connection
        .post(path, &[], &body)
        .await
        .expect("the request is taken");
    upstream.received(1).await;
    if reset {
        connection.reset()
    } else {
        drop(connection)
    }
    upstream.closed().await;
    setup.recorded(1.0).await;
    assert_eq!(
        setup
            .metric("tollgate_requests_total", "outcome=\"dropped\"")
            .await,
        1.0
    );
    assert_eq!(setup.tokens("input").await, (0.0, 0.0));
    assert_eq!(
        fallback.connections(),
        0,
        "nobody is asked for a client that is gone"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_in_mid_stream_takes_its_call_along() {
    for client in FORMATS {
        for provider in FORMATS {
            for reset in [false, true] {
                check_gone_in_mid_stream(client, provider, reset).await;
            }
        }
    }
}

async fn check_gone_in_mid_stream(client: Provider, provider: Provider, reset: bool) {
    // What comes up to the first word; the format's own end would make the answer complete.
    let begun = match provider {
        Provider::OpenAi => frames(provider).into_iter().take(2),
        Provider::Messages => frames(provider).into_iter().take(4),
    };
    let upstream = Upstream::start(Reply::stream().frames(begun).stall()).await;
    let setup = Setup::start(Limits::Patient, &[(provider, upstream.address())]).await;
    let mut connection = Client::connect(setup.address).await;
    let (path, body) = request(client, true);
    connection
        .post(path, &[], &body)
        .await
        .expect("the request is taken");
    assert_eq!(connection.head().await.expect("a head").status, 200);
    let mut said = String::new();
    while !said.contains("Hello") {
        said = connection.frame().await.expect("an event").expect("an event");
    }
    if reset {
        connection.reset()
    } else {
        drop(connection)
    }
    upstream.closed().await;
    setup.recorded(1.0).await;
    assert_eq!(
        setup
            .metric("tollgate_requests_total", "outcome=\"dropped\"")
            .await,
        1.0
    );
    let (times, _) = setup.tokens("input").await;
    assert_eq!(times, if provider == Provider::Messages { 1.0 } else { 0.0 });
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_upstream_back() {
    for client in FORMATS {
        for provider in FORMATS {
            check_slow(client, provider).await;
        }
    }
}

/// Streams more than all buffers on the way can hold. While the client does not read, others are served.
async fn check_slow(client: Provider, provider: Provider) {
    let word = "x".repeat(64 * 1024);
    let words = 512;
    let said = match provider {
        Provider::OpenAi => {
            let delta = serde_json::json!({"content": word});
            fixture::openai::delta(upstream_model(provider), delta, serde_json::Value::Null)
        }
        Provider::Messages => fixture::messages::text(&word),
    };
    let mut all = frames(provider);
    let opening = match provider {
        Provider::OpenAi => 1,
        Provider::Messages => 3,
    };
    all.splice(opening..opening, std::iter::repeat_n(said, words));
    let (big, small) = (Reply::sse(all), good(provider, false));
    let upstream = Upstream::start(vec![big, small]).await;
    let setup = Setup::start(Limits::Patient, &[(provider, upstream.address())]).await;
    let mut slow = Client::connect(setup.address).await;
    let (path, body) = request(client, true);
    slow.post(path, &[], &body).await.expect("the request is taken");
    assert_eq!(slow.head().await.expect("a head").status, 200);
    for _ in 0..20 {
        let (path, body) = request(client, false);
        let quick = client::post(setup.address, path, &[], &body).await;
        assert_eq!(quick.status, 200, "{}", quick.text());
    }
    assert_eq!(
        upstream.finished(),
        20,
        "the upstream waits for the client that does not read"
    );
    let mut read = 0;
    let mut last = String::new();
    while let Some(frame) = slow.frame().await.expect("an event") {
        read += frame.matches('x').count();
        last = frame;
    }
    assert!(read >= words * word.len(), "{read} bytes");
    assert!(
        last == "data: [DONE]" || last.starts_with("event: message_stop"),
        "{last}"
    );
    setup.recorded(21.0).await;
    assert_eq!(setup.tokens("output").await.0, 21.0);
}
