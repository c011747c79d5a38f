//! What a picker is shown of a request, and what it makes of that.

use std::{
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use config::snapshot::Picker;
use http::header;
use policy::{
    ext_proc::{self, BodyChange, BodyMode, Change, Immediate, Modes, Side, Told, What},
    header_edit::HeaderEdit,
};
use tokio::time::{Instant, timeout_at};

use super::{
    MESSAGE, Question,
    talk::{Failed, Talk},
};
use crate::{body::Pieces, ctx::Ctx};

/// How often a picker is asked that was not reached, or has not looked.
const TRIES: usize = 3;

/// The most bytes of a request that are shown at once in duplex.
const PIECE: usize = 64 * 1024;

/// The largest request that a picker may make of one.
const MAX_REQUEST: usize = 64 * 1024 * 1024;

/// What a picker makes of a request.
#[derive(Default)]
pub(super) struct Made {
    pub(super) edits: Vec<HeaderEdit>,
    pub(super) path: Option<String>,
    pub(super) body: Option<Bytes>,
    pub(super) destination: Option<String>,
}

/// What a picker says of a request.
pub(super) enum Said {
    Made {
        made: Made,
        modes: Modes,
        /// `None` where the picker has left.
        talk: Option<Talk>,
    },
    Answer(Immediate),
}

/// Asks a picker; one that has certainly not seen the request is asked again.
pub(super) async fn ask(
    ctx: &Ctx,
    picker: &Picker,
    question: &Question<'_>,
    until: Instant,
) -> Result<Said, Failed> {
    let mut tries = 1;
    loop {
        let client = ctx.state.services.pick(&picker.service).ok_or(Failed::Nobody)?;
        let talk = Talk::open(Arc::clone(client), &picker.authority, &ctx.runtime.partings);
        match converse(talk, picker, question, until).await {
            Err(failed) if failed.is_unseen() && tries < TRIES => tries += 1,
            said => return said,
        }
    }
}

/// Shows a picker a request, and returns what it makes of that.
async fn converse(
    mut talk: Talk,
    picker: &Picker,
    question: &Question<'_>,
    until: Instant,
) -> Result<Said, Failed> {
    let mut modes = Modes::all(picker.body);
    let body = &question.body;
    talk.say(head(picker, question, modes));
    let mut unsaid = match modes.request {
        BodyMode::Duplex => body.clone(),
        BodyMode::Skipped | BodyMode::Streamed | BodyMode::Buffered => Bytes::new(),
    };
    let (mut made, mut pieces) = (Made::default(), Pieces::default());
    let (mut head_is_made, mut body_is_made) = (false, body.is_empty());
    while !head_is_made || !body_is_made {
        let limit = until.min(Instant::now() + MESSAGE);
        let told = poll_fn(|cx| poll_talk(&mut talk, &mut unsaid, cx));
        let told = timeout_at(limit, told).await.map_err(|_| Failed::Silent)??;
        let Some(told) = told else {
            // Whoever leaves without complaint wants to see no more of it.
            return Ok(Said::Made {
                made,
                modes,
                talk: None,
            });
        };
        made.note(&told);
        match told.what {
            What::Answer(immediate) => {
                talk.leave();
                return Ok(Said::Answer(immediate));
            }
            What::Head(Side::Request, change) if !head_is_made => {
                head_is_made = true;
                if let Some(wanted) = told.modes.filter(|_| picker.may_change_modes) {
                    modes = Modes {
                        // What is seen in duplex is on its way already.
                        request: match modes.request {
                            BodyMode::Duplex => BodyMode::Duplex,
                            BodyMode::Skipped | BodyMode::Streamed | BodyMode::Buffered => wanted.request,
                        },
                        ..wanted
                    };
                }
                let replaces = change.replaces;
                let replaced = made.change(change);
                if replaces {
                    made.body = Some(replaced.unwrap_or_default());
                    body_is_made = true;
                }
                match modes.request {
                    BodyMode::Skipped => body_is_made = true,
                    BodyMode::Streamed | BodyMode::Buffered if !body_is_made => {
                        talk.say(ext_proc::body(Side::Request, body, true));
                    }
                    BodyMode::Streamed | BodyMode::Buffered | BodyMode::Duplex => {}
                }
            }
            What::Body(Side::Request, mut change) if !body_is_made => {
                match (modes.request, mem::take(&mut change.body)) {
                    (BodyMode::Duplex, BodyChange::Piece { bytes, is_last }) => {
                        if pieces.len() + bytes.len() > MAX_REQUEST {
                            return Err(Failed::TooLarge(MAX_REQUEST));
                        }
                        pieces.push(bytes);
                        body_is_made = is_last;
                        if is_last {
                            made.body = Some(mem::take(&mut pieces).join());
                        }
                    }
                    (BodyMode::Streamed | BodyMode::Buffered, BodyChange::Kept) => body_is_made = true,
                    (BodyMode::Streamed | BodyMode::Buffered, BodyChange::Replaced(bytes)) => {
                        made.body = Some(bytes);
                        body_is_made = true;
                    }
                    (_, _) => return Err(Failed::Unasked),
                }
                made.change(change);
            }
            What::Nothing | What::Head(..) | What::Body(..) | What::Trailers(..) => {
                return Err(Failed::Unasked);
            }
        }
    }
    let talk = Some(talk);
    Ok(Said::Made { made, modes, talk })
}

/// Returns the head of a request, with whom the picker may name.
fn head(picker: &Picker, question: &Question<'_>, modes: Modes) -> Bytes {
    let mut headers = question.headers.clone();
    let host = headers.remove(header::HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok());
    let pseudo = [
        (":method", question.method.as_str()),
        (":scheme", question.scheme),
        (":authority", host.unwrap_or_default()),
        (":path", question.target),
    ];
    let known = picker.subset.as_deref().map(ext_proc::subset);
    let head = ext_proc::Head {
        pseudo: &pseudo,
        headers: &headers,
        is_last: question.body.is_empty(),
    };
    ext_proc::head(Side::Request, head, &known.unwrap_or_default(), Some(modes))
}

/// Says of `unsaid` what there is room for, and returns what the picker says next.
fn poll_talk(
    talk: &mut Talk,
    unsaid: &mut Bytes,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Told>, Failed>> {
    loop {
        if !unsaid.is_empty() && talk.has_room() {
            let piece = unsaid.split_to(unsaid.len().min(PIECE));
            talk.say(ext_proc::body(Side::Request, &piece, unsaid.is_empty()));
        }
        if let Poll::Ready(told) = talk.poll_told(cx) {
            return Poll::Ready(told);
        }
        // What was said is on its way, so that there may be room for more.
        if unsaid.is_empty() || !talk.has_room() {
            return Poll::Pending;
        }
    }
}

impl Made {
    fn note(&mut self, told: &Told) {
        if self.destination.is_none() {
            self.destination = told.destination().map(str::to_owned);
        }
    }

    /// Takes a change of the head; returns what stands for the body, if something does.
    pub(super) fn change(&mut self, change: Change) -> Option<Bytes> {
        self.edits.extend(change.edits);
        self.path = change.path.or(self.path.take());
        self.destination = change.destination.or(self.destination.take());
        match change.body {
            BodyChange::Replaced(bytes) | BodyChange::Piece { bytes, .. } => Some(bytes),
            BodyChange::Kept => None,
        }
    }
}
