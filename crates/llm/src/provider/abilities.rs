//! What is declared of models at one backend, over what the table of capabilities knows of them.
//!
//! Models are published more often than we are built, and a deployment or a profile may have any name.

use std::fmt;

use super::Target;
use crate::{
    Format,
    capability::{Caching, Capability, Hosted},
};

/// What is declared of models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities(Vec<Entry>);

/// What is declared of the models whose names fit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// A name, a beginning of names with `*` after it, or `*` alone.
    models: String,
    /// The model that the table knows and that they are like.
    like: Option<String>,
    changes: Vec<(&'static Ability, Change)>,
}

/// Something that can be declared.
#[derive(Debug)]
struct Ability {
    name: &'static str,
    /// The words that it may be set to; none where it is there or not, or is a number.
    words: &'static [&'static str],
    takes: Takes,
    apply: fn(&mut Capability, &mut Hosted, Change),
}

/// What a declaration says of an ability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// Whether it is there.
    Flag,
    /// A number.
    Number,
    /// One of its words.
    Word,
}

/// A declared value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Flag(bool),
    Number(u64),
    /// The place of the word.
    Word(usize),
}

/// Why a list of abilities cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbilitiesError {
    /// Something that is no ability.
    #[error("\"{0}\" is no capability; known are like=MODEL, {1}")]
    Unknown(String, String),
    /// An ability without a value that it can have.
    #[error("\"{0}\" has no value that it can have: {1}")]
    Value(String, String),
    /// Models of which two things are said.
    #[error("\"{0}\" is listed twice")]
    Repeated(String),
    /// An entry that says nothing.
    #[error("\"{0}\" says nothing of its models")]
    Empty(String),
}

impl PartialEq for Ability {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Ability {}

const ABILITIES: &[Ability] = &[
    flag("effort", |capability, _, change| {
        capability.effort = change.is_set();
    }),
    flag("thinking-budget", |capability, _, change| {
        capability.thinking_budget = change.is_set();
    }),
    flag("adaptive-thinking", |capability, _, change| {
        capability.adaptive_thinking = change.is_set();
    }),
    flag("always-thinks", |capability, _, change| {
        capability.always_thinks = change.is_set();
    }),
    flag("signed-calls", |capability, _, change| {
        capability.signed_calls = change.is_set();
    }),
    flag("result-media", |capability, _, change| {
        capability.result_media = change.is_set();
    }),
    flag("media-resolution", |capability, _, change| {
        capability.media_resolution = change.is_set();
    }),
    flag("json-schema", |capability, _, change| {
        capability.json_schema = change.is_set();
    }),
    flag("forced-tool", |_, hosted, change| {
        hosted.forced_tool = change.is_set();
    }),
    Ability {
        name: "max-output",
        words: &[],
        takes: Takes::Number,
        apply: |capability, _, change| {
            if let Change::Number(tokens) = change {
                capability.max_output = tokens;
            }
        },
    },
    Ability {
        name: "caching",
        words: &["none", "5m", "1h"],
        takes: Takes::Word,
        apply: |_, hosted, change| {
            hosted.caching = match change {
                Change::Word(1) => Caching::Plain,
                Change::Word(2) => Caching::Hour,
                Change::Word(_) | Change::Flag(_) | Change::Number(_) => Caching::None,
            };
        },
    },
];

const fn flag(name: &'static str, apply: fn(&mut Capability, &mut Hosted, Change)) -> Ability {
    Ability {
        name,
        words: &[],
        takes: Takes::Flag,
        apply,
    }
}

impl Abilities {
    /// Nothing is declared.
    pub const NONE: Abilities = Abilities(Vec::new());

    /// Reads entries such as `claude-next-*: like=claude-opus-4-8, -effort; max-output=8192`, separated by semicolons:
    /// of which models each is, of all if it does not say, and what they can, cannot or are like.
    ///
    /// # Errors
    /// If it is not such a list.
    pub fn parse(list: &str) -> Result<Self, AbilitiesError> {
        let mut entries: Vec<Entry> = Vec::new();
        for written in list.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (models, items) = written.split_once(": ").unwrap_or(("*", written));
            let entry = Entry::parse(models.trim(), items)?;
            if entries.iter().any(|known| known.models == entry.models) {
                return Err(AbilitiesError::Repeated(entry.models));
            }
            entries.push(entry);
        }
        // What is said of fewer models counts more.
        entries.sort_by_key(|entry| entry.breadth());
        Ok(Self(entries))
    }

    /// Returns whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the name under which the table knows `model`.
    fn known<'a>(&'a self, model: &'a str) -> &'a str {
        let mut named = self.of(model).filter_map(|entry| entry.like.as_deref());
        named.next().unwrap_or(model)
    }

    /// Returns what is declared of `model`, the most specific first.
    fn of(&self, model: &str) -> impl DoubleEndedIterator<Item = &Entry> {
        self.0.iter().filter(move |entry| entry.fits(model))
    }
}

impl Target<'_> {
    /// Returns what the model accepts when it is spoken to in `format`.
    pub fn capability(&self, format: Format) -> Capability {
        if self.site.abilities.is_empty() {
            return Capability::of(format, self.model);
        }
        self.abilities(format).0
    }

    /// Returns how the model is told what Converse has no member for.
    pub fn hosted(&self) -> Hosted {
        if self.site.abilities.is_empty() {
            return Hosted::of(self.model);
        }
        self.abilities(Format::Converse).1
    }

    fn abilities(&self, format: Format) -> (Capability, Hosted) {
        let declared = &self.site.abilities;
        let known = declared.known(self.model);
        let (mut capability, mut hosted) = (Capability::of(format, known), Hosted::of(known));
        for entry in declared.of(self.model).rev() {
            for (ability, change) in &entry.changes {
                (ability.apply)(&mut capability, &mut hosted, *change);
            }
        }
        (capability, hosted)
    }
}

impl Entry {
    fn parse(models: &str, items: &str) -> Result<Self, AbilitiesError> {
        let mut entry = Self {
            models: models.to_owned(),
            like: None,
            changes: Vec::new(),
        };
        for item in items.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            if let Some(like) = item.strip_prefix("like=") {
                entry.like = Some(like.trim().to_owned());
            } else {
                entry.changes.push(change(item)?);
            }
        }
        if entry.like.is_none() && entry.changes.is_empty() {
            return Err(AbilitiesError::Empty(entry.models));
        }
        Ok(entry)
    }

    fn fits(&self, model: &str) -> bool {
        match self.models.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == self.models,
        }
    }

    /// Returns an order in which names come before the longest beginnings of names, and those before shorter ones.
    fn breadth(&self) -> (bool, usize) {
        (self.models.ends_with('*'), usize::MAX - self.models.len())
    }
}

impl Change {
    fn is_set(self) -> bool {
        self == Change::Flag(true)
    }
}

/// Reads `name`, `-name` or `name=value`.
fn change(item: &str) -> Result<(&'static Ability, Change), AbilitiesError> {
    let (name, value) = match (item.strip_prefix('-'), item.split_once('=')) {
        (Some(name), _) => (name, Err(false)),
        (None, Some((name, value))) => (name.trim_end(), Ok(value.trim_start())),
        (None, None) => (item, Err(true)),
    };
    let Some(ability) = ABILITIES.iter().find(|ability| ability.name == name) else {
        let known: Vec<&str> = ABILITIES.iter().map(|ability| ability.name).collect();
        return Err(AbilitiesError::Unknown(item.to_owned(), known.join(", ")));
    };
    let change = match (ability.takes, value) {
        (Takes::Flag, Err(is_set)) => Some(Change::Flag(is_set)),
        (Takes::Number, Ok(value)) => value.parse().ok().map(Change::Number),
        (Takes::Word, Ok(value)) => {
            let mut words = ability.words.iter();
            words.position(|word| *word == value).map(Change::Word)
        }
        (Takes::Flag, Ok(_)) | (Takes::Number | Takes::Word, Err(_)) => None,
    };
    let change = change.ok_or_else(|| {
        let wanted = match ability.takes {
            Takes::Flag => format!("write {name} or -{name}"),
            Takes::Number => format!("write {name}=NUMBER"),
            Takes::Word => format!("write {name}={}", ability.words.join("|")),
        };
        AbilitiesError::Value(item.to_owned(), wanted)
    })?;
    Ok((ability, change))
}

impl fmt::Display for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let like = entry.like.iter().map(|like| format!("like={like}"));
            let changes = entry.changes.iter().map(|(ability, change)| match change {
                Change::Flag(true) => ability.name.to_owned(),
                Change::Flag(false) => format!("-{}", ability.name),
                Change::Number(number) => format!("{}={number}", ability.name),
                Change::Word(word) => {
                    let word = ability.words.get(*word).copied().unwrap_or_default();
                    format!("{}={word}", ability.name)
                }
            });
            let items: Vec<String> = like.chain(changes).collect();
            write!(f, "{separator}{}: {}", entry.models, items.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Site,
        capability::Family,
        provider::{Anthropic, Bedrock},
    };

    const LIST: &str = "claude-*: -json-schema, max-output=100; \
                        claude-next: like=claude-opus-4-8, max-output=200; \
                        arn:aws:bedrock:x:1:profile/a: like=claude-sonnet-4-5, caching=none; -forced-tool";

    fn site(list: &str) -> Site {
        Site {
            abilities: Abilities::parse(list).expect("a list"),
            ..Site::default()
        }
    }

    fn target<'a>(site: &'a Site, model: &'a str) -> Target<'a> {
        Target {
            provider: &Anthropic,
            site,
            model,
            now: 0,
        }
    }

    #[test]
    fn what_is_said_of_fewer_models_counts_more() {
        let site = site(LIST);
        let known = |model: &str| Capability::of(Format::Messages, model);
        let declared = |model| target(&site, model).capability(Format::Messages);
        assert_eq!(
            declared("claude-next"),
            Capability {
                json_schema: false,
                max_output: 200,
                ..known("claude-opus-4-8")
            }
        );
        assert_eq!(
            declared("claude-haiku-4-5"),
            Capability {
                json_schema: false,
                max_output: 100,
                ..known("claude-haiku-4-5")
            }
        );
        assert_eq!(declared("other"), known("other"));
        let undeclared = Site::default();
        let usual = target(&undeclared, "claude-haiku-4-5").capability(Format::Messages);
        assert_eq!(usual, known("claude-haiku-4-5"));
    }

    #[test]
    fn a_profile_is_of_the_family_that_it_is_like() {
        let site = site(LIST);
        let of = |model| {
            Target {
                provider: &Bedrock,
                ..target(&site, model)
            }
            .hosted()
        };
        let profile = of("arn:aws:bedrock:x:1:profile/a");
        assert_eq!(profile.family, Family::Claude);
        assert_eq!((profile.caching, profile.forced_tool), (Caching::None, false));
        assert_eq!(of("arn:aws:bedrock:x:1:profile/b").family, Family::Other);
    }

    #[test]
    fn a_list_is_printed_as_it_is_read() {
        let printed = Abilities::parse(LIST).expect("a list").to_string();
        assert_eq!(Abilities::parse(&printed), Abilities::parse(LIST));
        assert_eq!(Abilities::parse(" ; "), Ok(Abilities::NONE));
        let check = |list: &str, expected: &str| {
            let error = Abilities::parse(list).expect_err("no list").to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(
            "speed",
            "\"speed\" is no capability; known are like=MODEL, effort,",
        );
        check(
            "effort=yes",
            "\"effort=yes\" has no value that it can have: write effort or -effort",
        );
        check(
            "max-output=many",
            "\"max-output=many\" has no value that it can have: write max-output=NUMBER",
        );
        check(
            "-caching",
            "\"-caching\" has no value that it can have: write caching=none|5m|1h",
        );
        check("a: effort; a: -effort", "\"a\" is listed twice");
        check("a: ,", "\"a\" says nothing of its models");
    }
}
