//! Forms as clients send them, the calls they become, and the replies.

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::{
    End, Site,
    provider::{Anthropic, OpenAi as Provider},
};

fn headers(content_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
    headers
}

fn begin(path: &str, content_type: &str) -> Result<Form, ApiError> {
    let place = Endpoint::find(path, "").unwrap();
    let Operation::Upload(upload) = place.endpoint.operation else {
        panic!("{path} takes a form");
    };
    Form::begin(place.endpoint, upload, &headers(content_type))
}

/// Returns a form with `fields`, each a name and a value; a name that ends in `@` is that of a file.
fn body(fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        let (name, file) = match name.strip_suffix('@') {
            Some(name) => (name, "; filename=\"f.bin\""),
            None => (*name, ""),
        };
        body.push_str(&format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n"
        ));
    }
    body + "--b--\r\n"
}

fn read(path: &str, fields: &[(&str, &str)]) -> Result<Form, ApiError> {
    let mut form = begin(path, "multipart/form-data; boundary=b")?;
    form.push(body(fields).as_bytes())?;
    form.end()?;
    Ok(form)
}

const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";
const EDITS: &str = "/v1/images/edits";

#[test]
fn the_model_and_the_stream_are_found() {
    let check = |path: &str, fields: &[(&str, &str)], stream: bool| {
        let form = read(path, fields).unwrap();
        assert_eq!(
            (form.model(), form.stream()),
            (Some("m"), stream),
            "{path} {fields:?}"
        );
    };
    check(TRANSCRIPTIONS, &[("file@", "RIFF"), ("model", "m")], false);
    check(
        TRANSCRIPTIONS,
        &[("model", "m"), ("stream", "True"), ("file@", "RIFF")],
        true,
    );
    check(
        TRANSCRIPTIONS,
        &[("model", "m"), ("stream", "false"), ("url", "https://a/b.wav")],
        false,
    );
    check("/v1/audio/translations", &[("model", "m"), ("file@", "")], false);
    check(
        EDITS,
        &[
            ("model", "m"),
            ("image[]@", "a"),
            ("image[]@", "b"),
            ("prompt", "p"),
        ],
        false,
    );
    check("/v1/images/variations", &[("image@", "a"), ("model", "m")], false);
}

#[test]
fn what_is_missing_is_named() {
    let check = |path: &str, fields: &[(&str, &str)], param: &str, message: &str| {
        let error = read(path, fields).err().unwrap();
        assert_eq!(
            (error.status, error.param.as_deref()),
            (StatusCode::BAD_REQUEST, Some(param))
        );
        assert!(error.message.contains(message), "{error}");
    };
    check(
        TRANSCRIPTIONS,
        &[("file@", "RIFF")],
        "model",
        "you must name a model",
    );
    check(TRANSCRIPTIONS, &[("model", "")], "model", "you must name a model");
    check(TRANSCRIPTIONS, &[("model", "m")], "file", "required");
    check(EDITS, &[("model", "m"), ("prompt", "p")], "image", "required");
    check(EDITS, &[("model", "m"), ("image@", "p")], "prompt", "required");
    check(
        TRANSCRIPTIONS,
        &[("model", "m"), ("model", "m")],
        "model",
        "given twice",
    );
    check(TRANSCRIPTIONS, &[("model@", "m")], "model", "plain field");
    let long = "x".repeat(multipart::MAX_FIELD + 1);
    check(TRANSCRIPTIONS, &[("model", &long)], "model", "exceeds");
}

#[test]
fn only_forms_are_taken_and_only_where_they_belong() {
    for other in [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
    ] {
        let error = begin(TRANSCRIPTIONS, other).err().unwrap();
        assert_eq!(
            error.message,
            "/v1/audio/transcriptions takes a form: the content-type must be multipart/form-data"
        );
    }
    let error = begin(TRANSCRIPTIONS, "multipart/form-data").err().unwrap();
    assert!(error.message.contains("without a boundary"), "{error}");
    assert!(refuse(&headers("application/json"), "/p").is_ok());
    assert!(refuse(&headers("Multipart/Form-Data; boundary=b"), "/p").is_err());
    let mut form = begin(TRANSCRIPTIONS, "multipart/form-data; boundary=b").unwrap();
    form.push(b"--b\r\n").unwrap();
    assert!(form.end().unwrap_err().message.contains("ends before"));
}

fn target<'t>(provider: &'static dyn crate::Provider, site: &'t Site, model: &'t str) -> Target<'t> {
    Target {
        provider,
        site,
        model,
        now: 0,
    }
}

#[test]
fn a_call_changes_the_model_alone() {
    let site = Site::default();
    let sent = [("file@", "RIFF"), ("model", "m"), ("prompt", "m")];
    let form = read(TRANSCRIPTIONS, &sent).unwrap();
    let call = form.call(&target(&Provider, &site, "m")).unwrap();
    assert_eq!((call.path.as_str(), call.growth), ("/v1/audio/transcriptions", 0));
    assert!(call.editor.is_none());
    let call = form.call(&target(&Provider, &site, "whisper-1")).unwrap();
    assert_eq!(call.growth, 8);
    assert_eq!(call.content_type, "multipart/form-data; boundary=b");
    let mut out = String::new();
    call.editor.unwrap().push(Bytes::from(body(&sent)), |bytes| {
        out.push_str(std::str::from_utf8(&bytes).unwrap());
    });
    assert_eq!(
        out,
        body(&[("file@", "RIFF"), ("model", "whisper-1"), ("prompt", "m")])
    );
    let error = form.call(&target(&Anthropic, &site, "m")).err().unwrap();
    assert_eq!(error.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(error.message, "anthropic does not serve /v1/audio/transcriptions");
}

fn reply(path: &str) -> crate::Reply {
    let fields = [("image@", "a"), ("file@", "a"), ("model", "m"), ("prompt", "p")];
    let form = read(path, &fields).unwrap();
    let site = Site::default();
    form.call(&target(&Provider, &site, "upstream-model"))
        .unwrap()
        .reply
}

#[test]
fn replies_are_overheard_and_unchanged() {
    let check = |body: &str, input: Option<u64>, output: Option<u64>, seconds: Option<u64>| {
        let answer = reply(TRANSCRIPTIONS)
            .response(Bytes::from(body.to_owned()))
            .unwrap();
        assert_eq!(answer.body, body.as_bytes());
        let observed = answer.observed;
        assert_eq!(
            (observed.usage.input, observed.usage.output, observed.seconds),
            (input, output, seconds),
            "{body}"
        );
        assert_eq!(observed.model.as_deref(), Some("upstream-model"));
        assert!(observed.complete);
    };
    let tokens = json!({"text": "Hi.", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45,
        "total_tokens": 59, "input_token_details": {"text_tokens": 0, "audio_tokens": 14}}});
    check(&tokens.to_string(), Some(14), Some(45), None);
    check(
        r#" {"text":"Hi.","usage":{"type":"duration","seconds":8.2}}"#,
        None,
        None,
        Some(9),
    );
    check(
        r#"{"text":"Hi.","usage":{"type":"duration","seconds":-1}}"#,
        None,
        None,
        None,
    );
    check(r#"{"usage":{"input_tokens":"many"}}"#, None, None, None);
    check("1\n00:00:00,000 --> 00:00:01,000\nHi.\n", None, None, None);
    check("WEBVTT\n\n00:00.000 --> 00:01.000\nHi.\n", None, None, None);
    check("", None, None, None);
    check("{\"text\":", None, None, None);
}

fn observe(path: &str, stream: &str, end: End) -> (Observed, String) {
    let mut relayed = reply(path).stream();
    let mut out = relayed.push(Bytes::from(stream.to_owned())).to_vec();
    out.extend_from_slice(&relayed.end(end));
    (relayed.observed().clone(), String::from_utf8(out).unwrap())
}

#[test]
fn streams_are_overheard_and_unchanged() {
    let delta = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"Hi\"}\n\n";
    let done = "data: {\"type\":\"transcript.text.done\",\"text\":\"Hi\",\
                \"usage\":{\"type\":\"tokens\",\"input_tokens\":3,\"output_tokens\":2,\"total_tokens\":5}}\n\n";
    let whole = format!("{delta}{done}");
    let (observed, out) = observe(TRANSCRIPTIONS, &whole, End::Cut);
    assert_eq!((observed.usage.input, observed.usage.output), (Some(3), Some(2)));
    assert!(observed.complete && observed.meaningful && observed.error.is_none());
    assert_eq!(out, whole);

    let (observed, out) = observe(TRANSCRIPTIONS, delta, End::Clean);
    assert!(observed.complete);
    assert_eq!(out, delta);

    let (observed, out) = observe(TRANSCRIPTIONS, delta, End::Cut);
    assert!(observed.error.is_some() && !observed.complete);
    assert!(out.starts_with(delta) && out.contains("\"error\""), "{out}");

    let chat = "data: {\"object\":\"transcription.chunk\",\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n\
                data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n";
    let (observed, _) = observe(TRANSCRIPTIONS, chat, End::Clean);
    assert_eq!((observed.usage.input, observed.usage.output), (Some(7), Some(1)));

    let image = "event: image_edit.completed\ndata: {\"type\":\"image_edit.completed\",\"b64_json\":\"AA==\",\
                 \"usage\":{\"input_tokens\":50,\"output_tokens\":100,\"total_tokens\":150}}\n\n";
    let (observed, out) = observe(EDITS, image, End::Clean);
    assert_eq!(
        (observed.usage.input, observed.usage.output),
        (Some(50), Some(100))
    );
    assert_eq!(out, image);
}

#[test]
fn errors_in_streams_are_noticed() {
    for stream in [
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"server_error\",\"message\":\"gone\"}}\n\n",
        "data: {\"error\":{\"type\":\"server_error\",\"message\":\"gone\"}}\n\n",
    ] {
        let (observed, _) = observe(TRANSCRIPTIONS, stream, End::Clean);
        assert_eq!(
            observed.error.map(|error| error.message).as_deref(),
            Some("gone"),
            "{stream}"
        );
        assert!(!observed.meaningful);
    }
}

#[test]
fn errors_are_read_as_the_format_says_them() {
    let body = r#"{"error":{"message":"Invalid file format.","type":"invalid_request_error","param":"file","code":null}}"#;
    let error = reply(TRANSCRIPTIONS).error(StatusCode::BAD_REQUEST, &HeaderMap::new(), &Bytes::from(body));
    assert_eq!(
        (error.message.as_str(), error.param.as_deref()),
        ("Invalid file format.", Some("file"))
    );
}
