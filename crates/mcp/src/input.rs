//! Answers that ask back: what a server needs of its client before it can go on, in the result itself
//! (revision 2026-07-28, "Multi Round-Trip Requests").

use serde_json::{Value, json, value::RawValue};

use crate::{
    error::{self, RpcError},
    json::{self, Object},
    rewrite::Naming,
};

/// What a result is that asks back.
const INPUT_REQUIRED: &str = "input_required";

/// What a server asks.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// What it wants to know, by keys of its own.
    pub requests: Vec<Input>,
    /// What it wants to be reminded of.
    pub state: Option<String>,
}

/// One thing that a server wants to know.
#[derive(Clone, Debug)]
pub struct Input {
    /// The server's name for it.
    pub key: String,
    /// What a client is asked for.
    pub method: String,
    /// How.
    pub params: Option<Box<RawValue>>,
}

impl Inputs {
    /// Reads a result; `None` if it is a whole one.
    pub fn read(result: &RawValue) -> Option<Self> {
        let object = Object::parse(result)?;
        if object.text("resultType")? != INPUT_REQUIRED {
            return None;
        }
        let requests = object.object("inputRequests").unwrap_or_default();
        let requests = requests.members().filter_map(|(key, request)| {
            let request = Object::parse(request)?;
            Some(Input {
                key: key.to_owned(),
                method: request.text("method")?.into_owned(),
                params: request.get("params").map(RawValue::to_owned),
            })
        });
        Some(Self {
            requests: requests.collect(),
            state: object.text("requestState").map(|state| state.into_owned()),
        })
    }

    /// Returns the result that asks this.
    pub fn to_raw(&self) -> Box<RawValue> {
        let mut requests = Object::default();
        for input in &self.requests {
            let mut request = Object::default();
            request.set("method", json::raw(&input.method));
            request.set("params", input.params.clone().unwrap_or_else(json::empty));
            requests.set(&input.key, request.to_raw());
        }
        let mut result = Object::default();
        result.set("resultType", json::raw(INPUT_REQUIRED));
        if !self.requests.is_empty() {
            result.set("inputRequests", requests.to_raw());
        }
        if let Some(state) = &self.state {
            result.set("requestState", json::raw(state));
        }
        result.to_raw()
    }

    /// Returns the same in the client's words.
    #[must_use]
    pub fn named(mut self, naming: &Naming<'_>) -> Self {
        for input in &mut self.requests {
            let named = input.params.as_deref().and_then(|params| naming.sampling(params));
            input.params = named.or(input.params.take());
        }
        self
    }

    /// Refuses what the client did not say that it can answer.
    ///
    /// # Errors
    /// A −32021 that says what it would have to be able to do.
    pub fn check(&self, capabilities: &RawValue) -> Result<(), RpcError> {
        let capabilities = Object::parse(capabilities).unwrap_or_default();
        let mut missing = serde_json::Map::new();
        for input in &self.requests {
            if let Some((name, needed)) = input.missing(&capabilities) {
                missing.insert(name.to_owned(), needed);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let error = RpcError::new(
            error::MISSING_CAPABILITY,
            "the client cannot be asked what has to be asked",
        );
        Err(error.with_data(json!({ "requiredCapabilities": missing })))
    }
}

impl Input {
    /// Returns the capability that the client lacks to be asked this.
    pub fn missing(&self, capabilities: &Object<'_>) -> Option<(&'static str, Value)> {
        let params = self.params.as_deref().and_then(Object::parse).unwrap_or_default();
        let (name, part) = match self.method.as_str() {
            "elicitation/create" if params.text("mode").as_deref() == Some("url") => {
                ("elicitation", Some("url"))
            }
            "elicitation/create" => ("elicitation", None),
            "sampling/createMessage" if params.get("tools").is_some() => ("sampling", Some("tools")),
            "sampling/createMessage" => ("sampling", None),
            "roots/list" => ("roots", None),
            _ => return None,
        };
        let own = capabilities.object(name);
        let has = own.is_some_and(|own| match part {
            Some(part) => own.get(part).is_some(),
            // Clients that fill in forms need not say so, unless they say that they do something else.
            None if name == "elicitation" => own.get("form").is_some() || own.members().next().is_none(),
            None => true,
        });
        let needed = part.map_or_else(|| json!({}), |part| json!({ part: {} }));
        (!has).then_some((name, needed))
    }
}

/// Returns the parameters with which a request is made again, with what was asked.
pub fn retried(params: &RawValue, responses: &Object<'_>, state: Option<&str>) -> Option<Box<RawValue>> {
    let mut params = Object::parse(params)?;
    params.set("inputResponses", responses.to_raw());
    match state {
        Some(state) => params.set("requestState", json::raw(state)),
        None => {
            params.remove("requestState");
        }
    }
    Some(params.to_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(requests: &Value) -> Inputs {
        let result =
            json!({ "resultType": "input_required", "inputRequests": requests, "requestState": "s" });
        Inputs::read(&json::raw(&result)).expect("a result that asks back")
    }

    #[test]
    fn what_is_asked_comes_back_as_it_went() {
        let text = r#"{"resultType":"input_required","inputRequests":{"b":{"method":"roots/list","params":{}},"a":{"method":"x","params":{"n":1.0}}},"requestState":"s"}"#;
        let raw = RawValue::from_string(text.to_owned()).expect("a document");
        assert_eq!(Inputs::read(&raw).expect("inputs").to_raw().get(), text);
        for whole in [
            json!({ "content": [] }),
            json!({ "resultType": "complete" }),
            json!([]),
        ] {
            assert!(Inputs::read(&json::raw(&whole)).is_none(), "{whole}");
        }
    }

    #[test]
    fn clients_are_asked_what_they_said_they_can_answer() {
        let check = |method: &str, params: Value, can: Value, missing: Value| {
            let inputs = asked(&json!({ "k": { "method": method, "params": params } }));
            let found = inputs.check(&json::raw(&can)).err();
            let needed = found.and_then(|error| error.data).unwrap_or_default();
            assert_eq!(needed["requiredCapabilities"], missing, "{method} {can}");
        };
        check(
            "elicitation/create",
            json!({}),
            json!({ "elicitation": {} }),
            Value::Null,
        );
        check(
            "elicitation/create",
            json!({}),
            json!({ "sampling": {} }),
            json!({ "elicitation": {} }),
        );
        check(
            "elicitation/create",
            json!({ "mode": "url" }),
            json!({ "elicitation": {} }),
            json!({ "elicitation": { "url": {} } }),
        );
        check(
            "elicitation/create",
            json!({}),
            json!({ "elicitation": { "url": {} } }),
            json!({ "elicitation": {} }),
        );
        check(
            "sampling/createMessage",
            json!({ "tools": [] }),
            json!({ "sampling": {} }),
            json!({ "sampling": { "tools": {} } }),
        );
        check(
            "sampling/createMessage",
            json!({}),
            json!({ "sampling": { "tools": {} } }),
            Value::Null,
        );
        check("roots/list", json!({}), json!({}), json!({ "roots": {} }));
        check("new/thing", json!({}), json!({}), Value::Null);
    }

    #[test]
    fn requests_are_made_again_with_answers() {
        let params = json::raw(&json!({ "name": "t", "requestState": "old" }));
        let mut responses = Object::default();
        responses.set("k", json::raw(&json!({ "roots": [] })));
        let again = retried(&params, &responses, Some("new")).expect("parameters");
        assert_eq!(
            again.get(),
            r#"{"name":"t","requestState":"new","inputResponses":{"k":{"roots":[]}}}"#
        );
        let again = retried(&params, &responses, None).expect("parameters");
        assert_eq!(again.get(), r#"{"name":"t","inputResponses":{"k":{"roots":[]}}}"#);
    }
}
