//! Runs the real binary and hears what it says.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take, on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway that runs until it is dropped.
pub(crate) struct Gateway {
    child: Child,
    lines: Receiver<String>,
    /// Everything that was heard so far.
    pub(crate) heard: Vec<String>,
    /// Where clients are served.
    pub(crate) address: SocketAddr,
    /// Where the admin listener is.
    pub(crate) admin: SocketAddr,
}

/// Returns the command with `arguments`, in an environment of nothing but `variables`.
pub(crate) fn tollgate(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied());
    command
}

/// Runs the command to its end, with `stdin` as its input.
pub(crate) fn finish(mut command: Command, stdin: &str) -> (i32, String, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read may have ended already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    (
        status.code().unwrap_or(-1),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

impl Gateway {
    /// Runs `tollgate run` on ports that the system chooses, and waits until it listens.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments = [&["--access-log", "off"], arguments].concat();
        Self::start_to(Stdio::null(), &arguments, variables)
    }

    /// As [`Gateway::start`], with `stdout` as its standard output.
    pub(crate) fn start_to(stdout: Stdio, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut all = vec!["run", "--port", "0", "--admin-port", "0"];
        all.extend(arguments);
        let mut child = tollgate(&all, variables)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (say, lines) = sync_channel(4096);
        thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| say.send(line))
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut gateway = Self {
            child,
            lines,
            heard: Vec::new(),
            address: nowhere,
            admin: nowhere,
        };
        let line = gateway.hear(" listening on ");
        // What can be tried, with curl or with Claude.
        if !line.contains("  c") {
            gateway.hear("  c");
        }
        let mut addresses = line
            .split("http://")
            .skip(1)
            .map(|rest| rest.split([' ', ',', ')']).next().unwrap().parse().unwrap());
        gateway.address = addresses.next().unwrap();
        gateway.admin = addresses.next().unwrap();
        gateway
    }

    /// Waits for a line that holds `part`.
    pub(crate) fn hear(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(_) => panic!("{part:?} was not said: {:#?}", self.heard),
            }
        }
    }

    /// Returns everything that was said, once it has ended.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let heard = std::mem::take(&mut self.heard);
        heard.into_iter().chain(self.lines.iter()).collect()
    }

    /// Sends a signal by its name.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end and returns the exit code.
    pub(crate) fn ended(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        panic!("it does not end: {:#?}", self.heard);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
