//! The stream of messages between the gateway and a picker: one call of gRPC in which both speak.
//!
//! Whoever speaks listens next, in the same task: listening is what drives the call, and with it what was said. So
//! nothing is spawned, and dropping the conversation resets its stream.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame};
use policy::{
    ext_proc::{PROCESS, Told},
    grpc::{self, NoMessage},
    protobuf::Malformed,
};

use tokio::time::Instant;
use tracing::debug;

use super::parting::Parting;
use crate::upstream::{Broken, CallError, Client, Outgoing, Reply};

/// The largest message of a picker: it may send back a body whole.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// A conversation with a picker about one request.
pub(super) struct Talk {
    speech: Speech,
    heard: Heard,
    arriving: grpc::Arriving,
    /// Where it is kept at the end; `None` once it is.
    parting: Option<Arc<Parting>>,
}

/// How far a picker has come with its side of a conversation.
enum Heard {
    /// It has not answered the call.
    Calling(Pin<Box<dyn Future<Output = Result<Response<Reply>, CallError>> + Send>>),
    /// It answers.
    Speaking(Reply),
    /// It has said its last.
    Over,
}

/// What the gateway says to a picker, as the body of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speech(Arc<Mutex<Spoken>>);

#[derive(Debug, Default)]
struct Spoken {
    /// A message that was not taken yet, and what was said at once with it.
    said: VecDeque<Bytes>,
    ended: bool,
}

/// A conversation with a picker failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// There is nobody to ask.
    #[error("the endpoint picker has no address")]
    Nobody,
    /// It was not reached, or broke off.
    #[error("the endpoint picker cannot be asked")]
    Call(#[source] Box<CallError>),
    /// It broke off.
    #[error("the endpoint picker broke off")]
    Broken(#[source] Box<Broken>),
    /// What it said is no message.
    #[error("the endpoint picker answers nonsense")]
    Message(#[from] NoMessage),
    /// What it said is none of the messages that there are.
    #[error("the endpoint picker answers nonsense")]
    Malformed(#[from] Malformed),
    /// What it said is no answer to what it was told.
    #[error("the endpoint picker answers what it was not asked")]
    Unasked,
    /// It ended the conversation too early.
    #[error("the endpoint picker says no more")]
    Ended,
    /// It took too long.
    #[error("the endpoint picker did not answer in time")]
    Silent,
    /// It names no endpoint.
    #[error("the endpoint picker names no endpoint")]
    Nowhere,
    /// What it sends back is too large.
    #[error("what the endpoint picker sends back exceeds {0} bytes")]
    TooLarge(usize),
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Failed::Call(Box::new(error))
    }
}

impl Failed {
    /// Returns whether the picker has certainly not seen the request.
    pub(super) fn is_unseen(&self) -> bool {
        match self {
            Failed::Call(error) => matches!(**error, CallError::Connect(_) | CallError::Refused(_)),
            Failed::Nobody
            | Failed::Broken(_)
            | Failed::Message(_)
            | Failed::Malformed(_)
            | Failed::Unasked
            | Failed::Ended
            | Failed::Silent
            | Failed::Nowhere
            | Failed::TooLarge(_) => false,
        }
    }

    /// Returns the status of an answer that says so to a client whose time is over at `deadline`.
    pub(crate) fn status(&self, deadline: Instant) -> StatusCode {
        match matches!(self, Failed::Silent) && Instant::now() >= deadline {
            true => StatusCode::GATEWAY_TIMEOUT,
            false => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Talk {
    /// Begins a conversation with the picker that `client` leads to.
    pub(super) fn open(client: Arc<Client>, authority: &HeaderValue, parting: &Arc<Parting>) -> Self {
        let speech = Speech::default();
        let mut request = grpc::call(PROCESS, Outgoing::Speech(speech.clone()));
        request.headers_mut().insert(header::HOST, authority.clone());
        Self {
            speech,
            heard: Heard::Calling(Box::pin(async move { client.call(request).await })),
            arriving: grpc::Arriving::new(MAX_MESSAGE),
            parting: Some(Arc::clone(parting)),
        }
    }

    /// Says a message. It is on its way once the picker is listened to.
    pub(super) fn say(&self, message: Bytes) {
        self.speech.lock().said.push_back(message);
    }

    /// Returns whether all that was said is on its way.
    pub(super) fn has_room(&self) -> bool {
        self.speech.lock().said.is_empty()
    }

    /// Takes leave of the picker: nothing more is said, and what it still has to say is not waited for.
    pub(super) fn leave(mut self) {
        self.speech.lock().ended = true;
        // Listening sends the word that this is the end.
        if !self.is_over()
            && let Some(parting) = self.parting.take()
        {
            parting.keep(self);
        }
    }

    /// Returns whether the picker has hung up, as far as is known; what else it says is passed over.
    pub(super) fn is_over(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        loop {
            match self.poll_told(&mut nobody) {
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(Ok(None)) => return true,
                Poll::Ready(Err(error)) => {
                    debug!(
                        error = &error as &dyn std::error::Error,
                        "the endpoint picker ended badly"
                    );
                    return true;
                }
                Poll::Pending => return false,
            }
        }
    }

    /// Returns what the picker says next; `None` once it has ended the conversation without complaint.
    pub(super) fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Told>, Failed>> {
        loop {
            if let Some(message) = self.arriving.take()? {
                return Poll::Ready(Ok(Some(Told::decode(&message)?)));
            }
            match &mut self.heard {
                Heard::Calling(call) => {
                    let response = ready!(call.as_mut().poll(cx));
                    self.heard = Heard::Over;
                    let (head, body) = response?.into_parts();
                    if head.status != StatusCode::OK {
                        return Poll::Ready(Err(NoMessage::Http(head.status).into()));
                    }
                    // A call that is over with its head says so there.
                    self.heard = match body.is_end_stream() {
                        true => self.over(&head.headers)?,
                        false => Heard::Speaking(body),
                    };
                }
                Heard::Speaking(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => self.arriving.push(&data),
                        Err(frame) => {
                            let trailers = frame.into_trailers().unwrap_or_default();
                            self.heard = self.over(&trailers)?;
                        }
                    },
                    Some(Err(error)) => {
                        self.heard = Heard::Over;
                        return Poll::Ready(Err(Failed::Broken(Box::new(error))));
                    }
                    None => {
                        self.heard = Heard::Over;
                        return Poll::Ready(Err(NoMessage::Unsaid.into()));
                    }
                },
                Heard::Over => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn over(&mut self, trailers: &HeaderMap) -> Result<Heard, Failed> {
        self.heard = Heard::Over;
        grpc::status(trailers)?;
        match self.arriving.is_within() {
            true => Err(NoMessage::Malformed.into()),
            false => Ok(Heard::Over),
        }
    }
}

impl Speech {
    fn lock(&self) -> MutexGuard<'_, Spoken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next message, as a frame of the body. Nobody is woken when something is said: whoever says it asks next.
    pub(crate) fn take(&self) -> Poll<Option<Frame<Bytes>>> {
        let mut spoken = self.lock();
        match spoken.said.pop_front() {
            Some(message) => Poll::Ready(Some(Frame::data(message))),
            None if spoken.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Returns whether nothing more will be said.
    pub(crate) fn is_over(&self) -> bool {
        let spoken = self.lock();
        spoken.ended && spoken.said.is_empty()
    }
}
