//! Changes of bodies, as data.

use http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::value::{
    spec::ValueFrom,
    tests::{claim, with_known},
};

fn written(path: &str, value: &str) -> BodySet {
    BodySet {
        path: path.to_owned(),
        value: Some(value.to_owned()),
        ..BodySet::default()
    }
}

fn typed(path: &str, json: Value) -> BodySet {
    BodySet {
        path: path.to_owned(),
        json: Some(json),
        ..BodySet::default()
    }
}

fn drawn(path: &str, value_from: ValueFrom) -> BodySet {
    BodySet {
        path: path.to_owned(),
        value_from: Some(value_from),
        ..BodySet::default()
    }
}

fn mutation(set: &[(&str, &str)], remove: &[&str]) -> BodyMutation {
    BodyMutation {
        set: set.iter().map(|(path, value)| written(path, value)).collect(),
        remove: remove.iter().map(|path| (*path).to_owned()).collect(),
        ..BodyMutation::default()
    }
}

#[track_caller]
fn check(set: &[(&str, &str)], remove: &[&str], body: &str, expected: Result<&str, &str>) {
    check_all(&mutation(set, remove), body, expected);
}

#[track_caller]
fn check_all(mutation: &BodyMutation, body: &str, expected: Result<&str, &str>) {
    let changes = Body::parse(mutation).expect("the changes are well-formed");
    let body = Bytes::copy_from_slice(body.as_bytes());
    let found = with_known(&HeaderMap::new(), |known| changes.apply(body, known));
    let found = found.map_err(|error| error.to_string());
    let found = found
        .as_ref()
        .map(|bytes| std::str::from_utf8(bytes).expect("text"));
    assert_eq!(found.map_err(String::as_str), expected);
}

#[test]
fn changes() {
    check(&[], &[], "not json \u{7f}", Ok("not json \u{7f}"));
    check(&[], &["gone"], r#"{ "a" : 1.0 }"#, Ok(r#"{ "a" : 1.0 }"#));
    check(
        &[("tier", "flex")],
        &[],
        r#"{"a": 1.50e2}"#,
        Ok(r#"{"a":1.50e2,"tier":"flex"}"#),
    );
    check(
        &[("n", "12")],
        &[],
        r#"{"n":1,"b":[1, 2]}"#,
        Ok(r#"{"n":12,"b":[1, 2]}"#),
    );
    check(&[("n", "\"12\"")], &[], "{}", Ok(r#"{"n":"12"}"#));
    check(
        &[("a.b.c", "true")],
        &[],
        r#"{"a":{"x":0.10}}"#,
        Ok(r#"{"a":{"x":0.10,"b":{"c":true}}}"#),
    );
    check(&[], &["a.b"], r#"{"a":{"b":1,"c":2}}"#, Ok(r#"{"a":{"c":2}}"#));
    check(
        &[("m.0.role", "user")],
        &[],
        r#"{"m":[{"role":"x"},2]}"#,
        Ok(r#"{"m":[{"role":"user"},2]}"#),
    );
    check(&[("m.1", "{}")], &[], r#"{"m":[1]}"#, Ok(r#"{"m":[1,{}]}"#));
    check(
        &[("a", "null")],
        &["a"],
        r#"{"a":1,"b":2}"#,
        Ok(r#"{"b":2,"a":null}"#),
    );
    check(&[(r"a\.b", "1")], &[], r#"{"a.b":0}"#, Ok(r#"{"a.b":1}"#));
    check(
        &[("*", "1")],
        &["?"],
        r##"{"x":0,"?":2,"#":3}"##,
        Ok(r##"{"x":0,"#":3,"*":1}"##),
    );
    check(&[("é\"", "1")], &[], "{}", Ok("{\"é\\\"\":1}"));
}

#[test]
fn pointers() {
    check(
        &[("/a.b/c", "1"), ("/~1~0", "2")],
        &["/m/0"],
        r#"{"a.b":{},"m":[1,2]}"#,
        Ok(r#"{"a.b":{"c":1},"m":[2],"/~":2}"#),
    );
    check(&[("/m/-", "3")], &[], r#"{"m":[1]}"#, Ok(r#"{"m":[1,3]}"#));
    check(&[("/", "1")], &[], "{}", Ok(r#"{"":1}"#));
    let none = "the path names no element of the array";
    for path in ["/m/01", "/m/+0", "/m/x", "m.00"] {
        let message = format!("{path}: {none}");
        check(&[(path, "1")], &[], r#"{"m":[0]}"#, Err(&message));
    }
}

#[test]
fn defaults_and_additions() {
    let default = |set: BodySet| BodyMutation {
        default: vec![set],
        ..BodyMutation::default()
    };
    let append = |set: BodySet| BodyMutation {
        append: vec![set],
        ..BodyMutation::default()
    };
    check_all(&default(written("n", "1")), "{}", Ok(r#"{"n":1}"#));
    check_all(
        &default(written("n", "1")),
        r#"{"n": null}"#,
        Ok(r#"{"n": null}"#),
    );
    check_all(
        &default(written("a.b", "1")),
        r#"{"a":{}}"#,
        Ok(r#"{"a":{"b":1}}"#),
    );
    check_all(&append(written("l", "x")), "{}", Ok(r#"{"l":["x"]}"#));
    check_all(&append(written("l", "x")), r#"{"l":[ ]}"#, Ok(r#"{"l":[ "x"]}"#));
    check_all(&append(written("l", "x")), r#"{"l":[1]}"#, Ok(r#"{"l":[1,"x"]}"#));
    let message = "l: the path leads to a value that is no list";
    for body in [r#"{"l":null}"#, r#"{"l":"]"}"#, r#"{"l":{}}"#] {
        check_all(&append(written("l", "x")), body, Err(message));
    }
    let both = BodyMutation {
        default: vec![written("n", "2"), written("m", "3")],
        ..mutation(&[("n", "1")], &["m"])
    };
    check_all(&both, r#"{"m":0}"#, Ok(r#"{"n":1,"m":3}"#));
}

#[test]
fn types() {
    let set = |set: Vec<BodySet>| BodyMutation {
        set,
        ..BodyMutation::default()
    };
    let all = set(vec![
        typed("a", json!("true")),
        typed("b", json!(0.5)),
        typed("c", json!({"d": [null]})),
        typed("e", Value::Null),
    ]);
    check_all(
        &all,
        "{}",
        Ok(r#"{"a":"true","b":0.5,"c":{"d":[null]},"e":null}"#),
    );
    let all = set(vec![
        drawn("user", claim("sub")),
        drawn("org", claim("org.id")),
        drawn("teams", claim("teams")),
        drawn("gone", claim("absent")),
    ]);
    check_all(
        &all,
        r#"{"gone":1,"user":"forged"}"#,
        Ok(r#"{"user":"u1","org":7,"teams":["a","b"]}"#),
    );
    let all = BodyMutation {
        default: vec![drawn("a", claim("absent"))],
        append: vec![drawn("b", claim("absent"))],
        ..BodyMutation::default()
    };
    check_all(&all, "{}", Ok("{}"));
}

#[test]
fn failures() {
    check(&[("a", "1")], &[], "[1]", Err("a: the body is not a JSON object"));
    check(
        &[("a", "1")],
        &[],
        "--boundary",
        Err("a: the body is not a JSON object"),
    );
    check(
        &[("a.b", "1")],
        &[],
        r#"{"a":1}"#,
        Err("a.b: the path leads into a value that has no members"),
    );
    check(
        &[("a.7", "1")],
        &[],
        r#"{"a":[1]}"#,
        Err("a.7: the path names no element of the array"),
    );
    check(
        &[("a", "1")],
        &[],
        r#"{"a":1,"a":2}"#,
        Err("a: the member is there twice"),
    );
    check(&[], &["a.b"], r#"{"a":1}"#, Ok(r#"{"a":1}"#));
}

#[test]
fn malformed() {
    for value in ["{oops}", "1-2", "+1", "\"a\"b\"", "[1,]"] {
        assert!(Body::parse(&mutation(&[("a", value)], &[])).is_err(), "{value}");
    }
    for path in ["", "a..b", ".a", "a.", r"a\"] {
        assert!(Body::parse(&mutation(&[], &[path])).is_err(), "{path}");
    }
    for path in ["/a~2", "/~"] {
        assert!(Body::parse(&mutation(&[], &[path])).is_err(), "{path}");
    }
    let both = BodySet {
        json: Some(json!(1)),
        ..written("a", "1")
    };
    let neither = BodySet {
        path: "a".to_owned(),
        ..BodySet::default()
    };
    for set in [both, neither, drawn("a", ValueFrom::default())] {
        let spec = BodyMutation {
            append: vec![written("b", "1"), set],
            ..BodyMutation::default()
        };
        let (place, _) = Body::parse(&spec).expect_err("it is not said what the value is");
        assert_eq!(place, "append[1]");
    }
}

#[test]
fn merging() {
    let backend = Body::parse(&mutation(&[("a", "1"), ("b", "2")], &["x"])).expect("well-formed");
    let route = Body::parse(&mutation(&[("a", "3")], &["x", "y"])).expect("well-formed");
    let merged = backend.overlaid(&route);
    assert_eq!(merged.remove, ["x", "y"]);
    let text = |text: &str| Content::Written(text.to_owned());
    assert_eq!(
        merged.set,
        [("a".to_owned(), text("3")), ("b".to_owned(), text("2"))]
    );
}
