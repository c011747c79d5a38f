//! A process under test, with its children: started, measured from outside, ended.
//!
//! Everything is read from `/proc`, so the numbers mean the same for every program.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;

/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// Kernels report `utime` and `stime` in hundredths of a second on every platform that is measured here.
const TICK: Duration = Duration::from_millis(10);

/// A running process; ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

/// Processor time of a process tree at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    /// Nanoseconds per living thread: exact, but gone when a thread ends.
    threads: BTreeMap<u32, u64>,
    /// Of the processes: complete, but in ticks.
    total: Duration,
}

/// Memory of a process tree, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// The sum of the processes' peaks since their start or the last [`Process::reset_peak`].
    pub(crate) peak: u64,
}

impl Process {
    /// Starts `command`; its output goes to `<dir>/<name>.out` and `.err`.
    pub(crate) fn start(mut command: Command, dir: &Path, name: &str) -> anyhow::Result<Self> {
        let out = File::create(dir.join(format!("{name}.out")))?;
        let err = File::create(dir.join(format!("{name}.err")))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self { child })
    }

    /// Whether the process has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns the processor time used until now.
    pub(crate) fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        for process in tree(self.child.id()) {
            cpu.total += ticks(process).unwrap_or_default();
            let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
                continue;
            };
            for thread in threads
                .flatten()
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            {
                let run = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat"));
                if let Some(run) = run.ok().and_then(|text| text.split(' ').next()?.parse().ok()) {
                    cpu.threads.insert(thread, run);
                }
            }
        }
        cpu
    }

    /// Returns the memory held now and at most.
    pub(crate) fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for process in tree(self.child.id()) {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            memory.resident += field(&status, "VmRSS:");
            memory.peak += field(&status, "VmHWM:");
        }
        memory
    }

    /// Lets the peak begin again from what is held now.
    pub(crate) fn reset_peak(&self) -> anyhow::Result<()> {
        for process in tree(self.child.id()) {
            // 5 resets the high-water mark; see proc_pid_clear_refs(5).
            fs::write(format!("/proc/{process}/clear_refs"), "5")?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once reaped, the id may be another's.
        if self.ended() {
            return;
        }
        // The standard library only knows how to kill, and a killed master leaves its workers behind.
        Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .ok();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.ended() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Cpu {
    /// Returns what was used since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let exact =
            !earlier.threads.is_empty() && earlier.threads.keys().all(|id| self.threads.contains_key(id));
        if !exact {
            return self.total.saturating_sub(earlier.total);
        }
        let of = |(id, now): (&u32, &u64)| {
            now.saturating_sub(earlier.threads.get(id).copied().unwrap_or_default())
        };
        Duration::from_nanos(self.threads.iter().map(of).sum())
    }
}

/// Returns `root` and all its descendants.
fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id: u32| Some((id, stat(id)?.get(1)?.parse().ok()?)))
        .collect();
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        next += 1;
    }
    tree
}

fn ticks(process: u32) -> Option<Duration> {
    let stat = stat(process)?;
    let [user, system] = [stat.get(11)?, stat.get(12)?].map(|field| field.parse::<u32>().unwrap_or_default());
    Some(TICK * (user + system))
}

/// Returns the fields of `/proc/<id>/stat` from the third on: the second is a name that may hold anything.
fn stat(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value
        .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or_default()
        * 1024
}
