//! What the clouds that serve Claude refuse of flags (`anthropic-beta`) and of members that go with them.

use serde_json::{Map, Value};

use super::{Refusal, array, object};
use crate::upstream::Received;

/// Judges and takes out of a body of InvokeModel the version and the flags: an unknown flag is refused, and so is a
/// member without its flag.
///
/// # Errors
/// The refusal that the provider would send.
pub fn check_body(body: &mut Value) -> Result<(), Refusal> {
    let Some(members) = body.as_object_mut() else {
        return Err(Refusal::new("", "an object is expected"));
    };
    members.remove("anthropic_version");
    let flags = members
        .remove("anthropic_beta")
        .unwrap_or(Value::Array(Vec::new()));
    let flags = flags
        .as_array()
        .ok_or_else(|| Refusal::new("anthropic_beta", "an array is expected"))?;
    check(flags, members)
}

/// Judges the members that Converse hands on to Claude.
///
/// # Errors
/// As [`check_body`].
pub fn check_fields(fields: &Value) -> Result<(), Refusal> {
    let fields = object(fields, "additionalModelRequestFields")?;
    check(
        array(fields, "anthropic_beta", "additionalModelRequestFields")?,
        fields,
    )
}

/// Judges the header of a request to Vertex AI.
///
/// # Errors
/// As [`check_body`].
pub fn check_header(request: &Received) -> Result<(), Refusal> {
    let header = request.header("anthropic-beta");
    let refused = header
        .split(',')
        .map(str::trim)
        .find(|flag| VERTEX_REFUSES.iter().any(|refused| flag.starts_with(refused)));
    match refused {
        Some(flag) => {
            let message = format!("Unexpected value(s) `{flag}` for the `anthropic-beta` header.");
            Err(Refusal::new("", &message))
        }
        None => Ok(()),
    }
}

fn check(flags: &[Value], members: &Map<String, Value>) -> Result<(), Refusal> {
    let mut seen = Vec::new();
    for flag in flags {
        let flag = flag.as_str().unwrap_or_default();
        if !BEDROCK_TAKES.contains(&flag) || seen.contains(&flag) {
            return Err(Refusal::new("", "invalid beta flag"));
        }
        seen.push(flag);
    }
    for (key, flag) in UNLOCKED {
        if members.contains_key(*key) && !seen.iter().any(|seen| seen.starts_with(flag)) {
            return Err(Refusal::new(key, "Extra inputs are not permitted"));
        }
    }
    Ok(())
}

/// Members that are refused without a flag that begins so.
const UNLOCKED: &[(&str, &str)] = &[
    ("container", "skills-"),
    ("context_management", "context-management-"),
    ("mcp_servers", "mcp-client-"),
    ("speed", "fast-mode-"),
];

const VERTEX_REFUSES: &[&str] = &[
    "adaptive-thinking-",
    "code-execution-",
    "effort-",
    "fast-mode-",
    "files-api-",
    "mcp-client-",
    "prompt-caching-scope-",
    "skills-",
    "structured-outputs-",
];

const BEDROCK_TAKES: &[&str] = &[
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14",
    "effort-2025-11-24",
    "fine-grained-tool-streaming-2025-05-14",
    "interleaved-thinking-2025-05-14",
    "mcp-client-2025-04-04",
    "mcp-client-2025-11-20",
    "model-context-window-exceeded-2025-08-26",
    "output-128k-2025-02-19",
    "pdfs-2024-09-25",
    "search-results-2025-06-09",
    "token-counting-2024-11-01",
    "token-efficient-tools-2025-02-19",
    "tool-examples-2025-10-29",
    "tool-search-tool-2025-10-19",
    "web-search-2025-03-05",
];
