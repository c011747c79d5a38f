//! Token counts of the simulated model: four characters a token, as English text has it on average.

use llm::{
    Usage,
    chat::{Part, PartBody, Request, Role, ToolBody},
    media::{Media, Source},
};

/// What a call of a tool costs beside its name and arguments.
pub(crate) const CALL: u64 = 8;

/// What a message costs beside its content.
const MESSAGE: u64 = 4;

/// What a picture, a document or a sound costs whose size is not known.
const MEDIA: u64 = 85;

/// Returns the number of tokens of a text.
pub(crate) fn of(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(PER_TOKEN)
}

/// Returns the first `tokens` tokens of a text.
pub(crate) fn first(text: &str, tokens: u64) -> &str {
    let characters = usize::try_from(tokens.saturating_mul(PER_TOKEN)).unwrap_or(usize::MAX);
    let end = text
        .char_indices()
        .nth(characters)
        .map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or(text)
}

/// Returns the counts of the prompt.
///
/// What stands before the last cache mark counts as written to the cache on the first turn of a conversation,
/// and as read from it once the model has answered.
pub(crate) fn prompt(request: &Request) -> Usage {
    let mut count = Count::default();
    for tool in &request.tools {
        count.total += match &tool.body {
            ToolBody::Function {
                name,
                description,
                parameters,
                ..
            } => {
                of(name)
                    + of(description.as_deref().unwrap_or_default())
                    + of(parameters.as_deref().map_or("", |raw| raw.get()))
            }
            ToolBody::Native { raw, .. } => of(raw.get()),
        };
        count.mark(tool.cache.is_some());
    }
    count.parts(&request.instructions);
    for turn in &request.turns {
        count.total += MESSAGE;
        count.parts(&turn.parts);
    }
    let again = request.turns.iter().any(|turn| turn.role == Role::Assistant);
    Usage {
        input: Some(count.total - count.marked),
        cache_read: Some(if again { count.marked } else { 0 }),
        cache_write: Some(if again { 0 } else { count.marked }),
        ..Usage::default()
    }
}

/// A walk through a prompt, in the order in which providers cache it: tools, instructions, turns.
#[derive(Default)]
struct Count {
    total: u64,
    /// The total at the last cache mark.
    marked: u64,
}

impl Count {
    fn parts(&mut self, parts: &[Part]) {
        for part in parts {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => self.total += of(text),
                PartBody::Media(media) => self.total += of_media(media),
                PartBody::SearchResult(result) => self.total += of(&result.to_text()),
                PartBody::Reasoning(reasoned) => self.total += of(&reasoned.text),
                PartBody::ToolCall(call) => self.total += CALL + of(&call.name) + of(&call.arguments),
                PartBody::ToolResult(result) => {
                    self.total += MESSAGE;
                    self.parts(&result.parts);
                }
                PartBody::Native { raw, .. } => self.total += of(raw.get()),
            }
            self.mark(part.cache.is_some());
        }
    }

    fn mark(&mut self, marked: bool) {
        if marked {
            self.marked = self.total;
        }
    }
}

fn of_media(media: &Media) -> u64 {
    match &media.source {
        Source::Inline { data, .. } => (data.len() as u64 / 750).clamp(MEDIA, 1600),
        Source::Text(text) => of(text),
        Source::Url(_) | Source::File { .. } => MEDIA,
    }
}

const PER_TOKEN: u64 = 4;
