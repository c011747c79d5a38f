//! What the simulated model answers, held against requests in the neutral form.

use llm::{
    Format,
    chat::{
        CacheMark, Extensions, FinishReason, Output, Part, PartBody, Reasoning, ReasoningMode, Request,
        Response, Role, Sampling, Tool, ToolBody, ToolCall, ToolChoice, ToolKind, ToolResult, Turn,
    },
    json::raw,
    media::{Media, MediaKind, Source},
};
use serde_json::json;

use super::model::answer;

#[test]
fn it_says_what_it_is_and_what_it_heard() {
    let response = ask(&user("Hello there"), Format::OpenAi);
    assert_eq!(
        text(&response),
        "This is sim-1, a simulated model. You said: Hello there"
    );
    assert_eq!(finish(&response), FinishReason::Stop);
    assert_eq!(response.head.model, "sim-1");
    assert_eq!(response.usage.output, Some(14));
    assert_eq!(response.usage.input, Some(7));
}

#[test]
fn the_same_request_has_the_same_answer() {
    let request = user("Hello");
    let ids = [Format::OpenAi, Format::OpenAi].map(|format| ask(&request, format).head.id);
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].starts_with("chatcmpl-"), "{}", ids[0]);
    assert_ne!(ids[0], ask(&user("Hello!"), Format::OpenAi).head.id);
}

#[test]
fn a_long_prompt_is_not_repeated_whole() {
    let response = ask(&user(&"word ".repeat(1000)), Format::OpenAi);
    assert!(
        text(&response).len() < 400 && text(&response).ends_with('…'),
        "{}",
        text(&response)
    );
}

#[test]
fn tools_are_called_when_the_prompt_asks_for_one() {
    check_calls(
        "What is the weather in Paris?",
        None,
        &[r#"get_weather {"city":"Paris"}"#],
    );
    check_calls("Please use a tool.", None, &[r#"get_weather {"city":"text"}"#]);
    check_calls(
        "Use get_weather and get_time for Rome",
        None,
        &[r#"get_weather {"city":"Rome"}"#, r#"get_time {"zone":"UTC"}"#],
    );
    check_calls("Run get time", None, &[r#"get_time {"zone":"UTC"}"#]);
    check_calls("I recall a joke", None, &[]);
    check_calls("What is the weather?", Some(ToolChoice::None), &[]);
    check_calls(
        "Hello",
        Some(ToolChoice::Required),
        &[r#"get_weather {"city":"text"}"#],
    );
    check_calls(
        "Hello",
        Some(ToolChoice::Tool("get_time".into())),
        &[r#"get_time {"zone":"UTC"}"#],
    );
}

#[test]
fn calls_are_one_at_a_time_where_the_client_wants_that() {
    let request = Request {
        parallel_tool_calls: Some(false),
        ..with_tools("Use get_weather and get_time", None)
    };
    assert_eq!(calls(&ask(&request, Format::OpenAi)).len(), 1);
}

#[test]
fn a_demand_for_a_tool_that_is_not_there_is_refused() {
    for (request, param) in [
        (
            with_tools("Hello", Some(ToolChoice::Tool("nothing".into()))),
            "tool_choice",
        ),
        (
            Request {
                tool_choice: Some(ToolChoice::Required),
                ..user("Hello")
            },
            "tool_choice",
        ),
        (
            Request {
                sampling: Sampling {
                    choices: Some(0),
                    ..Sampling::default()
                },
                ..user("Hello")
            },
            "n",
        ),
    ] {
        let error = answer(&request, Format::OpenAi, 0)
            .map(|response| response.head)
            .unwrap_err();
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (400, Some(param))
        );
    }
}

#[test]
fn a_result_is_answered_in_words() {
    let mut request = with_tools("What is the weather in Paris?", Some(ToolChoice::Required));
    let call = calls(&ask(&request, Format::Messages)).remove(0);
    assert!(call.id.starts_with("toolu_"), "{}", call.id);
    let result = ToolResult {
        call: call.id.clone(),
        parts: vec![Part::text("18 degrees")],
        is_error: None,
    };
    request
        .turns
        .push(turn(Role::Assistant, PartBody::ToolCall(call)));
    request.turns.push(turn(Role::User, PartBody::ToolResult(result)));
    let response = ask(&request, Format::Messages);
    assert_eq!(
        text(&response),
        "Simulated answer of sim-1. get_weather answered: 18 degrees"
    );
    assert_eq!(finish(&response), FinishReason::Stop);
}

#[test]
fn answers_end_where_they_are_told_to() {
    let limited = |stop: &[&str], max_output| Request {
        max_output,
        sampling: Sampling {
            stop: stop.iter().map(ToString::to_string).collect(),
            ..Sampling::default()
        },
        ..user("Hello there")
    };
    let check = |request: Request, expected: &str, reason, sequence: Option<&str>| {
        let response = ask(&request, Format::OpenAi);
        assert_eq!(text(&response), expected);
        assert_eq!(finish(&response), reason);
        assert_eq!(response.choices[0].finish.stop_sequence.as_deref(), sequence);
    };
    check(
        limited(&[" You", "simu"], None),
        "This is sim-1, a ",
        FinishReason::StopSequence,
        Some("simu"),
    );
    check(limited(&[], Some(2)), "This is ", FinishReason::Length, None);
    check(limited(&["sim-1"], Some(1)), "This", FinishReason::Length, None);
    check(
        limited(&["sim-1"], Some(2)),
        "This is ",
        FinishReason::StopSequence,
        Some("sim-1"),
    );
}

#[test]
fn structured_answers_follow_their_schema() {
    let schema = json!({"type": "object", "required": ["name", "age"], "properties": {
        "name": {"type": "string"}, "age": {"type": "integer"}}});
    let request = Request {
        output: Output::JsonSchema {
            name: "person".into(),
            description: None,
            schema: raw(&schema),
            strict: Some(true),
        },
        ..user("Describe \"Ada Lovelace\"")
    };
    let said: serde_json::Value = serde_json::from_str(&text(&ask(&request, Format::OpenAi))).unwrap();
    assert_eq!(said, json!({"name": "Ada Lovelace", "age": 1}));
}

#[test]
fn media_are_acknowledged_with_their_size() {
    let mut request = user("What is this?");
    let media = Media {
        kind: MediaKind::Image,
        source: Source::Inline {
            media_type: "image/png".into(),
            data: "iVBORw0KGgo=".into(),
        },
        name: None,
        detail: None,
        context: None,
        citable: None,
    };
    request.turns[0].parts.push(Part::new(PartBody::Media(media)));
    assert_eq!(
        text(&ask(&request, Format::OpenAi)),
        "This is sim-1, a simulated model. I was given an image (image/png, 8 bytes). You said: What is this?"
    );
}

#[test]
fn reasoning_is_counted_and_shown_where_the_format_shows_it() {
    let request = Request {
        reasoning: Some(Reasoning {
            mode: Some(ReasoningMode::Enabled),
            ..Reasoning::default()
        }),
        ..user("Hello")
    };
    for (format, shown) in [(Format::OpenAi, false), (Format::Messages, true)] {
        let response = ask(&request, format);
        let reasoned =
            |part: &Part| matches!(&part.body, PartBody::Reasoning(reasoned) if reasoned.seal.is_some());
        assert_eq!(
            response.choices[0].parts.iter().any(reasoned),
            shown,
            "{format:?}"
        );
        let (thought, output) = (response.usage.reasoning.unwrap(), response.usage.output.unwrap());
        assert!(0 < thought && thought < output, "{thought} of {output}");
    }
    assert_eq!(ask(&user("Hello"), Format::Messages).usage.reasoning, Some(0));
}

#[test]
fn marked_prefixes_are_written_first_and_read_later() {
    let mut request = user("Hello");
    request.instructions.push(Part {
        cache: Some(CacheMark { ttl: None }),
        ..Part::text("x".repeat(400))
    });
    let first = ask(&request, Format::Messages).usage;
    assert_eq!(
        (first.input, first.cache_read, first.cache_write),
        (Some(6), Some(0), Some(100))
    );
    request
        .turns
        .push(turn(Role::Assistant, PartBody::Text("Hi".into())));
    request
        .turns
        .push(turn(Role::User, PartBody::Text("Again".into())));
    let second = ask(&request, Format::Messages).usage;
    assert_eq!((second.cache_read, second.cache_write), (Some(100), Some(0)));
    assert!(second.input > first.input);
}

fn check_calls(prompt: &str, choice: Option<ToolChoice>, expected: &[&str]) {
    let response = ask(&with_tools(prompt, choice), Format::OpenAi);
    let called: Vec<_> = calls(&response)
        .iter()
        .map(|call| format!("{} {}", call.name, call.arguments))
        .collect();
    assert_eq!(called, expected, "{prompt}");
    let reason = if expected.is_empty() {
        FinishReason::Stop
    } else {
        FinishReason::ToolCalls
    };
    assert_eq!(finish(&response), reason, "{prompt}");
}

fn ask(request: &Request, format: Format) -> Response {
    answer(request, format, 0).unwrap()
}

fn user(text: &str) -> Request {
    Request {
        model: "sim-1".into(),
        instructions: Vec::new(),
        turns: vec![turn(Role::User, PartBody::Text(text.into()))],
        tools: Vec::new(),
        tool_choice: None,
        parallel_tool_calls: None,
        output: Output::Text,
        sampling: Sampling::default(),
        reasoning: None,
        max_output: None,
        stream: None,
        user: None,
        user_is_pseudonym: false,
        service_tier: None,
        extensions: Extensions::default(),
    }
}

fn with_tools(text: &str, tool_choice: Option<ToolChoice>) -> Request {
    let tool = |name: &str, member: &str, schema: serde_json::Value| Tool {
        body: ToolBody::Function {
            name: name.into(),
            description: None,
            parameters: Some(raw(&json!({
                "type": "object", "properties": { member: schema }, "required": [member]
            }))),
            strict: None,
        },
        cache: None,
        extensions: Extensions::default(),
    };
    Request {
        tools: vec![
            tool("get_weather", "city", json!({"type": "string"})),
            tool("get_time", "zone", json!({"enum": ["UTC", "CET"]})),
        ],
        tool_choice,
        ..user(text)
    }
}

fn turn(role: Role, body: PartBody) -> Turn {
    Turn {
        role,
        parts: vec![Part::new(body)],
        origin: 0,
        name: None,
        extensions: Extensions::default(),
    }
}

fn text(response: &Response) -> String {
    let texts = response.choices[0]
        .parts
        .iter()
        .filter_map(|part| match &part.body {
            PartBody::Text(text) => Some(text.as_str()),
            _ => None,
        });
    texts.collect()
}

fn calls(response: &Response) -> Vec<ToolCall> {
    let calls = response.choices[0]
        .parts
        .iter()
        .filter_map(|part| match &part.body {
            PartBody::ToolCall(call) => Some(ToolCall {
                kind: ToolKind::Function,
                ..call.clone()
            }),
            _ => None,
        });
    calls.collect()
}

fn finish(response: &Response) -> FinishReason {
    response.choices[0].finish.reason
}
