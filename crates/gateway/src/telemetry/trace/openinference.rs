//! Spans in the words of OpenInference (compatibility specification, "OpenInference vocabulary").

use http::StatusCode;
use llm::{
    Format, Usage,
    chat::{Part, PartBody, Request, Response, Role, ToolBody},
    media::{MediaKind, Source},
};
use serde_json::{Value as Json, json};

use super::{
    Exchange,
    content::Content,
    hide::{Hide, REDACTED},
    span::{Attributes, Event, Kind, Span, Status},
};

/// What a span of an operation is called, its kind, and whose API the client speaks.
fn shape(label: &str) -> (&'static str, &'static str, Option<&'static str>) {
    match label {
        "chat" => ("ChatCompletion", "LLM", Some("openai")),
        "completion" => ("Completion", "LLM", Some("openai")),
        "messages" => ("Message", "LLM", Some("anthropic")),
        "responses" => ("Responses", "LLM", Some("openai")),
        "generate_content" => ("GenerateContent", "LLM", Some("google")),
        "embeddings" => ("CreateEmbeddings", "EMBEDDING", None),
        "image_generation" | "image_edit" | "image_variation" => ("ImagesResponse", "LLM", Some("openai")),
        "speech" => ("AudioSpeech", "LLM", Some("openai")),
        "transcription" => ("Transcription", "LLM", Some("openai")),
        "translation" => ("Translation", "LLM", Some("openai")),
        "rerank" => ("Rerank", "RERANKER", Some("cohere")),
        "responses_input_tokens" => ("ResponsesInputTokens", "TOKEN_COUNTER", Some("openai")),
        "count_tokens" => ("CountTokens", "TOKEN_COUNTER", Some("anthropic")),
        "total_tokens" => ("CountTokens", "TOKEN_COUNTER", Some("google")),
        "tokenize" => ("Tokenize", "TOKEN_COUNTER", Some("openai")),
        "moderation" => ("Moderation", "GUARDRAIL", Some("openai")),
        _ => ("Request", "CHAIN", None),
    }
}

/// Fills in `span`, which has its place and its times.
pub(super) fn describe(span: &mut Span, exchange: &Exchange<'_>, content: &Content, hide: &Hide) {
    let label = exchange.label();
    let (name, kind, system) = shape(label);
    name.clone_into(&mut span.name);
    span.kind = Kind::Internal;
    let attributes = &mut span.attributes;
    attributes.set("openinference.span.kind", kind);
    attributes.maybe("llm.system", system);
    let describe = Describe {
        exchange,
        content,
        hide,
        label,
    };
    describe.request(attributes);
    if exchange.succeeded() {
        describe.response(attributes);
        span.status = Status::Ok;
    }
    let decision = exchange.decision;
    if let Some(at) = exchange.first_token() {
        span.events.push(Event {
            name: "First Token Stream Event",
            at,
            attributes: Attributes::default(),
        });
    }
    if label == "responses" && decision.streamed && exchange.succeeded() {
        span.events.push(Event {
            name: "Response Completed Event",
            at: span.end,
            attributes: Attributes::default(),
        });
    }
    if exchange.failed() {
        let body = content
            .answer
            .as_deref()
            .filter(|_| !(hide.inputs || hide.outputs));
        let message = failure(decision.status, body);
        let mut of_event = Attributes::default();
        of_event.set("exception.type", exception(decision.status));
        of_event.set("exception.message", message.as_str());
        span.events.push(Event {
            name: "exception",
            at: span.end,
            attributes: of_event,
        });
        span.status = Status::Error(message);
    }
}

/// Returns what is said of a failure, in both vocabularies.
pub(super) fn failure(status: StatusCode, body: Option<&str>) -> String {
    match body.filter(|body| !body.is_empty()) {
        Some(body) => format!("Error code: {} - {body}", status.as_u16()),
        None => format!("Error code: {}", status.as_u16()),
    }
}

fn exception(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "BadRequestError",
        401 => "AuthenticationError",
        403 => "PermissionDeniedError",
        404 => "NotFoundError",
        429 => "RateLimitError",
        500 | 502 | 503 => "InternalServerError",
        _ => "Error",
    }
}

struct Describe<'a> {
    exchange: &'a Exchange<'a>,
    content: &'a Content,
    hide: &'a Hide,
    label: &'static str,
}

impl Describe<'_> {
    fn request(&self, attributes: &mut Attributes) {
        let (document, hide) = (&self.content.document, self.hide);
        let counter = matches!(
            self.label,
            "responses_input_tokens" | "count_tokens" | "total_tokens" | "tokenize"
        );
        let model = self.exchange.decision.model.as_deref().unwrap_or_default();
        match self.label {
            "embeddings" => {}
            "rerank" => attributes.set("reranker.model_name", model),
            _ => attributes.set("llm.model_name", model),
        }
        let input = self.exchange.trace.request.as_deref();
        match input {
            Some(_) if hide.inputs && counter => {}
            Some(_) if hide.inputs => attributes.set("input.value", REDACTED),
            Some(input) => {
                attributes.set("input.value", hide.pictures_in(input, document));
                attributes.set("input.mime_type", "application/json");
            }
            None => {}
        }
        self.parameters(attributes);
        if hide.inputs {
            return;
        }
        if let Some(request) = &self.content.request {
            self.conversation(request, attributes);
        }
        match self.label {
            "completion" if !hide.prompts => {
                for (at, text) in texts(&document["prompt"]).into_iter().enumerate() {
                    attributes.set(format!("llm.prompts.{at}.prompt.text"), text);
                }
            }
            "embeddings" if !hide.embeddings_text => {
                for (at, text) in texts(&document["input"]).into_iter().enumerate() {
                    attributes.set(format!("embedding.embeddings.{at}.embedding.text"), text);
                }
            }
            "rerank" => self.rerank(attributes),
            "tokenize" => {
                let is_chat = document.get("messages").is_some();
                attributes.set(
                    "tokenize.request_type",
                    if is_chat { "chat" } else { "completion" },
                );
            }
            _ => {}
        }
    }

    /// Sets what was asked for beside the content itself.
    fn parameters(&self, attributes: &mut Attributes) {
        let (name, content): (_, &[&str]) = match self.label {
            "chat" => ("llm.invocation_parameters", &["messages", "tools"]),
            "messages" => ("llm.invocation_parameters", &["messages", "tools", "system"]),
            "responses" => ("llm.invocation_parameters", &["input", "tools", "instructions"]),
            "generate_content" => (
                "llm.invocation_parameters",
                &["contents", "tools", "systemInstruction"],
            ),
            "completion" => ("llm.invocation_parameters", &["prompt"]),
            "embeddings" => ("embedding.invocation_parameters", &["input", "messages"]),
            // The prompt is among the parameters, unless it is hidden.
            "image_generation" if self.hide.inputs => ("llm.invocation_parameters", &["prompt"]),
            "speech" if self.hide.inputs => ("llm.invocation_parameters", &["input", "instructions"]),
            "image_generation" | "speech" => ("llm.invocation_parameters", &[]),
            _ => return,
        };
        if self.hide.invocation_parameters {
            return;
        }
        if let Json::Object(members) = &self.content.document {
            let rest = members
                .iter()
                .filter(|(name, _)| !content.contains(&name.as_str()));
            let rest: serde_json::Map<_, _> =
                rest.map(|(name, value)| (name.clone(), value.clone())).collect();
            attributes.set(name, Json::Object(rest).to_string());
        }
    }

    fn conversation(&self, request: &Request, attributes: &mut Attributes) {
        if !self.hide.input_messages {
            let mut messages = Messages {
                prefix: "llm.input_messages",
                next: 0,
                hide_text: self.hide.input_text,
                hide: self.hide,
            };
            messages.push("system", &request.instructions, attributes);
            for turn in &request.turns {
                let role = match turn.role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                messages.push(role, &turn.parts, attributes);
            }
        }
        for (at, tool) in request.tools.iter().enumerate() {
            let schema = tool_schema(&tool.body, self.exchange.format());
            attributes.set(format!("llm.tools.{at}.tool.json_schema"), schema);
        }
    }

    fn rerank(&self, attributes: &mut Attributes) {
        let document = &self.content.document;
        attributes.maybe("reranker.top_k", document["top_n"].as_u64());
        attributes.maybe("reranker.query", document["query"].as_str());
        let documents = document["documents"].as_array();
        for (at, document) in documents.into_iter().flatten().enumerate() {
            let text = document
                .as_str()
                .or(document["text"].as_str())
                .unwrap_or_default();
            attributes.set(format!("reranker.input_documents.{at}.document.content"), text);
        }
    }

    fn response(&self, attributes: &mut Attributes) {
        let (decision, hide) = (self.exchange.decision, self.hide);
        let model = decision
            .response_model
            .as_deref()
            .filter(|model| !model.is_empty());
        match self.label {
            "embeddings" => attributes.maybe("embedding.model_name", model),
            "rerank" => {}
            // The model that answered takes the place of the one that was asked for.
            _ => attributes.replace("llm.model_name", model),
        }
        match &self.content.answer {
            Some(_) if hide.outputs => attributes.set("output.value", REDACTED),
            Some(answer) => {
                attributes.set("output.value", answer.as_str());
                attributes.set("output.mime_type", "application/json");
            }
            None => {}
        }
        if !hide.outputs {
            if let Some(response) = self.content.response.as_ref().filter(|_| !hide.output_messages) {
                self.messages(response, attributes);
            }
            self.others(attributes);
        }
        counts(self.label, &decision.usage, attributes);
    }

    fn messages(&self, response: &Response, attributes: &mut Attributes) {
        let mut messages = Messages {
            prefix: "llm.output_messages",
            next: 0,
            hide_text: self.hide.output_text,
            hide: self.hide,
        };
        for choice in &response.choices {
            match self.exchange.format() {
                // The blocks of an answer are messages of their own.
                Format::Messages => {
                    for part in &choice.parts {
                        messages.push("assistant", std::slice::from_ref(part), attributes);
                    }
                }
                Format::OpenAi | Format::Responses | Format::Gemini | Format::Converse | Format::Cohere => {
                    messages.push("assistant", &choice.parts, attributes);
                }
            }
        }
    }

    /// Sets what answers say that are no conversations.
    fn others(&self, attributes: &mut Attributes) {
        let answer = self.content.answer.as_deref().unwrap_or_default();
        let Ok(answer) = serde_json::from_str::<Json>(answer) else {
            return;
        };
        match self.label {
            "completion" if !self.hide.choices => {
                for (at, choice) in answer["choices"].as_array().into_iter().flatten().enumerate() {
                    let text = choice["text"].as_str().unwrap_or_default();
                    attributes.set(format!("llm.choices.{at}.completion.text"), text);
                }
            }
            "embeddings" if !self.hide.embeddings_vectors => {
                for (at, item) in answer["data"].as_array().into_iter().flatten().enumerate() {
                    let numbers = item["embedding"].as_array().into_iter().flatten();
                    let vector: Vec<f64> = numbers.filter_map(Json::as_f64).collect();
                    if !vector.is_empty() {
                        let name = format!("embedding.embeddings.{at}.embedding.vector");
                        attributes.set(name, super::span::Value::Floats(vector));
                    }
                }
            }
            "rerank" => {
                for (at, item) in answer["results"].as_array().into_iter().flatten().enumerate() {
                    let name = format!("reranker.output_documents.{at}.document.score");
                    attributes.set(name, item["relevance_score"].as_f64().unwrap_or_default());
                }
            }
            "tokenize" => attributes.maybe("tokenize.token_count", answer["count"].as_u64()),
            _ => {}
        }
    }
}

/// Sets the counts of tokens, which are never hidden.
fn counts(label: &str, usage: &Usage, attributes: &mut Attributes) {
    if usage.is_unknown() {
        return;
    }
    let always = label == "messages";
    let mut count = |name: &'static str, value: u64| {
        if value > 0 || always {
            attributes.set(name, value);
        }
    };
    count("llm.token_count.prompt", usage.prompt());
    if !matches!(
        label,
        "responses_input_tokens" | "count_tokens" | "total_tokens" | "embeddings"
    ) {
        count("llm.token_count.completion", usage.output.unwrap_or(0));
    }
    if !matches!(label, "responses_input_tokens" | "count_tokens" | "total_tokens") {
        count("llm.token_count.total", usage.total());
    }
    if always || usage.cache_read.is_some() {
        let read = usage.cache_read.unwrap_or(0);
        attributes.set("llm.token_count.prompt_details.cache_read", read);
    }
    if always || usage.cache_write.is_some() {
        let written = usage.cache_write.unwrap_or(0);
        attributes.set("llm.token_count.prompt_details.cache_creation", written);
    }
    attributes.maybe("llm.token_count.completion_details.reasoning", usage.reasoning);
}

/// Messages on their way into attributes, numbered.
struct Messages<'a> {
    prefix: &'static str,
    next: usize,
    hide_text: bool,
    hide: &'a Hide,
}

impl Messages<'_> {
    fn push(&mut self, role: &str, parts: &[Part], attributes: &mut Attributes) {
        let is_result = |part: &&Part| matches!(part.body, PartBody::ToolResult(_));
        for part in parts.iter().filter(is_result) {
            if let PartBody::ToolResult(result) = &part.body {
                let message = self.message("tool", attributes);
                attributes.set(format!("{message}.tool_call_id"), result.call.as_str());
                self.contents(&message, &result.parts.iter().collect::<Vec<_>>(), attributes);
            }
        }
        let others: Vec<&Part> = parts.iter().filter(|part| !is_result(part)).collect();
        if !others.is_empty() {
            let message = self.message(role, attributes);
            self.contents(&message, &others, attributes);
        }
    }

    fn message(&mut self, role: &str, attributes: &mut Attributes) -> String {
        let message = format!("{}.{}.message", self.prefix, self.next);
        self.next += 1;
        attributes.set(format!("{message}.role"), role);
        message
    }

    fn text<'t>(&self, text: &'t str) -> &'t str {
        if self.hide_text { REDACTED } else { text }
    }

    fn contents(&self, message: &str, parts: &[&Part], attributes: &mut Attributes) {
        let shown = parts
            .iter()
            .filter(|part| !matches!(part.body, PartBody::ToolCall(_)));
        if let [PartBody::Text(text)] = shown
            .clone()
            .map(|part| &part.body)
            .collect::<Vec<_>>()
            .as_slice()
        {
            if !text.is_empty() {
                attributes.set(format!("{message}.content"), self.text(text));
            }
        } else {
            for (at, part) in shown.enumerate() {
                self.part(
                    &format!("{message}.contents.{at}.message_content"),
                    &part.body,
                    attributes,
                );
            }
        }
        let calls = parts.iter().filter_map(|part| match &part.body {
            PartBody::ToolCall(call) => Some(call),
            PartBody::Text(_)
            | PartBody::Media(_)
            | PartBody::Reasoning(_)
            | PartBody::SearchResult(_)
            | PartBody::ToolResult(_)
            | PartBody::Refusal(_)
            | PartBody::Native { .. } => None,
        });
        for (at, call) in calls.enumerate() {
            let prefix = format!("{message}.tool_calls.{at}.tool_call");
            attributes.set(format!("{prefix}.id"), call.id.as_str());
            attributes.set(format!("{prefix}.function.name"), call.name.as_str());
            attributes.set(format!("{prefix}.function.arguments"), self.text(&call.arguments));
        }
    }

    fn part(&self, prefix: &str, body: &PartBody, attributes: &mut Attributes) {
        let found;
        let (kind, text) = match body {
            PartBody::Text(text) | PartBody::Refusal(text) => ("text", Some(text.as_str())),
            PartBody::SearchResult(result) => {
                found = result.to_text();
                ("text", Some(found.as_str()))
            }
            PartBody::Reasoning(reasoned) => ("text", Some(reasoned.text.as_str())),
            PartBody::Media(media) => match media.kind {
                MediaKind::Image if self.hide.input_images => return,
                MediaKind::Image => {
                    let url = match &media.source {
                        Source::Inline { media_type, data } => format!("data:{media_type};base64,{data}"),
                        Source::Text(text) => text.clone(),
                        Source::Url(url) => url.clone(),
                        Source::File { id, .. } => id.clone(),
                    };
                    let url = if self.hide.is_too_long(&url) {
                        REDACTED.to_owned()
                    } else {
                        url
                    };
                    attributes.set(format!("{prefix}.image.image.url"), url);
                    ("image", None)
                }
                MediaKind::Document => ("document", None),
                MediaKind::Audio => ("audio", None),
                MediaKind::Video => ("video", None),
            },
            PartBody::Native { .. } => ("native", None),
            PartBody::ToolCall(_) | PartBody::ToolResult(_) => return,
        };
        attributes.set(format!("{prefix}.type"), kind);
        if let Some(text) = text {
            attributes.set(format!("{prefix}.text"), self.text(text));
        }
    }
}

/// Returns a tool as its format declares it.
fn tool_schema(tool: &ToolBody, format: Format) -> String {
    let (name, description, parameters) = match tool {
        ToolBody::Native { raw, .. } => return raw.get().to_owned(),
        ToolBody::Function {
            name,
            description,
            parameters,
            ..
        } => (name, description, parameters),
    };
    let parameters = parameters
        .as_ref()
        .and_then(|raw| serde_json::from_str::<Json>(raw.get()).ok());
    let mut function = json!({"name": name});
    if let Some(description) = description {
        function["description"] = description.as_str().into();
    }
    let schema = match format {
        Format::Messages => "input_schema",
        Format::OpenAi | Format::Responses | Format::Gemini | Format::Converse | Format::Cohere => {
            "parameters"
        }
    };
    if let Some(parameters) = parameters {
        function[schema] = parameters;
    }
    match format {
        Format::OpenAi => json!({"type": "function", "function": function}).to_string(),
        Format::Responses => {
            function["type"] = "function".into();
            function.to_string()
        }
        Format::Messages | Format::Gemini | Format::Converse | Format::Cohere => function.to_string(),
    }
}

/// Returns the texts of a string or of a list of strings.
fn texts(value: &Json) -> Vec<&str> {
    match value {
        Json::String(text) => vec![text],
        Json::Array(items) => items.iter().filter_map(Json::as_str).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Vec::new(),
    }
}
