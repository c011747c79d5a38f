//! `tollgate run`, and `tollgate mcp`: the place where the program is put together.
//!
//! Source to resources to snapshot to gateway, once at the start and again whenever the source changes. A
//! configuration is served whole or not at all: what is refused is said with all its reasons, and the one before
//! stays.

use std::{
    collections::BTreeMap,
    env,
    fmt::Display,
    fs,
    io::{self, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    thread,
};

use anyhow::{Context, bail};
use config::{
    Memory, Resolver, Secret, Severity, Snapshot,
    certificate::{Authorities, Certificate},
};
use gateway::{AccessRecords, Destination, Gateway, LogLevel, Options, Profiling, RedisOptions, Telemetry};
use tokio::io::BufReader;
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, filter_fn},
    fmt,
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::{
    args::{self, LogFormat, Run},
    banner::{self, Banner},
    heap, level,
    seeds::Seeds,
    signal::{Signal, Signals},
    simulate,
    source::{self, Input, Source, Texts, watch::Watch},
    stdio::{self, Front},
    variables,
};

/// Runs the gateway until it is told to stop; with `talk`, until whoever speaks to it over standard input is done.
///
/// # Errors
/// If it cannot start.
pub(crate) fn run(arguments: &Run, talk: Option<&args::Mcp>) -> anyhow::Result<ExitCode> {
    let taken = arguments.paths.iter().any(|path| source::file::is_stdin(path));
    let silent = matches!(arguments.access_log, None | Some(args::AccessLog::Off));
    if talk.is_some() && (taken || !silent || arguments.port.is_some()) {
        bail!("standard input and output are for messages, and no port is bound");
    }
    let level = log(&arguments.log_level, arguments.log_format);
    let source = match arguments.servers() {
        Some(list) => Source::tools(list)?,
        None => Source::choose(arguments.paths.clone())?,
    };
    let seeds = Seeds::read(arguments)?;
    let redis = redis(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(thread::available_parallelism().map_or(1, usize::from))
        .enable_all()
        .build()
        .context("cannot start")?;
    let telemetry = Telemetry::from_environment(&|name| {
        // What is no text is no good value either, and is said to be none.
        env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    })?;
    let options = Options {
        sessions: seeds.options(),
        redis,
        log_level: Some(level),
        ..options(arguments, telemetry)
    };
    let options = match talk {
        None => options,
        Some(_) => silent_options(options)?,
    };
    let code = runtime.block_on(serve((arguments, talk), source, options, seeds));
    runtime.shutdown_background();
    code
}

async fn serve(
    (arguments, talk): (&Run, Option<&args::Mcp>),
    mut source: Source,
    options: Options,
    mut seeds: Seeds,
) -> anyhow::Result<ExitCode> {
    let format = arguments.log_format;
    let mut signals = Signals::new().context("cannot hear signals")?;
    if let Source::Simulated { port } = &mut source {
        let address = simulate::start()
            .await
            .context("cannot start the simulated provider")?;
        *port = address.port();
    }
    let loaded = source::now();
    let mut known = Known::default();
    let configuration = match prepare(&source, source.read(), arguments, loaded, &mut known) {
        Prepared::Sound(configuration) => configuration,
        Prepared::Refused { reasons, .. } => {
            say_all(format, Level::ERROR, &reasons);
            let words = format_args!("tollgate: nothing is served, see above ({source})");
            format.say(Level::ERROR, words);
            return Ok(ExitCode::FAILURE);
        }
    };
    let front = talk
        .map(|talk| {
            let headers = talk.headers.iter().cloned().collect();
            Front::find(&configuration.snapshot, talk.path.as_deref(), headers)
        })
        .transpose()?;
    let bounds = (options.mcp_max_body, options.drain);
    let gateway = Gateway::start(options).await?;
    let models = banner::models(&configuration.snapshot, arguments.address);
    let listeners = configuration.snapshot.listeners.values();
    let encrypted: Vec<bool> = listeners.map(|listener| listener.tls.is_some()).collect();
    if let Err(errors) = gateway.install(configuration.snapshot).await {
        let errors: Vec<_> = errors.into_iter().map(fault).collect();
        say_all(format, Level::ERROR, &errors);
        return Ok(ExitCode::FAILURE);
    }
    say_all(format, Level::WARN, &configuration.remarks);
    if let Source::Environment(found) = &source {
        for note in &found.notes {
            format.say(Level::WARN, format_args!("tollgate: {note}"));
        }
    }
    if front.is_none() {
        let banner = Banner {
            addresses: gateway.addresses().into_iter().zip(encrypted).collect(),
            admin: gateway.admin_address(),
            source: &source,
            models,
        };
        format.say(Level::INFO, banner);
    }
    let mut reloader = Reloader::new(arguments, &source, &gateway, (configuration.input, known), loaded);
    // What changed between reading and watching was not heard.
    reloader.look().await;
    seeds.look(&gateway);
    let mut talking = pin!(async {
        match front {
            Some(front) => {
                let input = BufReader::new(tokio::io::stdin());
                stdio::serve(Arc::clone(&gateway), front, bounds, input, tokio::io::stdout()).await;
            }
            None => std::future::pending().await,
        }
    });
    loop {
        tokio::select! {
            () = &mut talking => break,
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload => {
                    gateway.reopen_logs();
                    reloader.insist().await;
                }
            },
            () = reloader.changed() => reloader.look().await,
            () = seeds.changed() => seeds.look(&gateway),
        }
    }
    tokio::select! {
        () = gateway.drain() => Ok(ExitCode::SUCCESS),
        () = stop(&mut signals) => {
            format.say(Level::WARN, "tollgate: stopped at once");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Says several things.
fn say_all(format: LogFormat, level: Level, lines: &[String]) {
    lines.iter().for_each(|line| format.say(level, line));
}

/// Returns the same for a gateway that is spoken to over standard input and output alone.
///
/// # Errors
/// If something else would be written there.
fn silent_options(options: Options) -> anyhow::Result<Options> {
    let Telemetry { traces, metrics, .. } = &options.telemetry;
    let spans = traces.as_ref().map(|traces| &traces.export);
    let metrics = metrics.as_ref().map(|push| &push.export);
    if spans
        .into_iter()
        .chain(metrics)
        .any(|export| export.to == Destination::Console)
    {
        bail!(
            "standard output is for messages: OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER cannot be console"
        );
    }
    Ok(Options {
        listen: false,
        admin: None,
        access_log: gateway::AccessLog::Off,
        ..options
    })
}

fn fault(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("tollgate: {:#}", anyhow::Error::from(error))
}

async fn stop(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

fn options(arguments: &Run, telemetry: Telemetry) -> Options {
    let terminal = || io::stdout().is_terminal();
    let access_log = match arguments.access_log {
        Some(args::AccessLog::Off) => gateway::AccessLog::Off,
        Some(args::AccessLog::Json) => gateway::AccessLog::Json,
        Some(args::AccessLog::Text) => gateway::AccessLog::Text,
        None if telemetry.records != AccessRecords::Console => gateway::AccessLog::Off,
        None if terminal() => gateway::AccessLog::Text,
        None => gateway::AccessLog::Json,
    };
    let own = Options::default();
    Options {
        address: arguments.address,
        admin: Some(SocketAddr::new(arguments.address, arguments.admin_port)),
        access_log,
        telemetry,
        decisions: usize::try_from(arguments.decisions).unwrap_or(usize::MAX),
        prefixes: arguments.prefixes.all(),
        max_body: arguments.max_body,
        max_upload: arguments.max_upload,
        kept_memory: arguments.kept_memory,
        kept_for: arguments.kept_for,
        drain: arguments.drain,
        // Set to anything (compatibility specification, "Profiling").
        profiling: (arguments.profiling && env::var_os("DISABLE_PPROF").is_none()).then_some(Profiling {
            heap: heap::statistics,
        }),
        old_metric_names: arguments.old_metric_names,
        native_histograms: arguments.native_histograms,
        mcp_max_body: env::var(variables::BODY)
            .ok()
            .and_then(|text| variables::size(&text))
            .unwrap_or(own.mcp_max_body),
        mcp_keep_alive: env::var(variables::HEARTBEAT)
            .ok()
            .and_then(|text| variables::interval(&text)),
        variables: clouds(),
        ..own
    }
}

/// Returns the variables that the default credentials of clouds are looked for in.
fn clouds() -> BTreeMap<String, String> {
    let prefixes = [
        "AI_GATEWAY_",
        "AWS_",
        "AZURE_",
        "CLOUDSDK_",
        "GCE_",
        "GOOGLE_",
        "IDENTITY_",
    ];
    let all = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.filter(|(name, _)| name == "HOME" || prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

/// Returns where the counters are that all gateways share, if any are.
///
/// # Errors
/// If a file cannot be read, or has no certificates.
fn redis(arguments: &Run) -> anyhow::Result<Option<RedisOptions>> {
    let read =
        |path: &PathBuf| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let Some(address) = arguments.redis.clone() else {
        return Ok(None);
    };
    let mut options = RedisOptions {
        address,
        authorities: None,
        certificate: None,
    };
    if let Some(path) = &arguments.redis_ca {
        let parsed = Authorities::parse(&read(path)?);
        options.authorities = Some(parsed.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?);
    }
    if let Some(path) = &arguments.redis_certificate {
        let both = Secret::new(read(path)?);
        let parsed = Certificate::parse(&both, &both);
        options.certificate = Some(parsed.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?);
    }
    Ok(Some(options))
}

/// Sends what the parts say about themselves to standard error; returns what changes how much that is.
fn log(level: &str, format: LogFormat) -> LogLevel {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(level));
    // Below this level AWS's crates tell of whole requests and answers, credentials among them.
    let discreet =
        filter_fn(|metadata| *metadata.level() <= Level::INFO || !metadata.target().starts_with("aws_"));
    let written = fmt::layer::<Registry>().with_writer(io::stderr);
    let written = match format {
        LogFormat::Text => written.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => written.json().flatten_event(true).boxed(),
    };
    let written = written.with_filter(filter.and(discreet));
    tracing_subscriber::registry().with(written).init();
    LogLevel::new(level, move |level| {
        handle
            .reload(level::filter(level)?)
            .map_err(|error| error.to_string())
    })
}

/// A configuration that can be served.
struct Configuration {
    input: Input,
    snapshot: Snapshot,
    /// What is wrong with it all the same.
    remarks: Vec<String>,
}

/// What came of reading the source.
enum Prepared {
    /// It can be served.
    Sound(Configuration),
    /// It cannot.
    Refused {
        /// What was read.
        input: Input,
        /// Everything that is wrong.
        reasons: Vec<String>,
    },
}

/// What is known of one configuration when the next one comes.
#[derive(Default)]
struct Known {
    documents: Memory,
    resolver: Resolver,
}

fn prepare(source: &Source, read: Texts, arguments: &Run, loaded: u64, known: &mut Known) -> Prepared {
    let declared = source.load(read, &mut known.documents);
    let (mut snapshot, report) = known.resolver.resolve(&declared.resources, loaded);
    let mut lines: Vec<_> = declared.problems.iter().map(ToString::to_string).collect();
    for entry in &report.entries {
        let notable = |condition: &config::Condition| condition.severity > Severity::Note;
        if entry.conditions.iter().any(notable) {
            let mut entry = entry.clone();
            entry.conditions.retain(notable);
            lines.push(entry.to_string());
        }
    }
    let mut problems = declared.problems.iter();
    let mut refused = problems.any(|problem| problem.severity() == Severity::Error);
    if snapshot.listeners.is_empty() && !refused {
        lines.push(
            "tollgate: no Gateway with a listener is declared, so there is nowhere to listen".to_owned(),
        );
        refused = true;
    }
    if let Some(port) = arguments.port {
        match snapshot.listeners.len() {
            0 => {}
            1 => {
                let listeners = std::mem::take(&mut snapshot.listeners);
                snapshot.listeners = listeners.into_values().map(|listener| (port, listener)).collect();
            }
            several => {
                lines.push(format!(
                    "tollgate: --port cannot stand for the {several} ports of the configuration"
                ));
                refused = true;
            }
        }
    }
    if refused || (arguments.strict && report.has_errors()) {
        return Prepared::Refused {
            input: declared.input,
            reasons: lines,
        };
    }
    Prepared::Sound(Configuration {
        input: declared.input,
        snapshot,
        remarks: lines,
    })
}

/// Serves what the source says now, whenever it says something new.
struct Reloader<'a> {
    arguments: &'a Run,
    source: &'a Source,
    gateway: &'a Arc<Gateway>,
    watch: Option<Watch>,
    /// What was read last, whether it is served or not.
    input: Input,
    /// What is known of it.
    known: Known,
    /// Whether it is served.
    served: bool,
    /// When the first configuration was read: the age of models must not change with a reload.
    loaded: u64,
}

impl<'a> Reloader<'a> {
    fn new(
        arguments: &'a Run,
        source: &'a Source,
        gateway: &'a Arc<Gateway>,
        (input, known): (Input, Known),
        loaded: u64,
    ) -> Self {
        let mut reloader = Self {
            arguments,
            source,
            gateway,
            watch: None,
            input,
            known,
            served: true,
            loaded,
        };
        if !source.watched(&reloader.input).is_empty() {
            match Watch::new() {
                Ok(watch) => reloader.watch = Some(watch),
                Err(error) => {
                    let words = format_args!("tollgate: files are not watched: {error}; send SIGHUP instead");
                    reloader.say(Level::WARN, words);
                }
            }
        }
        reloader.follow();
        reloader
    }

    /// Waits until the source may have changed.
    async fn changed(&self) {
        match &self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Reads the source again and serves it if it says something new.
    async fn look(&mut self) {
        let read = self.source.read();
        if self.source.differs(&read, &self.input) {
            self.reload(read).await;
        }
        self.follow();
    }

    /// As [`Reloader::look`], and tries again what was refused.
    async fn insist(&mut self) {
        if !self.served {
            self.reload(self.source.read()).await;
        }
        self.look().await;
    }

    async fn reload(&mut self, read: Texts) {
        let prepared = prepare(self.source, read, self.arguments, self.loaded, &mut self.known);
        let (input, outcome) = match prepared {
            Prepared::Refused { input, reasons } => (input, Err(reasons)),
            Prepared::Sound(Configuration {
                input,
                snapshot,
                remarks,
            }) => {
                let installed = self.gateway.install(snapshot).await;
                let lines = |errors: Vec<_>| errors.into_iter().map(fault).collect();
                (input, installed.map(|()| remarks).map_err(lines))
            }
        };
        self.input = input;
        self.served = outcome.is_ok();
        match outcome {
            Ok(remarks) => {
                say_all(self.arguments.log_format, Level::WARN, &remarks);
                self.say(Level::INFO, "tollgate: configuration reloaded");
            }
            Err(reasons) => {
                say_all(self.arguments.log_format, Level::ERROR, &reasons);
                let words = "tollgate: the new configuration is not served, see above; the one before stays";
                self.say(Level::ERROR, words);
            }
        }
    }

    fn follow(&mut self) {
        if let Some(watch) = &mut self.watch
            && let Err(error) = watch.follow(&self.source.watched(&self.input))
        {
            let words = format_args!("tollgate: not every file is watched: {error}; send SIGHUP instead");
            self.say(Level::WARN, words);
        }
    }

    fn say(&self, level: Level, words: impl Display) {
        self.arguments.log_format.say(level, words);
    }
}
