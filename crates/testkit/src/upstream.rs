//! A server that plays a script and remembers what it was asked.
//!
//! HTTP/1.1 is written by hand over the socket: a server library would repair the faults that are wanted.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::script::{Script, Step};

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server on the loopback interface; stops when dropped.
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// `POST` …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers, repeated ones included.
    pub headers: HeaderMap,
    /// The whole body, without its framing.
    pub body: Bytes,
}

/// An address that refuses connections: a socket is bound there, so that nobody else gets it, but does not
/// listen.
pub struct Refusing {
    /// The address.
    pub address: SocketAddr,
    _bound: TcpSocket,
}

struct State {
    script: Script,
    requests: Mutex<Vec<Received>>,
    counts: watch::Sender<Counts>,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: usize,
    requests: usize,
    finished: usize,
    abandoned: usize,
}

impl Received {
    /// Returns the body as JSON; `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the value of a header as text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Upstream {
    /// Returns a server that plays `script`, on a port that the system chooses.
    ///
    /// # Panics
    /// If the loopback interface cannot be bound.
    #[expect(
        clippy::disallowed_methods,
        reason = "the server runs beside the test, and ends with it"
    )]
    pub async fn start(script: impl Into<Script>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            script: script.into(),
            requests: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, state.clone()));
        Self {
            address,
            state,
            _serving: serving,
        }
    }

    /// Returns an address where nobody listens, reserved until dropped.
    ///
    /// # Panics
    /// If the loopback interface cannot be bound.
    pub fn refusing() -> Refusing {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .expect("loopback can be bound");
        let address = socket.local_addr().expect("a bound socket has an address");
        Refusing {
            address,
            _bound: socket,
        }
    }

    /// Returns where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the requests that have arrived whole, in order.
    pub fn requests(&self) -> Vec<Received> {
        self.state.requests().clone()
    }

    /// Returns the number of connections that were opened.
    pub fn connections(&self) -> usize {
        self.state.counts.borrow().connections
    }

    /// Returns the number of replies that were played to their end, faults included.
    pub fn finished(&self) -> usize {
        self.state.counts.borrow().finished
    }

    /// Waits until `count` requests have arrived whole and returns all.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn received(&self, count: usize) -> Vec<Received> {
        self.until("request", |counts| counts.requests >= count).await;
        self.requests()
    }

    /// Waits until `count` replies have been played to their end.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn played(&self, count: usize) {
        self.until("end of a reply", |counts| counts.finished >= count)
            .await;
    }

    /// Waits until a client has gone away in the middle of a reply.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn closed(&self) {
        self.until("client that goes away", |counts| counts.abandoned > 0)
            .await;
    }

    async fn until(&self, what: &str, reached: impl FnMut(&Counts) -> bool) {
        let mut counts = self.state.counts.subscribe();
        let waited = timeout(PATIENCE, counts.wait_for(reached)).await.map(|_| ());
        assert!(
            waited.is_ok(),
            "upstream {} waited in vain for a {what}",
            self.address
        );
    }
}

impl State {
    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<Received>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, request: Received) -> usize {
        let index = {
            let mut requests = self.requests();
            requests.push(request);
            requests.len() - 1
        };
        self.counts.send_modify(|counts| counts.requests += 1);
        index
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a connection is served beside the next ones"
)]
async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                state.counts.send_modify(|counts| counts.connections += 1);
                connections.spawn(serve(stream, state.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// How a reply ended.
enum Played {
    /// The connection may serve another request.
    Whole,
    /// It is to be closed.
    Close,
    /// It is to be reset.
    Reset,
    /// The client went away.
    Abandoned,
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Ok(Some(request)) = read_request(&mut stream, &mut buffer).await {
        let index = state.note(request.clone());
        let steps = state.script.reply(index, &request).into_steps();
        let played = play(&mut stream, &mut buffer, steps).await;
        state.counts.send_modify(|counts| match played {
            Played::Whole | Played::Close | Played::Reset => counts.finished += 1,
            Played::Abandoned => counts.abandoned += 1,
        });
        match played {
            Played::Whole => {}
            Played::Close | Played::Abandoned => return,
            Played::Reset => return reset(&stream),
        }
    }
}

/// Makes closing `stream` a reset: data on the way is discarded, the peer is told at once.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn play(stream: &mut TcpStream, buffer: &mut Vec<u8>, steps: Vec<Step>) -> Played {
    let (mut reader, mut writer) = stream.split();
    let gone = async {
        let mut piece = [0; 4096];
        loop {
            match reader.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(read) => buffer.extend_from_slice(piece.get(..read).unwrap_or_default()),
            }
        }
    };
    let script = async {
        for step in steps {
            match step {
                Step::Write(bytes) => {
                    if writer.write_all(&bytes).await.is_err() {
                        return Played::Abandoned;
                    }
                }
                Step::Wait(gate) => gate.wait().await,
                Step::Signal(gate) => gate.open(),
                Step::Pause(time) => tokio::time::sleep(time).await,
                Step::Stall => std::future::pending().await,
                Step::Close => return Played::Close,
                Step::Reset => return Played::Reset,
            }
        }
        Played::Whole
    };
    // The script goes first: what is left of it when the client leaves tells whether it left too early.
    tokio::select! {
        biased;
        played = script => played,
        () = gone => Played::Abandoned,
    }
}

/// Reads one request from `stream`; `None` if the client closed between two requests.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Received>> {
    let Some(head_end) = read_until_blank_line(stream, buffer).await? else {
        return Ok(None);
    };
    let head: Vec<u8> = buffer.drain(..head_end).collect();
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let headers = parse_headers(lines);
    let length = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let body = if headers.contains_key(http::header::TRANSFER_ENCODING) {
        read_chunks(stream, buffer).await?
    } else {
        take(stream, buffer, length.unwrap_or(0)).await?
    };
    Ok(Some(Received {
        method,
        target,
        headers,
        body: body.into(),
    }))
}

/// Parses header lines up to the first empty one.
pub(crate) fn parse_headers<'a>(lines: impl Iterator<Item = &'a str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        let value = HeaderValue::from_bytes(value.trim().as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Reads until `buffer` holds a blank line; returns where what follows it begins, `None` at a clean end.
pub(crate) async fn read_until_blank_line(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if stream.read_buf(buffer).await? == 0 {
            if buffer.is_empty() {
                return Ok(None);
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Returns where `needle` begins in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

/// Takes `count` bytes from `buffer`, filled from `stream` as needed.
pub(crate) async fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, count: usize) -> io::Result<Vec<u8>> {
    while buffer.len() < count {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..count).collect())
}

/// Takes one chunk's content; empty for the last chunk.
pub(crate) async fn read_chunk(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let line_end = loop {
        if let Some(at) = find(buffer, b"\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let line = take(stream, buffer, line_end + 2).await?;
    let size = String::from_utf8_lossy(&line);
    let size = usize::from_str_radix(size.trim(), 16)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk has no size"))?;
    let content = take(stream, buffer, size).await?;
    take(stream, buffer, 2).await?;
    Ok(content)
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let chunk = read_chunk(stream, buffer).await?;
        if chunk.is_empty() {
            return Ok(body);
        }
        body.extend_from_slice(&chunk);
    }
}
