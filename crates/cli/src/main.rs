//! The `tollgate` command: one binary that runs the gateway and says what a configuration means.
//!
//! Start at [`run`] for the gateway itself. Data goes to standard output, everything else to standard error; the
//! command ends with 0, with 1 where something failed, and with 2 where it was called wrongly.

use std::process::ExitCode;

use clap::CommandFactory;
use mimalloc::MiMalloc;
use tracing::Level;

use args::{Arguments, Command};

mod admin;
mod args;
mod banner;
mod check;
mod console;
mod decision;
mod explain;
mod healthcheck;
mod heap;
mod level;
mod run;
mod seeds;
mod signal;
mod simulate;
mod source;
mod stdio;
mod variables;

/// A request is some two hundred small allocations, made and freed on different threads, and a large body or two
/// that ought to go back to the system.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let command = Arguments::read().command;
    let format = command.log_format();
    match dispatch(command) {
        Ok(code) => code,
        Err(error) => {
            format.say(Level::ERROR, format_args!("tollgate: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => return run::run(&arguments, None),
        Command::Mcp(arguments) => return run::run(&arguments.run, Some(&arguments)),
        Command::Check(arguments) => return check::run(arguments),
        Command::Explain(arguments) => return decision::run(&arguments),
        Command::Healthcheck(arguments) => healthcheck::run(arguments.url)?,
        Command::Config => {
            let source = source::Source::choose(Vec::new())?;
            for document in source.documents(&mut Vec::new()) {
                console::print(document.text)?;
            }
        }
        Command::Schema => console::print(format_args!("{:#}\n", config::schema()))?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tollgate", &mut script);
            console::print(String::from_utf8_lossy(&script))?;
        }
        Command::Version => console::print(concat!("tollgate ", env!("CARGO_PKG_VERSION"), "\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}
