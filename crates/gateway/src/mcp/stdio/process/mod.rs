//! One program: its life, and its lines.

mod talk;

use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use config::mcp_route::Program;
use mcp::Message;
#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tracing::{info, warn};

use talk::Open;
pub(in crate::mcp) use talk::{Abandoned, Talk};

/// The longest line that is read.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// The longest line of a program's own log that is written to ours.
const MAX_LOG: usize = 2_000;

/// How long a program may take to end once its input is closed, and again once it is asked to.
const GRACE: Duration = Duration::from_secs(2);

/// A program that runs.
pub(super) struct Process {
    key: Box<str>,
    program: Arc<str>,
    backend: Arc<str>,
    started: Instant,
    /// Milliseconds after the start at which it was last spoken with.
    spoken: AtomicU64,
    stdin: tokio::sync::Mutex<Option<ChildStdin>>,
    open: Mutex<Open>,
    next_id: AtomicU64,
    /// The answer to `initialize`, once there is one: a program that serves several is asked once.
    initialized: tokio::sync::Mutex<Option<Message>>,
    told: AtomicBool,
    stop: Notify,
    dead: watch::Sender<bool>,
}

impl Process {
    /// Starts a program.
    #[expect(
        clippy::disallowed_methods,
        reason = "a program serves many requests, and its lines are read whether or not one waits; it ends with its session"
    )]
    pub(super) fn start(backend: &Arc<str>, program: &Program, key: &str) -> io::Result<Arc<Self>> {
        let mut command = Command::new(&program.command);
        command
            .args(&program.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in &program.env {
            command.env(name, value.expose());
        }
        if let Some(folder) = &program.cwd {
            command.current_dir(folder);
        }
        let mut child = command.spawn()?;
        let none = || io::Error::from(io::ErrorKind::BrokenPipe);
        let stdin = child.stdin.take().ok_or_else(none)?;
        let stdout = child.stdout.take().ok_or_else(none)?;
        let stderr = child.stderr.take().ok_or_else(none)?;
        let process = Arc::new(Self {
            key: Box::from(key),
            program: Arc::clone(&program.id),
            backend: Arc::clone(backend),
            started: Instant::now(),
            spoken: AtomicU64::new(0),
            stdin: tokio::sync::Mutex::new(Some(stdin)),
            open: Mutex::default(),
            next_id: AtomicU64::new(1),
            initialized: tokio::sync::Mutex::default(),
            told: AtomicBool::new(false),
            stop: Notify::new(),
            dead: watch::Sender::new(false),
        });
        info!(backend = %backend, command = %program.command, "program started");
        let own = Arc::clone(&process);
        tokio::spawn(async move {
            let said = own.hear(BufReader::new(stdout));
            let logged = log(Arc::clone(&own.backend), BufReader::new(stderr));
            let watched = own.watch(&mut child);
            // What a program says last is read before its end is known.
            tokio::join!(said, logged, watched);
        });
        Ok(process)
    }

    /// Tells the program to end, and sees to it that it does.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until the program has ended.
    pub(super) async fn ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn program(&self) -> &Arc<str> {
        &self.program
    }

    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn idle_for(&self) -> Duration {
        let spoken = Duration::from_millis(self.spoken.load(Ordering::Relaxed));
        self.age().saturating_sub(spoken)
    }

    /// Waits for the program's end, or brings it about.
    async fn watch(&self, child: &mut Child) {
        let ended = tokio::select! {
            ended = child.wait() => ended,
            () = self.stop.notified() => {
                // A server of this kind ends when its input does (revision 2025-11-25, "Lifecycle", stdio).
                self.stdin.lock().await.take();
                end(child).await
            }
        };
        match ended {
            Ok(status) => info!(backend = %self.backend, %status, "program ended"),
            Err(error) => warn!(backend = %self.backend, %error, "a program's end is not known"),
        }
        self.dead.send_replace(true);
        // Nobody is answered any more.
        *self.open() = Open::default();
    }
}

/// Writes what a program says about itself to our log.
async fn log(backend: Arc<str>, mut from: impl AsyncBufRead + Unpin) {
    while let Some(line) = next_line(&mut from, MAX_LINE).await {
        let line = String::from_utf8_lossy(&line);
        let shown: String = line.trim_end().chars().take(MAX_LOG).collect();
        if !shown.is_empty() {
            info!(backend = %backend, line = %shown, "program said");
        }
    }
}

/// Returns the next line; `None` at the end, or if there is none of at most `limit` bytes.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), limit: usize) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let piece = from.fill_buf().await.ok()?;
        if piece.is_empty() {
            return (!line.is_empty()).then_some(line);
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(piece.len(), |end| end + 1);
        line.extend(piece.iter().take(taken));
        from.consume(taken);
        if end.is_some() {
            return Some(line);
        }
        if line.len() > limit {
            return None;
        }
    }
}

/// Waits for a program to end whose input is closed, asks it to, and at last makes it.
async fn end(child: &mut Child) -> io::Result<ExitStatus> {
    if let Ok(ended) = timeout(GRACE, child.wait()).await {
        return ended;
    }
    terminate(child);
    if let Ok(ended) = timeout(GRACE, child.wait()).await {
        return ended;
    }
    child.kill().await?;
    child.wait().await
}

/// Asks a program to end.
#[cfg(unix)]
fn terminate(child: &Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // One that has ended by now is waited for all the same.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// There is no asking here.
#[cfg(not(unix))]
fn terminate(_: &Child) {}
