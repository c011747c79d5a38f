//! One connection, its task, and the streams that are open on it.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{Builder, SendRequest},
};
use policy::traffic::{Connections, Streams};
use tokio::{sync::Notify, time::timeout};
use tracing::debug;

use crate::upstream::{ConnectError, Io};

/// Bytes that an upstream may send on one stream before they are read, where a policy does not say.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes that an upstream may send on one connection before they are read, where a policy does not say.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;

/// Bytes that the headers of a reply may have.
const MAX_HEADERS: u32 = 256 * 1024;

/// How long an upstream may take to answer whether it is still there, where a policy does not say.
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// A connection that requests share.
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
}

/// What is known of a connection.
struct State {
    since: Instant,
    open: AtomicUsize,
    /// How many requests were sent on it.
    served: AtomicU32,
    /// When it was last used, in milliseconds since it was opened.
    used: AtomicU64,
    /// It takes no more requests.
    retired: AtomicBool,
    /// A request was given up on it without an answer; until it says that it is there, it is not used.
    doubted: AtomicBool,
    doubt: Notify,
}

/// A place on a connection, given back when it is dropped.
pub(in crate::upstream) struct Open {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
    answered: bool,
}

impl Connection {
    /// Returns a connection over `io` on which nothing was sent yet.
    #[expect(
        clippy::disallowed_methods,
        reason = "a connection carries the requests of many clients; it ends when nothing uses it any more"
    )]
    pub(super) async fn open(io: Io, streams: Streams) -> Result<Arc<Self>, ConnectError> {
        let (sender, mut driver) = Builder::new()
            .enable_push(false)
            .initial_window_size(streams.window.unwrap_or(STREAM_WINDOW))
            .initial_connection_window_size(streams.connection_window.unwrap_or(CONNECTION_WINDOW))
            .max_header_list_size(MAX_HEADERS)
            .handshake(io)
            .await
            .map_err(ConnectError::Http2)?;
        let state = Arc::new(State {
            since: Instant::now(),
            open: AtomicUsize::new(0),
            served: AtomicU32::new(0),
            used: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            doubt: Notify::new(),
        });
        let of_task = Arc::clone(&state);
        tokio::spawn(async move {
            let pings = driver.ping_pong();
            tokio::select! {
                ended = driver => {
                    let error = ended.err().map(tracing::field::display);
                    debug!(error, "connection ended");
                }
                () = watch(pings, &of_task, streams) => debug!("connection does not answer"),
            }
            of_task.retired.store(true, Ordering::Relaxed);
        });
        Ok(Arc::new(Self { sender, state }))
    }

    /// Takes a place.
    pub(super) fn enter(&self) -> Open {
        self.state.open.fetch_add(1, Ordering::Relaxed);
        self.state.served.fetch_add(1, Ordering::Relaxed);
        Open {
            sender: self.sender.clone(),
            state: Arc::clone(&self.state),
            answered: false,
        }
    }

    /// Returns whether the connection may be used again at all.
    pub(super) fn takes_more(&self, bounds: &Connections) -> bool {
        let state = &self.state;
        let served = state.served.load(Ordering::Relaxed);
        !state.retired.load(Ordering::Relaxed)
            && bounds.requests.is_none_or(|requests| served < requests)
            && bounds
                .lifetime
                .is_none_or(|lifetime| state.since.elapsed() < lifetime)
            && (state.open.load(Ordering::Relaxed) > 0 || state.unused() < bounds.idle)
    }

    /// Returns whether one more request may be sent now, where `at_once` is the most that a policy lets there be.
    pub(super) fn has_room(&self, at_once: Option<u32>) -> bool {
        let open = self.state.open.load(Ordering::Relaxed);
        let own = at_once.and_then(|most| usize::try_from(most).ok());
        !self.state.doubted.load(Ordering::Relaxed)
            && open < self.sender.current_max_send_streams()
            && own.is_none_or(|most| open < most)
    }

    /// Returns whether the connection is in use, or was a moment ago.
    pub(super) fn is_wanted(&self, idle: Duration) -> bool {
        let state = &self.state;
        !state.retired.load(Ordering::Relaxed)
            && (state.open.load(Ordering::Relaxed) > 0 || state.unused() < idle)
    }
}

impl State {
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn unused(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.used.load(Ordering::Relaxed)))
    }
}

impl Open {
    /// Returns what requests are sent with.
    pub(super) fn sender(&mut self) -> &mut SendRequest<Bytes> {
        &mut self.sender
    }

    /// Notes that the upstream said something to the request.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    /// Has nobody else use the connection.
    pub(super) fn retire(&self) {
        self.state.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let state = &self.state;
        state.used.store(state.now(), Ordering::Relaxed);
        state.open.fetch_sub(1, Ordering::Relaxed);
        if !self.answered && !state.doubted.swap(true, Ordering::Relaxed) {
            state.doubt.notify_one();
        }
    }
}

/// Asks the upstream whether it is there whenever that is in doubt, and as often as a policy wants; ends when it does not
/// answer.
///
/// An HTTP/1.1 connection is closed when its request is given up. This one has others, which may be well.
async fn watch(pings: Option<PingPong>, state: &State, streams: Streams) {
    let Some(mut pings) = pings else {
        return pending().await;
    };
    loop {
        match streams.ping_every {
            None => state.doubt.notified().await,
            // Whether somebody doubts it or it is time is all the same.
            Some(every) => timeout(every, state.doubt.notified()).await.unwrap_or_default(),
        }
        let within = streams.pong_within.unwrap_or(PONG_WITHIN);
        match timeout(within, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => state.doubted.store(false, Ordering::Relaxed),
            // The connection itself says what is wrong with it.
            Ok(Err(_)) => return pending().await,
            Err(_) => return,
        }
    }
}
