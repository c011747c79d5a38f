//! Calls that carry a token, and those who issue it.

use std::{path::Path, sync::Arc};

use config::{
    Secret,
    credential::{Application, Azure, AzureProof, Gcp, Oidc, Source, Token},
    snapshot::Timeouts,
};
use gateway::Options;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, PublicKeyData};
use serde_json::json;
use testkit::{Gate, Reply, Script, Upstream, client, fixture, issuer};

use super::{CLIENTS, bearer};
use crate::fixture::{CHAT, MODEL, Served, openai, options, serve_with};

const SCOPE: &str = "https://cognitiveservices.azure.com/.default";

/// Returns a gateway in front of `upstream` whose token comes from `source`.
pub(super) async fn serve(upstream: &Upstream, source: Source, variables: &[(&str, String)]) -> Served {
    let variables = variables.iter();
    let options = Options {
        variables: variables
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        ..options()
    };
    let to = openai(upstream).with(bearer("default/token", source));
    serve_with(options, Timeouts::default(), [to]).await
}

pub(super) async fn ask(served: &Served) -> client::Answer {
    let request = fixture::openai::request(MODEL, false);
    client::post(served.address, CHAT, &CLIENTS, &request).await
}

pub(super) async fn upstream() -> Upstream {
    Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await
}

/// Asks three times, and expects the upstream to be given `token` and the issuer to be asked `calls` times.
async fn check(source: Source, variables: &[(&str, String)], issuer: &Upstream, token: &str, calls: usize) {
    let upstream = upstream().await;
    let served = serve(&upstream, source, variables).await;
    for _ in 0..3 {
        let answer = ask(&served).await;
        assert_eq!(answer.status, 200, "{}: {:?}", answer.text(), issuer.requests());
    }
    for request in upstream.requests() {
        assert_eq!(request.header("authorization"), format!("Bearer {token}"));
        for (name, value) in &request.headers {
            assert!(
                !String::from_utf8_lossy(value.as_bytes()).contains("client-secret"),
                "{name}"
            );
        }
    }
    assert_eq!(issuer.requests().len(), calls, "{:?}", issuer.requests());
    let labels = ["credential=\"default/token\"", "result=\"success\""];
    served
        .metric_reaches("tollgate_credential_refreshes_total", &labels, 1.0)
        .await;
}

fn application(issuer: &Upstream) -> Application {
    Application {
        authority: format!("http://{}", issuer.address()),
        tenant: "tenant".to_owned(),
        client: "client".to_owned(),
    }
}

pub(super) fn azure(proof: AzureProof) -> Source {
    Source::Azure(Azure {
        scope: SCOPE.to_owned(),
        proof,
    })
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("the file is written");
    file
}

fn name(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn rsa() -> KeyPair {
    KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key")
}

#[tokio::test]
async fn entra_takes_a_clients_secret() {
    let issuer = Upstream::start(Script::answer(|request| {
        let wanted = [
            ("grant_type", "client_credentials"),
            ("client_id", "client"),
            ("client_secret", "s3cr3t&="),
            ("scope", SCOPE),
        ];
        match request.target.as_str() {
            "/tenant/oauth2/v2.0/token" => issuer::exchange(request, &wanted, "entra-1", 3600),
            _ => issuer::refused(404, "not_found"),
        }
    }))
    .await;
    let proof = AzureProof::Secret(application(&issuer), Secret::new("s3cr3t&="));
    check(azure(proof), &[], &issuer, "entra-1", 1).await;
}

#[tokio::test]
async fn entra_takes_a_certificate() {
    let pair = Arc::new(rsa());
    let certificate = CertificateParams::new(vec!["gateway".to_owned()])
        .and_then(|params| params.self_signed(&*pair))
        .expect("a certificate");
    let known = Arc::clone(&pair);
    let issuer = Upstream::start(Script::answer(move |request| {
        let form = issuer::form(request).unwrap_or_default();
        let assertion = form
            .get("client_assertion")
            .map(String::as_str)
            .unwrap_or_default();
        let Ok((header, claims)) = issuer::statement(assertion, &known.subject_public_key_info()) else {
            return issuer::refused(401, "invalid_client");
        };
        let host = request.header("host");
        let sound = header["alg"] == "RS256"
            && header["x5t#S256"].as_str().is_some_and(|print| print.len() == 43)
            && claims["aud"] == format!("http://{host}/tenant/oauth2/v2.0/token")
            && (claims["iss"].as_str(), claims["sub"].as_str()) == (Some("client"), Some("client"))
            && claims["jti"].is_string();
        if sound {
            issuer::issued("entra-2", 3600)
        } else {
            issuer::refused(401, "invalid_client")
        }
    }))
    .await;
    let proof = AzureProof::Certificate {
        application: application(&issuer),
        certificate: Secret::new(certificate.pem()),
        key: Secret::new(pair.serialize_pem()),
    };
    check(azure(proof), &[], &issuer, "entra-2", 1).await;
}

#[tokio::test]
async fn entra_takes_a_token_of_another_issuer() {
    let issuer = Upstream::start(Script::answer(|request| {
        let host = request.header("host").to_owned();
        match request.target.as_str() {
            "/own/.well-known/openid-configuration" => Reply::json(
                200,
                &json!({ "issuer": format!("http://{host}/own"), "token_endpoint": format!("http://{host}/own/token"),
                         "scopes_supported": ["everything"] }),
            ),
            "/own/token" => issuer::exchange(
                request,
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", "gateway"),
                    ("client_secret", "own-secret"),
                    ("scope", "one two"),
                    ("audience", "api://AzureADTokenExchange"),
                ],
                "own.token",
                600,
            ),
            _ => issuer::exchange(
                request,
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", "client"),
                    ("client_assertion", "own.token"),
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    ("scope", SCOPE),
                ],
                "entra-3",
                3600,
            ),
        }
    }))
    .await;
    let token = Token::Oidc(Box::new(Oidc {
        issuer: format!("http://{}/own", issuer.address()),
        endpoint: None,
        client: "gateway".to_owned(),
        secret: Secret::new("own-secret"),
        scopes: vec!["one".to_owned(), "two".to_owned()],
        resource: None,
        audience: Some("api://AzureADTokenExchange".to_owned()),
    }));
    let proof = AzureProof::Assertion(application(&issuer), token);
    check(azure(proof), &[], &issuer, "entra-3", 3).await;
}

#[tokio::test]
async fn azures_machines_have_tokens() {
    let issuer = Upstream::start(Script::answer(|request| {
        let (path, query) = request.target.split_once('?').unwrap_or_default();
        let query = issuer::fields(query);
        let resource = query.get("resource").map(String::as_str);
        let sound = resource == Some("https://cognitiveservices.azure.com")
            && query.get("client_id").is_some_and(|client| client == "mine");
        match (
            path,
            request.header("metadata"),
            request.header("x-identity-header"),
        ) {
            ("/metadata/identity/oauth2/token", "true", "") if sound => issuer::issued("machine", 86_400),
            ("/msi/token", "", "app-secret") if sound => issuer::issued("app-service", 86_400),
            _ => issuer::refused(400, "invalid_request"),
        }
    }))
    .await;
    let machine = || {
        azure(AzureProof::Machine {
            client: Some("mine".to_owned()),
        })
    };
    let base = format!("http://{}", issuer.address());
    let host = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", base.clone())];
    check(machine(), &host, &issuer, "machine", 1).await;
    let app = [
        ("IDENTITY_ENDPOINT", format!("{base}/msi/token")),
        ("IDENTITY_HEADER", "app-secret".to_owned()),
    ];
    check(machine(), &app, &issuer, "app-service", 2).await;
}

/// Returns a key file of Google and an issuer that knows it.
async fn google_key() -> (String, Upstream) {
    let pair = Arc::new(rsa());
    let known = Arc::clone(&pair);
    let issuer = Upstream::start(Script::answer(move |request| {
        let form = issuer::form(request).unwrap_or_default();
        let assertion = form.get("assertion").map(String::as_str).unwrap_or_default();
        let Ok((header, claims)) = issuer::statement(assertion, &known.subject_public_key_info()) else {
            return issuer::refused(400, "invalid_grant");
        };
        let granted = form.get("grant_type").map(String::as_str);
        let sound = granted == Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
            && header["kid"] == "k1"
            && claims["iss"] == "a@p.iam.gserviceaccount.com"
            && claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
            && claims["aud"] == format!("http://{}/token", request.header("host"));
        if sound {
            issuer::issued("google-1", 3599)
        } else {
            issuer::refused(400, "invalid_grant")
        }
    }))
    .await;
    let file = json!({
        "type": "service_account",
        "client_email": "a@p.iam.gserviceaccount.com",
        "private_key_id": "k1",
        "private_key": pair.serialize_pem(),
        "token_uri": format!("http://{}/token", issuer.address()),
    });
    (file.to_string(), issuer)
}

#[tokio::test]
async fn google_takes_a_key_file() {
    let (file, issuer) = google_key().await;
    check(
        Source::Gcp(Gcp::Key(Secret::new(file.as_str()))),
        &[],
        &issuer,
        "google-1",
        1,
    )
    .await;
    let path = written(&file);
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", name(path.path()))];
    check(Source::Gcp(Gcp::Default), &variables, &issuer, "google-1", 2).await;
}

#[tokio::test]
async fn googles_clusters_have_tokens() {
    let issuer = Upstream::start(Script::answer(|request| {
        let path = "/computeMetadata/v1/instance/service-accounts/default/token";
        if request.target == path && request.header("metadata-flavor") == "Google" {
            issuer::issued("metadata", 3599)
        } else {
            issuer::refused(403, "forbidden")
        }
    }))
    .await;
    let variables = [("GCE_METADATA_HOST", issuer.address().to_string())];
    check(Source::Gcp(Gcp::Default), &variables, &issuer, "metadata", 1).await;
}

#[tokio::test]
async fn google_exchanges_tokens_and_lends_accounts() {
    let issuer = Upstream::start(Script::answer(|request| {
        let scope = |name: &str| format!("https://www.googleapis.com/auth/{name}");
        let exchange = |scope: &str, token: &str| {
            let fields = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("audience", "//iam.googleapis.com/p"),
                ("scope", scope),
                (
                    "requested_token_type",
                    "urn:ietf:params:oauth:token-type:access_token",
                ),
                ("subject_token", "projected"),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ];
            issuer::exchange(request, &fields, token, 3600)
        };
        match request.target.as_str() {
            "/exchange" => exchange(&scope("cloud-platform"), "federated"),
            "/narrow" => exchange(&scope("iam"), "for-lending"),
            "/lend" if request.header("authorization") == "Bearer for-lending" => {
                assert_eq!(request.json(), json!({ "scope": [scope("cloud-platform")] }));
                Reply::json(
                    200,
                    &json!({ "accessToken": "lent", "expireTime": "2099-01-01T00:00:00Z" }),
                )
            }
            _ => issuer::refused(404, "not_found"),
        }
    }))
    .await;
    let file = written("projected");
    let federation = |path: &str, lend: Option<&str>| {
        let url = |path: &str| format!("http://{}/{path}", issuer.address());
        Source::Gcp(Gcp::Federation {
            audience: "//iam.googleapis.com/p".to_owned(),
            token: Token::File(name(file.path())),
            exchange: url(path),
            impersonation: lend.map(url),
        })
    };
    check(federation("exchange", None), &[], &issuer, "federated", 1).await;
    check(federation("narrow", Some("lend")), &[], &issuer, "lent", 3).await;
    let file = written(&json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/p",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("http://{}/exchange", issuer.address()),
        "credential_source": { "file": name(written(r#"{"t":"projected"}"#).into_temp_path().keep().expect("a file").as_path()),
                               "format": { "type": "json", "subject_token_field_name": "t" } },
    }).to_string());
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", name(file.path()))];
    check(Source::Gcp(Gcp::Default), &variables, &issuer, "federated", 4).await;
}

#[tokio::test]
async fn the_first_request_waits_for_the_first_token() {
    let gate = Gate::new();
    let body = json!({ "access_token": "late", "expires_in": 3600 }).to_string();
    let length = body.len().to_string();
    let slow = Reply::new()
        .wait(&gate)
        .head(200, &[("content-length", &length)])
        .raw(body);
    let issuer = Upstream::start(slow).await;
    let proof = AzureProof::Secret(application(&issuer), Secret::new("s"));
    let upstream = upstream().await;
    let served = serve(&upstream, azure(proof), &[]).await;
    let asked = ask(&served);
    let opened = async {
        issuer.received(1).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(asked, opened);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.requests()[0].header("authorization"), "Bearer late");
}

/// Whatever an issuer answers, the client is told without the secret, and the upstream is not called.
#[tokio::test]
async fn issuers_that_fail_are_told_without_secrets() {
    let wrong = json!({ "error": "invalid_client", "error_description": "wrong secret: s3cr3t" });
    for reply in [
        Reply::json(401, &wrong),
        Reply::json(503, &json!({})),
        Reply::whole(200, &[], "s3cr3t"),
        Reply::json(200, &json!({ "access_token": "line\nbreak", "expires_in": 60 })),
        Reply::json(200, &json!({ "access_token": "dead", "expires_in": 0 })),
        Reply::json(302, &json!({})),
        Reply::new().reset(),
        Reply::new()
            .head(200, &[("content-length", "100")])
            .raw("{")
            .close(),
    ] {
        let issuer = Upstream::start(reply).await;
        let proof = AzureProof::Secret(application(&issuer), Secret::new("s3cr3t"));
        let upstream = upstream().await;
        let served = serve(&upstream, azure(proof), &[]).await;
        let answer = ask(&served).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "credential_unavailable");
        assert!(!answer.text().contains("s3cr3t"), "{}", answer.text());
        assert_eq!(upstream.requests().len(), 0);
    }
}
