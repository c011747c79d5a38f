//! The two streams of the command: data on standard output, everything said about it on standard error.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

use serde_json::json;
use tracing::Level;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

use crate::args::LogFormat;

impl LogFormat {
    /// Says something on standard error; `level` is how much it matters, which a person sees from the words. If nobody
    /// can hear it there is nobody to tell.
    pub(crate) fn say(self, level: Level, words: impl fmt::Display) {
        let _ = match self {
            LogFormat::Text => writeln!(io::stderr().lock(), "{words}"),
            LogFormat::Json => writeln!(io::stderr().lock(), "{}", record(level, &words)),
        };
    }
}

/// Returns what is said with the members that lines of the log have.
fn record(level: Level, words: &dyn fmt::Display) -> serde_json::Value {
    let mut timestamp = String::new();
    // Writing to memory cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    json!({
        "timestamp": timestamp,
        "level": level.as_str(),
        "message": words.to_string(),
        "target": env!("CARGO_PKG_NAME"),
    })
}

/// Writes `data` to standard output.
///
/// # Errors
/// If it cannot be written; a reader that has seen enough, as `head`, is no error.
pub(crate) fn print(data: impl fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = write!(out, "{data}").and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
