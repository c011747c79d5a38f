//! The project's own checks: `cargo xtask` lists them.
//!
//! A recipe of the `justfile` is a line or two; what needs more than that is a command here. The
//! checks of [`tidy`] are functions of what [`tree`] has read.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::tree::Tree;

mod readme;
mod rust;
mod tidy;
mod tree;

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    match run(command.as_deref()) {
        Ok(code) => code,
        Err(error) => {
            // Standard error is gone if this fails, and the exit code says the rest.
            let _ = writeln!(io::stderr(), "xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Option<&str>) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace has no root folder")?;
    match command {
        Some("tidy") => tidy::run(&Tree::read(root)?, &mut io::stdout().lock()),
        Some("readme") => {
            readme::run(root, &mut io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(_) | None => {
            io::stderr().write_all(USAGE.as_bytes())?;
            Ok(ExitCode::from(2))
        }
    }
}

const USAGE: &str = "\
usage: cargo xtask COMMAND

  readme  run the commands of README.md as they stand there
  tidy    check what clippy cannot: crate edges, module heads, log messages, documentation links
";
