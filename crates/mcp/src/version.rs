//! The revisions of the protocol, and which of them two sides speak.
//!
//! There are two lines. Up to 2025-11-25 a session begins with `initialize` and what was agreed holds for all
//! of it ("legacy"). From 2026-07-28 every request says for itself what it needs ("modern").

use std::fmt;

/// A revision, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP with a separate stream of events; only ever spoken by servers.
    V2024_11_05,
    /// Streamable HTTP, batches.
    V2025_03_26,
    /// The version in a header, no batches.
    V2025_06_18,
    /// Polling of streams.
    V2025_11_25,
    /// No sessions.
    V2026_07_28,
}

impl Version {
    /// Every revision, the oldest first.
    pub const ALL: &[Self] = &[
        Version::V2024_11_05,
        Version::V2025_03_26,
        Version::V2025_06_18,
        Version::V2025_11_25,
        Version::V2026_07_28,
    ];

    /// The newest revision with sessions.
    pub const NEWEST_LEGACY: Self = Version::V2025_11_25;

    /// What a client speaks that says nothing (revision 2025-06-18, "Protocol Version Header").
    pub const UNSAID: Self = Version::V2025_03_26;

    /// What clients may speak, in either line, the newest first.
    pub const OFFERED: &[Self] = &[
        Version::V2026_07_28,
        Version::V2025_11_25,
        Version::V2025_06_18,
        Version::V2025_03_26,
    ];

    /// Reads a revision's date.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|version| version.name() == text)
    }

    /// Returns the date.
    pub fn name(self) -> &'static str {
        match self {
            Version::V2024_11_05 => "2024-11-05",
            Version::V2025_03_26 => "2025-03-26",
            Version::V2025_06_18 => "2025-06-18",
            Version::V2025_11_25 => "2025-11-25",
            Version::V2026_07_28 => "2026-07-28",
        }
    }

    /// Returns whether every request says for itself what it needs.
    pub fn is_modern(self) -> bool {
        self >= Version::V2026_07_28
    }

    /// Returns what a client is answered that proposes `asked` in `initialize`: the same where it is served, else
    /// the newest that is.
    pub fn negotiate(asked: &str) -> Self {
        match Self::parse(asked) {
            Some(version) if Self::SERVED.contains(&version) => version,
            Some(_) | None => Self::NEWEST_LEGACY,
        }
    }

    /// The revisions that clients with sessions may speak.
    const SERVED: &[Self] = &[Version::V2025_03_26, Version::V2025_06_18, Version::V2025_11_25];
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_they_ask_for_if_it_is_served() {
        for (asked, answered) in [
            ("2025-03-26", "2025-03-26"),
            ("2025-06-18", "2025-06-18"),
            ("2025-11-25", "2025-11-25"),
            ("2024-11-05", "2025-11-25"),
            ("2026-07-28", "2025-11-25"),
            ("1999-01-01", "2025-11-25"),
            ("", "2025-11-25"),
        ] {
            assert_eq!(Version::negotiate(asked).name(), answered, "{asked}");
        }
    }
}
