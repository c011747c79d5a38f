//! Claude on Google Vertex AI.
//!
//! Its format is Anthropic's, streams included; the model is named in the path alone.

use serde_json::json;

use super::{Ask, CredentialKind, Provider, Target, beta, segment, serve};
use crate::{Document, Format, Operation, document::Served, json::Edit};

/// Claude on Vertex AI, through `rawPredict`.
#[derive(Debug)]
pub struct VertexClaude;

/// The version of the format where the site names none.
const VERSION: &str = "vertex-2023-10-16";

impl Provider for VertexClaude {
    fn id(&self) -> &'static str {
        "vertex-claude"
    }

    fn name(&self) -> &'static str {
        "gcp.anthropic"
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
        serve::vertex_claude(document, target, "")
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        let action = if ask.stream {
            "streamRawPredict"
        } else {
            "rawPredict"
        };
        let suffix = format!("publishers/anthropic/models/{}:{action}", segment(target.model));
        target.site.join("", &suffix)
    }

    fn edits(&self, _ask: Ask, target: &Target<'_>) -> Vec<Edit> {
        in_path(target, VERSION)
    }

    fn betas(&self) -> Option<&'static beta::Platform> {
        Some(&beta::VERTEX)
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }
}

/// Returns the edits of a Messages document whose model is named in the path, and whose version in the body:
/// the site's, or else `default`.
pub(super) fn in_path(target: &Target<'_>, default: &str) -> Vec<Edit> {
    let version = target
        .site
        .version
        .as_deref()
        .filter(|version| !version.is_empty());
    let version = json!(version.unwrap_or(default)).to_string();
    vec![("model", None), ("anthropic_version", Some(version))]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Site, json::Shallow};

    #[test]
    fn the_model_is_one_segment_of_the_path() {
        let site = Site::default();
        let target = Target {
            provider: &VertexClaude,
            site: &site,
            model: "a/../b?c@1",
            now: 0,
        };
        let ask = Ask {
            operation: Operation::Chat,
            format: Format::Messages,
            stream: false,
        };
        let path = "/publishers/anthropic/models/a%2F..%2Fb%3Fc@1:rawPredict";
        assert_eq!(VertexClaude.path(ask, &target), path);
    }

    #[test]
    fn the_model_is_in_the_path_alone() {
        #[track_caller]
        fn check(site: &Site, stream: bool, path: &str, body: &str) {
            let target = Target {
                provider: &VertexClaude,
                site,
                model: "claude-sonnet-4@20250514",
                now: 0,
            };
            let ask = Ask {
                operation: Operation::Chat,
                format: Format::Messages,
                stream,
            };
            assert_eq!(VertexClaude.path(ask, &target), path);
            let sent = Bytes::from_static(br#"{"model":"m","stream":true,"messages":[]}"#);
            let edits = VertexClaude.edits(ask, &target);
            assert_eq!(Shallow::parse(sent).unwrap().with(&edits), body);
        }
        let site = Site {
            prefix: Some("v1/projects/p/locations/l".to_owned()),
            version: Some("vertex-next".to_owned()),
            ..Site::default()
        };
        check(
            &site,
            true,
            "/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4@20250514:streamRawPredict",
            r#"{"anthropic_version":"vertex-next","stream":true,"messages":[]}"#,
        );
        check(
            &Site::default(),
            false,
            "/publishers/anthropic/models/claude-sonnet-4@20250514:rawPredict",
            r#"{"anthropic_version":"vertex-2023-10-16","stream":true,"messages":[]}"#,
        );
    }
}
