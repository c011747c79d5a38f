//! What a backend's models cost in money: a list of prices, and amounts that are exact.
//!
//! Prices are written for a million of what is counted, as providers publish them, with up to six decimal places. So one
//! token costs a whole number of millionths of a millionth, and sums have no error that grows.

use std::fmt;

use llm::{Tier, Usage};

/// The prices of a backend's models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    currency: String,
    entries: Vec<Entry>,
}

/// The prices of the models whose names fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// A name, a beginning of names with `*` after it, or `*` alone.
    models: String,
    /// By their places in [`COUNTED`].
    prices: [Option<u64>; COUNTED.len()],
    /// What everything is multiplied by at a tier of service, in millionths.
    tiers: Vec<(Tier, u64)>,
}

/// An amount of money, in millionths of a millionth of its currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(u64);

/// What an answer has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// The prompt's part.
    pub prompt: Money,
    /// The answer's part.
    pub answer: Money,
    /// All of it.
    pub total: Money,
}

/// Why a list of prices cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricesError {
    /// It does not say which money it is about.
    #[error("begins with no currency such as USD")]
    Currency,
    /// Something that has no price.
    #[error("\"{0}\" has no price; prices have {names} and factors {tiers}", names = names(), tiers = tiers())]
    Unknown(String),
    /// A price that is none.
    #[error("\"{0}\" is not a number from 0 with up to 6 decimal places")]
    Number(String),
    /// Models of which two things are said.
    #[error("\"{0}\" is listed twice")]
    Repeated(String),
    /// An entry without a price.
    #[error("\"{0}\" has no prices")]
    Empty(String),
}

/// What is counted, by name.
const COUNTED: [(&str, Counted); 9] = [
    ("input", Counted::Input),
    ("cached-input", Counted::CachedInput),
    ("cache-creation-input", Counted::CacheCreation),
    ("cache-creation-hour", Counted::CacheCreationHour),
    ("output", Counted::Output),
    ("reasoning", Counted::Reasoning),
    ("search-units", Counted::SearchUnits),
    ("audio-seconds", Counted::AudioSeconds),
    ("requests", Counted::Requests),
];

/// The tiers of service that are cheaper or dearer than the ordinary one.
const TIERS: [Tier; 5] = [
    Tier::Flex,
    Tier::Priority,
    Tier::Scale,
    Tier::Reserved,
    Tier::Batch,
];

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Input,
    CachedInput,
    CacheCreation,
    CacheCreationHour,
    Output,
    Reasoning,
    SearchUnits,
    AudioSeconds,
    Requests,
}

/// How many millionths are one.
const MILLION: u64 = 1_000_000;

impl Prices {
    /// Reads a list such as `USD; gpt-5*: input=1.25, cached-input=0.125, output=10, batch=0.5; *: input=1, output=2`: the
    /// currency, and of which models each entry is and what a million of them costs; of all models if it does not say.
    ///
    /// # Errors
    /// If it is not such a list.
    pub fn parse(list: &str) -> Result<Self, PricesError> {
        let mut items = list.split(';').map(str::trim).filter(|item| !item.is_empty());
        let currency = items.next().unwrap_or_default();
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(PricesError::Currency);
        }
        let mut entries: Vec<Entry> = Vec::new();
        for written in items {
            let (models, items) = written.split_once(": ").unwrap_or(("*", written));
            let entry = Entry::parse(models.trim(), items)?;
            if entries.iter().any(|known| known.models == entry.models) {
                return Err(PricesError::Repeated(entry.models));
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(PricesError::Empty(currency.to_owned()));
        }
        // What is said of fewer models counts alone.
        entries.sort_by_key(|entry| (entry.models.ends_with('*'), usize::MAX - entry.models.len()));
        Ok(Self {
            currency: currency.to_owned(),
            entries,
        })
    }

    /// Returns the currency, as ISO 4217 calls it.
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// Returns whether the list has prices for `model`.
    pub fn has(&self, model: &str) -> bool {
        self.entries.iter().any(|entry| entry.fits(model))
    }

    /// Returns what an answer of `model` has cost that has used `usage` and `seconds` of audio; `None` if the model has no
    /// prices.
    pub fn of(&self, model: &str, usage: &Usage, seconds: Option<u64>) -> Option<Spent> {
        let entry = self.entries.iter().find(|entry| entry.fits(model))?;
        Some(entry.of(usage, seconds))
    }
}

impl Entry {
    fn parse(models: &str, items: &str) -> Result<Self, PricesError> {
        let mut entry = Self {
            models: models.to_owned(),
            ..Self::default()
        };
        for item in items.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, written) = item.split_once('=').unwrap_or((item, ""));
            let (name, written) = (name.trim_end(), written.trim_start());
            let number = || millionths(written).ok_or_else(|| PricesError::Number(item.to_owned()));
            let priced = COUNTED.iter().position(|(known, _)| *known == name);
            if let Some(price) = priced.and_then(|place| entry.prices.get_mut(place)) {
                *price = Some(number()?);
            } else if let Some(tier) = TIERS.iter().find(|tier| tier.as_str() == name) {
                entry.tiers.push((*tier, number()?));
            } else {
                return Err(PricesError::Unknown(item.to_owned()));
            }
        }
        if entry.prices.iter().all(Option::is_none) {
            return Err(PricesError::Empty(entry.models));
        }
        Ok(entry)
    }

    fn fits(&self, model: &str) -> bool {
        match self.models.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == self.models,
        }
    }

    /// Returns the price of one of `counted`; what has none of its own costs what it is a part of.
    fn price(&self, counted: Counted) -> u64 {
        let place = COUNTED.iter().position(|(_, known)| *known == counted);
        let own = place.and_then(|place| *self.prices.get(place)?);
        own.unwrap_or_else(|| match counted {
            Counted::CachedInput | Counted::CacheCreation => self.price(Counted::Input),
            Counted::CacheCreationHour => self.price(Counted::CacheCreation),
            Counted::Reasoning => self.price(Counted::Output),
            Counted::Input
            | Counted::Output
            | Counted::SearchUnits
            | Counted::AudioSeconds
            | Counted::Requests => 0,
        })
    }

    fn of(&self, usage: &Usage, seconds: Option<u64>) -> Spent {
        let all = |counts: &[(Counted, u64)]| -> u128 {
            let each = counts.iter();
            each.map(|(counted, count)| u128::from(*count) * u128::from(self.price(*counted)))
                .fold(0, u128::saturating_add)
        };
        let count = |count: Option<u64>| count.unwrap_or(0);
        let written = count(usage.cache_write);
        let hour = count(usage.cache_write_hour).min(written);
        let output = count(usage.output);
        let reasoning = count(usage.reasoning).min(output);
        let prompt = all(&[
            (Counted::Input, count(usage.input)),
            (Counted::CachedInput, count(usage.cache_read)),
            (Counted::CacheCreation, written - hour),
            (Counted::CacheCreationHour, hour),
        ]);
        let answer = all(&[
            (Counted::Output, output - reasoning),
            (Counted::Reasoning, reasoning),
        ]);
        let rest = all(&[
            (Counted::SearchUnits, count(usage.search_units)),
            (Counted::AudioSeconds, count(seconds)),
            (Counted::Requests, 1),
        ]);
        let mut tiers = self.tiers.iter();
        let factor = tiers.find(|(tier, _)| Some(*tier) == usage.tier);
        let factor = u128::from(factor.map_or(MILLION, |(_, factor)| *factor));
        let money = |sum: u128| {
            let sum = sum.saturating_mul(factor) / u128::from(MILLION);
            Money(u64::try_from(sum).unwrap_or(u64::MAX))
        };
        Spent {
            prompt: money(prompt),
            answer: money(answer),
            total: money(prompt.saturating_add(answer).saturating_add(rest)),
        }
    }
}

impl Money {
    /// Returns so many millionths of the currency.
    pub fn of_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(MILLION))
    }

    /// Returns the amount in millionths of the currency, rounded up: what is charged must not vanish.
    pub fn micros(self) -> u64 {
        self.0.div_ceil(MILLION)
    }

    /// Returns the amount in units of the currency.
    #[expect(clippy::cast_precision_loss, reason = "an amount that is shown or summed up")]
    pub fn amount(self) -> f64 {
        self.0 as f64 / 1e12
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / (MILLION * MILLION), self.0 % (MILLION * MILLION));
        let digits = format!("{rest:012}");
        match digits.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            digits => write!(f, "{whole}.{digits}"),
        }
    }
}

impl fmt::Display for Prices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.currency)?;
        for entry in &self.entries {
            let prices = COUNTED.iter().zip(&entry.prices);
            let prices = prices.filter_map(|((name, _), price)| price.map(|price| (*name, price)));
            let factors = entry.tiers.iter().map(|(tier, factor)| (tier.as_str(), *factor));
            let items = prices.chain(factors);
            // A price is written as an amount: in both, the unit has a million parts.
            let items: Vec<String> = items
                .map(|(name, number)| format!("{name}={}", Money(number.saturating_mul(MILLION))))
                .collect();
            write!(f, "; {}: {}", entry.models, items.join(", "))?;
        }
        Ok(())
    }
}

/// Reads a decimal number, in millionths.
fn millionths(written: &str) -> Option<u64> {
    let (whole, fraction) = written.split_once('.').unwrap_or((written, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    whole.checked_mul(MILLION)?.checked_add(fraction)
}

fn names() -> String {
    COUNTED.map(|(name, _)| name).join(", ")
}

fn tiers() -> String {
    TIERS.map(Tier::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage = Usage {
        input: Some(1000),
        cache_read: Some(200),
        cache_write: Some(30),
        cache_write_hour: Some(10),
        output: Some(400),
        reasoning: Some(100),
        search_units: Some(2),
        tier: None,
    };

    #[track_caller]
    fn check(list: &str, model: &str, usage: &Usage, expected: Option<[&str; 3]>) {
        let prices = Prices::parse(list).expect("prices");
        let spent = prices.of(model, usage, Some(60));
        let found =
            spent.map(|spent| [spent.prompt, spent.answer, spent.total].map(|money| money.to_string()));
        let expected = expected.map(|amounts| amounts.map(str::to_owned));
        assert_eq!(found, expected, "{list} {model}");
        assert_eq!(Prices::parse(&prices.to_string()), Ok(prices), "{list}");
    }

    #[test]
    fn answers_cost_what_the_list_says() {
        let plain = "USD; input=1.25, output=10";
        check(plain, "m", &USAGE, Some(["0.0015375", "0.004", "0.0055375"]));
        let each = "EUR; input=1, cached-input=0.1, cache-creation-input=1.25, cache-creation-hour=2, output=4, \
                    reasoning=8, search-units=2000, audio-seconds=100, requests=5";
        check(each, "m", &USAGE, Some(["0.001065", "0.002", "0.01307"]));
        // An hour's cache is a part of what is written, and as dear where nothing else is said.
        let cached = "USD; input=1, cache-creation-input=2";
        check(cached, "m", &USAGE, Some(["0.00126", "0", "0.00126"]));
        check(
            "USD; input=0.000001",
            "m",
            &USAGE,
            Some(["0.00000000123", "0", "0.00000000123"]),
        );
    }

    #[test]
    fn the_narrowest_entry_counts() {
        let list = "USD; *: input=1; gpt-5*: input=2; gpt-5-mini: input=3";
        check(list, "gpt-5-mini", &USAGE, Some(["0.00369", "0", "0.00369"]));
        check(list, "gpt-5-mini-2", &USAGE, Some(["0.00246", "0", "0.00246"]));
        check(list, "claude", &USAGE, Some(["0.00123", "0", "0.00123"]));
        check("USD; gpt-5*: input=2", "claude", &USAGE, None);
    }

    #[test]
    fn tiers_have_factors() {
        let list = "USD; input=1, output=10, flex=0.5, priority=2";
        let at = |tier| Usage { tier, ..USAGE };
        check(
            list,
            "m",
            &at(Some(Tier::Flex)),
            Some(["0.000615", "0.002", "0.002615"]),
        );
        check(
            list,
            "m",
            &at(Some(Tier::Priority)),
            Some(["0.00246", "0.008", "0.01046"]),
        );
        check(
            list,
            "m",
            &at(Some(Tier::Batch)),
            Some(["0.00123", "0.004", "0.00523"]),
        );
    }

    #[test]
    fn amounts_are_bounded_and_do_not_vanish() {
        let usage = Usage {
            input: Some(u64::MAX),
            ..Usage::default()
        };
        let prices = Prices::parse("USD; input=1000000").expect("prices");
        let spent = prices.of("m", &usage, None).expect("a price");
        assert_eq!(spent.total, Money(u64::MAX));
        assert_eq!(Money(1).micros(), 1);
        assert_eq!(Money(0).micros(), 0);
        assert_eq!(Money(2_000_001).micros(), 3);
        assert!((Money(5_537_500_000).amount() - 0.005_537_5).abs() < f64::EPSILON);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let check = |list: &str, expected: &str| {
            let error = Prices::parse(list).expect_err(list).to_string();
            assert!(error.contains(expected), "{list}: {error}");
        };
        check("", "currency");
        check("input=1", "currency");
        check("usd; input=1", "currency");
        check("USD", "no prices");
        check("USD; gpt: flex=0.5", "no prices");
        check("USD; inputs=1", "cached-input");
        check("USD; input", "6 decimal places");
        check("USD; input=-1", "6 decimal places");
        check("USD; input=1.0000001", "6 decimal places");
        check("USD; input=1e3", "6 decimal places");
        check("USD; input=99999999999999999999", "6 decimal places");
        check("USD; a: input=1; a: output=2", "twice");
    }
}
