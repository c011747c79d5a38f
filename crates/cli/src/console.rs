//! The two streams of the command: data on standard output, everything said about it on standard error.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

/// Says a line on standard error. If nobody can hear it there is nobody to tell.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
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
