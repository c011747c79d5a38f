//! The access log: one record per request, in the command's form or in those that resources declare.

pub(crate) mod declared;
mod members;
pub(crate) mod record;
mod sender;
mod told;
mod writer;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Map;

use super::settings::AccessRecords;
use crate::{
    AccessLog,
    facts::{Facts, Outcome},
};
use members::Line;
use record::Record;
pub(super) use record::{MEMBERS, finish_name};
pub(crate) use sender::{LogRecord, Sender};
pub(crate) use writer::Writer;

/// The access log.
pub(crate) struct Log {
    form: AccessLog,
    /// To the receiver that the process is told of.
    sender: Option<Sender>,
    /// What is meant for standard output, or for standard error where the former is somebody's else.
    stdout: OnceLock<Arc<Writer>>,
    aside: bool,
    dropped: Arc<AtomicU64>,
}

impl Log {
    pub(crate) fn new(form: AccessLog, records: &AccessRecords, aside: bool) -> Self {
        Self {
            form,
            aside,
            sender: match records {
                AccessRecords::Otlp(export) => Some(Sender::start(export.clone())),
                AccessRecords::Console | AccessRecords::Nowhere => None,
            },
            stdout: OnceLock::new(),
            dropped: Arc::default(),
        }
    }

    /// Writes the record of a request; where resources declare records, in their forms and in no other.
    pub(crate) fn record(&self, facts: &Facts, outcome: Outcome, elapsed: Duration) {
        if let Some(details) = &facts.details {
            details.record(facts, outcome, elapsed);
            return;
        }
        if let Some(sender) = &self.sender {
            sender.push(own(facts, outcome, elapsed));
        }
        match self.form {
            AccessLog::Off => {}
            AccessLog::Json => self.stdout().push(&json(facts, outcome, elapsed)),
            AccessLog::Text => {
                let mut line = Vec::with_capacity(LINE);
                Record::new(facts, outcome, elapsed).write_text(&mut line);
                self.stdout().push(&line);
            }
        }
    }

    /// Returns the writer to the file at `path`.
    pub(crate) fn writer(&self, path: &str) -> Arc<Writer> {
        if path == "/dev/stdout" {
            return Arc::clone(self.stdout());
        }
        Arc::new(Writer::append(path, &self.dropped))
    }

    /// Returns how many records were dropped because they could not be written or sent in time.
    pub(crate) fn dropped(&self) -> u64 {
        let unsent = self.sender.as_ref().map_or(0, Sender::dropped);
        self.dropped.load(Ordering::Relaxed) + unsent
    }

    /// Waits until everything is written to standard output and sent, for at most `limit` each.
    pub(crate) fn flush(&self, limit: Duration) {
        if let Some(sender) = &self.sender {
            sender.flush(limit);
        }
        if let Some(stdout) = self.stdout.get() {
            stdout.flush(limit);
        }
    }

    /// Returns the writer to standard output, which all forms share so that their lines do not mix.
    fn stdout(&self) -> &Arc<Writer> {
        self.stdout.get_or_init(|| {
            Arc::new(if self.aside {
                Writer::start(std::io::stderr(), &self.dropped)
            } else {
                Writer::start(std::io::stdout(), &self.dropped)
            })
        })
    }
}

/// Returns the command's record as JSON.
fn json(facts: &Facts, outcome: Outcome, elapsed: Duration) -> Vec<u8> {
    let mut line = Line::with_capacity(LINE);
    Record::new(facts, outcome, elapsed).tell(&mut line);
    line.end()
}

/// Returns the command's record as OTLP has it: the line for a person, and every member.
fn own(facts: &Facts, outcome: Outcome, elapsed: Duration) -> LogRecord {
    let record = Record::new(facts, outcome, elapsed);
    let mut line = Vec::with_capacity(LINE);
    record.write_text(&mut line);
    let body = String::from_utf8_lossy(&line).into_owned();
    let mut members = Map::new();
    record.tell(&mut members);
    LogRecord::new(facts, body, members)
}

/// How long a line is, about.
const LINE: usize = 768;
