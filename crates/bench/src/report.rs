//! What is said of the results: a table per case and a verdict per target, for a terminal, for a README and for
//! programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    case::{self, Case},
    machine::Machine,
    run::{
        CaseResult, DIRECT, ENVOY, Figures, Results, Row, TOLLGATE, TOLLGATE_LIMITS, TOLLGATE_MANY,
        TOLLGATE_REDIS, TOLLGATE_SILENT, TOLLGATE_TRACED, median,
    },
};

const MB: f64 = (1 << 20) as f64;

/// One target of the project, judged.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) target: String,
    /// The most that is allowed, and what was measured; in `unit`.
    pub(crate) limit: f64,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
}

impl Verdict {
    fn word(&self) -> &'static str {
        if self.measured.is_nan() {
            "not measured"
        } else if self.measured <= self.limit {
            "met"
        } else {
            "MISSED"
        }
    }
}

/// Medians of one row. Not a number where nothing was measured.
struct Summary {
    rate: f64,
    p50: f64,
    p99: f64,
    p50_added: f64,
    p99_added: f64,
    first_byte: f64,
    cpu: f64,
    to_envoy: f64,
    resident: f64,
    peak: f64,
    errors: usize,
}

impl Row {
    /// Returns the median of a figure.
    pub(crate) fn median(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        median(&self.rounds.iter().map(of).collect::<Vec<_>>())
    }

    /// Returns the median of a figure's ratio to that of `other` in the same round.
    pub(crate) fn ratio(&self, other: Option<&Row>, of: impl Fn(&Figures) -> f64) -> f64 {
        let rounds = other.map(|other| other.rounds.as_slice()).unwrap_or_default();
        median(
            &self
                .rounds
                .iter()
                .zip(rounds)
                .map(|(a, b)| of(a) / of(b))
                .collect::<Vec<_>>(),
        )
    }
}

impl CaseResult {
    fn row(&self, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == contender)
    }

    fn summary(&self, row: &Row) -> Summary {
        let direct = |of: fn(&Figures) -> f64| self.row(DIRECT).map_or(f64::NAN, |row| row.median(of));
        let (p50, p99) = (row.median(|round| round.p50), row.median(|round| round.p99));
        let memory = |of: fn(&crate::process::Memory) -> u64| {
            row.median(|round| round.memory.as_ref().map_or(f64::NAN, |memory| of(memory) as f64))
        };
        Summary {
            rate: row.median(|round| round.rate),
            p50,
            p99,
            p50_added: p50 - direct(|round| round.p50),
            p99_added: p99 - direct(|round| round.p99),
            first_byte: row.median(|round| round.first_byte),
            cpu: row.median(cpu),
            to_envoy: row.ratio(self.row(ENVOY), cpu),
            resident: memory(|memory| memory.resident),
            peak: memory(|memory| memory.peak),
            errors: row.rounds.iter().map(|round| round.errors.len()).sum(),
        }
    }
}

/// Returns the processor time per request of a round.
pub(crate) fn cpu(round: &Figures) -> f64 {
    round.cpu.unwrap_or(f64::NAN)
}

impl Results {
    /// Returns whether some request was not answered as it should.
    pub(crate) fn has_errors(&self) -> bool {
        let rounds = self
            .cases
            .iter()
            .flat_map(|case| &case.rows)
            .flat_map(|row| &row.rounds);
        rounds.into_iter().any(|round| !round.errors.is_empty())
            || self.memory.iter().any(|memory| !memory.errors.is_empty())
            || self.mcp.errors().next().is_some()
    }

    /// Returns the report for a terminal.
    pub(crate) fn text(&self, machine: &Machine) -> String {
        let mut text = format!("{machine}\n");
        for (name, version) in &self.versions {
            line(&mut text, format_args!("{name} {version}"));
        }
        for (name, reason) in &self.missing {
            line(&mut text, format_args!("{name}: not available ({reason})"));
        }
        for result in &self.cases {
            line(
                &mut text,
                format_args!("\n{}: {}", result.case.name, describe(result.case)),
            );
            text.push_str(&table(&case_rows(result)));
            for row in &result.rows {
                if let Some(error) = row.rounds.iter().find_map(|round| round.errors.first()) {
                    line(&mut text, format_args!("  {}: {error}", row.contender));
                }
            }
        }
        if !self.starts.is_empty() {
            text.push_str("\nstart and idle\n");
            text.push_str(&table(&self.start_rows()));
        }
        if !self.memory.is_empty() {
            text.push_str("\nmemory: 10 MB prompts, 8 in flight, over idle\n");
            text.push_str(&table(&self.memory_rows()));
            for memory in &self.memory {
                if let Some(error) = memory.errors.first() {
                    line(&mut text, format_args!("  {}: {error}", memory.contender));
                }
            }
        }
        if !self.mcp.is_empty() {
            text.push_str("\nmcp: through the gateway, and at the server itself\n");
            text.push_str(&table(&self.mcp.rows()));
            if let Some(error) = self.mcp.errors().next() {
                line(&mut text, format_args!("  {error}"));
            }
        }
        text.push_str("\ntargets\n");
        text.push_str(&table(&self.verdict_rows()));
        text
    }

    /// Returns the report for a README: one row per case.
    pub(crate) fn markdown(&self, machine: &Machine) -> String {
        let mut text = format!("{machine}\n");
        let versions: Vec<String> = self
            .versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        line(&mut text, format_args!("{}\n", versions.join(", ")));
        text.push_str(
            "| case | CPU µs per request: nginx | Envoy | Tollgate | to Envoy | target | requests/s: Envoy | Tollgate \
             | p50 added, µs: Envoy | Tollgate | p99 added, µs: Envoy | Tollgate |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for result in self
            .cases
            .iter()
            .filter(|result| result.case.field == case::Field::Proxies)
        {
            let of = |contender: &str| result.row(contender).map(|row| result.summary(row));
            let (nginx, envoy, tollgate) = (of("nginx"), of(ENVOY), of(TOLLGATE));
            let show = |summary: &Option<Summary>, figure: fn(&Summary) -> f64| {
                summary
                    .as_ref()
                    .map_or("–".to_owned(), |summary| number(figure(summary)))
            };
            let cells = [
                result.case.title.to_owned(),
                show(&nginx, |it| it.cpu),
                show(&envoy, |it| it.cpu),
                show(&tollgate, |it| it.cpu),
                tollgate.as_ref().map_or("–".to_owned(), |it| ratio(it.to_envoy)),
                result
                    .case
                    .limit
                    .map_or(String::new(), |limit| format!("≤ {limit}")),
                show(&envoy, |it| it.rate),
                show(&tollgate, |it| it.rate),
                show(&envoy, |it| it.p50_added),
                show(&tollgate, |it| it.p50_added),
                show(&envoy, |it| it.p99_added),
                show(&tollgate, |it| it.p99_added),
            ];
            line(&mut text, format_args!("| {} |", cells.join(" | ")));
        }
        for rows in [
            self.start_rows(),
            self.memory_rows(),
            self.mcp.rows(),
            self.verdict_rows(),
        ] {
            if let Some((head, rows)) = rows.split_first().filter(|(_, rows)| !rows.is_empty()) {
                line(
                    &mut text,
                    format_args!("\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len())),
                );
                for row in rows {
                    line(&mut text, format_args!("| {} |", row.join(" | ")));
                }
            }
        }
        text
    }

    /// Returns the report for programs; figures that were not measured are null.
    pub(crate) fn json(&self, machine: &Machine) -> Value {
        let cases = self.cases.iter().map(|result| {
            let rows: Vec<Value> = result.rows.iter().map(|row| row_json(result, row)).collect();
            json!({"name": result.case.name, "title": result.case.title, "connections": result.case.connections, "rows": rows})
        });
        let starts = self.starts.iter().map(
            |start| json!({"contender": start.contender, "ready_ms": start.ready, "idle_bytes": start.idle, "reload_ms": start.reload}),
        );
        let memory = self.memory.iter().map(|memory| {
            json!({"contender": memory.contender, "translate": memory.translate, "bodies": memory.bodies, "errors": memory.errors.len()})
        });
        let verdicts = self.verdicts().into_iter().map(|verdict| {
            let word = verdict.word();
            json!({"target": verdict.target, "limit": verdict.limit, "measured": verdict.measured, "unit": verdict.unit, "verdict": word})
        });
        json!({
            "machine": machine.json(),
            "versions": self.versions.iter().map(|(name, version)| json!({"name": name, "version": version})).collect::<Value>(),
            "missing": self.missing.iter().map(|(name, reason)| json!({"name": name, "reason": reason})).collect::<Value>(),
            "cases": cases.collect::<Value>(),
            "starts": starts.collect::<Value>(),
            "memory": memory.collect::<Value>(),
            "mcp": self.mcp.json(),
            "verdicts": verdicts.collect::<Value>(),
        })
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for result in &self.cases {
            let tollgate = result.row(TOLLGATE);
            if let Some(limit) = result.case.limit {
                verdicts.push(Verdict {
                    target: format!("CPU per request to Envoy's: {}", result.case.title),
                    limit,
                    measured: tollgate.map_or(f64::NAN, |row| row.ratio(result.row(ENVOY), cpu)),
                    unit: "×",
                });
            }
            if let Some(limit) = result.case.relay_limit {
                let relay = self
                    .cases
                    .iter()
                    .find(|other| other.case.name == case::RELAY_STREAM);
                let relay = relay.and_then(|relay| relay.row(TOLLGATE));
                verdicts.push(Verdict {
                    target: format!(
                        "CPU per request to that of the relayed stream: {}",
                        result.case.title
                    ),
                    limit,
                    measured: tollgate.map_or(f64::NAN, |row| row.ratio(relay, cpu)),
                    unit: "×",
                });
            }
            if result.case.field == case::Field::Models {
                let many = result.row(TOLLGATE_MANY);
                verdicts.push(Verdict {
                    target: format!("p50 with 10,000 models to that with 10: {}", result.case.name),
                    limit: case::limit::MODELS,
                    measured: many.map_or(f64::NAN, |row| row.ratio(tollgate, |round| round.p50)),
                    unit: "×",
                });
            }
        }
        let limits = self.cases.iter();
        for result in limits.filter(|result| result.case.field == case::Field::Limits) {
            verdicts.extend(limited(result));
        }
        let telling = self.cases.iter();
        for result in telling.filter(|result| result.case.field == case::Field::Telling) {
            verdicts.extend(told(result));
        }
        verdicts.extend(self.limiter.map(|time| Verdict {
            target: "CPU of holding a request against a limit in memory, by itself".to_owned(),
            limit: case::limit::LIMIT.as_secs_f64() * 1e6,
            measured: time.as_secs_f64() * 1e6,
            unit: "µs",
        }));
        for start in self.starts.iter().filter(|start| start.contender == TOLLGATE) {
            verdicts.push(Verdict {
                target: "ready after start".to_owned(),
                limit: case::limit::READY.as_secs_f64() * 1000.0,
                measured: start.ready,
                unit: "ms",
            });
            verdicts.push(Verdict {
                target: "resident when idle".to_owned(),
                limit: case::limit::IDLE / MB,
                measured: start.idle / MB,
                unit: "MB",
            });
        }
        let many = self
            .starts
            .iter()
            .filter(|start| start.contender == TOLLGATE_MANY);
        for start in many {
            verdicts.push(Verdict {
                target: "ready after start with 2,000 routes, 10,000 models".to_owned(),
                limit: case::limit::LOADED.as_secs_f64() * 1000.0,
                measured: start.ready,
                unit: "ms",
            });
            verdicts.push(Verdict {
                target: "reload of one of 2,000 routes".to_owned(),
                limit: case::limit::RELOADED.as_secs_f64() * 1000.0,
                measured: start.reload.unwrap_or(f64::NAN),
                unit: "ms",
            });
        }
        for memory in self.memory.iter().filter(|memory| memory.contender == TOLLGATE) {
            verdicts.push(Verdict {
                target: format!("memory per 10 MB request in flight: {}", mode(memory.translate)),
                limit: case::limit::MEMORY,
                measured: memory.bodies,
                unit: "bodies",
            });
        }
        verdicts.extend(self.mcp.verdicts());
        verdicts
    }

    fn start_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![cells(["", "ready, ms", "idle RSS, MB", "reload, ms"])];
        rows.extend(self.starts.iter().map(|start| {
            vec![
                start.contender.to_owned(),
                ratio(start.ready),
                ratio(start.idle / MB),
                start.reload.map(ratio).unwrap_or_default(),
            ]
        }));
        rows
    }

    fn memory_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![cells(["", "mode", "bodies per request in flight", "errors"])];
        rows.extend(self.memory.iter().map(|memory| {
            vec![
                memory.contender.to_owned(),
                mode(memory.translate).to_owned(),
                ratio(memory.bodies),
                memory.errors.len().to_string(),
            ]
        }));
        rows
    }

    fn verdict_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![cells(["target", "at most", "measured", "verdict"])];
        rows.extend(self.verdicts().iter().map(|verdict| {
            let Verdict {
                target,
                limit,
                measured,
                unit,
            } = verdict;
            vec![
                target.clone(),
                format!("{limit} {unit}"),
                format!("{} {unit}", ratio(*measured)),
                verdict.word().to_owned(),
            ]
        }));
        rows
    }
}

/// Judges what limits add to a request.
fn limited(result: &CaseResult) -> Vec<Verdict> {
    let plain = result.row(TOLLGATE);
    let counting = [("in memory", TOLLGATE_LIMITS), ("in Redis", TOLLGATE_REDIS)];
    let mut verdicts: Vec<_> = counting
        .into_iter()
        .filter_map(|(place, contender)| Some((place, result.row(contender)?)))
        .map(|(place, row)| Verdict {
            target: format!("CPU per request with limits {place} to that without"),
            limit: case::limit::LIMITED,
            measured: row.ratio(plain, cpu),
            unit: "×",
        })
        .collect();
    if let Some((row, plain)) = result.row(TOLLGATE_LIMITS).zip(plain) {
        let rounds = row.rounds.iter().zip(&plain.rounds);
        let added: Vec<f64> = rounds.map(|(row, plain)| cpu(row) - cpu(plain)).collect();
        verdicts.push(Verdict {
            target: "CPU that a limit in memory adds".to_owned(),
            limit: case::limit::LIMIT.as_secs_f64() * 1e6,
            measured: median(&added),
            unit: "µs",
        });
    }
    verdicts
}

/// Judges what it costs that requests are told of.
fn told(result: &CaseResult) -> Vec<Verdict> {
    let judged = [
        (
            TOLLGATE_TRACED,
            TOLLGATE,
            "CPU per request with its whole span to that without",
            case::limit::TRACED,
        ),
        (
            TOLLGATE,
            TOLLGATE_SILENT,
            "CPU per request with its record to that without",
            case::limit::RECORDED,
        ),
    ];
    let verdicts = judged.into_iter().filter_map(|(row, plain, target, limit)| {
        Some(Verdict {
            target: target.to_owned(),
            limit,
            measured: result.row(row)?.ratio(result.row(plain), cpu),
            unit: "×",
        })
    });
    verdicts.collect()
}

fn describe(case: &Case) -> String {
    let plural = if case.connections == 1 {
        "connection"
    } else {
        "connections"
    };
    format!("{}; {} {plural}", case.title, case.connections)
}

fn mode(translate: bool) -> &'static str {
    if translate { "translate" } else { "relay" }
}

fn case_rows(result: &CaseResult) -> Vec<Vec<String>> {
    let mut rows = vec![cells([
        "",
        "requests/s",
        "p50 µs",
        "p99 µs",
        "+p50",
        "+p99",
        "first byte µs",
        "CPU µs/request",
        "to Envoy",
        "RSS MB",
        "peak MB",
        "errors",
    ])];
    rows.extend(result.rows.iter().map(|row| {
        let it = result.summary(row);
        let figures = [
            it.rate,
            it.p50,
            it.p99,
            it.p50_added,
            it.p99_added,
            it.first_byte,
            it.cpu,
        ];
        let mut cells = vec![row.contender.to_owned()];
        cells.extend(figures.map(number));
        cells.extend([it.to_envoy, it.resident / MB, it.peak / MB].map(ratio));
        cells.push(it.errors.to_string());
        cells
    }));
    rows
}

fn row_json(result: &CaseResult, row: &Row) -> Value {
    let it = result.summary(row);
    json!({
        "contender": row.contender,
        "requests_per_second": it.rate,
        "p50_us": it.p50,
        "p99_us": it.p99,
        "p50_added_us": it.p50_added,
        "p99_added_us": it.p99_added,
        "first_byte_us": it.first_byte,
        "cpu_us_per_request": it.cpu,
        "cpu_to_envoy": it.to_envoy,
        "resident_bytes": it.resident,
        "peak_bytes": it.peak,
        "errors": it.errors,
        "cpu_us_per_request_rounds": row.rounds.iter().map(cpu).collect::<Vec<_>>(),
    })
}

/// Returns the cells of a row.
pub(crate) fn cells<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// Shows a figure of which the fraction only matters when it is small.
pub(crate) fn number(value: f64) -> String {
    if value.is_nan() {
        "–".to_owned()
    } else if value.abs() < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Shows a figure of which the fraction matters.
pub(crate) fn ratio(value: f64) -> String {
    if value.is_nan() {
        "–".to_owned()
    } else {
        format!("{value:.2}")
    }
}

/// Aligns the first column to the left and the others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut shown = String::from(" ");
        for (index, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = if index == 0 {
                write!(shown, " {cell:<width$}")
            } else {
                write!(shown, "  {cell:>width$}")
            };
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{arguments}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        case::CASES,
        run::{MemoryResult, Start},
    };

    fn round(cpu: f64) -> Figures {
        Figures {
            rate: 1000.0,
            p50: cpu,
            p99: 2.0 * cpu,
            first_byte: cpu,
            cpu: Some(cpu),
            memory: None,
            errors: Vec::new(),
        }
    }

    fn results(envoy: &[f64], tollgate: &[f64]) -> Results {
        let row = |contender, cpu: &[f64]| Row {
            contender,
            rounds: cpu.iter().copied().map(round).collect(),
        };
        let rows = vec![row(DIRECT, &[10.0]), row(ENVOY, envoy), row(TOLLGATE, tollgate)];
        let case = CASES.first().expect("the table is not empty");
        Results {
            cases: vec![CaseResult { case, rows }],
            ..Results::default()
        }
    }

    #[test]
    fn ratios_are_formed_within_a_round() {
        let check = |envoy: &[f64], tollgate: &[f64], wanted: &str| {
            let verdicts = results(envoy, tollgate).verdicts();
            assert_eq!(verdicts.iter().map(Verdict::word).collect::<Vec<_>>(), [wanted]);
        };
        check(&[100.0, 200.0, 300.0], &[50.0, 100.0, 150.0], "met");
        check(&[100.0, 200.0, 300.0], &[80.0, 160.0, 150.0], "MISSED");
        check(&[], &[50.0], "not measured");
    }

    #[test]
    fn start_and_memory_are_judged() {
        let results = Results {
            starts: vec![Start {
                contender: TOLLGATE,
                ready: 12.0,
                idle: 21.0 * MB,
                reload: None,
            }],
            memory: vec![MemoryResult {
                contender: TOLLGATE,
                translate: true,
                bodies: 2.5,
                errors: Vec::new(),
            }],
            ..Results::default()
        };
        let words: Vec<_> = results.verdicts().iter().map(Verdict::word).collect();
        assert_eq!(words, ["met", "MISSED", "met"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [cells(["", "µs"]), cells(["envoy", "1000"])];
        assert_eq!(table(&rows), "           µs\n  envoy  1000\n");
    }
}
