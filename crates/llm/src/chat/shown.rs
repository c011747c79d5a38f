//! Pictures and sounds of earlier answers, for upstreams whose models say text alone.
//!
//! Only Gemini takes back what its models have painted as their own. To everyone else the user shows it: a
//! conversation that goes on with another model would otherwise have to do without.

use super::{Part, PartBody, Request, Role, Turn};
use crate::{Field, Format, Losses};

/// What is said before what the user shows in the model's place.
const LABEL: &str = "Shown in the answer before:";

/// Has the user show what the model did in `request`, unless the upstream takes it from the model.
pub(crate) fn lower(request: &mut Request, format: Format, losses: &mut Losses) {
    match format {
        Format::Gemini => return,
        Format::OpenAi | Format::Messages | Format::Responses | Format::Converse | Format::Cohere => {}
    }
    if !request.turns.iter().any(shows) {
        return;
    }
    let mut turns = Vec::with_capacity(request.turns.len() + 1);
    let mut waiting: Vec<Part> = Vec::new();
    for mut turn in std::mem::take(&mut request.turns) {
        if turn.role == Role::User && !waiting.is_empty() {
            // Results answer the calls before them, and stand first.
            let results = turn.parts.iter().take_while(|part| is_result(part)).count();
            turn.parts.splice(results..results, waiting.drain(..));
        }
        if shows(&turn) {
            let reason = "only the user shows media to this upstream: what the model showed follows in the user's message";
            losses.advisory(Field::Message(turn.origin), reason);
            let (shown, said): (Vec<Part>, Vec<Part>) = turn.parts.into_iter().partition(is_media);
            waiting.push(Part::text(LABEL));
            waiting.extend(shown);
            turn.parts = said;
        }
        if !turn.parts.is_empty() {
            turns.push(turn);
        }
    }
    if !waiting.is_empty() {
        turns.push(Turn {
            role: Role::User,
            parts: waiting,
            origin: turns.last().map_or(0, |turn| turn.origin),
            name: None,
            extensions: super::Extensions::default(),
        });
    }
    request.turns = turns;
}

/// Returns whether the model shows something in `turn`.
fn shows(turn: &Turn) -> bool {
    turn.role == Role::Assistant && turn.parts.iter().any(is_media)
}

fn is_media(part: &Part) -> bool {
    matches!(part.body, PartBody::Media(_))
}

fn is_result(part: &Part) -> bool {
    matches!(part.body, PartBody::ToolResult(_))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use serde_json::{Value, json};

    use crate::{
        Call, Endpoint, Format, Inbound, Site, Target,
        provider::{AiStudio, Anthropic, Bedrock, MISTRAL, OPENAI_RESPONSES, Provider},
    };

    const CHAT: &str = "/v1/chat/completions";
    const RESPONSES: &str = "/v1/responses";
    const GEMINI: &str = "/v1beta/models/m:generateContent";
    const DATA: &str = "iVBORw0KGgo=";

    /// Conversations of each client in which the model has painted something.
    fn painted(path: &str) -> Value {
        let url = format!("data:image/png;base64,{DATA}");
        match path {
            CHAT => json!({ "model": "m", "messages": [
                { "role": "user", "content": "paint" },
                { "role": "assistant", "content": "here", "images": [{ "type": "image_url", "image_url": { "url": url } }] },
                { "role": "user", "content": "what is it?" },
            ] }),
            RESPONSES => json!({ "model": "m", "input": [
                { "role": "user", "content": "paint" },
                { "role": "assistant", "content": [{ "type": "output_text", "text": "here" }] },
                { "type": "image_generation_call", "id": "ig_1", "status": "completed", "result": DATA },
                { "role": "user", "content": "what is it?" },
            ] }),
            _ => json!({ "contents": [
                { "role": "user", "parts": [{ "text": "paint" }] },
                { "role": "model", "parts": [
                    { "text": "here" }, { "inlineData": { "mimeType": "image/png", "data": DATA } },
                ] },
                { "role": "user", "parts": [{ "text": "what is it?" }] },
            ] }),
        }
    }

    fn call(path: &str, provider: &'static dyn Provider, document: &Value) -> (Value, Vec<String>) {
        let site = Site::default();
        let target = Target {
            provider,
            site: &site,
            model: "claude-sonnet-4-6",
            now: 0,
        };
        let place = Endpoint::find(path, "").expect("an endpoint");
        let inbound = Inbound::parse(place, Bytes::from(document.to_string())).expect("a request");
        let said = inbound.call(&target, &HeaderMap::new());
        let Call { body, losses, .. } = said.unwrap_or_else(|error| panic!("{path}: {error}"));
        let losses = losses.names(Format::OpenAi).into_iter().map(String::from);
        (serde_json::from_slice(&body).expect("JSON"), losses.collect())
    }

    #[test]
    fn the_user_shows_what_the_model_has_painted() {
        let upstreams: [(&dyn Provider, &str); 4] = [
            (&MISTRAL, "/messages"),
            (&Anthropic, "/messages"),
            (&OPENAI_RESPONSES, "/input"),
            (&Bedrock, "/messages"),
        ];
        for (provider, turns) in upstreams {
            for path in [CHAT, RESPONSES, GEMINI] {
                let relayed = path == RESPONSES && provider.id() == "openai-responses";
                if relayed || (path == CHAT && provider.id() == "mistral") {
                    continue;
                }
                let (body, losses) = call(path, provider, &painted(path));
                let turns = body.pointer(turns).and_then(Value::as_array).expect("turns");
                let whom = format!("{path} {}: {body}", provider.id());
                let [_, said, shown] = turns.as_slice() else {
                    panic!("{whom}");
                };
                assert_eq!(
                    (&said["role"], &shown["role"]),
                    (&json!("assistant"), &json!("user")),
                    "{whom}"
                );
                assert!(
                    said.to_string().contains("here") && !said.to_string().contains(DATA),
                    "{whom}"
                );
                let shown = shown.to_string();
                let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text}: {whom}"));
                assert!(
                    at("Shown in the answer before:") < at(DATA) && at(DATA) < at("what is it?"),
                    "{whom}"
                );
                assert!(
                    losses.iter().any(|loss| loss.starts_with("messages[")),
                    "{losses:?}"
                );
            }
        }
    }

    #[test]
    fn gemini_takes_it_from_the_model() {
        for path in [CHAT, RESPONSES] {
            let (body, losses) = call(path, &AiStudio, &painted(path));
            let model = &body["contents"][1];
            let expected = json!({ "inlineData": { "mimeType": "image/png", "data": DATA } });
            assert_eq!(
                (&model["role"], &model["parts"][1]),
                (&json!("model"), &expected),
                "{path}"
            );
            assert_eq!(losses, [""; 0], "{path}");
        }
    }

    #[test]
    fn it_stands_behind_results_and_is_not_lost_at_the_end() {
        let mut chat = painted(CHAT);
        let call_ =
            json!([{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }]);
        chat["tools"] =
            json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }]);
        chat["messages"][1]["tool_calls"] = call_;
        chat["messages"][2] = json!({ "role": "tool", "tool_call_id": "c", "content": "done" });
        let (body, _) = call(CHAT, &Anthropic, &chat);
        let content = &body["messages"][2]["content"];
        assert_eq!(
            (&content[0]["type"], &content[2]["type"]),
            (&json!("tool_result"), &json!("image")),
            "{body}"
        );
        let mut ended = painted(CHAT);
        let messages = ended["messages"].as_array_mut().expect("messages");
        messages.truncate(2);
        messages[1]["content"] = Value::Null;
        let (body, _) = call(CHAT, &Anthropic, &ended);
        assert!(body["messages"].to_string().contains(DATA), "{body}");
    }
}
