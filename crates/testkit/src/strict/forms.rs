//! What OpenAI's endpoints refuse that take a form with a file.
//!
//! Rules: <https://platform.openai.com/docs/api-reference/audio/createTranscription> and
//! <https://platform.openai.com/docs/api-reference/images/createEdit>.

use super::{Refusal, openai::check_leaks};
use crate::upstream::{Received, find};

/// A form, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form(Vec<Part>);

/// A part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The field.
    pub name: String,
    /// The name of the file; empty where the part is none.
    pub file: String,
    /// The content.
    pub content: Vec<u8>,
}

impl Form {
    /// Returns the value of a field; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        let part = self
            .0
            .iter()
            .find(|part| part.name == name && part.file.is_empty());
        part.map(|part| String::from_utf8_lossy(&part.content).into_owned())
            .unwrap_or_default()
    }

    /// Returns the files of a field, be it one or a list.
    pub fn files(&self, name: &str) -> Vec<&Part> {
        let list = format!("{name}[]");
        let named = |part: &&Part| part.name == name || part.name == list;
        self.0
            .iter()
            .filter(named)
            .filter(|part| !part.file.is_empty())
            .collect()
    }
}

/// Judges a request with a form that must have a file called `file`; returns the form.
///
/// # Errors
/// The refusal that the provider would send.
pub fn check(request: &Received, key: &str, file: &str) -> Result<Form, Refusal> {
    if request.headers.get_all("authorization").iter().count() != 1
        || request.header("authorization") != format!("Bearer {key}")
    {
        return Err(Refusal {
            status: 401,
            kind: "invalid_request_error",
            param: String::new(),
            message: "Incorrect API key provided.".to_owned(),
        });
    }
    check_leaks(request, &["authorization"])?;
    let form = parse(request)?;
    if form.text("model").is_empty() {
        return Err(Refusal::invalid("model", "you must provide a model parameter"));
    }
    if form.0.iter().filter(|part| part.name == "model").count() > 1 {
        return Err(Refusal::invalid("model", "there is more than one model"));
    }
    if form.files(file).iter().all(|part| part.content.is_empty()) {
        return Err(Refusal::invalid(file, "a file is required"));
    }
    Ok(form)
}

fn parse(request: &Received) -> Result<Form, Refusal> {
    let broken = |message: &str| Refusal::invalid("", format!("Could not parse multipart form: {message}"));
    let boundary = request
        .header("content-type")
        .strip_prefix("multipart/form-data; boundary=")
        .ok_or_else(|| broken("the content-type is not that of one"))?
        .trim_matches('"');
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = [b"\r\n", request.body.as_ref()].concat();
    let mut form = Form::default();
    loop {
        let at = find(&rest, delimiter.as_bytes()).ok_or_else(|| broken("no boundary follows"))?;
        let content: Vec<u8> = rest.drain(..at).collect();
        rest.drain(..delimiter.len());
        match form.0.last_mut() {
            Some(part) => part.content = content,
            None if content.is_empty() => {}
            None => return Err(broken("something stands before the first part")),
        }
        if rest == b"--\r\n" || rest == b"--" {
            return Ok(form);
        }
        let end = find(&rest, b"\r\n\r\n").ok_or_else(|| broken("the headers of a part do not end"))?;
        let head: Vec<u8> = rest.drain(..end + 4).collect();
        form.0.push(part(&String::from_utf8_lossy(&head)));
    }
}

fn part(head: &str) -> Part {
    let parameter = |name: &str| {
        let (_, rest) = head.split_once(&format!("; {name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    Part {
        name: parameter("name").unwrap_or_default(),
        file: parameter("filename").unwrap_or_default(),
        content: Vec::new(),
    }
}
