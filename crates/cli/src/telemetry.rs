//! What is told of requests, as the variables say that OpenTelemetry and the reference have for it.
//!
//! A variable that is set and empty differs from one that is not set: the first takes a default away.

use std::env;

use anyhow::Context;
use gateway::HeaderAttributes;

/// Reads which headers become attributes of records, metrics and spans.
///
/// # Errors
/// If a list is malformed.
pub(crate) fn attributes() -> anyhow::Result<HeaderAttributes> {
    let [base, spans, metrics, logs] = ["", "SPAN_", "METRICS_", "LOG_"].map(|signal| {
        let name = format!("OTEL_AIGW_{signal}REQUEST_HEADER_ATTRIBUTES");
        env::var(name).ok()
    });
    HeaderAttributes::parse(
        base.as_deref(),
        spans.as_deref(),
        metrics.as_deref(),
        logs.as_deref(),
    )
    .context("failed to parse request header mapping (OTEL_AIGW_*REQUEST_HEADER_ATTRIBUTES)")
}
