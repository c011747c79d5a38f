//! Metrics as OTLP, made of the text that Prometheus is given: one place counts, and both tell the same.

use std::collections::HashMap;

use policy::protobuf::Message;
use serde_json::{Map, Value, json};

use super::proto;
use crate::telemetry::{
    families::{self, Family, Kind, Labels, Series},
    histogram::{self, Form},
    trace,
};

/// What was told before, where only what is new is told.
pub(super) type Before = HashMap<(String, Labels), Series>;

/// When what is told was counted, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How metrics are told.
pub(super) struct Telling<'a> {
    pub(super) resource: &'a [(String, String)],
    pub(super) span: Span,
    /// Which buckets of histograms `families` have.
    pub(super) form: Form,
    /// Gives labels the names of attributes.
    pub(super) rename: &'a dyn Fn(&str) -> Option<String>,
}

/// Returns the families of `text` that are told to receivers: these know the process and the scope by other words.
pub(super) fn read(text: &str) -> Vec<Family> {
    let mut families = families::parse(text);
    families
        .retain(|family| !family.series.is_empty() && !matches!(family.name.as_str(), "target_info" | OLD));
    for family in &mut families {
        let series = std::mem::take(&mut family.series);
        family.series = series
            .into_iter()
            .map(|(mut labels, series)| {
                labels.retain(|(name, _)| !name.starts_with("otel_scope_"));
                (labels, series)
            })
            .collect();
    }
    families
}

/// Returns an ExportMetricsServiceRequest: resource_metrics = 1.
pub(super) fn request(
    telling: &Telling<'_>,
    families: &[Family],
    mut before: Option<&mut Before>,
) -> Vec<u8> {
    let mut request = Message::default();
    // ResourceMetrics: resource = 1, scope_metrics = 2; ScopeMetrics: scope = 1, metrics = 2.
    request.message(1, |of_resource| {
        of_resource.message(1, |message| proto::resource(message, telling.resource));
        of_resource.message(2, |of_scope| {
            of_scope.message(1, proto::scope);
            for family in families {
                of_scope.message(2, |metric| {
                    metric_of(metric, telling, family, before.as_deref_mut())
                });
            }
        });
    });
    request.into_bytes()
}

/// Returns what is counted as one line of JSON, for a person; nothing if nothing is.
pub(super) fn json(
    telling: &Telling<'_>,
    families: &[Family],
    mut before: Option<&mut Before>,
) -> Option<String> {
    let metrics: Vec<Value> = families
        .iter()
        .map(|family| {
            let (name, unit) = named(family);
            let points = family.series.iter().map(|(labels, series)| {
                let series = told(before.as_deref_mut(), family, labels, series);
                let attributes = labels
                    .iter()
                    .map(|(label, value)| (attribute(telling, label), json!(value)));
                let attributes: Map<String, Value> = attributes.collect();
                match family.kind {
                    Kind::Gauge | Kind::Counter => json!({ "attributes": attributes, "value": series.sum }),
                    Kind::Histogram => json!({
                        "attributes": attributes,
                        "count": series.count,
                        "sum": series.sum,
                        "bounds": series.bounds,
                        "buckets": series.each(),
                    }),
                }
            });
            let points: Vec<Value> = points.collect();
            json!({ "name": name, "unit": unit, "description": family.help, "points": points })
        })
        .collect();
    let resource = telling.resource.iter();
    let resource: Map<String, Value> = resource
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let Span { start, end } = telling.span;
    (!metrics.is_empty()).then(|| {
        json!({ "resource": resource, "start": start, "end": end, "metrics": metrics }).to_string() + "\n"
    })
}

/// Returns what receivers call a family, and its unit.
fn named(family: &Family) -> (&str, &'static str) {
    let known = NAMES.iter().find(|(prometheus, ..)| *prometheus == family.name);
    known.map_or((family.name.as_str(), ""), |(_, name, unit)| (*name, *unit))
}

/// Returns what receivers call a label.
fn attribute(telling: &Telling<'_>, label: &str) -> String {
    let renamed = (telling.rename)(label).or_else(|| dotted(label));
    renamed.unwrap_or_else(|| label.to_owned())
}

/// Returns the values of a series that are told.
fn told(before: Option<&mut Before>, family: &Family, labels: &Labels, series: &Series) -> Series {
    match before {
        Some(before) if family.kind != Kind::Gauge => since(before, family, labels, series),
        Some(_) | None => series.clone(),
    }
}

/// Writes a Metric: name = 1, description = 2, unit = 3, gauge = 5, sum = 7, histogram = 9, exponential_histogram = 10.
fn metric_of(metric: &mut Message, telling: &Telling<'_>, family: &Family, mut before: Option<&mut Before>) {
    let (name, unit) = named(family);
    metric.text(1, name);
    metric.text(2, &family.help);
    metric.text(3, unit);
    let delta = before.is_some();
    // The field of the data, and that of the attributes in its points.
    let (data, attributes) = match (family.kind, telling.form) {
        (Kind::Gauge, _) => (5, 7),
        (Kind::Counter, _) => (7, 7),
        (Kind::Histogram, Form::Declared) => (9, 9),
        (Kind::Histogram, Form::Fine) => (10, 1),
    };
    metric.message(data, |data| {
        for (labels, series) in &family.series {
            let news = told(before.as_deref_mut(), family, labels, series);
            data.message(1, |point| {
                for (name, value) in labels {
                    let value = trace::span::Value::Text(value.clone());
                    proto::attribute(point, attributes, &attribute(telling, name), &value);
                }
                point.fixed64(2, telling.span.start);
                point.fixed64(3, telling.span.end);
                match (family.kind, telling.form) {
                    (Kind::Gauge | Kind::Counter, _) => point.double(4, news.sum),
                    (Kind::Histogram, Form::Declared) => between(point, &news),
                    (Kind::Histogram, Form::Fine) => exponential(point, &news),
                }
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

/// Writes what a HistogramDataPoint counts: count = 4, sum = 5, bucket_counts = 6, explicit_bounds = 7.
fn between(point: &mut Message, series: &Series) {
    point.fixed64(4, series.count);
    point.double(5, series.sum);
    point.packed(6, series.each().into_iter().map(u64::to_le_bytes));
    point.packed(7, series.bounds.iter().map(|bound| bound.to_le_bytes()));
}

/// Writes what an ExponentialHistogramDataPoint counts: count = 4, sum = 5, scale = 6, zero_count = 7, positive = 8.
fn exponential(point: &mut Message, series: &Series) {
    point.fixed64(4, series.count);
    point.double(5, series.sum);
    point.signed(6, i64::from(histogram::SCALE));
    let each = series.bounds.iter().copied().zip(series.each());
    let mut buckets: Vec<(i32, u64)> = Vec::new();
    for (bound, count) in each {
        match histogram::index_of(bound) {
            None => point.fixed64(7, count),
            Some(index) => buckets.push((index, count)),
        }
    }
    let (Some((first, _)), Some((last, _))) = (buckets.first().copied(), buckets.last().copied()) else {
        return;
    };
    // Buckets: offset = 1, bucket_counts = 2. They begin where those of Prometheus end.
    point.message(8, |message| {
        message.signed(1, i64::from(first) - 1);
        let mut counts = buckets.iter().copied().peekable();
        for index in first..=last {
            let count = counts.next_if(|(own, _)| *own == index);
            message.number(2, count.map_or(0, |(_, count)| count));
        }
    });
}

/// Returns what `series` has more than `before`, which then knows it. Fine buckets come to be one after the other: what was
/// below the bound of a new one is known by those around it.
fn since(before: &mut Before, family: &Family, labels: &Labels, series: &Series) -> Series {
    let key = (family.name.clone(), labels.clone());
    let known = before.insert(key, series.clone()).unwrap_or_default();
    let mut news = series.clone();
    news.sum -= known.sum;
    news.count = news.count.saturating_sub(known.count);
    let bounds = series.bounds.iter().copied().chain([f64::INFINITY]);
    for (bucket, bound) in news.buckets.iter_mut().zip(bounds) {
        *bucket = bucket.saturating_sub(known.below(bound));
    }
    news
}

/// Returns the attribute that a label of the compatibility specification stands for.
fn dotted(label: &str) -> Option<String> {
    let prefixes = ["gen_ai_", "mcp_", "capability_"];
    let is_known = label == "error_type" || prefixes.iter().any(|prefix| label.starts_with(prefix));
    is_known.then(|| match label.strip_prefix("gen_ai_") {
        Some(rest) => format!("gen_ai.{}", rest.replace('_', ".")),
        None => label.replace('_', "."),
    })
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
    ("mcp_request_duration", "mcp.request.duration", ""),
    ("mcp_method_count", "mcp.method.count", ""),
    (
        "mcp_initialization_duration_seconds",
        "mcp.initialization.duration",
        "s",
    ),
    (
        "mcp_server_operation_duration_seconds",
        "mcp.server.operation.duration",
        "s",
    ),
    (
        "mcp_client_operation_duration_seconds",
        "mcp.client.operation.duration",
        "s",
    ),
    ("mcp_capabilities_negotiated", "mcp.capabilities.negotiated", ""),
    ("mcp_progress_notifications", "mcp.progress.notifications", ""),
];

/// A family that is the same as another one, for readers of the text alone.
const OLD: &str = "mcp_initialization_duration_token";

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP target_info Who\n# TYPE target_info gauge\ntarget_info{a=\"b\"} 1\n# HELP n_seconds Time.\n# \
        TYPE n_seconds histogram\nn_seconds_sum{otel_scope_name=\"s\",m=\"a\\\"b\"} 1.5\n\
        n_seconds_count{otel_scope_name=\"s\",m=\"a\\\"b\"} 3\n\
        n_seconds_bucket{otel_scope_name=\"s\",le=\"0.5\",m=\"a\\\"b\"} 2\n\
        n_seconds_bucket{otel_scope_name=\"s\",le=\"+Inf\",m=\"a\\\"b\"} 3\n\
        # HELP c All.\n# TYPE c counter\nc_total 7\n# EOF\n";

    #[test]
    fn only_what_is_new_is_told_where_that_is_wanted() {
        let families = read(TEXT);
        let names: Vec<_> = families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(names, ["n_seconds", "c"]);
        let mut before = Before::new();
        let family = &families[0];
        let (labels, series) = family.series.iter().next().expect("a series");
        assert_eq!(labels, &[("m".to_owned(), "a\"b".to_owned())]);
        assert_eq!(&since(&mut before, family, labels, series), series);
        let news = since(&mut before, family, labels, series);
        assert_eq!((news.sum, news.count, news.buckets), (0.0, 0, vec![0, 0]));
        // A fine bucket that comes to be between two others.
        let more = Series {
            sum: 1.6,
            count: 4,
            bounds: vec![0.25, 0.5],
            buckets: vec![1, 3, 4],
        };
        let known = Series {
            count: 3,
            buckets: vec![0, 2, 3],
            ..more.clone()
        };
        before.insert((family.name.clone(), labels.clone()), known);
        assert_eq!(since(&mut before, family, labels, &more).buckets, [1, 1, 1]);
    }

    #[test]
    fn labels_have_the_names_of_attributes() {
        assert_eq!(
            dotted("gen_ai_operation_name").as_deref(),
            Some("gen_ai.operation.name")
        );
        assert_eq!(dotted("gen_ai_token_type").as_deref(), Some("gen_ai.token.type"));
        assert_eq!(dotted("error_type").as_deref(), Some("error.type"));
        assert_eq!(dotted("mcp_method_name").as_deref(), Some("mcp.method.name"));
        assert_eq!(dotted("capability_side").as_deref(), Some("capability.side"));
        assert_eq!(dotted("backend"), None);
    }
}
