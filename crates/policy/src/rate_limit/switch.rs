//! What annotations say about limits, beyond what their kinds can: one word for all rules, and others for some.

use jiff::tz::TimeZone;

use super::{
    store::Manner,
    window::{self, Shape},
};

/// What is done with requests while the store of counters cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failure {
    /// They are let through.
    #[default]
    Open,
    /// They are refused.
    Closed,
}

/// How a limit is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What a request may cost is held until it is known.
    #[default]
    Reserve,
    /// The same; for a streamed answer that goes on beyond that more is held as it grows, and it is cut off where
    /// nothing is left.
    Cut,
    /// Requests are let through until more than the limit was used.
    Check,
}

impl Mode {
    /// Returns how claims are decided.
    pub fn manner(self) -> Manner {
        match self {
            Mode::Reserve | Mode::Cut => Manner::Reserve,
            Mode::Check => Manner::Check,
        }
    }
}

/// A word for all rules, and others for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch<T> {
    all: Option<T>,
    some: Vec<(usize, T)>,
}

impl<T> Default for Switch<T> {
    fn default() -> Self {
        Self {
            all: None,
            some: Vec::new(),
        }
    }
}

impl<T: Clone> Switch<T> {
    /// Reads `word`, `0=word` or several of them with commas between, each word by `read`.
    ///
    /// # Errors
    /// What `read` says of a word that it does not know.
    pub fn parse(written: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Self, String> {
        let mut switch = Self::default();
        for part in written.split(',').map(str::trim) {
            match part.split_once('=') {
                Some((rule, word)) => {
                    let rule = rule.trim().parse();
                    let rule = rule.map_err(|_| format!("\"{part}\" does not begin with a rule's place"))?;
                    switch.some.push((rule, read(word.trim())?));
                }
                None => switch.all = Some(read(part)?),
            }
        }
        Ok(switch)
    }

    /// Returns the places of the rules that something is said of by themselves.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.some.iter().map(|(rule, _)| *rule)
    }

    /// Returns what is said of the rule at `index`.
    pub fn of(&self, index: usize) -> Option<T> {
        let own = self.some.iter().find(|(rule, _)| *rule == index);
        own.map(|(_, word)| word).or(self.all.as_ref()).cloned()
    }
}

/// Reads how a limit is held.
///
/// # Errors
/// If it is none of `reserve`, `cut` and `check`.
pub fn mode(word: &str) -> Result<Mode, String> {
    match word {
        "reserve" => Ok(Mode::Reserve),
        "cut" => Ok(Mode::Cut),
        "check" => Ok(Mode::Check),
        _ => Err(format!(
            "expected \"reserve\", \"cut\" or \"check\" in place of \"{word}\""
        )),
    }
}

/// Reads what is done without a store.
///
/// # Errors
/// If it is neither `open` nor `closed`.
pub fn failure(word: &str) -> Result<Failure, String> {
    match word {
        "open" => Ok(Failure::Open),
        "closed" => Ok(Failure::Closed),
        _ => Err(format!("expected \"open\" or \"closed\" in place of \"{word}\"")),
    }
}

/// Reads whether windows slide.
///
/// # Errors
/// If it is neither `fixed` nor `sliding`.
pub fn shape(word: &str) -> Result<Shape, String> {
    match word {
        "fixed" => Ok(Shape::Fixed),
        "sliding" => Ok(Shape::Sliding),
        _ => Err(format!(
            "expected \"fixed\" or \"sliding\" in place of \"{word}\""
        )),
    }
}

/// Reads the time zone whose calendar windows follow.
///
/// # Errors
/// If there is none of that name.
pub fn calendar(word: &str) -> Result<TimeZone, String> {
    window::zone(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_all_and_for_some() {
        let switch = Switch::parse("closed, 2=open", failure).expect("well-formed");
        let found: Vec<_> = (0..4).map(|rule| switch.of(rule)).collect();
        let (open, closed) = (Some(Failure::Open), Some(Failure::Closed));
        assert_eq!(found, [closed, closed, open, closed]);
        assert_eq!(Switch::<Failure>::default().of(0), None);
        for written in ["", "shut", "x=open", "1=shut"] {
            assert!(Switch::parse(written, failure).is_err(), "{written}");
        }
        assert!(Switch::parse("Europe/Berlin", calendar).is_ok());
        let modes = Switch::parse("reserve, 1=cut, 2=check", mode).expect("well-formed");
        let modes: Vec<_> = (0..3).map(|rule| modes.of(rule)).collect();
        assert_eq!(modes, [Mode::Reserve, Mode::Cut, Mode::Check].map(Some));
        assert!(Switch::parse("stop", mode).is_err());
        let sliding = Switch::parse("0=sliding", shape).expect("well-formed");
        assert_eq!((sliding.of(0), sliding.of(1)), (Some(Shape::Sliding), None));
        assert!(Switch::parse("round", shape).is_err());
    }
}
