//! Every fault of an upstream, crossed with all formats, forms and set-ups.

#![expect(
    clippy::disallowed_methods,
    reason = "the cases of a fault run beside each other"
)]

use serde_json::{Value, json};
use testkit::{
    Provider, Upstream,
    client::{self, Answer},
    fixture, strict,
};

use crate::{
    fault::{FAULTS, Fault, Seen},
    setup::{KEY, Setup, good, request, upstream_model},
};

/// How many tests share the faults, so that they run beside each other.
const SHARES: usize = 6;

#[tokio::test]
async fn the_first_share_of_faults() {
    check(0).await;
}

#[tokio::test]
async fn the_second_share_of_faults() {
    check(1).await;
}

#[tokio::test]
async fn the_third_share_of_faults() {
    check(2).await;
}

#[tokio::test]
async fn the_fourth_share_of_faults() {
    check(3).await;
}

#[tokio::test]
async fn the_fifth_share_of_faults() {
    check(4).await;
}

#[tokio::test]
async fn the_last_share_of_faults() {
    check(5).await;
}

/// The documentation says what these tests find.
#[test]
fn the_documentation_is_the_matrix() {
    let documentation = include_str!("../../../../docs/faults.md");
    let mut table = "| what the upstream does | not streamed | streamed | with a fallback of either format, not streamed | \
                     with a fallback of either format, streamed |\n|---|---|---|---|---|\n"
        .to_owned();
    for fault in FAULTS {
        let cell = |stream: bool, fallback: bool| {
            let alone = if fault.can_be(stream) {
                fault.seen.words()
            } else {
                "–".to_owned()
            };
            if fallback && fault.can_be(stream) && fault.seen.moves_on() {
                "the answer of the fallback".to_owned()
            } else {
                alone
            }
        };
        let cells = [(false, false), (true, false), (false, true), (true, true)];
        let cells = cells.map(|(stream, fallback)| cell(stream, fallback)).join(" | ");
        table.push_str(&format!("| {} | {cells} |\n", fault.name));
    }
    assert!(
        documentation.contains(&table),
        "docs/faults.md is to say:\n{table}"
    );
}

/// Runs all cases of each fault at once, so that limits that must pass do so together.
async fn check(share: usize) {
    for fault in FAULTS.iter().skip(share).step_by(SHARES) {
        let mut running = tokio::task::JoinSet::new();
        for case in cases().filter(|case| fault.can_be(case.stream)) {
            running.spawn(case.run(fault));
        }
        while let Some(done) = running.join_next().await {
            if let Err(failed) = done {
                std::panic::resume_unwind(failed.into_panic());
            }
        }
    }
}

/// One way to cross formats, forms and set-ups.
#[derive(Clone, Copy, Debug)]
struct Case {
    client: Provider,
    upstream: Provider,
    stream: bool,
    fallback: Option<Provider>,
}

fn cases() -> impl Iterator<Item = Case> {
    let formats = [Provider::OpenAi, Provider::Messages];
    (0..24_usize).map(move |number| Case {
        client: formats[number & 1],
        upstream: formats[number >> 1 & 1],
        stream: number & 4 != 0,
        fallback: [None, Some(formats[0]), Some(formats[1])][number / 8],
    })
}

impl Case {
    async fn run(self, fault: &'static Fault) {
        let other = self.fallback.unwrap_or(self.upstream);
        let fallback = Upstream::start(good(other, self.stream)).await;
        let refusing = Upstream::refusing();
        let upstream = match (fault.reply)(self.upstream, self.stream) {
            Some(reply) => Some(Upstream::start(reply).await),
            None => None,
        };
        let address = upstream.as_ref().map_or(refusing.address, Upstream::address);
        let mut backends = vec![(self.upstream, address)];
        if self.fallback.is_some() {
            backends.push((other, fallback.address()));
        }
        let setup = Setup::start(fault.limits, &backends).await;
        let (path, body) = request(self.client, self.stream);
        let headers = [("authorization", "Bearer sk-client"), ("x-api-key", "sk-client")];
        let answer = client::post(setup.address, path, &headers, &body).await;

        let seen = fault.seen;
        let moved_on = self.fallback.is_some() && seen.moves_on();
        if moved_on || seen == Seen::Served {
            self.check_served(&answer);
        } else {
            self.check_seen(&answer, seen);
        }
        if let Some(upstream) = &upstream {
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
            Seen::Served => 200,
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
            Provider::OpenAi => assert!(document.pointer("/error/param").is_some(), "{self:?}: {document}"),
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
        if moved_on || seen == Seen::Served {
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

/// Returns the data of all events that are JSON.
fn data(answer: &Answer) -> Vec<Value> {
    answer
        .frames()
        .iter()
        .filter_map(|frame| serde_json::from_str(frame.split_once("data: ")?.1).ok())
        .collect()
}
