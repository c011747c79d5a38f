//! The table against itself, and where its rows lie.

use std::collections::HashSet;

use super::*;

fn path(provider: &'static dyn Provider, site: &Site, format: Format, model: &str) -> String {
    let ask = Ask {
        operation: Operation::Chat,
        format,
        stream: false,
    };
    let target = Target {
        provider,
        site,
        model,
        now: 0,
    };
    provider.path(ask, &target)
}

#[test]
fn ids_and_hosts_are_told_apart() {
    let ids: HashSet<_> = PROVIDERS.iter().map(|provider| provider.id()).collect();
    assert_eq!(ids.len(), PROVIDERS.len());
    for provider in PROVIDERS {
        assert_eq!(by_id(provider.id()).map(Provider::id), Some(provider.id()));
        let format = provider.formats(Operation::Chat, "").first();
        let format = format.copied().expect("every row serves chat");
        if let Some(host) = provider.host() {
            let host = host.replace('*', "one");
            assert_eq!(find(format, &host).id(), provider.id());
            assert_eq!(find(format, &host.to_uppercase()).id(), provider.id());
        }
    }
    assert!(by_id("nobody").is_none());
}

#[test]
fn unknown_hosts_get_no_extras() {
    for host in [
        "",
        "models.example.com",
        "openrouter.ai.example.com",
        "notopenai.azure.com",
    ] {
        let found = find(Format::OpenAi, host);
        assert_eq!(found.id(), "openai-compatible", "{host}");
        assert_eq!(found.dialect(&Site::default()), Dialect::PLAIN);
    }
    assert_eq!(find(Format::Messages, "models.example.com").id(), "anthropic");
}

#[test]
fn paths_lie_where_the_provider_has_them() {
    let check = |provider: &'static dyn Provider, prefix: Option<&str>, wanted: &str| {
        let site = Site {
            prefix: prefix.map(str::to_owned),
            ..Site::default()
        };
        assert_eq!(path(provider, &site, Format::OpenAi, "m"), wanted);
    };
    check(&OpenAi, None, "/v1/chat/completions");
    check(&COMPATIBLE, None, "/v1/chat/completions");
    check(&COMPATIBLE, Some(""), "/chat/completions");
    check(&GROQ, None, "/openai/v1/chat/completions");
    check(&GROQ, Some("proxy/v1"), "/proxy/v1/chat/completions");
    check(&COHERE, None, "/compatibility/v1/chat/completions");
    check(&DEEPINFRA, None, "/v1/openai/chat/completions");
    check(&OPENROUTER, None, "/api/v1/chat/completions");
}

#[test]
fn azure_names_deployment_and_version() {
    let site = |version: Option<&str>| Site {
        prefix: Some("ignored".to_owned()),
        version: version.map(str::to_owned),
        ..Site::default()
    };
    let check = |format, model, version, wanted: &str| {
        assert_eq!(path(&Azure, &site(version), format, model), wanted);
    };
    check(
        Format::OpenAi,
        "gpt-4o",
        Some("2025-01-01-preview"),
        "/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01-preview",
    );
    check(
        Format::OpenAi,
        "a/b?c",
        Some("2024-10-21"),
        "/openai/deployments/a%2Fb%3Fc/chat/completions?api-version=2024-10-21",
    );
    check(
        Format::Responses,
        "gpt-4o",
        None,
        "/openai/responses?api-version=2025-04-01-preview",
    );
    let usage = |version| Azure.dialect(&site(version)).takes(Member::StreamOptions);
    let taken = [
        Some("2024-02-15-preview"),
        Some("2024-09-01-preview"),
        Some("2024-10-21"),
        None,
    ]
    .map(usage);
    assert_eq!(taken, [false, true, true, true]);
}

#[test]
fn presets_are_whole() {
    let mut keys = HashSet::new();
    for provider in PROVIDERS {
        let Some(preset) = provider.preset() else {
            continue;
        };
        let id = provider.id();
        assert!(keys.insert(preset.key) && keys.insert(preset.base), "{id}");
        assert_eq!(preset.url.is_empty(), preset.trigger == Trigger::Both, "{id}");
        if let (Some(host), Trigger::Key) = (provider.host(), preset.trigger) {
            let url = preset.url.strip_prefix("https://").expect("encrypted");
            assert_eq!(url.split('/').next(), Some(host), "{id}");
            let site = Site::default();
            let format = provider.formats(Operation::Chat, "").first().copied();
            let path = path(*provider, &site, format.expect("chat"), "m");
            let prefix = url.strip_prefix(host).expect("a path");
            assert!(path.starts_with(&format!("{prefix}/")), "{id}: {path}");
        }
    }
}

#[test]
fn segments_are_escaped() {
    let arn = "arn:aws:bedrock:us-east-1:1:inference-profile/us.x.y-v1:0";
    assert_eq!(
        segment(arn),
        "arn:aws:bedrock:us-east-1:1:inference-profile%2Fus.x.y-v1:0"
    );
    assert_eq!(segment("a b,c;d?e~$&+=@_"), "a%20b%2Cc%3Bd%3Fe~$&+=@_");
}
