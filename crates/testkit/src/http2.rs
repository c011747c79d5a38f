//! An upstream that speaks HTTP/2, in clear, and does with each request what a script says.
//!
//! Connections that end in ways that a library would not let them end are written by hand.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::{
    script::Gate,
    upstream::{PATIENCE, Received},
};

/// An upstream that speaks HTTP/2; ends when dropped.
pub struct Http2 {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// It is answered.
    Answer(Answer),
    /// Its stream is reset.
    Reset(Reason),
    /// Nothing is said to it.
    Stall,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    pieces: Vec<Bytes>,
    /// What is waited for before the last piece.
    gate: Option<Gate>,
    trailers: HeaderMap,
    breaks_off: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It serves.
    Serving,
    /// It takes no request: each is told by GOAWAY that it was not looked at.
    Leaving,
    /// It says nothing at all, not even that it is there.
    Silent,
}

type Script = Box<dyn Fn(usize, &Received) -> Act + Send + Sync>;

struct State {
    script: Script,
    manners: Vec<Manner>,
    max_streams: Option<u32>,
    requests: Mutex<Vec<(Received, HeaderMap)>>,
    counts: watch::Sender<Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: usize,
    requests: usize,
    given_up: usize,
}

impl Answer {
    /// Returns an answer of several pieces.
    pub fn new(status: u16, kind: &str, pieces: &[&str]) -> Self {
        let pieces = pieces.iter();
        Self {
            status,
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            pieces: pieces
                .map(|piece| Bytes::copy_from_slice(piece.as_bytes()))
                .collect(),
            gate: None,
            trailers: HeaderMap::new(),
            breaks_off: false,
        }
    }

    /// Returns the same answer, whose last piece waits for `gate`.
    pub fn after(self, gate: &Gate) -> Self {
        Self {
            gate: Some(gate.clone()),
            ..self
        }
    }

    /// Returns the same answer, which ends with a trailer.
    ///
    /// # Panics
    /// If there can be no such header.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a header name");
        let value = HeaderValue::try_from(value).expect("a header value");
        self.trailers.insert(name, value);
        self
    }

    /// Returns the same answer, whose stream is reset after its last piece.
    pub fn cut(self) -> Self {
        Self {
            breaks_off: true,
            ..self
        }
    }
}

impl Http2 {
    /// Returns a server that does with the nth request what `script` says.
    pub async fn start(script: impl Fn(usize, &Received) -> Act + Send + Sync + 'static) -> Self {
        Self::with(&[], None, script).await
    }

    /// Returns a server whose first connections have manners of their own, and which takes so many requests at once on
    /// each.
    ///
    /// # Panics
    /// If the loopback interface cannot be bound.
    #[expect(
        clippy::disallowed_methods,
        reason = "the server runs beside the test, and ends with it"
    )]
    pub async fn with(
        manners: &[Manner],
        max_streams: Option<u32>,
        script: impl Fn(usize, &Received) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            script: Box::new(script),
            manners: manners.to_vec(),
            max_streams,
            requests: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            _serving: serving,
        }
    }

    /// Returns where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the requests that have arrived whole, in order.
    pub fn requests(&self) -> Vec<Received> {
        let requests = self.state.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|(request, _)| request.clone()).collect()
    }

    /// Returns the trailers of the requests that have arrived whole, in order.
    pub fn trailers(&self) -> Vec<HeaderMap> {
        let requests = self.state.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|(_, trailers)| trailers.clone()).collect()
    }

    /// Returns the number of connections that were opened.
    pub fn connections(&self) -> usize {
        self.state.counts.borrow().connections
    }

    /// Waits until `count` requests have arrived whole.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn received(&self, count: usize) {
        self.until("request", |counts| counts.requests >= count).await;
    }

    /// Waits until `count` requests have been given up by their client.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn given_up(&self, count: usize) {
        self.until("client that gives up", |counts| counts.given_up >= count)
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

#[expect(
    clippy::disallowed_methods,
    reason = "a connection is served beside the next ones"
)]
async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    let mut index = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                state.counts.send_modify(|counts| counts.connections += 1);
                let manner = state.manners.get(index).copied().unwrap_or(Manner::Serving);
                index += 1;
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    match manner {
                        Manner::Serving => serve(stream, state).await,
                        Manner::Leaving => leave(stream).await,
                        Manner::Silent => be_silent(stream).await,
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a request is served beside the next ones"
)]
async fn serve(stream: TcpStream, state: Arc<State>) {
    let mut builder = h2::server::Builder::new();
    if let Some(max) = state.max_streams {
        builder.max_concurrent_streams(max);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                requests.spawn(answer(request, respond, Arc::clone(&state)));
            }
            Some(_) = requests.join_next() => {}
        }
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, state: Arc<State>) {
    let (head, body) = request.into_parts();
    let Some((body, trailers)) = whole(body).await else {
        state.counts.send_modify(|counts| counts.given_up += 1);
        return;
    };
    let mut headers = head.headers;
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).expect("an authority is a header value");
        headers.insert(http::header::HOST, host);
    }
    let target = head.uri.path_and_query();
    let received = Received {
        method: head.method.to_string(),
        target: target.map(ToString::to_string).unwrap_or_default(),
        headers,
        body,
    };
    let index = {
        let mut requests = state.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push((received.clone(), trailers));
        requests.len() - 1
    };
    state.counts.send_modify(|counts| counts.requests += 1);
    let done = match (state.script)(index, &received) {
        Act::Answer(answer) => play(answer, respond).await,
        Act::Reset(reason) => {
            respond.send_reset(reason);
            Some(())
        }
        Act::Stall => {
            // A client that gives up resets the stream.
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            None
        }
    };
    if done.is_none() {
        state.counts.send_modify(|counts| counts.given_up += 1);
    }
}

/// Plays an answer; `None` if its client goes away.
async fn play(answer: Answer, mut respond: SendResponse<Bytes>) -> Option<()> {
    let mut head = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        head = head.header(name, value);
    }
    let head = head.body(()).expect("a valid head");
    let mut stream = respond.send_response(head, false).ok()?;
    let last = answer.pieces.len().saturating_sub(1);
    for (index, mut piece) in answer.pieces.into_iter().enumerate() {
        if let Some(gate) = answer.gate.as_ref().filter(|_| index == last) {
            tokio::select! {
                () = gate.wait() => {}
                _ = std::future::poll_fn(|cx| stream.poll_reset(cx)) => return None,
            }
        }
        while !piece.is_empty() {
            stream.reserve_capacity(piece.len());
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
            stream
                .send_data(piece.split_to(room.min(piece.len())), false)
                .ok()?;
        }
    }
    if answer.breaks_off {
        // What was said is read before the reset is.
        tokio::task::yield_now().await;
        stream.send_reset(Reason::INTERNAL_ERROR);
        return Some(());
    }
    match answer.trailers.is_empty() {
        true => stream.send_data(Bytes::new(), true).ok(),
        false => stream.send_trailers(answer.trailers).ok(),
    }
}

async fn whole(mut body: RecvStream) -> Option<(Bytes, HeaderMap)> {
    let mut read = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        body.flow_control().release_capacity(piece.len()).ok()?;
        read.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.ok()?;
    Some((read.into(), trailers.unwrap_or_default()))
}

/// An empty frame of settings (RFC 9113, section 6.5).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A GOAWAY without an error, before any stream (RFC 9113, section 6.8).
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// How a client begins (RFC 9113, section 3.4).
const PREFACE: usize = 24;

const HEADERS: u8 = 1;

/// Lets a request come and says that it was not looked at.
async fn leave(mut stream: TcpStream) {
    let mut preface = [0; PREFACE];
    if stream.read_exact(&mut preface).await.is_err() || stream.write_all(&SETTINGS).await.is_err() {
        return;
    }
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        if kind == HEADERS && stream.write_all(&GOAWAY).await.is_err() {
            return;
        }
    }
}

/// Reads and says nothing after its settings.
async fn be_silent(mut stream: TcpStream) {
    if stream.write_all(&SETTINGS).await.is_err() {
        return;
    }
    let mut piece = [0; 4096];
    while matches!(stream.read(&mut piece).await, Ok(read) if read > 0) {}
}
