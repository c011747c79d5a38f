//! What Claude Code sends to each platform that serves Claude: flags, the members that go with them, counts.

use serde_json::{Value, json};
use testkit::{Cloud, Provider, Reply, Script, Upstream, client::post, fixture};

use crate::fixture::{KEY, MESSAGES, MODEL, To, serve, to};

const COUNT: &str = "/anthropic/v1/messages/count_tokens";
const ON_BEDROCK: &str = "us.anthropic.claude-sonnet-4-6";

/// A platform, who plays it, and the model there.
struct Platform {
    provider: &'static dyn llm::Provider,
    played: fn(&str) -> Script,
    model: &'static str,
}

const ANTHROPIC: Platform = Platform {
    provider: &llm::provider::Anthropic,
    played: |key| Provider::Messages.script(key),
    model: "claude-sonnet-4-6",
};
const INVOKE_MODEL: Platform = Platform {
    provider: &llm::provider::BedrockClaude,
    played: |key| Cloud::InvokeModel.script(key),
    model: ON_BEDROCK,
};
const CONVERSE: Platform = Platform {
    provider: &llm::provider::Bedrock,
    played: |key| Cloud::Converse.script(key),
    model: ON_BEDROCK,
};
const VERTEX: Platform = Platform {
    provider: &llm::provider::VertexClaude,
    played: |key| Cloud::VertexClaude.script(key),
    model: "claude-sonnet-4-6@latest",
};

/// Asks `platform` at `path` with `flags`; returns the answer, what was lost and what the platform got.
async fn asked(
    platform: &Platform,
    path: &str,
    flags: &str,
    request: &Value,
) -> (Value, String, String, Value) {
    let upstream = Upstream::start((platform.played)(KEY)).await;
    let served = serve([To {
        model: Some(platform.model.to_owned()),
        ..to(platform.provider, upstream.address())
    }])
    .await;
    let headers = [("anthropic-beta", flags)];
    let answer = post(served.address, path, &headers, request).await;
    assert_eq!(
        answer.status,
        200,
        "{}: {}",
        platform.provider.id(),
        answer.text()
    );
    let sent = upstream.received(1).await.remove(0);
    let header = sent.header("anthropic-beta").to_owned();
    let lost = answer.header("x-tollgate-loss").to_owned();
    (answer.json(), lost, header, sent.json())
}

/// Returns a request as Claude Code makes them, streamed or not.
fn request() -> Value {
    json!({
        "model": MODEL,
        "max_tokens": 4096,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2"},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ],
        "tools": [{"name": "ls", "description": "Lists.", "input_schema": {"type": "object"}, "defer_loading": true}],
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "Hello.", "cache_control": {"type": "ephemeral"}},
        ]}],
    })
}

const FLAGS: &str = "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,\
                     advanced-tool-use-2025-11-20,effort-2025-11-24";

#[tokio::test]
async fn each_platform_gets_what_it_takes() {
    let (_, lost, header, sent) = asked(&ANTHROPIC, MESSAGES, FLAGS, &request()).await;
    assert_eq!((lost.as_str(), header.as_str()), ("", FLAGS));
    assert_eq!(sent["context_management"], request()["context_management"]);

    let taken = json!([
        "interleaved-thinking-2025-05-14",
        "context-management-2025-06-27",
        "tool-search-tool-2025-10-19",
        "effort-2025-11-24",
    ]);
    let (_, lost, _, sent) = asked(&INVOKE_MODEL, MESSAGES, FLAGS, &request()).await;
    assert_eq!(lost, "anthropic-beta");
    assert_eq!(sent["anthropic_beta"], taken);
    assert_eq!(sent["tools"], request()["tools"]);

    let (_, lost, _, sent) = asked(&CONVERSE, MESSAGES, FLAGS, &request()).await;
    assert!(
        lost.contains("anthropic-beta") && lost.contains("tools[0]"),
        "{lost}"
    );
    let fields = &sent["additionalModelRequestFields"];
    assert_eq!(fields["anthropic_beta"], taken);
    assert_eq!(fields["context_management"], request()["context_management"]);
    assert_eq!(fields["thinking"], json!({"type": "adaptive"}));
    assert_eq!(fields["output_config"], json!({"effort": "medium"}));

    let (_, lost, header, _) = asked(
        &VERTEX,
        MESSAGES,
        "files-api-2025-04-14, a-flag-of-tomorrow",
        &request(),
    )
    .await;
    assert_eq!(
        (lost.as_str(), header.as_str()),
        ("anthropic-beta", "a-flag-of-tomorrow")
    );
}

#[tokio::test]
async fn a_member_whose_flag_is_not_taken_does_not_go_alone() {
    let mut request = request();
    request["speed"] = json!("fast");
    let (_, lost, _, sent) = asked(
        &INVOKE_MODEL,
        MESSAGES,
        &format!("{FLAGS},fast-mode-2026-02-01"),
        &request,
    )
    .await;
    assert_eq!(lost, "anthropic-beta; speed");
    assert_eq!(sent.get("speed"), None);
    let upstream = Upstream::start((INVOKE_MODEL.played)(KEY)).await;
    let served = serve([To {
        model: Some(ON_BEDROCK.to_owned()),
        ..to(INVOKE_MODEL.provider, upstream.address())
    }])
    .await;
    request["container"] = json!({"skills": []});
    let headers = [("anthropic-beta", "skills-2025-10-02")];
    let answer = post(served.address, MESSAGES, &headers, &request).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("container"), "{}", answer.text());
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn every_platform_counts_what_it_is_asked() {
    let mut request = request();
    request.as_object_mut().expect("an object").remove("max_tokens");
    let expected = {
        let (answer, _, _, sent) = asked(&ANTHROPIC, COUNT, FLAGS, &request).await;
        assert_eq!(sent["model"], "claude-sonnet-4-6");
        answer
    };
    assert!(expected["input_tokens"].as_u64() > Some(4), "{expected}");
    for platform in [&INVOKE_MODEL, &CONVERSE, &VERTEX] {
        let (answer, _, header, sent) = asked(platform, COUNT, FLAGS, &request).await;
        assert_eq!(answer, expected, "{}", platform.provider.id());
        if platform.provider.id() == VERTEX.provider.id() {
            assert_eq!(
                (header.as_str(), &sent["model"]),
                ("", &json!("claude-sonnet-4-6"))
            );
        }
    }
    // Who does not count for a model is known by its words; the estimate says what it is.
    let elsewhere = Platform {
        model: "us.amazon.nova-pro-v1:0",
        ..CONVERSE
    };
    let plain = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hello."}]});
    let (answer, lost, _, _) = asked(&elsewhere, COUNT, "", &plain).await;
    assert_eq!(answer["estimated"], true);
    assert_eq!(lost, "input_tokens");
}

#[tokio::test]
async fn what_may_be_cited_and_is_cited_crosses_converse() {
    let request = json!({
        "model": MODEL,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": [
            {"type": "search_result", "source": "https://example.com", "title": "Docs",
                "content": [{"type": "text", "text": "The limit is 100."}], "citations": {"enabled": true}},
            {"type": "document", "title": "Tides", "context": "Of the harbour.", "citations": {"enabled": true},
                "source": {"type": "text", "media_type": "text/plain", "data": "High water is at six."}},
            {"type": "text", "text": "What is the limit?"},
        ]}],
    });
    let (_, lost, _, sent) = asked(&CONVERSE, MESSAGES, "", &request).await;
    assert_eq!(lost, "");
    let content = &sent["messages"][0]["content"];
    assert_eq!(content[0]["searchResult"]["citations"], json!({"enabled": true}));
    assert_eq!(content[1]["document"]["context"], "Of the harbour.");
    let elsewhere = Platform {
        model: "us.amazon.nova-pro-v1:0",
        ..CONVERSE
    };
    let (_, lost, _, sent) = asked(&elsewhere, MESSAGES, "", &request).await;
    assert!(lost.split("; ").all(|field| field == "messages[0]"), "{lost}");
    let text = sent["messages"][0]["content"][0]["text"]
        .as_str()
        .unwrap_or_default();
    assert!(text.contains("The limit is 100."), "{sent}");
}

#[tokio::test]
async fn a_backend_says_itself_which_flags_it_takes() {
    let declared =
        "fast-mode-2026-02-01, -effort-2025-11-24, interleaved-thinking-2025-05-14=interleaved-next";
    let flags = llm::provider::Flags::parse(declared).expect("a list of flags");
    let sent = "effort-2025-11-24,fast-mode-2026-02-01,interleaved-thinking-2025-05-14,files-api-2025-04-14";
    // In front of Vertex AI what is known of it counts beside what is declared; Anthropic gets the rest as it comes.
    for (platform, header) in [
        (&VERTEX, "fast-mode-2026-02-01,interleaved-next"),
        (
            &ANTHROPIC,
            "fast-mode-2026-02-01,interleaved-next,files-api-2025-04-14",
        ),
    ] {
        let upstream = Upstream::start(Reply::json(200, &fixture::messages::response("claude"))).await;
        let served = serve([To {
            flags: flags.clone(),
            ..to(platform.provider, upstream.address())
        }])
        .await;
        let mut request = request();
        request["speed"] = json!("fast");
        let answer = post(served.address, MESSAGES, &[("anthropic-beta", sent)], &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let got = upstream.received(1).await.remove(0);
        assert_eq!(got.header("anthropic-beta"), header);
        assert_eq!(got.json()["speed"], "fast");
    }
}
