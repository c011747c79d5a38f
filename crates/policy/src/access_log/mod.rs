//! The access log as a resource declares it: forms, conditions and files, compiled.
//!
//! The operators are those of Envoy's access log that the compatibility specification lists. Where their values come
//! from is the caller's: here is only how a record is put together.

mod condition;
mod operator;
pub mod spec;

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
    /// Compiles what a resource says; of sinks only files are taken.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(setting: &spec::Setting) -> Result<Self, AccessLogError> {
        let conditions = setting.matches.iter().map(|source| Condition::parse(source));
        let files = setting.sinks.iter().filter_map(|sink| sink.file.as_ref());
        Ok(Self {
            conditions: conditions.collect::<Result<_, _>>()?,
            form: setting.format.as_ref().map_or(Ok(Form::Own), Form::parse)?,
            files: files.map(|file| file.path.clone()).collect(),
        })
    }

    /// Calls `visit` with every operator of the form.
    pub fn operators(&self, mut visit: impl FnMut(&Operator)) {
        let lines: &mut dyn Iterator<Item = &Line> = match &self.form {
            Form::Own => return,
            Form::Text(line) => &mut std::iter::once(line),
            Form::Json(members) => &mut members.iter().map(|(_, line)| line),
        };
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
        let members = members
            .iter()
            .map(|(name, text)| Ok((name.clone(), Line::parse(text)?)));
        Ok(Form::Json(members.collect::<Result<_, AccessLogError>>()?))
    }
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
