//! HTTP/2: connections that carry many requests at once.
//!
//! A connection has a task, which reads and writes for all that share it and ends with it. A request has none: its
//! body is pulled, and its reply read, in the task that serves the client. Dropping either resets its stream, and the
//! connection goes on.
//!
//! What an upstream refuses unseen (RFC 9113, section 8.7) is sent again on another connection where it still can be:
//! streams beyond the last one that a GOAWAY names. A stream that is reset as refused is left to the policy.

mod body;
mod connection;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::Poll,
};

use h2::{Reason, client::ResponseFuture};
use http::{HeaderName, Request, Response, Uri, Version, header};
use http_body::Body;
use policy::traffic::Connections;

pub(crate) use body::Arriving;
use body::Sending;
use connection::{Connection, Open};

use super::{
    CallError, ConnectError, Io, Outgoing,
    connect::{Connector, Offer},
    reply::Broken,
};

/// The connections to one endpoint that may be shared.
pub(super) struct Pool {
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Held while one is opened, so that requests which come together share it.
    opening: tokio::sync::Mutex<()>,
    spoken: AtomicU8,
    /// Whether HTTP/2 is spoken in clear, without asking.
    in_clear: bool,
    bounds: Connections,
}

/// How a request gets to the endpoint.
pub(super) enum Way {
    /// By a connection that others share.
    Shared(Open),
    /// By one of its own, which may just have been opened.
    Alone(Option<Io>),
}

/// A request did not bring a reply.
pub(super) struct Failed {
    pub(super) error: CallError,
    /// The request, where the upstream has certainly not looked at it.
    pub(super) unseen: Option<Request<Outgoing>>,
}

/// It is not known yet what the endpoint speaks.
const UNKNOWN: u8 = 0;
/// It speaks HTTP/1.1 alone.
const ALONE: u8 = 1;
/// It speaks HTTP/2.
const SHARED: u8 = 2;

impl Pool {
    /// Returns a pool that holds nothing yet, for an endpoint that speaks HTTP/2 in clear, or that is asked when the
    /// connection is encrypted.
    pub(super) fn new(bounds: Connections, in_clear: bool) -> Self {
        Self {
            connections: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            spoken: AtomicU8::new(if in_clear { SHARED } else { UNKNOWN }),
            in_clear,
            bounds,
        }
    }

    /// Returns how the next request gets to the endpoint; a connection is opened where there is none.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the opening to whoever comes next.
    pub(super) async fn way(&self, connector: &Connector) -> Result<Way, ConnectError> {
        if let Some(way) = self.known() {
            return Ok(way);
        }
        let _opening = self.opening.lock().await;
        if let Some(way) = self.known() {
            return Ok(way);
        }
        let io = connector.connect(Offer::Any).await?;
        if !self.in_clear && !io.speaks_http2() {
            self.spoken.store(ALONE, Ordering::Relaxed);
            return Ok(Way::Alone(Some(io)));
        }
        let connection = Connection::open(io, self.bounds.streams).await?;
        self.spoken.store(SHARED, Ordering::Relaxed);
        let open = connection.enter();
        self.lock().push(connection);
        Ok(Way::Shared(open))
    }

    /// Forgets that the endpoint speaks HTTP/1.1 alone: it may have changed its mind.
    pub(super) fn doubt(&self) {
        let (from, to) = (ALONE, UNKNOWN);
        // Whoever learnt something else meanwhile knows better.
        let _ = self
            .spoken
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn prune(&self) {
        let mut connections = self.lock();
        let idle = self.bounds.idle;
        let old: Vec<_> = connections
            .extract_if(.., |connection| !connection.is_wanted(idle))
            .collect();
        drop(connections);
        drop(old);
    }

    fn known(&self) -> Option<Way> {
        if self.spoken.load(Ordering::Relaxed) == ALONE {
            return Some(Way::Alone(None));
        }
        let mut connections = self.lock();
        connections.retain(|connection| connection.takes_more(&self.bounds));
        // The oldest with room, so that those that came with a peak become idle.
        let open = connections
            .iter()
            .find(|connection| connection.has_room(self.bounds.streams.at_once));
        open.map(|connection| Way::Shared(connection.enter()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends `request` on a shared connection and returns the head of the reply, with its body still to be read.
///
/// # Cancel safety
/// Dropping the future resets the stream.
pub(super) async fn send(
    mut open: Open,
    request: Request<Outgoing>,
    is_encrypted: bool,
) -> Result<Response<Arriving>, Failed> {
    let (head, body) = request.into_parts();
    // Whatever is held can be sent again; what arrives while it is sent cannot.
    let again = body.again().map(|body| (head.clone(), body));
    let again = || again.map(|(head, body)| Request::from_parts(head, body));
    let request = match said(head, &body, is_encrypted) {
        Ok(request) => request,
        Err(error) => {
            let error = CallError::Connect(ConnectError::Request(error));
            return Err(Failed { error, unseen: None });
        }
    };
    let is_whole = body.is_end_stream();
    let (mut reply, stream) = match open.sender().send_request(request, is_whole) {
        Ok(sent) => sent,
        Err(error) => {
            open.retire();
            let error = CallError::Refused(error);
            return Err(Failed {
                error,
                unseen: again(),
            });
        }
    };
    let mut sending = (!is_whole).then(|| Sending::new(body, stream));
    let replied = poll_fn(|cx| {
        if let Some(under_way) = &mut sending
            && let Poll::Ready(sent) = under_way.poll(cx)
        {
            sending = None;
            if let Err(unsent) = sent {
                return Poll::Ready(Err(Broken::Request(unsent)));
            }
        }
        poll_reply(&mut reply, cx)
    });
    match replied.await {
        Ok(response) => {
            open.answered();
            let (mut head, body) = response.into_parts();
            head.version = Version::HTTP_11;
            let arriving = Arriving::new(&head.headers, body, sending, open);
            Ok(Response::from_parts(head, arriving))
        }
        Err(Broken::Stream(error)) if error.is_go_away() && error.is_remote() => {
            open.answered();
            open.retire();
            let error = CallError::Refused(error);
            Err(Failed {
                error,
                unseen: again(),
            })
        }
        Err(Broken::Stream(error))
            if error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) =>
        {
            open.answered();
            let error = CallError::Refused(error);
            Err(Failed { error, unseen: None })
        }
        Err(broken) => Err(Failed {
            error: CallError::Reset(broken),
            unseen: None,
        }),
    }
}

fn poll_reply(
    reply: &mut ResponseFuture,
    cx: &mut std::task::Context<'_>,
) -> Poll<Result<Response<h2::RecvStream>, Broken>> {
    Pin::new(reply).poll(cx).map_err(Broken::Stream)
}

/// Returns a request's head as HTTP/2 says it: what is named elsewhere in the protocol is no header there (RFC 9113,
/// section 8.2.2).
fn said(head: http::request::Parts, body: &Outgoing, is_encrypted: bool) -> Result<Request<()>, http::Error> {
    let mut headers = head.headers;
    for name in CONNECTION_HEADERS {
        headers.remove(name);
    }
    if headers.get(header::TE).is_some_and(|value| value != "trailers") {
        headers.remove(header::TE);
    }
    let authority = headers.remove(header::HOST);
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let uri = Uri::builder()
        .scheme(if is_encrypted { "https" } else { "http" })
        .authority(
            authority
                .as_ref()
                .map_or(&b""[..], |authority| authority.as_bytes()),
        )
        .path_and_query(target)
        .build()?;
    if let Some(length) = body.size_hint().exact()
        && (length > 0 || !body.is_end_stream())
    {
        headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    let mut request = Request::new(());
    *request.method_mut() = head.method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

const CONNECTION_HEADERS: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
