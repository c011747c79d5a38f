//! Upstreams that compress although they are asked not to, and clients that do.

use std::io::Write;

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use testkit::{
    Client, Reply, Upstream,
    client::{self, Answer},
    fixture,
};

use crate::fixture::{CHAT, MESSAGES, MODEL, Served, messages, openai, serve};

fn compressed(coding: &str, content: &[u8]) -> Vec<u8> {
    let best = Compression::best();
    let written = match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), best);
            encoder.write_all(content).and_then(|()| encoder.finish())
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), best);
            encoder.write_all(content).and_then(|()| encoder.finish())
        }
        "zstd" => zstd::encode_all(content, 0),
        other => panic!("{other}"),
    };
    written.expect("a Vec takes everything")
}

/// Returns the head of a compressed reply, whose pieces follow as chunks.
fn reply(status: u16, kind: &str, coding: &str, content: &str) -> Reply {
    let head = Reply::chunked(status, &[("content-type", kind), ("content-encoding", coding)]);
    let bytes = compressed(coding, content.as_bytes());
    let pieces = bytes.chunks(11);
    pieces.fold(head, |reply, piece| reply.frame(piece)).end()
}

const CODINGS: [&str; 3] = ["gzip", "deflate", "zstd"];
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

#[tokio::test]
async fn clients_see_nothing_of_it() {
    for coding in CODINGS {
        let document = fixture::openai::response("gpt").to_string();
        let upstream = Upstream::start(reply(200, JSON, coding, &document)).await;
        let served = serve([openai(&upstream)]).await;
        let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
        assert_eq!((answer.status, answer.text()), (200, document), "{coding}");
        assert_eq!(answer.header("content-encoding"), "");
        // The upstream's counts are heard in what was inside.
        served
            .metric_reaches("gen_ai_client_token_usage_count", &["\"output\""], 1.0)
            .await;
        let answer = served
            .post(MESSAGES, &fixture::messages::request(MODEL, false))
            .await;
        assert_eq!(answer.status, 200, "{coding}: {}", answer.text());
        assert_eq!(answer.json()["type"], "message");
    }
}

#[tokio::test]
async fn clients_who_read_it_get_what_is_handed_on_as_it_came() {
    let document = fixture::openai::response("gpt").to_string();
    let upstream = Upstream::start(reply(200, JSON, "gzip", &document)).await;
    let served = serve([openai(&upstream)]).await;
    let whole = compressed("gzip", document.as_bytes());
    let request = fixture::openai::request(MODEL, false);
    for (accepted, kept) in [
        ("gzip", true),
        ("br;q=1.0, GZIP;q=0.5", true),
        ("gzip;q=0", false),
        ("identity", false),
        ("*", false),
    ] {
        let headers = [("accept-encoding", accepted)];
        let answer = client::post(served.address, CHAT, &headers, &request).await;
        let expected = if kept {
            ("gzip", whole.as_slice())
        } else {
            ("", document.as_bytes())
        };
        assert_eq!(
            (answer.header("content-encoding"), &answer.body[..]),
            expected,
            "{accepted}"
        );
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        assert_eq!(
            upstream.received(1).await[0].header("accept-encoding"),
            "identity"
        );
    }
    served
        .metric_reaches("gen_ai_client_token_usage_count", &["\"output\""], 5.0)
        .await;
    let answer = client::post(
        served.address,
        MESSAGES,
        &[("accept-encoding", "gzip")],
        &fixture::messages::request(MODEL, false),
    )
    .await;
    assert_eq!(
        (answer.header("content-encoding"), answer.json()["type"].as_str()),
        ("", Some("message"))
    );
}

#[tokio::test]
async fn streams_are_decoded_as_they_come() {
    for coding in CODINGS {
        let events = fixture::openai::frames("gpt");
        let plain = Upstream::start(Reply::sse(&events)).await;
        let plain = serve([openai(&plain)]).await;
        let upstream = Upstream::start(reply(200, EVENTS, coding, &events.concat())).await;
        let served = serve([openai(&upstream)]).await;
        for (path, request) in [
            (CHAT, fixture::openai::request(MODEL, true)),
            (MESSAGES, fixture::messages::request(MODEL, true)),
        ] {
            let expected = plain.post(path, &request).await;
            let answer = served.post(path, &request).await;
            assert_eq!(answer.status, 200, "{coding}: {}", answer.text());
            assert_eq!(answer.text(), expected.text(), "{coding}");
            assert_eq!(answer.header("content-encoding"), "");
        }
    }
}

#[tokio::test]
async fn errors_say_what_they_say() {
    let error = fixture::messages::error("rate_limit_error", "Slow down.").to_string();
    let upstream = Upstream::start(reply(429, JSON, "gzip", &error)).await;
    let served = serve([messages(&upstream)]).await;
    for (path, request) in [
        (CHAT, fixture::openai::request(MODEL, false)),
        (MESSAGES, fixture::messages::request(MODEL, false)),
    ] {
        let answer = served.post(path, &request).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.json()["error"]["message"], "Slow down.");
    }
}

#[tokio::test]
async fn what_ends_early_is_no_answer() {
    let document = fixture::openai::response("gpt").to_string();
    let bytes = compressed("gzip", document.as_bytes());
    let head = Reply::chunked(200, &[("content-type", JSON), ("content-encoding", "gzip")]);
    let upstream = Upstream::start(head.frame(&bytes[..bytes.len() - 12]).end()).await;
    let served = serve([openai(&upstream)]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!(answer.status, 502);
    let message = answer.json()["error"]["message"].as_str().map(str::to_owned);
    let told = "the upstream's reply cannot be decoded: it ends early";
    assert_eq!(message.as_deref(), Some(told));
}

/// Posts a compressed document; returns the answer.
async fn post(served: &Served, path: &str, coding: &str, body: &[u8]) -> Answer {
    let mut client = Client::connect(served.address).await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-encoding: {coding}\r\ncontent-length: \
         {}\r\n\r\n",
        body.len()
    );
    client.send(head).await.expect("sent");
    // Whoever is refused meanwhile has been answered.
    let _ = client.send(body).await;
    client.answer().await.expect("a reply")
}

#[tokio::test]
async fn requests_may_be_compressed() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    for (count, coding) in CODINGS.into_iter().enumerate() {
        let document = fixture::openai::request(MODEL, false);
        let body = compressed(coding, document.to_string().as_bytes());
        assert_eq!(post(&served, CHAT, coding, &body).await.status, 200, "{coding}");
        let requests = upstream.requests();
        assert_eq!(requests.len(), count + 1);
        let seen = requests.last().expect("a request");
        assert_eq!((seen.json(), seen.header("content-encoding")), (document, ""));
        // In the client's own format, whatever is wrong.
        let cut = body.get(..body.len() / 2).unwrap_or_default();
        let answer = post(&served, MESSAGES, coding, cut).await;
        assert_eq!(
            (answer.status, &answer.json()["type"]),
            (400, &"error".into()),
            "{coding}"
        );
    }
}

#[tokio::test]
async fn what_stands_for_too_much_is_refused() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    for coding in CODINGS {
        let bomb = compressed(coding, &vec![b' '; 64 << 20]);
        let answer = post(&served, CHAT, coding, &bomb).await;
        assert_eq!(answer.status, 413, "{coding}: {}", answer.text());
    }
    assert_eq!(upstream.requests().len(), 0);
}
