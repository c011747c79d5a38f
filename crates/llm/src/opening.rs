//! What a conversation begins with: it tells where the provider's cache of prompts is warm.

use serde_json::value::RawValue;

use crate::{
    Inbound,
    json::{Object, Path},
};

/// Members that stay the same while a conversation goes on, in all formats.
const STEADY: &[&str] = &["system", "instructions", "systemInstruction", "tools"];

/// Members that grow with it: one of them is there.
const TURNS: &[&str] = &["messages", "input", "contents"];

impl Inbound {
    /// Returns what the conversation begins with, as it was written: instructions, tools, and its turns up to the
    /// first of the user.
    pub fn opening(&self) -> Vec<&str> {
        let steady = STEADY.iter().filter_map(|key| self.shallow.get(key));
        let mut opening: Vec<&str> = steady.collect();
        let Some(turns) = TURNS.iter().find_map(|key| self.shallow.get(key)) else {
            return opening;
        };
        let Ok(turns) = serde_json::from_str::<Vec<&RawValue>>(turns) else {
            // A prompt that is one text is its own beginning.
            opening.push(turns);
            return opening;
        };
        for turn in turns {
            opening.push(turn.get());
            let role = Object::parse(turn, &Path::Root)
                .ok()
                .and_then(|turn| turn.peek("role"));
            if role.is_none_or(|role| role.get() == "\"user\"") {
                break;
            }
        }
        opening
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Endpoint;

    #[track_caller]
    fn check(path: &str, body: &'static str, expected: &[&str]) {
        let place = Endpoint::find(path, "").expect("the path is known");
        let inbound = Inbound::parse(place, Bytes::from_static(body.as_bytes())).expect("the body is sound");
        assert_eq!(inbound.opening(), expected, "{body}");
    }

    #[test]
    fn a_conversation_begins_as_it_did_before() {
        let chat = "/v1/chat/completions";
        check(
            chat,
            r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"a"}]}"#,
            &[
                r#"{"role":"system","content":"s"}"#,
                r#"{"role":"user","content":"a"}"#,
            ],
        );
        check(
            chat,
            r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#,
            &[r#"{"role":"user","content":"a"}"#],
        );
        check(
            "/anthropic/v1/messages",
            r#"{"model":"m","system":"s","messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#,
            &[r#""s""#, r#"{"role":"user","content":"a"}"#],
        );
        check("/v1/responses", r#"{"model":"m","input":"a"}"#, &[r#""a""#]);
        check(chat, r#"{"model":"m","messages":7}"#, &["7"]);
        check(chat, r#"{"model":"m"}"#, &[]);
    }
}
