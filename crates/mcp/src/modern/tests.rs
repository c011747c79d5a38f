//! What requests of the line without sessions must say, and what is said to either line.

use serde_json::{Value, json};

use super::*;
use crate::json::raw;

fn request(method: &str, params: &Value) -> Request {
    Request {
        id: crate::Id::text("1"),
        method: method.to_owned(),
        params: Some(raw(params)),
    }
}

fn meta() -> Value {
    json!({ PROTOCOL_VERSION: "2026-07-28", CLIENT_CAPABILITIES: {} })
}

fn headers<'a>(method: &'a str, name: Option<&'a str>) -> Headers<'a> {
    Headers {
        version: Some("2026-07-28"),
        method: Some(method),
        name,
    }
}

#[test]
fn requests_say_what_they_need_and_headers_agree() {
    let check = |method: &str, params: Value, headers: Headers<'_>, code: Option<i32>| {
        let read = Envelope::read(&request(method, &params), headers);
        assert_eq!(read.err().map(|error| error.code), code, "{params} {headers:?}");
    };
    let call = |name: &str| json!({ "name": name, "_meta": meta() });
    let list = || json!({ "_meta": meta() });
    check("tools/list", list(), headers("tools/list", None), None);
    check("tools/list", list(), headers(" tools/list ", None), None);
    check("tools/call", call("a"), headers("tools/call", Some(" a ")), None);
    check(
        "tools/call",
        call("ü"),
        headers("tools/call", Some("=?base64?w7w=?=")),
        None,
    );
    check("tools/list", json!({}), headers("tools/list", None), Some(-32602));
    check(
        "tools/list",
        json!({ "_meta": { PROTOCOL_VERSION: "2026-07-28" } }),
        headers("tools/list", None),
        Some(-32602),
    );
    check(
        "tools/list",
        json!({ "_meta": { CLIENT_CAPABILITIES: {} } }),
        headers("tools/list", None),
        Some(-32602),
    );
    check("tools/list", list(), headers("TOOLS/LIST", None), Some(-32020));
    check(
        "tools/list",
        list(),
        Headers {
            method: None,
            ..headers("tools/list", None)
        },
        Some(-32020),
    );
    check(
        "tools/list",
        list(),
        Headers {
            version: None,
            ..headers("tools/list", None)
        },
        Some(-32020),
    );
    check("tools/call", call("a"), headers("tools/call", None), Some(-32020));
    check(
        "tools/call",
        call("a"),
        headers("tools/call", Some("A")),
        Some(-32020),
    );
    check(
        "tools/call",
        call("a"),
        headers("tools/call", Some("=?base64?YQ?=")),
        Some(-32020),
    );
    let other = json!({ "_meta": { PROTOCOL_VERSION: "v9", CLIENT_CAPABILITIES: {} } });
    check(
        "tools/list",
        other.clone(),
        headers("tools/list", None),
        Some(-32020),
    );
    let said = Headers {
        version: Some("v9"),
        ..headers("tools/list", None)
    };
    check("tools/list", other, said, Some(-32022));
    let loud =
        json!({ "_meta": { PROTOCOL_VERSION: "2026-07-28", CLIENT_CAPABILITIES: {}, LOG_LEVEL: "loud" } });
    check("tools/list", loud, headers("tools/list", None), Some(-32602));
}

#[test]
fn lines_are_told_apart() {
    let check = |message: Value, version: Option<&str>, in_session: bool, modern: bool| {
        let message = Message::parse(message.to_string().as_bytes()).expect("a message");
        assert_eq!(
            is_modern(&message, version, in_session),
            modern,
            "{message:?} {version:?}"
        );
    };
    let plain = |method: &str| json!({ "jsonrpc": "2.0", "id": 1, "method": method });
    let whole = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "_meta": meta() } });
    check(plain("initialize"), None, false, false);
    check(plain("initialize"), Some("2025-11-25"), false, false);
    check(plain("initialize"), Some("1999-01-01"), false, false);
    check(plain("tools/list"), None, true, false);
    check(plain("tools/list"), Some("1999-01-01"), true, false);
    check(plain("tools/list"), Some("v999"), false, true);
    check(plain("tools/list"), Some("2026-07-28"), false, true);
    check(whole, None, false, true);
}

#[test]
fn params_are_stamped_and_back() {
    let about = About {
        capabilities: r#"{"sampling":{}}"#,
        info: r#"{"name":"c","version":"1"}"#,
        level: Some(Level::Info),
    };
    let plain = raw(&json!({ "name": "t", "_meta": { "progressToken": 1 } }));
    let told = stamped(Some(&plain), &about).expect("parameters");
    let value: Value = serde_json::from_str(told.get()).expect("a document");
    assert_eq!(value["_meta"][PROTOCOL_VERSION], "2026-07-28");
    assert_eq!(value["_meta"][CLIENT_CAPABILITIES], json!({ "sampling": {} }));
    assert_eq!(value["_meta"][LOG_LEVEL], "info");
    assert_eq!(unstamped(&told).expect("parameters").get(), plain.get());
    let bare = stamped(None, &about).expect("parameters");
    assert_eq!(unstamped(&bare).expect("parameters").get(), "{}");
    let own = raw(&json!({ "_meta": meta() }));
    assert_eq!(stamped(Some(&own), &about).expect("parameters").get(), own.get());
}

#[test]
fn results_and_errors_are_dressed() {
    let server = raw(&json!({ "name": "g" }));
    let check = |result: Value, hints: Option<Hints>, expected: &str| {
        let done = finished(&raw(&result), &server, hints).expect("a result");
        assert_eq!(done.get(), expected);
    };
    check(
        json!({ "content": [] }),
        None,
        r#"{"content":[],"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"g"}}}"#,
    );
    check(
        json!({ "resultType": "task", "_meta": { SERVER_INFO: {} } }),
        Some(Hints::NONE),
        r#"{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"g"}},"resultType":"task","ttlMs":0,"cacheScope":"private"}"#,
    );
    let lost = raw(&json!({ "code": -32002, "message": "m", "data": { "uri": "u" } }));
    let dressed = error(&lost).expect("another code");
    assert_eq!(code(&dressed), Some(-32602));
    assert_eq!(
        legacy_error(&dressed, "u").as_deref().and_then(code),
        Some(-32002)
    );
    assert!(legacy_error(&dressed, "v").is_none());
    assert!(error(&dressed).is_none());
    let one = Hints { ttl: 5, public: true };
    assert_eq!(one.and(Hints { ttl: 9, public: true }), one);
    assert_eq!(one.and(Hints::NONE), Hints::NONE);
}

#[test]
fn servers_say_which_line_they_speak() {
    let check = |result: Value, modern: bool| {
        assert_eq!(Discovered::read(&raw(&result)).is_some(), modern, "{result}");
    };
    check(
        json!({ "supportedVersions": ["2025-11-25", "2026-07-28"], "capabilities": { "tools": {} } }),
        true,
    );
    check(
        json!({ "supportedVersions": ["2025-11-25"], "capabilities": {} }),
        false,
    );
    check(json!({}), false);
}
