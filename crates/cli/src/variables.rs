//! Variables of the environment that Envoy AI Gateway's MCP proxy is set with, read as it reads them: what makes no
//! sense is passed over.

use std::time::Duration;

/// Holds how many bytes a message of a client may have.
pub(crate) const BODY: &str = "MCP_PROXY_MAX_REQUEST_BODY_SIZE";
/// Holds after how long a client that listens is told that we are still there.
pub(crate) const HEARTBEAT: &str = "MCP_PROXY_HEARTBEAT_INTERVAL";

/// Longer than any connection lasts.
const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Reads a number of bytes.
pub(crate) fn size(text: &str) -> Option<usize> {
    text.parse().ok().filter(|size| *size > 0)
}

/// Reads an interval as Go writes it: `1m`, `1.5s`, `1m30s`. Nothing, or less, is never.
pub(crate) fn interval(text: &str) -> Option<Duration> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let seconds = if text == "0" { 0.0 } else { seconds(text)? };
    if negative || seconds <= 0.0 {
        return Some(NEVER);
    }
    let read = Duration::try_from_secs_f64(seconds);
    Some(read.map_or(NEVER, |read| read.min(NEVER)))
}

fn seconds(text: &str) -> Option<f64> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let number: f64 = number.parse().ok()?;
        let (unit, tail) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((unit, tail.strip_prefix(name)?)))?;
        total += number * unit;
        rest = tail;
    }
    Some(total)
}

/// Units in seconds; no name comes before one that begins with it.
const UNITS: &[(&str, f64)] = &[
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_positive_numbers() {
        for (text, read) in [
            ("4096", Some(4096)),
            ("0", None),
            ("-1", None),
            ("4k", None),
            ("", None),
        ] {
            assert_eq!(size(text), read, "{text}");
        }
    }

    #[test]
    fn intervals_are_read_as_go_writes_them() {
        let check = |text: &str, read: Option<Duration>| assert_eq!(interval(text), read, "{text}");
        let millis = |millis| Some(Duration::from_millis(millis));
        check("1m", millis(60_000));
        check("1m30s", millis(90_000));
        check("1.5s", millis(1_500));
        check("250ms", millis(250));
        check("+2h", millis(7_200_000));
        for never in ["0", "0s", "-1s", "-5m"] {
            check(never, Some(NEVER));
        }
        check("99999999999h", Some(NEVER));
        for bad in ["", "1", "m", "1d", "1m x", "1..5s", "-"] {
            check(bad, None);
        }
    }
}
