//! Measures what the gateway costs, beside plain proxies in the same run.
//!
//! `bench run` is the whole measurement; `scripts/bench` prepares what it needs. The other commands are its parts,
//! for profiling. Start reading at `run`; what is measured stands in `case`.

#![expect(
    clippy::disallowed_methods,
    reason = "an instrument: nothing here outlives a measurement, and waiting is what it does between two readings"
)]

mod case;
mod contender;
mod limiter;
mod load;
mod machine;
mod mcp;
mod process;
mod report;
mod run;
mod script;
mod upstream;

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::{
    case::{CASES, Case},
    contender::FEW,
    load::Load,
    machine::Machine,
    run::Plan,
    upstream::Manner,
};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures the gateway beside plain proxies")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure every case and judge the targets.
    Run(RunArguments),
    /// Serve as the mock upstream.
    Upstream {
        /// Port on 127.0.0.1.
        #[arg(long)]
        port: u16,
    },
    /// Print the gateway's resources for a mock upstream, which is a model's provider or else a server of MCP.
    Resources {
        /// Port that the gateway listens on.
        #[arg(long)]
        port: u16,
        /// Address of the mock upstream.
        #[arg(long)]
        upstream: SocketAddr,
        /// How many models to configure.
        #[arg(long, default_value_t = FEW)]
        models: usize,
        /// Whether tools are served in place of models.
        #[arg(long)]
        mcp: bool,
    },
    /// Send one case's load to an address.
    Load {
        /// The case; `bench cases` lists them.
        #[arg(long)]
        case: String,
        /// Who is asked.
        #[arg(long)]
        address: SocketAddr,
        /// Address of the mock upstream, which is told the case's pace.
        #[arg(long)]
        upstream: SocketAddr,
        /// For how long.
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
    /// List the cases.
    Cases,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// The nginx binary.
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// The Envoy binary.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// The gateway's binary, of a release build.
    #[arg(long)]
    tollgate: Option<PathBuf>,
    /// The binary of Redis.
    #[arg(long)]
    redis: Option<PathBuf>,
    /// Only the cases with this in their name; `start`, `memory` and those of `mcp-` count as cases.
    #[arg(long)]
    only: Vec<String>,
    /// How often each contender gets its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one turn.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Length of the warm-up before each turn.
    #[arg(long, default_value_t = 0.3)]
    warm_up: f64,
    /// Where configurations and logs go.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// The date to print.
    #[arg(long, default_value = "today")]
    date: String,
    /// Write the figures to this file too, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the tables to this file too, as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run(arguments) => measure(arguments),
        Command::Upstream { port } => upstream::serve(port).map(|()| ExitCode::SUCCESS),
        Command::Resources {
            port,
            upstream,
            models,
            mcp: false,
        } => print(&contender::tollgate(port, upstream, models)),
        Command::Resources { port, upstream, .. } => print(&mcp::resources_of(port, upstream)?),
        Command::Load {
            case,
            address,
            upstream,
            seconds,
        } => load(&case, address, upstream, seconds),
        Command::Cases => {
            let names: Vec<String> = CASES
                .iter()
                .map(|case| (case.name, case.title))
                .chain(run::OTHERS.iter().copied())
                .map(|(name, title)| format!("{name:24}{title}\n"))
                .chain(mcp::names().map(|name| format!("{name}\n")))
                .collect();
            print(&names.concat())
        }
    }
}

fn measure(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let machine = Machine::this(&arguments.date);
    let results = run::run(&Plan {
        nginx: arguments.nginx,
        envoy: arguments.envoy,
        tollgate: arguments.tollgate,
        redis: arguments.redis,
        only: arguments.only,
        rounds: arguments.rounds.max(1),
        measured: Duration::try_from_secs_f64(arguments.seconds)?,
        warm_up: Duration::try_from_secs_f64(arguments.warm_up)?,
        dir: arguments.dir,
    })?;
    if let Some(path) = arguments.json {
        let json = serde_json::to_string_pretty(&results.json(&machine))?;
        fs::write(&path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = arguments.markdown {
        fs::write(&path, results.markdown(&machine))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&results.text(&machine))?;
    Ok(if results.has_errors() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn load(case: &str, address: SocketAddr, upstream: SocketAddr, seconds: f64) -> anyhow::Result<ExitCode> {
    let name = case;
    let of_tools = mcp::load(name, address)?;
    let of_models = || -> anyhow::Result<Load> {
        let case = Case::find(name)
            .with_context(|| format!("there is no case {name:?}; `bench cases` lists them"))?;
        let pace = case.pace;
        run::set_manner(
            upstream,
            Manner {
                pace,
                ..Manner::default()
            },
        )?;
        let prompt = script::prompt(case.way.model(), case.stream, case.size);
        Ok(Load {
            connections: case.connections,
            ..Load::chat(address, prompt, case.stream)
        })
    };
    let load = Load {
        measured: Duration::try_from_secs_f64(seconds)?,
        ..of_tools.map_or_else(of_models, Ok)?
    };
    let ((), outcome) = load.run(|| ())?;
    let count = outcome.latencies.len();
    let rate = count as f64 / outcome.elapsed.as_secs_f64();
    let mut said = format!(
        "{name}: {count} requests, {rate:.0} a second, {} errors\n",
        outcome.errors.len()
    );
    if let Some(error) = outcome.errors.first() {
        said = format!("{said}{error}\n");
    }
    print(&said)?;
    Ok(if outcome.errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
