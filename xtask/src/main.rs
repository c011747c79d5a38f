//! The project's own checks: `cargo xtask` lists them.
//!
//! A recipe of the `justfile` is a line or two; what needs more than that is a command here. Reading and
//! printing stay in this crate's `main` and in [`tree`]: the checks themselves are functions of text.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::tree::Tree;

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
    match command {
        Some("tidy") => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"))
                .parent()
                .context("the workspace has no root folder")?;
            tidy::run(&Tree::read(root)?, &mut io::stdout().lock())
        }
        Some(_) | None => {
            io::stderr().write_all(USAGE.as_bytes())?;
            Ok(ExitCode::from(2))
        }
    }
}

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy    check what clippy cannot: crate edges, module heads, log messages, documentation links
";
