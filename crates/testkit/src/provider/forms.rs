//! Plays OpenAI where it takes a form with a file.

use serde_json::json;

use crate::{
    script::Reply,
    strict::forms::{self, Form},
    upstream::Received,
};

/// Returns the reply to a request with a form; `None` if the path takes none.
pub(super) fn reply(request: &Received, key: &str) -> Option<Reply> {
    let (file, answer): (_, fn(&Form) -> Reply) = match request.target.as_str() {
        "/v1/audio/transcriptions" => ("file", transcription),
        "/v1/audio/translations" => ("file", transcription),
        "/v1/images/edits" | "/v1/images/variations" => ("image", picture),
        _ => return None,
    };
    Some(match forms::check(request, key, file) {
        Ok(form) => answer(&form),
        Err(refusal) => refusal.openai(),
    })
}

fn transcription(form: &Form) -> Reply {
    let files = form.files("file");
    let heard = files
        .iter()
        .map(|part| format!("{} bytes of {}", part.content.len(), part.file));
    let text = format!(
        "I hear {} with {}",
        heard.collect::<Vec<_>>().join(" and "),
        form.text("model")
    );
    let usage = json!({"type": "tokens", "input_tokens": 14, "output_tokens": 9, "total_tokens": 23,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 10}});
    if form.text("stream").eq_ignore_ascii_case("true") {
        let mut frames: Vec<String> = text
            .split_inclusive(' ')
            .map(|delta| frame(&json!({"type": "transcript.text.delta", "delta": delta})))
            .collect();
        frames.push(frame(
            &json!({"type": "transcript.text.done", "text": text, "usage": usage}),
        ));
        return Reply::sse(frames);
    }
    match form.text("response_format").as_str() {
        "text" => Reply::whole(
            200,
            &[("content-type", "text/plain; charset=utf-8")],
            &format!("{text}\n"),
        ),
        "srt" => {
            let srt = format!("1\n00:00:00,000 --> 00:00:01,000\n{text}\n");
            Reply::whole(200, &[("content-type", "text/plain; charset=utf-8")], &srt)
        }
        _ => Reply::json(200, &json!({"text": text, "usage": usage})),
    }
}

fn picture(form: &Form) -> Reply {
    let sizes = form.files("image");
    let sizes: Vec<usize> = sizes.iter().map(|part| part.content.len()).collect();
    Reply::json(
        200,
        &json!({
            "created": 1_750_000_000,
            "data": [{"b64_json": PIXEL, "revised_prompt": format!("{} {sizes:?}", form.text("prompt"))}],
            "usage": {"input_tokens": 50, "output_tokens": 100, "total_tokens": 150,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}},
        }),
    )
}

fn frame(data: &serde_json::Value) -> String {
    format!("data: {data}\n\n")
}

const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
