//! `tollgate explain`: what a running gateway decided about a request, and why, for a person.

use std::{
    fmt::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use http::Uri;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{
    admin,
    args::{Explain, Output},
    console,
};

/// Prints what was decided about one request, or the list of recent ones.
///
/// # Errors
/// If the gateway cannot be asked, or does not know the request.
pub(crate) fn run(arguments: &Explain) -> anyhow::Result<ExitCode> {
    let Explain { id, admin, output } = arguments;
    let path = match id {
        Some(id) => format!("/{}", utf8_percent_encode(id, NON_ALPHANUMERIC)),
        None => String::new(),
    };
    let address = admin.trim_start_matches("http://").trim_end_matches('/');
    let url = format!("http://{address}/debug/requests{path}");
    let url = Uri::try_from(url).with_context(|| format!("{admin} is not an address"))?;
    let answer = admin::ask(url, BUDGET)?;
    let body = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        bail!("{}", body.trim_end());
    }
    let told: Value = serde_json::from_str(&body).context("the answer is not what a gateway tells")?;
    let told = match (output, id) {
        (Output::Json, _) => format!("{told:#}\n"),
        (Output::Text, Some(_)) => Decision(&told).to_string(),
        (Output::Text, None) => List(&told).to_string(),
    };
    console::print(told)?;
    Ok(ExitCode::SUCCESS)
}

/// How long the gateway may take.
const BUDGET: Duration = Duration::from_secs(10);

/// Recent requests, one a line.
struct List<'a>(&'a Value);

/// One request.
struct Decision<'a>(&'a Value);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in items(self.0) {
            let what = match entry["tool"].as_str() {
                Some(tool) => tool.escape_debug().to_string(),
                None => format!("model {}", text(&entry["model"])),
            };
            writeln!(
                f,
                "{}  {}  {} {} {}  {what}  {} ms, attempts: {}",
                text(&entry["began"]),
                text(&entry["id"]),
                text(&entry["path"]),
                text(&entry["status"]),
                text(&entry["outcome"]),
                text(&entry["duration"]),
                text(&entry["attempts"]),
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.0;
        writeln!(
            f,
            "{}  {}  {} {} at {}",
            text(&told["id"]),
            text(&told["began"]),
            text(&told["method"]),
            text(&told["path"]),
            text(&told["host"])
        )?;
        write!(
            f,
            "answered with {} after {} ms: {}",
            text(&told["status"]),
            text(&told["duration"]),
            text(&told["outcome"])
        )?;
        for (name, value) in [("error", &told["error"]), ("because", &told["refusal"])] {
            if !value.is_null() {
                write!(f, ", {name}: {}", text(value))?;
            }
        }
        writeln!(f)?;
        route(f, told)?;
        items(&told["candidates"])
            .iter()
            .try_for_each(|candidate| self.candidate(f, candidate))?;
        self.attempts(f)?;
        items(&told["messages"])
            .iter()
            .try_for_each(|told| message(f, told))?;
        self.answer(f)
    }
}

impl Decision<'_> {
    fn candidate(&self, f: &mut fmt::Formatter<'_>, candidate: &Value) -> fmt::Result {
        write!(
            f,
            "  priority {}, weight {}: {}",
            text(&candidate["priority"]),
            text(&candidate["weight"]),
            text(&candidate["id"])
        )?;
        if !candidate["provider"].is_null() {
            write!(
                f,
                " ({}), model {}",
                text(&candidate["provider"]),
                text(&candidate["model"])
            )?;
        }
        if !candidate["credential"].is_null() {
            write!(f, ", credential of {}", text(&candidate["credential"]))?;
        }
        if candidate["quota"] == true {
            write!(f, ", within a quota")?;
        }
        let tried = items(&self.0["attempts"]).iter().enumerate();
        let tries: Vec<String> = tried
            .filter(|(_, attempt)| attempt["candidate"] == candidate["id"])
            .map(|(index, _)| format!("attempt {}", index + 1))
            .collect();
        match candidate["leftOut"].as_str() {
            Some(why) => writeln!(f, ": left out, {why}"),
            None => writeln!(f, ": {}", tries.join(", ")),
        }
    }

    fn attempts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = items(&self.0["attempts"]);
        if !attempts.is_empty() {
            writeln!(f, "attempts")?;
        }
        for (index, attempt) in attempts.iter().enumerate() {
            write!(
                f,
                "  {}. {}, after {} ms",
                index + 1,
                text(&attempt["candidate"]),
                text(&attempt["begun"])
            )?;
            if !attempt["took"].is_null() {
                write!(f, ", for {} ms", text(&attempt["took"]))?;
            }
            write!(f, ": {}", text(&attempt["outcome"]))?;
            if !attempt["error"].is_null() {
                write!(f, ", {} ({})", text(&attempt["error"]), text(&attempt["status"]))?;
            }
            if !attempt["reason"].is_null() {
                write!(f, ": {}", text(&attempt["reason"]))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn answer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.0;
        for loss in items(&told["losses"]) {
            writeln!(
                f,
                "lost: {} ({}): {}",
                text(&loss["field"]),
                text(&loss["severity"]),
                text(&loss["reason"])
            )?;
        }
        let mut said = String::new();
        for (value, name) in [
            (&told["answer"]["model"], "by"),
            (&told["answer"]["finish"], "ended with"),
            (&told["answer"]["timeToFirstToken"], "first bytes after ms"),
            (&told["usage"]["input"], "tokens in"),
            (&told["usage"]["output"], "tokens out"),
            (&told["usage"]["reasoning"], "of them reasoning"),
            (&told["usage"]["audioSeconds"], "seconds of audio"),
        ] {
            if !value.is_null() {
                let comma = if said.is_empty() { "" } else { ", " };
                write!(said, "{comma}{name} {}", text(value))?;
            }
        }
        if !said.is_empty() {
            writeln!(f, "answer: {said}")?;
        }
        charged(f, told)
    }
}

fn route(f: &mut fmt::Formatter<'_>, told: &Value) -> fmt::Result {
    let streamed = if told["streamed"] == true {
        ", streamed"
    } else {
        ""
    };
    if told["route"].is_null() {
        return Ok(());
    }
    if told["rule"].is_null() {
        return writeln!(f, "route {}", text(&told["route"]));
    }
    write!(
        f,
        "model {} ({}{streamed}): {} rule {}",
        text(&told["model"]),
        text(&told["operation"]),
        text(&told["route"]),
        text(&told["rule"])
    )?;
    if !told["ruleName"].is_null() {
        write!(f, " ({})", text(&told["ruleName"]))?;
    }
    writeln!(f)
}

/// Says which limits were asked, and what the request was charged.
fn charged(f: &mut fmt::Formatter<'_>, told: &Value) -> fmt::Result {
    let limits: Vec<String> = items(&told["limits"]).iter().map(text).collect();
    if !limits.is_empty() {
        writeln!(f, "limits: {}", limits.join(", "))?;
    }
    let costs = told["costs"]["charged"].as_object();
    let costs: Vec<String> = costs
        .into_iter()
        .flatten()
        .map(|(name, number)| format!("{} {number}", name.escape_debug()))
        .collect();
    let estimated = if told["costs"]["estimated"] == true {
        ", estimated in part"
    } else {
        ""
    };
    if !costs.is_empty() {
        writeln!(f, "charged: {}{estimated}", costs.join(", "))?;
    }
    let money = &told["costs"]["money"];
    if money.is_null() {
        return Ok(());
    }
    writeln!(
        f,
        "spent: {} {} (prompt {}, answer {}){estimated}",
        amount(&money["total"]),
        text(&money["currency"]),
        amount(&money["prompt"]),
        amount(&money["answer"])
    )
}

/// Says what became of a message of MCP, and who was called for it.
fn message(f: &mut fmt::Formatter<'_>, told: &Value) -> fmt::Result {
    write!(f, "message {}", text(&told["method"]))?;
    for (name, value) in [("", &told["name"]), ("", &told["uri"]), ("id ", &told["id"])] {
        if !value.is_null() {
            write!(f, " {name}{}", text(value))?;
        }
    }
    write!(f, ": {} after {} ms", text(&told["status"]), text(&told["took"]))?;
    for (name, value) in [
        ("error", &told["error"]),
        ("code", &told["code"]),
        ("items", &told["items"]),
    ] {
        if !value.is_null() {
            write!(f, ", {name}: {}", text(value))?;
        }
    }
    writeln!(f)?;
    for call in items(&told["calls"]) {
        let opens = if call["new"] == true {
            ", opening a session"
        } else {
            ""
        };
        write!(
            f,
            "  {}{opens}, after {} ms, for {} ms",
            text(&call["backend"]),
            text(&call["begun"]),
            text(&call["took"])
        )?;
        match call["failure"].as_str() {
            Some(failure) => writeln!(f, ": failed, {failure}")?,
            None => writeln!(f, ": answered")?,
        }
    }
    Ok(())
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns an amount without an exponent.
fn amount(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| text(value), |amount| amount.to_string())
}

/// Returns a value as a person reads it. What clients have chosen must not move the cursor.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().fold(String::new(), |mut said, char| {
            match char {
                '"' | '\'' => said.push(char),
                other => said.extend(other.escape_debug()),
            }
            said
        }),
        Value::Null => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
