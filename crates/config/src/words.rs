//! The vocabularies in which spans tell what requests were about.

/// One vocabulary, or two at once for those who go over from one to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vocabularies {
    /// What gives spans their names, kinds and status.
    pub first: Vocabulary,
    /// What tells attributes and events too.
    pub second: Option<Vocabulary>,
}

/// One vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vocabulary {
    /// That of OpenInference.
    #[default]
    OpenInference,
    /// The conventions of OpenTelemetry.
    GenAi,
}

impl Vocabularies {
    /// Reads one name, or both with a comma between them.
    ///
    /// # Errors
    /// If one is not known, or stands there twice.
    pub fn parse(written: &str) -> Result<Self, String> {
        let (first, second) = match written.split_once(',') {
            Some((first, second)) => (vocabulary(first)?, Some(vocabulary(second)?)),
            None => (vocabulary(written)?, None),
        };
        if second == Some(first) {
            return Err(format!("{written:?} names one vocabulary twice"));
        }
        Ok(Self { first, second })
    }

    /// Returns the names, as they are written.
    pub fn names(self) -> String {
        let second = self.second.map(|second| format!(",{}", second.name()));
        format!("{}{}", self.first.name(), second.unwrap_or_default())
    }
}

impl Vocabulary {
    fn name(self) -> &'static str {
        match self {
            Vocabulary::OpenInference => "openinference",
            Vocabulary::GenAi => "gen_ai",
        }
    }
}

fn vocabulary(written: &str) -> Result<Vocabulary, String> {
    match written.trim() {
        "openinference" => Ok(Vocabulary::OpenInference),
        "gen_ai" => Ok(Vocabulary::GenAi),
        other => Err(format!("{other:?} is not one of openinference and gen_ai")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for written in [
            "openinference",
            "gen_ai",
            "openinference,gen_ai",
            "gen_ai,openinference",
        ] {
            let read = Vocabularies::parse(written).expect("names");
            assert_eq!(read.names(), written);
        }
        let spaced = Vocabularies::parse(" gen_ai , openinference ").expect("names");
        assert_eq!(spaced.names(), "gen_ai,openinference");
        for written in [
            "",
            "other",
            "gen_ai,",
            "gen_ai, gen_ai",
            "gen_ai,openinference,gen_ai",
        ] {
            assert!(Vocabularies::parse(written).is_err(), "{written:?}");
        }
    }
}
