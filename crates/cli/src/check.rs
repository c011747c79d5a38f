//! `tollgate check`: what a configuration means, without running it.

use std::{fmt::Write, process::ExitCode};

use anyhow::Context;
use config::{
    Condition, ConditionKind, Fault, Memory, Report, Severity,
    report::{Entry, ListenerStatus, ParentStatus},
};
use serde_json::{Value, json};
use tracing::Level;

use crate::{
    args::{Check, LogFormat, Output},
    console::print,
    explain,
    source::{self, Problem, Source},
};

/// Checks a configuration, and explains what becomes of a request if that is asked.
///
/// # Errors
/// If there is nothing to check.
pub(crate) fn run(arguments: Check) -> anyhow::Result<ExitCode> {
    let question = arguments
        .explain
        .as_deref()
        .map(|text| serde_json::from_str::<explain::Question>(text).context("--explain"))
        .transpose()?;
    let source = Source::choose(arguments.paths)?;
    let declared = source.load(source.read(), &mut Memory::default());
    let (snapshot, report) = config::resolve(&declared.resources, source::now());
    let problems = &declared.problems;
    let mut failed = report.has_errors()
        || problems
            .iter()
            .any(|problem| problem.severity() == Severity::Error);
    match &question {
        None => match arguments.output {
            Output::Text => {
                say(problems);
                print(table(&report))?;
            }
            Output::Json => print(format_args!("{:#}\n", document(&report, problems)))?,
        },
        Some(question) => {
            say(problems);
            let prefixes = arguments.prefixes.all();
            let explained = explain::explain(&declared.resources, &snapshot, question, &prefixes)?;
            failed |= !explained.is_served();
            match arguments.output {
                Output::Text => print(&explained)?,
                Output::Json => print(format_args!("{:#}\n", explained.document()))?,
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn say(problems: &[Problem]) {
    for problem in problems {
        LogFormat::Text.say(Level::WARN, problem);
    }
}

/// Returns a row per resource, and below it what is wrong with it.
fn table(report: &Report) -> String {
    let rows: Vec<[String; 4]> = report
        .entries
        .iter()
        .map(|entry| {
            [
                entry.kind.clone(),
                entry.key.to_string(),
                state(entry).to_owned(),
                entry.origin.to_string(),
            ]
        })
        .collect();
    let mut widths = HEADINGS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; 4]| {
        let cells = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    if rows.is_empty() {
        return "no resources\n".to_owned();
    }
    let mut table = line(HEADINGS);
    for (row, entry) in rows.iter().zip(&report.entries) {
        table.push_str(&line(row.each_ref().map(String::as_str)));
        let notable = entry
            .conditions
            .iter()
            .filter(|condition| condition.severity > Severity::Note);
        for condition in notable {
            let place = entry.place(condition);
            let _ = writeln!(table, "  {place}: {}: {condition}", condition.severity);
        }
    }
    table
}

/// Returns, in a word, what becomes of a resource.
fn state(entry: &Entry) -> &'static str {
    match entry.conditions.iter().map(|condition| condition.severity).max() {
        Some(Severity::Error) => "error",
        Some(Severity::Warning) => "warning",
        Some(Severity::Note) | None => "ok",
    }
}

fn document(report: &Report, problems: &[Problem]) -> Value {
    let faults: Vec<_> = problems.iter().map(fault).collect();
    let resources: Vec<_> = report
        .entries
        .iter()
        .map(|entry| {
            let mut document = json!({
                "kind": entry.kind,
                "namespace": entry.key.namespace,
                "name": entry.key.name,
                "state": state(entry),
                "file": &*entry.origin.file,
                "line": entry.origin.line,
                "column": entry.origin.column,
                "conditions": entry.conditions.iter().map(|own| condition(entry, own)).collect::<Vec<_>>(),
            });
            if !entry.listeners.is_empty() {
                document["listeners"] = entry.listeners.iter().map(listener).collect();
            }
            if !entry.parents.is_empty() {
                document["parents"] = entry.parents.iter().map(parent).collect();
            }
            document
        })
        .collect();
    json!({ "faults": faults, "resources": resources })
}

/// The conditions are those of the Gateway API; `true` is good of all but `Conflicted`.
fn listener(status: &ListenerStatus) -> Value {
    let trouble = status.trouble.as_ref();
    let of = |kind: ConditionKind, good: &str| {
        let own = trouble.filter(|(about, ..)| *about == kind);
        let holds = own.is_none() == (kind != ConditionKind::Conflicted);
        let (reason, message) = own.map_or((good, ""), |(_, reason, message)| (*reason, message));
        json!({ "type": kind.to_string(), "status": holds, "reason": reason, "message": message })
    };
    json!({
        "name": status.name,
        "supportedKinds": status.kinds,
        "attachedRoutes": status.attached_routes,
        "conditions": [
            of(ConditionKind::Accepted, "Accepted"),
            of(ConditionKind::ResolvedRefs, "ResolvedRefs"),
            of(ConditionKind::Conflicted, "NoConflicts"),
            json!({
                "type": "Programmed",
                "status": trouble.is_none(),
                "reason": if trouble.is_none() { "Programmed" } else { "Invalid" },
                "message": "",
            }),
        ],
    })
}

fn parent(status: &ParentStatus) -> Value {
    json!({
        "namespace": status.gateway.namespace,
        "name": status.gateway.name,
        "sectionName": status.section,
        "port": status.port,
        "accepted": status.accepted,
        "reason": status.reason,
        "message": status.message,
    })
}

fn condition(entry: &Entry, condition: &Condition) -> Value {
    let place = entry.place(condition);
    json!({
        "type": condition.kind.to_string(),
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "field": condition.field,
        "line": place.line,
        "column": place.column,
        "severity": condition.severity.to_string(),
    })
}

fn fault(problem: &Problem) -> Value {
    match problem {
        Problem::Unreadable { path, reason } => json!({
            "file": path.display().to_string(),
            "message": reason,
            "severity": problem.severity().to_string(),
        }),
        Problem::Fault(Fault {
            file,
            line,
            column,
            path,
            message,
            severity,
        }) => json!({
            "file": file,
            "line": line,
            "column": column,
            "field": path,
            "message": message,
            "severity": severity.to_string(),
        }),
    }
}

const HEADINGS: [&str; 4] = ["KIND", "NAME", "STATE", "DECLARED"];
