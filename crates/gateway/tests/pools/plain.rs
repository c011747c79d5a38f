//! Plain requests for a pool: only the picker has a say.

use testkit::{Picker, Reply, Script, Upstream, client, picker::Plan};

use crate::setup::{Pool, Setup};

async fn echo() -> Upstream {
    Upstream::start(Script::answer(|request| {
        let text = format!("{} {}", request.target, String::from_utf8_lossy(&request.body));
        Reply::whole(200, &[("x-pod", "1")], &text)
    }))
    .await
}

#[tokio::test]
async fn requests_go_where_a_picker_says() {
    let pod = echo().await;
    let target = pod.address();
    let picker = Picker::start(move |_, seen| match seen.header(":path") {
        Some("/plain/shed") => Plan {
            immediate: Some((429, Vec::new(), "later".to_owned())),
            ..Plan::default()
        },
        _ => Plan {
            reply_text: Some(("1".to_owned(), "2".to_owned())),
            ..Plan::to(&[target])
        },
    });
    let picker = picker.await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    let answer = client::post(setup.address, "/plain/a?q=1", &[], &serde_json::json!({ "a": 1 })).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "/plain/a?q=2 {\"a\":2}");
    assert_eq!(answer.header("x-pod"), "1");
    let answer = client::get(setup.address, "/plain/b", &[]).await;
    assert_eq!((answer.status, answer.text()), (200, "/plain/b ".to_owned()));
    let answer = client::get(setup.address, "/plain/shed", &[]).await;
    assert_eq!((answer.status, answer.text()), (429, "later".to_owned()));
    let seen = picker.until(|seen| seen.len() == 3).await;
    assert_eq!(
        seen[0].header(":authority"),
        Some("localhost"),
        "the host stays the client's"
    );
    assert_eq!(seen[0].body, b"{\"a\":1}");
    assert_eq!(seen[1].body_pieces, 0, "a request without a body is one message");
    assert_eq!(seen[0].header("x-ai-eg-model"), None);
    assert_eq!(
        seen[0].reply_metadata["envoy.lb"]["x-gateway-destination-endpoint-served"],
        target.to_string()
    );
}

#[tokio::test]
async fn those_named_are_asked_in_order() {
    let (nobody, pod) = (Upstream::refusing(), echo().await);
    let named = [nobody.address, pod.address()];
    let picker = Picker::start(move |_, _| Plan::to(&named)).await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    let answer = client::get(setup.address, "/plain/a", &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(picker.seen().len(), 1);
}

#[tokio::test]
async fn a_picker_that_is_not_there_refuses_or_leaves_the_choice() {
    let (nobody, pod) = (Upstream::refusing(), echo().await);
    let closed = Setup::start(Pool::of(nobody.address).with(&[&pod])).await;
    assert_eq!(client::get(closed.address, "/plain/a", &[]).await.status, 503);
    let open = Setup::start(Pool::of(nobody.address).with(&[&pod]).open()).await;
    assert_eq!(client::get(open.address, "/plain/a", &[]).await.status, 200);
}
