//! Replies that go past a picker: streamed or not, in each way in which it may want to see them.

use testkit::{
    Gate, Picker, Reply, Upstream,
    client::Client,
    fixture::openai,
    picker::{Left, Plan},
};

use crate::setup::{PATH, Pool, Setup, pod};

const MODES: &str = "aigateway.envoyproxy.io/processing-body-mode: buffered, \
                     aigateway.envoyproxy.io/allow-mode-override: \"true\"";

async fn streaming() -> Upstream {
    Upstream::start(Reply::sse(openai::frames("m"))).await
}

#[tokio::test]
async fn streams_go_past_piece_by_piece() {
    let gate = Gate::new();
    let frames = openai::frames("m");
    let (first, rest) = frames.split_at(2);
    let reply = Reply::stream().frames(first).wait(&gate).frames(rest).end();
    let pod = Upstream::start(reply).await;
    let target = pod.address();
    let picker = Picker::start(move |_, _| Plan::to(&[target])).await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    let mut client = Client::connect(setup.address).await;
    let sent = client.post(PATH, &[], &openai::request("m", true)).await;
    sent.expect("a request is taken");
    assert_eq!(client.head().await.expect("a head").status, 200);
    let frame = client.frame().await.expect("a frame").expect("not the end");
    assert!(frame.contains("chat.completion.chunk"), "{frame}");
    assert!(!picker.seen()[0].reply_ended, "the rest is held back");
    gate.open();
    let mut last = frame;
    while let Some(frame) = client.frame().await.expect("a frame") {
        last = frame;
    }
    assert!(last.contains("[DONE]"), "{last}");
    let seen = picker.until(|seen| seen[0].left.is_some()).await;
    assert!(seen[0].reply_ended && seen[0].reply_pieces > 1);
    assert_eq!(seen[0].left, Some(Left::Well));
}

#[tokio::test]
async fn a_picker_changes_the_reply() {
    for annotations in ["", "aigateway.envoyproxy.io/processing-body-mode: buffered"] {
        for streams in [false, true] {
            let pod = match streams {
                true => streaming().await,
                false => pod().await,
            };
            let target = pod.address();
            let picker = Picker::start(move |_, _| Plan {
                reply_headers: vec![("x-pod".to_owned(), "7".to_owned())],
                reply_text: Some(("\"m\"".to_owned(), "\"mm\"".to_owned())),
                ..Plan::to(&[target])
            });
            let picker = picker.await;
            let setup = Setup::start(Pool::of(picker.address()).annotated(annotations)).await;
            let answer = match streams {
                true => setup.ask_stream().await,
                false => setup.ask().await,
            };
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("x-pod"), "7");
            assert!(
                answer.text().contains("\"mm\""),
                "{annotations} {streams}: {}",
                answer.text()
            );
            let seen = picker.until(|seen| seen[0].reply_ended).await;
            if !annotations.is_empty() {
                assert_eq!(seen[0].reply_pieces, 1, "it is seen whole");
            }
        }
    }
}

#[tokio::test]
async fn a_picker_says_how_it_wants_to_see_replies() {
    // Response headers are seen by default; bodies of requests are buffered; those of replies as the case says.
    for (mode, changes) in [(0, false), (1, true), (2, true), (4, true)] {
        let pod = streaming().await;
        let target = pod.address();
        let picker = Picker::start(move |_, _| Plan {
            modes: Some((0, 2, mode)),
            reply_text: Some(("\"m\"".to_owned(), "\"mm\"".to_owned())),
            ..Plan::to(&[target])
        });
        let picker = picker.await;
        let setup = Setup::start(Pool::of(picker.address()).annotated(MODES)).await;
        let answer = setup.ask_stream().await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.text().contains("\"mm\""),
            changes,
            "{mode}: {}",
            answer.text()
        );
        assert!(answer.text().contains("[DONE]"), "{mode}");
    }
}

#[tokio::test]
async fn a_picker_may_want_to_see_nothing_more() {
    let pod = pod().await;
    let target = pod.address();
    let picker = Picker::start(move |_, _| Plan {
        modes: Some((2, 0, 0)),
        ..Plan::to(&[target])
    });
    let picker = picker.await;
    let setup = Setup::start(Pool::of(picker.address()).annotated(MODES)).await;
    let answer = setup.ask().await;
    assert_eq!((answer.status, answer.json()), (200, openai::response("m")));
    let seen = picker.until(|seen| seen[0].left.is_some()).await;
    assert_eq!((seen[0].body_pieces, seen[0].reply_head.len()), (0, 0));
    assert_eq!(seen[0].left, Some(Left::Well));
}

#[tokio::test]
async fn modes_stay_unless_a_picker_may_change_them() {
    let pod = pod().await;
    let target = pod.address();
    let picker = Picker::start(move |_, _| Plan {
        modes: Some((0, 4, 4)),
        ..Plan::to(&[target])
    });
    let picker = picker.await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    assert_eq!(setup.ask().await.status, 200);
    assert!(picker.until(|seen| seen[0].reply_ended).await[0].reply_pieces > 0);
}

#[tokio::test]
async fn a_client_that_goes_in_mid_stream_is_told_to_both() {
    let gate = Gate::new();
    let frames = openai::frames("m");
    let reply = Reply::stream().frames(&frames[..2]).wait(&gate);
    let pod = Upstream::start(reply).await;
    let target = pod.address();
    let picker = Picker::start(move |_, _| Plan::to(&[target])).await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    let mut client = Client::connect(setup.address).await;
    let sent = client.post(PATH, &[], &openai::request("m", true)).await;
    sent.expect("a request is taken");
    client.head().await.expect("a head");
    client.frame().await.expect("a frame");
    drop(client);
    let seen = picker.until(|seen| seen[0].left.is_some()).await;
    assert_eq!(seen[0].left, Some(Left::Reset));
    pod.closed().await;
}
