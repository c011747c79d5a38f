//! One request to the gateway, on a connection of its own inside the process, and its answer as messages.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use gateway::Gateway;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use llm::frame::sse::{Event, Sse};
use tokio::task::JoinSet;

use super::Front;

/// An answer that arrives.
pub(super) struct Arriving {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
    sse: Sse,
    ready: VecDeque<Said>,
    /// Drives the connection; dropped, it ends it, which is how the gateway sees that nobody waits any more.
    _driver: JoinSet<()>,
}

/// What a stream says.
pub(super) struct Said {
    /// A message; empty for an event that only says where the stream is.
    pub(super) text: String,
    /// Where the stream is.
    pub(super) id: Option<String>,
    /// Milliseconds to wait before the stream is asked for again.
    pub(super) retry: Option<u64>,
}

/// Sends a request to the route of `front`, with `more` headers.
///
/// # Errors
/// If the gateway does not answer.
#[expect(
    clippy::disallowed_methods,
    reason = "a connection is driven beside whoever reads its answer, and ends with that"
)]
pub(super) async fn send(
    gateway: &Arc<Gateway>,
    front: &Front,
    method: Method,
    more: HeaderMap,
    body: Bytes,
) -> Result<Arriving, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(gateway.connect(front.port))).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Why it ended is seen by whoever reads the answer.
        let _ = connection.await;
    });
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = front.path.parse().unwrap_or_default();
    *request.headers_mut() = front.headers.clone();
    request.headers_mut().extend(more);
    let response: Response<Incoming> = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    Ok(Arriving {
        status: head.status,
        headers: head.headers,
        body,
        sse: Sse::default(),
        ready: VecDeque::new(),
        _driver: driver,
    })
}

impl Arriving {
    /// Returns whether it is a stream of events.
    pub(super) fn is_stream(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
    }

    /// Returns the whole document; what there is of it if it breaks off.
    pub(super) async fn whole(mut self) -> Vec<u8> {
        let mut read = Vec::new();
        while let Some(Ok(frame)) = self.body.frame().await {
            read.extend(frame.into_data().unwrap_or_default());
        }
        read
    }

    /// Returns the next event of the stream; `None` once it has ended or broken off.
    pub(super) async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(said) = self.ready.pop_front() {
                return Some(said);
            }
            let Ok(data) = self.body.frame().await?.ok()?.into_data() else {
                continue;
            };
            let ready = &mut self.ready;
            let pushed = self
                .sse
                .push_events(&data, |event, _| ready.push_back(said(&event)));
            pushed.ok()?;
        }
    }
}

fn said(event: &Event<'_>) -> Said {
    Said {
        text: event.frame.data.to_owned(),
        id: event.id.map(str::to_owned),
        retry: event.retry,
    }
}
