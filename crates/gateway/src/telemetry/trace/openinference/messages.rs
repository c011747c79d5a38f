//! Turns of a conversation on their way into attributes.

use llm::{
    chat::{Part, PartBody},
    media::{MediaKind, Source},
};

use super::{
    super::{
        hide::{Hide, REDACTED},
        span::Attributes,
    },
    below,
};

/// Messages on their way into attributes, numbered.
pub(super) struct Messages<'a> {
    pub(super) prefix: &'static str,
    pub(super) next: usize,
    pub(super) hide_text: bool,
    pub(super) hide: &'a Hide,
}

impl Messages<'_> {
    /// Sets what `role` said in `parts`; whether its content is `listed`, even where it is one text.
    pub(super) fn push(&mut self, role: &str, listed: bool, parts: &[Part], attributes: &mut Attributes) {
        let is_result = |part: &&Part| matches!(part.body, PartBody::ToolResult(_));
        for part in parts.iter().filter(is_result) {
            if let PartBody::ToolResult(result) = &part.body {
                let message = self.message("tool", attributes);
                attributes.set(below(&message, "tool_call_id"), result.call.as_str());
                self.contents(
                    &message,
                    false,
                    &result.parts.iter().collect::<Vec<_>>(),
                    attributes,
                );
            }
        }
        let others: Vec<&Part> = parts.iter().filter(|part| !is_result(part)).collect();
        if !others.is_empty() || parts.is_empty() {
            let message = self.message(role, attributes);
            self.contents(&message, listed, &others, attributes);
        }
    }

    fn message(&mut self, role: &str, attributes: &mut Attributes) -> String {
        let message = format!("{}.{}.message", self.prefix, self.next);
        self.next += 1;
        attributes.set(below(&message, "role"), role);
        message
    }

    fn text<'t>(&self, text: &'t str) -> &'t str {
        if self.hide_text { REDACTED } else { text }
    }

    fn contents(&self, message: &str, listed: bool, parts: &[&Part], attributes: &mut Attributes) {
        let shown: Vec<&PartBody> = parts
            .iter()
            .map(|part| &part.body)
            .filter(|body| !matches!(body, PartBody::ToolCall(_)))
            .collect();
        if let ([PartBody::Text(text)], false) = (shown.as_slice(), listed) {
            if !text.is_empty() {
                attributes.set(below(message, "content"), self.text(text));
            }
        } else {
            for (at, body) in shown.into_iter().enumerate() {
                let prefix = format!("{message}.contents.{at}.message_content");
                self.part(&prefix, body, attributes);
            }
        }
        let calls = parts.iter().filter_map(|part| match &part.body {
            PartBody::ToolCall(call) => Some(call),
            PartBody::Text(_)
            | PartBody::Media(_)
            | PartBody::Reasoning(_)
            | PartBody::SearchResult(_)
            | PartBody::ToolResult(_)
            | PartBody::Refusal(_)
            | PartBody::Native { .. } => None,
        });
        for (at, call) in calls.enumerate() {
            let prefix = format!("{message}.tool_calls.{at}.tool_call");
            attributes.set(below(&prefix, "id"), call.id.as_str());
            attributes.set(below(&prefix, "function.name"), call.name.as_str());
            attributes.set(below(&prefix, "function.arguments"), self.text(&call.arguments));
        }
    }

    fn part(&self, prefix: &str, body: &PartBody, attributes: &mut Attributes) {
        let found;
        let (kind, text) = match body {
            PartBody::Text(text) | PartBody::Refusal(text) => ("text", Some(text.as_str())),
            PartBody::SearchResult(result) => {
                found = result.to_text();
                ("text", Some(found.as_str()))
            }
            PartBody::Reasoning(reasoned) => ("text", Some(reasoned.text.as_str())),
            PartBody::Media(media) => match media.kind {
                MediaKind::Image if self.hide.input_images => return,
                MediaKind::Image => {
                    let url = match &media.source {
                        Source::Inline { media_type, data } => format!("data:{media_type};base64,{data}"),
                        Source::Text(text) => text.clone(),
                        Source::Url(url) => url.clone(),
                        Source::File { id, .. } => id.clone(),
                    };
                    let url = if self.hide.is_too_long(&url) {
                        REDACTED.to_owned()
                    } else {
                        url
                    };
                    attributes.set(below(prefix, "image.image.url"), url);
                    ("image", None)
                }
                MediaKind::Document => ("document", None),
                MediaKind::Audio => ("audio", None),
                MediaKind::Video => ("video", None),
            },
            PartBody::Native { .. } => ("native", None),
            PartBody::ToolCall(_) | PartBody::ToolResult(_) => return,
        };
        attributes.set(below(prefix, "type"), kind);
        if let Some(text) = text {
            attributes.set(below(prefix, "text"), self.text(text));
        }
    }
}
