//! Spans in the words of OpenInference (compatibility specification, "OpenInference vocabulary").

mod answer;
mod items;
mod messages;
mod request;

use http::StatusCode;

use super::{
    Exchange,
    content::Content,
    hide::Hide,
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

/// Returns whether what is said in a stream of this operation is text of a model.
fn speaks_in_tokens(label: &str) -> bool {
    matches!(
        label,
        "chat" | "completion" | "messages" | "responses" | "generate_content"
    )
}

/// Fills in `span`, which has its place and its times.
pub(super) fn describe(span: &mut Span, exchange: &Exchange<'_>, content: &Content<'_>, hide: &Hide) {
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
    let bill = exchange.decision.bill.as_ref();
    // The vocabulary knows one currency.
    if let Some((spent, "USD")) = bill.and_then(|bill| bill.spent()) {
        attributes.set("llm.cost.prompt", spent.prompt.amount());
        attributes.set("llm.cost.completion", spent.answer.amount());
        attributes.set("llm.cost.total", spent.total.amount());
    }
    if exchange.succeeded() {
        describe.response(attributes);
        span.status = Status::Ok;
    }
    if let Some(at) = exchange.first_token().filter(|_| speaks_in_tokens(label)) {
        span.events.push(Event {
            name: "First Token Stream Event",
            at,
            attributes: Attributes::default(),
        });
    }
    if content.completed {
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
        let status = exchange.failure_status();
        let message = failure(status, body);
        let mut of_event = Attributes::default();
        of_event.set("exception.type", exception(status));
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

/// Returns the name of what stands below `name`: spans have many of them.
fn below(name: &str, last: &str) -> String {
    [name, ".", last].concat()
}

/// One exchange, and what may be said of it.
struct Describe<'a> {
    exchange: &'a Exchange<'a>,
    content: &'a Content<'a>,
    hide: &'a Hide,
    label: &'static str,
}
