//! Metrics as OTLP, made of the text that Prometheus is given: one place counts, and both tell the same.

use std::collections::{BTreeMap, HashMap};

use policy::protobuf::Message;

use super::proto;
use crate::telemetry::trace::span::Value;

/// A metric with all its series.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Family {
    name: String,
    help: String,
    kind: Kind,
    series: BTreeMap<Labels, Series>,
}

type Labels = Vec<(String, String)>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Gauge,
    Counter,
    Histogram,
}

/// The values of one series; of numbers only the sum.
#[derive(Clone, Debug, Default, PartialEq)]
struct Series {
    sum: f64,
    count: u64,
    bounds: Vec<f64>,
    /// Up to each bound and above the last, everything below included.
    buckets: Vec<u64>,
}

/// What was told before, where only what is new is told.
pub(super) type Before = HashMap<(String, Labels), (f64, u64, Vec<u64>)>;

/// When what is told was counted, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
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
    families.retain(|family| !family.series.is_empty() && family.name != "target_info");
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
        labels.retain(|(name, _)| !name.starts_with("otel_scope_"));
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

/// Returns an ExportMetricsServiceRequest: resource_metrics = 1. `rename` gives labels the names of attributes.
pub(super) fn request(
    resource: &[(String, String)],
    families: &[Family],
    span: Span,
    mut before: Option<&mut Before>,
    rename: &dyn Fn(&str) -> Option<String>,
) -> Vec<u8> {
    let mut request = Message::default();
    // ResourceMetrics: resource = 1, scope_metrics = 2; ScopeMetrics: scope = 1, metrics = 2.
    request.message(1, |of_resource| {
        of_resource.message(1, |message| proto::resource(message, resource));
        of_resource.message(2, |of_scope| {
            of_scope.message(1, proto::scope);
            for family in families {
                of_scope.message(2, |metric| {
                    metric_of(metric, family, span, before.as_deref_mut(), rename)
                });
            }
        });
    });
    request.into_bytes()
}

/// Writes a Metric: name = 1, description = 2, unit = 3, gauge = 5, sum = 7, histogram = 9.
fn metric_of(
    metric: &mut Message,
    family: &Family,
    span: Span,
    mut before: Option<&mut Before>,
    rename: &dyn Fn(&str) -> Option<String>,
) {
    let known = NAMES.iter().find(|(prometheus, ..)| *prometheus == family.name);
    let (name, unit) = known.map_or((family.name.as_str(), ""), |(_, name, unit)| (*name, *unit));
    metric.text(1, name);
    metric.text(2, &family.help);
    metric.text(3, unit);
    let delta = before.is_some();
    let field = match family.kind {
        Kind::Gauge => 5,
        Kind::Counter => 7,
        Kind::Histogram => 9,
    };
    metric.message(field, |data| {
        for (labels, series) in &family.series {
            let news = match before.as_deref_mut() {
                Some(before) if family.kind != Kind::Gauge => since(before, family, labels, series),
                Some(_) | None => series.clone(),
            };
            data.message(1, |point| {
                let field = if family.kind == Kind::Histogram { 9 } else { 7 };
                for (name, value) in labels {
                    let attribute = rename(name).or_else(|| dotted(name));
                    let attribute = attribute.as_deref().unwrap_or(name);
                    proto::attribute(point, field, attribute, &Value::Text(value.clone()));
                }
                self::point(point, family.kind, &news, span);
            });
        }
        // AggregationTemporality: delta = 1, cumulative = 2.
        if family.kind != Kind::Gauge {
            data.varint(2, if delta { 1 } else { 2 });
        }
        if family.kind == Kind::Counter {
            data.varint(3, 1);
        }
    });
}

/// Writes what NumberDataPoint and HistogramDataPoint have beside attributes: start = 2, time = 3; a number's
/// as_double = 4; a histogram's count = 4, sum = 5, bucket_counts = 6, explicit_bounds = 7.
fn point(point: &mut Message, kind: Kind, series: &Series, span: Span) {
    point.fixed64(2, span.start);
    point.fixed64(3, span.end);
    if kind != Kind::Histogram {
        point.double(4, series.sum);
        return;
    }
    point.fixed64(4, series.count);
    point.double(5, series.sum);
    let mut below = 0;
    let each = series.buckets.iter().map(|upto| {
        let own = upto.saturating_sub(below);
        below = *upto;
        own.to_le_bytes()
    });
    point.packed(6, each);
    point.packed(7, series.bounds.iter().map(|bound| bound.to_le_bytes()));
}

/// Returns what `series` has more than `before`, which then knows it.
fn since(before: &mut Before, family: &Family, labels: &Labels, series: &Series) -> Series {
    let key = (family.name.clone(), labels.clone());
    let now = (series.sum, series.count, series.buckets.clone());
    let (sum, count, buckets) = before.insert(key, now).unwrap_or_default();
    let mut news = series.clone();
    news.sum -= sum;
    news.count = news.count.saturating_sub(count);
    for (bucket, known) in news.buckets.iter_mut().zip(buckets) {
        *bucket = bucket.saturating_sub(known);
    }
    news
}

/// Returns the attribute that a label of the compatibility specification stands for.
fn dotted(label: &str) -> Option<String> {
    let is_known = label.starts_with("gen_ai_") || label == "error_type";
    if !is_known {
        return None;
    }
    let name = label
        .strip_prefix("gen_ai_")
        .map(|rest| format!("gen_ai.{}", rest.replace('_', ".")));
    Some(name.unwrap_or_else(|| "error.type".to_owned()))
}

/// What the families of the compatibility specification are called in OTLP, and their units.
const NAMES: &[(&str, &str, &str)] = &[
    ("gen_ai_client_token_usage", "gen_ai.client.token.usage", "token"),
    (
        "gen_ai_server_request_duration_seconds",
        "gen_ai.server.request.duration",
        "s",
    ),
    (
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai.server.time_to_first_token",
        "s",
    ),
    (
        "gen_ai_server_time_per_output_token_seconds",
        "gen_ai.server.time_per_output_token",
        "s",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP target_info Who\n# TYPE target_info gauge\ntarget_info{a=\"b\"} 1\n# HELP n_seconds Time.\n# \
        TYPE n_seconds histogram\nn_seconds_sum{otel_scope_name=\"s\",m=\"a\\\"b\"} 1.5\nn_seconds_count{m=\"a\\\"b\"} 3\n\
        n_seconds_bucket{le=\"0.5\",m=\"a\\\"b\"} 2\nn_seconds_bucket{le=\"+Inf\",m=\"a\\\"b\"} 3\n# HELP c All.\n# TYPE c \
        counter\nc_total 7\n# EOF\n";

    #[test]
    fn the_text_is_read_as_families() {
        let families = parse(TEXT);
        let names: Vec<_> = families
            .iter()
            .map(|family| (family.name.as_str(), family.kind))
            .collect();
        assert_eq!(names, [("n_seconds", Kind::Histogram), ("c", Kind::Counter)]);
        let (labels, series) = families[0].series.iter().next().expect("a series");
        assert_eq!(labels, &[("m".to_owned(), "a\"b".to_owned())]);
        let expected = Series {
            sum: 1.5,
            count: 3,
            bounds: vec![0.5],
            buckets: vec![2, 3],
        };
        assert_eq!(series, &expected);
    }

    #[test]
    fn only_what_is_new_is_told_where_that_is_wanted() {
        let families = parse(TEXT);
        let mut before = Before::new();
        let family = &families[0];
        let (labels, series) = family.series.iter().next().expect("a series");
        assert_eq!(&since(&mut before, family, labels, series), series);
        let news = since(&mut before, family, labels, series);
        assert_eq!((news.sum, news.count, news.buckets), (0.0, 0, vec![0, 0]));
    }

    #[test]
    fn labels_have_the_names_of_attributes() {
        assert_eq!(
            dotted("gen_ai_operation_name").as_deref(),
            Some("gen_ai.operation.name")
        );
        assert_eq!(dotted("gen_ai_token_type").as_deref(), Some("gen_ai.token.type"));
        assert_eq!(dotted("error_type").as_deref(), Some("error.type"));
        assert_eq!(dotted("backend"), None);
    }
}
