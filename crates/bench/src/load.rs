//! The load generator: a closed loop over a fixed number of kept connections.
//!
//! A run has two phases over the same connections: a warm-up, whose figures are dropped, and the measured one. In
//! each, every connection asks until the time is up and then finishes what it has begun, so that processor time
//! taken over the measured phase belongs to exactly the requests that were counted.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::script;

/// The longest that a request may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What is asked, and how hard.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) body: Bytes,
    pub(crate) stream: bool,
    /// Names the session of a connection, for connections in turn; empty where there are none.
    pub(crate) sessions: Vec<String>,
    /// Says what is wrong with a reply.
    pub(crate) fault: Fault,
    pub(crate) connections: usize,
    /// From the begin of a connection's request to that of its next one, if that one is answered by then.
    pub(crate) every: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// Returns what is wrong with a reply, a stream or not; none if nothing is.
pub(crate) type Fault = fn(&[u8], bool) -> Option<String>;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// From the first request of the measured phase to the last reply.
    pub(crate) elapsed: Duration,
    /// Of the requests that were answered as they should, in ascending order.
    pub(crate) latencies: Vec<Duration>,
    /// Until the first byte of the reply's body, in ascending order.
    pub(crate) first_bytes: Vec<Duration>,
    /// Of all other requests, warm-up included.
    pub(crate) errors: Vec<String>,
}

impl Load {
    /// Returns one request for chat at a time, measured not at all.
    pub(crate) fn chat(address: SocketAddr, body: Bytes, stream: bool) -> Self {
        Self {
            address,
            path: script::CHAT.to_owned(),
            body,
            stream,
            sessions: Vec::new(),
            fault: script::fault,
            connections: 1,
            every: Duration::ZERO,
            warm_up: Duration::ZERO,
            measured: Duration::ZERO,
        }
    }

    /// Runs both phases; `between` is called when the measured one begins.
    pub(crate) fn run<T>(&self, between: impl FnOnce() -> T) -> anyhow::Result<(T, Outcome)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let connections = (0..self.connections)
                .map(|turn| Connection::new(self, turn))
                .collect();
            let (connections, warm_up) = phase(connections, self.warm_up).await?;
            let mark = between();
            let (_, mut outcome) = phase(connections, self.measured).await?;
            outcome.errors.extend(warm_up.errors);
            Ok((mark, outcome))
        })
    }
}

async fn phase(connections: Vec<Connection>, length: Duration) -> anyhow::Result<(Vec<Connection>, Outcome)> {
    let start = Instant::now();
    let until = start + length;
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(connection.ask_until(until));
    }
    let mut connections = Vec::new();
    let mut sum = Outcome::default();
    while let Some(done) = tasks.join_next().await {
        let (connection, outcome) = done?;
        connections.push(connection);
        sum.latencies.extend(outcome.latencies);
        sum.first_bytes.extend(outcome.first_bytes);
        sum.errors.extend(outcome.errors);
    }
    sum.elapsed = start.elapsed();
    sum.latencies.sort_unstable();
    sum.first_bytes.sort_unstable();
    Ok((connections, sum))
}

struct Connection {
    load: Load,
    /// How long it waits before its first request, so that connections take turns.
    delay: Duration,
    session: Option<String>,
    open: Option<Open>,
    reply: BytesMut,
}

struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Drives the connection; ends with it.
    _driver: JoinSet<()>,
}

impl Connection {
    fn new(load: &Load, turn: usize) -> Self {
        let session = turn.checked_rem(load.sessions.len());
        Self {
            session: session.and_then(|at| load.sessions.get(at).cloned()),
            load: load.clone(),
            delay: load.every * u32::try_from(turn).unwrap_or_default()
                / u32::try_from(load.connections.max(1)).unwrap_or(1),
            open: None,
            reply: BytesMut::new(),
        }
    }

    async fn ask_until(mut self, until: Instant) -> (Self, Outcome) {
        let mut outcome = Outcome::default();
        let mut next = Instant::now() + self.delay;
        while next.max(Instant::now()) < until {
            // No wait at all where requests follow one another: a timer would let others go first.
            if next > Instant::now() {
                tokio::time::sleep_until(next.into()).await;
            }
            next = next.max(Instant::now()) + self.load.every;
            match self.ask().await {
                Ok((first_byte, latency)) => {
                    outcome.first_bytes.push(first_byte);
                    outcome.latencies.push(latency);
                }
                Err(error) => {
                    outcome.errors.push(format!("{error:#}"));
                    self.open = None;
                    if outcome.errors.len() >= MAX_ERRORS {
                        break;
                    }
                }
            }
        }
        (self, outcome)
    }

    /// Sends one request and checks its reply; returns the time to its first byte and to its last.
    async fn ask(&mut self) -> anyhow::Result<(Duration, Duration)> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::connect(self.load.address).await?,
        };
        let start = Instant::now();
        self.reply.clear();
        let first_byte = tokio::time::timeout(
            LIMIT,
            open.exchange(&self.load, self.session.as_deref(), &mut self.reply),
        )
        .await
        .context("no reply in time")??;
        let latency = start.elapsed();
        if let Some(fault) = (self.load.fault)(&self.reply, self.load.stream) {
            bail!(fault);
        }
        self.open = (!open.sender.is_closed()).then_some(open);
        Ok((first_byte.duration_since(start), latency))
    }
}

impl Open {
    async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The sender hears of a broken connection too, and says so.
            connection.await.ok();
        });
        Ok(Self {
            sender,
            _driver: driver,
        })
    }

    /// Returns when the first byte of the reply's body came.
    async fn exchange(
        &mut self,
        load: &Load,
        session: Option<&str>,
        reply: &mut BytesMut,
    ) -> anyhow::Result<Instant> {
        self.sender.ready().await?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&load.path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, "Bearer client-key")
            .header(header::USER_AGENT, "bench/1");
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let request = request.body(Full::new(load.body.clone()))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut first_byte = None;
        while let Some(frame) = body.frame().await {
            first_byte.get_or_insert_with(Instant::now);
            if let Ok(data) = frame?.into_data() {
                reply.extend_from_slice(&data);
            }
        }
        if status != StatusCode::OK {
            bail!("status {status}: {}", String::from_utf8_lossy(reply));
        }
        first_byte.context("empty reply")
    }
}

/// A connection gives up after so many errors: a target that is down must not fill the memory with its excuses.
const MAX_ERRORS: usize = 20;
