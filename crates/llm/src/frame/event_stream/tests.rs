//! Messages of every kind, whole, in pieces and broken.

use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::event_stream::{Header, checksum, chunk, event, exception, message, sealed};

use super::*;

type Frames = Vec<(Option<String>, String)>;

/// Pushes `bytes` in pieces of `size`.
fn decode(payload: Payload, bytes: &[u8], size: usize) -> (Frames, Result<bool, Broken>) {
    let mut stream = EventStream::new(payload);
    let mut frames = Vec::new();
    for piece in bytes.chunks(size.max(1)) {
        let mut last = 0;
        let pushed = stream.push(piece, |frame, read| {
            assert!(last < read && read <= piece.len(), "frames end one after another");
            last = read;
            frames.push((frame.event.map(str::to_owned), frame.data.to_owned()));
        });
        if let Err(broken) = pushed {
            return (frames, Err(broken));
        }
    }
    (frames, Ok(stream.is_between_messages()))
}

fn text(text: &str) -> Header {
    Header::Text(text.to_owned())
}

fn frame(event: &str, data: &str) -> (Option<String>, String) {
    ((!event.is_empty()).then(|| event.to_owned()), data.to_owned())
}

#[test]
fn messages_of_every_kind() {
    #[track_caller]
    fn check(
        payload: Payload,
        bytes: &[u8],
        expected: &[(Option<String>, String)],
        end: Result<bool, Broken>,
    ) {
        for size in 1..=bytes.len().max(1) {
            let (frames, ended) = decode(payload, bytes, size);
            assert_eq!(frames, expected, "in pieces of {size}");
            assert_eq!(ended, end, "in pieces of {size}");
        }
    }
    let document = |bytes: &[u8], expected: &[_], end| check(Payload::Document, bytes, expected, end);
    let wrapped = |bytes: &[u8], expected: &[_], end| check(Payload::Wrapped, bytes, expected, end);
    let start = event("messageStart", &json!({"role": "assistant"}));
    let started = frame("messageStart", r#"{"role":"assistant"}"#);

    document(&[], &[], Ok(true));
    document(&start, std::slice::from_ref(&started), Ok(true));
    document(&start[..start.len() - 1], &[], Ok(false));
    let stop = event("messageStop", &json!({}));
    document(
        &[start.clone(), stop].concat(),
        &[started.clone(), frame("messageStop", "{}")],
        Ok(true),
    );
    let headers = [
        ("true", Header::Bool(true)),
        ("false", Header::Bool(false)),
        ("byte", Header::Byte(-1)),
        ("short", Header::Short(-2)),
        ("integer", Header::Integer(-3)),
        ("long", Header::Long(-4)),
        ("bytes", Header::Bytes(vec![0, 255])),
        (":event-type", text("metadata")),
        ("timestamp", Header::Timestamp(1_700_000_000_000)),
        ("uuid", Header::Uuid([7; 16])),
    ];
    document(&message(&headers, b"{}"), &[frame("metadata", "{}")], Ok(true));
    document(&message(&[], b""), &[frame("", "")], Ok(true));
    document(
        &message(&[(":message-type", text("novel"))], b"{}"),
        &[],
        Ok(true),
    );
    document(
        &message(&[(":event-type", Header::Bool(true))], b"\xFF"),
        &[frame("", "\u{FFFD}")],
        Ok(true),
    );

    let why = json!({"message": "slow down"});
    let throttled = exception("throttlingException", &why);
    document(
        &[start.clone(), throttled, start.clone()].concat(),
        std::slice::from_ref(&started),
        Err(Broken::Exception(Exception {
            document: Some(why.to_string().into()),
            ..Exception::new("throttlingException", "slow down")
        })),
    );
    let failed = [
        (":message-type", text("error")),
        (":error-code", text("InternalError")),
        (":error-message", text("it broke")),
    ];
    document(
        &message(&failed, b""),
        &[],
        Err(Broken::Exception(Exception::new("InternalError", "it broke"))),
    );

    let ping = r#"{"type":"ping"}"#;
    let passed = [
        chunk(ping),
        event("chunk", &json!({"p": ""})),
        chunk(r#"{"odd":1}"#),
    ]
    .concat();
    wrapped(
        &passed,
        &[frame("ping", ping), frame("", r#"{"odd":1}"#)],
        Ok(true),
    );
    wrapped(
        &event("chunk", &json!({"bytes": "not base64"})),
        &[frame("", "not base64")],
        Ok(true),
    );
}

#[test]
fn a_changed_byte_breaks_the_stream() {
    let sound = event("messageStart", &json!({"role": "assistant"}));
    for at in 0..sound.len() {
        for bit in 0..8 {
            let mut changed = sound.clone();
            changed[at] ^= 1 << bit;
            assert_eq!(
                decode(Payload::Document, &changed, changed.len()),
                (vec![], Err(Broken::Corrupt)),
                "bit {bit} of byte {at}"
            );
        }
    }
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    #[track_caller]
    fn check(length: u32, headers: u32, expected: Result<bool, Broken>) {
        let mut prelude = [length.to_be_bytes(), headers.to_be_bytes()].concat();
        prelude.extend_from_slice(&checksum(&prelude).to_be_bytes());
        assert_eq!(
            decode(Payload::Document, &prelude, 1).1,
            expected,
            "{length}, {headers}"
        );
    }
    let most = u32::try_from(MAX_MESSAGE).unwrap();
    check(15, 0, Err(Broken::Corrupt));
    check(16, 1, Err(Broken::Corrupt));
    check(100, u32::MAX, Err(Broken::Corrupt));
    check(17, 1, Ok(false));
    check(most, 0, Ok(false));
    check(most + 1, 0, Err(Broken::TooLarge));
    check(u32::MAX, 0, Err(Broken::TooLarge));
}

#[test]
fn malformed_headers_break_the_stream() {
    #[track_caller]
    fn check(headers: &[u8]) {
        let bytes = sealed(headers, b"{}");
        let (frames, end) = decode(Payload::Document, &bytes, bytes.len());
        assert_eq!((frames, end), (vec![], Err(Broken::Corrupt)), "{headers:?}");
    }
    check(&[1]);
    check(&[1, b'a']);
    check(&[1, b'a', 10]);
    check(&[1, b'a', 4, 0, 0, 0]);
    check(&[1, b'a', 7, 0, 2, b'x']);
    check(&[9, b'a', 0]);
}

proptest! {
    #[test]
    fn any_split_gives_the_same_frames(
        payloads in proptest::collection::vec("[ -~]{0,40}", 0..6),
        wrap: bool,
        size in 1_usize..80,
        broken in proptest::option::of(0_usize..400),
    ) {
        let mut bytes = Vec::new();
        for payload in &payloads {
            let value: Value = json!({"type": payload});
            bytes.extend(if wrap { chunk(&value.to_string()) } else { event("contentBlockDelta", &value) });
        }
        if let Some(byte) = broken.and_then(|at| bytes.get_mut(at)) {
            *byte ^= 0x10;
        }
        let payload = if wrap { Payload::Wrapped } else { Payload::Document };
        let whole = decode(payload, &bytes, bytes.len());
        prop_assert_eq!(decode(payload, &bytes, 1), whole.clone());
        prop_assert_eq!(decode(payload, &bytes, size), whole);
    }
}
