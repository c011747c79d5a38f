//! Pickers that fail: before it is known where a request goes, and after.

use testkit::{
    Gate, Picker, Upstream,
    client::Client,
    fixture::openai,
    picker::{Fault, Left, Plan, Stage},
};

use crate::setup::{PATH, Pool, Setup, pod};

const FAULTS: [Fault; 4] = [Fault::Status(13), Fault::Leave, Fault::Reset, Fault::Nonsense];

async fn failing(stage: Stage, fault: Fault, pod: &Upstream) -> Picker {
    let target = pod.address();
    Picker::start(move |_, _| Plan {
        fault: Some((stage, fault)),
        ..Plan::to(&[target])
    })
    .await
}

#[tokio::test]
async fn nobody_is_called_where_a_picker_fails() {
    for fault in FAULTS {
        let pod = pod().await;
        let picker = failing(Stage::Request, fault, &pod).await;
        let setup = Setup::start(Pool::of(picker.address()).with(&[&pod])).await;
        let answer = setup.ask().await;
        assert_eq!(answer.status, 503, "{fault:?}");
        let message = answer.json()["error"]["message"].clone();
        assert!(
            message
                .as_str()
                .is_some_and(|text| text.contains("endpoint picker")),
            "{message}"
        );
        assert!(pod.requests().is_empty());
    }
    let nobody = Upstream::refusing();
    let setup = Setup::start(Pool::of(nobody.address)).await;
    assert_eq!(setup.ask().await.status, 503);
}

#[tokio::test]
async fn any_pod_is_called_where_that_is_wanted() {
    for fault in FAULTS {
        let pod = pod().await;
        let elsewhere = crate::setup::pod().await;
        let picker = failing(Stage::Request, fault, &elsewhere).await;
        let setup = Setup::start(Pool::of(picker.address()).with(&[&pod]).open()).await;
        assert_eq!(setup.ask().await.status, 200, "{fault:?}");
        assert_eq!((pod.requests().len(), elsewhere.requests().len()), (1, 0));
    }
    let (nobody, pod) = (Upstream::refusing(), pod().await);
    let setup = Setup::start(Pool::of(nobody.address).with(&[&pod]).open()).await;
    assert_eq!(setup.ask().await.status, 200);
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_a_failure() {
    let pod = pod().await;
    let picker = Picker::start(|_, _| Plan {
        header: Some("pod-1:8000".to_owned()),
        ..Plan::default()
    });
    let picker = picker.await;
    let closed = Setup::start(Pool::of(picker.address()).with(&[&pod])).await;
    assert_eq!(closed.ask().await.status, 503);
    let open = Setup::start(Pool::of(picker.address()).with(&[&pod]).open()).await;
    assert_eq!(open.ask().await.status, 200);
}

#[tokio::test]
async fn a_picker_has_so_long() {
    let pod = pod().await;
    let picker = failing(Stage::Request, Fault::Stall, &pod).await;
    let slow = Pool {
        rule: "timeouts: {request: 500ms}",
        ..Pool::of(picker.address()).with(&[&pod])
    };
    let closed = Setup::start(slow.clone()).await;
    assert_eq!(closed.ask().await.status, 504);
    assert!(pod.requests().is_empty());
    let patient = Pool {
        rule: "timeouts: {request: 4s}",
        ..slow
    };
    let open = Setup::start(patient.open()).await;
    assert_eq!(
        open.ask().await.status,
        200,
        "half of the time is left for the pod"
    );
    let seen = picker.until(|seen| seen.len() == 2 && seen.iter().all(|seen| seen.left.is_some()));
    assert!(seen.await.iter().all(|seen| seen.left == Some(Left::Reset)));
}

#[tokio::test]
async fn a_reply_does_not_go_past_a_picker_that_fails() {
    for fault in [Fault::Status(13), Fault::Reset, Fault::Nonsense] {
        let pod = pod().await;
        let picker = failing(Stage::ReplyHead, fault, &pod).await;
        let setup = Setup::start(Pool::of(picker.address()).with(&[&pod])).await;
        assert_eq!(setup.ask().await.status, 503, "{fault:?}");
        assert_eq!(pod.requests().len(), 1, "it is not asked again");
    }
}

#[tokio::test]
async fn a_reply_goes_on_without_a_picker_where_that_is_wanted() {
    for fault in FAULTS {
        let pod = pod().await;
        let picker = failing(Stage::ReplyHead, fault, &pod).await;
        let setup = Setup::start(Pool::of(picker.address()).with(&[&pod]).open()).await;
        let answer = setup.ask().await;
        assert_eq!(answer.status, 200, "{fault:?}");
        assert_eq!(answer.json(), openai::response("m"));
    }
}

#[tokio::test]
async fn what_a_picker_keeps_to_itself_breaks_the_reply_off() {
    let pod = pod().await;
    let picker = failing(Stage::ReplyBody, Fault::Status(13), &pod).await;
    let setup = Setup::start(Pool::of(picker.address()).with(&[&pod]).open()).await;
    let answer = setup.ask().await;
    assert!(answer.status >= 500, "{}", answer.status);
}

#[tokio::test]
async fn a_client_that_goes_takes_all_along() {
    let pod = pod().await;
    let target = pod.address();
    let gate = Gate::new();
    let closed = gate.clone();
    let picker = Picker::start(move |_, _| Plan {
        gate: Some(closed.clone()),
        ..Plan::to(&[target])
    });
    let picker = picker.await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    let mut client = Client::connect(setup.address).await;
    let sent = client.post(PATH, &[], &openai::request("m", false)).await;
    sent.expect("a request is taken");
    picker
        .until(|seen| seen.iter().any(|seen| seen.body_pieces > 0))
        .await;
    drop(client);
    gate.open();
    let seen = picker
        .until(|seen| seen.iter().all(|seen| seen.left.is_some()))
        .await;
    assert_eq!(seen[0].left, Some(Left::Reset));
    assert!(pod.requests().is_empty());
}
