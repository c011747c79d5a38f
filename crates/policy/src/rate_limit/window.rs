//! Windows of time: what is counted starts anew with each.
//!
//! Windows have a fixed length and are aligned to the Unix epoch (compatibility specification, "Counter algorithm"),
//! so that every gateway finds the same ones. As an extension they may follow the calendar of a time zone: then
//! months have their real length and days begin at midnight there. And they may slide: then as much of the window
//! before counts as the present one has not come to yet, as if that had been used evenly.

use jiff::{Timestamp, ToSpan as _, Zoned, civil, tz::TimeZone};

use super::spec::Unit;

/// How time is cut into windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    unit: Unit,
    calendar: Option<TimeZone>,
    shape: Shape,
}

/// Whether windows slide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Each begins with nothing used.
    #[default]
    Fixed,
    /// The one before counts for as long as the present one has not come to.
    Sliding,
}

/// One window, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Its first second.
    pub start: u64,
    /// The first second after it.
    pub end: u64,
}

impl Span {
    /// Returns its length.
    pub fn seconds(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Returns how much of it is not over at `now`.
    pub fn left(self, now: u64) -> u64 {
        self.end.saturating_sub(now).min(self.seconds())
    }
}

impl Window {
    /// Returns windows of fixed length.
    pub fn fixed(unit: Unit) -> Self {
        Self {
            unit,
            calendar: None,
            shape: Shape::Fixed,
        }
    }

    /// Returns windows that follow the calendar of `zone`.
    pub fn calendar(unit: Unit, zone: TimeZone) -> Self {
        Self {
            unit,
            calendar: Some(zone),
            shape: Shape::Fixed,
        }
    }

    /// Returns the same windows in another shape.
    pub fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// Returns the same windows in another unit.
    pub fn with(&self, unit: Unit) -> Self {
        Self { unit, ..self.clone() }
    }

    /// Returns whether a window counts into the one after it. One of a second never does: time is told in seconds.
    pub fn slides(&self) -> bool {
        self.shape == Shape::Sliding && self.unit != Unit::Second
    }

    /// Returns the window before `span`, where that counts.
    pub fn before(&self, span: Span) -> Option<Span> {
        let last = span.start.checked_sub(1)?;
        self.slides().then(|| self.at(last))
    }

    /// Returns the length of a window, in seconds; of one that follows the calendar, about.
    pub fn seconds(&self) -> u64 {
        seconds(self.unit)
    }

    /// Returns the window that holds `now`, in seconds since the Unix epoch.
    pub fn at(&self, now: u64) -> Span {
        let calendar = self.calendar.as_ref();
        calendar
            .and_then(|zone| of_calendar(self.unit, zone, now))
            .unwrap_or_else(|| {
                let length = self.seconds();
                let start = now - now % length;
                Span {
                    start,
                    end: start + length,
                }
            })
    }
}

/// Returns the time zone called `name`, as `Europe/Berlin`.
///
/// # Errors
/// If there is none of that name.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("there is no time zone \"{name}\""))
}

/// Returns the unit that a quota's `duration` means.
pub fn duration(written: &str) -> Option<Unit> {
    DURATIONS
        .iter()
        .find(|(name, _)| *name == written)
        .map(|(_, unit)| *unit)
}

/// What may be written as the duration of a quota. Those above a day are an extension.
pub const DURATIONS: &[(&str, Unit)] = &[
    ("1s", Unit::Second),
    ("1m", Unit::Minute),
    ("1h", Unit::Hour),
    ("1d", Unit::Day),
    ("1w", Unit::Week),
    ("1mo", Unit::Month),
    ("1y", Unit::Year),
];

fn seconds(unit: Unit) -> u64 {
    match unit {
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 3600,
        Unit::Day => 86_400,
        Unit::Week => 604_800,
        Unit::Month => 2_592_000,
        Unit::Year => 31_536_000,
    }
}

/// Weeks begin on Monday (ISO 8601). `None` only for times that no calendar knows.
fn of_calendar(unit: Unit, zone: &TimeZone, now: u64) -> Option<Span> {
    let now = Timestamp::from_second(i64::try_from(now).ok()?).ok()?;
    let now = now.to_zoned(zone.clone());
    let today = now.date();
    let begin = |date: civil::Date| date.to_zoned(zone.clone()).ok();
    let (start, end) = match unit {
        Unit::Second | Unit::Minute | Unit::Hour => return of_clock(unit, zone, now.timestamp()),
        Unit::Day => (begin(today)?, begin(today.tomorrow().ok()?)?),
        Unit::Week => {
            let into = i64::from(today.weekday().to_monday_zero_offset());
            let monday = today.checked_sub(into.days()).ok()?;
            (begin(monday)?, begin(monday.checked_add(7.days()).ok()?)?)
        }
        Unit::Month => {
            let first = today.first_of_month();
            (begin(first)?, begin(first.checked_add(1.month()).ok()?)?)
        }
        Unit::Year => {
            let first = today.first_of_year();
            (begin(first)?, begin(first.checked_add(1.year()).ok()?)?)
        }
    };
    let second = |at: &Zoned| u64::try_from(at.timestamp().as_second()).ok();
    Some(Span {
        start: second(&start)?,
        end: second(&end)?,
    })
}

/// Returns the window by the clock of `zone`. Where that is put forward or back by a part of an hour, the hour ends there
/// and another one begins.
fn of_clock(unit: Unit, zone: &TimeZone, now: Timestamp) -> Option<Span> {
    let length = i64::try_from(seconds(unit)).ok()?;
    let offset = zone.to_offset(now);
    let second = now.as_second();
    let start = second - (second + i64::from(offset.seconds())).rem_euclid(length);
    let (mut start, mut end) = (start, start + length);
    let differs = |second| Timestamp::from_second(second).is_ok_and(|at| zone.to_offset(at) != offset);
    if differs(start) {
        let last = zone.preceding(Timestamp::from_second(second + 1).ok()?).next();
        start = last.map_or(start, |change| change.timestamp().as_second().max(start));
    }
    if differs(end - 1) {
        let next = zone.following(now).next();
        end = next.map_or(end, |change| change.timestamp().as_second().min(end));
    }
    Some(Span {
        start: u64::try_from(start).ok()?,
        end: u64::try_from(end).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        let time: Timestamp = text.parse().expect("a time");
        u64::try_from(time.as_second()).expect("after the epoch")
    }

    #[track_caller]
    fn check(window: &Window, now: &str, start: &str, end: &str) {
        let expected = Span {
            start: at(start),
            end: at(end),
        };
        assert_eq!(window.at(at(now)), expected, "{window:?} at {now}");
    }

    #[test]
    fn fixed_windows_are_aligned_to_the_epoch() {
        for (unit, length) in [
            (Unit::Second, 1),
            (Unit::Minute, 60),
            (Unit::Hour, 3600),
            (Unit::Day, 86_400),
            (Unit::Week, 604_800),
            (Unit::Month, 2_592_000),
            (Unit::Year, 31_536_000),
        ] {
            let span = Window::fixed(unit).at(1_735_689_661);
            assert_eq!(span.start % length, 0, "{unit:?}");
            assert_eq!(span.end - span.start, length, "{unit:?}");
            assert!((span.start..span.end).contains(&1_735_689_661), "{unit:?}");
        }
    }

    #[test]
    fn calendars_have_zones() {
        let berlin = |unit| Window::calendar(unit, zone("Europe/Berlin").expect("a zone"));
        let now = "2026-03-29T10:30:45Z";
        check(
            &berlin(Unit::Minute),
            now,
            "2026-03-29T10:30:00Z",
            "2026-03-29T10:31:00Z",
        );
        check(
            &berlin(Unit::Hour),
            now,
            "2026-03-29T10:00:00Z",
            "2026-03-29T11:00:00Z",
        );
        // The day on which clocks are put forward has 23 hours.
        check(
            &berlin(Unit::Day),
            now,
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
        );
        check(
            &berlin(Unit::Week),
            now,
            "2026-03-22T23:00:00Z",
            "2026-03-29T22:00:00Z",
        );
        check(
            &berlin(Unit::Month),
            now,
            "2026-02-28T23:00:00Z",
            "2026-03-31T22:00:00Z",
        );
        check(
            &berlin(Unit::Year),
            now,
            "2025-12-31T23:00:00Z",
            "2026-12-31T23:00:00Z",
        );
        assert!(zone("Europe/Atlantis").is_err());
    }

    /// Whatever clocks do: every second is in one window, windows follow one another, and none is empty.
    #[test]
    fn windows_follow_one_another_where_clocks_change() {
        const UNITS: [Unit; 7] = [
            Unit::Second,
            Unit::Minute,
            Unit::Hour,
            Unit::Day,
            Unit::Week,
            Unit::Month,
            Unit::Year,
        ];
        // Halves of hours, midnights that are not there or there twice, a day that was left out.
        for name in [
            "Europe/Berlin",
            "Australia/Lord_Howe",
            "America/Havana",
            "Africa/Cairo",
            "Asia/Beirut",
            "America/Sao_Paulo",
            "Pacific/Apia",
            "Africa/Casablanca",
            "Asia/Kathmandu",
        ] {
            let zone = zone(name).expect("a zone");
            let from: Timestamp = "2010-01-01T00:00:00Z".parse().expect("a time");
            for change in zone.following(from).take(24) {
                let change = u64::try_from(change.timestamp().as_second()).expect("after the epoch");
                for step in 0..=96 {
                    let now = change - 86_400 + step * 1800 + 7;
                    for unit in UNITS {
                        let window = Window::calendar(unit, zone.clone());
                        let span = window.at(now);
                        assert!(
                            (span.start..span.end).contains(&now),
                            "{name} {unit:?} {now} {span:?}"
                        );
                        for same in [span.start, span.end - 1] {
                            assert_eq!(window.at(same), span, "{name} {unit:?} {now}");
                        }
                        assert_eq!(
                            window.at(span.end).start,
                            span.end,
                            "{name} {unit:?} {now} {span:?}"
                        );
                    }
                }
            }
        }
    }
}
