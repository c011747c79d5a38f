//! The laws that arbitrary bytes are held against, one function for each kind of parser.
//!
//! A target in `fuzz_targets` is one call of these. Beyond what is asserted here, any panic is a finding:
//! the crates are built with their debug assertions, the grammar of events among them.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use llm::{
    Endpoint, Format, Inbound, Observed, Operation, Reply, Site, Target,
    frame::{
        event_stream::{EventStream, Payload},
        sse::Sse,
    },
    json::Shallow,
    multipart::{Boundary, Editor, Event, Malformed, Scanner},
    operation::ENDPOINTS,
    provider::{
        AiStudio, Anthropic, Ask, Bedrock, BedrockClaude, COHERE, COMPATIBLE, CredentialKind, LITELLM,
        MISTRAL, OpenAi, Provider, Vertex, VertexClaude,
    },
    reply::End,
};
use testkit::event_stream as written;

/// Cuts `data` into frames, whole and in pieces.
///
/// # Panics
/// If the two differ.
pub fn sse(data: &[u8]) {
    let whole = frames(data, data.len());
    for size in [1, piece(data)] {
        assert_eq!(frames(data, size), whole, "in pieces of {size}");
    }
}

/// Cuts `data` into messages of an AWS event stream, whole and in pieces: as it is, and as the headers and the
/// payload of a message whose checksums are right.
///
/// # Panics
/// If the two differ.
pub fn event_stream(data: &[u8]) {
    let (headers, rest) = data.split_at(data.len() / 3);
    let sealed = [
        written::sealed(&[], data),
        written::sealed(headers, rest),
        written::sealed(&[], rest),
    ];
    for bytes in [data, &sealed.concat()] {
        for payload in [Payload::Document, Payload::Wrapped] {
            let whole = messages(payload, bytes, bytes.len());
            for size in [1, piece(bytes)] {
                assert_eq!(messages(payload, bytes, size), whole, "in pieces of {size}");
            }
        }
    }
}

/// Reads `data` as a message of the Model Context Protocol, and its result as that of every method.
///
/// # Panics
/// If a message does not come back as it went, or a result that was rewritten is not the same kind of value.
pub fn mcp_message(data: &[u8]) {
    use mcp::{
        List, Message, Method, Outcome,
        input::Inputs,
        modern,
        rewrite::{Naming, Page},
    };

    let Ok(message) = Message::parse(data) else {
        return;
    };
    let bytes = message.to_bytes();
    let again = Message::parse(&bytes).map(|again| again.to_bytes());
    assert_eq!(again.as_ref(), Ok(&bytes), "a second time");
    if let Message::Request(request) = &message {
        mcp_request(request);
    }
    let Message::Response(response) = &message else {
        return;
    };
    let Outcome::Result(result) = &response.outcome else {
        return;
    };
    let naming = Naming {
        backend: "backend",
        prefixed: true,
        max: mcp::name::MAX_NAME,
    };
    for name in ["tools/call", "prompts/get", "resources/read"] {
        let method = Method::find(name).expect("a method");
        let rewritten = naming.result(method, result);
        assert_eq!(
            rewritten.get().as_bytes().first(),
            result.get().as_bytes().first()
        );
    }
    if let Some(inputs) = Inputs::read(result) {
        let again = Inputs::read(&inputs.to_raw()).expect("a result that asks back");
        assert_eq!(again.to_raw().get(), inputs.to_raw().get());
    }
    let finished = modern::finished(result, &mcp::json::empty(), Some(modern::Hints::NONE));
    assert_eq!(finished.is_some(), mcp::json::Object::parse(result).is_some());
    for list in List::ALL {
        let items = Page::read(*list, result)
            .map(|page| page.items)
            .unwrap_or_default();
        for item in items {
            assert!(naming.item(*list, &item, &item.own).get().starts_with('{'));
        }
    }
}

/// Reads `data` as the answer of an authorization service.
///
/// # Panics
/// If the fields of a message do not end with the first that is malformed, or a message that can be read cannot be
/// read beside fields that nobody knows.
pub fn check_response(data: &[u8]) {
    use policy::{
        ext_auth::Answer,
        protobuf::{Fields, Message},
    };

    let broken = Fields::of(data).position(|field| field.is_err());
    assert!(broken.is_none_or(|at| at + 1 == Fields::of(data).count()));
    let answer = Answer::decode(data);
    assert!(broken.is_none() || answer.is_err(), "{data:?}");
    let mut unknown = Message::default();
    unknown.text(5000, "unknown");
    let longer = [data, &unknown.into_bytes()].concat();
    if answer.is_ok() {
        assert_eq!(Answer::decode(&longer), answer);
    }
}

/// Reads `data` as a message of an endpoint picker.
///
/// # Panics
/// If a message is read that is malformed, or one that can be read cannot be read beside fields that nobody knows.
pub fn process_response(data: &[u8]) {
    use policy::{
        ext_proc::{Told, destinations},
        protobuf::{Fields, Message},
    };

    let broken = Fields::of(data).any(|field| field.is_err());
    let told = Told::decode(&data.to_vec().into());
    assert!(!broken || told.is_err(), "{data:?}");
    let mut unknown = Message::default();
    unknown.text(5000, "unknown");
    let longer = [data, &unknown.into_bytes()].concat();
    if let Ok(told) = told {
        destinations(told.destination().unwrap_or_default());
        assert_eq!(Told::decode(&longer.into()), Ok(told));
    }
}

/// Reads what `request` says for itself, and tells a server.
///
/// # Panics
/// If what a server is told is not what a client without a session would have to say, or does not come off again.
fn mcp_request(request: &mcp::Request) {
    use mcp::{
        header::encode,
        json::Object,
        modern::{self, About, Envelope, Headers},
        subscription::Filter,
    };

    let Some(params) = request.object() else { return };
    if let Some(filter) = Filter::read(&params) {
        let raw = filter.to_raw();
        let again = Object::parse(&raw).and_then(|raw| Filter::read(&raw));
        assert_eq!(again, Some(filter));
    }
    let about = About {
        capabilities: "{}",
        info: "{}",
        level: None,
    };
    let told = modern::stamped(request.params.as_deref(), &about).expect("parameters are an object");
    let told = mcp::Request {
        params: Some(told),
        ..request.clone()
    };
    let params = told.object().expect("an object");
    let name = modern::name(&told.method, &params);
    let name = name.as_deref().map(encode);
    let headers = Headers {
        version: Some("2026-07-28"),
        method: Some(&told.method),
        name: name.as_deref(),
    };
    // What a client says for itself stays, however wrong it is, and blanks around a header mean nothing.
    let silent = request
        .object()
        .is_some_and(|params| params.get("_meta").is_none());
    if silent && told.method.trim() == told.method {
        let read = Envelope::read(&told, headers);
        assert!(read.is_ok(), "{read:?}");
    }
    let plain = told.params.as_deref().and_then(modern::unstamped);
    let plain = plain.expect("it was stamped");
    let plain = Object::parse(&plain).expect("an object");
    let meta = plain.object("_meta").unwrap_or_default();
    assert!(meta.get(modern::PROTOCOL_VERSION).is_none());
}

/// Takes `data` for what is inside each kind of token, as if it had been sealed here.
///
/// # Panics
/// If what opens does not come back as it went.
pub fn mcp_sealed(data: &[u8]) {
    use mcp::seal::Seal;

    let (seed, unique, session) = (SEED.as_bytes(), [1; 12], "session");
    let tokens = mcp_tokens();
    let sealed = |purpose, bound: &str| Seal::new(purpose, seed, None).seal(bound.as_bytes(), unique, data);
    let token = format!("g1.{}", sealed("session", ROUTE));
    if let Some(opened) = tokens.open(&token, ROUTE, 0) {
        let again = tokens.seal(&opened, unique);
        assert_eq!(tokens.open(&again, ROUTE, 0), Some(opened));
    }
    let token = format!("e1.{}", sealed("event", session));
    if let Some(place) = tokens.open_place(&token, session, 0) {
        let again = tokens.seal_place(&place, session, unique);
        assert_eq!(tokens.open_place(&again, session, 0), Some(place));
    }
    if let Some(state) = tokens.open_state(&sealed("state", ROUTE), ROUTE, 0) {
        let again = tokens.seal_state(&state, ROUTE, unique);
        assert_eq!(tokens.open_state(&again, ROUTE, 0), Some(state));
    }
}

const SEED: &str = "seed of the fuzzer";
const ROUTE: &str = "default/route";

fn mcp_tokens() -> mcp::session::Tokens {
    use mcp::session::{Config, Form, Tokens};

    let one = std::num::NonZeroU32::MIN;
    Tokens::new(&Config {
        seed: SEED.as_bytes().to_vec(),
        fallback: None,
        iterations: one,
        fallback_iterations: one,
        form: Form::V1,
        salt: [0; 16],
    })
}

/// Takes `text` for every kind of token, name and URI that a client may send back.
///
/// # Panics
/// If what was never issued opens something, or a URI does not come back as it went.
pub fn mcp_token(text: &str) {
    use mcp::{header, name, template};

    let tokens = mcp_tokens();
    assert!(tokens.open(text, ROUTE, 0).is_none());
    assert!(tokens.open_place(text, "session", 0).is_none());
    assert!(tokens.open_state(text, ROUTE, 0).is_none());
    assert!(
        tokens
            .open_cursor(text, (ROUTE, "tools/list", &[0; 16]))
            .is_none()
    );
    assert!(tokens.tickets.redeem("session", text).is_none());
    let carried = header::encode(text);
    assert_eq!(header::decode(&carried).as_deref(), Some(text));
    let _ = header::decode(text);
    let mapped = name::prefixed_uri("backend", text);
    let back = name::split_uri(&mapped);
    assert_eq!(
        back.as_ref().map(|(backend, uri)| (*backend, &**uri)),
        Some(("backend", text))
    );
    let mapped = name::prefixed("backend", text);
    assert_eq!(name::split(&mapped), Some(("backend", text)));
    assert!(name::shortened(text, name::MAX_NAME).len() <= text.len().max(name::MAX_NAME));
    // Whatever the template, it is decided.
    let _ = template::matches(text, &mapped);
}

/// Reads the lines of `text`, each the name of an event and its payload, as a stream of Amazon Bedrock.
///
/// # Panics
/// As [`stream`].
pub fn converse(text: &str) {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let (name, payload) = line.split_once(' ').unwrap_or((line, ""));
        let name = name.get(..name.floor_char_boundary(60)).unwrap_or_default();
        let header = written::Header::Text(name.to_owned());
        bytes.extend(written::message(&[(":event-type", header)], payload.as_bytes()));
    }
    stream(&Bedrock, &bytes);
}

/// Reads `data` as a shallow object and edits it.
///
/// # Panics
/// If anything changes that was not edited.
pub fn shallow(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let Ok(shallow) = Shallow::parse(body.clone()) else {
        return;
    };
    assert_eq!(shallow.with(&[]), body);
    let edited = shallow.with(&[
        ("model", Some("\"other\"".to_owned())),
        ("added member", Some("{\"a\":1}".to_owned())),
        ("temperature", None),
    ]);
    let edited = Shallow::parse(edited).expect("an edited object is an object");
    assert_eq!(edited.get("model"), Some("\"other\""));
    assert_eq!(edited.get("added member"), Some("{\"a\":1}"));
    assert_eq!(edited.get("temperature"), None);
    for kept in ["messages", "stream", "metadata", "tools", ""] {
        assert_eq!(edited.get(kept), shallow.get(kept), "{kept}");
    }
}

/// Reads `data` as a form, whole and in pieces, and replaces a field of it.
///
/// # Panics
/// If what is found, or what becomes of it, depends on how the bytes are cut; if anything but the field
/// changes.
pub fn multipart(data: &[u8]) {
    let whole = parts(data, data.len());
    for size in [1, piece(data)] {
        assert_eq!(parts(data, size), whole, "in pieces of {size}");
    }
    let Ok(found) = whole else {
        return;
    };
    let edited = edit(data, data.len(), "other");
    for size in [1, piece(data)] {
        assert_eq!(edit(data, size, "other"), edited, "edited in pieces of {size}");
    }
    let models: Vec<_> = found.iter().filter(|(name, _)| name == "model").collect();
    let [(_, Some(model))] = models.as_slice() else {
        return;
    };
    let Ok(model) = std::str::from_utf8(model) else {
        return;
    };
    assert_eq!(edit(data, data.len(), model), data, "the same model");
    let expected = found.iter().map(|(name, value)| match value {
        Some(_) if name == "model" => (name.clone(), Some(b"other".to_vec())),
        Some(_) | None => (name.clone(), value.clone()),
    });
    let expected: Vec<_> = expected.collect();
    assert_eq!(parts(&edited, edited.len()), Ok(expected));
}

/// Reads `data` as a request that was sent to `path` and says it to an upstream of each format.
///
/// # Panics
/// If an upstream would be sent what is not a JSON object.
pub fn request(path: &str, data: &[u8]) {
    let endpoint = Endpoint::find(path, "").expect("the path is in the table");
    let Ok(inbound) = Inbound::parse(endpoint, Bytes::copy_from_slice(data)) else {
        return;
    };
    for provider in PROVIDERS {
        let site = Site::default();
        if let Ok(call) = inbound.call(&target(*provider, &site), &HeaderMap::new()) {
            Shallow::parse(call.body).expect("an upstream is sent an object");
        }
    }
}

/// Reads `data` as a document that is no chat, and says it to every provider that serves it; then reads it as the
/// reply of one of them. Which document and which provider depends on the bytes: all with all takes too long.
///
/// # Panics
/// If an upstream would be sent what is not a JSON object, or what is overheard depends on how the bytes are
/// cut.
pub fn documents(data: &[u8]) {
    let chosen: usize = data.iter().map(|byte| usize::from(*byte)).sum();
    let is_document = |endpoint: &&Endpoint| matches!(endpoint.operation, Operation::Document(_));
    let documents: Vec<&Endpoint> = ENDPOINTS.iter().filter(is_document).collect();
    let path = documents[chosen % documents.len()].path;
    request(path, data);
    let (provider, model) = SERVING[chosen % SERVING.len()];
    if let Some(reply) = asked(path, provider, model) {
        let _ = reply.error(status(data), &HeaderMap::new(), &Bytes::copy_from_slice(data));
        let _ = reply.response(Bytes::copy_from_slice(data));
    }
    let path = STREAMING[chosen % STREAMING.len()];
    for how in [End::Clean, End::Cut] {
        let streamed =
            |size| asked(path, &COMPATIBLE, "m").map(|reply| told(&observe(reply, data, size, how)));
        let whole = streamed(data.len());
        for size in [1, piece(data)] {
            assert_eq!(streamed(size), whole, "in pieces of {size}");
        }
    }
}

/// Reads `text` as a file of resources, and resolves what it declares.
///
/// # Panics
/// If the same text means different things.
pub fn resources(text: &str) {
    let (faults, dump, report) = resolved(text);
    assert_eq!(resolved(text), (faults, dump, report), "a second time");
}

/// Reads `data` as the stream of an upstream behind `provider`, for a client of each format, and as a whole
/// reply and an error too.
///
/// # Panics
/// If what is overheard depends on how the bytes are cut, or anything is said after the end.
pub fn stream(provider: &'static dyn Provider, data: &[u8]) {
    for (path, body) in REQUESTS {
        for how in [End::Clean, End::Cut] {
            let whole = observe(reply(provider, path, body), data, data.len(), how);
            for size in [1, piece(data)] {
                let cut = observe(reply(provider, path, body), data, size, how);
                assert_eq!(told(&cut), told(&whole), "in pieces of {size}");
            }
        }
        let _ = reply(provider, path, body).response(Bytes::copy_from_slice(data));
        let _ =
            reply(provider, path, body).error(status(data), &HeaderMap::new(), &Bytes::copy_from_slice(data));
    }
}

const PROVIDERS: &[&'static dyn Provider] = &[
    &OpenAi,
    &Anthropic,
    &AiStudio,
    &Bedrock,
    &BedrockClaude,
    &VertexClaude,
    &Vertex,
    &COHERE,
    &COMPATIBLE,
    &LITELLM,
    &MISTRAL,
    &Only(Format::Responses),
];

/// Who serves documents that are no chat, each with a model that is served in a form of its own.
const SERVING: &[(&'static dyn Provider, &str)] = &[
    (&OpenAi, "m"),
    (&COMPATIBLE, "m"),
    (&COHERE, "m"),
    (&Anthropic, "m"),
    (&AiStudio, "m"),
    (&Vertex, "m"),
    (&Vertex, "gemini-embedding-2"),
    (&Bedrock, "amazon.titan-embed-text-v2:0"),
    (&Bedrock, "cohere.embed-v4:0"),
    (&BedrockClaude, "anthropic.m"),
    (&VertexClaude, "m"),
];

/// Where documents are answered with streams. What is overheard of one does not depend on who sends it.
const STREAMING: &[&str] = &["/v1/completions", "/v1/images/generations", "/v1/audio/speech"];

/// A server of one format, so that each is translated to where the real providers would relay.
#[derive(Debug)]
pub struct Only(pub Format);

impl Provider for Only {
    fn id(&self) -> &'static str {
        self.0.name()
    }

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn formats(&self, _operation: Operation, _model: &str) -> &'static [Format] {
        let one = Format::ALL.iter().position(|format| *format == self.0);
        one.and_then(|at| Format::ALL.get(at..=at)).unwrap_or_default()
    }

    fn path(&self, _ask: Ask, _target: &Target<'_>) -> String {
        "/".to_owned()
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }
}

/// What a client of each format asks for.
const REQUESTS: &[(&str, &str)] = &[
    (
        "/v1/chat/completions",
        r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
    ),
    (
        "/anthropic/v1/messages",
        r#"{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
    ),
    (
        "/v1/responses",
        r#"{"model":"m","stream":true,"input":"hi","tools":[{"type":"custom","name":"f"}]}"#,
    ),
    (
        "/v1beta/models/m:streamGenerateContent",
        r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
    ),
];

fn resolved(text: &str) -> (Vec<config::Fault>, String, String) {
    let surroundings = config::Surroundings {
        environment: &|name| name.starts_with('A').then(|| "value".to_owned()),
        reader: &|path| Err(format!("{path} does not exist")),
    };
    let mut resources = config::Resources::default();
    let faults = config::parse("fuzz.yaml", text, &surroundings, &mut resources);
    let (snapshot, report) = config::resolve(&resources, 0);
    (faults, snapshot.dump().to_string(), report.to_string())
}

fn target<'t>(provider: &'static dyn Provider, site: &'t Site) -> Target<'t> {
    Target {
        provider,
        site,
        model: "other",
        now: 1_700_000_000,
    }
}

fn reply(provider: &'static dyn Provider, path: &str, body: &'static str) -> Reply {
    let endpoint = Endpoint::find(path, "").expect("the path is in the table");
    let inbound =
        Inbound::parse(endpoint, Bytes::from_static(body.as_bytes())).expect("the request is valid");
    let site = Site::default();
    match inbound.call(&target(provider, &site), &HeaderMap::new()) {
        Ok(call) => call.reply,
        Err(error) => panic!("the request can be said to any upstream: {error}"),
    }
}

/// Returns how `provider` is read that was asked for the document at `path`; `None` if it does not serve it.
fn asked(path: &str, provider: &'static dyn Provider, model: &str) -> Option<Reply> {
    let body = r#"{"model":"m","input":"a","prompt":"a","max_tokens":1,"stream":true,"stream_format":"sse"}"#;
    let counted = r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#;
    let site = Site::default();
    let replies = [body, counted].into_iter().filter_map(|body| {
        let place = Endpoint::find(path, "")?;
        let inbound = Inbound::parse(place, Bytes::from_static(body.as_bytes())).ok()?;
        let target = Target {
            model,
            ..target(provider, &site)
        };
        inbound
            .call(&target, &HeaderMap::new())
            .ok()
            .map(|call| call.reply)
    });
    replies.into_iter().next()
}

fn observe(reply: Reply, data: &[u8], size: usize, how: End) -> Observed {
    let mut stream = reply.stream();
    for piece in data.chunks(size.max(1)) {
        stream.push(Bytes::copy_from_slice(piece));
    }
    stream.end(how);
    assert!(
        stream.push(Bytes::from_static(b"data: {}\n\n")).is_empty(),
        "bytes after the end"
    );
    assert!(stream.end(how).is_empty(), "a second end");
    stream.observed().clone()
}

/// Returns what must not depend on how the bytes are cut.
fn told(observed: &Observed) -> impl PartialEq + std::fmt::Debug + use<> {
    let Observed {
        model,
        stored,
        usage,
        seconds,
        said,
        finish,
        error,
        meaningful,
        complete,
        later,
        losses,
    } = observed.clone();
    // Who reads a stream and who says it both lose in order; how the two mix is up to what arrives together.
    let mut lost: Vec<String> = losses.iter().map(|loss| format!("{loss:?}")).collect();
    lost.sort_unstable();
    (
        model, stored, usage, seconds, said, finish, error, meaningful, complete, later, lost,
    )
}

/// Returns the boundary of all forms.
fn boundary() -> Boundary {
    let mut headers = HeaderMap::new();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("multipart/form-data; boundary=b"),
    );
    match Boundary::of(&headers) {
        Ok(Some(boundary)) => boundary,
        Ok(None) | Err(_) => panic!("the content type is that of a form"),
    }
}

/// The name of a part, and its content where it is a field that is read.
type Part = (String, Option<Vec<u8>>);

/// Returns the parts of a form.
fn parts(data: &[u8], size: usize) -> Result<Vec<Part>, Malformed> {
    let mut scanner = Scanner::new(&boundary(), &["model", "stream"]);
    let mut parts = Vec::new();
    for piece in data.chunks(size.max(1)) {
        let mut last = 0;
        scanner.push(piece, |event, read| {
            assert!(
                last <= read && read <= piece.len(),
                "events come one after another"
            );
            last = read;
            if let Event::End(head, value) = event {
                parts.push((head.name.clone(), value.map(<[u8]>::to_vec)));
            }
        })?;
    }
    scanner.end()?;
    Ok(parts)
}

fn edit(data: &[u8], size: usize, model: &str) -> Vec<u8> {
    let Some(mut editor) = Editor::new(&boundary(), "model", model) else {
        return data.to_vec();
    };
    let mut out = Vec::new();
    for piece in data.chunks(size.max(1)) {
        editor.push(Bytes::copy_from_slice(piece), |bytes| {
            out.extend_from_slice(&bytes)
        });
    }
    out
}

fn frames(data: &[u8], size: usize) -> Vec<(Option<String>, String)> {
    let mut frames = Vec::new();
    let mut sse = Sse::default();
    for piece in data.chunks(size.max(1)) {
        let mut last = 0;
        let pushed = sse.push(piece, |frame, read| {
            assert!(last < read && read <= piece.len(), "frames end one after another");
            last = read;
            frames.push((frame.event.map(str::to_owned), frame.data.to_owned()));
        });
        if pushed.is_err() {
            return frames;
        }
    }
    sse.finish(|frame| frames.push((frame.event.map(str::to_owned), frame.data.to_owned())));
    frames
}

/// Returns the events of an AWS event stream and whether it was sound to its end.
fn messages(payload: Payload, data: &[u8], size: usize) -> (Vec<(Option<String>, String)>, bool) {
    let mut frames = Vec::new();
    let mut decoder = EventStream::new(payload);
    for piece in data.chunks(size.max(1)) {
        let mut last = 0;
        let pushed = decoder.push(piece, |frame, read| {
            assert!(last < read && read <= piece.len(), "frames end one after another");
            last = read;
            frames.push((frame.event.map(str::to_owned), frame.data.to_owned()));
        });
        if pushed.is_err() {
            return (frames, false);
        }
    }
    let sound = decoder.is_between_messages();
    (frames, sound)
}

/// Returns the size of the pieces that `data` is cut into: its own length decides, so that any recorded
/// document can be a seed as it is.
fn piece(data: &[u8]) -> usize {
    2 + data.len() % 61
}

fn status(data: &[u8]) -> StatusCode {
    let code = 400 + u16::try_from(data.len() % 200).unwrap_or_default();
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY)
}

#[cfg(test)]
mod tests;
