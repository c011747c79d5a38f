//! Streams, gathered into what they say when they are whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use llm::{
    End, Losses,
    chat::{self, fold::Fold},
    frame::{Frame, Framer, Framing},
};
use serde_json::{Value, json};

/// Gathers a conversation's answer.
pub(super) fn fold(reader: Box<dyn chat::DecodeReply>, pieces: &[Bytes]) -> Option<chat::Response> {
    let mut stream = reader.into_stream();
    let (mut events, mut losses, mut fold) = (Vec::new(), Losses::default(), Fold::default());
    each(pieces, |frame| {
        // What cannot be read is not shown.
        stream.frame(frame, &mut events, &mut losses);
        events.drain(..).for_each(|event| fold.push(&event));
    })?;
    stream.end(End::Clean, &mut events);
    events
        .iter()
        .filter(|event| !matches!(event, chat::Event::Error(_)))
        .for_each(|event| fold.push(event));
    fold.finish().ok()
}

/// Returns the whole answer that a stream of Responses ends with, and whether it is complete.
pub(super) fn response(pieces: &[Bytes]) -> (Value, bool) {
    let (mut whole, mut completed) = (Value::Null, false);
    let _ = each(pieces, |frame| {
        // Few events are large, and only the last one is read.
        let last = ["response.completed", "response.incomplete", "response.failed"];
        if !last.iter().any(|kind| frame.data.contains(kind)) {
            return;
        }
        let mut event: Value = serde_json::from_str(frame.data).unwrap_or_default();
        if last.iter().any(|kind| event["type"] == *kind) {
            completed = event["type"] == "response.completed";
            whole = event["response"].take();
        }
    });
    (whole, completed)
}

/// Returns the last counts that a stream says as chat does.
pub(super) fn usage(pieces: &[Bytes]) -> Value {
    let mut usage = Value::Null;
    let _ = each(pieces, |frame| {
        if frame.data.contains("\"audio_tokens\"") {
            let mut chunk: Value = serde_json::from_str(frame.data).unwrap_or_default();
            usage = chunk["usage"].take();
        }
    });
    usage
}

/// Returns the completion that a stream says: the texts of each choice joined, the rest from its last chunks.
pub(super) fn completion(pieces: &[Bytes]) -> Value {
    let mut choices: BTreeMap<u64, Value> = BTreeMap::new();
    let mut whole = json!({"object": "text_completion"});
    let _ = each(pieces, |frame| {
        let Ok(Value::Object(chunk)) = serde_json::from_str(frame.data) else {
            return;
        };
        for (name, value) in chunk {
            if name == "choices" {
                for choice in value.as_array().into_iter().flatten() {
                    let index = choice["index"].as_u64().unwrap_or_default();
                    let known = choices
                        .entry(index)
                        .or_insert_with(|| json!({"index": index, "text": ""}));
                    let before = known["text"].as_str().unwrap_or_default();
                    let text = format!("{before}{}", choice["text"].as_str().unwrap_or_default());
                    known["text"] = text.into();
                    if !choice["finish_reason"].is_null() {
                        known["finish_reason"] = choice["finish_reason"].clone();
                    }
                }
            } else if !value.is_null() {
                whole[name] = value;
            }
        }
    });
    if choices.is_empty() {
        return Value::Null;
    }
    whole["choices"] = choices.into_values().collect();
    whole
}

/// Returns the transcript that a stream says.
pub(super) fn transcript(pieces: &[Bytes]) -> Value {
    let (mut text, mut usage, mut heard) = (String::new(), Value::Null, false);
    let _ = each(pieces, |frame| {
        let mut event: Value = serde_json::from_str(frame.data).unwrap_or_default();
        match event["type"].as_str() {
            Some("transcript.text.delta") => text.push_str(event["delta"].as_str().unwrap_or_default()),
            Some("transcript.text.done") => {
                event["text"].as_str().unwrap_or_default().clone_into(&mut text);
                usage = event["usage"].take();
            }
            Some(_) | None => return,
        }
        heard = true;
    });
    if heard {
        json!({"text": text, "usage": usage})
    } else {
        Value::Null
    }
}

/// Hands every frame to `take`; `None` if the stream is broken, and nothing is handed out from there on. A stream
/// that is one list, as Google has it, has its items for frames.
fn each(pieces: &[Bytes], mut take: impl FnMut(Frame<'_>)) -> Option<()> {
    let is_list = pieces
        .first()
        .is_some_and(|piece| piece.trim_ascii_start().starts_with(b"["));
    if is_list {
        let items: Vec<Value> = serde_json::from_slice(&pieces.concat()).ok()?;
        for item in items {
            take(Frame {
                event: None,
                data: &item.to_string(),
            });
        }
        return Some(());
    }
    let mut framer = Framer::new(Framing::Sse);
    for piece in pieces {
        framer.push(piece, |frame, _| take(frame)).ok()?;
    }
    framer.finish(take);
    Some(())
}
