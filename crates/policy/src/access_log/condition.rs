//! Which requests are written: expressions over a request's attributes.

use std::{fmt, sync::Arc};

use cel::{Context, Program, Value};
use http::{HeaderMap, HeaderName};
use serde::Serialize;

use super::AccessLogError;
use crate::cost::expression::is_too_deep;

/// The longest expression that is read.
const MAX_LENGTH: usize = 4096;

/// A condition that must hold.
#[derive(Clone)]
pub enum Condition {
    /// A header is there and is not empty: what most conditions ask, answered without running an expression.
    Present(HeaderName),
    /// An expression of the Common Expression Language.
    Expression(Arc<str>, Arc<Program>),
}

/// What conditions may ask of a request, by the names that Envoy has for it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, query included.
    pub path: &'a str,
    /// The host.
    pub host: &'a str,
    /// The request's id.
    pub id: &'a str,
    /// Its headers; those of one name are joined by commas.
    pub headers: &'a HeaderMap,
    /// The status of the answer.
    pub code: u16,
}

#[derive(Serialize)]
struct Attributes<'a> {
    method: &'a str,
    path: &'a str,
    url_path: &'a str,
    host: &'a str,
    id: &'a str,
    headers: std::collections::BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct Response {
    code: u16,
}

impl Condition {
    /// Compiles `source`.
    ///
    /// # Errors
    /// If it is no expression.
    pub fn parse(source: &str) -> Result<Self, AccessLogError> {
        let malformed = |reason: &str| AccessLogError::Condition(source.to_owned(), reason.to_owned());
        if let Some(name) = present(source) {
            return Ok(Condition::Present(name));
        }
        if source.len() > MAX_LENGTH || is_too_deep(source) {
            return Err(malformed("it is too long"));
        }
        let program = Program::compile(source).map_err(|error| {
            let text = error.to_string();
            malformed(text.lines().next().unwrap_or("syntax error"))
        })?;
        Ok(Condition::Expression(source.into(), Arc::new(program)))
    }

    /// Returns whether the condition holds. One that fails, as about a header that is not there, does not.
    pub fn holds(&self, request: &Request<'_>) -> bool {
        match self {
            Condition::Present(name) => request.headers.get(name).is_some_and(|value| !value.is_empty()),
            Condition::Expression(_, program) => {
                let mut context = Context::default();
                let response = Response { code: request.code };
                let added = context
                    .add_variable("request", request.attributes())
                    .is_ok_and(|()| context.add_variable("response", response).is_ok());
                added && program.execute(&context) == Ok(Value::Bool(true))
            }
        }
    }
}

impl<'a> Request<'a> {
    fn attributes(&self) -> Attributes<'a> {
        let mut headers = std::collections::BTreeMap::<&str, String>::new();
        for (name, value) in self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers
                .entry(name.as_str())
                .and_modify(|before| {
                    before.push(',');
                    before.push_str(&value);
                })
                .or_insert_with(|| value.clone().into_owned());
        }
        Attributes {
            method: self.method,
            path: self.path,
            url_path: self.path.split('?').next().unwrap_or_default(),
            host: self.host,
            id: self.id,
            headers,
        }
    }
}

/// Returns the header of `request.headers['name'] != ''`.
fn present(source: &str) -> Option<HeaderName> {
    let source: String = source.split_whitespace().collect();
    let source = source.replace('"', "'");
    let name = source.strip_prefix("request.headers['")?.strip_suffix("']!=''")?;
    // Names are written in lower case; any other never matches, and is left to the expression.
    HeaderName::from_lowercase(name.as_bytes()).ok()
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Present(name) => write!(f, "request.headers['{name}'] != ''"),
            Condition::Expression(source, _) => f.write_str(source),
        }
    }
}
