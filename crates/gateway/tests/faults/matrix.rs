//! Every fault of an upstream, crossed with all formats, forms and set-ups.

#![expect(
    clippy::disallowed_methods,
    reason = "the cases of a fault run beside each other"
)]

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::{
    Provider, Reply, Upstream,
    client::{self, Answer},
    fixture, strict,
};

use crate::setup::{KEY, Limits, Setup, frames, good, request, response, upstream_model};

/// What a client sees of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// An error with this status.
    Refused(u16),
    /// An error with this status for requests that are not tried elsewhere either.
    Final(u16),
    /// An error whose status the provider's own word stands for.
    RefusedInBand { openai: u16, messages: u16 },
    /// An error with status 429 and this `retry-after`, if any.
    Limited(Option<&'static str>),
    /// A stream that says its first word and ends with an error event.
    Broken,
}

#[tokio::test]
async fn reset_before_the_head() {
    check(
        Limits::Patient,
        |_, _| Some(Reply::new().reset()),
        Seen::Refused(502),
    )
    .await;
}

#[tokio::test]
async fn close_before_the_head() {
    check(
        Limits::Patient,
        |_, _| Some(Reply::new().close()),
        Seen::Refused(502),
    )
    .await;
}

#[tokio::test]
async fn reset_within_the_head() {
    let reply = |_, _| Some(Reply::new().raw("HTTP/1.1 200 OK\r\ncontent-ty").reset());
    check(Limits::Patient, reply, Seen::Refused(502)).await;
}

#[tokio::test]
async fn reset_after_the_head() {
    check(
        Limits::Patient,
        |_, stream| Some(head(stream).reset()),
        Seen::Refused(502),
    )
    .await;
}

#[tokio::test]
async fn a_document_that_is_cut() {
    let reply = |provider, stream: bool| {
        let body = response(provider).to_string();
        let (first, _) = body.split_at(body.len() / 2);
        (!stream).then(|| head(false).raw(first.to_owned()).close())
    };
    check(Limits::Patient, reply, Seen::Refused(502)).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_before_its_first_word() {
    let reply = |provider, stream: bool| stream.then(|| head(true).frames(preamble(provider)).close());
    check(Limits::Patient, reply, Seen::Refused(502)).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_after_its_first_word() {
    let reply = |provider, stream: bool| stream.then(|| begun(provider).close());
    check(Limits::Patient, reply, Seen::Broken).await;
}

#[tokio::test]
async fn a_stream_that_is_reset_after_its_first_word() {
    let reply = |provider, stream: bool| stream.then(|| begun(provider).reset());
    check(Limits::Patient, reply, Seen::Broken).await;
}

#[tokio::test]
async fn a_stream_that_ends_in_order_but_too_early() {
    let reply = |provider, stream: bool| stream.then(|| begun(provider).end());
    check(Limits::Patient, reply, Seen::Broken).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_within_an_event() {
    let reply =
        |provider, stream: bool| stream.then(|| begun(provider).frame("data: {\"id\":\"chat").close());
    check(Limits::Patient, reply, Seen::Broken).await;
}

#[tokio::test]
async fn a_stall_before_the_head() {
    check(
        Limits::Attempt,
        |_, _| Some(Reply::new().stall()),
        Seen::Refused(504),
    )
    .await;
}

#[tokio::test]
async fn a_stall_after_the_head() {
    check(
        Limits::Attempt,
        |_, stream| Some(head(stream).stall()),
        Seen::Refused(504),
    )
    .await;
}

#[tokio::test]
async fn a_stall_before_the_first_word() {
    let reply = |provider, stream: bool| stream.then(|| head(true).frames(preamble(provider)).stall());
    check(Limits::Attempt, reply, Seen::Refused(504)).await;
}

#[tokio::test]
async fn a_stall_after_the_first_word() {
    let reply = |provider, stream: bool| stream.then(|| begun(provider).stall());
    check(Limits::Idle, reply, Seen::Broken).await;
}

#[tokio::test]
async fn an_error_event_first() {
    let reply = |provider, stream: bool| stream.then(|| head(true).frame(error_event(provider)).end());
    let seen = Seen::RefusedInBand {
        openai: 500,
        messages: 529,
    };
    check(Limits::Patient, reply, seen).await;
}

#[tokio::test]
async fn an_error_event_after_the_first_word() {
    let reply = |provider, stream: bool| stream.then(|| begun(provider).frame(error_event(provider)).end());
    check(Limits::Patient, reply, Seen::Broken).await;
}

#[tokio::test]
async fn too_many_requests() {
    let reply = |provider, _| Some(failure(provider, 429, &[]));
    check(Limits::Patient, reply, Seen::Limited(None)).await;
    let reply = |provider, _| Some(failure(provider, 429, &[("retry-after", "7")]));
    check(Limits::Patient, reply, Seen::Limited(Some("7"))).await;
}

#[tokio::test]
async fn failures_of_the_upstream() {
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 408, &[])),
        Seen::Refused(408),
    )
    .await;
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 500, &[])),
        Seen::Refused(500),
    )
    .await;
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 502, &[])),
        Seen::Refused(502),
    )
    .await;
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 503, &[])),
        Seen::Refused(503),
    )
    .await;
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 504, &[])),
        Seen::Refused(504),
    )
    .await;
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 529, &[])),
        Seen::Refused(529),
    )
    .await;
}

#[tokio::test]
async fn faults_of_the_client_are_the_answer() {
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 400, &[])),
        Seen::Final(400),
    )
    .await;
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 401, &[])),
        Seen::Final(401),
    )
    .await;
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 404, &[])),
        Seen::Final(404),
    )
    .await;
    check(
        Limits::Patient,
        |provider, _| Some(failure(provider, 413, &[])),
        Seen::Final(413),
    )
    .await;
}

#[tokio::test]
async fn a_failure_in_html() {
    let reply = |_, _| {
        Some(Reply::whole(
            503,
            &[("content-type", "text/html")],
            "<h1>down</h1>",
        ))
    };
    check(Limits::Patient, reply, Seen::Refused(503)).await;
}

#[tokio::test]
async fn invalid_json() {
    let reply = |_, _| {
        Some(Reply::whole(
            200,
            &[("content-type", "application/json")],
            "{\"id\": nope",
        ))
    };
    check(Limits::Patient, reply, Seen::Refused(502)).await;
}

#[tokio::test]
async fn html_with_status_200() {
    let reply = |_, _| {
        Some(Reply::whole(
            200,
            &[("content-type", "text/html")],
            "<h1>welcome</h1>",
        ))
    };
    check(Limits::Patient, reply, Seen::Refused(502)).await;
}

#[tokio::test]
async fn nothing_with_status_200() {
    let reply = |_, stream: bool| {
        Some(if stream {
            head(true).end()
        } else {
            Reply::whole(200, &[("content-type", "application/json")], "")
        })
    };
    check(Limits::Patient, reply, Seen::Refused(502)).await;
}

#[tokio::test]
async fn a_redirection() {
    let reply = |_, _| Some(Reply::whole(302, &[("location", "http://elsewhere/")], ""));
    check(Limits::Patient, reply, Seen::Refused(502)).await;
}

#[tokio::test]
async fn connections_are_refused() {
    for case in cases() {
        let refusing = Upstream::refusing();
        case.run(Limits::Patient, refusing.address, None, Seen::Refused(503))
            .await;
    }
}

/// One way to cross formats, forms and set-ups.
#[derive(Clone, Copy, Debug)]
struct Case {
    client: Provider,
    upstream: Provider,
    stream: bool,
    with_fallback: bool,
}

fn cases() -> impl Iterator<Item = Case> {
    let formats = [Provider::OpenAi, Provider::Messages];
    (0..16_usize).map(move |bits| Case {
        client: formats[bits & 1],
        upstream: formats[bits >> 1 & 1],
        stream: bits & 4 != 0,
        with_fallback: bits & 8 != 0,
    })
}

/// Runs all cases of a fault at once, so that limits that must pass do so together.
///
/// `reply` is what the upstream does; `None` where the fault cannot be, as that of a stream in a unary reply.
/// `seen` is what comes of it where there is no other backend.
async fn check(limits: Limits, reply: fn(Provider, bool) -> Option<Reply>, seen: Seen) {
    let mut running = tokio::task::JoinSet::new();
    for case in cases() {
        let Some(reply) = reply(case.upstream, case.stream) else {
            continue;
        };
        running.spawn(async move {
            let upstream = Upstream::start(reply).await;
            case.run(limits, upstream.address(), Some(&upstream), seen).await;
        });
    }
    while let Some(done) = running.join_next().await {
        if let Err(failed) = done {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
}

impl Case {
    async fn run(self, limits: Limits, address: SocketAddr, upstream: Option<&Upstream>, seen: Seen) {
        let other = match self.upstream {
            Provider::OpenAi => Provider::Messages,
            Provider::Messages => Provider::OpenAi,
        };
        let fallback = Upstream::start(good(other, self.stream)).await;
        let mut backends = vec![(self.upstream, address)];
        if self.with_fallback {
            backends.push((other, fallback.address()));
        }
        let setup = Setup::start(limits, &backends).await;
        let (path, body) = request(self.client, self.stream);
        let headers = [("authorization", "Bearer sk-client"), ("x-api-key", "sk-client")];
        let answer = client::post(setup.address, path, &headers, &body).await;

        let moved_on = self.with_fallback && !matches!(seen, Seen::Broken | Seen::Final(_));
        if moved_on {
            self.check_served(&answer);
        } else {
            self.check_seen(&answer, seen);
        }
        if let Some(upstream) = upstream {
            self.check_asked(upstream, self.upstream, 1);
        }
        self.check_asked(&fallback, other, usize::from(moved_on));
        setup.recorded(1.0).await;
        self.check_tokens(&setup, moved_on, seen).await;
    }

    fn check_served(self, answer: &Answer) {
        assert_eq!(answer.status, 200, "{self:?}: {}", answer.text());
        assert!(answer.whole, "{self:?}");
        if !self.stream {
            let text = match self.client {
                Provider::OpenAi => answer.json().pointer("/choices/0/message/content").cloned(),
                Provider::Messages => answer.json().pointer("/content/0/text").cloned(),
            };
            assert_eq!(text, Some(json!(fixture::TEXT)), "{self:?}: {}", answer.text());
            return;
        }
        assert_eq!(self.said(answer), fixture::TEXT, "{self:?}: {}", answer.text());
        assert_eq!(self.ends(answer), (1, 0), "{self:?}: {}", answer.text());
    }

    fn check_seen(self, answer: &Answer, seen: Seen) {
        let status = match seen {
            Seen::Refused(status) | Seen::Final(status) => status,
            Seen::RefusedInBand { openai, messages } => match self.upstream {
                Provider::OpenAi => openai,
                Provider::Messages => messages,
            },
            Seen::Limited(retry_after) => {
                assert_eq!(
                    answer.header("retry-after"),
                    retry_after.unwrap_or_default(),
                    "{self:?}"
                );
                429
            }
            Seen::Broken => {
                assert_eq!(answer.status, 200, "{self:?}: {}", answer.text());
                assert!(answer.whole, "{self:?}: {}", answer.text());
                assert!(
                    fixture::TEXT.starts_with(&self.said(answer)),
                    "{self:?}: {}",
                    answer.text()
                );
                assert!(!self.said(answer).is_empty(), "{self:?}: {}", answer.text());
                assert_eq!(self.ends(answer), (0, 1), "{self:?}: {}", answer.text());
                return;
            }
        };
        assert_eq!(answer.status, status, "{self:?}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/json", "{self:?}");
        assert!(answer.whole, "{self:?}");
        self.check_error(&answer.json());
        assert!(!answer.text().contains(KEY), "{self:?}: {}", answer.text());
    }

    /// Checks that an error is said in the client's dialect.
    fn check_error(self, document: &Value) {
        let word = |pointer: &str| {
            document
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        assert!(!word("/error/message").is_empty(), "{self:?}: {document}");
        assert!(!word("/error/type").is_empty(), "{self:?}: {document}");
        match self.client {
            Provider::OpenAi => assert!(document.get("type").is_none(), "{self:?}: {document}"),
            Provider::Messages => assert_eq!(word("/type"), "error", "{self:?}: {document}"),
        }
    }

    /// Returns the text that a stream carried.
    fn said(self, answer: &Answer) -> String {
        let pointer = match self.client {
            Provider::OpenAi => "/choices/0/delta/content",
            Provider::Messages => "/delta/text",
        };
        data(answer)
            .iter()
            .filter_map(|data| data.pointer(pointer)?.as_str().map(str::to_owned))
            .collect()
    }

    /// Returns how often a stream ended well and how often with an error; what ends it must come last.
    fn ends(self, answer: &Answer) -> (usize, usize) {
        let frames = answer.frames();
        let is_end = |frame: &String| match self.client {
            Provider::OpenAi => frame == "data: [DONE]",
            Provider::Messages => frame.starts_with("event: message_stop"),
        };
        let is_error = |frame: &String| {
            let data = frame.split_once("data: ").map_or("", |(_, data)| data);
            let data: Value = serde_json::from_str(data).unwrap_or_default();
            data.get("error").is_some()
        };
        let last = frames.last().expect("a stream has events");
        assert!(is_end(last) || is_error(last), "{self:?}: {}", answer.text());
        if is_error(last) {
            assert_eq!(
                last.starts_with("event: error"),
                self.client == Provider::Messages,
                "{self:?}: {last}"
            );
            let error = data(answer).pop().expect("the last event has data");
            self.check_error(&error);
        }
        let count = |of: &dyn Fn(&String) -> bool| frames.iter().filter(|frame| of(frame)).count();
        (count(&is_end), count(&is_error))
    }

    /// Checks what an upstream was asked, as strictly as the provider would.
    fn check_asked(self, upstream: &Upstream, provider: Provider, times: usize) {
        let requests = upstream.requests();
        assert_eq!(requests.len(), times, "{self:?}: {provider:?}");
        for request in requests {
            let body = match provider {
                Provider::OpenAi => strict::openai::check(&request, KEY),
                Provider::Messages => strict::messages::check(&request, KEY),
            };
            let body = body.unwrap_or_else(|refusal| {
                panic!(
                    "{self:?}: {refusal:?}: {}",
                    String::from_utf8_lossy(&request.body)
                )
            });
            assert_eq!(body["model"], upstream_model(provider), "{self:?}");
            assert_eq!(
                body.get("stream").unwrap_or(&json!(false)),
                &json!(self.stream),
                "{self:?}"
            );
        }
    }

    /// Checks that what is known of the tokens was recorded once, and nothing else.
    async fn check_tokens(self, setup: &Setup, moved_on: bool, seen: Seen) {
        let (input, output) = fixture::USAGE;
        let recorded = (setup.tokens("input").await, setup.tokens("output").await);
        let once = |tokens: u64| (1.0, tokens as f64);
        if moved_on {
            assert_eq!(recorded, (once(input), once(output)), "{self:?}");
        } else if seen != Seen::Broken {
            assert_eq!(recorded, ((0.0, 0.0), (0.0, 0.0)), "{self:?}");
        } else if self.upstream == Provider::Messages {
            // Only this format tells the tokens of the prompt before the first word.
            assert_eq!(recorded.0, once(input), "{self:?}");
            assert!(recorded.1.0 <= 1.0, "{self:?}: {recorded:?}");
        } else {
            assert_eq!(recorded, ((0.0, 0.0), (0.0, 0.0)), "{self:?}");
        }
    }
}

fn head(stream: bool) -> Reply {
    if stream {
        Reply::stream()
    } else {
        Reply::new().head(
            200,
            &[("content-type", "application/json"), ("content-length", "1000")],
        )
    }
}

/// The events before the first word.
fn preamble(provider: Provider) -> Vec<String> {
    let frames = frames(provider);
    let silent = match provider {
        Provider::OpenAi => 1,
        Provider::Messages => 3,
    };
    frames.into_iter().take(silent).collect()
}

/// A stream that has said its first word.
fn begun(provider: Provider) -> Reply {
    let said = preamble(provider).len() + 1;
    Reply::stream().frames(frames(provider).into_iter().take(said))
}

fn error_document(provider: Provider) -> Value {
    match provider {
        Provider::OpenAi => fixture::openai::error("server_error", "server_error", "It broke."),
        Provider::Messages => fixture::messages::error("overloaded_error", "It broke."),
    }
}

fn error_event(provider: Provider) -> String {
    let document = error_document(provider);
    match provider {
        Provider::OpenAi => fixture::openai::frame(&document),
        Provider::Messages => fixture::messages::frame("error", &document),
    }
}

fn failure(provider: Provider, status: u16, headers: &[(&str, &str)]) -> Reply {
    let headers = [headers, &[("content-type", "application/json")]].concat();
    Reply::whole(status, &headers, &error_document(provider).to_string())
}

/// Returns the data of all events that are JSON.
fn data(answer: &Answer) -> Vec<Value> {
    answer
        .frames()
        .iter()
        .filter_map(|frame| serde_json::from_str(frame.split_once("data: ")?.1).ok())
        .collect()
}
