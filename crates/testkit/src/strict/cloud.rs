//! What clouds refuse of a request's head: Azure, Google and Amazon Bedrock, who serve others' formats under
//! paths and credentials of their own.

use super::{Refusal, openai::check_leaks};
use crate::upstream::Received;

/// The method that a path names, of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// The model.
    pub model: String,
    /// `generateContent`, `converse` and so on.
    pub name: String,
}

/// Judges the head of a request to Azure OpenAI; returns the operation behind the deployment, or `responses`.
///
/// # Errors
/// The refusal that the provider would send.
pub fn azure(request: &Received, key: &str) -> Result<Method, Refusal> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let named = path.strip_prefix("/openai/").and_then(|rest| {
        let Some(rest) = rest.strip_prefix("deployments/") else {
            return Some(("", rest));
        };
        rest.split_once('/')
    });
    let method = method(request, named)?;
    let version = query.strip_prefix("api-version=").unwrap_or_default();
    if !AZURE_VERSIONS.contains(&version) {
        return Err(not_found("Resource not found: api-version is missing or unknown"));
    }
    if method.name.starts_with("responses") && version < AZURE_RESPONSES {
        let message =
            format!("Azure OpenAI Responses API is enabled only for api-version {AZURE_RESPONSES} and later");
        return Err(Refusal::new("", &message));
    }
    if request.headers.get_all("api-key").iter().count() != 1 || request.header("api-key") != key {
        return Err(unauthenticated("Access denied due to invalid subscription key."));
    }
    if !request.header("content-type").starts_with("application/json") {
        return Err(Refusal::new("", "content-type must be application/json"));
    }
    check_leaks(request, &["api-key"])?;
    Ok(method)
}

/// The versions of the API of deployments, after "API version lifecycle" in Azure OpenAI's reference.
const AZURE_VERSIONS: &[&str] = &[
    "2024-02-01",
    "2024-06-01",
    "2024-07-01-preview",
    "2024-08-01-preview",
    "2024-09-01-preview",
    "2024-10-01-preview",
    "2024-10-21",
    "2024-12-01-preview",
    "2025-01-01-preview",
    "2025-02-01-preview",
    "2025-03-01-preview",
    "2025-04-01-preview",
];

/// The first version that serves Responses; versions are dates, in the order of their text.
const AZURE_RESPONSES: &str = "2025-03-01-preview";

/// Judges the head of a request to AI Studio.
///
/// # Errors
/// As [`azure`].
pub fn ai_studio(request: &Received, key: &str) -> Result<Method, Refusal> {
    let method = google(request, "/v1beta/models/")?;
    if request.header("x-goog-api-key") != key {
        return Err(unauthenticated("API key not valid. Please pass a valid API key."));
    }
    check_leaks(request, &[])?;
    Ok(method)
}

/// Judges the head of a request to a model of `publisher` at Vertex AI.
///
/// # Errors
/// As [`azure`].
pub fn vertex(request: &Received, key: &str, publisher: &str) -> Result<Method, Refusal> {
    let folder = format!("/publishers/{publisher}/models/");
    let (place, rest) = request.target.split_once(&folder).unwrap_or_default();
    if !is_place(place, publisher) {
        return Err(not_found(&format!("no such place: {place}")));
    }
    let before = request.target.strip_suffix(rest).unwrap_or_default();
    let method = google(request, before)?;
    let given = request.headers.get_all("authorization").iter().count();
    if given != 1 || request.header("authorization") != format!("Bearer {key}") {
        return Err(unauthenticated("Request had invalid authentication credentials."));
    }
    if !request.header("content-type").starts_with("application/json") {
        return Err(Refusal::new("", "content-type must be application/json"));
    }
    check_leaks(request, &["authorization"])?;
    Ok(method)
}

/// Returns whether models of `publisher` are at `place`: in a project and a location of it, and Google's own
/// without either (express mode).
fn is_place(place: &str, publisher: &str) -> bool {
    let segments: Vec<&str> = place.split('/').collect();
    match segments[..] {
        ["", "v1" | "v1beta1", "projects", project, "locations", location] => {
            !project.is_empty() && !location.is_empty()
        }
        ["", "v1" | "v1beta1"] => publisher == "google",
        _ => false,
    }
}

/// Judges the head of a request to Amazon Bedrock: an API key, or a signature (Signature Version 4).
///
/// # Errors
/// As [`azure`].
pub fn bedrock(request: &Received, key: &str) -> Result<Method, Refusal> {
    let named = request
        .target
        .strip_prefix("/model/")
        .and_then(|rest| rest.rsplit_once('/'));
    let method = method(request, named)?;
    let authorization = request.header("authorization");
    let known = match authorization.strip_prefix("AWS4-HMAC-SHA256 ") {
        Some(signed) => signature(request, signed, key)?,
        None => authorization == format!("Bearer {key}"),
    };
    if !known {
        let message = "The security token included in the request is invalid.";
        return Err(unauthenticated(message));
    }
    check_leaks(request, &["authorization"])?;
    Ok(method)
}

/// Judges the syntax of a signature; returns whether its access key is `key`.
fn signature(request: &Received, signed: &str, key: &str) -> Result<bool, Refusal> {
    let wrong = |message: &str| Err(unauthenticated(message));
    let mut credential = Vec::new();
    let mut headers = Vec::new();
    let mut signature = "";
    for pair in signed.split(',') {
        match pair.trim().split_once('=') {
            Some(("Credential", scope)) => credential = scope.split('/').collect(),
            Some(("SignedHeaders", names)) => headers = names.split(';').collect(),
            Some(("Signature", value)) => signature = value,
            _ => return wrong("Authorization header has a part that is unknown."),
        }
    }
    let [access, date, _region, "bedrock", "aws4_request"] = credential[..] else {
        return wrong("Credential should be scoped to a valid region and to the service 'bedrock'.");
    };
    let time = request.header("x-amz-date");
    let is_time = time.len() == 16 && time.starts_with(date) && time.ends_with('Z') && date.len() == 8;
    if !is_time {
        return wrong("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date.");
    }
    let lower = headers.iter().all(|name| name.to_ascii_lowercase() == **name);
    if !headers.is_sorted() || !lower || !["host", "x-amz-date"].iter().all(|name| headers.contains(name)) {
        return wrong("SignedHeaders must be sorted, in lower case, and hold host and x-amz-date.");
    }
    if headers.iter().any(|name| !request.headers.contains_key(*name)) {
        return wrong("A header that was signed is missing.");
    }
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if signature.len() != 64 || !signature.bytes().all(is_hex) {
        return wrong("Signature is not 64 hexadecimal digits.");
    }
    Ok(access == key)
}

fn google(request: &Received, before: &str) -> Result<Method, Refusal> {
    let path = request.target.split('?').next().unwrap_or_default();
    let named = path.strip_prefix(before).and_then(|rest| rest.rsplit_once(':'));
    let before = before.is_empty().then(|| path.rsplit_once(':')).flatten();
    let method = method(request, named.or(before))?;
    let streams = method.name.starts_with("stream");
    let events = request.target.ends_with("?alt=sse");
    if streams && method.name != "streamRawPredict" && !events {
        return Err(not_found("the stream would be an array, which nobody asked for"));
    }
    Ok(method)
}

fn method(request: &Received, named: Option<(&str, &str)>) -> Result<Method, Refusal> {
    match named {
        Some((model, name)) if request.method == "POST" && !name.is_empty() => Ok(Method {
            model: model.replace("%2F", "/").replace("%3A", ":"),
            name: name.to_owned(),
        }),
        _ => Err(not_found(&format!(
            "no such path: {} {}",
            request.method, request.target
        ))),
    }
}

fn not_found(message: &str) -> Refusal {
    Refusal {
        status: 404,
        kind: "not_found_error",
        param: String::new(),
        message: message.to_owned(),
    }
}

fn unauthenticated(message: &str) -> Refusal {
    Refusal {
        status: 401,
        kind: "authentication_error",
        param: String::new(),
        message: message.to_owned(),
    }
}
