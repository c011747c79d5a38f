//! An endpoint picker: a gRPC service of `envoy.service.ext_proc.v3.ExternalProcessor`, in clear, that does with each
//! request what a plan says, and holds whoever asks it to the letter of the protocol.

mod conversation;
mod wire;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::{script::Gate, upstream::PATIENCE};

/// A picker; ends when dropped.
pub struct Picker {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

/// What is done with a request, and with its reply.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where it goes, said in a header.
    pub header: Option<String>,
    /// Where it goes, said in metadata.
    pub metadata: Option<String>,
    /// Headers of the request that are set.
    pub headers: Vec<(String, String)>,
    /// What stands for the body of the request.
    pub body: Option<String>,
    /// What the client is told instead.
    pub immediate: Option<Instead>,
    /// The ProcessingMode that is wanted from the head of the request on: response headers, bodies of requests and of
    /// replies.
    pub modes: Option<(u64, u64, u64)>,
    /// Headers of the reply that are set.
    pub reply_headers: Vec<(String, String)>,
    /// What is put in place of what, in each piece of a reply's body.
    pub reply_text: Option<(String, String)>,
    /// Where the picker fails, and how.
    pub fault: Option<(Stage, Fault)>,
    /// What is waited for before the first answer.
    pub gate: Option<Gate>,
}

/// A status, headers and a body.
pub type Instead = (u16, Vec<(String, String)>, String);

/// A stage of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request has come.
    Request,
    /// The head of the reply has come.
    ReplyHead,
    /// A piece of the reply's body has come.
    ReplyBody,
}

/// How a picker fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It says so, with a status of gRPC.
    Status(u16),
    /// It ends the conversation as if all were well.
    Leave,
    /// It breaks the stream off.
    Reset,
    /// It says nothing more.
    Stall,
    /// It sends what is no message.
    Nonsense,
}

/// What a picker has seen of one request.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Whom the gateway says that it asks.
    pub authority: String,
    /// The head of the request, with what HTTP/2 says of it.
    pub head: Vec<(String, String)>,
    /// What else is known of the request, by namespace.
    pub metadata: Value,
    /// How bodies were said to come: of requests, of replies.
    pub modes: (u64, u64),
    /// The body of the request.
    pub body: Vec<u8>,
    /// The messages that it came in.
    pub body_pieces: usize,
    /// The head of the reply.
    pub reply_head: Vec<(String, String)>,
    /// What is known once there is a reply.
    pub reply_metadata: Value,
    /// The body of the reply.
    pub reply_body: Vec<u8>,
    /// The messages that it came in.
    pub reply_pieces: usize,
    /// What came after it.
    pub reply_trailers: Option<Vec<(String, String)>>,
    /// Whether all of the reply was seen.
    pub reply_ended: bool,
    /// How the gateway has left: with the word that it will say no more, or by breaking off. `None` while it is there.
    pub left: Option<Left>,
}

/// How whoever asks a picker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// In good order.
    Well,
    /// By breaking the stream off.
    Reset,
}

type Script = Box<dyn Fn(usize, &Seen) -> Plan + Send + Sync>;

struct State {
    script: Script,
    seen: Mutex<Vec<Seen>>,
    faults: Mutex<Vec<String>>,
    changes: watch::Sender<usize>,
}

impl Plan {
    /// Returns that the request goes to one of these, said in both ways.
    pub fn to(endpoints: &[SocketAddr]) -> Self {
        let named: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        Self {
            header: Some(named.join(",")),
            metadata: Some(named.join(",")),
            ..Self::default()
        }
    }

    fn fails_at(&self, stage: Stage) -> Option<Fault> {
        self.fault.filter(|(at, _)| *at == stage).map(|(_, fault)| fault)
    }
}

impl Seen {
    /// Returns the header of the request that has this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.head.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Picker {
    /// Returns a picker that does with the nth request what `script` says, which is shown the whole request.
    ///
    /// # Panics
    /// If the loopback interface cannot be bound.
    #[expect(
        clippy::disallowed_methods,
        reason = "the server runs beside the test, and ends with it"
    )]
    pub async fn start(script: impl Fn(usize, &Seen) -> Plan + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            faults: Mutex::default(),
            changes: watch::Sender::new(0),
        });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            _serving: serving,
        }
    }

    /// Returns where the picker listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what was seen of each request, in order.
    ///
    /// # Panics
    /// If whoever asks does not keep to the protocol.
    #[track_caller]
    pub fn seen(&self) -> Vec<Seen> {
        let faults = self.state.faults.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(faults.is_empty(), "against the protocol: {faults:?}");
        let seen = self.state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// Waits until `reached` is true of what was seen, and returns that.
    ///
    /// # Panics
    /// If that takes too long, or somebody does not keep to the protocol.
    pub async fn until(&self, reached: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut changes = self.state.changes.subscribe();
        let waited = timeout(PATIENCE, async {
            loop {
                changes.borrow_and_update();
                let seen = self.seen();
                if reached(&seen) {
                    return seen;
                }
                // The sender lives as long as `self`.
                let _ = changes.changed().await;
            }
        });
        let waited = waited.await;
        waited.unwrap_or_else(|_| panic!("waited in vain; seen: {:?}", self.seen()))
    }
}

impl State {
    fn fault(&self, fault: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.push(fault);
        drop(faults);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.get_mut(index) {
            change(seen);
        }
        drop(seen);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn of(&self, index: usize) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(index).cloned().unwrap_or_default()
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
                connections.spawn(serve(stream, Arc::clone(&state)));
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
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                requests.spawn(conversation::talk(request, respond, Arc::clone(&state)));
            }
            Some(_) = requests.join_next() => {}
        }
    }
}
