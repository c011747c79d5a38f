//! How long an upstream asks to be left alone, by the headers that tell how much of its limits is left.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

/// What tells that nothing is left, and what then tells when there is again.
const LIMITS: &[(&str, &str)] = &[
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    (
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    (
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ),
    (
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
];

/// A number of seconds above this is a time since 1970.
const SECONDS_OR_TIME: f64 = 1_000_000_000.0;

/// Returns how long `headers` ask to wait; `None` where something is left of everything.
pub(super) fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let spent = LIMITS.iter().filter(|(left, _)| text(left) == Some("0"));
    spent.filter_map(|(_, reset)| until(text(reset)?, now)).max()
}

/// Reads a number of seconds, a time since 1970, a time of RFC 3339, or a sum like `6m0.5s`.
fn until(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        let seconds = if seconds > SECONDS_OR_TIME {
            seconds - now.as_second() as f64
        } else {
            seconds
        };
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        let seconds = time.as_second().saturating_sub(now.as_second());
        return Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    }
    sum(text)
}

fn sum(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let number: f64 = number.parse().ok()?;
        let (unit, after) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((unit, after.strip_prefix(name)?)))?;
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
        rest = after;
    }
    Some(total)
}

/// Units and their seconds, `ms` before the `m` that it begins with.
const UNITS: &[(&str, f64)] = &[
    ("h", 3600.0),
    ("ms", 0.001),
    ("m", 60.0),
    ("s", 1.0),
    ("d", 86_400.0),
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(lines: &[(&'static str, &'static str)], expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let found = wait(&headers, now).map(|wait| u64::try_from(wait.as_millis()).unwrap_or(0));
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn limits_that_are_spent_tell_when_there_is_more() {
        let requests = "x-ratelimit-remaining-requests";
        let reset = "x-ratelimit-reset-requests";
        check(&[], None);
        check(&[(requests, "9"), (reset, "1s")], None);
        check(&[(requests, "0")], None);
        check(&[(requests, "0"), (reset, "1s")], Some(1_000));
        check(&[(requests, "0"), (reset, "6m0.5s")], Some(360_500));
        check(&[(requests, "0"), (reset, "120ms")], Some(120));
        check(&[(requests, "0"), (reset, "2.5")], Some(2_500));
        check(&[(requests, "0"), (reset, "nonsense")], None);
        check(&[(requests, "0"), (reset, "-5")], Some(0));
        let remaining = "anthropic-ratelimit-tokens-remaining";
        let reset = "anthropic-ratelimit-tokens-reset";
        check(&[(remaining, "0"), (reset, "2026-01-01T00:00:30Z")], Some(30_000));
        check(&[(remaining, "0"), (reset, "2025-01-01T00:00:30Z")], Some(0));
        check(
            &[
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "1767225610"),
            ],
            Some(10_000),
        );
    }
}
