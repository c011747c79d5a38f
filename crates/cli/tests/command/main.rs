//! The command as its users see it: processes, exit codes, ports and words.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod check;
mod credentials;
mod explain;
mod levels;
mod load;
mod money;
mod process;
mod proxy;
mod run;
mod spans;
mod stdio;
mod tls;
mod tools;
