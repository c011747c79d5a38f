//! The words of spans: those of one vocabulary, or of two at once for those who go over from one to the other.

use config::words::{self, Vocabularies};

use super::hide::Hide;

/// What spans say, and what they leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speech {
    /// The vocabularies where a route names none.
    pub usual: Vocabularies,
    /// What OpenInference leaves out.
    pub hide: Hide,
    /// Whether OpenTelemetry's conventions tell content.
    pub content: bool,
}

/// The words of a span.
pub(super) struct Words {
    /// What gives it its name, kind and status.
    pub(super) first: Vocabulary,
    /// What tells attributes and events too.
    pub(super) second: Option<Vocabulary>,
}

/// One vocabulary.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Vocabulary {
    /// That of OpenInference.
    OpenInference(Hide),
    /// That of OpenTelemetry; `true` where content is recorded.
    GenAi(bool),
}

impl Speech {
    /// Returns the words for requests of a route that names `own`.
    pub(super) fn words(&self, own: Option<Vocabularies>) -> Words {
        let Vocabularies { first, second } = own.unwrap_or(self.usual);
        Words {
            first: self.vocabulary(first),
            second: second.map(|second| self.vocabulary(second)),
        }
    }

    fn vocabulary(&self, named: words::Vocabulary) -> Vocabulary {
        match named {
            words::Vocabulary::OpenInference => Vocabulary::OpenInference(self.hide.clone()),
            words::Vocabulary::GenAi => Vocabulary::GenAi(self.content),
        }
    }
}

impl Words {
    /// Returns whether OpenInference is spoken.
    pub(super) fn have_openinference(&self) -> bool {
        self.any(|vocabulary| matches!(vocabulary, Vocabulary::OpenInference(_)))
    }

    /// Returns whether OpenTelemetry's conventions are spoken.
    pub(super) fn have_conventions(&self) -> bool {
        self.any(|vocabulary| matches!(vocabulary, Vocabulary::GenAi(_)))
    }

    /// Returns whether OpenTelemetry's conventions tell content.
    pub(super) fn tell_content(&self) -> bool {
        self.any(|vocabulary| *vocabulary == Vocabulary::GenAi(true))
    }

    /// Returns whether messages are told one by one.
    pub(super) fn tell_messages(&self) -> bool {
        self.any(|vocabulary| match vocabulary {
            Vocabulary::OpenInference(hide) => hide.tells_messages(),
            Vocabulary::GenAi(_) => false,
        })
    }

    fn any(&self, is: impl Fn(&Vocabulary) -> bool) -> bool {
        is(&self.first) || self.second.as_ref().is_some_and(is)
    }
}
