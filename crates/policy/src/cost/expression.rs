//! Costs as expressions of the Common Expression Language.

use std::{fmt, sync::Arc};

use cel::{Context, Program, Value};
use llm::Usage;

use super::{Subject, prices::Money};

/// The longest expression that is read.
const MAX_LENGTH: usize = 4096;

/// The most operators of an expression: each may lie within another one, and what is too deep for the stack ends the
/// process.
const MAX_OPERATORS: usize = 512;

/// An expression that has been compiled and tried.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
    program: Arc<Program>,
}

/// Why an expression gives no cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is not one.
    #[error("not an expression: {0}")]
    Malformed(String),
    /// It fails.
    #[error("the expression fails: {0}")]
    Failed(String),
    /// It gives something else than a number from 0.
    #[error("the expression gives {0}, which is not a number from 0")]
    NoCost(String),
}

impl Expression {
    /// Compiles `source` and tries it with all counts at 0.
    ///
    /// # Errors
    /// If it is malformed, fails when it is tried, or gives no cost.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        if source.trim().is_empty() || source.len() > MAX_LENGTH {
            let message = format!("expected 1 to {MAX_LENGTH} bytes");
            return Err(ExpressionError::Malformed(message));
        }
        if is_too_deep(source) {
            let message = format!("expected at most {MAX_OPERATORS} operators");
            return Err(ExpressionError::Malformed(message));
        }
        let program = Program::compile(source).map_err(|error| {
            let first = error.to_string();
            let line = first.lines().next().unwrap_or("syntax error");
            ExpressionError::Malformed(line.to_owned())
        })?;
        let expression = Self {
            source: source.into(),
            program: Arc::new(program),
        };
        expression.evaluate(&Subject {
            model: "dummy",
            backend: "dummy",
            reference: "dummy",
            route: "dummy",
            usage: &Usage::default(),
            money: Money::default(),
        })?;
        Ok(expression)
    }

    /// Returns the cost of `subject`; a fraction is rounded.
    ///
    /// # Errors
    /// If the expression fails, or gives no cost.
    pub fn evaluate(&self, subject: &Subject<'_>) -> Result<u64, ExpressionError> {
        let usage = subject.usage;
        let mut context = Context::default();
        let texts = [
            ("model", subject.model),
            ("backend", subject.backend),
            ("backend_ref", subject.reference),
            ("route_name", subject.route),
        ];
        for (name, text) in texts {
            context.add_variable_from_value(name, text);
        }
        let counts = [
            ("input_tokens", usage.prompt()),
            ("cached_input_tokens", usage.cache_read.unwrap_or(0)),
            ("cache_creation_input_tokens", usage.cache_write.unwrap_or(0)),
            ("output_tokens", usage.output.unwrap_or(0)),
            ("total_tokens", usage.total()),
            ("reasoning_tokens", usage.reasoning.unwrap_or(0)),
            ("search_units", usage.search_units.unwrap_or(0)),
            ("money_micros", subject.money.micros()),
        ];
        for (name, count) in counts {
            context.add_variable_from_value(name, Value::UInt(count));
        }
        let result = self.program.execute(&context);
        number(result.map_err(|error| ExpressionError::Failed(error.to_string()))?)
    }
}

/// Returns whether an expression has so many operators that it may be too deep to be run.
pub(crate) fn is_too_deep(source: &str) -> bool {
    let operators = source
        .bytes()
        .filter(|byte| matches!(byte, b'+' | b'-' | b'*' | b'/' | b'%' | b'.' | b'['));
    operators.count() > MAX_OPERATORS
}

fn number(value: Value) -> Result<u64, ExpressionError> {
    let number = match &value {
        Value::UInt(number) => Some(*number),
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Float(number) => rounded(*number),
        _ => None,
    };
    number.ok_or_else(|| ExpressionError::NoCost(format!("{value:?}")))
}

/// Returns the nearest whole number; none where there is no such cost.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range was checked"
)]
fn rounded(number: f64) -> Option<u64> {
    (0.0..9e15).contains(&number).then(|| number.round() as u64)
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}
