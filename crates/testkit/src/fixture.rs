//! Small documents in both formats, requests and replies, for tests that are not about their content.
//!
//! Every reply of a pair says the same: [`TEXT`] and [`USAGE`].

use serde_json::{Value, json};

/// What the canned replies say, in two pieces when streamed.
pub const TEXT: &str = "Hello there";

/// Input and output tokens that the canned replies report.
pub const USAGE: (u64, u64) = (11, 7);

/// The content of the only redacted thinking block that the strict upstream takes back.
pub const REDACTED: &str = "cmVkYWN0ZWQtYnktdGVzdGtpdA==";

/// A picture: one transparent pixel, PNG, base64.
pub const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

/// Returns the signature that the Messages upstream gives to a thinking block and demands back with it.
pub fn seal(thinking: &str) -> String {
    let folded = thinking.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("c2VhbA+{folded:016x}/==")
}

/// Chat completions.
pub mod openai {
    use super::{TEXT, USAGE, Value, json};

    /// Where clients send requests.
    pub const PATH: &str = "/v1/chat/completions";

    /// Returns a request that asks `model` for a greeting.
    pub fn request(model: &str, stream: bool) -> Value {
        json!({
            "model": model,
            "max_completion_tokens": 64,
            "stream": stream,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Greet me."},
            ],
        })
    }

    /// Returns the greeting.
    pub fn response(model: &str) -> Value {
        json!({
            "id": "chatcmpl-testkit",
            "object": "chat.completion",
            "created": 1_750_000_000,
            "model": model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": null},
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": usage(),
        })
    }

    /// Returns the greeting as events; the count of tokens comes last, as it does when it is asked for.
    pub fn frames(model: &str) -> Vec<String> {
        let (first, second) = TEXT.split_at(5);
        let mut frames = vec![
            delta(model, json!({"role": "assistant", "content": ""}), Value::Null),
            delta(model, json!({"content": first}), Value::Null),
            delta(model, json!({"content": second}), Value::Null),
            delta(model, json!({}), json!("stop")),
        ];
        let mut last = chunk(model, json!([]));
        if let Some(usage_member) = last.get_mut("usage") {
            *usage_member = usage();
        }
        frames.push(frame(&last));
        frames.push("data: [DONE]\n\n".to_owned());
        frames
    }

    /// Returns one event that adds `delta` to the only choice.
    pub fn delta(model: &str, delta: Value, finish_reason: Value) -> String {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        frame(&chunk(model, json!([choice])))
    }

    /// Returns one event.
    pub fn frame(data: &Value) -> String {
        format!("data: {data}\n\n")
    }

    /// Returns an error document.
    pub fn error(kind: &str, code: &str, message: &str) -> Value {
        json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
    }

    /// Returns a chunk with `choices` and no count of tokens.
    pub fn chunk(model: &str, choices: Value) -> Value {
        json!({
            "id": "chatcmpl-testkit",
            "object": "chat.completion.chunk",
            "created": 1_750_000_000,
            "model": model,
            "choices": choices,
            "usage": null,
        })
    }

    fn usage() -> Value {
        let (input, output) = USAGE;
        json!({
            "prompt_tokens": input,
            "completion_tokens": output,
            "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }
}

/// Anthropic's Messages.
pub mod messages {
    use super::{TEXT, USAGE, Value, json};

    /// Where clients of the gateway send requests.
    pub const PATH: &str = "/anthropic/v1/messages";

    /// Returns a request that asks `model` for a greeting.
    pub fn request(model: &str, stream: bool) -> Value {
        json!({
            "model": model,
            "max_tokens": 64,
            "stream": stream,
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "Greet me."}],
        })
    }

    /// Returns the greeting.
    pub fn response(model: &str) -> Value {
        let (input, output) = USAGE;
        json!({
            "id": "msg_testkit",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": TEXT}],
            "stop_reason": "end_turn",
            "stop_sequence": null,
            "usage": {
                "input_tokens": input,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": output,
            },
        })
    }

    /// Returns the greeting as events.
    pub fn frames(model: &str) -> Vec<String> {
        let (first, second) = TEXT.split_at(5);
        let mut frames = opening(model);
        frames.extend([text(first), text(second)]);
        frames.extend(closing());
        frames
    }

    /// Returns the events before the first word.
    pub fn opening(model: &str) -> Vec<String> {
        let (input, _) = USAGE;
        let message = json!({
            "id": "msg_testkit",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": {
                "input_tokens": input,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 1,
            },
        });
        let block = json!({"type": "text", "text": ""});
        vec![
            frame(
                "message_start",
                &json!({"type": "message_start", "message": message}),
            ),
            frame(
                "content_block_start",
                &json!({"type": "content_block_start", "index": 0, "content_block": block}),
            ),
            frame("ping", &json!({"type": "ping"})),
        ]
    }

    /// Returns the event that says `text` in the first block.
    pub fn text(text: &str) -> String {
        let delta = json!({"type": "text_delta", "text": text});
        frame(
            "content_block_delta",
            &json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        )
    }

    /// Returns the events after the last word.
    pub fn closing() -> Vec<String> {
        let (_, output) = USAGE;
        let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
        vec![
            frame(
                "content_block_stop",
                &json!({"type": "content_block_stop", "index": 0}),
            ),
            frame(
                "message_delta",
                &json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": output}}),
            ),
            frame("message_stop", &json!({"type": "message_stop"})),
        ]
    }

    /// Returns one event.
    pub fn frame(name: &str, data: &Value) -> String {
        format!("event: {name}\ndata: {data}\n\n")
    }

    /// Returns an error document; within a stream it is the data of an `error` event.
    pub fn error(kind: &str, message: &str) -> Value {
        json!({
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": "req_testkit",
        })
    }
}
