//! Bodies: reading a client's within bounds, and what it is sent.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use llm::{ApiError, ErrorKind};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    coding::{Coding, Decoder, Fault},
    facts::{Facts, Outcome},
    given::Given,
    llm::reply::{BrokenOff, Streamed},
    mcp,
    plain::passing::Passing,
};

/// The longest silence of a client that has begun to send a body, where no policy sets another.
pub(crate) const READ_IDLE: Duration = Duration::from_secs(300);

/// How much of a body that is too large is read all the same, and for how long: many clients listen only once
/// they have sent everything, and would see a reset in place of the answer.
const LINGER: usize = 64 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(5);

/// How fast a body has to arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The longest silence.
    pub(crate) silence: Duration,
    /// When it has to be whole.
    pub(crate) until: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            silence: READ_IDLE,
            until: None,
        }
    }
}

impl Pace {
    /// Returns when the next piece has to be here.
    pub(crate) fn next(self) -> Instant {
        let next = Instant::now() + self.silence;
        self.until.map_or(next, |until| next.min(until))
    }
}

/// How much of a compressed body is decoded before its length is looked at.
const DECODED_AT_ONCE: usize = 4096;

/// The most that is reserved on a client's word alone; more follows as bytes arrive.
const MAX_PROMISE: usize = 1024 * 1024;

/// What a client is sent.
pub(crate) enum Body {
    /// A document.
    Whole(Whole),
    /// A streamed answer.
    Streamed(Box<Streamed>),
    /// What MCP servers say.
    Mcp(Box<mcp::outlet::Streamed>),
    /// A reply that is handed through.
    Passing(Box<Passing>),
}

/// A document, and what is known of the request that it answers.
pub(crate) struct Whole {
    bytes: Bytes,
    facts: Option<Box<Facts>>,
}

/// Bytes that arrive in pieces and are wanted as one. A single piece is not copied.
#[derive(Default)]
pub(crate) struct Pieces {
    first: Bytes,
    rest: BytesMut,
    /// The length that was announced; 0 if none was.
    announced: usize,
}

/// How many bytes of request bodies the process may hold at once.
#[derive(Debug)]
pub(crate) struct Memory {
    free: AtomicUsize,
}

/// A share of [`Memory`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    memory: Arc<Memory>,
    bytes: usize,
}

/// Reads a request body of at most `limit` bytes, and decodes it where it is compressed.
///
/// # Errors
/// A 413 above the limit, decoded or not, and at once where the client announces it; a 415 if it is compressed in an
/// unknown way; a 503 if the process holds too much already; a 408 if the client falls silent; a 400 if it breaks off,
/// sends nothing, or something else than it says.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Given,
    limit: usize,
    pace: Pace,
    memory: &Arc<Memory>,
) -> Result<(Bytes, Reserved), ApiError> {
    let decoder = decoder(headers)?;
    let (bytes, mut reserved) = body.whole(headers, limit, pace, memory).await?;
    if bytes.is_empty() {
        return Err(ApiError::invalid("the request has no body"));
    }
    let bytes = match decoder {
        Some(decoder) => decode(decoder, &bytes, limit, &mut reserved)?,
        None => bytes,
    };
    Ok((bytes, reserved))
}

/// Returns what `bytes` stand for, in at most `limit` bytes.
fn decode(
    mut decoder: Decoder,
    bytes: &[u8],
    limit: usize,
    reserved: &mut Reserved,
) -> Result<Bytes, ApiError> {
    let undecodable = |fault| match fault {
        // What stands for so much is larger than anything that is taken.
        Fault::Bomb => too_large(limit),
        Fault::Malformed | Fault::Cut => {
            ApiError::invalid(format!("the request body cannot be decoded: {fault}"))
        }
    };
    let mut read = Pieces::default();
    // Little by little, so that what stands for too much is not decoded first.
    let mut pieces = bytes.chunks(DECODED_AT_ONCE);
    loop {
        let (decoded, is_last) = match pieces.next() {
            Some(piece) => (decoder.push(piece), false),
            None => (decoder.end(), true),
        };
        let decoded = decoded.map_err(undecodable)?;
        if read.len() + decoded.len() > limit {
            return Err(too_large(limit));
        }
        reserved.grow_to(bytes.len() + read.len() + decoded.len())?;
        read.push(decoded);
        if is_last {
            return Ok(read.join());
        }
    }
}

/// Returns what decodes a body; `None` where it is not compressed.
fn decoder(headers: &HeaderMap) -> Result<Option<Decoder>, ApiError> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let (Some(first), None) = (codings.next(), codings.next()) else {
        return check_coding(headers).map(|()| None);
    };
    if first.as_bytes().eq_ignore_ascii_case(b"identity") {
        return Ok(None);
    }
    let decoder = Coding::of(first).ok_or_else(unknown_coding).map(Decoder::new)?;
    let none = || {
        ApiError::new(
            ErrorKind::Internal,
            "there is no memory to decode the request body",
        )
    };
    decoder.ok_or_else(none).map(Some)
}

/// Takes off the headers of a request whose body was read what they say of its coding.
pub(crate) fn decoded(headers: &mut HeaderMap) {
    if headers.remove(header::CONTENT_ENCODING).is_some() {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// Reads a request body of at most `limit` bytes, as it is sent; there may be none.
///
/// # Errors
/// As [`read`].
pub(crate) async fn gather(
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
    pace: Pace,
    memory: &Arc<Memory>,
) -> Result<(Bytes, Reserved), ApiError> {
    let announced = body.size_hint().exact().unwrap_or(0);
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > limit {
        turn_away(headers, Given::Arriving(body)).await;
        return Err(too_large(limit));
    }
    let mut reserved = memory.reserve();
    reserved.grow_to(announced)?;
    let mut read = Pieces::of(announced);
    while !body.is_end_stream() {
        let frame = match timeout_at(pace.next(), body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(broken_off()),
            Err(_) => return Err(silent()),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = read.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        reserved.grow_to(length)?;
        read.push(data);
    }
    Ok((read.join(), reserved))
}

/// Lets a client that is refused before its body was read send it.
pub(crate) async fn turn_away(headers: &HeaderMap, body: Given) {
    // Who expects to be asked to go on has not begun to send.
    if !headers.contains_key(header::EXPECT) {
        linger(body).await;
    }
}

/// Reads on and forgets, for a while.
pub(crate) async fn linger(mut body: Given) {
    let mut left = LINGER;
    let forget = async {
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // What does not come in time is not waited for.
    let _ = timeout(LINGER_TIME, forget).await;
}

/// Refuses what is compressed, where it is not decoded.
///
/// # Errors
/// A 415.
pub(crate) fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(header::CONTENT_ENCODING) && !is_identity(headers) {
        return Err(unknown_coding());
    }
    Ok(())
}

fn unknown_coding() -> ApiError {
    let message = "the content-encoding is not supported here: documents may be compressed once, by gzip, deflate, br or \
                   zstd, and forms not at all";
    ApiError {
        status: http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ..ApiError::invalid(message)
    }
}

fn is_identity(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Returns the refusal of a body that was cut off.
pub(crate) fn broken_off() -> ApiError {
    ApiError::invalid("the request body ended early")
}

/// Returns the refusal of a body that stopped arriving.
pub(crate) fn silent() -> ApiError {
    ApiError {
        status: http::StatusCode::REQUEST_TIMEOUT,
        ..ApiError::new(ErrorKind::Timeout, "the request body did not arrive in time")
    }
}

/// Returns the refusal of a body of more than `limit` bytes.
pub(crate) fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        ErrorKind::TooLarge,
        format!("the request body exceeds {limit} bytes"),
    )
}

impl Pieces {
    /// Returns no pieces yet, of `announced` bytes in all.
    fn of(announced: usize) -> Self {
        Self {
            announced,
            ..Self::default()
        }
    }

    /// Adds a piece.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if self.is_empty() {
            self.first = piece;
            return;
        }
        if self.rest.is_empty() {
            let both = self.first.len() + piece.len();
            self.rest.reserve(self.announced.min(MAX_PROMISE).max(both));
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        if self.rest.capacity() - self.rest.len() < piece.len() {
            self.rest.reserve(self.announced.saturating_sub(self.rest.len()));
        }
        self.rest.extend_from_slice(&piece);
    }

    /// Returns how many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// Returns whether there are no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all pieces as one.
    pub(crate) fn join(self) -> Bytes {
        if self.rest.is_empty() {
            self.first
        } else {
            self.rest.freeze()
        }
    }
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicUsize::new(bytes),
        })
    }

    /// Returns a share of nothing, which can grow.
    pub(crate) fn reserve(self: &Arc<Self>) -> Reserved {
        Reserved {
            memory: Arc::clone(self),
            bytes: 0,
        }
    }
}

impl Reserved {
    /// Makes the share one of `bytes`, unless it is larger.
    ///
    /// # Errors
    /// A 503, if that is not free.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let taken = self
            .memory
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(more)
            });
        if taken.is_err() {
            return Err(ApiError {
                retry_after: Some(1),
                ..ApiError::new(
                    ErrorKind::Unavailable,
                    "the gateway holds too many large requests",
                )
            });
        }
        self.bytes += more;
        Ok(())
    }

    /// Gives everything back.
    pub(crate) fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.memory.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.release();
    }
}

impl Body {
    /// Returns a document; `facts` are emitted when it has been handed over, or cannot be.
    pub(crate) fn whole(bytes: Bytes, facts: Option<Box<Facts>>) -> Self {
        Body::Whole(Whole { bytes, facts })
    }

    /// Returns whether it is silent for most of its time, which is long.
    pub(crate) fn lasts(&self) -> bool {
        matches!(self, Body::Mcp(streamed) if streamed.lasts())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Body::Whole(whole) => Poll::Ready(whole.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Streamed(streamed) => streamed
                .poll(cx)
                .map(|bytes| bytes.map(|bytes| bytes.map(Frame::data))),
            Body::Mcp(streamed) => streamed
                .poll(cx)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
            Body::Passing(passing) => Pin::new(passing.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(whole) => whole.bytes.is_empty(),
            Body::Streamed(streamed) => streamed.is_done(),
            Body::Mcp(streamed) => streamed.is_done(),
            Body::Passing(passing) => passing.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(whole) => SizeHint::with_exact(whole.bytes.len() as u64),
            Body::Streamed(_) | Body::Mcp(_) => SizeHint::default(),
            Body::Passing(passing) => passing.size_hint(),
        }
    }
}

impl Whole {
    fn take(&mut self) -> Option<Bytes> {
        let bytes = std::mem::take(&mut self.bytes);
        if let Some(mut facts) = self.facts.take() {
            facts.bytes_sent = bytes.len() as u64;
            facts.emit(Outcome::Complete);
        }
        (!bytes.is_empty()).then_some(bytes)
    }
}

impl Drop for Whole {
    /// A document without bytes is never asked for any.
    fn drop(&mut self) {
        if self.bytes.is_empty() {
            self.take();
        }
    }
}
