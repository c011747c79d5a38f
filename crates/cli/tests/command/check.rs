//! What the command says of configurations without running them.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{finish, tollgate};

/// Every example is sound, and says so.
#[test]
fn examples_resolve_without_a_word() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"));
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    names.sort();
    assert!(names.len() >= 5, "{names:?}");
    let folder = certificates();
    let folder = [("TLS_FOLDER", folder.path().to_str().unwrap())];
    let variables = [EXAMPLES, &folder].concat();
    for path in names {
        let arguments = ["check", path.to_str().unwrap()];
        let (code, out, err) = finish(tollgate(&arguments, &variables), "");
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(!out.contains(" error") && !out.contains("warning"), "{out}");
    }
}

/// Returns a folder with the certificates that examples name.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["partners", "research", "server", "support"] {
        let pair = rcgen::generate_simple_self_signed([format!("{name}.example.com")]).unwrap();
        fs::write(folder.path().join(format!("{name}.crt")), pair.cert.pem()).unwrap();
        let key = pair.signing_key.serialize_pem();
        fs::write(folder.path().join(format!("{name}.key")), key).unwrap();
    }
    folder
}

#[test]
fn the_environment_becomes_configuration() {
    let check = |name: &str, variables: &[(&str, &str)]| {
        let (code, out, err) = finish(tollgate(&["config"], variables), "");
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(!out.contains("very-secret"), "{out}");
        insta::assert_snapshot!(name, out);
        let (code, out, err) = finish(tollgate(&["check", "-"], variables), &out);
        assert_eq!(code, 0, "{out}{err}");
    };
    let key = "very-secret";
    check("simulated", &[]);
    check("openai", &[("OPENAI_API_KEY", key)]);
    check("anthropic", &[("ANTHROPIC_API_KEY", key)]);
    check("both", &[("OPENAI_API_KEY", key), ("ANTHROPIC_API_KEY", key)]);
    check(
        "local",
        &[
            ("OPENAI_API_KEY", "unused"),
            ("OPENAI_BASE_URL", "http://127.0.0.1:8321/v1/openai/v1"),
        ],
    );
    check(
        "account",
        &[
            ("OPENAI_API_KEY", key),
            ("OPENAI_BASE_URL", "https://openrouter.ai:8443/api/v1"),
            ("OPENAI_ORG_ID", "org-1"),
            ("OPENAI_PROJECT_ID", "project-1"),
        ],
    );
    check(
        "azure",
        &[
            ("AZURE_OPENAI_API_KEY", key),
            ("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/"),
            ("OPENAI_API_VERSION", "2025-01-01-preview"),
            ("OPENAI_ORG_ID", "org-1"),
        ],
    );
    check("gemini", &[("GEMINI_API_KEY", key)]);
    check(
        "clouds",
        &[
            ("AWS_REGION", "eu-west-3"),
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", key),
            ("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/"),
            ("OPENAI_API_VERSION", "2025-01-01-preview"),
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_CLIENT_SECRET", key),
            ("GOOGLE_CLOUD_PROJECT", "p"),
            ("GOOGLE_CLOUD_LOCATION", "global"),
        ],
    );
    check(
        "bedrock",
        &[
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_BEARER_TOKEN_BEDROCK", key),
        ],
    );
    check(
        "several",
        &[
            ("GROQ_API_KEY", key),
            ("MISTRAL_API_KEY", key),
            ("MISTRAL_BASE_URL", "https://mistral.internal/v1"),
            ("OPENROUTER_API_KEY", key),
            ("OLLAMA_BASE_URL", "http://localhost:11434"),
        ],
    );
}

/// A route has no more than fifteen rules, and every provider that is found has its own.
#[test]
fn every_provider_at_once_is_sound() {
    let (_, page, _) = finish(tollgate(&["config"], &every()), "");
    let (code, out, err) = finish(tollgate(&["check", "-"], &every()), &page);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(!out.contains(" error") && !out.contains("warning"), "{out}");
    assert!(page.matches("kind: AIGatewayRoute").count() > 1, "{page}");
}

fn every() -> Vec<(&'static str, &'static str)> {
    let presets = llm::provider::PROVIDERS
        .iter()
        .filter_map(|provider| provider.preset());
    let presets = presets.filter(|preset| preset.version.is_none());
    presets
        .flat_map(|preset| [(preset.key, "k"), (preset.base, preset.url)])
        .collect()
}

#[test]
fn the_report_has_a_row_for_every_resource() {
    let (_, simulated, _) = finish(tollgate(&["config"], &[]), "");
    let (code, out, err) = finish(tollgate(&["check", "-"], &[]), &simulated);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out.lines().next(),
        Some("KIND              NAME                         STATE  DECLARED")
    );
    assert_eq!(
        out.lines().count(),
        1 + simulated.matches("kind: ").count() - REFERENCES,
        "{out}"
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let (_, simulated, _) = finish(tollgate(&["config"], &[]), "");
    let check = |text: &str, said: &[&str]| {
        let (code, out, err) = finish(tollgate(&["check", "-"], &[]), text);
        assert_eq!(code, 1, "{out}{err}");
        for part in said {
            assert!(out.contains(part) || err.contains(part), "{part}: {out}{err}");
        }
    };
    check(
        &simulated.replace("backendRefs", "backendReefs"),
        &["stdin:", ": error: ", "backendReefs"],
    );
    let broken = simulated.replace("- name: simulated-openai", "- name: nothing");
    let line = broken.lines().position(|line| line.contains("- name: nothing"));
    let place = format!("stdin:{}:", line.unwrap() + 1);
    check(&broken, &["error", "nothing", &place]);
    check("kind: [", &["stdin:", "error"]);
    let (code, out, _) = finish(
        tollgate(&["check", "-", "--output", "json"], &[]),
        &simulated.replace("backendRefs", "backendReefs"),
    );
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 1);
    assert_eq!(report["faults"][0]["severity"], "error", "{report}");
    assert!(
        report["resources"]
            .as_array()
            .is_some_and(|resources| resources.len() > 3),
        "{report}"
    );
}

#[test]
fn a_request_is_explained() {
    let check = |question: &str, code: i32, said: &[&str]| {
        let result = finish(tollgate(&["check", "--explain", question], KEYS), "");
        assert_eq!(result.0, code, "{question}: {result:?}");
        for part in said {
            assert!(
                result.1.contains(part) || result.2.contains(part),
                "{question}: {part}: {result:?}"
            );
        }
    };
    check(
        r#"{"model":"claude-x"}"#,
        0,
        &[
            "default/tollgate rule 0",
            "translated to messages",
            "https://api.anthropic.com:443/v1/messages",
            "matches too, but comes later",
        ],
    );
    check(
        r#"{"model":"gpt-x","path":"/v1/chat/completions?a=b","port":1975}"#,
        0,
        &["relayed", "https://api.openai.com:443/v1/chat/completions"],
    );
    check(
        r#"{"path":"/anthropic/v1/messages","model":"claude-x","gateway":"default/tollgate"}"#,
        0,
        &["relayed"],
    );
    check(r#"{"path":"/v1/models"}"#, 0, &["the gateway lists"]);
    check(r#"{"path":"/v2/chat"}"#, 1, &["404"]);
    check(r#"{"port":80}"#, 1, &["no listener fits"]);
    check(r#"{"gateway":"other"}"#, 1, &["no listener fits"]);
    check(r#"{"modle":"x"}"#, 1, &["unknown field `modle`"]);
    check(
        r#"{"headers":{"x-ai-eg-model":"x"}}"#,
        1,
        &["cannot be set by clients"],
    );
    // What clients find below a prefix is looked for there.
    let prefixed = |question: &str, code: i32, said: &str| {
        let arguments = [
            "check",
            "--root-prefix",
            "/ai",
            "--endpoint-prefixes",
            "anthropic:/claude",
            "--explain",
            question,
        ];
        let result = finish(tollgate(&arguments, KEYS), "");
        assert_eq!(result.0, code, "{question}: {result:?}");
        assert!(result.1.contains(said), "{question}: {result:?}");
    };
    prefixed(r#"{"model":"claude-x"}"#, 0, "translated to messages");
    prefixed(
        r#"{"path":"/ai/claude/v1/messages","model":"claude-x"}"#,
        0,
        "relayed",
    );
    prefixed(r#"{"path":"/v1/chat/completions","model":"claude-x"}"#, 1, "404");
    let question = r#"{"model":"claude-x"}"#;
    let (_, out, _) = finish(
        tollgate(&["check", "--output", "json", "--explain", question], KEYS),
        "",
    );
    let explained: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        explained["ports"][0]["chosen"]["backends"][0]["provider"], "anthropic",
        "{explained}"
    );
}

/// The more specific policy goes before the less specific one, which is named all the same.
#[test]
fn policies_are_named_in_their_order() {
    let policy = |kind: &str, name: &str, target: &str, says: &str| {
        format!(
            "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  \
             targetRefs: [{{group: gateway.networking.k8s.io, {target}}}]\n  {says}\n"
        )
    };
    let (gateway, route, rule) = (
        "kind: Gateway, name: edge",
        "kind: HTTPRoute, name: site",
        "kind: HTTPRoute, name: site, sectionName: one",
    );
    let retry = |times: u8, merge: &str| format!("retry: {{numRetries: {times}}}\n  {merge}");
    let cors = "cors: {allowOrigins: ['*']}";
    let yaml = [
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {gatewayClassName: x, \
         listeners: [{name: http, protocol: HTTP, port: 80}]}\n---\napiVersion: \
         gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: site}\nspec: {parentRefs: [{name: edge}], rules: \
         [{name: one, filters: [{type: RequestRedirect, requestRedirect: {hostname: other}}]}]}\n"
            .to_owned(),
        policy("SecurityPolicy", "pages", route, cors),
        policy("SecurityPolicy", "everywhere", gateway, cors),
        policy(
            "BackendTrafficPolicy",
            "one",
            rule,
            &retry(1, "mergeType: StrategicMerge"),
        ),
        policy("BackendTrafficPolicy", "site", route, &retry(2, "")),
        policy("BackendTrafficPolicy", "edge", gateway, &retry(3, "")),
    ]
    .concat();
    let question = r#"{"path":"/"}"#;
    let (code, out, err) = finish(tollgate(&["check", "-", "--explain", question], &[]), &yaml);
    assert_eq!(code, 0, "{out}{err}");
    let named: Vec<&str> = out.lines().filter(|line| line.contains("Policy ")).collect();
    assert_eq!(
        named,
        [
            "  SecurityPolicy default/pages, of route default/site: holds",
            "  SecurityPolicy default/everywhere, of Gateway default/edge: replaced by the one before it",
            "  BackendTrafficPolicy default/one, of rule one of route default/site: holds",
            "  BackendTrafficPolicy default/site, of route default/site: holds where the one before it says nothing",
            "  BackendTrafficPolicy default/edge, of Gateway default/edge: replaced by the one before it",
        ],
        "{out}{err}"
    );
    let arguments = ["check", "-", "--output", "json", "--explain", question];
    let (_, out, _) = finish(tollgate(&arguments, &[]), &yaml);
    let explained: Value = serde_json::from_str(&out).unwrap();
    let policies = &explained["ports"][0]["policies"];
    assert_eq!(policies.as_array().map(Vec::len), Some(5), "{explained}");
    assert_eq!(policies[0]["effect"], "holds", "{explained}");
}

#[test]
fn data_is_printed_for_machines() {
    let (code, out, _) = finish(tollgate(&["schema"], &[]), "");
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert!(
        code == 0 && schema["$defs"]["AIGatewayRoute"].is_object(),
        "{schema}"
    );
    let version = format!("tollgate {}\n", env!("CARGO_PKG_VERSION"));
    for arguments in [["version"], ["--version"]] {
        assert_eq!(
            finish(tollgate(&arguments, &[]), ""),
            (0, version.clone(), String::new())
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = finish(tollgate(&["completions", shell], &[]), "");
        assert!(code == 0 && out.contains("healthcheck"), "{shell}");
    }
    let (code, out, _) = finish(tollgate(&["--help"], &[]), "");
    assert!(code == 0 && out.contains("Run the gateway"), "{out}");
}

/// Keys for examples and routes; nothing is called with them.
/// What the examples take from the environment.
const EXAMPLES: &[(&str, &str)] = &[
    ("OPENAI_API_KEY", "k"),
    ("ANTHROPIC_API_KEY", "k"),
    ("GROQ_API_KEY", "k"),
    ("AZURE_OPENAI_API_KEY", "k"),
    ("AZURE_OPENAI_RESOURCE", "mine"),
    ("ALICE_KEY", "a"),
    ("BOB_KEY", "b"),
    ("CLIENT_KEY", "c"),
    ("AWS_ACCESS_KEY_ID", "k"),
    ("AWS_BEARER_TOKEN_BEDROCK", "k"),
    ("AWS_SECRET_ACCESS_KEY", "k"),
    ("AZURE_TENANT_ID", "t"),
    ("AZURE_CLIENT_ID", "c"),
    ("AZURE_CLIENT_SECRET", "k"),
    ("GOOGLE_CLOUD_PROJECT", "p"),
    ("OIDC_CLIENT_SECRET", "k"),
];

const KEYS: &[(&str, &str)] = &[("OPENAI_API_KEY", "k"), ("ANTHROPIC_API_KEY", "k")];

/// How often the simulated configuration says `kind:` of something that it refers to.
const REFERENCES: usize = 3;
