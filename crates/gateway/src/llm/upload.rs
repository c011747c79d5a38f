//! Forms with files on their way from a client to an upstream, which are not held.
//!
//! Only what comes before the model is known has to be: nobody can say before whom the form is for. Then the
//! upstream's call begins, and its body pulls the rest from the client. There is no task and no channel: an
//! upstream that takes slowly slows its client down. What was handed on can be handed on again as long as it
//! is not much; after that the first upstream that took the form is the one that answers.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, request::Parts};
use http_body::{Body as _, Frame, SizeHint};
use llm::{ApiError, Endpoint, Target, multipart::Editor, upload::Form};
use tokio::time::{Instant, timeout_at};

use super::{
    asked::{Asked, Head, Payload, Said},
    limit::{Alarm, Limits},
};
use crate::{
    access::{self, Shown},
    body::{self, Memory, Pace, Reserved},
    ctx::Ctx,
    given::Given,
    refusal::{Answer, Content, Refusal},
};

/// The most of a form that is kept, beyond what had to be held, so that another upstream can be asked.
const MAX_KEPT: usize = 1024 * 1024;

/// A client's form whose model is known.
pub(crate) struct Upload {
    /// The model that the client names.
    pub(super) model: String,
    /// How long the client says that the form is.
    announced: Option<u64>,
    source: Shared,
}

/// The form as one upstream is sent it.
pub(crate) struct Pull {
    source: Shared,
    /// How many of the client's bytes were taken.
    at: usize,
    editor: Option<Editor>,
    /// What the editor has made of the last piece.
    edited: VecDeque<Bytes>,
    length: Option<u64>,
}

/// The form will not come to its end; [`Upload::fault`] knows why.
#[derive(Debug, thiserror::Error)]
#[error("the client's form is not whole")]
pub(crate) struct Broken;

/// The lock is never waited for: all that use it run in the task of one request.
pub(crate) type Shared = Arc<Mutex<Source>>;

/// Where a form comes from.
pub(crate) struct Source {
    form: Form,
    /// `None` once nothing more is to come.
    body: Option<Given>,
    /// The most bytes that may come.
    limit: usize,
    /// How fast.
    pace: Pace,
    received: usize,
    /// What came before the model was known.
    held: Bytes,
    /// What came after, while it is all kept.
    kept: BytesMut,
    reserved: Reserved,
    /// Bytes were handed on that are not held or kept: there can be no other attempt.
    spent: bool,
    /// Whether the next byte is the client's to send.
    waiting: bool,
    /// When the last bytes came.
    moved: Instant,
    fault: Option<ApiError>,
}

/// Serves the form in `body`, sent to `endpoint`.
pub(crate) async fn serve(
    ctx: &mut Ctx,
    endpoint: &'static Endpoint,
    upload: llm::Upload,
    head: Parts,
    body: Given,
) -> Result<Answer, Box<Refusal>> {
    let limit = ctx.runtime.options.max_upload;
    let announced = body.size_hint().exact();
    let form = match admit(endpoint, upload, &head.headers, announced, limit) {
        Ok(form) => form,
        Err(error) => {
            body::turn_away(&head.headers, body).await;
            return Err(error.into());
        }
    };
    let source = Arc::new(Mutex::new(Source::new(
        form,
        body,
        (limit, ctx.pace()),
        &ctx.runtime.memory,
    )));
    let answer = answer(ctx, announced, &source, head).await;
    ctx.facts.bytes_received = lock(&source).received as u64;
    if let Some(trace) = ctx.facts.trace.as_mut().filter(|trace| trace.is_sampled()) {
        // Files are not for spans.
        let summary = serde_json::to_vec(lock(&source).form.summary());
        trace.asked(&Bytes::from(summary.unwrap_or_default()));
    }
    // A streamed answer goes on pulling what the client still sends; for any other one the client may not
    // listen before it has sent everything.
    let streams = answer
        .as_ref()
        .is_ok_and(|answer| matches!(answer.content, Content::Stream(_)));
    let rest = lock(&source).body.take_if(|_| !streams);
    if let Some(rest) = rest {
        body::linger(rest).await;
    }
    answer
}

/// Returns the form that `headers` announce, nothing of which has been read.
fn admit(
    endpoint: &'static Endpoint,
    upload: llm::Upload,
    headers: &HeaderMap,
    announced: Option<u64>,
    limit: usize,
) -> Result<Form, ApiError> {
    body::check_coding(headers)?;
    let form = Form::begin(endpoint, upload, headers)?;
    if announced.is_some_and(|announced| announced > limit as u64) {
        return Err(body::too_large(limit));
    }
    Ok(form)
}

async fn answer(
    ctx: &mut Ctx,
    announced: Option<u64>,
    source: &Shared,
    mut head: Parts,
) -> Result<Answer, Box<Refusal>> {
    let held = hold(source, ctx.runtime.options.max_body).await;
    ctx.facts.bytes_received = lock(source).received as u64;
    let upload = Upload {
        model: held?,
        announced,
        source: Arc::clone(source),
    };
    let stream = upload.stream();
    let mut shown = Shown::Form(source);
    let rule = access::route(ctx, &upload.model, stream, &mut head, &mut shown).await?;
    super::serve(ctx, &rule, Asked::Form(&upload), head.headers).await
}

/// Reads until the model is known, and returns it.
async fn hold(source: &Shared, limit: usize) -> Result<String, ApiError> {
    let mut held = BytesMut::new();
    let pace = lock(source).pace;
    loop {
        let next = timeout_at(pace.next(), poll_fn(|cx| lock(source).poll_client(cx))).await;
        let mut source = lock(source);
        let Some(bytes) = next.map_err(|_| body::silent())? else {
            // A form that ends well without a model is at fault too.
            return Err(source.fault.clone().unwrap_or_else(body::broken_off));
        };
        if held.len() + bytes.len() > limit {
            let message =
                format!("the model is not named in the first {limit} bytes: name it before the file");
            return Err(ApiError::new(llm::ErrorKind::TooLarge, message).with_param("model"));
        }
        source.reserved.grow_to(held.len() + bytes.len())?;
        held.extend_from_slice(&bytes);
        if let Some(model) = source.form.model().map(str::to_owned) {
            source.held = held.freeze();
            return Ok(model);
        }
    }
}

/// Reads the rest of a form of at most `limit` bytes, so that all of it is held.
///
/// # Errors
/// A 413 above the limit; a 503 if there is no room for it; what is wrong with it.
pub(crate) async fn whole(source: &Shared, limit: usize) -> Result<Bytes, ApiError> {
    let mut held = BytesMut::from(lock(source).held.as_ref());
    let pace = lock(source).pace;
    loop {
        if held.len() > limit {
            return Err(body::too_large(limit));
        }
        let next = timeout_at(pace.next(), poll_fn(|cx| lock(source).poll_client(cx))).await;
        let mut source = lock(source);
        match next.map_err(|_| body::silent())? {
            Some(bytes) => {
                source.reserved.grow_to(held.len() + bytes.len())?;
                held.extend_from_slice(&bytes);
            }
            None => {
                source.held = held.freeze();
                return source.fault.clone().map_or(Ok(source.held.clone()), Err);
            }
        }
    }
}

impl Upload {
    /// Returns whether the client wants a stream, as far as is known.
    pub(super) fn stream(&self) -> bool {
        lock(&self.source).form.stream()
    }

    /// Reads the rest of the form, of at most `limit` bytes, so that it can be said as often as it has to be.
    ///
    /// # Errors
    /// As [`whole`].
    pub(super) async fn hold(&self, limit: usize) -> Result<(), ApiError> {
        whole(&self.source, limit).await.map(|_| ())
    }

    /// Returns what `target` is to be sent.
    pub(super) fn say(&self, target: &Target<'_>) -> Result<Said, ApiError> {
        let call = lock(&self.source).form.call(target)?;
        let length = |announced: u64| announced.checked_add_signed(call.growth);
        Ok(Said {
            head: Head {
                path: call.path,
                headers: call.headers,
                replaces: Vec::new(),
                content_type: call.content_type,
            },
            payload: Payload::Form(Box::new(Pull {
                source: Arc::clone(&self.source),
                at: 0,
                editor: call.editor,
                edited: VecDeque::new(),
                length: self.announced.and_then(length),
            })),
            more: Vec::new(),
            losses: llm::Losses::default(),
            reply: call.reply,
        })
    }

    /// Returns what is wrong with what the client sent.
    pub(super) fn fault(&self) -> Option<ApiError> {
        lock(&self.source).fault.clone()
    }

    /// Returns whether nothing is lost of what was handed on, so that another upstream can be asked.
    pub(super) fn is_whole(&self) -> bool {
        let source = lock(&self.source);
        !source.spent && source.fault.is_none()
    }

    /// Returns what `call` gives, or `None` if the client has fallen silent, or the upstream for longer than
    /// is allowed since it took the last bytes.
    pub(super) async fn limit<F: Future + Unpin>(
        &self,
        alarm: &mut Alarm,
        limits: Limits,
        mut call: F,
    ) -> Option<F::Output> {
        lock(&self.source).moved = Instant::now();
        loop {
            let at = lock(&self.source).look_at(limits);
            if let Some(output) = alarm.limit(at, &mut call).await {
                return Some(output);
            }
            if lock(&self.source).is_over(limits) {
                return None;
            }
        }
    }
}

impl Source {
    fn new(form: Form, body: Given, (limit, pace): (usize, Pace), memory: &Arc<Memory>) -> Self {
        Self {
            form,
            body: Some(body),
            limit,
            pace,
            received: 0,
            held: Bytes::new(),
            kept: BytesMut::new(),
            reserved: memory.reserve(),
            spent: false,
            waiting: false,
            moved: Instant::now(),
            fault: None,
        }
    }

    /// Returns the client's bytes from `at` on; `None` at the end, or where there is a fault.
    fn poll_from(&mut self, at: usize, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if at < self.held.len() {
            return Poll::Ready(Some(self.held.slice(at..)));
        }
        let kept = self.kept.get(at - self.held.len()..).unwrap_or_default();
        if !kept.is_empty() {
            return Poll::Ready(Some(Bytes::copy_from_slice(kept)));
        }
        let bytes = ready!(self.poll_client(cx));
        if let Some(bytes) = &bytes {
            self.keep(bytes);
        }
        Poll::Ready(bytes)
    }

    /// Returns the next bytes of the client; `None` at the end, or where there is a fault.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while let Some(body) = self.body.as_mut().filter(|_| self.fault.is_none()) {
            let frame = if body.is_end_stream() {
                None
            } else {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                self.waiting = polled.is_pending();
                ready!(polled)
            };
            self.moved = Instant::now();
            let bytes = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => bytes,
                Some(Ok(Err(_))) => continue,
                Some(Err(_)) => {
                    self.body = None;
                    self.fault = Some(body::broken_off());
                    break;
                }
                None => {
                    self.body = None;
                    self.fault = self.form.end().err();
                    break;
                }
            };
            self.received += bytes.len();
            if self.received > self.limit {
                self.fault = Some(body::too_large(self.limit));
                break;
            }
            // With its last bytes a call of known length is whole: a form that is cut off must not get there.
            let is_last = body.is_end_stream();
            let pushed = self.form.push(&bytes);
            let ended = pushed.and_then(|()| if is_last { self.form.end() } else { Ok(()) });
            if let Err(fault) = ended {
                self.fault = Some(fault);
                break;
            }
            if !bytes.is_empty() {
                return Poll::Ready(Some(bytes));
            }
        }
        Poll::Ready(None)
    }

    /// Keeps what is handed on, or gives up on keeping anything.
    fn keep(&mut self, bytes: &Bytes) {
        if self.spent {
            return;
        }
        let kept = self.kept.len() + bytes.len();
        if kept <= MAX_KEPT && self.reserved.grow_to(self.held.len() + kept).is_ok() {
            self.kept.extend_from_slice(bytes);
            return;
        }
        self.spent = true;
        self.held = Bytes::new();
        self.kept = BytesMut::new();
        self.reserved.release();
    }

    /// Returns when to look again whether a limit has passed.
    fn look_at(&self, limits: Limits) -> Instant {
        let now = Instant::now();
        let silent = self.moved + self.pace.silence;
        let next = if silent > now { silent } else { now + LOOK_EVERY };
        let whole = self.pace.until.filter(|until| *until > now);
        let next = whole.map_or(next, |until| next.min(until));
        next.min(limits.attempt).min(self.moved + limits.idle)
    }

    /// Returns whether a limit has passed. A client's silence is a fault of its own, and so is its slowness.
    fn is_over(&mut self, limits: Limits) -> bool {
        let now = Instant::now();
        let silent = now >= self.moved + self.pace.silence;
        let late = self.body.is_some() && self.pace.until.is_some_and(|until| now >= until);
        if self.waiting && (silent || late) {
            self.fault = Some(body::silent());
        }
        self.fault.is_some() || now >= limits.attempt || now >= self.moved + limits.idle
    }
}

/// How often is looked at who is to blame for a silence.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl http_body::Body for Pull {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.edited.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let mut source = lock(&this.source);
            let Some(bytes) = ready!(source.poll_from(this.at, cx)) else {
                return Poll::Ready(source.fault.is_some().then_some(Err(Broken)));
            };
            this.at += bytes.len();
            match &mut this.editor {
                Some(editor) => editor.push(bytes, |bytes| this.edited.push_back(bytes)),
                None => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

fn lock(source: &Shared) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}
