//! JSON-RPC 2.0 messages whose parameters and results nobody has looked into.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use crate::{
    error::RpcError,
    json::{self, Object},
};

/// One message.
#[derive(Clone, Debug)]
pub enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification(Notification),
    /// Is one.
    Response(Response),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Unique among the requests that its sender has open.
    pub id: Id,
    /// What is wanted.
    pub method: String,
    /// Of whom and how.
    pub params: Option<Box<RawValue>>,
}

/// A notification.
#[derive(Clone, Debug)]
pub struct Notification {
    /// What happened.
    pub method: String,
    /// To what.
    pub params: Option<Box<RawValue>>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The request's; `None` only for errors about requests that could not be read.
    pub id: Option<Id>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A result.
    Result(Box<RawValue>),
    /// An error object.
    Error(Box<RawValue>),
}

/// A string or a number, kept as it was written: ids beyond 2^53 and `1.0` come back as they went.
#[derive(Clone, Debug)]
pub struct Id(Box<RawValue>);

impl PartialEq for Id {
    /// Strings are equal by what they say, numbers by how they are written or by their value.
    fn eq(&self, other: &Self) -> bool {
        if self.0.get() == other.0.get() {
            return true;
        }
        match (json::text(&self.0), json::text(&other.0)) {
            (Some(one), Some(two)) => one == two,
            (None, None) => {
                let number = |id: &Self| id.0.get().parse().ok().filter(|number: &f64| number.is_finite());
                // Integers that are written differently differ: a float would not tell the large ones apart.
                let float = [self, other]
                    .iter()
                    .any(|id| id.0.get().contains(['.', 'e', 'E']));
                float && number(self).is_some() && number(self) == number(other)
            }
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl Id {
    /// Returns the id that `raw` is; `None` if it is neither string nor number.
    pub fn parse(raw: &RawValue) -> Option<Self> {
        let first = raw.get().as_bytes().first()?;
        (*first == b'"' || *first == b'-' || first.is_ascii_digit()).then(|| Self(raw.to_owned()))
    }

    /// Returns the id that is this string.
    pub fn text(text: &str) -> Self {
        Self(json::raw(text))
    }

    /// Returns the id as it is written.
    pub fn raw(&self) -> &RawValue {
        &self.0
    }
}

impl Message {
    /// Reads the one message in `bytes`; a byte order mark and blanks around it mean nothing.
    ///
    /// # Errors
    /// What a client is told: −32700 for what is no JSON, −32600 for what is no message.
    pub fn parse(bytes: &[u8]) -> Result<Self, RpcError> {
        match Payload::parse(bytes)? {
            Payload::One(message) => Ok(message),
            Payload::Batch(_) => Err(RpcError::invalid_request("batches are not supported")),
        }
    }

    /// Reads the message that `raw` is.
    ///
    /// # Errors
    /// A −32600.
    pub fn read(raw: &RawValue) -> Result<Self, RpcError> {
        let object = Object::parse(raw)
            .ok_or_else(|| RpcError::invalid_request("a message is an object without repeated members"))?;
        if object.text("jsonrpc").as_deref() != Some("2.0") {
            return Err(RpcError::invalid_request("\"jsonrpc\" must be \"2.0\""));
        }
        let id = match object.get("id").filter(|id| id.get() != "null") {
            None => None,
            Some(id) => {
                let id = Id::parse(id);
                Some(id.ok_or_else(|| RpcError::invalid_request("\"id\" must be a string or a number"))?)
            }
        };
        let member = |key: &str| object.get(key).map(RawValue::to_owned);
        if let Some(method) = object.get("method") {
            let method = json::text(method)
                .ok_or_else(|| RpcError::invalid_request("\"method\" must be a string"))?
                .into_owned();
            let params = member("params").filter(|params| params.get() != "null");
            return Ok(match id {
                Some(id) => Message::Request(Request { id, method, params }),
                None => Message::Notification(Notification { method, params }),
            });
        }
        let outcome = match (member("result"), member("error")) {
            (Some(result), None) => Outcome::Result(result),
            (_, Some(error)) if error.get() != "null" => Outcome::Error(error),
            (Some(result), Some(_)) => Outcome::Result(result),
            (None, _) => {
                let message = "a message has one of \"method\", \"result\" and \"error\"";
                return Err(RpcError::invalid_request(message));
            }
        };
        if id.is_none() && matches!(outcome, Outcome::Result(_)) {
            return Err(RpcError::invalid_request("a response has an \"id\""));
        }
        Ok(Message::Response(Response { id, outcome }))
    }

    /// Returns the message as a document.
    pub fn to_raw(&self) -> Box<RawValue> {
        json::raw(self)
    }

    /// Returns the message as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("jsonrpc", "2.0")?;
        let (method, params) = match self {
            Message::Request(request) => {
                map.serialize_entry("id", &request.id.0)?;
                (&request.method, &request.params)
            }
            Message::Notification(notification) => (&notification.method, &notification.params),
            Message::Response(response) => {
                map.serialize_entry("id", &response.id.as_ref().map(Id::raw))?;
                match &response.outcome {
                    Outcome::Result(result) => map.serialize_entry("result", result)?,
                    Outcome::Error(error) => map.serialize_entry("error", error)?,
                }
                return map.end();
            }
        };
        map.serialize_entry("method", method)?;
        if let Some(params) = params {
            map.serialize_entry("params", params)?;
        }
        map.end()
    }
}

/// What one body holds.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A message.
    One(Message),
    /// Several; revision 2025-03-26 allows that, no other.
    Batch(Vec<Message>),
}

impl Payload {
    /// Reads the one document in `bytes`.
    ///
    /// # Errors
    /// As [`Message::parse`]; an empty batch is a −32600.
    pub fn parse(bytes: &[u8]) -> Result<Self, RpcError> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let raw: &RawValue = serde_json::from_slice(bytes)
            .map_err(|error| RpcError::parse(format!("malformed JSON: {error}")))?;
        let Some(elements) = json::elements(raw) else {
            return Message::read(raw).map(Payload::One);
        };
        if elements.is_empty() {
            return Err(RpcError::invalid_request("an empty batch"));
        }
        let messages = elements.into_iter().map(Message::read);
        messages.collect::<Result<_, _>>().map(Payload::Batch)
    }
}

impl Request {
    /// Returns the answer with `result`.
    pub fn answer(&self, result: Box<RawValue>) -> Message {
        Message::Response(Response {
            id: Some(self.id.clone()),
            outcome: Outcome::Result(result),
        })
    }

    /// Returns the parameters as an object; an empty one if there are none.
    pub fn object(&self) -> Option<Object<'_>> {
        match &self.params {
            Some(params) => Object::parse(params),
            None => Some(Object::default()),
        }
    }
}

impl Response {
    /// Returns whether it says what an answer has to: a result is an object, and an error one with a number and a text
    /// (revision 2025-11-25, "Responses").
    pub fn is_sound(&self) -> bool {
        match &self.outcome {
            Outcome::Result(result) => result.get().starts_with('{'),
            Outcome::Error(error) => {
                let said = Object::parse(error).is_some_and(|error| error.text("message").is_some());
                said && self.code().is_some()
            }
        }
    }

    /// Returns the code of the error, if it is one.
    pub fn code(&self) -> Option<i32> {
        match &self.outcome {
            Outcome::Result(_) => None,
            Outcome::Error(error) => Object::parse(error)?.get("code")?.get().parse().ok(),
        }
    }
}

impl Notification {
    /// Returns a notification without parameters.
    pub fn new(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            params: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_went() {
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"a","arguments":{"x":1.0}}}"#,
            r#"{"jsonrpc":"2.0","id":"7","result":{"n":1e400}}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"error":{"code":-32601,"message":"no","data":[1, 2]}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}"#,
        ] {
            let message = Message::parse(text.as_bytes()).expect(text);
            assert_eq!(message.to_raw().get(), text);
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let check = |text: &str, code: i32| {
            let error = Message::parse(text.as_bytes()).expect_err(text);
            assert_eq!(error.code, code, "{text}");
        };
        check("", -32700);
        check("{", -32700);
        check(r#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#, -32700);
        check("[]", -32600);
        check(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600);
        check("{}", -32600);
        check(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600);
        check(r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, -32600);
        check(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, -32600);
        check(r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#, -32600);
        check(r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, -32600);
    }

    #[test]
    fn ids_are_compared_by_meaning() {
        let check = |one: &str, two: &str, equal: bool| {
            let id = |text: &str| {
                let raw = RawValue::from_string(text.to_owned()).expect("a document");
                Id::parse(&raw).expect("an id")
            };
            assert_eq!(id(one) == id(two), equal, "{one} and {two}");
        };
        check("1", "1", true);
        check("1", "1.0", true);
        check("1", "\"1\"", false);
        check("\"a\"", "\"\\u0061\"", true);
        check("9007199254740993", "9007199254740992", false);
        // What is neither text nor a number that can be told is itself alone.
        check(r#""\ud800e""#, r#""\ud801e""#, false);
        check("1e400", "2e400", false);
        check("1e400", "1e400", true);
    }
}
