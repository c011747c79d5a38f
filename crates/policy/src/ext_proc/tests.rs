//! Messages as they stand on the wire, and what is read of them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::{
    header_edit::HeaderEdit,
    protobuf::{Fields, Message, Value},
    structure,
};

/// Returns the fields of a message at a place: the first message of each of these numbers inside the one before.
fn at(bytes: &[u8], place: &[u32]) -> Vec<(u32, Vec<u8>)> {
    let mut found = bytes.to_vec();
    for number in place {
        let inside = fields(&found).into_iter().find(|(field, _)| field == number);
        found = inside.expect("a message at this place").1;
    }
    fields(&found)
}

fn fields(bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let read = Fields::of(bytes).map(|field| {
        let (number, value) = field.expect("a field");
        let value = match value {
            Value::Bytes(bytes) => bytes.to_vec(),
            Value::Number(number) => vec![u8::try_from(number).expect("a small number")],
            Value::Fixed64(bytes) => bytes.to_vec(),
            Value::Fixed32(bytes) => bytes.to_vec(),
        };
        (number, value)
    });
    read.collect()
}

fn unframed(framed: &Bytes) -> Bytes {
    framed.slice(5..)
}

#[test]
fn heads_are_said() {
    let mut headers = HeaderMap::new();
    headers.append("x-a", HeaderValue::from_static("1"));
    headers.append("x-a", HeaderValue::from_static("2"));
    let said = head(
        Side::Request,
        Head {
            pseudo: &[(":path", "/v1")],
            headers: &headers,
            is_last: true,
        },
        &subset(&["10.0.0.1:8000".to_owned()]),
        Some(Modes::all(BodyMode::Duplex)),
    );
    let said = unframed(&said);
    let lines: Vec<_> = at(&said, &[2, 1])
        .iter()
        .map(|(_, header)| fields(header))
        .collect();
    let line = |name: &str, value: &str| vec![(1, name.into()), (3, value.into())];
    assert_eq!(lines, [line(":path", "/v1"), line("x-a", "1"), line("x-a", "2")]);
    assert_eq!(at(&said, &[2])[1], (3, vec![1]));
    assert_eq!(at(&said, &[11]), [(1, vec![4]), (2, vec![4])]);
    let entry = at(&said, &[8, 1]);
    assert_eq!(entry[0], (1, b"envoy.lb.subset_hint".to_vec()));
    let hint = structure::read(&entry[1].1).expect("a structure");
    let expected = json!({ "x-gateway-destination-endpoint-subset": ["10.0.0.1:8000"] });
    assert_eq!(Json::Object(hint), expected);
}

#[test]
fn bodies_and_trailers_are_said() {
    let said = unframed(&body(Side::Request, b"x", false));
    assert_eq!(at(&said, &[4]), [(1, b"x".to_vec())]);
    let said = unframed(&body(Side::Reply, b"", true));
    assert_eq!(at(&said, &[5]), [(2, vec![1])]);
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-a"), HeaderValue::from_static("1"))]);
    let said = unframed(&trailers(Side::Reply, &headers));
    assert_eq!(at(&said, &[7, 1, 1]), [(1, b"x-a".to_vec()), (3, b"1".to_vec())]);
}

#[track_caller]
fn told(write: impl FnOnce(&mut Message)) -> Told {
    let mut message = Message::default();
    write(&mut message);
    let bytes = Bytes::from(message.into_bytes());
    for end in 0..bytes.len() {
        // Whatever is cut off is no panic.
        let _ = Told::decode(&bytes.slice(..end));
    }
    Told::decode(&bytes).expect("a message")
}

fn set(mutation: &mut Message, name: &str, value: &str) {
    mutation.message(1, |option| {
        option.message(1, |header| {
            header.text(1, name);
            header.bytes(3, value.as_bytes());
        });
    });
}

#[test]
fn heads_are_changed() {
    let read = told(|message| {
        message.message(1, |response| {
            response.message(1, |common| {
                common.message(2, |mutation| {
                    set(mutation, "x-b", "1");
                    set(mutation, "X-Gateway-Destination-Endpoint", "10.0.0.1:8000");
                    set(mutation, ":path", "/v2");
                    set(mutation, "host", "elsewhere");
                    set(mutation, "content-length", "9");
                    mutation.text(2, "x-a");
                    mutation.text(2, ":method");
                });
            });
        });
        message.message(8, |object| structure::write(object, &served("10.0.0.1:8000")));
    });
    let What::Head(Side::Request, change) = &read.what else {
        panic!("{read:?}");
    };
    let name = HeaderName::from_static;
    let expected = [
        HeaderEdit::Remove(name("x-a")),
        HeaderEdit::Set(name("x-b"), HeaderValue::from_static("1")),
    ];
    assert_eq!(change.edits, expected);
    assert_eq!(change.path.as_deref(), Some("/v2"));
    assert_eq!(change.destination.as_deref(), Some("10.0.0.1:8000"));
    assert_eq!(change.body, BodyChange::Kept);
    assert_eq!(read.destination(), None, "who has served is not who is picked");
}

#[test]
fn bodies_are_changed() {
    let check = |write: &dyn Fn(&mut Message), replaces: bool, expected: BodyChange| {
        let read = told(|message| {
            message.message(4, |response| response.message(1, write));
        });
        let What::Body(Side::Reply, change) = read.what else {
            panic!("{read:?}");
        };
        assert_eq!((change.replaces, change.body), (replaces, expected));
    };
    check(&|_| {}, false, BodyChange::Kept);
    let replaced = |text: &'static str| BodyChange::Replaced(Bytes::from_static(text.as_bytes()));
    let body = |common: &mut Message| common.message(3, |body| body.text(1, "new"));
    check(&body, false, replaced("new"));
    check(
        &|common| common.message(3, |body| body.number(2, 1)),
        false,
        replaced(""),
    );
    check(
        &|common| {
            common.number(1, 1);
            body(common);
        },
        true,
        replaced("new"),
    );
    check(
        &|common| {
            common.message(3, |body| {
                body.message(3, |streamed| {
                    streamed.text(1, "part");
                    streamed.number(2, 1);
                });
            });
        },
        false,
        BodyChange::Piece {
            bytes: Bytes::from_static(b"part"),
            is_last: true,
        },
    );
}

#[test]
fn clients_are_answered() {
    let read = told(|message| {
        message.message(7, |immediate| {
            immediate.message(1, |status| status.number(1, 429));
            immediate.message(2, |mutation| set(mutation, "retry-after", "1"));
            immediate.text(3, "later");
            immediate.message(4, |status| status.number(1, 8));
        });
    });
    let What::Answer(immediate) = read.what else {
        panic!("{read:?}");
    };
    assert_eq!(immediate.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(immediate.headers["retry-after"], "1");
    assert_eq!((&immediate.body[..], immediate.grpc), (&b"later"[..], Some(8)));
    let mut interim = Message::default();
    interim.message(7, |immediate| {
        immediate.message(1, |status| status.number(1, 100))
    });
    assert!(Told::decode(&interim.into_bytes().into()).is_err());
}

#[test]
fn modes_are_changed() {
    let read = told(|message| {
        message.message(1, |_| {});
        message.message(9, |mode| {
            mode.number(2, 2);
            mode.number(4, 1);
        });
    });
    let expected = Modes {
        request: BodyMode::Skipped,
        reply_head: false,
        reply: BodyMode::Streamed,
        reply_trailers: false,
    };
    assert_eq!(read.modes, Some(expected));
}

#[test]
fn destinations_are_read_in_order() {
    let check = |written: &str, expected: &[&str]| {
        let found = destinations(written);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{written}");
    };
    check("10.0.0.1:8000", &["10.0.0.1:8000"]);
    check(
        " 10.0.0.1:8000,[::1]:80 , nonsense,10.0.0.1:8000,10.0.0.2",
        &["10.0.0.1:8000", "[::1]:80"],
    );
    check("", &[]);
    let picked = Told {
        metadata: Map::from_iter([("envoy.lb".to_owned(), json!({ DESTINATION: "10.0.0.1:1" }))]),
        ..Told::default()
    };
    assert_eq!(picked.destination(), Some("10.0.0.1:1"));
}
