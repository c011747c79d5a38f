//! The line that Claude Code puts before its instructions, for the bills of Anthropic: which version asks, and a mark
//! that changes with every request.
//!
//! Anthropic takes no account of the line where it caches. To everyone else it is a beginning that is never the same
//! twice, after which nothing is found in a cache. The compatibility specification, "What Claude Code needs".

use super::{PartBody, Request};
use crate::{Field, Format, Losses};

/// What the line begins with.
const MARK: &str = "x-anthropic-billing-header";

/// Takes the line out of `request`, unless its upstream speaks Messages and may be Anthropic.
pub(crate) fn lower(request: &mut Request, format: Format, losses: &mut Losses) {
    match format {
        Format::Messages => return,
        Format::OpenAi | Format::Responses | Format::Gemini | Format::Converse | Format::Cohere => {}
    }
    let Some(first) = request.instructions.first_mut() else {
        return;
    };
    let PartBody::Text(text) = &mut first.body else {
        return;
    };
    if !text.starts_with(MARK) {
        return;
    }
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    *text = rest.trim_start_matches('\n').to_owned();
    if text.is_empty() {
        first.extensions.lose(format, losses, |_| Field::Instructions);
        if first.cache.is_some() {
            losses.advisory(
                Field::Cache,
                "the line for Anthropic's bills is not sent, nor its cache mark",
            );
        }
        request.instructions.remove(0);
    }
    let reason =
        "the line for Anthropic's bills differs in every request, and would keep the upstream from caching";
    losses.advisory(Field::Instructions, reason);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Object;

    /// Checks what is left of `system` for an upstream of `format`, and whether anything was lost.
    #[track_caller]
    fn check(format: Format, system: &str, left: &[&str], lost: bool) {
        let body = format!(
            r#"{{"model":"m","max_tokens":1,"system":{system},"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        assert!(Object::parse_slice(body.as_bytes()).is_ok(), "{body}");
        let mut losses = Losses::default();
        let client = Format::Messages.client().expect("a client half");
        let mut request = client
            .decode_request(body.as_bytes(), &mut losses)
            .expect("a request");
        lower(&mut request, format, &mut losses);
        let texts = request.instructions.iter().map(|part| match &part.body {
            PartBody::Text(text) => text.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(texts.collect::<Vec<_>>(), left, "{system}");
        assert_eq!(!losses.is_empty(), lost, "{losses:?}");
    }

    #[test]
    fn the_line_is_for_anthropic_alone() {
        let line = r#"{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1; cch=00a1;"}"#;
        let told = r#"{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}"#;
        let both = format!("[{line},{told}]");
        let whole = "x-anthropic-billing-header: cc_version=2.1; cch=00a1;";
        check(Format::Messages, &both, &[whole, "Be brief."], false);
        for format in [
            Format::OpenAi,
            Format::Responses,
            Format::Gemini,
            Format::Converse,
        ] {
            check(format, &both, &["Be brief."], true);
            check(format, &format!("[{line}]"), &[], true);
            check(
                format,
                r#""x-anthropic-billing-header: a=b\n\nBe brief.""#,
                &["Be brief."],
                true,
            );
            check(
                format,
                r#""Say x-anthropic-billing-header""#,
                &["Say x-anthropic-billing-header"],
                false,
            );
            check(format, &format!("[{told},{line}]"), &["Be brief.", whole], false);
        }
    }
}
