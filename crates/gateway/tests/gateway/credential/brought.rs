//! Credentials that requests bring themselves.

use config::{
    Credential, Secret,
    credential::{AwsBase, Brought, Place, Scheme, Source},
};
use http::HeaderName;
use llm::provider::{self, CredentialKind};
use testkit::{Reply, Upstream, aws::Key, client, fixture};

use super::{CLIENTS, REGION, aws, keys};
use crate::fixture::{MESSAGES, MODEL, To, credential, messages, serve, to};

const KINDS: [(CredentialKind, &str); 4] = [
    (CredentialKind::Bearer, "authorization"),
    (CredentialKind::XApiKey, "x-api-key"),
    (CredentialKind::ApiKey, "api-key"),
    (CredentialKind::XGoogApiKey, "x-goog-api-key"),
];

fn own(name: &'static str, fallback: bool) -> Option<Brought> {
    Some(Brought {
        place: Place::Header(HeaderName::from_static(name)),
        fallback,
    })
}

async fn upstream() -> Upstream {
    Upstream::start(Reply::json(200, &fixture::messages::response("claude"))).await
}

/// Asks with `brought`, and expects the upstream to be given `expected` in `header`, or the client a status.
async fn check(
    declared: &Credential,
    brought: &[(&str, &str)],
    header: &str,
    expected: Result<&str, (u16, &str)>,
) {
    let upstream = upstream().await;
    let served = serve([messages(&upstream).with(declared.clone())]).await;
    let headers = [&CLIENTS[..], brought].concat();
    let request = fixture::messages::request(MODEL, false);
    let answer = client::post(served.address, MESSAGES, &headers, &request).await;
    match expected {
        Ok(value) => {
            assert_eq!(answer.status, 200, "{}", answer.text());
            let request = &upstream.requests()[0];
            assert_eq!(request.header(header), value);
            for (name, value) in &request.headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                assert!(!value.contains("client-secret"), "{name}: {value}");
                let brought = brought.iter().any(|(brought, _)| *brought == name.as_str());
                assert!(!brought || name == header, "{name} was handed on");
            }
        }
        Err((status, message)) => {
            assert_eq!(answer.status, status, "{}", answer.text());
            assert_eq!(answer.json()["error"]["message"], message);
            assert_eq!(upstream.requests().len(), 0);
        }
    }
}

#[tokio::test]
async fn keys_are_taken_from_requests() {
    for (kind, header) in KINDS {
        let prefix = if kind == CredentialKind::Bearer {
            "Bearer "
        } else {
            ""
        };
        let own_value = format!("{prefix}own");
        let configured = format!("{prefix}configured");
        for fallback in [true, false] {
            let declared = Credential {
                brought: own("x-team-key", fallback),
                ..credential(
                    "default/key",
                    Scheme::Header(kind),
                    Source::Key(Secret::new("configured")),
                )
            };
            let missing = Err((401, "missing upstream credential"));
            let otherwise = if fallback {
                Ok(configured.as_str())
            } else {
                missing
            };
            check(&declared, &[("x-team-key", " own ")], header, Ok(&own_value)).await;
            check(&declared, &[], header, otherwise).await;
            check(&declared, &[("x-team-key", "  ")], header, otherwise).await;
        }
        let alone = Credential {
            source: None,
            brought: own("x-team-key", false),
            ..credential(
                "default/key",
                Scheme::Header(kind),
                Source::Key(Secret::new("unused")),
            )
        };
        check(&alone, &[("x-team-key", "own")], header, Ok(&own_value)).await;
    }
}

#[tokio::test]
async fn a_part_of_a_key_of_aws_is_never_made_whole() {
    let names = ["t-access-key-id", "t-secret-access-key", "t-session-token"];
    let configured = Key::bedrock("AKIDCONFIGURED", "configured", REGION);
    let declared = Credential {
        brought: Some(Brought {
            place: Place::Headers(names.map(HeaderName::from_static)),
            fallback: true,
        }),
        ..aws("default/aws", AwsBase::Keys(keys(&configured)), None)
    };
    let partial = Err((401, "incomplete upstream credential"));
    check(
        &declared,
        &[("t-access-key-id", "AKIDOWN")],
        "authorization",
        partial,
    )
    .await;
    check(&declared, &[("t-session-token", "t")], "authorization", partial).await;
    let upstream = upstream().await;
    let to = to(&provider::BedrockClaude, upstream.address()).with(declared);
    let served = serve([to]).await;
    let mine = Key {
        session: Some("own-session".to_owned()),
        ..Key::bedrock("AKIDOWN", "own/secret", REGION)
    };
    let brought = [
        (names[0], "AKIDOWN"),
        (names[1], "own/secret"),
        (names[2], "own-session"),
    ];
    let request = fixture::messages::request(MODEL, false);
    for (headers, key) in [(&brought[..], mine), (&[], configured)] {
        let answer = client::post(served.address, MESSAGES, headers, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let requests = upstream.requests();
        let request = requests.last().expect("it was called");
        assert_eq!(key.check(request, std::time::SystemTime::now()), Ok(()));
        assert!(names.iter().all(|name| !request.headers.contains_key(*name)));
    }
}

/// What one backend calls a credential is a secret to every other.
#[tokio::test]
async fn what_is_brought_for_one_backend_reaches_no_other() {
    let failing = Upstream::start(Reply::json(500, &fixture::messages::error("api_error", "down"))).await;
    let other = upstream().await;
    let declared = Credential {
        brought: own("x-team-key", true),
        ..credential(
            "default/key",
            Scheme::Header(CredentialKind::XApiKey),
            Source::Key(Secret::new("configured")),
        )
    };
    let first: To = messages(&failing).with(declared);
    let served = serve([first, messages(&other).after()]).await;
    let request = fixture::messages::request(MODEL, false);
    let headers = [("x-team-key", "own")];
    let answer = client::post(served.address, MESSAGES, &headers, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(failing.requests()[0].header("x-api-key"), "own");
    let request = &other.requests()[0];
    assert!(!request.headers.contains_key("x-team-key"));
    assert_eq!(request.header("x-api-key"), crate::fixture::KEY);
}
