//! The command's own record: which members it has, as JSON and for a person.

use std::{borrow::Cow, collections::BTreeMap, io::Write, time::Duration};

use http::{HeaderValue, Version};
use llm::chat::FinishReason;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    facts::{Facts, Outcome},
    telemetry::{metrics::error_name, tools::Ended},
};

/// One line; names as in the compatibility specification, "Access logs", where it has one.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    #[serde(serialize_with = "display")]
    start_time: jiff::Timestamp,
    method: &'a str,
    #[serde(rename = "request.path")]
    path: &'a str,
    protocol: &'static str,
    #[serde(rename = ":authority")]
    host: &'a str,
    response_code: u16,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// Milliseconds.
    duration: f64,
    bytes_received: u64,
    bytes_sent: u64,
    #[serde(rename = "x-request-id")]
    request_id: &'a str,
    #[serde(rename = "user-agent", skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    attempts: u32,
    #[serde(rename = "gen_ai.operation.name", skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(rename = "gen_ai.provider.name", skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(rename = "gen_ai.request.model", skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(
        rename = "gen_ai.request.model_override",
        skip_serializing_if = "Option::is_none"
    )]
    model_override: Option<&'a str>,
    #[serde(rename = "gen_ai.response.model", skip_serializing_if = "Option::is_none")]
    response_model: Option<&'a str>,
    #[serde(
        rename = "gen_ai.response.finish_reason",
        skip_serializing_if = "Option::is_none"
    )]
    finish: Option<&'static str>,
    #[serde(rename = "gen_ai.usage.input_tokens", skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(
        rename = "gen_ai.usage.cached_input_tokens",
        skip_serializing_if = "Option::is_none"
    )]
    cached_input_tokens: Option<u64>,
    #[serde(
        rename = "gen_ai.usage.output_tokens",
        skip_serializing_if = "Option::is_none"
    )]
    output_tokens: Option<u64>,
    #[serde(
        rename = "gen_ai.usage.reasoning_tokens",
        skip_serializing_if = "Option::is_none"
    )]
    reasoning_tokens: Option<u64>,
    #[serde(rename = "gen_ai.usage.total_tokens", skip_serializing_if = "Option::is_none")]
    total_tokens: Option<u64>,
    #[serde(
        rename = "gen_ai.usage.audio_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    audio_seconds: Option<u64>,
    /// Whether costs are made of tokens that nobody has counted.
    #[serde(rename = "gen_ai.usage.estimated", skip_serializing_if = "std::ops::Not::not")]
    estimated: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    costs: BTreeMap<&'a str, u64>,
    /// Milliseconds from the start of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_to_first_token: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    losses: Vec<Cow<'static, str>>,
    #[serde(flatten)]
    tools: Option<Tools>,
    #[serde(flatten)]
    attributes: Attributes<'a>,
}

/// What is told of a message of MCP; of several at once, of the first.
#[derive(Clone, Default, Serialize)]
pub(super) struct Tools {
    #[serde(rename = "jsonrpc.request.id", skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(rename = "mcp.session.id", skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<String>,
    #[serde(rename = "mcp.method.name")]
    pub(super) method: String,
    #[serde(rename = "mcp.tool.name", skip_serializing_if = "Option::is_none")]
    pub(super) tool: Option<String>,
    #[serde(rename = "mcp.resource.uri", skip_serializing_if = "Option::is_none")]
    pub(super) resource: Option<String>,
    #[serde(rename = "mcp.provider.name", skip_serializing_if = "Option::is_none")]
    pub(super) backend: Option<String>,
    /// The code of an error.
    #[serde(rename = "rpc.response.status_code", skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<i32>,
}

impl Tools {
    /// Returns what is told of a request's message, if it is of MCP.
    pub(super) fn of(facts: &Facts) -> Option<Self> {
        facts.tools.first()?.read(|account| Self {
            id: account.id.clone(),
            session: account.session.clone(),
            method: account.method.clone(),
            tool: account.name.clone().filter(|_| account.method == "tools/call"),
            resource: account.uri.clone(),
            backend: account.backend().map(|backend| backend.to_string()),
            code: account.ended.and_then(Ended::code),
        })
    }
}

/// Attributes that headers became.
struct Attributes<'a>(&'a Facts);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.log_attributes() {
            map.serialize_entry(name, text(value))?;
        }
        map.end()
    }
}

fn display<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl<'a> Record<'a> {
    pub(super) fn new(facts: &'a Facts, outcome: Outcome, elapsed: Duration) -> Self {
        let attempt = facts.attempt.as_ref();
        let known = !facts.usage.is_unknown();
        let dialect = facts.endpoint.map(|endpoint| endpoint.format);
        Self {
            start_time: facts.began,
            method: facts.method.as_str(),
            path: facts.uri.path(),
            protocol: protocol(facts.version),
            host: &facts.host,
            response_code: facts.status.as_u16(),
            outcome: outcome.name(),
            error: facts.error.map(error_name),
            duration: millis(elapsed),
            bytes_received: facts.bytes_received,
            bytes_sent: facts.bytes_sent,
            request_id: text(&facts.request_id),
            user_agent: facts.user_agent.as_ref().map(text),
            route_name: facts.route.as_deref(),
            upstream_cluster: attempt
                .map(|attempt| &*attempt.backend)
                .or(facts.upstream.as_deref()),
            attempts: facts.attempts,
            operation: facts.endpoint.map(|endpoint| endpoint.label),
            provider: attempt.map(|attempt| attempt.provider),
            model: facts.model.as_deref(),
            model_override: attempt
                .map(|attempt| attempt.model.as_str())
                .filter(|model| Some(*model) != facts.model.as_deref()),
            response_model: facts.response_model.as_deref(),
            finish: facts.finish.as_ref().map(finish_name),
            input_tokens: known.then(|| facts.usage.prompt()),
            cached_input_tokens: facts.usage.cache_read,
            output_tokens: facts.usage.output,
            reasoning_tokens: facts.usage.reasoning,
            total_tokens: known.then(|| facts.usage.total()),
            audio_seconds: facts.seconds,
            estimated: facts.bill.as_ref().is_some_and(|bill| bill.estimated),
            costs: facts
                .bill
                .iter()
                .flat_map(|bill| &bill.costs)
                .map(|(key, number)| (&**key, *number))
                .collect(),
            time_to_first_token: attempt.and_then(|attempt| attempt.first_token).map(millis),
            losses: dialect.map_or_else(Vec::new, |dialect| facts.losses.names(dialect)),
            tools: Tools::of(facts),
            attributes: Attributes(facts),
        }
    }

    /// Writes what a person looks for: few fields, the long ones last.
    pub(super) fn write_text(&self, line: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = write!(
            line,
            "{:.3} {} {} status={} outcome={} duration={:.1}ms",
            self.start_time, self.method, self.path, self.response_code, self.outcome, self.duration
        );
        let mut pair = |name: &str, value: Option<&dyn std::fmt::Display>| {
            if let Some(value) = value {
                let _ = write!(line, " {name}={value}");
            }
        };
        fn show<T: std::fmt::Display>(value: &Option<T>) -> Option<&dyn std::fmt::Display> {
            value.as_ref().map(|value| value as &dyn std::fmt::Display)
        }
        pair("error", show(&self.error));
        pair("model", show(&self.model.map(|model| model.escape_debug())));
        let tools = self.tools.as_ref();
        pair("method", show(&tools.map(|tools| tools.method.escape_debug())));
        let tool = tools.and_then(|tools| tools.tool.as_deref());
        pair("tool", show(&tool.map(str::escape_debug)));
        let backend = tools.and_then(|tools| tools.backend.as_deref());
        pair("upstream", show(&self.upstream_cluster.or(backend)));
        pair(
            "attempts",
            (self.attempts > 1).then_some(&self.attempts as &dyn std::fmt::Display),
        );
        pair("input_tokens", show(&self.input_tokens));
        pair("output_tokens", show(&self.output_tokens));
        let losses = (!self.losses.is_empty()).then(|| self.losses.join(","));
        pair(
            "losses",
            show(&losses.as_ref().map(|losses| losses.escape_debug())),
        );
        pair("request_id", Some(&self.request_id));
    }
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Returns the name of a version of HTTP.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// Returns the word for the reason of an end.
pub(crate) fn finish_name(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::StopSequence => "stop_sequence",
        FinishReason::Length => "length",
        FinishReason::ContextWindow => "context_window",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause",
    }
}
