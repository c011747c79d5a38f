//! What is told to whom, as the variables of OpenTelemetry say (compatibility specification, "Metric export" and
//! "Trace set-up and propagation").

mod receiver;

use std::time::Duration;

use config::words::Vocabularies;

use self::receiver::export;
use super::{
    attributes::{AttributesError, HeaderAttributes},
    otlp::{Bounds, Destination, Export, Push},
    trace::{Hide, Limits, Propagator, Sampler, Speech, Traces, is_true},
};

/// What is told of requests beside the access log.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Headers that become attributes of records, metrics and spans.
    pub attributes: HeaderAttributes,
    /// Spans; `None` for none.
    pub traces: Option<Traces>,
    /// Metrics that are pushed; `None` for none. They can be fetched in any case.
    pub metrics: Option<Push>,
    /// Where access records go.
    pub records: AccessRecords,
}

/// Where access records go that no resource declares.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AccessRecords {
    /// To standard output.
    #[default]
    Console,
    /// To a receiver of OTLP.
    Otlp(Export),
    /// Nowhere.
    Nowhere,
}

/// A variable cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// A list of headers.
    #[error("failed to parse request header mapping in {0}: {1}")]
    Attributes(&'static str, AttributesError),
    /// A value of a variable.
    #[error("{0}: {1}")]
    Variable(String, String),
    /// A sampler.
    #[error("{0}")]
    Sampler(String),
}

/// Returns the value of a variable.
type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Telemetry {
    /// Reads the variables. One that is set and empty counts as unset, but for lists of headers, of which an empty one
    /// takes a default away.
    ///
    /// # Errors
    /// The first variable that cannot be honoured.
    pub fn from_environment(variable: Variable<'_>) -> Result<Self, TelemetryError> {
        let attributes = attributes(variable)?;
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Self {
                attributes,
                ..Self::default()
            });
        }
        Ok(Self {
            attributes,
            traces: traces(&set)?,
            metrics: metrics(&set)?,
            records: records(&set)?,
        })
    }
}

fn attributes(variable: Variable<'_>) -> Result<HeaderAttributes, TelemetryError> {
    let lists = LISTS.map(|name| (name, variable(name)));
    // Each is read alone first, so that an error can name it.
    for (name, list) in &lists {
        HeaderAttributes::check_pairs(list.as_deref().unwrap_or_default())
            .map_err(|error| TelemetryError::Attributes(name, error))?;
    }
    let [base, spans, metrics, logs] = lists.map(|(_, list)| list);
    let all = HeaderAttributes::parse(
        base.as_deref(),
        spans.as_deref(),
        metrics.as_deref(),
        logs.as_deref(),
    );
    all.map_err(|error| {
        let of_base = HeaderAttributes::parse(base.as_deref(), Some(""), None, Some(""));
        let name = if of_base.err().as_ref() == Some(&error) {
            LISTS[0]
        } else if matches!(error, AttributesError::Member(_)) {
            LISTS[3]
        } else {
            LISTS[2]
        };
        TelemetryError::Attributes(name, error)
    })
}

fn traces(variable: Variable<'_>) -> Result<Option<Traces>, TelemetryError> {
    let Some(export) = export(variable, "TRACES", "v1/traces", &["none"])? else {
        return Ok(None);
    };
    let speech = speech(variable)?;
    let sampler = match variable("OTEL_TRACES_SAMPLER") {
        None => Sampler::default(),
        Some(name) => Sampler::parse(name.trim(), variable("OTEL_TRACES_SAMPLER_ARG").as_deref())
            .map_err(TelemetryError::Sampler)?,
    };
    let queue = number(variable, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)?;
    Ok(Some(Traces {
        sampler,
        propagators: propagators(variable)?,
        limits: limits(variable)?,
        speech,
        export,
        bounds: Bounds {
            queue,
            // A batch that the queue has no room for would never be whole.
            batch: number(variable, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?.min(queue),
            delay: millis(variable, "OTEL_BSP_SCHEDULE_DELAY", 5000)?,
        },
    }))
}

/// Reads what spans say: one vocabulary, or both in the order in which they are named.
fn speech(variable: Variable<'_>) -> Result<Speech, TelemetryError> {
    let name = "AI_GATEWAY_TRACING_SEMCONV";
    let usual = variable(name).map(|written| Vocabularies::parse(&written));
    let usual = usual.transpose();
    let content = variable("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT");
    Ok(Speech {
        usual: usual
            .map_err(|message| TelemetryError::Variable(name.to_owned(), message))?
            .unwrap_or_default(),
        hide: Hide::from_environment(variable),
        content: content.is_some_and(|content| is_true(&content)),
    })
}

/// Reads how much a span may hold (OpenTelemetry, "Attribute Limits" and "Span Limits").
fn limits(variable: Variable<'_>) -> Result<Limits, TelemetryError> {
    let first = |names: [&'static str; 2]| names.into_iter().find(|name| variable(name).is_some());
    let count = first(["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"]);
    let count = count.map(|name| number(variable, name, 0)).transpose()?;
    let length = first([
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    ]);
    Ok(Limits {
        attributes: count.unwrap_or(USUAL),
        length: length.map_or(Ok(usize::MAX), |name| number(variable, name, usize::MAX))?,
        events: number(variable, "OTEL_SPAN_EVENT_COUNT_LIMIT", USUAL)?,
    })
}

/// How many attributes, and how many events, a span has at most where nothing else is said.
const USUAL: usize = 128;

fn metrics(variable: Variable<'_>) -> Result<Option<Push>, TelemetryError> {
    let Some(export) = export(variable, "METRICS", "v1/metrics", &["none", "prometheus"])? else {
        return Ok(None);
    };
    let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    let delta = match variable(name).map(|value| value.to_ascii_lowercase()).as_deref() {
        None | Some("cumulative") => false,
        Some("delta") => true,
        Some(other) => {
            let message = format!("{other:?} is not one of cumulative and delta");
            return Err(TelemetryError::Variable(name.to_owned(), message));
        }
    };
    let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    let exponential = match variable(name).map(|value| value.to_ascii_lowercase()).as_deref() {
        None | Some("explicit_bucket_histogram") => false,
        Some("base2_exponential_bucket_histogram") => true,
        Some(other) => {
            let message = format!(
                "{other:?} is not one of explicit_bucket_histogram and base2_exponential_bucket_histogram"
            );
            return Err(TelemetryError::Variable(name.to_owned(), message));
        }
    };
    Ok(Some(Push {
        exponential,
        export,
        interval: millis(variable, "OTEL_METRIC_EXPORT_INTERVAL", 60_000)?,
        delta,
    }))
}

fn records(variable: Variable<'_>) -> Result<AccessRecords, TelemetryError> {
    let exporter = variable("OTEL_LOGS_EXPORTER");
    if exporter.as_deref().map(str::trim) == Some("none") {
        return Ok(AccessRecords::Nowhere);
    }
    Ok(match export(variable, "LOGS", "v1/logs", &["none"])? {
        Some(export) if export.to != Destination::Console => AccessRecords::Otlp(export),
        Some(_) | None => AccessRecords::Console,
    })
}

fn propagators(variable: Variable<'_>) -> Result<Vec<Propagator>, TelemetryError> {
    let name = "OTEL_PROPAGATORS";
    let list = variable(name).unwrap_or_else(|| "tracecontext,baggage".to_owned());
    let mut propagators = Vec::new();
    for written in list.split(',') {
        match written.trim() {
            "tracecontext" => propagators.push(Propagator::TraceContext),
            "b3" => propagators.push(Propagator::B3),
            "b3multi" => propagators.push(Propagator::B3Multi),
            "jaeger" => propagators.push(Propagator::Jaeger),
            "xray" => propagators.push(Propagator::XRay),
            "ottrace" => propagators.push(Propagator::OtTrace),
            // Baggage is handed on as any header is.
            "baggage" | "none" | "" => {}
            other => {
                let message = format!(
                    "{other:?} is not one of tracecontext, baggage, b3, b3multi, jaeger, xray, ottrace and none"
                );
                return Err(TelemetryError::Variable(name.to_owned(), message));
            }
        }
    }
    Ok(propagators)
}

fn number(variable: Variable<'_>, name: &str, default: usize) -> Result<usize, TelemetryError> {
    let Some(written) = variable(name) else {
        return Ok(default);
    };
    let number = written.trim().parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        TelemetryError::Variable(name.to_owned(), format!("{written:?} is not a number from 1"))
    })
}

fn millis(variable: Variable<'_>, name: &str, default: usize) -> Result<Duration, TelemetryError> {
    let millis = number(variable, name, default)?;
    Ok(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// The lists of headers: for everything, spans, metrics and records.
const LISTS: [&str; 4] = [
    "OTEL_AIGW_REQUEST_HEADER_ATTRIBUTES",
    "OTEL_AIGW_SPAN_REQUEST_HEADER_ATTRIBUTES",
    "OTEL_AIGW_METRICS_REQUEST_HEADER_ATTRIBUTES",
    "OTEL_AIGW_LOG_REQUEST_HEADER_ATTRIBUTES",
];

#[cfg(test)]
mod tests;
