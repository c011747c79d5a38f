//! Calls to AWS, whose upstream checks the signature as AWS does.

use std::time::{Duration, SystemTime};

use config::credential::{AwsBase, Role, Token};
use gateway::Options;
use testkit::{Received, Reply, Script, Upstream, aws::Key, client, fixture, issuer};

use super::{CLIENTS, REGION, aws, keys};
use crate::fixture::{CHAT, MESSAGES, MODEL, Served, To, messages, openai, options, serve, serve_with, to};

/// Returns a Bedrock that knows `key`, and whose clock is ahead by some seconds.
async fn bedrock(key: &Key, ahead: u64) -> Upstream {
    let key = key.clone();
    Upstream::start(Script::answer(move |request| {
        let now = SystemTime::now() + Duration::from_secs(ahead);
        key.guard(request, now, || {
            Reply::json(200, &fixture::messages::response("claude"))
        })
    }))
    .await
}

fn claude(upstream: &Upstream) -> To {
    to(&llm::provider::BedrockClaude, upstream.address())
}

async fn ask(served: &Served) -> client::Answer {
    let request = fixture::messages::request(MODEL, false);
    client::post(served.address, MESSAGES, &CLIENTS, &request).await
}

fn key() -> Key {
    Key::bedrock("AKIDTEST", "secret/of+the=gateway", REGION)
}

#[track_caller]
fn assert_clean(request: &Received) {
    for (name, value) in &request.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        assert!(!value.contains("client-secret"), "{name}: {value}");
    }
}

#[tokio::test]
async fn calls_are_signed_over_what_is_sent() {
    for session in [None, Some("session==token".to_owned())] {
        let key = Key { session, ..key() };
        let upstream = bedrock(&key, 0).await;
        let declared = aws("default/aws", AwsBase::Keys(keys(&key)), None);
        let model = "arn:aws:bedrock:eu-west-3:1:inference-profile/eu.x-v1:0";
        let to = To {
            model: Some(model.to_owned()),
            ..claude(&upstream).with(declared)
        };
        let served = serve([to]).await;
        let answer = ask(&served).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let request = &upstream.requests()[0];
        assert!(request.target.contains("inference-profile%2Feu.x-v1:0"));
        assert_clean(request);
        assert_eq!(request.headers.get("x-api-key"), None);
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_corrected_by_the_answer() {
    let upstream = bedrock(&key(), 3600).await;
    let declared = aws("default/aws", AwsBase::Keys(keys(&key())), None);
    let served = serve([claude(&upstream).with(declared)]).await;
    for sent in [2, 3] {
        let answer = ask(&served).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            upstream.requests().len(),
            sent,
            "only the first call has to learn"
        );
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_and_not_tried_again() {
    let upstream = bedrock(&key(), 0).await;
    let other = Key::bedrock("AKIDTEST", "another", REGION);
    let declared = aws("default/aws", AwsBase::Keys(keys(&other)), None);
    let served = serve([claude(&upstream).with(declared)]).await;
    let answer = ask(&served).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn each_attempt_carries_its_own_credential_alone() {
    let failing = || Upstream::start(Reply::json(500, &fixture::messages::error("api_error", "down")));
    let declared = || aws("default/aws", AwsBase::Keys(keys(&key())), None);
    let (first, second) = (
        failing().await,
        Upstream::start(Reply::json(200, &fixture::messages::response("claude"))).await,
    );
    let served = serve([claude(&first).with(declared()), messages(&second).after()]).await;
    assert_eq!(ask(&served).await.status, 200);
    let request = &second.requests()[0];
    assert_clean(request);
    assert!(!request.header("x-api-key").is_empty());
    for name in ["authorization", "x-amz-date", "x-amz-security-token"] {
        assert_eq!(request.headers.get(name), None, "{name}");
    }

    let (first, second) = (failing().await, bedrock(&key(), 0).await);
    let served = serve([messages(&first), claude(&second).with(declared()).after()]).await;
    assert_eq!(ask(&served).await.status, 200);
    assert_eq!(second.requests()[0].headers.get("x-api-key"), None);
}

/// Returns a gateway whose token service of AWS is `sts`.
async fn serve_by(sts: &Upstream, to: To) -> Served {
    let endpoint = format!("http://{}", sts.address());
    let options = Options {
        variables: [("AWS_ENDPOINT_URL_STS".to_owned(), endpoint)].into(),
        ..options()
    };
    serve_with(options, config::snapshot::Timeouts::default(), [to]).await
}

#[tokio::test]
async fn a_token_is_exchanged_for_keys() {
    let given = Key {
        session: Some("given-session".to_owned()),
        ..Key::bedrock("ASIAGIVEN", "given/secret", REGION)
    };
    let (upstream, answered) = (bedrock(&given, 0).await, given.clone());
    let sts = Upstream::start(Script::answer(move |request| {
        let Ok(form) = issuer::form(request) else {
            return issuer::refused(400, "invalid_request");
        };
        let wanted = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", "arn:aws:iam::1:role/r"),
            ("RoleSessionName", "ai-gateway-test"),
            ("WebIdentityToken", "the.projected.token"),
        ];
        let all = wanted
            .iter()
            .all(|(name, value)| form.get(*name).is_some_and(|given| given == value));
        if all && request.headers.get("authorization").is_none() {
            issuer::sts(request, &answered)
        } else {
            issuer::refused(400, "InvalidIdentityToken")
        }
    }))
    .await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "the.projected.token\n").expect("the token is written");
    let base = AwsBase::Web {
        role: "arn:aws:iam::1:role/r".to_owned(),
        token: Token::File(file.path().to_string_lossy().into_owned()),
    };
    let served = serve_by(&sts, claude(&upstream).with(aws("default/web", base, None))).await;
    for _ in 0..3 {
        let answer = ask(&served).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(sts.requests().len(), 1, "the keys are kept");
}

#[tokio::test]
async fn a_role_is_taken_with_declared_keys() {
    let given = Key {
        session: Some("role-session".to_owned()),
        ..Key::bedrock("ASIAROLE", "role/secret", REGION)
    };
    let upstream = bedrock(&given, 0).await;
    let (own, answered) = (
        Key {
            scope: (REGION.to_owned(), "sts".to_owned()),
            ..key()
        },
        given.clone(),
    );
    let sts = Upstream::start(Script::answer(move |request| {
        let form = issuer::form(request).unwrap_or_default();
        let external = form.get("ExternalId").map(String::as_str);
        let signed = request.header("authorization").contains(&own.id);
        if form.get("Action").is_some_and(|action| action == "AssumeRole") && external == Some("e") && signed
        {
            issuer::sts(request, &answered)
        } else {
            issuer::refused(403, "AccessDenied")
        }
    }))
    .await;
    let role = Role {
        arn: "arn:aws:iam::1:role/r".to_owned(),
        external_id: Some("e".to_owned()),
    };
    let declared = aws("default/role", AwsBase::Keys(keys(&key())), Some(role));
    let served = serve_by(&sts, claude(&upstream).with(declared)).await;
    let answer = ask(&served).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The credential of one backend is broken: its requests are told so or go elsewhere, all others are served.
#[tokio::test]
async fn a_credential_that_cannot_be_had_costs_only_its_own_backend() {
    let sts = Upstream::start(Reply::whole(
        403,
        &[("content-type", "text/xml")],
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>secret/of+the=gateway</Message></Error></ErrorResponse>",
    ))
    .await;
    let role = || {
        Some(Role {
            arn: "arn:aws:iam::1:role/r".to_owned(),
            external_id: None,
        })
    };
    let upstream = bedrock(&key(), 0).await;
    let declared = || aws("default/role", AwsBase::Keys(keys(&key())), role());
    let served = serve_by(&sts, claude(&upstream).with(declared())).await;
    let answer = ask(&served).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("default/role"), "{}", answer.text());
    assert!(!answer.text().contains("secret/of"), "{}", answer.text());
    assert_eq!(upstream.requests().len(), 0);

    let other = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([claude(&upstream).with(declared()), openai(&other).after()]).await;
    let request = fixture::openai::request(MODEL, false);
    let answer = served.post(CHAT, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let outcome = ["outcome=\"credential\""];
    served
        .metric_reaches("tollgate_attempts_total", &outcome, 1.0)
        .await;
}
