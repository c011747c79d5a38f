//! The answer of the simulated model as a stream: cut into pieces of a few tokens, a moment apart.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use llm::{
    Losses, Usage,
    chat::{Client, Delta, Event, Response, StreamOptions, fold},
};
use tokio::time::Sleep;

/// A body that is handed out piece by piece.
pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    pause: Pin<Box<Sleep>>,
}

impl Pieces {
    /// Says `response` as `client` does, one piece for each event.
    pub(crate) fn of(response: &Response, client: &dyn Client, options: StreamOptions) -> Self {
        let mut encoder = client.encode_stream(options);
        let mut losses = Losses::default();
        let mut pieces = VecDeque::new();
        for event in events(response) {
            let mut piece = BytesMut::new();
            encoder.event(&event, &mut piece, &mut losses);
            pieces.push_back(piece.freeze());
        }
        let mut last = BytesMut::new();
        encoder.end(&mut last, &mut losses);
        pieces.push_back(last.freeze());
        pieces.retain(|piece| !piece.is_empty());
        Self {
            pieces,
            pause: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.pieces.is_empty() {
            return Poll::Ready(None);
        }
        std::task::ready!(self.pause.as_mut().poll(cx));
        let next = tokio::time::Instant::now() + PAUSE;
        self.pause.as_mut().reset(next);
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// Returns the events that say `response`, with the size of the prompt known from the start, as providers have
/// it, and several deltas for each part.
fn events(response: &Response) -> Vec<Event> {
    let mut events = Vec::new();
    for event in fold::unfold(response) {
        match event {
            Event::Start(head) => {
                events.push(Event::Start(head));
                events.push(Event::Usage(Usage {
                    output: None,
                    reasoning: None,
                    ..response.usage
                }));
            }
            Event::Delta { index, delta } => {
                let deltas = cut(delta).into_iter();
                events.extend(deltas.map(|delta| Event::Delta { index, delta }));
            }
            event @ (Event::Open { .. }
            | Event::Close { .. }
            | Event::Usage(_)
            | Event::Finish { .. }
            | Event::Ping
            | Event::Error(_)) => events.push(event),
        }
    }
    events
}

fn cut(delta: Delta) -> Vec<Delta> {
    match delta {
        Delta::Text(text) => pieces(&text).map(|piece| Delta::Text(piece.to_owned())).collect(),
        Delta::Arguments(text) => pieces(&text)
            .map(|piece| Delta::Arguments(piece.to_owned()))
            .collect(),
        whole @ (Delta::Seal(_) | Delta::Tokens(_) | Delta::Citation(_)) => vec![whole],
    }
}

/// Cuts a text into pieces of [`PIECE`] bytes or a little more, so that none ends within a character.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (piece, rest) = text.split_at(text.ceil_char_boundary(PIECE));
        text = rest;
        Some(piece)
    })
}

/// How many bytes a piece has.
const PIECE: usize = 12;

/// How long the model takes over a piece.
const PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_are_short_and_together_the_text() {
        for text in [
            "",
            "short",
            "a text of more than twelve bytes",
            "ééééééééééééééééé",
            "🦀🦀🦀🦀🦀",
        ] {
            let cut: Vec<_> = pieces(text).collect();
            assert_eq!(cut.concat(), text);
            assert!(cut.iter().all(|piece| (1..16).contains(&piece.len())), "{cut:?}");
        }
    }
}
