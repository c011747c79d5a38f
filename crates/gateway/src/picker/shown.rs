//! A reply while a picker sees it: what the picker sends back is what is handed on.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use policy::ext_proc::{self, BodyChange, BodyMode, Change, Immediate, Modes, Side, Told, What};

use super::talk::{Failed, Talk};
use crate::{
    body::Pieces,
    upstream::{Broken, Reply},
};

/// The most of a reply that is held for a picker that sees it whole.
const MAX_HELD: usize = 64 * 1024 * 1024;

/// The most that is kept of a reply, to be handed on should the picker fail before it has answered the head.
const MAX_KEPT: usize = 1024 * 1024;

/// A reply while a picker sees it.
pub(crate) struct Shown {
    reply: Reply,
    /// `None` once the picker is gone, or has said its last.
    talk: Option<Talk>,
    mode: BodyMode,
    shows_trailers: bool,
    /// Whether the reply goes on without the picker, should that fail.
    may_fail: bool,
    /// Whether all of the reply has been read.
    is_read: bool,
    /// A piece that the picker was shown and has not answered; in duplex none, since what it sends back stands for itself.
    waiting: Option<Bytes>,
    /// What is held until all of it is there.
    held: Pieces,
    /// In duplex, what was shown while the head is not answered; `None` once it is, or that was too much.
    kept: Option<Pieces>,
    /// What came after the body, if the picker was shown that.
    trailers: Option<HeaderMap>,
    /// What is handed on before anything else that there is.
    before: Option<Bytes>,
    /// What is handed on after the body.
    after: Option<HeaderMap>,
    /// Whether all of the body was handed on.
    over: bool,
}

/// What a picker makes of the head of a reply.
pub(super) enum Headed {
    /// It is changed, and the picker wants to see the rest in this way.
    Changed(Box<Change>, Option<Modes>),
    /// The client is told something else.
    Answer(Box<Immediate>),
    /// It stays as it is, and the picker is gone.
    Alone,
}

impl Shown {
    /// Returns `reply`, whose head the picker has been shown. If it may fail, the reply goes on without it then.
    pub(super) fn new(reply: Reply, talk: Talk, modes: Modes, may_fail: bool) -> Self {
        let is_read = reply.is_end_stream();
        Self {
            // A reply without a body has no part that could be answered.
            mode: if is_read { BodyMode::Skipped } else { modes.reply },
            reply,
            talk: Some(talk),
            shows_trailers: modes.reply_trailers,
            may_fail,
            is_read,
            waiting: None,
            held: Pieces::default(),
            kept: Some(Pieces::default()),
            trailers: None,
            before: None,
            after: None,
            over: false,
        }
    }

    /// Returns what the picker makes of the head. In duplex it may want to see of the body first.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Headed, Broken>> {
        // Only in duplex is anything shown before this is answered.
        let told = match self.mode {
            BodyMode::Duplex => ready!(self.poll_told(cx)),
            BodyMode::Skipped | BodyMode::Streamed | BodyMode::Buffered => match &mut self.talk {
                Some(talk) => ready!(talk.poll_told(cx)).map_err(Broken::Picker),
                None => Ok(None),
            },
        };
        let left = match told {
            Ok(None) => Ok(()),
            Ok(Some(told)) => match told.what {
                What::Head(Side::Reply, change) => {
                    self.kept = None;
                    return Poll::Ready(Ok(Headed::Changed(Box::new(change), told.modes)));
                }
                What::Answer(immediate) => return Poll::Ready(Ok(Headed::Answer(Box::new(immediate)))),
                What::Nothing | What::Head(..) | What::Body(..) | What::Trailers(..) => Err(Failed::Unasked),
            },
            Err(Broken::Picker(error)) => Err(error),
            Err(error) => return Poll::Ready(Err(error)),
        };
        let went_on = self.go_on(left).map(|()| Headed::Alone);
        Poll::Ready(went_on.map_err(Broken::Picker))
    }

    /// Has the picker see the body and what comes after it in another way. What it sees in duplex it has begun to see.
    pub(super) fn see(&mut self, modes: Modes) {
        if !self.is_read && self.mode != BodyMode::Duplex {
            self.mode = modes.reply;
        }
        self.shows_trailers = modes.reply_trailers;
    }

    /// Returns whether the picker may make another body of the body.
    pub(super) fn may_change(&self) -> bool {
        self.mode != BodyMode::Skipped
    }

    /// Hands on `bytes` in place of the body.
    pub(super) fn replace(&mut self, bytes: Bytes) {
        self.before = Some(bytes).filter(|bytes| !bytes.is_empty());
        self.over = true;
        self.end();
    }

    /// Has the reply go on without the picker, which left well or failed.
    ///
    /// # Errors
    /// If it cannot: nothing is to be handed on that the picker has not seen, or what it was shown is lost with it.
    pub(super) fn go_on(&mut self, left: Result<(), Failed>) -> Result<(), Failed> {
        let kept = self.kept.take();
        let is_lost = self.mode == BodyMode::Duplex && kept.is_none();
        match left {
            Err(error) if !self.may_fail || is_lost => return Err(error),
            Ok(()) if is_lost => return Err(Failed::Ended),
            Err(_) | Ok(()) => {}
        }
        let mut before = kept.unwrap_or_default();
        if let Some(piece) = self.waiting.take() {
            before.push(piece);
        }
        before.push(mem::take(&mut self.held).join());
        self.before = Some(before.join()).filter(|bytes| !bytes.is_empty());
        self.after = self.after.take().or(self.trailers.take());
        self.mode = BodyMode::Skipped;
        self.talk = None;
        Ok(())
    }

    /// Shows the picker of the body what there is room for, and returns what it says next.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Told>, Broken>> {
        loop {
            let shown = self.poll_show(cx)?;
            let Some(talk) = &mut self.talk else {
                return Poll::Ready(Ok(None));
            };
            if let Poll::Ready(told) = talk.poll_told(cx) {
                return Poll::Ready(told.map_err(Broken::Picker));
            }
            // What was shown is on its way, so that there may be room for more.
            if shown.is_pending() || !talk.has_room() {
                return Poll::Pending;
            }
        }
    }

    /// Shows the picker the next part of the reply; pending where there is none, or no room.
    fn poll_show(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let has_room = self.talk.as_ref().is_some_and(Talk::has_room);
        let is_answered = self.waiting.is_none();
        if self.mode == BodyMode::Skipped || self.is_read || !has_room || !is_answered {
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut self.reply).poll_frame(cx)).transpose()?;
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                let is_last = self.reply.is_end_stream();
                self.show(data, is_last)?;
            }
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                if self.shows_trailers {
                    self.is_read = true;
                    self.show_held(false);
                    self.say(ext_proc::trailers(Side::Reply, &trailers));
                    self.trailers = Some(trailers);
                } else {
                    self.show(Bytes::new(), true)?;
                    self.after = Some(trailers);
                }
            }
            None => self.show(Bytes::new(), true)?,
        }
        Poll::Ready(Ok(()))
    }

    fn show(&mut self, data: Bytes, is_last: bool) -> Result<(), Failed> {
        self.is_read = is_last;
        if self.mode == BodyMode::Buffered {
            if self.held.len() + data.len() > MAX_HELD {
                return Err(Failed::TooLarge(MAX_HELD));
            }
            self.held.push(data);
            if is_last {
                self.show_held(true);
            }
            return Ok(());
        }
        self.say(ext_proc::body(Side::Reply, &data, is_last));
        if self.mode == BodyMode::Streamed {
            self.waiting = Some(data);
            return Ok(());
        }
        let kept = self.kept.take();
        self.kept = kept.filter(|kept| kept.len() + data.len() <= MAX_KEPT);
        if let Some(kept) = &mut self.kept {
            kept.push(data);
        }
        Ok(())
    }

    /// Shows what was held until all of it was there.
    fn show_held(&mut self, is_last: bool) {
        if self.mode == BodyMode::Buffered {
            let all = mem::take(&mut self.held).join();
            self.say(ext_proc::body(Side::Reply, &all, is_last));
            self.waiting = Some(all);
        }
    }

    fn say(&self, message: Bytes) {
        if let Some(talk) = &self.talk {
            talk.say(message);
        }
    }

    /// Returns the next frame that is handed on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(bytes) = self.before.take() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.over || self.mode == BodyMode::Skipped && self.is_read {
                self.over = true;
                self.end();
                let trailers = self.after.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            if self.mode == BodyMode::Skipped {
                self.end();
                return Pin::new(&mut self.reply).poll_frame(cx);
            }
            let heard = match ready!(self.poll_told(cx)) {
                Ok(Some(told)) => self.hear(told.what),
                Ok(None) => self.go_on(Ok(())).map(|()| None),
                Err(Broken::Picker(error)) => self.go_on(Err(error)).map(|()| None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            match heard {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Takes what the picker makes of a part of the reply; returns what is handed on, if that is something.
    fn hear(&mut self, what: What) -> Result<Option<Frame<Bytes>>, Failed> {
        let (bytes, is_last) = match what {
            What::Body(Side::Reply, change) => match (change.body, self.waiting.take()) {
                (BodyChange::Piece { bytes, is_last }, None) if self.mode == BodyMode::Duplex => {
                    (bytes, is_last)
                }
                (BodyChange::Kept, Some(shown)) => (shown, self.is_read),
                (BodyChange::Replaced(bytes), Some(_)) => (bytes, self.is_read),
                (_, _) => return Err(Failed::Unasked),
            },
            What::Trailers(Side::Reply, change) => {
                let mut trailers = self.trailers.take().ok_or(Failed::Unasked)?;
                for edit in &change.edits {
                    edit.apply(&mut trailers);
                }
                self.after = Some(trailers);
                (Bytes::new(), true)
            }
            What::Nothing | What::Answer(_) | What::Head(..) | What::Body(..) | What::Trailers(..) => {
                return Err(Failed::Unasked);
            }
        };
        // Where trailers were shown, their answer is the last.
        self.over = is_last && self.trailers.is_none();
        if self.over {
            self.end();
        }
        let data = Some(bytes).filter(|bytes| !bytes.is_empty());
        Ok(data.map(Frame::data))
    }

    /// Takes leave of the picker.
    fn end(&mut self) {
        if let Some(talk) = self.talk.take() {
            talk.leave();
        }
    }

    /// Returns whether nothing is left to be handed on.
    pub(crate) fn is_end_stream(&self) -> bool {
        let is_passed = self.mode == BodyMode::Skipped && (self.is_read || self.reply.is_end_stream());
        self.before.is_none() && self.after.is_none() && (self.over || is_passed)
    }
}
