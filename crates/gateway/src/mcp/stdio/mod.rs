//! Servers that are programs of this machine: started when a session needs one, spoken with over their standard
//! input and output, a message to a line.
//!
//! A program serves one session of one client, because servers of this kind were made for one client and keep
//! what it said; where a route says so, one program serves all. It is stopped when its session ends, when it has
//! been idle for long, and with the gateway. One that dies is started again by the next call that needs it, which
//! waits the longer the more often that happened.

mod process;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use config::mcp_route::Program;
use mcp::{Message, session::Entry};
use tokio::time::Instant;

use process::Process;
pub(super) use process::{Abandoned, Talk};

use super::{
    call::{Ask, Begun, Failure, Fault, Reply},
    sessions::Fingerprint,
};

/// The programs that run.
#[derive(Default)]
pub(crate) struct Programs(Mutex<Running>);

#[derive(Default)]
struct Running {
    processes: HashMap<Box<str>, Arc<Process>>,
    /// Programs that died early, by what starts them.
    trouble: BTreeMap<Arc<str>, Trouble>,
}

/// What became of the last attempts to run a program.
#[derive(Clone, Copy)]
struct Trouble {
    deaths: u32,
    not_before: Instant,
}

/// The most programs that run at once.
const MAX_RUNNING: usize = 256;

/// A program that was not spoken with for so long, and to which nobody listens, is stopped if there is no room for another.
const SPARED: Duration = Duration::from_secs(5 * 60);

/// A program that was not spoken with for so long, and to which nobody listens, is stopped; its session opens another if
/// need be.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// The wait after the first death, which doubles with each that follows, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A program that lived for so long is not counted among those that die early.
const SOUND: Duration = Duration::from_secs(10);

/// A call to a program.
pub(super) struct Call<'a> {
    pub(super) programs: &'a Programs,
    pub(super) backend: &'a Arc<str>,
    pub(super) program: &'a Program,
    pub(super) entry: Option<&'a Entry>,
    /// The session of whoever calls.
    pub(super) whose: Fingerprint,
}

impl Call<'_> {
    /// Asks the program; one is started for a session that begins.
    pub(super) async fn ask(&self, ask: Ask<'_>, limit: Duration) -> Result<Reply, Failure> {
        let fail = |fault, reason: String| Failure::new(self.backend, fault, reason);
        let opens = matches!(ask, Ask::Post(Message::Request(request)) if request.method == "initialize");
        let begun = self.entry.filter(|entry| !entry.session.is_empty());
        let (process, opened) = match begun {
            None => {
                let process = self.start(limit).await?;
                let opened = Begun {
                    id: process.key().to_owned(),
                    endpoint: None,
                };
                (process, Some(opened))
            }
            Some(entry) => {
                let lost = |reason: &str| Failure {
                    lost: true,
                    ..fail(Fault::Unreachable, reason.to_owned())
                };
                let found = self.programs.find(&entry.session);
                let process = found.ok_or_else(|| lost("its program no longer runs"))?;
                if process.program() != self.program {
                    // A reload has put another in its place.
                    self.end(&process);
                    return Err(lost("its program is another one by now"));
                }
                (process, None)
            }
        };
        match ask {
            Ask::Post(message) if opens => {
                let answer = process.initialize(message, self.whose, limit).await;
                let answer = answer.map_err(|reason| fail(Fault::BadReply, reason))?;
                Ok(Reply::Message(answer, opened))
            }
            Ask::Post(message) => {
                // What it was not told it has not begun with.
                let untold = |reason| Failure {
                    lost: true,
                    ..fail(Fault::Broken, reason)
                };
                let talk = process.post(message, self.whose).await.map_err(untold)?;
                Ok(match talk {
                    Some(talk) => Reply::talk(self.backend, talk, opened),
                    None => Reply::Nothing,
                })
            }
            Ask::Get(_) => Ok(Reply::talk(self.backend, process.listen(), None)),
            Ask::Delete => {
                self.end(&process);
                Ok(Reply::Nothing)
            }
        }
    }

    /// Ends the program of one session.
    fn end(&self, process: &Process) {
        if !process.program().shared {
            self.programs.stop(process);
        }
    }

    /// Returns the program for a session that begins.
    async fn start(&self, limit: Duration) -> Result<Arc<Process>, Failure> {
        let fail = |reason: String| Failure::new(self.backend, Fault::Unreachable, reason);
        if let Some(not_before) = self.programs.not_before(&self.program.id) {
            if not_before > Instant::now() + limit {
                return Err(fail("its program dies whenever it is started".to_owned()));
            }
            tokio::time::sleep_until(not_before).await;
        }
        self.programs.start(self.backend, self.program).map_err(fail)
    }
}

impl Programs {
    /// Returns the program that serves the session called `key`, if it runs.
    fn find(&self, key: &str) -> Option<Arc<Process>> {
        let mut running = self.lock();
        let process = running.processes.get(key)?;
        if !process.is_over() {
            return Some(Arc::clone(process));
        }
        if let Some(process) = running.processes.remove(key) {
            running.died(&process);
        }
        None
    }

    /// Returns a program that has just been started, or the one that serves all.
    fn start(&self, backend: &Arc<str>, program: &Program) -> Result<Arc<Process>, String> {
        // Held all the while: two that begin at once are not to start two of what there is one of.
        let mut running = self.lock();
        running.bury();
        let mut known = running.processes.values();
        if let Some(shared) = known.find(|process| program.shared && process.program() == program) {
            return Ok(Arc::clone(shared));
        }
        if running.processes.len() >= MAX_RUNNING && !running.make_room() {
            return Err(format!("{MAX_RUNNING} programs run already"));
        }
        let key = format!("p-{:032x}", fastrand::u128(..));
        let started = Process::start(backend, program, &key);
        let process = started.map_err(|error| format!("its program cannot be started: {error}"))?;
        running
            .processes
            .insert(key.into_boxed_str(), Arc::clone(&process));
        Ok(process)
    }

    fn not_before(&self, program: &str) -> Option<Instant> {
        let mut running = self.lock();
        running.bury();
        running.trouble.get(program).map(|trouble| trouble.not_before)
    }

    fn stop(&self, process: &Process) {
        self.lock().processes.remove(process.key());
        process.stop();
    }

    /// Stops programs that nobody has spoken with for long.
    pub(crate) fn prune(&self) {
        let mut running = self.lock();
        running.bury();
        running.processes.retain(|_, process| {
            let idle = process.idle_for() > IDLE && !process.is_used();
            if idle {
                process.stop();
            }
            !idle
        });
    }

    /// Stops every program, and waits until they have ended.
    pub(crate) async fn end(&self) {
        let processes: Vec<_> = self
            .lock()
            .processes
            .drain()
            .map(|(_, process)| process)
            .collect();
        processes.iter().for_each(|process| process.stop());
        for process in processes {
            process.ended().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Takes note of programs that have died, or are about to.
    fn bury(&mut self) {
        let dead: Vec<Box<str>> = self
            .processes
            .iter()
            .filter(|(_, process)| process.is_over())
            .map(|(key, _)| key.clone())
            .collect();
        for key in dead {
            if let Some(process) = self.processes.remove(&key) {
                self.died(&process);
            }
        }
    }

    /// Stops the program that nobody has spoken with for longest, if that is long; returns whether there was one. Most clients
    /// go away without a word, and their sessions are opened anew should they come back.
    fn make_room(&mut self) -> bool {
        let idle = self.processes.values().filter(|process| !process.is_used());
        let longest = idle.max_by_key(|process| process.idle_for()).map(Arc::clone);
        let Some(longest) = longest.filter(|process| process.idle_for() > SPARED) else {
            return false;
        };
        self.processes.remove(longest.key());
        longest.stop();
        true
    }

    fn died(&mut self, process: &Process) {
        if process.age() >= SOUND {
            self.trouble.remove(&process.program().id);
            return;
        }
        let trouble = self
            .trouble
            .entry(Arc::clone(&process.program().id))
            .or_insert(Trouble {
                deaths: 0,
                not_before: Instant::now(),
            });
        let wait = FIRST_WAIT * 2_u32.saturating_pow(trouble.deaths.min(16));
        trouble.deaths += 1;
        trouble.not_before = Instant::now() + wait.min(LONGEST_WAIT);
    }
}

#[cfg(all(test, unix))]
mod tests;
