//! Amazon Bedrock: Converse for every model, and InvokeModel for Claude in its own format.
//!
//! Both name the model in the path alone. An API key goes as a bearer token.

use http::HeaderMap;
use serde_json::json;

use super::{Ask, CredentialKind, Provider, Target, segment, serve};
use crate::{Document, Format, Operation, document::Served, frame::Framing, json::Edit};

/// Amazon Bedrock's Converse.
#[derive(Debug)]
pub struct Bedrock;

/// Claude on Amazon Bedrock, through InvokeModel.
#[derive(Debug)]
pub struct BedrockClaude;

/// The version of Claude's format where the site names none.
const VERSION: &str = "bedrock-2023-05-31";

/// The header in which clients ask for what is not generally available.
const BETA: &str = "anthropic-beta";

/// The flags that InvokeModel takes. It refuses a request with any other.
const BETAS: &[&str] = &[
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14",
    "fine-grained-tool-streaming-2025-05-14",
    "interleaved-thinking-2025-05-14",
    "mcp-client-2025-04-04",
    "mcp-client-2025-11-20",
    "model-context-window-exceeded-2025-08-26",
    "output-128k-2025-02-19",
    "pdfs-2024-09-25",
    "search-results-2025-06-09",
    "token-counting-2024-11-01",
    "token-efficient-tools-2025-02-19",
    "tool-search-tool-2025-10-19",
    "web-search-2025-03-05",
];

/// Flags that are called otherwise there.
const ALIASES: &[(&str, &str)] = &[("advanced-tool-use-2025-11-20", "tool-search-tool-2025-10-19")];

impl Provider for Bedrock {
    fn id(&self) -> &'static str {
        "bedrock"
    }

    fn name(&self) -> &'static str {
        "aws.bedrock"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        match operation {
            Operation::Chat => &[Format::Converse],
            Operation::Document(_)
            | Operation::Upload(_)
            | Operation::Models
            | Operation::Model
            | Operation::Kept => &[],
        }
    }

    fn document(&self, document: Document, target: &Target<'_>) -> Option<Served> {
        serve::bedrock(document, target)
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        path(target, if ask.stream { "converse-stream" } else { "converse" })
    }

    fn framing(&self, _format: Format) -> Framing {
        Framing::EventStream
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }
}

impl Provider for BedrockClaude {
    fn id(&self) -> &'static str {
        "bedrock-claude"
    }

    fn name(&self) -> &'static str {
        "aws.anthropic"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        match operation {
            Operation::Chat => &[Format::Messages],
            Operation::Document(_)
            | Operation::Upload(_)
            | Operation::Models
            | Operation::Model
            | Operation::Kept => &[],
        }
    }

    fn document(&self, document: Document, target: &Target<'_>) -> Option<Served> {
        serve::bedrock_claude(document, target)
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        path(
            target,
            if ask.stream {
                "invoke-with-response-stream"
            } else {
                "invoke"
            },
        )
    }

    fn edits(&self, _ask: Ask, target: &Target<'_>, headers: &HeaderMap) -> Vec<Edit> {
        let mut edits = super::vertex::in_path(target, VERSION);
        edits.push(("stream", None));
        let betas = betas(headers);
        if !betas.is_empty() {
            edits.push(("anthropic_beta", Some(json!(betas).to_string())));
        }
        edits
    }

    fn framing(&self, _format: Format) -> Framing {
        Framing::WrappedEventStream
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }
}

fn path(target: &Target<'_>, action: &str) -> String {
    let model = segment(target.model);
    target.site.join("", &format!("model/{model}/{action}"))
}

/// Returns the flags of `headers` that InvokeModel takes, by the names that it has for them, each once. The
/// header may be repeated.
fn betas(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(BETA).iter();
    let lists = values.filter_map(|value| value.to_str().ok());
    let mut betas: Vec<&str> = Vec::new();
    for flag in lists.flat_map(|list| list.split(',')).map(str::trim) {
        let alias = ALIASES.iter().find(|(name, _)| *name == flag);
        let flag = alias.map_or(flag, |(_, name)| *name);
        if BETAS.contains(&flag) && !betas.contains(&flag) {
            betas.push(flag);
        }
    }
    betas
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Site, json::Shallow};

    fn target<'a>(provider: &'static dyn Provider, site: &'a Site, model: &'a str) -> Target<'a> {
        Target {
            provider,
            site,
            model,
            now: 0,
        }
    }

    #[test]
    fn the_model_is_one_segment_of_the_path() {
        #[track_caller]
        fn check(provider: &'static dyn Provider, model: &str, stream: bool, expected: &str) {
            let site = Site::default();
            let ask = Ask {
                operation: Operation::Chat,
                format: Format::Converse,
                stream,
            };
            assert_eq!(provider.path(ask, &target(provider, &site, model)), expected);
        }
        let model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
        check(&Bedrock, model, false, &format!("/model/{model}/converse"));
        check(&Bedrock, model, true, &format!("/model/{model}/converse-stream"));
        check(&BedrockClaude, model, false, &format!("/model/{model}/invoke"));
        check(
            &BedrockClaude,
            model,
            true,
            &format!("/model/{model}/invoke-with-response-stream"),
        );
        check(
            &Bedrock,
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.x.y-v1:0",
            false,
            "/model/arn:aws:bedrock:us-east-1:1:inference-profile%2Fus.x.y-v1:0/converse",
        );
        check(
            &Bedrock,
            "a~$&+=@-_.b c,;?é",
            false,
            "/model/a~$&+=@-_.b%20c%2C%3B%3F%C3%A9/converse",
        );
    }

    #[test]
    fn a_body_is_made_fit_for_invoke_model() {
        #[track_caller]
        fn check(version: Option<&str>, betas: &[&str], body: &'static str, expected: &str) {
            let site = Site {
                version: version.map(str::to_owned),
                ..Site::default()
            };
            let mut headers = HeaderMap::new();
            for beta in betas {
                headers.append(BETA, beta.parse().unwrap());
            }
            let ask = Ask {
                operation: Operation::Chat,
                format: Format::Messages,
                stream: true,
            };
            let edits = BedrockClaude.edits(ask, &target(&BedrockClaude, &site, "m"), &headers);
            let shallow = Shallow::parse(Bytes::from_static(body.as_bytes())).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&shallow.with(&edits)).unwrap();
            let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
            assert_eq!(body, expected);
        }
        check(
            None,
            &["interleaved-thinking-2025-05-14, files-api-2025-04-14"],
            r#"{"model":"m","max_tokens":5,"stream":true,"messages":[]}"#,
            r#"{"max_tokens":5,"messages":[],"anthropic_version":"bedrock-2023-05-31",
                "anthropic_beta":["interleaved-thinking-2025-05-14"]}"#,
        );
        check(
            Some("bedrock-next"),
            &[
                "advanced-tool-use-2025-11-20",
                "pdfs-2024-09-25,tool-search-tool-2025-10-19,,",
            ],
            r#"{"model":"m","anthropic_version":"theirs","anthropic_beta":["theirs"]}"#,
            r#"{"anthropic_version":"bedrock-next",
                "anthropic_beta":["tool-search-tool-2025-10-19","pdfs-2024-09-25"]}"#,
        );
        check(
            Some(""),
            &["prompt-caching-2024-07-31"],
            r#"{"model":"m","anthropic_beta":["theirs"],"container":"c"}"#,
            r#"{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["theirs"],"container":"c"}"#,
        );
    }

    #[test]
    fn every_flag_is_known_by_one_name() {
        for (from, to) in ALIASES {
            assert!(!BETAS.contains(from) && BETAS.contains(to));
        }
    }
}
