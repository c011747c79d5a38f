//! A stand-in for Redis that is slow, or refuses, when a test wants it to.
//!
//! It speaks RESP2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>) and counts nothing: it admits every
//! claim that is not above the whole limit by itself, and notes what it was asked. What Redis itself does with the scripts is tested with Redis.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::script::Gate;

/// How long a test waits for a script.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on the loopback interface that takes the gateway's scripts; stops when dropped.
pub struct Redis {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

/// A script that was called.
#[derive(Clone, Debug)]
pub struct Called {
    /// Its keys.
    pub keys: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
}

#[derive(Default)]
struct State {
    admits: watch::Sender<Vec<Called>>,
    settles: watch::Sender<Vec<Called>>,
    /// How many connections were made.
    connections: watch::Sender<usize>,
    /// How often all of them were closed.
    hung_up: watch::Sender<usize>,
    /// What calls that admit wait for.
    slow: Mutex<Option<Gate>>,
    /// What calls that settle are told in place of being taken.
    refusal: Mutex<Option<String>>,
}

impl Redis {
    /// Returns a server that answers at once.
    ///
    /// # Panics
    /// If there is no port.
    #[expect(clippy::disallowed_methods, reason = "the server answers until it is dropped")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("the port has an address");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    // Who goes away has no more to ask.
                    let _ = serve(stream, &state).await;
                });
            }
        });
        Self {
            address,
            state,
            _serving: serving,
        }
    }

    /// Returns its address, as the gateway is given one.
    pub fn address(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Closes all connections; others are taken.
    pub fn hang_up(&self) {
        self.state.hung_up.send_modify(|times| *times += 1);
    }

    /// Waits until `count` connections were made.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn connected(&self, count: usize) {
        let mut connections = self.state.connections.subscribe();
        let reached = timeout(PATIENCE, connections.wait_for(|made| *made >= count)).await;
        assert!(reached.is_ok(), "no {count} connections");
    }

    /// Has claims answered once `gate` is open.
    pub fn slow(&self, gate: &Gate) {
        *lock(&self.state.slow) = Some(gate.clone());
    }

    /// Has settlements refused with `error`, or taken again.
    pub fn refuse(&self, error: Option<&str>) {
        *lock(&self.state.refusal) = error.map(str::to_owned);
    }

    /// Waits until claims were asked `count` times, and returns them.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn admits(&self, count: usize) -> Vec<Called> {
        until(&self.state.admits, count, "claims").await
    }

    /// Waits until something was to be settled `count` times, refused or not, and returns it.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn settles(&self, count: usize) -> Vec<Called> {
        until(&self.state.settles, count, "settlements").await
    }
}

async fn until(calls: &watch::Sender<Vec<Called>>, count: usize, what: &str) -> Vec<Called> {
    let mut known = calls.subscribe();
    let reached = timeout(PATIENCE, known.wait_for(|calls| calls.len() >= count)).await;
    match reached {
        Ok(Ok(calls)) => calls.clone(),
        _ => panic!("no {count} {what}: {:?}", calls.borrow()),
    }
}

async fn serve(stream: TcpStream, state: &State) -> io::Result<()> {
    let mut hung_up = state.hung_up.subscribe();
    state.connections.send_modify(|made| *made += 1);
    tokio::select! {
        served = talk(stream, state) => served,
        // The server goes on for as long as there is anybody to hang up.
        _ = hung_up.changed() => Ok(()),
    }
}

async fn talk(stream: TcpStream, state: &State) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(words) = command(&mut stream).await? {
        let answer = answer(&words, state).await;
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// Returns what a command is answered.
async fn answer(words: &[String], state: &State) -> String {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match word(0).to_ascii_uppercase().as_str() {
        "PING" => "+PONG\r\n".to_owned(),
        "SCRIPT" => format!("$40\r\n{}\r\n", hash(word(2))),
        "EVALSHA" => {
            let count: usize = word(2).parse().unwrap_or_default();
            let mut rest = words.iter().skip(3).cloned();
            let called = Called {
                keys: rest.by_ref().take(count).collect(),
                args: rest.collect(),
            };
            script(called, state).await
        }
        other => format!("-ERR unknown command '{other}'\r\n"),
    }
}

/// Returns by what a script is called once it is loaded.
fn hash(script: &str) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, script.as_bytes());
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

async fn script(called: Called, state: &State) -> String {
    if called
        .keys
        .first()
        .is_some_and(|key| key.starts_with("tollgate_settled_"))
    {
        state.settles.send_modify(|calls| calls.push(called));
        return match &*lock(&state.refusal) {
            Some(error) => format!("-{error}\r\n"),
            None => ":0\r\n".to_owned(),
        };
    }
    let claims = called.args.get(2..).unwrap_or_default();
    let answer: Vec<String> = claims.chunks(CLAIM).map(decided).collect();
    let count = answer.len() * 5;
    state.admits.send_modify(|calls| calls.push(called));
    let slow = lock(&state.slow).clone();
    if let Some(gate) = slow {
        gate.wait().await;
    }
    format!("*{count}\r\n{}", answer.concat())
}

/// So many arguments has a claim, after the two of all: its limit, what it charges and what it holds are the first.
const CLAIM: usize = 10;

/// Returns the five numbers that a claim is answered with.
fn decided(claim: &[String]) -> String {
    let number = |at: usize| claim.get(at).and_then(|number| number.parse::<u64>().ok());
    let (limit, charge, hold) = (number(0), number(1), number(2).unwrap_or_default());
    let over = charge.unwrap_or_default() + hold > limit.unwrap_or_default();
    format!(":0\r\n:{hold}\r\n:0\r\n:0\r\n:{}\r\n", u8::from(over))
}

/// Reads one command; `None` at the end.
async fn command(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<String>>> {
    let Some(count) = number(stream, '*').await? else {
        return Ok(None);
    };
    let mut words = Vec::new();
    for _ in 0..count {
        let length = number(stream, '$').await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await?;
        word.truncate(length);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Ok(Some(words))
}

async fn number(stream: &mut (impl AsyncBufRead + Unpin), begin: char) -> io::Result<Option<usize>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let written = line.trim_end().strip_prefix(begin);
    let number = written.and_then(|written| written.parse().ok());
    number.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
