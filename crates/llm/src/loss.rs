//! What could not be carried from one format to another, as a value: nothing is dropped without one.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use crate::{
    ApiError, ErrorKind, Format,
    chat::Client,
    json::{Object, Path},
};

/// One thing that the other format cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What is lost.
    pub field: Field,
    /// Whether the answer would still be an answer to what was asked.
    pub severity: Severity,
    /// Why, for a person: "the Messages format has no penalties".
    pub reason: Cow<'static, str>,
}

/// How much a loss matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A nuance is lost: the request is served and the client is told.
    Advisory,
    /// A tool, an image, a schema would vanish: the request is refused.
    Material,
}

/// A member of the neutral form that can be lost; the client half of a format knows its own name for it.
///
/// Indices of messages and tools are those of the client's own document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The instructions before the first turn.
    Instructions,
    /// The message at this index.
    Message(usize),
    /// The tool at this index.
    Tool(usize),
    /// Which tool must be called.
    ToolChoice,
    /// Whether several tools may be called at once.
    ParallelToolCalls,
    /// JSON mode or a schema for the answer.
    Output,
    /// Sampling temperature.
    Temperature,
    /// Nucleus sampling.
    TopP,
    /// Sampling from the k likeliest tokens.
    TopK,
    /// The seed of the sampler.
    Seed,
    /// Penalty on frequent tokens.
    FrequencyPenalty,
    /// Penalty on tokens that occurred.
    PresencePenalty,
    /// Log-probabilities of the tokens.
    Logprobs,
    /// Sequences that end the answer.
    Stop,
    /// The number of answers.
    Choices,
    /// How much to think, and whether to show it.
    Reasoning,
    /// The limit on generated tokens.
    MaxOutput,
    /// Who the end user is.
    User,
    /// The tier of service.
    ServiceTier,
    /// A mark on content that the provider should cache.
    Cache,
    /// A top-level member that only the client's format has.
    Extension(String),
    /// A part of the upstream's reply.
    Reply(&'static str),
    /// A member of the upstream's reply that nobody reads, by its path in the upstream's spelling.
    Member(Box<str>),
}

/// The most members of a reply that are recorded because nobody reads them.
const MAX_UNREAD: usize = 32;

/// The most bytes of such a member's path.
const MAX_NAME: usize = 128;

/// A path as far as it fits; made without allocating, for most paths are known already.
struct Name {
    bytes: [u8; MAX_NAME],
    length: usize,
}

impl Default for Name {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_NAME],
            length: 0,
        }
    }
}

impl Name {
    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.bytes.get_mut(self.length..).unwrap_or_default();
        let text = text
            .get(..text.floor_char_boundary(free.len()))
            .unwrap_or_default();
        for (byte, written) in free.iter_mut().zip(text.bytes()) {
            *byte = written;
        }
        self.length += text.len();
        Ok(())
    }
}

/// The most losses of one severity that are recorded: who has lost so much learns nothing from the rest, and
/// looking for what is known already must not take longer the longer a conversation is.
const MAX_RECORDED: usize = 256;

/// The losses of one attempt, each named once; of either severity the first 256.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(Vec<Loss>);

impl Losses {
    /// Records that a nuance is lost.
    pub fn advisory(&mut self, field: Field, reason: impl Into<Cow<'static, str>>) {
        self.push(Loss {
            field,
            severity: Severity::Advisory,
            reason: reason.into(),
        });
    }

    /// Records that something is lost without which the request means something else.
    pub fn material(&mut self, field: Field, reason: impl Into<Cow<'static, str>>) {
        self.push(Loss {
            field,
            severity: Severity::Material,
            reason: reason.into(),
        });
    }

    /// Records that what is left of `object`, which lies at `path` of the client's document, reaches nobody.
    pub(crate) fn rest(&mut self, object: Object<'_>, path: &Path<'_>) {
        for (key, _) in object.rest() {
            self.unread(&path.key(&key));
        }
    }

    /// Records that nobody reads the member at `path`, of a reply once for all elements of an array and up to 32 in
    /// all: upstreams choose the names, and streams repeat them.
    pub(crate) fn unread(&mut self, path: &Path<'_>) {
        if !path.is_of_reply() {
            let member = Field::Extension(path.to_string());
            return self.advisory(member, "this member is not known here");
        }
        let mut name = Name::default();
        // What does not fit is cut off.
        let _ = write!(name, "{path}");
        let members = || {
            self.0.iter().filter_map(|loss| {
                if let Field::Member(known) = &loss.field {
                    Some(&**known)
                } else {
                    None
                }
            })
        };
        if !members().any(|known| known == name.as_str()) && members().count() < MAX_UNREAD {
            let member = Field::Member(name.as_str().into());
            self.advisory(member, "nothing here reads this member of the upstream's reply");
        }
    }

    /// Records `loss` unless it is known already, or too many are.
    pub fn push(&mut self, loss: Loss) {
        let alike = || self.0.iter().filter(|known| known.severity == loss.severity);
        let known = alike().any(|known| known.field == loss.field && known.reason == loss.reason);
        if !known && alike().count() < MAX_RECORDED {
            self.0.push(loss);
        }
    }

    /// Records every loss of `others`.
    pub fn extend(&mut self, others: &Losses) {
        for loss in &others.0 {
            self.push(loss.clone());
        }
    }

    /// Returns the losses in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.0.iter()
    }

    /// Returns the names of what was lost in the spelling of `format`, each once, in the order in which they were
    /// found.
    pub fn names(&self, format: Format) -> Vec<Cow<'static, str>> {
        let mut names: Vec<Cow<'static, str>> = Vec::new();
        for loss in &self.0 {
            let name = format.field(&loss.field);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Returns whether nothing was lost.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the refusal that the first material loss amounts to, in the spelling of `client`.
    pub(crate) fn refusal(&self, client: &dyn Client) -> Option<ApiError> {
        let loss = self.0.iter().find(|loss| loss.severity == Severity::Material)?;
        Some(loss.refusal(client.field(&loss.field)))
    }

    /// Returns the refusal that the first loss of any severity amounts to, where nothing may be lost, in the spelling of
    /// `client`.
    pub fn strict_refusal(&self, client: Format) -> Option<ApiError> {
        let loss = self.0.first()?;
        Some(loss.refusal(client.field(&loss.field)))
    }
}

impl Loss {
    /// Returns the refusal that the loss amounts to; a client calls what is lost `field`.
    pub(crate) fn refusal(&self, field: Cow<'static, str>) -> ApiError {
        let message = format!("{field} cannot be carried to the upstream: {}", self.reason);
        ApiError::new(ErrorKind::Unprocessable, message)
            .with_param(field)
            .with_code("unsupported_by_upstream")
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Advisory => "advisory",
            Severity::Material => "material",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_once_and_the_material_ones_survive_a_flood() {
        let mut losses = Losses::default();
        for index in 0..2 * MAX_RECORDED {
            losses.advisory(Field::Message(index), "too long ago");
            losses.advisory(Field::Seed, "no seeds");
        }
        losses.material(Field::Seed, "no seeds");
        losses.material(Field::Seed, "no seeds");
        assert_eq!(losses.iter().count(), MAX_RECORDED + 1);
        assert!(losses.refusal(&crate::chat::openai::OpenAi).is_some());
    }

    #[test]
    fn what_nobody_reads_of_a_reply_is_named_once_shortly_and_not_for_ever() {
        let mut losses = Losses::default();
        let root = Path::Reply;
        let list = root.key("choices");
        for index in 0..3 {
            losses.unread(&list.index(index).key("unheard"));
        }
        losses.unread(&root.key(&"é".repeat(MAX_NAME)));
        let names = losses.names(Format::OpenAi);
        assert_eq!(names, ["choices[].unheard".to_owned(), "é".repeat(MAX_NAME / 2)]);
        for index in 0..2 * MAX_UNREAD {
            losses.unread(&root.key(&index.to_string()));
        }
        assert_eq!(losses.iter().count(), MAX_UNREAD);
        losses.unread(&Path::Root.key("of a request"));
        assert_eq!(losses.iter().count(), MAX_UNREAD + 1);
    }

    #[test]
    fn a_field_is_named_once_whatever_was_lost_of_it() {
        let mut losses = Losses::default();
        losses.advisory(Field::Message(0), "one nuance");
        losses.advisory(Field::Seed, "no seeds");
        losses.advisory(Field::Message(0), "another");
        assert_eq!(losses.names(Format::OpenAi), ["messages[0]", "seed"]);
    }
}
