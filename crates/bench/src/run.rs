//! A whole measurement: every case in rounds over its contenders, then start-up and memory.
//!
//! The machine is noisy, so contenders take turns within each round and every figure is the median of the rounds;
//! ratios are formed within a round, where both sides met the same weather.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{
    case::{CASES, Case, Field},
    contender::{self, Contender, Counters, FEW, Kind, MANY, RELAYED, Running, TRANSLATED, Telling},
    limiter,
    load::{Load, Outcome},
    mcp,
    process::{Memory, Process},
    script,
    upstream::Manner,
};

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) tollgate: Option<PathBuf>,
    pub(crate) redis: Option<PathBuf>,
    /// Cases whose name contains one of these; all of them when empty.
    pub(crate) only: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) measured: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) dir: PathBuf,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) cases: Vec<CaseResult>,
    pub(crate) starts: Vec<Start>,
    pub(crate) memory: Vec<MemoryResult>,
    /// What the limiter takes for a request by itself; `None` where it was not asked for.
    pub(crate) limiter: Option<Duration>,
    pub(crate) mcp: mcp::Measured,
    /// Name and version of the programs that took part.
    pub(crate) versions: Vec<(&'static str, String)>,
    /// Name of those that did not, and why.
    pub(crate) missing: Vec<(&'static str, String)>,
}

#[derive(Debug)]
pub(crate) struct CaseResult {
    pub(crate) case: &'static Case,
    pub(crate) rows: Vec<Row>,
}

/// One contender in one case.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) contender: &'static str,
    pub(crate) rounds: Vec<Figures>,
}

/// One contender in one round; times in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) first_byte: f64,
    /// Processor time per request; none when nothing stands between.
    pub(crate) cpu: Option<f64>,
    pub(crate) memory: Option<Memory>,
    pub(crate) errors: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) contender: &'static str,
    /// Milliseconds from start to first answer, median.
    pub(crate) ready: f64,
    /// Bytes resident a second later, median.
    pub(crate) idle: f64,
    /// Milliseconds until a change of one route is served, median; none for programs that are not asked.
    pub(crate) reload: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct MemoryResult {
    pub(crate) contender: &'static str,
    pub(crate) translate: bool,
    /// Bytes over idle at the peak, per request in flight, as a multiple of the request's body.
    pub(crate) bodies: f64,
    pub(crate) errors: Vec<String>,
}

/// The name of the row without a proxy.
pub(crate) const DIRECT: &str = "direct";
/// The name of the row that others are compared with.
pub(crate) const ENVOY: &str = "envoy";
/// The name of the row that is judged.
pub(crate) const TOLLGATE: &str = "tollgate";
/// The name of the row with many models.
pub(crate) const TOLLGATE_MANY: &str = "tollgate-10k";
/// The name of the row with limits that are counted in memory.
pub(crate) const TOLLGATE_LIMITS: &str = "tollgate-limits";
/// The name of the row with limits that are counted in Redis.
pub(crate) const TOLLGATE_REDIS: &str = "tollgate-redis";
/// The name of the row that tells nothing of requests.
pub(crate) const TOLLGATE_SILENT: &str = "tollgate-silent";
/// The name of the row that exports spans.
pub(crate) const TOLLGATE_TRACED: &str = "tollgate-traced";

/// What is measured beside the cases.
pub(crate) const OTHERS: &[(&str, &str)] = &[
    ("limiter", "a limit in memory, by itself"),
    (
        "start",
        "until the first answer, memory after it, reload of one route",
    ),
    ("memory", "memory with large requests in flight"),
];

const STARTS: usize = 7;
const IDLE_AFTER: Duration = Duration::from_secs(1);
const LARGE: usize = 10 << 20;
const LARGE_IN_FLIGHT: usize = 8;
/// Long enough that all requests of the memory case have arrived before the first is answered.
const LARGE_HOLD: Duration = Duration::from_secs(1);

/// A running mock upstream.
pub(crate) struct Mock {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Mock {
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let address = contender::free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["upstream", "--port", &address.port().to_string()]);
        let mut process = Process::start(command, dir, "upstream")?;
        contender::answers(address, || process.ended()).context("the mock upstream")?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// Sets how replies are given from now on.
    pub(crate) fn set(&self, manner: Manner) -> anyhow::Result<()> {
        set_manner(self.address, manner)
    }
}

/// A running Redis.
struct Redis {
    address: SocketAddr,
    _process: Process,
}

impl Redis {
    fn start(binary: &Path, dir: &Path) -> anyhow::Result<Self> {
        let address = contender::free_address()?;
        let mut command = Command::new(binary);
        command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1"]);
        command
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(dir);
        let process = Process::start(command, dir, "redis")?;
        Ok(Self {
            address,
            _process: process,
        })
    }
}

/// Tells the mock upstream at `address` how to give replies.
pub(crate) fn set_manner(address: SocketAddr, manner: Manner) -> anyhow::Result<()> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(format!("GET {} HTTP/1.1\r\n\r\n", manner.path()).as_bytes())?;
    let mut reply = [0; 64];
    let len = stream.read(&mut reply)?;
    if !reply.get(..len).unwrap_or_default().starts_with(b"HTTP/1.1 200") {
        bail!("the mock upstream refuses {manner:?}");
    }
    Ok(())
}

/// Measures everything that `plan` asks for.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Results> {
    let others = OTHERS.iter().map(|(name, _)| *name);
    let names = CASES.iter().map(|case| case.name).chain(others);
    let mut names = names.chain(mcp::names());
    if !names.any(|name| plan.wants(name)) {
        bail!("no case is called like {:?}; `bench cases` lists them", plan.only);
    }
    std::fs::create_dir_all(&plan.dir)?;
    let dir = plan.dir.canonicalize()?;
    let mock = Mock::start(&dir)?;
    let mut results = Results::default();
    let redis = plan.redis.as_deref().map(|binary| Redis::start(binary, &dir));
    let redis = redis.transpose()?;
    let mut contenders = contenders(plan, &mock, redis.as_ref(), &mut results);
    let running = start_all(&mut contenders, &dir, &mock, &mut results);
    measure_cases(plan, &mock, &running, &mut results)?;
    drop(running);
    mock.set(Manner::default())?;
    if plan.wants("limiter") {
        progress("limiter");
        results.limiter = Some(limiter::measure()?);
    }
    if plan.wants("start") {
        for contender in contenders.iter().filter(|contender| !contender.varies()) {
            progress(&format!("start: {}", contender.name));
            match measure_start(contender, &dir, &mock) {
                Ok(start) => results.starts.push(start),
                Err(error) => results
                    .missing
                    .push((contender.name, format!("start: {error:#}"))),
            }
        }
    }
    if plan.wants("memory") {
        mock.set(Manner {
            hold: LARGE_HOLD,
            ..Manner::default()
        })?;
        for contender in contenders
            .iter()
            .filter(|contender| contender.name != TOLLGATE_MANY && !contender.varies())
        {
            let modes: &[bool] = if contender.name == TOLLGATE {
                &[false, true]
            } else {
                &[false]
            };
            for &translate in modes {
                progress(&format!("memory: {}", contender.name));
                match measure_memory(contender, translate, &dir, &mock) {
                    Ok(memory) => results.memory.push(memory),
                    Err(error) => results
                        .missing
                        .push((contender.name, format!("memory: {error:#}"))),
                }
            }
        }
    }
    let wants_mcp = mcp::names().any(|name| plan.wants(name));
    if let Some(binary) = plan.tollgate.as_deref().filter(|_| wants_mcp) {
        mock.set(Manner::default())?;
        results.mcp = mcp::measure(plan, binary, &dir, &mock)?;
    }
    Ok(results)
}

impl Row {
    /// Returns a row in which nothing was measured yet.
    pub(crate) fn of(contender: &'static str) -> Self {
        Self {
            contender,
            rounds: Vec::new(),
        }
    }
}

impl Plan {
    /// Returns whether the case called `name` is to be played.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// Returns who can be measured; notes who cannot.
fn contenders(plan: &Plan, mock: &Mock, redis: Option<&Redis>, results: &mut Results) -> Vec<Contender> {
    let of = |models, counters| Kind::Tollgate {
        models,
        counters,
        telling: Telling::Records,
    };
    let telling = |telling| Kind::Tollgate {
        models: FEW,
        counters: Counters::None,
        telling,
    };
    let mut table = vec![
        ("nginx", Kind::Nginx, &plan.nginx),
        (ENVOY, Kind::Envoy, &plan.envoy),
        (TOLLGATE, of(FEW, Counters::None), &plan.tollgate),
        (TOLLGATE_MANY, of(MANY, Counters::None), &plan.tollgate),
        (TOLLGATE_LIMITS, of(FEW, Counters::Memory), &plan.tollgate),
        (TOLLGATE_SILENT, telling(Telling::Nothing), &plan.tollgate),
        (
            TOLLGATE_TRACED,
            telling(Telling::Spans(mock.address)),
            &plan.tollgate,
        ),
    ];
    match redis {
        Some(redis) => table.push((
            TOLLGATE_REDIS,
            of(FEW, Counters::Redis(redis.address)),
            &plan.tollgate,
        )),
        None => results
            .missing
            .push((TOLLGATE_REDIS, "no Redis was given".to_owned())),
    }
    let mut contenders = Vec::new();
    for (name, kind, binary) in table {
        match binary {
            Some(binary) => contenders.push(Contender {
                name,
                kind,
                binary: binary.clone(),
            }),
            None => results.missing.push((name, "no binary was given".to_owned())),
        }
    }
    contenders
}

/// Starts every contender; those that do not start are noted and no longer contend.
fn start_all(
    contenders: &mut Vec<Contender>,
    dir: &Path,
    mock: &Mock,
    results: &mut Results,
) -> Vec<(&'static str, Running)> {
    let mut running = Vec::new();
    contenders.retain(|contender| match contender.start(dir, mock.address) {
        Ok(started) => {
            // The same program runs several times.
            if contender.name != TOLLGATE_MANY && !contender.varies() {
                results.versions.push((contender.name, contender.version()));
            }
            running.push((contender.name, started));
            true
        }
        Err(error) => {
            results.missing.push((contender.name, format!("{error:#}")));
            false
        }
    });
    running
}

fn measure_cases(
    plan: &Plan,
    mock: &Mock,
    running: &[(&'static str, Running)],
    results: &mut Results,
) -> anyhow::Result<()> {
    let cases: Vec<&'static Case> = CASES.iter().filter(|case| plan.wants(case.name)).collect();
    for case in cases {
        mock.set(Manner {
            pace: case.pace,
            ..Manner::default()
        })?;
        let field: Vec<_> = running.iter().filter(|(name, _)| case.field.has(name)).collect();
        let mut rows = vec![Row::of(DIRECT)];
        rows.extend(field.iter().map(|(contender, _)| Row::of(contender)));
        let rounds = plan.rounds * case.field.precision();
        for round in 1..=rounds {
            progress(&format!("{}: round {round} of {rounds}", case.name));
            let turns = std::iter::once(None).chain(field.iter().map(|(_, running)| Some(running)));
            let mut turns: Vec<_> = rows.iter_mut().zip(turns).collect();
            // What the machine does more and more, or less and less, meets all alike.
            if round % 2 == 0 {
                turns.reverse();
            }
            for (row, running) in turns {
                row.rounds.push(measure(plan, case, mock, running)?);
            }
        }
        results.cases.push(CaseResult { case, rows });
    }
    Ok(())
}

impl Field {
    /// Returns how many rounds are made of one: what the gateway takes beside itself differs by less than two rounds do.
    fn precision(self) -> usize {
        match self {
            Self::Proxies => 1,
            Self::Models | Self::Limits | Self::Telling => 5,
        }
    }

    fn has(self, contender: &str) -> bool {
        match self {
            Self::Proxies => ["nginx", ENVOY, TOLLGATE].contains(&contender),
            Self::Models => [TOLLGATE, TOLLGATE_MANY].contains(&contender),
            Self::Limits => [TOLLGATE, TOLLGATE_LIMITS, TOLLGATE_REDIS].contains(&contender),
            Self::Telling => [TOLLGATE, TOLLGATE_SILENT, TOLLGATE_TRACED].contains(&contender),
        }
    }
}

/// Measures one contender, or the upstream itself, for one round.
fn measure(plan: &Plan, case: &Case, mock: &Mock, running: Option<&Running>) -> anyhow::Result<Figures> {
    let address = running.map_or(mock.address, |running| running.address);
    let load = Load {
        connections: case.connections,
        warm_up: plan.warm_up,
        measured: plan.measured,
        ..Load::chat(
            address,
            script::prompt(case.way.model(), case.stream, case.size),
            case.stream,
        )
    };
    let (before, outcome) = load.run(|| {
        running.map(|running| {
            // Without the reset the peak is that of an earlier case; the kernel may forbid it.
            running.process.reset_peak().ok();
            running.process.cpu()
        })
    })?;
    let cpu = running
        .zip(before)
        .map(|(running, before)| running.process.cpu().since(&before));
    Ok(figures(
        outcome,
        cpu,
        running.map(|running| running.process.memory()),
    ))
}

pub(crate) fn figures(outcome: Outcome, cpu: Option<Duration>, memory: Option<Memory>) -> Figures {
    let requests = outcome.latencies.len() as f64;
    Figures {
        rate: requests / outcome.elapsed.as_secs_f64(),
        p50: quantile(&outcome.latencies, 0.5),
        p99: quantile(&outcome.latencies, 0.99),
        first_byte: quantile(&outcome.first_bytes, 0.5),
        cpu: cpu.map(|cpu| micros(cpu) / requests),
        memory,
        errors: outcome.errors,
    }
}

fn measure_start(contender: &Contender, dir: &Path, mock: &Mock) -> anyhow::Result<Start> {
    let mut ready = Vec::new();
    let mut idle = Vec::new();
    let mut reloads = Vec::new();
    for _ in 0..STARTS {
        let running = contender.start(dir, mock.address)?;
        thread::sleep(IDLE_AFTER);
        ready.push(micros(running.ready) / 1000.0);
        idle.push(running.process.memory().resident as f64);
        if contender.name == TOLLGATE_MANY {
            reloads.push(micros(contender.change(dir, &running)?) / 1000.0);
        }
    }
    Ok(Start {
        contender: contender.name,
        ready: median(&ready),
        idle: median(&idle),
        reload: (!reloads.is_empty()).then(|| median(&reloads)),
    })
}

fn measure_memory(
    contender: &Contender,
    translate: bool,
    dir: &Path,
    mock: &Mock,
) -> anyhow::Result<MemoryResult> {
    let running = contender.start(dir, mock.address)?;
    let idle = running.process.memory().resident;
    let model = if translate { TRANSLATED } else { RELAYED };
    let load = Load {
        connections: LARGE_IN_FLIGHT,
        measured: LARGE_HOLD * 3,
        ..Load::chat(running.address, script::prompt(model, false, LARGE), false)
    };
    let (result, outcome) = load.run(|| running.process.reset_peak())?;
    result?;
    let over = running.process.memory().peak.saturating_sub(idle) as f64;
    let bodies = over / (LARGE * LARGE_IN_FLIGHT) as f64;
    Ok(MemoryResult {
        contender: contender.name,
        translate,
        bodies,
        errors: outcome.errors,
    })
}

/// Returns the middle of `values`; not a number when there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(value)) => *value,
        (_, None) => f64::NAN,
    }
}

pub(crate) fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share) as usize;
    sorted
        .get(rank.min(sorted.len().saturating_sub(1)))
        .map_or(f64::NAN, |value| micros(*value))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Says what is measured now.
pub(crate) fn progress(line: &str) {
    // Nobody may be listening, and the report does not depend on it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |values: &[f64], wanted: f64| assert_eq!(median(values), wanted);
        check(&[3.0], 3.0);
        check(&[3.0, 1.0], 2.0);
        check(&[9.0, 1.0, 2.0], 2.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn quantiles() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!(quantile(&times, 0.5).round(), 51.0);
        assert_eq!(quantile(&times, 0.99).round(), 100.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
