//! Conditions in the Common Expression Language, about the one variable `request`.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, IdedExpr, Program, Value,
    common::ast::{EntryExpr, Expr},
    objects::{Key, Map},
};
use http::{HeaderMap, HeaderName, Method};
use serde_json::Value as Json;

use super::{Asked, What};
use crate::Caller;

/// The longest expression that is read.
const MAX_LENGTH: usize = 4096;

/// The most steps that an expression may take over what a client has sent.
const MAX_STEPS: usize = 1_000_000;

/// How deep parameters may be nested that expressions read.
const MAX_DEPTH: usize = 64;

/// What expressions can do, with optional values; made once, because there is a lot of it.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that has been compiled.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
    program: Arc<Program>,
    /// How many loops lie within each other.
    loops: u32,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is too long.
    #[error("an expression has at most {MAX_LENGTH} bytes")]
    TooLong,
    /// It cannot be read.
    #[error("not an expression: {0}")]
    Malformed(String),
    /// It speaks of something that there is not, so that it would always fail.
    #[error("\"{0}\" is not known")]
    Unknown(String),
}

/// Whether an expression holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    /// It depends on parameters, which are not known while lists are made.
    Unknown,
    /// It cannot be told.
    Failed,
}

/// An HTTP request, as expressions see it.
#[derive(Clone, Debug)]
pub struct Request {
    members: HashMap<Key, Value>,
    size: usize,
}

impl Expression {
    /// Compiles `source`.
    ///
    /// # Errors
    /// If it is no expression.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        if source.len() > MAX_LENGTH {
            return Err(ExpressionError::TooLong);
        }
        let program = LANGUAGE.compile(source).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or("syntax error");
            ExpressionError::Malformed(line.to_owned())
        })?;
        let loops = loops(program.expression());
        if let Some(unknown) = unknown(&program, loops) {
            return Err(ExpressionError::Unknown(unknown));
        }
        Ok(Self {
            source: source.into(),
            loops,
            program: Arc::new(program),
        })
    }

    /// Returns the expression as it is written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns whether the expression asks which tool is meant.
    pub(super) fn reads_tool(&self) -> bool {
        self.source.contains("mcp.tool")
    }

    /// Returns whether the expression looks at parameters.
    pub(super) fn reads_params(&self) -> bool {
        self.source.contains("params")
    }

    pub(super) fn holds(&self, asked: &Asked<'_>) -> Holds {
        let failed = if asked.params.is_none() && self.reads_params() {
            Holds::Unknown
        } else {
            Holds::Failed
        };
        let mut size = asked.request.size;
        let Some(mcp) = mcp(asked, &mut size) else {
            return Holds::Failed;
        };
        // Nothing can stop an expression once it runs.
        if size.saturating_pow(self.loops) > MAX_STEPS && self.loops > 0 {
            return Holds::Failed;
        }
        let mut members = asked.request.members.clone();
        members.insert(Key::from("mcp"), mcp);
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        context.add_variable_from_value(VARIABLE, object(members));
        match self.program.execute(&context) {
            Ok(Value::Bool(true)) => Holds::Yes,
            Ok(Value::Bool(false)) => Holds::No,
            Ok(_) | Err(_) => failed,
        }
    }
}

impl Request {
    /// Returns what expressions see of a request, and of the verified claims of whoever sent it. `more` are headers
    /// that the gateway itself has set.
    pub fn new(
        method: &Method,
        host: &str,
        path: &str,
        headers: &HeaderMap,
        more: &[(HeaderName, String)],
        caller: &Caller,
    ) -> Self {
        let mut size = 1;
        let (first, all) = read(headers, more, &mut size);
        let claims = caller.claims.first().map(|(_, claims)| claims);
        let mut scopes: Vec<&str> = claims.into_iter().flat_map(|claims| claims.scopes()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let scopes = scopes.into_iter().map(Value::from).collect::<Vec<_>>();
        let claims = claims.into_iter().flat_map(|claims| claims.as_map());
        let claims = claims
            .filter(|(name, _)| !matches!(name.as_str(), "scope" | "scp"))
            .filter_map(|(name, claim)| {
                Some((Key::from(name.as_str()), value(claim, MAX_DEPTH, &mut size)?))
            });
        let jwt = [
            (Key::from("claims"), object(claims.collect())),
            (Key::from("scopes"), Value::List(Arc::new(scopes))),
        ];
        let auth = [(Key::from("jwt"), object(HashMap::from(jwt)))];
        let members = HashMap::from([
            (Key::from("method"), Value::from(method.as_str())),
            (Key::from("host"), Value::from(host)),
            (Key::from("path"), Value::from(path)),
            (Key::from("headers"), object(first)),
            (Key::from("headers_all"), object(all)),
            (Key::from("auth"), object(HashMap::from(auth))),
        ]);
        Self { members, size }
    }
}

type Members = HashMap<Key, Value>;

/// Returns headers by name: the first of each, and all.
fn read(headers: &HeaderMap, more: &[(HeaderName, String)], size: &mut usize) -> (Members, Members) {
    let mut first = Members::new();
    let mut all: HashMap<Key, Vec<Value>> = HashMap::new();
    let own = headers
        .iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(value.as_bytes())));
    let more = more.iter().map(|(name, value)| (name, value.as_str().into()));
    for (name, value) in own.chain(more) {
        *size += 1;
        let value = Value::from(&*value);
        first
            .entry(Key::from(name.as_str()))
            .or_insert_with(|| value.clone());
        all.entry(Key::from(name.as_str())).or_default().push(value);
    }
    let all = all
        .into_iter()
        .map(|(name, values)| (name, Value::List(Arc::new(values))));
    (first, all.collect())
}

/// Returns what is asked of a server; `None` where it cannot be said.
fn mcp(asked: &Asked<'_>, size: &mut usize) -> Option<Value> {
    let text = |name: Option<&str>| Value::from(name.unwrap_or_default());
    let (mut tool, mut prompt, mut resource) = (None, None, None);
    match asked.what {
        What::Tool(name) => tool = Some(name),
        What::Prompt(name) => prompt = Some(name),
        What::Resource(uri) => resource = Some(uri),
        What::Server => {}
    }
    let mut members = HashMap::from([
        (Key::from("method"), Value::from(asked.method)),
        (Key::from("backend"), Value::from(asked.backend)),
        (Key::from("tool"), text(tool)),
        (Key::from("prompt"), text(prompt)),
        (Key::from("resource"), text(resource)),
        (Key::from("listing"), Value::Bool(asked.params.is_none())),
    ]);
    if let Some(params) = asked.params {
        members.insert(Key::from("params"), value(params, MAX_DEPTH, size)?);
    }
    Some(object(members))
}

fn object(members: Members) -> Value {
    Value::Map(Map {
        map: Arc::new(members),
    })
}

/// Returns JSON as expressions see it; `None` if it is nested too deep. Counts its parts.
fn value(json: &Json, depth: usize, size: &mut usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    *size += 1;
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(own) => Value::Bool(*own),
        Json::Number(own) => match (own.as_i64(), own.as_u64()) {
            (Some(own), _) => Value::Int(own),
            (None, Some(own)) => Value::UInt(own),
            (None, None) => Value::Float(own.as_f64()?),
        },
        Json::String(own) => Value::from(own.as_str()),
        Json::Array(own) => {
            let own: Option<Vec<Value>> = own.iter().map(|own| value(own, depth, size)).collect();
            Value::List(Arc::new(own?))
        }
        Json::Object(own) => {
            let own = own.iter();
            let own: Option<Members> = own
                .map(|(name, own)| Some((Key::from(name.as_str()), value(own, depth, size)?)))
                .collect();
            object(own?)
        }
    })
}

/// Returns what an expression speaks of that there is not: a function, or a variable, as far as it has no loops, which
/// have variables of their own.
fn unknown(program: &Program, loops: u32) -> Option<String> {
    let references = program.references();
    let is_word = |name: &&str| name.starts_with(|first: char| first.is_ascii_alphabetic());
    let mut functions = references.functions();
    functions.retain(|name| is_word(name) && !FUNCTIONS.contains(name));
    let mut variables = references.variables();
    variables.retain(|name| loops == 0 && *name != VARIABLE && !TYPES.contains(name));
    let mut unknown = [functions, variables].concat();
    unknown.sort_unstable();
    unknown.first().map(|name| (*name).to_owned())
}

/// What expressions are about.
const VARIABLE: &str = "request";

/// The functions of the language, those for times and durations left out. The last ones are of optional values.
const FUNCTIONS: [&str; 20] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
    "hasValue",
    "none",
    "of",
    "ofNonZeroValue",
    "or",
    "orValue",
    "value",
];

/// Names of types, and of what functions of optional values stand below.
const TYPES: [&str; 12] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "optional",
    "optional_type",
    "string",
    "type",
    "uint",
];

/// Returns how many loops of an expression lie within each other.
fn loops(expression: &IdedExpr) -> u32 {
    let most = |parts: &[&IdedExpr]| parts.iter().map(|part| loops(part)).max().unwrap_or(0);
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => 0,
        Expr::Select(own) => loops(&own.operand),
        Expr::Call(own) => {
            let target = own.target.as_deref().map_or(0, loops);
            most(&own.args.iter().collect::<Vec<_>>()).max(target)
        }
        Expr::List(own) => most(&own.elements.iter().collect::<Vec<_>>()),
        Expr::Map(own) => own
            .entries
            .iter()
            .map(|entry| within(&entry.expr))
            .max()
            .unwrap_or(0),
        Expr::Struct(own) => own
            .entries
            .iter()
            .map(|entry| within(&entry.expr))
            .max()
            .unwrap_or(0),
        Expr::Comprehension(own) => {
            let parts = [
                &own.iter_range,
                &own.accu_init,
                &own.loop_cond,
                &own.loop_step,
                &own.result,
            ];
            most(&parts).saturating_add(1)
        }
    }
}

fn within(entry: &EntryExpr) -> u32 {
    match entry {
        EntryExpr::StructField(own) => loops(&own.value),
        EntryExpr::MapEntry(own) => loops(&own.key).max(loops(&own.value)),
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}
