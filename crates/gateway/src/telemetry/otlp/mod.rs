//! What is told to a receiver of OTLP, over HTTP or gRPC, and where that is.
//!
//! Export runs on threads of its own, each with a small runtime, so that neither building a message nor a receiver that
//! hangs takes anything from requests.

mod client;
mod metrics;
mod proto;
mod push;
mod queue;

use std::{
    io::{self, Write},
    time::Duration,
};

use config::snapshot::Tls;
use http::{HeaderMap, Uri};

use super::{log::LogRecord, trace::span::Span};
pub use client::SendError;
use client::{Client, Service};
pub(crate) use push::Pusher;
pub use queue::Bounds;
pub(crate) use queue::Queue;

/// Where a signal goes, and in whose name.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// Attributes of the process.
    pub resource: Vec<(String, String)>,
    /// Where to.
    pub to: Destination,
}

/// Where a signal goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// Standard output, as JSON.
    Console,
    /// A receiver of OTLP.
    Otlp(Box<Receiver>),
}

/// A receiver of OTLP.
#[derive(Clone, PartialEq)]
pub struct Receiver {
    /// Where it is; with gRPC the path is of no matter.
    pub uri: Uri,
    /// Whether it speaks gRPC.
    pub grpc: bool,
    /// What calls carry beside the message; may hold credentials.
    pub headers: HeaderMap,
    /// How long one call may take.
    pub timeout: Duration,
    /// Whether messages are compressed with gzip.
    pub compressed: bool,
    /// How calls are encrypted; `None` where they are not.
    pub tls: Option<Tls>,
}

/// How metrics are pushed.
#[derive(Clone, Debug)]
pub struct Push {
    /// Where to.
    pub export: Export,
    /// How often.
    pub interval: Duration,
    /// Whether each push tells what is new since the one before, and not everything.
    pub delta: bool,
    /// Whether histograms are told in exponential buckets.
    pub exponential: bool,
}

/// Sends signals; blocks its thread.
pub(crate) struct Exporter {
    export: Export,
    client: Option<Client>,
}

impl Exporter {
    /// Prepares to send to `export`.
    ///
    /// # Errors
    /// If there can be no connections.
    pub(crate) fn new(export: &Export) -> Result<Self, SendError> {
        Ok(Self {
            client: match &export.to {
                Destination::Console => None,
                Destination::Otlp(receiver) => Some(Client::new(Receiver::clone(receiver))?),
            },
            export: export.clone(),
        })
    }

    /// Sends `spans`.
    ///
    /// # Errors
    /// If the receiver does not take them.
    pub(crate) fn spans(&self, spans: &[Span]) -> Result<(), SendError> {
        match &self.client {
            Some(client) => client.send(Service::Traces, proto::spans(&self.export.resource, spans)),
            None => {
                let lines: String = spans.iter().map(|span| format!("{}\n", span.json())).collect();
                print(&lines);
                Ok(())
            }
        }
    }

    /// Sends access records.
    ///
    /// # Errors
    /// If the receiver does not take them.
    pub(crate) fn logs(&self, records: &[LogRecord]) -> Result<(), SendError> {
        match &self.client {
            Some(client) => client.send(Service::Logs, proto::logs(&self.export.resource, records)),
            None => Ok(()),
        }
    }
}

fn print(text: &str) {
    // Whoever closes standard output does not want what is told there.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            uri,
            grpc,
            timeout,
            compressed,
            tls,
            ..
        } = self;
        let mut shown = f.debug_struct("Receiver");
        shown
            .field("uri", uri)
            .field("grpc", grpc)
            .field("timeout", timeout)
            .field("compressed", compressed)
            .field("tls", tls);
        shown.finish_non_exhaustive()
    }
}
