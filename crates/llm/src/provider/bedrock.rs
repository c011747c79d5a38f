//! Amazon Bedrock: Converse for every model, and InvokeModel for Claude in its own format.
//!
//! Both name the model in the path alone. An API key goes as a bearer token.

use super::{Ask, CredentialKind, Provider, Target, beta, segment, serve};
use crate::{Document, Format, Operation, document::Served, frame::Framing, json::Edit};

/// Amazon Bedrock's Converse.
#[derive(Debug)]
pub struct Bedrock;

/// Claude on Amazon Bedrock, through InvokeModel.
#[derive(Debug)]
pub struct BedrockClaude;

/// The version of Claude's format where the site names none.
const VERSION: &str = "bedrock-2023-05-31";

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

    fn betas(&self) -> Option<&'static beta::Platform> {
        Some(&beta::CONVERSE)
    }

    fn searches(&self) -> bool {
        false
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

    fn edits(&self, _ask: Ask, target: &Target<'_>) -> Vec<Edit> {
        let mut edits = super::vertex::in_path(target, VERSION);
        edits.push(("stream", None));
        edits
    }

    fn betas(&self) -> Option<&'static beta::Platform> {
        Some(&beta::INVOKE_MODEL)
    }

    fn searches(&self) -> bool {
        false
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
        fn check(version: Option<&str>, body: &'static str, expected: &str) {
            let site = Site {
                version: version.map(str::to_owned),
                ..Site::default()
            };
            let ask = Ask {
                operation: Operation::Chat,
                format: Format::Messages,
                stream: true,
            };
            let edits = BedrockClaude.edits(ask, &target(&BedrockClaude, &site, "m"));
            let shallow = Shallow::parse(Bytes::from_static(body.as_bytes())).unwrap();
            assert_eq!(shallow.with(&edits), expected);
        }
        check(
            None,
            r#"{"model":"m","max_tokens":5,"stream":true,"messages":[]}"#,
            r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":5,"messages":[]}"#,
        );
        check(
            Some("bedrock-next"),
            r#"{"model":"m","anthropic_version":"theirs","anthropic_beta":["theirs"]}"#,
            r#"{"anthropic_version":"bedrock-next","anthropic_beta":["theirs"]}"#,
        );
        check(
            Some(""),
            r#"{"model":"m","anthropic_beta":["theirs"],"container":"c"}"#,
            r#"{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["theirs"],"container":"c"}"#,
        );
    }
}
