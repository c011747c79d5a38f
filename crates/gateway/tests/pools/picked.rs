//! What a picker sees of a request, what it makes of it, and who is called then.

use serde_json::json;
use testkit::{
    Picker, Reply, Upstream, client,
    fixture::{messages, openai},
    picker::{Left, Plan},
};

use crate::setup::{PATH, Pool, Setup, pod};

const BUFFERED: &str = "aigateway.envoyproxy.io/processing-body-mode: buffered";

#[tokio::test]
async fn a_picker_says_which_pod_serves() {
    let (first, second) = (pod().await, pod().await);
    let target = second.address();
    let picker = Picker::start(move |_, _| Plan::to(&[target])).await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    let answer = setup.ask().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((first.requests().len(), second.requests().len()), (0, 1));
    let seen = picker
        .until(|seen| seen.iter().all(|seen| seen.left.is_some()))
        .await;
    let [seen] = seen.as_slice() else {
        panic!("{seen:?}");
    };
    assert_eq!(seen.left, Some(Left::Well));
    assert_eq!(seen.authority, "picker.default.svc:9002");
    assert_eq!(seen.modes, (4, 4), "duplex, which is the default");
    assert_eq!(seen.header(":path"), Some(PATH));
    assert_eq!(seen.header(":method"), Some("POST"));
    assert_eq!(seen.header("x-ai-eg-model"), Some("m"));
    assert_eq!(seen.metadata, json!(null), "nobody knows the pods");
    let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("a document");
    assert_eq!(body["model"], "m");
    assert_eq!(
        seen.reply_metadata,
        json!({ "envoy.lb": { "x-gateway-destination-endpoint-served": target.to_string() } })
    );
    assert_eq!(
        seen.reply_head.first(),
        Some(&(":status".to_owned(), "200".to_owned()))
    );
    assert!(seen.reply_ended && seen.reply_body == answer.body);
    let received = &second.requests()[0];
    assert_eq!(received.body, seen.body);
    assert_eq!(
        received.header("x-ai-eg-model"),
        "",
        "nothing of the gateway's own goes upstream"
    );
    assert_eq!(received.header("x-gateway-destination-endpoint"), "");
    let metrics = setup.metrics().await;
    assert!(metrics.contains("gen_ai_provider_name=\"openai\""), "{metrics}");
}

#[tokio::test]
async fn either_way_of_naming_will_do() {
    for by_header in [true, false] {
        let pod = pod().await;
        let target = pod.address().to_string();
        let picker = Picker::start(move |_, _| Plan {
            header: by_header.then(|| target.clone()),
            metadata: (!by_header).then(|| target.clone()),
            ..Plan::default()
        });
        let picker = picker.await;
        let setup = Setup::start(Pool::of(picker.address())).await;
        assert_eq!(setup.ask().await.status, 200);
        assert_eq!(picker.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_picker_changes_the_request() {
    for annotations in ["", BUFFERED] {
        let pod = pod().await;
        let target = pod.address();
        let picker = Picker::start(move |_, _| Plan {
            headers: vec![
                ("x-picked".to_owned(), "yes".to_owned()),
                ("content-length".to_owned(), "3".to_owned()),
                ("x-ai-eg-model".to_owned(), "other".to_owned()),
            ],
            body: Some(openai::request("lora", false).to_string()),
            ..Plan::to(&[target])
        });
        let picker = picker.await;
        let setup = Setup::start(Pool::of(picker.address()).annotated(annotations)).await;
        assert_eq!(setup.ask().await.status, 200);
        let received = &pod.requests()[0];
        assert_eq!(received.json()["model"], "lora", "{annotations}");
        assert_eq!(received.header("x-picked"), "yes");
        assert_eq!(received.header("x-ai-eg-model"), "");
        let seen = picker.seen();
        let expected = if annotations.is_empty() { (4, 4) } else { (2, 2) };
        assert_eq!(seen[0].modes, expected);
    }
}

#[tokio::test]
async fn clients_cannot_say_where_they_go() {
    let (good, forged) = (pod().await, pod().await);
    let target = good.address();
    let picker = Picker::start(move |_, _| Plan::to(&[target])).await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    let forged_to = forged.address().to_string();
    let headers = [
        ("x-gateway-destination-endpoint", forged_to.as_str()),
        ("x-gateway-inference-objective", "batch"),
    ];
    let answer = setup.ask_with(&headers, &openai::request("m", false)).await;
    assert_eq!(answer.status, 200);
    assert_eq!((good.requests().len(), forged.requests().len()), (1, 0));
    let seen = picker.seen();
    assert_eq!(seen[0].header("x-gateway-destination-endpoint"), None);
    assert_eq!(seen[0].header("x-gateway-inference-objective"), Some("batch"));
}

#[tokio::test]
async fn a_picker_is_told_who_may_be_picked() {
    let (one, two) = (pod().await, pod().await);
    let target = two.address();
    let picker = Picker::start(move |_, _| Plan::to(&[target])).await;
    let setup = Setup::start(Pool::of(picker.address()).with(&[&one, &two])).await;
    assert_eq!(setup.ask().await.status, 200);
    let hint = |seen: &testkit::picker::Seen| {
        let hint = seen.metadata["envoy.lb.subset_hint"]["x-gateway-destination-endpoint-subset"].clone();
        serde_json::from_value::<Vec<String>>(hint).expect("a list of endpoints")
    };
    let expected = [one.address().to_string(), two.address().to_string()];
    assert_eq!(hint(&picker.seen()[0]), expected);
    // Where none is ready, none may be picked.
    let picker = Picker::start(|_, _| Plan {
        immediate: Some((503, Vec::new(), "no pod".to_owned())),
        ..Plan::default()
    });
    let picker = picker.await;
    let setup = Setup::start(Pool::of(picker.address()).with(&[])).await;
    assert_eq!(setup.ask().await.status, 503);
    assert_eq!(hint(&picker.seen()[0]), [""; 0]);
}

#[tokio::test]
async fn what_a_picker_answers_is_the_answer() {
    for (status, text) in [(429, "shed"), (503, "{\"no\": \"pods\"}")] {
        let picker = Picker::start(move |_, _| Plan {
            immediate: Some((
                status,
                vec![("retry-after".to_owned(), "7".to_owned())],
                text.to_owned(),
            )),
            ..Plan::default()
        });
        let picker = picker.await;
        // Whether it may fail or not: it has not.
        let never = pod().await;
        let setup = Setup::start(Pool::of(picker.address()).with(&[&never]).open()).await;
        for answer in [setup.ask().await, setup.ask_stream().await] {
            assert_eq!((answer.status, answer.text()), (status, text.to_owned()));
            assert_eq!(answer.header("retry-after"), "7");
            assert_eq!(answer.header("content-type"), "text/plain");
        }
        assert!(never.requests().is_empty());
        assert_eq!(picker.seen().len(), 2);
    }
}

#[tokio::test]
async fn those_named_are_asked_in_order() {
    let refusing = Upstream::refusing();
    let failing = Upstream::start(Reply::json(503, &openai::error("busy", "x", "busy"))).await;
    let good = pod().await;
    let named = [refusing.address, failing.address(), good.address()];
    let picker = Picker::start(move |_, _| Plan::to(&named)).await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    let answer = setup.ask().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((failing.requests().len(), good.requests().len()), (1, 1));
    let seen = picker.until(|seen| seen[0].reply_ended).await;
    assert_eq!(seen.len(), 1, "the picker is asked once");
    assert_eq!(
        seen[0].reply_metadata["envoy.lb"]["x-gateway-destination-endpoint-served"],
        good.address().to_string()
    );
}

#[tokio::test]
async fn a_policy_says_how_often() {
    let failing = Upstream::start(Reply::json(503, &openai::error("busy", "x", "busy"))).await;
    let good = pod().await;
    let named = [failing.address(), good.address()];
    let picker = Picker::start(move |_, _| Plan::to(&named)).await;
    let policy = |retry: &str| {
        format!(
            "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: \
             p}}\nspec:\n  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: models}}]\n  retry: \
             {retry}\n"
        )
    };
    let none = Setup::start(Pool::of(picker.address()).beside(&policy("{numRetries: 0}"))).await;
    assert_eq!(none.ask().await.status, 503);
    let some = "{numRetries: 1, retryOn: {httpStatusCodes: [503], triggers: [retriable-status-codes]}, perRetry: \
                {backOff: {baseInterval: 1ms, maxInterval: 1ms}}}";
    let some = Setup::start(Pool::of(picker.address()).beside(&policy(some))).await;
    assert_eq!(some.ask().await.status, 200);
    assert_eq!((failing.requests().len(), good.requests().len()), (2, 1));
    let seen = picker
        .until(|seen| seen.iter().all(|seen| seen.reply_ended))
        .await;
    assert_eq!(
        seen[0].reply_head[0].1, "503",
        "the answer is seen, whatever it is"
    );
}

#[tokio::test]
async fn other_formats_are_seen_as_pods_speak() {
    let pod = pod().await;
    let target = pod.address();
    let picker = Picker::start(move |_, _| Plan::to(&[target])).await;
    let setup = Setup::start(Pool::of(picker.address())).await;
    let request = messages::request("m", false);
    let answer = client::post(setup.address, "/anthropic/v1/messages", &[], &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["type"], "message");
    assert_eq!(picker.seen()[0].header(":path"), Some(PATH));
    assert_eq!(pod.requests()[0].target, PATH);
}

#[tokio::test]
async fn a_pool_without_a_picker_is_its_pods() {
    let (one, two) = (pod().await, pod().await);
    let pool = Pool {
        picker: None,
        ..Pool::default()
    };
    let setup = Setup::start(pool.with(&[&one, &two])).await;
    while one.requests().is_empty() || two.requests().is_empty() {
        assert_eq!(setup.ask().await.status, 200);
    }
}
