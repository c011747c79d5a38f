//! What the process itself uses, under the names that clients of Prometheus have for it, and what it was given to serve.
//! Looked up when somebody asks; what a system does not tell is left out.

use std::{
    fmt,
    fs::{self, read_to_string},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// How many times a second Linux counts processor time in what it tells of processes.
const TICKS: f64 = 100.0;

/// What is known of the process.
#[derive(Debug)]
pub(crate) struct Process {
    started: f64,
    /// How many snapshots were installed.
    snapshots: AtomicU64,
    /// When the last one was, in seconds since the Unix epoch.
    installed: AtomicU64,
}

impl Process {
    /// Registers everything.
    pub(crate) fn register(registry: &mut Registry) -> Arc<Self> {
        let process = Arc::new(Self {
            started: now(),
            snapshots: AtomicU64::new(0),
            installed: AtomicU64::new(0),
        });
        registry.register_collector(Box::new(Arc::clone(&process)));
        process
    }

    /// Notes that a snapshot is installed.
    pub(crate) fn installed(&self) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        self.installed.store(now() as u64, Ordering::Relaxed);
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counters = [
            (
                "tollgate_snapshots",
                "Configurations that were installed",
                Some(self.snapshots.load(Ordering::Relaxed) as f64),
            ),
            (
                "process_cpu_seconds",
                "Processor time that the process has used",
                processor_time(),
            ),
        ];
        let gauges = [
            (
                "tollgate_snapshot_installed_timestamp_seconds",
                "When the last configuration was installed, since the Unix epoch",
                Some(self.installed.load(Ordering::Relaxed) as f64),
            ),
            (
                "process_start_time_seconds",
                "When the process has begun, since the Unix epoch",
                Some(self.started),
            ),
            (
                "process_resident_memory_bytes",
                "Memory of the process that is resident",
                status("VmRSS:", 1024.0),
            ),
            (
                "process_threads",
                "Threads of the process",
                status("Threads:", 1.0),
            ),
            (
                "process_open_fds",
                "Files and sockets that are open",
                open_files(),
            ),
        ];
        for (name, help, value) in counters {
            if let Some(value) = value {
                let metric = ConstCounter::new(value);
                metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
            }
        }
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let metric = ConstGauge::new(value);
                metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
            }
        }
        Ok(())
    }
}

/// Returns the processor time of the process, in seconds (proc(5), `/proc/pid/stat`).
fn processor_time() -> Option<f64> {
    let stat = read_to_string("/proc/self/stat").ok()?;
    // The name stands in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

/// Returns a number of `/proc/self/status`, in multiples of `unit`.
fn status(name: &str, unit: f64) -> Option<f64> {
    let status = read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: f64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(number * unit)
}

fn open_files() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
