//! What declared records may ask of a request, operator by operator (compatibility specification, "Access logs").

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use llm::ErrorKind;
use policy::{
    access_log::{Form, Header, Line, Operator, Told as Telling},
    cost::prices::Spent,
};
use serde_json::{Map, Value, json};

use super::{
    LogRecord,
    declared::Details,
    record::{self, Tools},
};
use crate::facts::{Facts, Outcome};

/// Everything that operators may ask for.
pub(super) struct Told<'a> {
    pub(super) details: &'a Details,
    pub(super) request: &'a HeaderMap,
    pub(super) facts: &'a Facts,
    pub(super) outcome: Outcome,
    pub(super) elapsed: Duration,
}

impl Told<'_> {
    /// Returns the line of a file.
    pub(super) fn line(&self, form: &Form) -> Vec<u8> {
        let value = |operator: &Operator| self.value(operator);
        match form {
            Form::Own => super::json(self.facts, self.outcome, self.elapsed),
            Form::Text(line) => {
                let mut text = String::new();
                line.write_text(&mut text, &value);
                text.into_bytes()
            }
            Form::Json(members) => Value::Object(self.members(members)).to_string().into_bytes(),
        }
    }

    fn members(&self, members: &[(String, Line)]) -> Map<String, Value> {
        let value = |operator: &Operator| self.value(operator);
        let members = members
            .iter()
            .map(|(name, line)| (name.clone(), line.to_json(&value)));
        members.collect()
    }

    /// Returns the record as receivers of OTLP are told it: a line is its body, members are attributes.
    pub(super) fn record(&self, told: &Telling) -> LogRecord {
        if told.text.is_none() && told.members.is_empty() {
            return super::own(self.facts, self.outcome, self.elapsed);
        }
        let mut body = String::new();
        if let Some(line) = &told.text {
            line.write_text(&mut body, &|operator| self.value(operator));
        }
        LogRecord::new(self.facts, body, self.members(&told.members))
    }

    fn value(&self, operator: &Operator) -> Value {
        let (facts, connection) = (self.facts, &self.details.connection);
        let attempt = facts.attempt.as_ref();
        match operator {
            Operator::StartTime(None) => json!(format!("{:.3}", facts.began)),
            Operator::StartTime(Some(format)) => {
                json!(jiff::fmt::strtime::format(format, facts.began).ok())
            }
            Operator::Request(first, second) => self.header(self.request, first, second.as_ref()),
            Operator::Response(first, second) => self.header(&self.details.response, first, second.as_ref()),
            Operator::Protocol => json!(record::protocol(facts.version)),
            Operator::ResponseCode => json!(facts.status.as_u16()),
            Operator::ResponseCodeDetails => json!(self.details_of_code()),
            Operator::ResponseFlags => json!(self.flags()),
            Operator::BytesReceived => json!(facts.bytes_received),
            Operator::BytesSent => json!(facts.bytes_sent),
            Operator::Duration => json!(u64::try_from(self.elapsed.as_millis()).ok()),
            Operator::UpstreamHost => json!(attempt.and_then(|attempt| text(attempt.host.as_ref()?))),
            Operator::UpstreamCluster => json!(attempt.map(|attempt| &*attempt.backend)),
            Operator::DownstreamLocalAddress => json!(connection.local.map(|address| address.to_string())),
            Operator::DownstreamRemoteAddress { port: true } => {
                json!(connection.peer.to_string())
            }
            Operator::DownstreamRemoteAddress { port: false } => {
                json!(connection.peer.ip().to_string())
            }
            Operator::RequestedServerName => {
                json!(connection.secured.as_ref().filter(|name| !name.is_empty()))
            }
            Operator::RouteName => json!(facts.route.as_deref()),
            Operator::DynamicMetadata(namespace, path) => match path.as_slice() {
                [key] if namespace == NAMESPACE => self.metadata(key),
                _ => Value::Null,
            },
            // A connection that ends says no more than the flags do.
            Operator::ConnectionTerminationDetails
            | Operator::UpstreamTransportFailureReason
            | Operator::UpstreamLocalAddress => Value::Null,
        }
    }

    fn header(&self, headers: &HeaderMap, first: &Header, second: Option<&Header>) -> Value {
        let facts = self.facts;
        let find = |header: &Header| match header {
            Header::Method => json!(facts.method.as_str()),
            Header::Path => json!(facts.uri.path_and_query().map(|path| path.as_str())),
            Header::Authority => json!(facts.host),
            Header::Scheme if self.details.connection.secured.is_some() => json!("https"),
            Header::Scheme => json!("http"),
            Header::Status => json!(facts.status.as_str()),
            Header::Named(name) => json!(headers.get(name).and_then(text)),
        };
        match find(first) {
            Value::Null => second.map_or(Value::Null, find),
            found => found,
        }
    }

    /// Returns what the compatibility specification, "Metadata namespace", has under `key`: a cost of the route's own, or
    /// what is known of any request.
    fn metadata(&self, key: &str) -> Value {
        let facts = self.facts;
        let attempt = facts.attempt.as_ref();
        let usage = &facts.usage;
        let known = !usage.is_unknown();
        let mut costs = facts.bill.iter().flat_map(|bill| &bill.costs);
        if let Some((_, number)) = costs.find(|(name, _)| **name == *key) {
            return json!(number);
        }
        match key {
            "backend_name" | "ai_service_backend_name" => json!(attempt.map(|attempt| &*attempt.backend)),
            "model_name_override" => json!(attempt.map(|attempt| attempt.model.as_str())),
            "route_name" => json!(facts.route.as_deref()),
            "response_model" => json!(facts.response_model),
            "content_length" => json!(attempt.and_then(|attempt| attempt.replaced)),
            "quota_cost" => json!(facts.bill.as_ref().and_then(|bill| bill.quota)),
            "token_latency_ttft" => {
                let first = attempt.and_then(|attempt| attempt.first_token);
                json!(first.map(|first| u64::try_from(first.as_millis()).ok()))
            }
            "token_latency_itl" => json!(facts.per_token().map(|gap| gap * 1e3)),
            "llm_input_token" => json!(known.then(|| usage.prompt())),
            "llm_cached_input_token" => json!(usage.cache_read),
            "llm_cache_creation_input_token" => json!(usage.cache_write),
            "llm_output_token" => json!(usage.output),
            "llm_reasoning_token" => json!(usage.reasoning),
            "llm_total_token" => json!(known.then(|| usage.total())),
            "usage_cost" => json!(self.spent().map(|(spent, _)| spent.total.amount())),
            "usage_cost_currency" => json!(self.spent().map(|(_, currency)| currency)),
            "mcp_request_id" => json!(self.tools().and_then(|tools| tools.id)),
            "mcp_method" => json!(self.tools().map(|tools| tools.method)),
            "mcp_tool_name" => json!(self.tools().and_then(|tools| tools.tool)),
            "mcp_resource_uri" => json!(self.tools().and_then(|tools| tools.resource)),
            "mcp_backend" => json!(self.tools().and_then(|tools| tools.backend)),
            key => json!(
                facts
                    .log_attributes()
                    .find_map(|(name, value)| (name == key).then(|| text(value))?)
            ),
        }
    }

    fn spent(&self) -> Option<(Spent, &str)> {
        self.facts.bill.as_ref().and_then(|bill| bill.spent())
    }

    fn tools(&self) -> Option<Tools> {
        Tools::of(self.facts)
    }

    fn details_of_code(&self) -> &'static str {
        match (self.outcome, self.facts.error) {
            (Outcome::Dropped, _) => "downstream_remote_disconnect",
            (Outcome::Complete | Outcome::Broken, Some(error)) => error.name(),
            (Outcome::Complete | Outcome::Broken, None) if self.facts.attempt.is_some() => "via_upstream",
            (Outcome::Complete | Outcome::Broken, None) => "direct_response",
        }
    }

    /// Returns the letters that Envoy has for what went wrong.
    fn flags(&self) -> &'static str {
        let asked = self.facts.attempts > 0;
        if self.outcome == Outcome::Dropped {
            return "DC";
        }
        match self.facts.error.map(|error| error.kind) {
            Some(ErrorKind::Timeout) if asked => "UT",
            Some(ErrorKind::Unavailable) if asked => "UF",
            Some(ErrorKind::Unavailable) => "UH",
            Some(ErrorKind::BadUpstream) => "UC",
            Some(ErrorKind::BadReply) => "UPE",
            Some(ErrorKind::RateLimit) if !asked => "RL",
            Some(ErrorKind::NotFound) if !asked => "NR",
            Some(ErrorKind::Authentication | ErrorKind::Permission) if !asked => "UAEX",
            Some(_) | None => "-",
        }
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// Where the reference keeps what is known of a request.
const NAMESPACE: &str = "io.envoy.ai_gateway";
