//! The command's own record: which members it has, as JSON and for a person.

use std::{borrow::Cow, io::Write, time::Duration};

use http::{HeaderValue, Version};
use llm::chat::FinishReason;
use policy::cost::prices::Spent;

use super::members::{Member, Members};
use crate::{
    facts::{Facts, Outcome},
    telemetry::{error_type::ErrorType, tools::Ended},
};

/// One line; names as in the compatibility specification, "Access logs", where it has one.
pub(super) struct Record<'a> {
    start_time: jiff::Timestamp,
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    host: &'a str,
    response_code: u16,
    outcome: &'static str,
    error: Option<&'static str>,
    /// Milliseconds.
    duration: f64,
    bytes_received: u64,
    bytes_sent: u64,
    request_id: &'a str,
    user_agent: Option<&'a str>,
    route_name: Option<&'a str>,
    upstream_cluster: Option<&'a str>,
    attempts: u32,
    operation: Option<&'static str>,
    provider: Option<&'a str>,
    model: Option<&'a str>,
    model_override: Option<&'a str>,
    response_model: Option<&'a str>,
    finish: Option<&'static str>,
    input_tokens: Option<u64>,
    cached_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    total_tokens: Option<u64>,
    audio_seconds: Option<u64>,
    search_units: Option<u64>,
    /// Whether costs are made of tokens that nobody has counted.
    estimated: bool,
    /// In the order of their names.
    costs: Vec<(&'a str, u64)>,
    /// What it has cost in money, and in which.
    spent: Option<(Spent, &'a str)>,
    /// Milliseconds from the start of the attempt.
    time_to_first_token: Option<f64>,
    losses: Vec<Cow<'static, str>>,
    tools: Option<Tools>,
    facts: &'a Facts,
}

/// What is told of a message of MCP; of several at once, of the first.
#[derive(Clone, Default)]
pub(super) struct Tools {
    pub(super) id: Option<String>,
    pub(super) session: Option<String>,
    pub(super) method: String,
    pub(super) tool: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) backend: Option<String>,
    /// The code of an error.
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

    fn tell(&self, told: &mut impl Members) {
        told.some("jsonrpc.request.id", self.id.as_deref().map(Member::Text));
        told.some("mcp.session.id", self.session.as_deref().map(Member::Text));
        told.put("mcp.method.name", Member::Text(&self.method));
        told.some("mcp.tool.name", self.tool.as_deref().map(Member::Text));
        told.some("mcp.resource.uri", self.resource.as_deref().map(Member::Text));
        told.some("mcp.provider.name", self.backend.as_deref().map(Member::Text));
        told.some("rpc.response.status_code", self.code.map(Member::Code));
    }
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
            error: facts.error.map(ErrorType::name),
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
            search_units: facts.usage.search_units,
            estimated: facts.bill.as_ref().is_some_and(|bill| bill.estimated),
            costs: costs(facts),
            spent: facts.bill.as_ref().and_then(|bill| bill.spent()),
            time_to_first_token: attempt.and_then(|attempt| attempt.first_token).map(millis),
            losses: dialect.map_or_else(Vec::new, |dialect| facts.losses.names(dialect)),
            tools: Tools::of(facts),
            facts,
        }
    }

    /// Tells every member that there is.
    pub(super) fn tell(&self, told: &mut impl Members) {
        told.put("start_time", Member::Time(self.start_time));
        told.put("method", Member::Text(self.method));
        told.put("request.path", Member::Text(self.path));
        told.put("protocol", Member::Text(self.protocol));
        told.put(":authority", Member::Text(self.host));
        told.put("response_code", Member::Count(self.response_code.into()));
        told.put("outcome", Member::Text(self.outcome));
        told.some("error", self.error.map(Member::Text));
        told.put("duration", Member::Number(self.duration));
        told.put("bytes_received", Member::Count(self.bytes_received));
        told.put("bytes_sent", Member::Count(self.bytes_sent));
        told.put("x-request-id", Member::Text(self.request_id));
        told.some("user-agent", self.user_agent.map(Member::Text));
        told.some("route_name", self.route_name.map(Member::Text));
        told.some("upstream_cluster", self.upstream_cluster.map(Member::Text));
        let attempts = Some(self.attempts).filter(|attempts| *attempts > 0);
        told.some("attempts", attempts.map(u64::from).map(Member::Count));
        self.tell_answer(told);
        if let Some(tools) = &self.tools {
            tools.tell(told);
        }
        for (name, value) in self.facts.log_attributes() {
            told.named(name, Member::Text(text(value)));
        }
    }

    fn tell_answer(&self, told: &mut impl Members) {
        told.some("gen_ai.operation.name", self.operation.map(Member::Text));
        told.some("gen_ai.provider.name", self.provider.map(Member::Text));
        told.some("gen_ai.request.model", self.model.map(Member::Text));
        told.some(
            "gen_ai.request.model_override",
            self.model_override.map(Member::Text),
        );
        told.some("gen_ai.response.model", self.response_model.map(Member::Text));
        told.some("gen_ai.response.finish_reason", self.finish.map(Member::Text));
        for (name, count) in [
            ("gen_ai.usage.input_tokens", self.input_tokens),
            ("gen_ai.usage.cached_input_tokens", self.cached_input_tokens),
            ("gen_ai.usage.output_tokens", self.output_tokens),
            ("gen_ai.usage.reasoning_tokens", self.reasoning_tokens),
            ("gen_ai.usage.total_tokens", self.total_tokens),
            ("gen_ai.usage.audio_seconds", self.audio_seconds),
            ("gen_ai.usage.search_units", self.search_units),
        ] {
            told.some(name, count.map(Member::Count));
        }
        told.some(
            "gen_ai.usage.estimated",
            self.estimated.then_some(Member::Flag(true)),
        );
        if !self.costs.is_empty() {
            told.put("costs", Member::Counts(&self.costs));
        }
        if let Some((spent, currency)) = self.spent {
            told.put("gen_ai.usage.cost", Member::Amount(spent.total));
            told.put("gen_ai.usage.cost_currency", Member::Text(currency));
        }
        told.some(
            "time_to_first_token",
            self.time_to_first_token.map(Member::Number),
        );
        if !self.losses.is_empty() {
            told.put("losses", Member::Texts(&self.losses));
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
        let cost = self
            .spent
            .map(|(spent, currency)| format!("{}{currency}", spent.total));
        pair("cost", show(&cost));
        let losses = (!self.losses.is_empty()).then(|| self.losses.join(","));
        pair(
            "losses",
            show(&losses.as_ref().map(|losses| losses.escape_debug())),
        );
        pair("request_id", Some(&self.request_id));
    }
}

/// The names of all members, which no header becomes.
pub(in crate::telemetry) const MEMBERS: &[&str] = &[
    ":authority",
    "attempts",
    "bytes_received",
    "bytes_sent",
    "costs",
    "duration",
    "error",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.request.model_override",
    "gen_ai.response.finish_reason",
    "gen_ai.response.model",
    "gen_ai.usage.audio_seconds",
    "gen_ai.usage.cached_input_tokens",
    "gen_ai.usage.cost",
    "gen_ai.usage.cost_currency",
    "gen_ai.usage.estimated",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.search_units",
    "gen_ai.usage.total_tokens",
    "jsonrpc.request.id",
    "losses",
    "mcp.method.name",
    "mcp.provider.name",
    "mcp.resource.uri",
    "mcp.session.id",
    "mcp.tool.name",
    "method",
    "outcome",
    "protocol",
    "request.path",
    "response_code",
    "route_name",
    "rpc.response.status_code",
    "start_time",
    "time_to_first_token",
    "upstream_cluster",
    "user-agent",
    "x-request-id",
];

/// Returns the costs in the order of their names, which are told apart.
fn costs(facts: &Facts) -> Vec<(&str, u64)> {
    let costs = facts.bill.iter().flat_map(|bill| &bill.costs);
    let mut costs: Vec<_> = costs.map(|(key, number)| (&**key, *number)).collect();
    costs.sort_unstable();
    costs
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
