//! What was measured on: without it, no figure means anything.

use std::{fmt, fs, thread};

use serde_json::{Value, json};

/// A day and a machine.
#[derive(Debug)]
pub(crate) struct Machine {
    date: String,
    processor: String,
    cores: usize,
    kernel: String,
}

impl Machine {
    /// Returns this machine; `date` is taken as given.
    pub(crate) fn this(date: &str) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            date: date.to_owned(),
            processor: name.map_or("unknown processor", |(_, name)| name).to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({"date": self.date, "processor": self.processor, "cores": self.cores, "kernel": self.kernel})
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Measured {}, {} cores of {}, Linux {}",
            self.date, self.cores, self.processor, self.kernel
        )
    }
}
