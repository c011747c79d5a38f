//! What arrives at the upstream, and what the client gets back.

use gateway::Options;
use serde_json::json;
use testkit::{Client, Reply, Script, Upstream};

use super::{
    EDITS,
    Field::{File, Text},
    TRANSCRIPTIONS, form, head, post, recording,
};
use crate::fixture::{KEY, MODEL, To, messages, openai, options, serve, serve_with};

const LARGE: usize = 50 * 1024 * 1024;

fn said() -> Reply {
    Reply::json(
        200,
        &json!({"text": "Hi.", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17}}),
    )
}

#[tokio::test]
async fn a_form_goes_through_byte_for_byte() {
    let file = recording(100_000);
    for fields in [
        [Text("model", MODEL), Text("language", "en"), File("file", &file)],
        [File("file", &file), Text("language", "en"), Text("model", MODEL)],
    ] {
        let upstream = Upstream::start(said()).await;
        let served = serve([openai(&upstream)]).await;
        let form = form(&fields);
        let answer = post(served.address, TRANSCRIPTIONS, &form).await;
        assert_eq!(
            (answer.status, answer.json()["text"].as_str()),
            (200, Some("Hi."))
        );
        let received = &upstream.requests()[0];
        assert!(received.body == form, "the form is the same");
        assert_eq!(received.target, TRANSCRIPTIONS);
        assert_eq!(received.header("content-length"), form.len().to_string());
        assert!(head(TRANSCRIPTIONS, None).contains(received.header("content-type")));
        assert_eq!(received.header("authorization"), format!("Bearer {KEY}"));
        let labels = [
            "gen_ai_operation_name=\"transcription\"",
            "gen_ai_response_model=\"m\"",
        ];
        served
            .metric_reaches("gen_ai_client_token_usage_count", &labels, 2.0)
            .await;
        served
            .metric_reaches(
                "tollgate_requests_total",
                &["outcome=\"complete\"", "status=\"200\""],
                1.0,
            )
            .await;
        served
            .metric_reaches("tollgate_requests_in_flight", &[], 0.0)
            .await;
    }
}

#[tokio::test]
async fn an_override_changes_the_model_alone() {
    let file = recording(300_000);
    let fields = |model: &'static str| {
        [
            form(&[
                Text("model", model),
                File("image[]", &file),
                File("image[]", b""),
                Text("prompt", MODEL),
            ]),
            form(&[
                File("image[]", &file),
                Text("prompt", MODEL),
                Text("model", model),
            ]),
        ]
    };
    for (sent, expected) in fields(MODEL).into_iter().zip(fields("gpt-image-1")) {
        for chunked in [false, true] {
            let upstream = Upstream::start(Reply::json(200, &json!({"data": []}))).await;
            let to = To {
                model: Some("gpt-image-1".to_owned()),
                ..openai(&upstream)
            };
            let served = serve([to]).await;
            let mut client = Client::connect(served.address).await;
            client
                .send(head(EDITS, (!chunked).then_some(sent.len())))
                .await
                .expect("sent");
            if chunked {
                for piece in sent.chunks(7919) {
                    client.send(format!("{:x}\r\n", piece.len())).await.expect("sent");
                    client.send(piece).await.expect("sent");
                    client.send("\r\n").await.expect("sent");
                }
                client.send("0\r\n\r\n").await.expect("sent");
            } else {
                client.send(&sent).await.expect("sent");
            }
            assert_eq!(client.answer().await.expect("a reply").status, 200);
            let received = &upstream.requests()[0];
            assert!(received.body == expected, "nothing but the model differs");
            let (length, coding) = if chunked {
                (String::new(), "chunked")
            } else {
                (expected.len().to_string(), "")
            };
            assert_eq!(received.header("content-length"), length);
            assert_eq!(received.header("transfer-encoding"), coding);
        }
    }
}

#[tokio::test]
async fn a_large_form_is_not_held() {
    let upstream = Upstream::start(said()).await;
    let small = Options {
        max_body: 1024 * 1024,
        body_memory: 512 * 1024,
        ..options()
    };
    let served = serve_with(small, Default::default(), [openai(&upstream)]).await;
    let file = recording(LARGE);
    let large = form(&[Text("model", MODEL), File("file", &file)]);
    let answer = post(served.address, TRANSCRIPTIONS, &large).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(upstream.requests()[0].body == large);
    // What was reserved of the little there is was given back.
    let small = form(&[File("file", &recording(400 * 1024)), Text("model", MODEL)]);
    assert_eq!(post(served.address, TRANSCRIPTIONS, &small).await.status, 200);
}

#[tokio::test]
async fn a_transcription_is_streamed_and_counted() {
    let delta = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"Hi\"}\n\n";
    let done = "data: {\"type\":\"transcript.text.done\",\"text\":\"Hi\",\"usage\":{\"type\":\"tokens\",\
                \"input_tokens\":5,\"output_tokens\":1,\"total_tokens\":6}}\n\n";
    let upstream = Upstream::start(Reply::sse([delta, done])).await;
    let served = serve([openai(&upstream)]).await;
    // `stream` comes when the call has long begun.
    let form = form(&[
        Text("model", MODEL),
        File("file", &recording(2_000_000)),
        Text("stream", "true"),
    ]);
    let answer = post(served.address, TRANSCRIPTIONS, &form).await;
    assert_eq!((answer.status, answer.text()), (200, format!("{delta}{done}")));
    assert_eq!(answer.header("content-type"), "text/event-stream");
    served
        .metric_reaches("gen_ai_client_token_usage_sum", &["\"input\""], 5.0)
        .await;
    served
        .metric_reaches("gen_ai_server_time_to_first_token_seconds_count", &[], 1.0)
        .await;
    served
        .metric_reaches(
            "tollgate_requests_total",
            &["outcome=\"complete\"", "status=\"200\""],
            1.0,
        )
        .await;
}

#[tokio::test]
async fn texts_keep_their_type() {
    for (kind, text) in [
        ("text/plain; charset=utf-8", "Hi.\n"),
        ("application/x-subrip", "1\n00:00:00,000 --> 00:00:01,000\nHi.\n"),
        ("text/vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nHi.\n"),
        ("application/json", "{\"text\" : \"Hi.\"}"),
    ] {
        let upstream = Upstream::start(Reply::whole(200, &[("content-type", kind)], text)).await;
        let served = serve([openai(&upstream)]).await;
        let form = form(&[
            Text("model", MODEL),
            Text("response_format", "x"),
            File("file", b"RIFF"),
        ]);
        let answer = post(served.address, TRANSCRIPTIONS, &form).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, text));
        assert_eq!(answer.header("content-type"), kind);
    }
}

#[tokio::test]
async fn a_refusal_is_handed_through() {
    let refusal = json!({"error": {"message": "Invalid file format.", "type": "invalid_request_error",
        "param": "file", "code": null}});
    let upstream = Upstream::start(Reply::json(400, &refusal)).await;
    let served = serve([openai(&upstream)]).await;
    let form = form(&[Text("model", MODEL), File("file", b"RIFF")]);
    let answer = post(served.address, TRANSCRIPTIONS, &form).await;
    assert_eq!((answer.status, answer.json()), (400, refusal));
}

#[tokio::test]
async fn what_is_still_held_goes_to_the_next_candidate() {
    let form = form(&[Text("model", MODEL), File("file", &recording(200_000))]);
    let good = Upstream::start(said()).await;
    let refusing = Upstream::refusing();
    let refusing = crate::fixture::to(&llm::provider::COMPATIBLE, refusing.address);
    let busy = Upstream::start(Reply::json(429, &json!({"error": {"message": "busy"}}))).await;
    let other = Upstream::start(said()).await;
    for (first, attempts) in [
        (refusing, "connect"),
        (openai(&busy), "failed"),
        (messages(&other), "unsayable"),
    ] {
        let served = serve([first, openai(&good).after()]).await;
        let answer = post(served.address, TRANSCRIPTIONS, &form).await;
        assert_eq!(answer.status, 200, "{attempts}: {}", answer.text());
        served
            .metric_reaches("tollgate_attempts_total", &[attempts], 1.0)
            .await;
    }
    assert_eq!(other.requests().len(), 0);
    for received in good.requests() {
        assert!(received.body == form, "every attempt gets the whole form");
    }
}

#[tokio::test]
async fn what_was_held_for_its_model_goes_to_the_next_candidate() {
    let form = form(&[File("file", &recording(5_000_000)), Text("model", MODEL)]);
    let busy = Upstream::start(Reply::json(503, &json!({}))).await;
    let good = Upstream::start(said()).await;
    let served = serve([openai(&busy), openai(&good).after()]).await;
    assert_eq!(post(served.address, TRANSCRIPTIONS, &form).await.status, 200);
    assert!(good.requests()[0].body == form);
}

#[tokio::test]
async fn what_is_gone_goes_nowhere() {
    let form = form(&[Text("model", MODEL), File("file", &recording(5_000_000))]);
    let busy = Upstream::start(Reply::json(503, &json!({"error": {"message": "busy"}}))).await;
    let good = Upstream::start(said()).await;
    let served = serve([openai(&busy), openai(&good).after()]).await;
    let answer = post(served.address, TRANSCRIPTIONS, &form).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["message"]),
        (503, &json!("busy"))
    );
    assert_eq!(good.requests().len(), 0);
}

#[tokio::test]
async fn connections_are_used_again() {
    let upstream = Upstream::start(Script::answer(|_| said())).await;
    let served = serve([openai(&upstream)]).await;
    let form = form(&[Text("model", MODEL), File("file", &recording(3_000_000))]);
    for _ in 0..3 {
        assert_eq!(post(served.address, TRANSCRIPTIONS, &form).await.status, 200);
    }
    assert_eq!(upstream.connections(), 1);
}
