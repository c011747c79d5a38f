//! Every law on its seeds, and on a few thousand documents made of them: what the fuzzer would try first.

use std::{fs, path::Path};

use super::{
    check_response, converse, documents, event_stream, mcp_message, mcp_sealed, mcp_token, multipart,
    process_response, request, resources, shallow, sse, stream,
};

/// Holds `law` against the seeds of `target`, cut off and with bytes changed.
fn check(target: &str, law: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let seeds: Vec<Vec<u8>> = fs::read_dir(&folder)
        .expect("every target has a folder of seeds")
        .map(|entry| fs::read(entry.expect("the folder can be listed").path()).expect("a seed can be read"))
        .collect();
    assert!(!seeds.is_empty(), "{target} has no seed");
    law(b"");
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for seed in &seeds {
        law(seed);
        for _ in 0..VARIANTS {
            law(&vary(seed, &mut random));
        }
    }
}

/// How many documents are made of each seed.
const VARIANTS: usize = 1_000;

/// Bytes that mean something to a parser.
const TELLING: &[u8] = b"{}[]\",:\\\n\r0-.e \x00\x80\xFFn";

fn vary(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => {
                bytes.remove(at);
            }
            2 => bytes.insert(at, TELLING[random.below(TELLING.len())]),
            3 => {
                let to = (at + random.below(40)).min(bytes.len());
                let piece = bytes[at..to].to_vec();
                let into = random.below(bytes.len());
                bytes.splice(into..into, piece);
            }
            _ => bytes[at] = TELLING[random.below(TELLING.len())],
        }
    }
    bytes
}

/// Numbers that only look random, so that a failure can be repeated (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("the limit is a usize")
    }
}

#[test]
fn server_sent_events() {
    check("sse", sse);
}

#[test]
fn documents_that_are_no_chat() {
    check("documents", documents);
}

#[test]
fn forms() {
    check("multipart", multipart);
}

#[test]
fn shallow_objects() {
    check("shallow_json", shallow);
}

#[test]
fn answers_of_authorization_services() {
    check("check_response", check_response);
}

#[test]
fn answers_of_endpoint_pickers() {
    check("process_response", process_response);
}

#[test]
fn mcp_messages() {
    check("mcp_message", mcp_message);
}

#[test]
fn mcp_tokens() {
    check("mcp_token", |bytes| mcp_token(&String::from_utf8_lossy(bytes)));
}

#[test]
fn mcp_sealed_tokens() {
    check("mcp_sealed", mcp_sealed);
}

#[test]
fn openai_requests() {
    check("openai_request", |data| request("/v1/chat/completions", data));
}

#[test]
fn messages_requests() {
    check("messages_request", |data| request("/anthropic/v1/messages", data));
}

#[test]
fn responses_requests() {
    check("responses_request", |data| request("/v1/responses", data));
}

#[test]
fn openai_streams() {
    check("openai_stream", |data| stream(&llm::provider::OpenAi, data));
}

#[test]
fn messages_streams() {
    check("messages_stream", |data| stream(&llm::provider::Anthropic, data));
}

#[test]
fn event_streams() {
    check("event_stream", event_stream);
}

#[test]
fn converse_streams() {
    check("converse_stream", |data| converse(&String::from_utf8_lossy(data)));
}

#[test]
fn responses_streams() {
    check("responses_stream", |data| {
        stream(&super::Only(llm::Format::Responses), data);
    });
}

#[test]
fn gemini_requests() {
    check("gemini_request", |data| {
        request("/v1beta/models/m:generateContent", data)
    });
}

#[test]
fn gemini_streams() {
    check("gemini_stream", |data| stream(&llm::provider::AiStudio, data));
}

#[test]
fn resource_documents() {
    check("resources", |data| resources(&String::from_utf8_lossy(data)));
}
