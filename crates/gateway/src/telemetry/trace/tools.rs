//! Spans of messages of MCP, in both vocabularies (compatibility specification, "MCP spans").

use http::Version;
use mcp::{
    Method,
    json::{self, Object},
    method::{List, Named, Resource},
};
use serde_json::value::RawValue;

use super::{
    Exchange, Vocabulary, nanos,
    span::{Attributes, Event, Kind, Span, Status},
    text,
};
use crate::{
    facts::Outcome,
    mcp::account::{Account, Said},
    telemetry::tools::Ended,
};

/// Returns the span of `message`, if there is to be one.
pub(super) fn span(exchange: &Exchange<'_>, message: &Account, said: &Said) -> Option<Span> {
    let position = message
        .position
        .as_ref()
        .filter(|position| position.is_sampled())?;
    let begun = message.begun.unwrap_or(exchange.decision.start);
    let at = |instant: std::time::Instant| {
        exchange.start() + nanos(instant.saturating_duration_since(exchange.decision.start))
    };
    let start = at(begun);
    let whole = exchange
        .decision
        .elapsed
        .saturating_sub(begun.saturating_duration_since(exchange.decision.start));
    let describe = Describe {
        exchange,
        message,
        said,
        params: said.params.as_deref().and_then(Object::parse).unwrap_or_default(),
        method: Method::find(&message.method),
    };
    let mut span = Span {
        trace: position.place.trace,
        id: position.place.span,
        parent: position.parent,
        state: position
            .place
            .state
            .as_ref()
            .map_or_else(String::new, |state| text(state).to_owned()),
        name: String::new(),
        kind: Kind::Client,
        start,
        end: start + nanos(message.took.unwrap_or(whole)),
        attributes: Attributes::default(),
        events: Vec::new(),
        status: Status::Unset,
    };
    span.say(&exchange.words, |span, vocabulary| match vocabulary {
        Vocabulary::OpenInference(_) => describe.plain(span),
        Vocabulary::GenAi(capture) => describe.conventional(span, *capture, &at),
    });
    for (name, value) in exchange.decision.attributes_of(&message.captured) {
        span.attributes.set(name.to_owned(), text(value));
    }
    for call in &message.calls {
        let mut attributes = Attributes::default();
        attributes.set("mcp.backend.name", &*call.backend);
        attributes.set("mcp.session.id", call.session.as_deref().unwrap_or_default());
        attributes.set("mcp.session.new", call.new);
        attributes.maybe("error.type", call.failure);
        span.events.push(Event {
            name: "route to backend",
            at: at(call.begun),
            attributes,
        });
    }
    describe.end(&mut span);
    span.events.sort_by_key(|event| event.at);
    Some(span)
}

struct Describe<'a> {
    exchange: &'a Exchange<'a>,
    message: &'a Account,
    said: &'a Said,
    params: Object<'a>,
    method: Option<Method>,
}

impl Describe<'_> {
    /// Fills in the words of the default vocabulary.
    fn plain(&self, span: &mut Span) {
        plain_name(self.method, &self.message.method).clone_into(&mut span.name);
        let attributes = &mut span.attributes;
        attributes.set("mcp.protocol.version", self.message.version);
        attributes.set("mcp.transport", "http");
        attributes.maybe("mcp.request.id", self.message.id.as_deref());
        attributes.set("mcp.method.name", self.message.method.as_str());
        let name = self.message.name.as_deref();
        match self.method {
            Some(Method::Named(Named::Tool)) => attributes.maybe("mcp.tool.name", name),
            Some(Method::Named(Named::Prompt)) => attributes.maybe("mcp.prompt.name", name),
            Some(_) | None => {}
        }
        self.shared(attributes);
    }

    /// Fills in the words of OpenTelemetry's conventions.
    fn conventional(&self, span: &mut Span, capture: bool, at: &impl Fn(std::time::Instant) -> u64) {
        let name = self.message.name.as_deref();
        span.name = match (self.method, name) {
            (Some(Method::Named(_)), Some(name)) => format!("{} {name}", self.message.method),
            (Some(_) | None, _) => self.message.method.clone(),
        };
        let attributes = &mut span.attributes;
        attributes.set("mcp.protocol.version", self.message.version);
        attributes.set("network.transport", "tcp");
        attributes.set("network.protocol.name", "http");
        let version = match self.exchange.decision.version {
            Version::HTTP_2 => "2",
            _ => "1.1",
        };
        attributes.set("network.protocol.version", version);
        attributes.maybe("jsonrpc.request.id", self.message.id.as_deref());
        attributes.set("mcp.method.name", self.message.method.as_str());
        attributes.maybe("mcp.session.id", self.message.session.as_deref());
        match self.method {
            Some(Method::Named(Named::Tool)) => {
                attributes.set("gen_ai.operation.name", "execute_tool");
                attributes.maybe("gen_ai.tool.name", name);
                if capture {
                    attributes.maybe(
                        "gen_ai.tool.call.arguments",
                        self.params.get("arguments").map(RawValue::get),
                    );
                    let answer = self.said.answer.as_deref().and_then(Object::parse);
                    let result = answer.as_ref().and_then(|answer| answer.get("result"));
                    attributes.maybe("gen_ai.tool.call.result", result.map(RawValue::get));
                }
            }
            Some(Method::Named(Named::Prompt)) => attributes.maybe("gen_ai.prompt.name", name),
            Some(Method::List(list)) => {
                let items = self.message.items.map(|items| items as u64);
                attributes.maybe(list_size(list), items);
                for (when, instant) in ["begin", "end"].into_iter().zip(self.gathered()) {
                    span.events.push(Event {
                        name: aggregation(list, when),
                        at: at(instant),
                        attributes: Attributes::default(),
                    });
                }
            }
            Some(_) | None => {}
        }
        self.shared(&mut span.attributes);
    }

    fn gathered(&self) -> impl Iterator<Item = std::time::Instant> {
        self.message
            .gathered
            .into_iter()
            .flat_map(|(begin, end)| [begin, end])
    }

    /// Sets what both vocabularies say in the same words.
    fn shared(&self, attributes: &mut Attributes) {
        let (params, method) = (&self.params, self.message.method.as_str());
        let mut text = |object: &Object<'_>, name: &'static str, member: &str| {
            let value = object.text(member).filter(|value| !value.is_empty());
            attributes.maybe(name, value.as_deref());
        };
        if let (Some(Method::Initialize), Some(client)) = (self.method, params.object("clientInfo")) {
            text(&client, "mcp.client.name", "name");
            text(&client, "mcp.client.title", "title");
            text(&client, "mcp.client.version", "version");
        }
        if self.method == Some(Method::SetLevel) {
            text(params, "mcp.logging.level", "level");
        }
        if let (Some(Method::Complete), Some(argument)) = (self.method, params.object("argument")) {
            text(&argument, "mcp.complete.argument.name", "name");
            text(&argument, "mcp.complete.argument.value", "value");
        }
        if method == mcp::method::PROGRESS {
            text(params, "mcp.notifications.progress.message", "message");
            let progress = params
                .get("progress")
                .and_then(|progress| progress.get().parse::<f64>().ok());
            attributes.maybe(
                "mcp.notifications.progress",
                progress.filter(|progress| *progress != 0.0),
            );
            let token = params.get("progressToken");
            let token = token.map(|token| json::text(token).unwrap_or_else(|| token.get().into()));
            attributes.maybe("mcp.notifications.progress.token", token.as_deref());
        }
        if let Some(Method::Resource(Resource::Read | Resource::Subscribe | Resource::Unsubscribe)) =
            self.method
        {
            attributes.maybe("mcp.resource.uri", self.message.uri.as_deref());
        }
    }

    /// Says how it ended.
    fn end(&self, span: &mut Span) {
        let words = &self.exchange.words;
        let conventional = words.have_conventions();
        let Some(ended) = self.message.ended else {
            // What wants no answer has ended with its request.
            match (
                self.exchange.decision.outcome,
                self.exchange.decision.status.is_success(),
            ) {
                (Outcome::Dropped, _) => span.attributes.set("tollgate.outcome", "client_closed"),
                (Outcome::Complete, true) => span.status = Status::Ok,
                (Outcome::Complete | Outcome::Broken, _) => self.failed(span, "internal_error", ""),
            }
            return;
        };
        match ended {
            Ended::Success => span.status = Status::Ok,
            // The tool has answered: that it failed is its own business, and the model's.
            Ended::Failed(_) => {
                if conventional {
                    span.attributes.set("error.type", "tool_error");
                }
                span.status = match words.first {
                    Vocabulary::OpenInference(_) => Status::Ok,
                    Vocabulary::GenAi(_) => Status::Error(String::new()),
                };
            }
            Ended::Error(code) => {
                if conventional {
                    span.attributes
                        .set("rpc.response.status_code", i64::from(code).to_string());
                }
                let message = self.message.error.as_deref().unwrap_or_default();
                self.failed(span, ended.error().unwrap_or("internal_error"), message);
            }
        }
    }

    fn failed(&self, span: &mut Span, kind: &'static str, message: &str) {
        if self.exchange.words.have_conventions() {
            span.attributes.set("error.type", kind);
        }
        let mut attributes = Attributes::default();
        attributes.set("exception.type", kind);
        attributes.set("exception.message", message);
        span.events.push(Event {
            name: "exception",
            at: span.end,
            attributes,
        });
        span.status = Status::Error(message.to_owned());
    }
}

/// Returns what a span is called in the default vocabulary.
fn plain_name(method: Option<Method>, written: &str) -> &str {
    match method {
        Some(Method::Initialize) => "Initialize",
        Some(Method::Ping) => "Ping",
        Some(Method::List(List::Tools)) => "ListTools",
        Some(Method::List(List::Prompts)) => "ListPrompts",
        Some(Method::List(List::Resources)) => "ListResources",
        Some(Method::List(List::Templates)) => "ListResourceTemplates",
        Some(Method::SetLevel) => "SetLoggingLevel",
        Some(Method::Named(Named::Tool)) => "CallTool",
        Some(Method::Named(Named::Prompt)) => "GetPrompt",
        Some(Method::Resource(Resource::Read)) => "ReadResource",
        Some(Method::Resource(Resource::Subscribe)) => "Subscribe",
        Some(Method::Resource(Resource::Unsubscribe)) => "Unsubscribe",
        Some(Method::Complete) => "Complete",
        Some(Method::Discover | Method::Listen) | None => written,
    }
}

fn list_size(list: List) -> &'static str {
    match list {
        List::Tools => "mcp.tools.count",
        List::Prompts => "mcp.prompts.count",
        List::Resources => "mcp.resources.count",
        List::Templates => "mcp.resource_templates.count",
    }
}

/// Returns what the begin or the end of asking all backends is called.
fn aggregation(list: List, when: &str) -> &'static str {
    match (list, when) {
        (List::Tools, "begin") => "tools/list aggregation begin",
        (List::Tools, _) => "tools/list aggregation end",
        (List::Prompts, "begin") => "prompts/list aggregation begin",
        (List::Prompts, _) => "prompts/list aggregation end",
        (List::Resources, "begin") => "resources/list aggregation begin",
        (List::Resources, _) => "resources/list aggregation end",
        (List::Templates, "begin") => "resources/templates/list aggregation begin",
        (List::Templates, _) => "resources/templates/list aggregation end",
    }
}
