//! What may be written on the command line. Every flag of `run` can be set by a variable `TOLLGATE_…` as well.

use std::{env, ffi::OsStr, net::IpAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, builder::Resettable};
use clap_complete::Shell;
use config::Secret;
use http::{HeaderName, HeaderValue};
use llm::Prefixes;

use crate::{level, source::tools::List};

/// An AI gateway: every client dialect on one side, every model provider on the other.
#[derive(Debug, Parser)]
#[command(
    name = "tollgate",
    version,
    propagate_version = true,
    disable_version_flag = false
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the command line and the environment. Ends the process with 2 if it was called wrongly.
    pub(crate) fn read() -> Self {
        let foreign = |arg: &Arg| {
            arg.get_env()
                .and_then(env::var_os)
                .is_some_and(|value| is_foreign(&value))
        };
        let own = |arg: Arg| {
            if foreign(&arg) {
                arg.env(Resettable::Reset)
            } else {
                arg
            }
        };
        let command = Self::command().mut_subcommands(|command| command.mut_args(own));
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

/// Returns whether a variable that has the name of one of ours is not meant for us.
///
/// An empty one is what is left of a variable that was not set. In a cluster with a service called `tollgate` every
/// container finds `TOLLGATE_PORT=tcp://…` in its environment.
fn is_foreign(value: &OsStr) -> bool {
    value.is_empty() || value.to_string_lossy().starts_with("tcp://")
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway
    ///
    /// The configuration comes from the files and folders that are given; without any, from the keys of providers
    /// in the environment, such as OPENAI_API_KEY and ANTHROPIC_API_KEY; without those, a simulated provider
    /// answers, so that the gateway can be tried at once. Files are watched: a change is served at once, and a change with a fault is not served
    /// at all and the fault is named.
    Run(Box<Run>),
    /// Be an MCP server over standard input and output, in front of the servers of an MCPRoute or of a list
    ///
    /// For clients that start their servers as programs. The configuration comes from where `run` has it. No port is
    /// bound: what concerns ports and the access log has no place here. Ends with its input, or with SIGTERM.
    Mcp(Box<Mcp>),
    /// Check a configuration and say of every resource whether it is served
    ///
    /// Ends with 1 if anything is wrong. Nothing is started and no network is used.
    Check(Check),
    /// Say what a running gateway decided about a request, and why
    ///
    /// Without an id the recent requests are listed.
    Explain(Explain),
    /// Print the configuration that `run` uses when it is given no file
    ///
    /// Secrets stand in it as the variables that hold them.
    Config,
    /// Ask a running gateway whether it is ready; ends with 0 or 1 within a second
    Healthcheck(Healthcheck),
    /// Print the JSON schema of the resources
    Schema,
    /// Print the completions for a shell
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the version
    Version,
}

impl Command {
    /// Returns the form of what is said on standard error.
    pub(crate) fn log_format(&self) -> LogFormat {
        match self {
            Command::Run(arguments) => arguments.log_format,
            Command::Mcp(arguments) => arguments.run.log_format,
            Command::Check(_)
            | Command::Explain(_)
            | Command::Config
            | Command::Healthcheck(_)
            | Command::Schema
            | Command::Completions { .. }
            | Command::Version => LogFormat::Text,
        }
    }
}

/// How to run.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Files (YAML or JSON) and folders of them; `-` is standard input
    #[arg(value_name = "FILE|FOLDER", env = "TOLLGATE_CONFIG", value_delimiter = DELIMITER)]
    pub(crate) paths: Vec<PathBuf>,
    /// The address to listen on, for clients and for the admin port; 0.0.0.0 for all
    #[arg(
        long,
        env = "TOLLGATE_ADDRESS",
        default_value = "127.0.0.1",
        value_name = "IP"
    )]
    pub(crate) address: IpAddr,
    /// The port for clients, in place of the one the configuration names; 0 lets the system choose [default: 1975
    /// without files]
    #[arg(long, env = "TOLLGATE_PORT", value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// The port for /health, /ready, /metrics and /config; 0 lets the system choose
    #[arg(
        long,
        env = "TOLLGATE_ADMIN_PORT",
        default_value_t = 1064,
        value_name = "PORT"
    )]
    pub(crate) admin_port: u16,
    /// What to write about each request to standard output [default: text on a terminal, else json; off where
    /// OTEL_LOGS_EXPORTER or an endpoint of OTLP says otherwise]
    #[arg(long, env = "TOLLGATE_ACCESS_LOG", value_name = "FORM")]
    pub(crate) access_log: Option<AccessLog>,
    /// How much the gateway says about itself on standard error: error, warn, info, debug or trace, also by part
    /// as in `warn,gateway=debug`
    #[arg(long, env = "TOLLGATE_LOG_LEVEL", default_value = "warn", value_name = "LEVEL", value_parser = level)]
    pub(crate) log_level: String,
    /// The form of what is written to standard error
    #[arg(long, env = "TOLLGATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, value_name = "FORM")]
    pub(crate) log_format: LogFormat,
    /// Where clients find the endpoints.
    #[command(flatten)]
    pub(crate) prefixes: Paths,
    /// How long open requests may take to finish after SIGTERM
    #[arg(long, env = "TOLLGATE_DRAIN", default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub(crate) drain: Duration,
    /// The largest request body that is accepted
    #[arg(long, env = "TOLLGATE_MAX_BODY", default_value = "32MiB", value_name = "SIZE", value_parser = size)]
    pub(crate) max_body: usize,
    /// The largest form with a file, such as a recording, that is accepted; such a form is not held
    #[arg(long, env = "TOLLGATE_MAX_UPLOAD", default_value = "512MiB", value_name = "SIZE", value_parser = size)]
    pub(crate) max_upload: usize,
    /// How much is kept of translated answers for clients of Responses, who go on from them by their ids; 0 keeps
    /// nothing
    #[arg(long, env = "TOLLGATE_KEPT_MEMORY", default_value = "64MiB", value_name = "SIZE", value_parser = size_or_none)]
    pub(crate) kept_memory: usize,
    /// How long such an answer is kept
    #[arg(long, env = "TOLLGATE_KEPT_FOR", default_value = "1h", value_name = "TIME", value_parser = duration)]
    pub(crate) kept_for: Duration,
    /// Where the Redis is whose counters of limits, and deleted sessions of MCP clients, all gateways share, as
    /// redis://:password@host:6379/0, with rediss:// for TLS, redis-sentinel://host,host/name where sentinels
    /// know it and redis-cluster://host,host for a cluster
    #[arg(long, env = "TOLLGATE_REDIS", hide_env_values = true, value_name = "URL", value_parser = secret)]
    pub(crate) redis: Option<Secret>,
    /// A file with the authorities that the certificate of Redis is checked against [default: those of the system]
    #[arg(long, env = "TOLLGATE_REDIS_CA", value_name = "FILE", requires = "redis")]
    pub(crate) redis_ca: Option<PathBuf>,
    /// A file with a certificate and its key, which Redis is shown
    #[arg(
        long,
        env = "TOLLGATE_REDIS_CERTIFICATE",
        value_name = "FILE",
        requires = "redis"
    )]
    pub(crate) redis_certificate: Option<PathBuf>,
    /// How many recent requests `tollgate explain` can tell about; 0 for none
    #[arg(
        long,
        env = "TOLLGATE_DECISIONS",
        default_value_t = 1000,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(..=100_000)
    )]
    pub(crate) decisions: u32,
    /// A list of MCP servers to serve at /mcp, as desktop clients keep it: {"mcpServers": {...}}; or what Envoy AI
    /// Gateway configures its MCP proxy with: {"mcpConfig": {...}}
    #[arg(long, env = "TOLLGATE_MCP_CONFIG", value_name = "FILE", conflicts_with_all = ["paths", "mcp_json"])]
    pub(crate) mcp_config: Option<PathBuf>,
    /// Such a list itself
    #[arg(long, value_name = "JSON", conflicts_with = "paths")]
    pub(crate) mcp_json: Option<String>,
    /// A file with the seed that the sessions of MCP clients are sealed with, the same for all replicas [default:
    /// random, so that sessions end with the process]
    #[arg(long, env = "TOLLGATE_MCP_SESSION_SEED_FILE", value_name = "FILE")]
    pub(crate) mcp_session_seed_file: Option<PathBuf>,
    /// A file with the seed before it, whose sessions are still good
    #[arg(long, env = "TOLLGATE_MCP_SESSION_FALLBACK_SEED_FILE", value_name = "FILE")]
    pub(crate) mcp_session_fallback_seed_file: Option<PathBuf>,
    /// The form of new session tokens; tokens of both are read
    #[arg(
        long,
        env = "TOLLGATE_MCP_SESSION_FORMAT",
        value_enum,
        default_value_t = SessionFormat::V1,
        value_name = "FORM"
    )]
    pub(crate) mcp_session_format: SessionFormat,
    /// Rounds of the derivation for session tokens of Envoy AI Gateway
    #[arg(
        long,
        env = "TOLLGATE_MCP_SESSION_ENCRYPTION_ITERATIONS",
        default_value = "100000",
        value_name = "NUMBER"
    )]
    pub(crate) mcp_session_encryption_iterations: NonZeroU32,
    /// Rounds for the seed before [default: the same]
    #[arg(
        long,
        env = "TOLLGATE_MCP_SESSION_FALLBACK_ENCRYPTION_ITERATIONS",
        value_name = "NUMBER"
    )]
    pub(crate) mcp_session_fallback_encryption_iterations: Option<NonZeroU32>,
    /// Tell on the admin port what the process spends its time and memory on, at /debug/pprof; not where DISABLE_PPROF is
    /// set
    #[arg(long, env = "TOLLGATE_PROFILING", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) profiling: bool,
    /// Give metrics the names too that the Envoy AI Gateway gives them by mistake, for dashboards over those
    #[arg(long, env = "TOLLGATE_OLD_METRIC_NAMES", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) old_metric_names: bool,
    /// Keep histograms as native ones too, for scrapers of Prometheus that ask for those
    #[arg(long, env = "TOLLGATE_NATIVE_HISTOGRAMS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) native_histograms: bool,
    /// Serve nothing if any resource is at fault, where otherwise the sound ones are served
    #[arg(long, env = "TOLLGATE_STRICT", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) strict: bool,
}

/// How to be an MCP server over standard input and output.
#[derive(Args, Debug)]
pub(crate) struct Mcp {
    /// The path of the MCPRoute that is meant, where there are several
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// A header that goes with every message of the client, such as the key that the route asks for; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// How to run.
    #[command(flatten)]
    pub(crate) run: Run,
}

impl Run {
    /// Returns the list of MCP servers that is to be served.
    pub(crate) fn servers(&self) -> Option<List> {
        let file = self.mcp_config.clone().map(List::File);
        file.or_else(|| self.mcp_json.clone().map(List::Text))
    }
}

/// What to check.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Files (YAML or JSON) and folders of them; `-` is standard input; none checks what `run` uses without files
    #[arg(value_name = "FILE|FOLDER")]
    pub(crate) paths: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub(crate) output: Output,
    /// Say which route, rule and backends a request takes, and why no other
    ///
    /// A JSON object with any of path, host, headers, model, port and gateway, such as
    /// '{"path":"/v1/chat/completions","model":"gpt-5","headers":{"x-team":"red"}}'
    #[arg(long, value_name = "JSON")]
    pub(crate) explain: Option<String>,
    /// Where clients find the endpoints.
    #[command(flatten)]
    pub(crate) prefixes: Paths,
}

/// Where clients find the endpoints.
#[derive(Args, Clone, Debug)]
pub(crate) struct Paths {
    /// What stands before the paths of all endpoints
    #[arg(long, env = "TOLLGATE_ROOT_PREFIX", default_value = "/", value_name = "PATH")]
    root_prefix: String,
    /// What stands before those of each provider's form, as in `openai:/x,cohere:/y,anthropic:/z`
    #[arg(long, env = "TOLLGATE_ENDPOINT_PREFIXES", default_value = "", value_name = "NAME:PATH,...", value_parser = Prefixes::parse)]
    endpoint_prefixes: Prefixes,
}

impl Paths {
    /// Returns what stands before the paths of endpoints.
    pub(crate) fn all(&self) -> Prefixes {
        self.endpoint_prefixes.clone().below(&self.root_prefix)
    }
}

/// What to explain.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The request, by the x-request-id of its answer
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
    /// The admin listener of the gateway
    #[arg(
        long,
        env = "TOLLGATE_ADMIN",
        default_value = "127.0.0.1:1064",
        value_name = "ADDRESS"
    )]
    pub(crate) admin: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub(crate) output: Output,
}

/// Whom to ask.
#[derive(Args, Debug)]
pub(crate) struct Healthcheck {
    /// The readiness endpoint of the gateway
    #[arg(
        long,
        env = "TOLLGATE_HEALTHCHECK_URL",
        default_value = "http://127.0.0.1:1064/ready"
    )]
    pub(crate) url: http::Uri,
}

/// The forms of the access record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessLog {
    /// Nothing
    Off,
    /// A JSON object a line
    Json,
    /// key=value pairs, for a person
    Text,
}

/// The forms of what the process says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for a person
    Text,
    /// A JSON object a line
    Json,
}

/// The forms of session tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SessionFormat {
    /// Envoy AI Gateway's, for sessions that move between the two
    V0,
    /// Tollgate's own
    V1,
}

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns, for a person
    Text,
    /// One JSON document
    Json,
}

/// Reads a header as `name: value`.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = text.split_once(':').ok_or("expected \"name: value\"")?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| "the name is none of a header")?;
    let mut value = HeaderValue::try_from(value.trim()).map_err(|_| "the value cannot stand in a header")?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn level(text: &str) -> Result<String, String> {
    level::filter(text).map(|_| text.to_owned())
}

/// Reads a duration as resources have it: `30s`, `1m30s`, `500ms`; a bare number is in seconds.
fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let scale = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale);
        let (Ok(number), Some(scale)) = (number.parse::<u64>(), scale) else {
            return Err("not a time such as 30s, 1m30s or 500ms".to_owned());
        };
        total += Duration::from_millis(number.saturating_mul(scale));
        rest = tail;
    }
    if text.is_empty() {
        return Err("not a time such as 30s, 1m30s or 500ms".to_owned());
    }
    Ok(total)
}

/// Reads a size: `32MiB`, `64Ki`, `10MB`; a bare number is in bytes.
fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" | "Ki" => 1 << 10,
        "MiB" | "Mi" => 1 << 20,
        "GiB" | "Gi" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => 0,
    };
    let size = number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(scale));
    size.filter(|size| *size > 0)
        .ok_or_else(|| "not a size such as 32MiB, 500KB or 1000000".to_owned())
}

/// Takes an address as it is: it may hold a password, which no message may show.
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// Reads a size that may be 0.
fn size_or_none(text: &str) -> Result<usize, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

/// What separates several paths in `TOLLGATE_CONFIG`, as in `PATH`.
const DELIMITER: char = if cfg!(windows) { ';' } else { ':' };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_in_resources() {
        let check = |text: &str, expected: Option<u64>| {
            let read = duration(text).ok().map(|duration| duration.as_millis());
            assert_eq!(read, expected.map(u128::from), "{text}");
        };
        check("30s", Some(30_000));
        check("1m30s", Some(90_000));
        check("500ms", Some(500));
        check("2h", Some(7_200_000));
        check("7", Some(7_000));
        check("0s", Some(0));
        for bad in ["", "s", "5 s", "-1s", "1d", "1.5s", "99999999999999999999s"] {
            check(bad, None);
        }
    }

    #[test]
    fn sizes_have_units() {
        let check = |text: &str, expected: Option<usize>| assert_eq!(size(text).ok(), expected, "{text}");
        check("32MiB", Some(32 << 20));
        check("64Ki", Some(64 << 10));
        check("10MB", Some(10_000_000));
        check("1", Some(1));
        for bad in ["", "0", "MiB", "-1", "1.5MiB", "1XB", "99999999999999999999"] {
            check(bad, None);
        }
    }
}
