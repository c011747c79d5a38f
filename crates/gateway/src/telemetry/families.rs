//! What is counted, read back from the text that says it: one place counts, and every form of telling says the same.

use std::collections::BTreeMap;

/// A metric with all its series.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) kind: Kind,
    pub(super) series: BTreeMap<Labels, Series>,
}

/// The labels of a series, in their order.
pub(super) type Labels = Vec<(String, String)>;

/// What a family counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Gauge,
    Counter,
    Histogram,
}

/// The values of one series; of numbers only the sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series {
    pub(super) sum: f64,
    pub(super) count: u64,
    /// Of the buckets but for the last, which has none.
    pub(super) bounds: Vec<f64>,
    /// Up to each bound and above the last, everything below included.
    pub(super) buckets: Vec<u64>,
}

impl Series {
    /// Returns how many values each bucket has of its own.
    pub(super) fn each(&self) -> Vec<u64> {
        let below = [0].into_iter().chain(self.buckets.iter().copied());
        let own = self.buckets.iter().zip(below);
        own.map(|(upto, below)| upto.saturating_sub(below)).collect()
    }

    /// Returns how many values are not above `bound`, as far as is known.
    pub(super) fn below(&self, bound: f64) -> u64 {
        if bound.is_infinite() {
            return self.count;
        }
        let at = self.bounds.partition_point(|own| *own <= bound);
        let bucket = at.checked_sub(1).and_then(|at| self.buckets.get(at));
        bucket.copied().unwrap_or_default()
    }
}

/// Reads the OpenMetrics text format, as far as our own text goes.
pub(super) fn parse(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            families.push(Family {
                name: name.to_owned(),
                help: help.to_owned(),
                ..Family::default()
            });
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            if let Some(family) = families.last_mut() {
                family.kind = match kind.rsplit(' ').next() {
                    Some("counter") => Kind::Counter,
                    Some("histogram") => Kind::Histogram,
                    _ => Kind::Gauge,
                };
            }
        } else if !line.starts_with('#')
            && let Some(family) = families.last_mut()
        {
            family.sample(line);
        }
    }
    families
}

impl Family {
    fn sample(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.rsplit_once(' ')?;
        let value: f64 = value.parse().ok()?;
        let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
        let mut labels = self::labels(labels.strip_suffix('}')?);
        let bound = labels
            .iter()
            .position(|(name, _)| name == "le")
            .map(|at| labels.remove(at).1);
        let series = self.series.entry(labels).or_default();
        match (name.strip_prefix(self.name.as_str())?, bound) {
            ("_count", _) => series.count = value as u64,
            ("_bucket", Some(bound)) => {
                series.buckets.push(value as u64);
                series
                    .bounds
                    .extend(bound.parse::<f64>().ok().filter(|bound| bound.is_finite()));
            }
            _ => series.sum = value,
        }
        Some(())
    }
}

/// Reads `a="b",c="d"`, in whose values quotes, backslashes and line breaks are escaped.
fn labels(text: &str) -> Labels {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let mut end = after.len();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped)) => value.push(escaped),
                    None => {}
                },
                other => value.push(other),
            }
        }
        labels.push((name.trim_start_matches(',').to_owned(), value));
        rest = after.get(end..).unwrap_or_default();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP target_info Who\n# TYPE target_info gauge\ntarget_info{a=\"b\"} 1\n# HELP n_seconds Time.\n# \
        TYPE n_seconds histogram\nn_seconds_sum{m=\"a\\\"b\"} 1.5\nn_seconds_count{m=\"a\\\"b\"} 3\n\
        n_seconds_bucket{le=\"0.5\",m=\"a\\\"b\"} 2\nn_seconds_bucket{le=\"+Inf\",m=\"a\\\"b\"} 3\n# HELP c All.\n# TYPE c \
        counter\nc_total 7\n# EOF\n";

    #[test]
    fn the_text_is_read_as_families() {
        let families = parse(TEXT);
        let names: Vec<_> = families
            .iter()
            .map(|family| (family.name.as_str(), family.kind))
            .collect();
        let expected = [
            ("target_info", Kind::Gauge),
            ("n_seconds", Kind::Histogram),
            ("c", Kind::Counter),
        ];
        assert_eq!(names, expected);
        let (labels, series) = families[1].series.iter().next().expect("a series");
        assert_eq!(labels, &[("m".to_owned(), "a\"b".to_owned())]);
        let expected = Series {
            sum: 1.5,
            count: 3,
            bounds: vec![0.5],
            buckets: vec![2, 3],
        };
        assert_eq!(series, &expected);
    }
}
