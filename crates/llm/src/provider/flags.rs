//! What is declared of flags (`anthropic-beta`) at one backend, over what its platform is known to make of them.
//!
//! Platforms take new flags and drop old ones more often than we are built.

use std::fmt;

/// Changes to what a platform makes of flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(Vec<Flag>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Flag {
    /// As clients send it.
    sent: String,
    /// What it is called there; `None` if it is not taken.
    named: Option<String>,
}

/// Why a list of flags cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagsError {
    /// Something that is not a flag, a flag with a name, or one that is not taken.
    #[error("\"{0}\" is not of the form flag, flag=name or -flag")]
    Malformed(String),
    /// A flag of which two things are said.
    #[error("\"{0}\" is listed twice")]
    Repeated(String),
}

impl Flags {
    /// Nothing is declared.
    pub const NONE: Flags = Flags(Vec::new());

    /// Reads a list such as `compact-2026-01-12, -context-1m-2025-08-07, old=new`: flags that are taken, that are not,
    /// and that are taken by another name.
    ///
    /// # Errors
    /// If it is not such a list.
    pub fn parse(list: &str) -> Result<Self, FlagsError> {
        let mut flags: Vec<Flag> = Vec::new();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (sent, named) = match (entry.strip_prefix('-'), entry.split_once('=')) {
                (Some(flag), _) => (flag, None),
                (None, Some((flag, name))) => (flag.trim_end(), Some(name.trim_start())),
                (None, None) => (entry, Some(entry)),
            };
            if !is_flag(sent) || !named.is_none_or(is_flag) {
                return Err(FlagsError::Malformed(entry.to_owned()));
            }
            if flags.iter().any(|known| known.sent == sent) {
                return Err(FlagsError::Repeated(sent.to_owned()));
            }
            flags.push(Flag {
                sent: sent.to_owned(),
                named: named.map(str::to_owned),
            });
        }
        Ok(Self(flags))
    }

    /// Returns whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what is declared of `flag`, if anything is: what it is called, or `None` if it is not taken.
    pub(super) fn of(&self, flag: &str) -> Option<Option<&str>> {
        let declared = self.0.iter().find(|declared| declared.sent == flag)?;
        Some(declared.named.as_deref())
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Flag { sent, named }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            match named {
                None => write!(f, "{separator}-{sent}")?,
                Some(named) if named == sent => write!(f, "{separator}{sent}")?,
                Some(named) => write!(f, "{separator}{sent}={named}")?,
            }
        }
        Ok(())
    }
}

fn is_flag(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_one_thing_of_a_flag() {
        let flags = Flags::parse(" a-2026-01-12 ,-b, c = d,, ").expect("flags");
        for (flag, declared) in [
            ("a-2026-01-12", Some(Some("a-2026-01-12"))),
            ("b", Some(None)),
            ("c", Some(Some("d"))),
            ("d", None),
        ] {
            assert_eq!(flags.of(flag), declared, "{flag}");
        }
        assert_eq!(flags.to_string(), "a-2026-01-12, -b, c=d");
        assert_eq!(Flags::parse(""), Ok(Flags::NONE));
        for entry in ["-", "--a", "a=", "=a", "a b", "a=b=c", "-a=b", "\u{e9}"] {
            let error = FlagsError::Malformed(entry.to_owned());
            assert_eq!(Flags::parse(entry), Err(error));
        }
        assert_eq!(Flags::parse("a,-a"), Err(FlagsError::Repeated("a".to_owned())));
    }
}
