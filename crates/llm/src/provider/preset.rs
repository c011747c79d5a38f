//! What is known of a provider before anything is configured.

/// How a provider is found in the environment, and what it serves there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The variable that holds the key.
    pub key: &'static str,
    /// The variable that holds the base URL.
    pub base: &'static str,
    /// The base URL, unless the variable says another.
    pub url: &'static str,
    /// Which of the two variables brings the provider in.
    pub trigger: Trigger,
    /// The variable that must hold the version of the API.
    pub version: Option<&'static str>,
    /// Headers that variables set, where they are set: name and variable.
    pub headers: &'static [(&'static str, &'static str)],
    /// Models that it is sure to have; the first is cheap.
    pub models: &'static [&'static str],
    /// A regular expression of the names that are its own when another provider takes all the others; empty
    /// for none.
    pub family: &'static str,
}

/// Which variable brings a provider in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The key: the provider is on the public network.
    Key,
    /// The base URL: the provider is one's own, and may have no key.
    Base,
    /// The key, and there must be a base URL: every customer has another.
    Both,
}

impl Preset {
    /// What most presets say where they say nothing.
    pub(super) const NONE: Preset = Preset {
        key: "",
        base: "",
        url: "",
        trigger: Trigger::Key,
        version: None,
        headers: &[],
        models: &[],
        family: "",
    };
}
