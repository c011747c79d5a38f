//! What is said: the prompts that the load generator sends and the replies that the mock upstream gives, in every
//! format, and the check that a reply said what it should.
//!
//! All formats tell the same story (the same words, the same token counts), so one check serves a reply that was
//! relayed and one that was translated.

use bytes::Bytes;
use serde_json::json;
use testkit::event_stream::event;

/// Content chunks of a streamed reply.
pub(crate) const CHUNKS: usize = 50;

/// Where clients of the OpenAI form ask.
pub(crate) const CHAT: &str = "/v1/chat/completions";

const INPUT_TOKENS: u64 = 12;
const TOTAL_TOKENS: u64 = INPUT_TOKENS + CHUNKS as u64;
const CREATED: u64 = 1_760_000_000;

/// Returns a chat completions request of `size` bytes, or of the least that one takes.
pub(crate) fn prompt(model: &str, stream: bool, size: usize) -> Bytes {
    let empty = render(model, stream, "").len();
    let mut text = String::with_capacity(size);
    let mut len = empty;
    // Prompts carry line breaks and quotes: a translator has to take the escapes off and put them on again.
    for piece in [
        "Lorem ipsum dolor sit amet, ",
        "\"consectetur\" adipiscing elit\n",
    ]
    .into_iter()
    .cycle()
    {
        let escaped = piece.len() + piece.matches(['"', '\n']).count();
        if len + escaped > size {
            break;
        }
        text.push_str(piece);
        len += escaped;
    }
    text.extend(std::iter::repeat_n('.', size.saturating_sub(len)));
    render(model, stream, &text)
}

fn render(model: &str, stream: bool, text: &str) -> Bytes {
    // Written by hand, because the order of the keys is part of the script: `stream` stands last.
    let text = json!(text);
    Bytes::from(format!(
        r#"{{"model":"{model}","messages":[{{"role":"system","content":"Answer in one sentence."}},{{"role":"user","content":{text}}}],"temperature":0.2,"max_tokens":256,"stream":{stream}}}"#
    ))
}

/// Returns the plain reply of a chat completions upstream.
pub(crate) fn chat_reply() -> String {
    json!({
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": CREATED,
        "model": "bench",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text(), "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": INPUT_TOKENS, "completion_tokens": CHUNKS, "total_tokens": TOTAL_TOKENS},
        "system_fingerprint": "fp_bench",
    })
    .to_string()
}

/// Returns the events of a chat completions upstream; with `usage`, as `stream_options.include_usage` asks for it.
pub(crate) fn chat_stream(usage: bool) -> Vec<String> {
    let chunk = |choices: serde_json::Value| {
        let mut chunk = json!({
            "id": "chatcmpl-bench",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": "bench",
            "system_fingerprint": "fp_bench",
            "choices": choices,
        });
        if usage {
            chunk["usage"] = serde_json::Value::Null;
        }
        chunk
    };
    let content = |word: String| {
        chunk(json!([{"index": 0, "delta": {"content": word}, "logprobs": null, "finish_reason": null}]))
    };
    let mut chunks = vec![chunk(
        json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null}]),
    )];
    chunks.extend((0..CHUNKS).map(|index| content(word(index))));
    chunks.push(chunk(
        json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}]),
    ));
    if usage {
        let mut last = chunk(json!([]));
        last["usage"] =
            json!({"prompt_tokens": INPUT_TOKENS, "completion_tokens": CHUNKS, "total_tokens": TOTAL_TOKENS});
        chunks.push(last);
    }
    let mut events: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// Returns the plain reply of a messages upstream.
pub(crate) fn messages_reply() -> String {
    json!({
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": "bench",
        "content": [{"type": "text", "text": text()}],
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "usage": messages_usage(CHUNKS),
    })
    .to_string()
}

/// Returns the events of a messages upstream.
pub(crate) fn messages_stream() -> Vec<String> {
    let mut events = vec![
        json!({
            "type": "message_start",
            "message": {
                "id": "msg_bench", "type": "message", "role": "assistant", "model": "bench", "content": [],
                "stop_reason": null, "stop_sequence": null, "usage": messages_usage(1),
            },
        }),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    events.extend((0..CHUNKS).map(|index| {
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word(index)}})
    }));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": CHUNKS},
        }),
        json!({"type": "message_stop"}),
    ]);
    events
        .iter()
        .map(|event| {
            format!(
                "event: {}\ndata: {event}\n\n",
                event["type"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

/// Returns the messages of a Converse upstream, in the binary framing of AWS.
pub(crate) fn converse_stream() -> Vec<Vec<u8>> {
    let mut messages = vec![event("messageStart", &json!({"role": "assistant"}))];
    messages.extend((0..CHUNKS).map(|index| {
        let payload = json!({"contentBlockIndex": 0, "delta": {"text": word(index)}, "p": "abcdefgh"});
        event("contentBlockDelta", &payload)
    }));
    messages.extend([
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        event("messageStop", &json!({"stopReason": "end_turn"})),
        event(
            "metadata",
            &json!({
                "usage": {"inputTokens": INPUT_TOKENS, "outputTokens": CHUNKS, "totalTokens": TOTAL_TOKENS},
                "metrics": {"latencyMs": 1},
            }),
        ),
    ]);
    messages
}

/// Returns the events of a Gemini upstream, each with the token counts so far.
pub(crate) fn gemini_stream() -> Vec<String> {
    let chunk = |index: usize| {
        let mut candidate =
            json!({"content": {"parts": [{"text": word(index)}], "role": "model"}, "index": 0});
        if index + 1 == CHUNKS {
            candidate["finishReason"] = json!("STOP");
        }
        let said = index + 1;
        let usage = json!({
            "promptTokenCount": INPUT_TOKENS, "candidatesTokenCount": said,
            "totalTokenCount": INPUT_TOKENS + said as u64,
        });
        json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "bench", "responseId": "bench"})
    };
    (0..CHUNKS)
        .map(|index| format!("data: {}\r\n\r\n", chunk(index)))
        .collect()
}

fn messages_usage(output: usize) -> serde_json::Value {
    json!({
        "input_tokens": INPUT_TOKENS,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
    })
}

fn word(index: usize) -> String {
    format!(" w{index:02}")
}

fn text() -> String {
    (0..CHUNKS).map(word).collect()
}

/// Returns what is wrong with a chat completions reply to [`prompt`].
///
/// It looks for the words instead of parsing: the load generator shares its processors with what it measures.
pub(crate) fn fault(reply: &[u8], stream: bool) -> Option<String> {
    let Ok(reply) = std::str::from_utf8(reply) else {
        return Some("reply is not UTF-8".to_owned());
    };
    let whole = if stream {
        reply.trim_end().ends_with("data: [DONE]")
    } else {
        reply.ends_with('}') && reply.contains(&format!(r#""total_tokens":{TOTAL_TOKENS}"#))
    };
    if !whole {
        return Some(format!("reply is not whole: {}", excerpt(reply)));
    }
    let mut pieces = reply.split(r#""content":""#);
    pieces.next();
    let mut rest = EXPECTED.as_str();
    for piece in pieces {
        let said = piece.split('"').next().unwrap_or_default();
        match rest.strip_prefix(said) {
            Some(after) => rest = after,
            None => return Some(format!("reply says {said:?} where {rest:?} was expected")),
        }
    }
    (!rest.is_empty()).then(|| format!("reply lacks {rest:?}: {}", excerpt(reply)))
}

fn excerpt(reply: &str) -> String {
    let (head, tail): (String, String) = (reply.chars().take(200).collect(), {
        let mut tail: Vec<char> = reply.chars().rev().take(100).collect();
        tail.reverse();
        tail.into_iter().collect()
    });
    format!("{head:?} … {tail:?}")
}

static EXPECTED: std::sync::LazyLock<String> = std::sync::LazyLock::new(text);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_the_size_asked_for() {
        for size in [1 << 10, 100 << 10, 1 << 20] {
            let prompt = prompt("bench", true, size);
            assert_eq!(prompt.len(), size);
            let parsed: serde_json::Value = serde_json::from_slice(&prompt).expect("prompts are JSON");
            assert_eq!(parsed["stream"], true);
        }
    }

    #[test]
    fn replies_of_the_mock_have_no_fault() {
        let check = |reply: &str, stream| assert_eq!(fault(reply.as_bytes(), stream), None);
        check(&chat_reply(), false);
        check(&chat_stream(false).concat(), true);
        check(&chat_stream(true).concat(), true);
    }

    #[test]
    fn faults_are_seen() {
        let check = |reply: String, stream, wanted: &str| {
            let fault = fault(reply.as_bytes(), stream).unwrap_or_default();
            assert!(fault.contains(wanted), "{fault:?} does not contain {wanted:?}");
        };
        check(chat_reply().replace("w07", "w08"), false, "reply says");
        check(chat_reply().replace("62", "61"), false, "not whole");
        let stream = chat_stream(false);
        check(stream[..stream.len() - 1].concat(), true, "not whole");
        check(
            [&stream[..20], &stream[21..]].concat().concat(),
            true,
            "reply says",
        );
        check(
            [&stream[..50], &stream[52..]].concat().concat(),
            true,
            "reply lacks",
        );
    }
}
