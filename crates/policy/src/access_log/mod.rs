//! The access log as a resource declares it: forms, conditions and files, compiled.
//!
//! The operators are those of Envoy's access log that the compatibility specification lists. Where their values come
//! from is the caller's: here is only how a record is put together.

mod condition;
mod operator;
pub mod spec;

use std::collections::BTreeMap;

use serde_json::Value;

pub use condition::{Condition, Request};
pub use operator::{Header, Line, Operator, OperatorError};

/// One form of the record, and where it goes.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What is written.
    pub form: Form,
    /// What receivers of OTLP are told.
    pub told: Told,
    /// The files that it is written to, by their paths.
    pub files: Vec<String>,
}

/// What is written of a request.
#[derive(Clone, Debug)]
pub enum Form {
    /// The gateway's own record.
    Own,
    /// One line.
    Text(Line),
    /// One object, by member.
    Json(Vec<(String, Line)>),
}

/// What receivers of OTLP are told of a request; the gateway's own record where there is neither.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The body of the record.
    pub text: Option<Line>,
    /// Its attributes, by name.
    pub members: Vec<(String, Line)>,
}

/// Why an access log cannot be written as declared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessLogError {
    /// An operator in a form.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A condition that is not an expression.
    #[error("\"{0}\" is not an expression: {1}")]
    Condition(String, String),
    /// A form without what its type names.
    #[error("format.{0} is missing")]
    Missing(&'static str),
}

impl AccessLog {
    /// Compiles what a resource says: the form, or the gateway's own if there is none, the conditions and the files.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(
        format: Option<&spec::Format>,
        matches: &[String],
        files: Vec<String>,
    ) -> Result<Self, AccessLogError> {
        let conditions = matches.iter().map(|source| Condition::parse(source));
        Ok(Self {
            conditions: conditions.collect::<Result<_, _>>()?,
            form: format.map_or(Ok(Form::Own), Form::parse)?,
            told: format.map_or(Ok(Told::default()), Told::parse)?,
            files,
        })
    }

    /// Calls `visit` with every operator of the form.
    pub fn operators(&self, mut visit: impl FnMut(&Operator)) {
        let written: &mut dyn Iterator<Item = &Line> = match &self.form {
            Form::Own => &mut std::iter::empty(),
            Form::Text(line) => &mut std::iter::once(line),
            Form::Json(members) => &mut members.iter().map(|(_, line)| line),
        };
        let told = self.told.members.iter().map(|(_, line)| line);
        let lines = written.chain(&self.told.text).chain(told);
        lines.flat_map(Line::operators).for_each(&mut visit);
    }
}

impl Form {
    fn parse(spec: &spec::Format) -> Result<Self, AccessLogError> {
        let is_text = match spec.kind {
            Some(spec::FormatType::Text) => true,
            Some(spec::FormatType::Json) => false,
            None => spec.json.is_none(),
        };
        if is_text {
            let text = spec.text.as_deref().ok_or(AccessLogError::Missing("text"))?;
            return Ok(Form::Text(Line::parse(text)?));
        }
        let members = spec.json.as_ref().ok_or(AccessLogError::Missing("json"))?;
        Ok(Form::Json(self::members(members)?))
    }
}

impl Told {
    /// Both forms count, whatever the type says: it is about files.
    fn parse(spec: &spec::Format) -> Result<Self, AccessLogError> {
        Ok(Self {
            text: spec.text.as_deref().map(Line::parse).transpose()?,
            members: spec.json.as_ref().map_or(Ok(Vec::new()), members)?,
        })
    }
}

fn members(spec: &BTreeMap<String, String>) -> Result<Vec<(String, Line)>, AccessLogError> {
    let members = spec
        .iter()
        .map(|(name, text)| Ok((name.clone(), Line::parse(text)?)));
    members.collect()
}

impl Line {
    /// Writes the line as text; a value that does not exist is a dash. A line break at its end is left out.
    pub fn write_text(&self, out: &mut String, value: &dyn Fn(&Operator) -> Value) {
        self.write(out, value);
        if out.ends_with('\n') {
            out.pop();
        }
    }

    /// Returns the line as a JSON value; an operator alone keeps its type, and is null where it has no value.
    pub fn to_json(&self, value: &dyn Fn(&Operator) -> Value) -> Value {
        if let Some(operator) = self.alone() {
            return value(operator);
        }
        let mut text = String::new();
        self.write(&mut text, value);
        Value::String(text)
    }
}

#[cfg(test)]
mod tests;
