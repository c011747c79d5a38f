//! The words of spans: one vocabulary, or two at once for those who go over from one to the other.

use super::hide::Hide;

/// The words of spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// What gives spans their names, kinds and status.
    pub first: Vocabulary,
    /// What tells attributes and events too.
    pub second: Option<Vocabulary>,
}

/// One vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// That of OpenInference.
    OpenInference(Hide),
    /// That of OpenTelemetry; `true` where content is recorded.
    GenAi(bool),
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
    pub(crate) fn tell_messages(&self) -> bool {
        self.any(|vocabulary| match vocabulary {
            Vocabulary::OpenInference(hide) => hide.tells_messages(),
            Vocabulary::GenAi(_) => false,
        })
    }

    fn any(&self, is: impl Fn(&Vocabulary) -> bool) -> bool {
        is(&self.first) || self.second.as_ref().is_some_and(is)
    }
}
