//! Lines, forms and conditions.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::*;

/// Gives every operator a value that tells which it is.
fn value(operator: &Operator) -> Value {
    match operator {
        Operator::ResponseCode => json!(200),
        Operator::RouteName => Value::Null,
        Operator::DynamicMetadata(namespace, path) => json!(format!("{namespace}/{}", path.join("/"))),
        other => json!(format!("{other:?}")),
    }
}

#[track_caller]
fn check(written: &str, text: &str, json: Value) {
    let line = Line::parse(written).expect("a line");
    let mut out = String::new();
    line.write_text(&mut out, &value);
    assert_eq!((out.as_str(), line.to_json(&value)), (text, json), "{written}");
}

#[test]
fn operators_stand_for_values() {
    check("", "", json!(""));
    check("plain\n", "plain", json!("plain\n"));
    check("100%%", "100%", json!("100%"));
    check("%RESPONSE_CODE%", "200", json!(200));
    check("%ROUTE_NAME%", "-", Value::Null);
    check(
        "a %ROUTE_NAME% b %RESPONSE_CODE%",
        "a - b 200",
        json!("a - b 200"),
    );
    check(
        "%DYNAMIC_METADATA(io.envoy.ai_gateway:session.id)%",
        "io.envoy.ai_gateway/session.id",
        json!("io.envoy.ai_gateway/session.id"),
    );
    check("%PROTOCOL%", "Protocol", json!("Protocol"));
    check(
        "%REQ(:METHOD)%",
        "Request(Method, None)",
        json!("Request(Method, None)"),
    );
    let both = r#"Request(Named("x-envoy-original-path"), Some(Path))"#;
    check("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", both, json!(both));
    check(
        "%START_TIME(%Y-%m)%",
        r#"StartTime(Some("%Y-%m"))"#,
        json!(r#"StartTime(Some("%Y-%m"))"#),
    );
    check("%RESP(X):4%", "Resp", json!("Resp"));
}

#[test]
fn what_is_no_operator_is_refused() {
    for written in [
        "%",
        "%RESPONSE_CODE",
        "%NOTHING%",
        "%REQ%",
        "%REQ(a b)%",
        "%REQ(X):y%",
        "%REQ(X",
        "%PROTOCOL(1)%",
    ] {
        assert!(Line::parse(written).is_err(), "{written}");
    }
}

#[test]
fn conditions_are_expressions() {
    let check = |source: &str, expected: bool| {
        let mut headers = HeaderMap::new();
        headers.append("x-ai-eg-model", HeaderValue::from_static("gpt"));
        headers.append("x-empty", HeaderValue::from_static(""));
        headers.append(HeaderName::from_static("x-two"), HeaderValue::from_static("a"));
        headers.append(HeaderName::from_static("x-two"), HeaderValue::from_static("b"));
        let request = Request {
            method: "POST",
            path: "/v1/chat/completions?a=b",
            host: "example.com",
            id: "7",
            headers: &headers,
            code: 429,
        };
        let condition = Condition::parse(source).expect("an expression");
        assert_eq!(condition.holds(&request), expected, "{source}");
    };
    check("request.headers['x-ai-eg-model'] != ''", true);
    check("request.headers[\"x-empty\"] != \"\"", false);
    check("request.headers['x-ai-eg-mcp-backend'] != ''", false);
    check("request.headers['x-absent'] == ''", false);
    check("'x-absent' in request.headers || response.code >= 400", true);
    check(
        "request.headers['x-two'] == 'a,b' && request.method == 'POST'",
        true,
    );
    check(
        "request.url_path.startsWith('/v1/') && request.path.endsWith('a=b')",
        true,
    );
    check("request.host", false);
    for source in ["", "request.", "a b"] {
        assert!(Condition::parse(source).is_err(), "{source}");
    }
}
