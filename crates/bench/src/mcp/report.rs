//! What is said of MCP in the report: a table, and a verdict per target.

use serde_json::{Value, json};

use super::{CaseResult, IDLE, Measured, STREAMS};
use crate::{
    report::{Verdict, cells, cpu, number, ratio},
    run::{Figures, median},
};

/// The most that the gateway may add to a call, in microseconds: at the median, and at the 99th percentile.
const ADDED: (f64, f64) = (150.0, 2000.0);

/// By how many clients the calls are made that are judged: as fast as they can, where most of what is added is a wait for a
/// core, and at a pace.
const JUDGED: usize = 16;

/// The most memory of a stream on which nothing is said, in KiB.
const RESIDENT: f64 = 20.0;

const KIB: f64 = 1024.0;

impl CaseResult {
    /// Returns the median of what the gateway adds to a figure in a round.
    fn added(&self, of: fn(&Figures) -> f64) -> f64 {
        let rounds = self.through.rounds.iter().zip(&self.direct.rounds);
        let added: Vec<f64> = rounds.map(|(through, direct)| of(through) - of(direct)).collect();
        median(&added)
    }

    fn errors(&self) -> impl Iterator<Item = &String> {
        let rounds = self.direct.rounds.iter().chain(&self.through.rounds);
        rounds.flat_map(|round| &round.errors)
    }

    fn is_judged(&self) -> bool {
        self.case.method == "tools/call" && self.clients == JUDGED
    }
}

impl Measured {
    /// Returns whether nothing was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.cases.is_empty() && self.idle.is_none()
    }

    /// Returns what was wrong with replies.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &String> {
        self.cases.iter().flat_map(CaseResult::errors)
    }

    /// Returns the table, with its head.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![cells([
            "",
            "clients",
            "requests/s",
            "direct",
            "p50 µs",
            "p99 µs",
            "+p50",
            "+p99",
            "p50 to direct",
            "CPU µs/request",
            "errors",
        ])];
        rows.extend(self.cases.iter().map(|result| {
            let (through, direct) = (&result.through, &result.direct);
            vec![
                result.case.name.to_owned(),
                result.clients.to_string(),
                number(through.median(|round| round.rate)),
                number(direct.median(|round| round.rate)),
                number(through.median(|round| round.p50)),
                number(through.median(|round| round.p99)),
                number(result.added(|round| round.p50)),
                number(result.added(|round| round.p99)),
                ratio(through.ratio(Some(direct), |round| round.p50)),
                number(through.median(cpu)),
                result.errors().count().to_string(),
            ]
        }));
        if let Some(idle) = self.idle {
            let streams = format!("{} KiB a stream", ratio(idle / KIB));
            rows.push(vec![IDLE.to_owned(), STREAMS.to_string(), streams]);
        }
        rows
    }

    /// Returns the same for programs.
    pub(crate) fn json(&self) -> Value {
        let cases = self.cases.iter().map(|result| {
            let (through, direct) = (&result.through, &result.direct);
            json!({
                "name": result.case.name,
                "clients": result.clients,
                "requests_per_second": through.median(|round| round.rate),
                "requests_per_second_direct": direct.median(|round| round.rate),
                "p50_us": through.median(|round| round.p50),
                "p99_us": through.median(|round| round.p99),
                "p50_added_us": result.added(|round| round.p50),
                "p99_added_us": result.added(|round| round.p99),
                "p50_to_direct": through.ratio(Some(direct), |round| round.p50),
                "cpu_us_per_request": through.median(cpu),
                "errors": result.errors().count(),
            })
        });
        json!({ "cases": cases.collect::<Value>(), "idle_stream_bytes": self.idle })
    }

    /// Judges the targets of the project.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for result in self.cases.iter().filter(|result| result.is_judged()) {
            let name = result.case.name;
            verdicts.push(Verdict {
                target: format!("p50 added to calls by {JUDGED} clients: {name}"),
                limit: ADDED.0,
                measured: result.added(|round| round.p50),
                unit: "µs",
            });
            verdicts.push(Verdict {
                target: format!("p99 added to calls by {JUDGED} clients: {name}"),
                limit: ADDED.1,
                measured: result.added(|round| round.p99),
                unit: "µs",
            });
        }
        verdicts.extend(self.idle.map(|idle| Verdict {
            target: "resident for a stream on which nothing is said".to_owned(),
            limit: RESIDENT,
            measured: idle / KIB,
            unit: "KiB",
        }));
        verdicts
    }
}
