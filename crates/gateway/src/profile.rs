//! What the process spends its time on: the stacks that run, looked at so many times a second, in the form that `pprof`
//! reads. Nothing is looked at unless somebody asks.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    time::{Duration, SystemTime},
};

use flate2::{Compression, write::GzEncoder};
use policy::protobuf::Message;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};

/// How often a second stacks are looked at; no number that other things happen at.
const FREQUENCY: i32 = 99;

/// Libraries within which a stack is not looked at: unwinding there may wait for a lock that is held.
const LEFT_OUT: &[&str] = &["libc", "libgcc", "pthread", "vdso"];

/// The longest profile.
pub(crate) const LONGEST: Duration = Duration::from_secs(300);

/// There is no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// One profile is made at a time.
    #[error("another profile is being made")]
    Busy,
    /// The stacks cannot be looked at.
    #[error("stacks cannot be looked at")]
    Profiler(#[source] pprof::Error),
    /// It cannot be written.
    #[error("the profile cannot be written")]
    Write(#[source] io::Error),
}

/// Looks at stacks for `time`, and returns the profile, compressed with gzip.
///
/// # Errors
/// If another one is being made, or stacks cannot be looked at.
pub(crate) async fn take(time: Duration) -> Result<Vec<u8>, ProfileError> {
    let guard = ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .blocklist(LEFT_OUT)
        .build()
        .map_err(|error| match error {
            pprof::Error::Running => ProfileError::Busy,
            other => ProfileError::Profiler(other),
        })?;
    tokio::time::sleep(time).await;
    report(guard).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "names are looked up in the tables of the binary, which takes a while, for the operator who asks"
)]
async fn report(guard: ProfilerGuard<'static>) -> Result<Vec<u8>, ProfileError> {
    let written = tokio::task::spawn_blocking(move || {
        let report = guard.report().build().map_err(ProfileError::Profiler)?;
        compressed(&encode(&report)).map_err(ProfileError::Write)
    });
    written
        .await
        .unwrap_or_else(|error| Err(ProfileError::Write(io::Error::other(error))))
}

fn compressed(message: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message)?;
    encoder.finish()
}

/// Writes a Profile: sample_type = 1, sample = 2, location = 4, function = 5, string_table = 6, time_nanos = 9,
/// duration_nanos = 10, period_type = 11, period = 12 (github.com/google/pprof, proto/profile.proto).
fn encode(report: &Report) -> Vec<u8> {
    let mut profile = Message::default();
    let mut table = Table::default();
    let period = 1_000_000_000 / u64::from(FREQUENCY.unsigned_abs());
    let (samples, count) = (table.text("samples"), table.text("count"));
    let (cpu, nanoseconds) = (table.text("cpu"), table.text("nanoseconds"));
    for (kind, unit) in [(samples, count), (cpu, nanoseconds)] {
        profile.message(1, |message| value_type(message, kind, unit));
    }
    for (frames, seen) in &report.data {
        let locations: Vec<u64> = frames
            .frames
            .iter()
            .map(|inlined| table.location(inlined))
            .collect();
        let seen = u64::try_from(*seen).unwrap_or_default();
        // Sample: location_id = 1, value = 2.
        profile.message(2, |sample| {
            for location in locations {
                sample.number(1, location);
            }
            sample.number(2, seen);
            sample.number(2, seen * period);
        });
    }
    for location in &table.locations {
        profile.message(4, |message| place(message, location));
    }
    for (id, function) in (1..).zip(&table.functions) {
        // Function: id = 1, name = 2, system_name = 3, filename = 4.
        profile.message(5, |message| {
            message.varint(1, id);
            message.varint(2, function.name);
            message.varint(3, function.own);
            message.varint(4, function.file);
        });
    }
    for text in &table.texts {
        profile.bytes(6, text.as_bytes());
    }
    let begun = report
        .timing
        .start_time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    profile.varint(9, nanos(begun));
    profile.varint(10, nanos(report.timing.duration));
    profile.message(11, |message| value_type(message, cpu, nanoseconds));
    profile.varint(12, period);
    profile.into_bytes()
}

/// Writes a ValueType: type = 1, unit = 2.
fn value_type(message: &mut Message, kind: u64, unit: u64) {
    message.varint(1, kind);
    message.varint(2, unit);
}

/// Writes a Location: id = 1, address = 3, line = 4; Line: function_id = 1, line = 2.
fn place(message: &mut Message, location: &Location) {
    message.varint(1, location.id);
    message.varint(3, location.address);
    for (function, line) in &location.lines {
        message.message(4, |message| {
            message.varint(1, *function);
            message.varint(2, *line);
        });
    }
}

/// What samples refer to, by number.
struct Table {
    texts: Vec<String>,
    by_text: HashMap<String, u64>,
    functions: Vec<Function>,
    by_function: HashMap<Function, u64>,
    locations: Vec<Location>,
    by_lines: HashMap<Vec<(u64, u64)>, u64>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Function {
    name: u64,
    /// As the linker has it.
    own: u64,
    file: u64,
}

/// A place in the code: a function and those that are inlined there, the innermost first.
struct Location {
    id: u64,
    address: u64,
    lines: Vec<(u64, u64)>,
}

impl Default for Table {
    fn default() -> Self {
        // The first text is the empty one.
        Self {
            texts: vec![String::new()],
            by_text: HashMap::from([(String::new(), 0)]),
            functions: Vec::new(),
            by_function: HashMap::new(),
            locations: Vec::new(),
            by_lines: HashMap::new(),
        }
    }
}

impl Table {
    fn text(&mut self, text: &str) -> u64 {
        if let Some(known) = self.by_text.get(text) {
            return *known;
        }
        let new = self.texts.len() as u64;
        self.texts.push(text.to_owned());
        self.by_text.insert(text.to_owned(), new);
        new
    }

    fn location(&mut self, inlined: &[pprof::Symbol]) -> u64 {
        let lines: Vec<(u64, u64)> = inlined
            .iter()
            .map(|symbol| (self.function(symbol), u64::from(symbol.lineno())))
            .collect();
        if let Some(known) = self.by_lines.get(&lines) {
            return *known;
        }
        let id = self.locations.len() as u64 + 1;
        let address = inlined.first().and_then(|symbol| symbol.addr);
        self.locations.push(Location {
            id,
            address: address.map_or(0, |address| address.addr() as u64),
            lines: lines.clone(),
        });
        self.by_lines.insert(lines, id);
        id
    }

    fn function(&mut self, symbol: &pprof::Symbol) -> u64 {
        let function = Function {
            name: self.text(&symbol.name()),
            own: self.text(&symbol.sys_name()),
            file: self.text(&symbol.filename()),
        };
        if let Some(known) = self.by_function.get(&function) {
            return *known;
        }
        self.functions.push(function.clone());
        let id = self.functions.len() as u64;
        self.by_function.insert(function, id);
        id
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
