//! Credentials in the real process: where its environment holds them, what becomes of edits, and that nothing of
//! them is ever said.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use testkit::{Received, Reply, Script, Upstream, aws::Key, client, fixture, issuer};

use crate::process::Gateway;

const MESSAGES: &str = "/anthropic/v1/messages";
const REGION: &str = "eu-west-3";

/// Returns the frame of a configuration whose models are named like their backends.
fn frame(models: &[&str]) -> String {
    let rules = models.iter().map(|model| {
        format!(
            "    - matches: [{{headers: [{{name: x-ai-eg-model, value: {model}}}]}}]
      backendRefs: [{{name: {model}}}]\n"
        )
    });
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec: {{gatewayClassName: tollgate, listeners: [{{name: http, protocol: HTTP, port: 1975}}]}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: chat}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
{}",
        rules.collect::<String>()
    )
}

/// Returns a backend at `address`, and the policy that says `credential` of it.
fn backend(name: &str, schema: &str, address: SocketAddr, credential: &str) -> String {
    format!(
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{name: {name}}}
spec: {{schema: {{name: {schema}}}, backendRef: {{group: gateway.envoyproxy.io, kind: Backend, name: {name}}}}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: {name}}}
spec: {{endpoints: [{{ip: {{address: {}, port: {}}}}}]}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: {name}}}]
{credential}",
        address.ip(),
        address.port()
    )
}

fn secret(name: &str, key: &str, value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{{key}: {value:?}}}\n"
    )
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Returns a Bedrock that knows `key`.
async fn bedrock(key: &Key) -> Upstream {
    let key = key.clone();
    Upstream::start(Script::answer(move |request| {
        key.guard(request, SystemTime::now(), || {
            Reply::json(200, &fixture::messages::response("claude"))
        })
    }))
    .await
}

/// Asks Bedrock through a process with `variables` and no declared credential.
async fn check(key: &Key, variables: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let upstream = bedrock(key).await;
    let chain = format!("  type: AWSCredentials\n  awsCredentials: {{region: {REGION}}}\n");
    let config = frame(&["m"]) + &backend("m", "AWSAnthropic", upstream.address(), &chain);
    let config = written(folder.path(), "config.yaml", &config);
    let gateway = Gateway::start(&[&config], variables);
    let request = fixture::messages::request("m", false);
    let answer = client::post(gateway.address, MESSAGES, &[], &request).await;
    assert_eq!(answer.status, 200, "{variables:?}: {}", answer.text());
}

/// The chain that AWS's tools share: variables, profiles, web identity, containers, machines.
#[tokio::test]
async fn awss_credentials_are_found_where_its_tools_find_them() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Key::bedrock("AKIDPLAIN", "plain/secret", REGION);
    let given = Key {
        session: Some("given-session".to_owned()),
        ..Key::bedrock("ASIAGIVEN", "given/secret", REGION)
    };
    let off = ("AWS_EC2_METADATA_DISABLED", "true");
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIDPLAIN"),
        ("AWS_SECRET_ACCESS_KEY", "plain/secret"),
    ];
    check(&plain, &keys).await;

    let text = "[work]\naws_access_key_id = AKIDPLAIN\naws_secret_access_key = plain/secret\n";
    let file = written(folder.path(), "credentials", text);
    check(
        &plain,
        &[
            ("AWS_SHARED_CREDENTIALS_FILE", &file),
            ("AWS_PROFILE", "work"),
            off,
        ],
    )
    .await;

    let answered = given.clone();
    let sts = Upstream::start(Script::answer(move |request| {
        let form = issuer::form(request).unwrap_or_default();
        match form.get("WebIdentityToken").map(String::as_str) {
            Some("projected") => issuer::sts(request, &answered),
            _ => issuer::refused(400, "InvalidIdentityToken"),
        }
    }))
    .await;
    let token = written(folder.path(), "token", "projected");
    let sts = format!("http://{}", sts.address());
    let web = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ENDPOINT_URL_STS", sts.as_str()),
        off,
    ];
    check(&given, &web).await;

    let answered = given.clone();
    let agent = Upstream::start(Script::answer(move |request| {
        let asked = (request.target.as_str(), request.header("authorization"));
        match asked {
            ("/v1/credentials", "projected") => issuer::keys(&answered),
            _ => issuer::refused(400, "AccessDenied"),
        }
    }))
    .await;
    let uri = format!("http://{}/v1/credentials", agent.address());
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.as_str()),
        off,
    ];
    check(&given, &container).await;

    let answered = given.clone();
    let machine = Upstream::start(Script::answer(move |request| {
        let token = request.header("x-aws-ec2-metadata-token");
        match (request.method.as_str(), request.target.as_str()) {
            ("PUT", "/latest/api/token") => Reply::whole(
                200,
                &[("x-aws-ec2-metadata-token-ttl-seconds", "21600")],
                "machine-token",
            ),
            ("GET", path) if token == "machine-token" => {
                let path = path.trim_end_matches('/');
                if path.ends_with("security-credentials") {
                    Reply::whole(200, &[], "gateway")
                } else if path.ends_with("security-credentials/gateway") {
                    issuer::keys(&answered)
                } else {
                    Reply::whole(404, &[], "")
                }
            }
            _ => Reply::whole(401, &[], ""),
        }
    }))
    .await;
    let machine = format!("http://{}", machine.address());
    check(&given, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &machine)]).await;
}

/// An edit of a Secret, and of a file that a Secret names, is used without a request that fails.
#[tokio::test]
async fn edited_secrets_are_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(Reply::json(200, &fixture::messages::response("claude"))).await;
    let key = written(folder.path(), "key", "first\n");
    let policy = "  type: AnthropicAPIKey\n  anthropicAPIKey: {secretRef: {name: key}}\n";
    let named = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: key\n  annotations: \
         {{substitution.aigw.run/file/apiKey: {key}}}\nstringData: {{apiKey: none}}\n"
    );
    let config = frame(&["m"]) + &backend("m", "Anthropic", upstream.address(), policy) + &named;
    let config = written(folder.path(), "config.yaml", &config);
    let mut gateway = Gateway::start(&[&config], &[]);
    let request = fixture::messages::request("m", false);
    for (edit, expected) in [(None, "first"), (Some("second"), "second")] {
        if let Some(edit) = edit {
            fs::write(&key, edit).unwrap();
            gateway.hear("configuration reloaded");
        }
        let answer = client::post(gateway.address, MESSAGES, &[], &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let requests = upstream.requests();
        assert_eq!(requests.last().unwrap().header("x-api-key"), expected);
    }
}

/// Every secret that a process may know, each with a mark of its own.
const MARKS: [&str; 12] = [
    "mark-api-key",
    "mark-aws-secret",
    "mark-aws-session",
    "mark-azure-secret",
    "mark-azure-token",
    "mark-echoed",
    "mark-own-secret",
    "mark-own-token",
    "mark-google-token",
    "mark-client",
    "mark-brought",
    "mark-profile",
];

/// Returns the marks in `text`.
fn marks(text: &str) -> Vec<&'static str> {
    MARKS.into_iter().filter(|mark| text.contains(mark)).collect()
}

fn shown(request: &Received) -> String {
    format!("{request:?}")
}

/// Logs at their most talkative, records, metrics, the admin port, errors and every upstream are searched for
/// secrets that are not theirs.
#[tokio::test]
async fn secrets_are_said_to_nobody_but_those_they_are_for() {
    let folder = tempfile::tempdir().unwrap();
    let answering = || Upstream::start(Reply::json(200, &fixture::messages::response("claude")));
    let (keyed, signed, entra, google) = (
        answering().await,
        answering().await,
        answering().await,
        answering().await,
    );
    // Issues what is asked for; what it refuses it repeats.
    let issuer = Upstream::start(Script::answer(|request| match request.target.as_str() {
        "/good/oauth2/v2.0/token" => issuer::issued("mark-azure-token", 3600),
        "/own/token" => issuer::issued("mark-own-token", 3600),
        "/google" => issuer::issued("mark-google-token", 3600),
        _ => {
            let body = String::from_utf8_lossy(&request.body);
            issuer::refused(400, &format!("mark-echoed {body}"))
        }
    }))
    .await;
    let at = format!("http://{}", issuer.address());
    let azure = |tenant: &str| {
        format!(
            "  type: AzureCredentials\n  azureCredentials: {{tenantID: {tenant}, clientID: c, authority: \"{at}\", \
             clientSecretRef: {{name: azure}}}}\n"
        )
    };
    let file = written(
        folder.path(),
        "google.json",
        &serde_json::json!({ "type": "authorized_user", "client_id": "c", "client_secret": "mark-own-secret",
            "refresh_token": "mark-own-secret", "token_uri": format!("{at}/google") })
        .to_string(),
    );
    let config = [
        frame(&["keyed", "signed", "entra", "broken", "google"]),
        backend(
            "keyed",
            "Anthropic",
            keyed.address(),
            "  type: AnthropicAPIKey\n  anthropicAPIKey: {secretRef: {name: key}}\n  credentialOverride: \
             {fromRequestHeaders: {header: x-team-key}}\n",
        ),
        backend(
            "signed",
            "AWSAnthropic",
            signed.address(),
            "  type: AWSCredentials\n  awsCredentials: {region: r, credentialsFile: {secretRef: {name: aws}}}\n",
        ),
        backend("entra", "Anthropic", entra.address(), &azure("good")),
        backend("broken", "Anthropic", entra.address(), &azure("bad")),
        backend(
            "google",
            "Anthropic",
            google.address(),
            "  type: GCPCredentials\n  gcpCredentials: {projectName: p, region: r}\n",
        ),
        secret("key", "apiKey", "mark-api-key"),
        secret("azure", "client-secret", "mark-azure-secret"),
        secret(
            "aws",
            "credentials",
            "[default]\naws_access_key_id = AKID\naws_secret_access_key = mark-aws-secret\naws_session_token = \
             mark-aws-session\n[other]\naws_secret_access_key = mark-profile\n",
        ),
    ]
    .concat();
    let config = written(folder.path(), "config.yaml", &config);
    let records = folder.path().join("records");
    let output = fs::File::create(&records).unwrap();
    let arguments = ["--log-level", "trace", "--access-log", "json", &config];
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", file.as_str())];
    let mut gateway = Gateway::start_to(output.into(), &arguments, &variables);

    let headers = [
        ("authorization", "Bearer mark-client"),
        ("x-api-key", "mark-client"),
        ("cookie", "a=mark-client"),
    ];
    let brought = [&headers[..], &[("x-team-key", "mark-brought")]].concat();
    let mut said = Vec::new();
    for (model, headers, status) in [
        ("keyed", &headers[..], 200),
        ("keyed", &brought, 200),
        ("signed", &brought, 200),
        ("entra", &brought, 200),
        ("google", &brought, 200),
        ("broken", &brought, 503),
        ("unknown", &brought, 404),
    ] {
        let request = fixture::messages::request(model, false);
        let answer = client::post(gateway.address, MESSAGES, headers, &request).await;
        assert_eq!(answer.status, status, "{model}: {}", answer.text());
        said.push(format!("{:?} {}", answer.headers, answer.text()));
    }
    for path in ["/health", "/ready", "/metrics", "/config"] {
        said.push(client::get(gateway.admin, path, &[]).await.text());
    }
    gateway.hear("credential cannot be had");
    gateway.signal("TERM");
    gateway.ended();
    said.extend(gateway.rest());
    said.push(fs::read_to_string(&records).unwrap());
    assert!(
        said.iter().any(|text| text.contains("DEBUG")),
        "the log is talkative"
    );
    assert!(
        said.iter().any(|text| text.contains("\"gen_ai.request.model\"")),
        "there are records"
    );
    for text in &said {
        assert_eq!(marks(text), Vec::<&str>::new(), "{text}");
    }
    let check = |upstream: &Upstream, expected: &[&[&str]]| {
        let requests = upstream.requests();
        let found: Vec<_> = requests.iter().map(|request| marks(&shown(request))).collect();
        assert_eq!(found, expected);
    };
    check(&keyed, &[&["mark-api-key"], &["mark-brought"]]);
    check(&signed, &[&["mark-aws-session"]]);
    check(&entra, &[&["mark-azure-token"]]);
    check(&google, &[&["mark-google-token"]]);
}

/// A token that is slow to come does not keep the process from serving what needs none.
#[tokio::test]
async fn an_issuer_that_is_silent_delays_only_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(Reply::json(200, &fixture::messages::response("claude"))).await;
    let issuer = Upstream::start(Reply::new().stall()).await;
    let azure = format!(
        "  type: AzureCredentials\n  azureCredentials: {{tenantID: t, clientID: c, authority: \"http://{}\", \
         clientSecretRef: {{name: azure}}}}\n",
        issuer.address()
    );
    let key = "  type: AnthropicAPIKey\n  anthropicAPIKey: {secretRef: {name: key}}\n";
    let config = frame(&["slow", "fast"])
        + &backend("slow", "Anthropic", upstream.address(), &azure)
        + &backend("fast", "Anthropic", upstream.address(), key)
        + &secret("azure", "client-secret", "s")
        + &secret("key", "apiKey", "k");
    let config = written(folder.path(), "config.yaml", &config);
    let gateway = Gateway::start(&[&config], &[]);
    let (slow, fast) = (
        fixture::messages::request("slow", false),
        fixture::messages::request("fast", false),
    );
    let slow = client::post(gateway.address, MESSAGES, &[], &slow);
    let fast = async {
        issuer.received(1).await;
        client::post(gateway.address, MESSAGES, &[], &fast).await
    };
    tokio::select! {
        biased;
        answer = fast => assert_eq!(answer.status, 200, "{}", answer.text()),
        answer = slow => panic!("the slow one came first: {}", answer.text()),
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("nothing came"),
    }
}
