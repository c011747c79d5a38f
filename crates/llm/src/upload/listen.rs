//! What is overheard of the replies to forms: token counts, or seconds of audio. They are documents, streams
//! and plain texts of many kinds; what is not understood passes.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Observed, Usage,
    chat::{Listen, Verdict},
    frame::Frame,
};

/// Overhears one stream.
pub(super) struct Listener {
    /// Knows errors, and what servers say that stream a transcription as they stream chat.
    chat: Box<dyn Listen>,
}

impl Listener {
    /// Returns a listener over the one for `chat`.
    pub(super) fn new(chat: Box<dyn Listen>) -> Self {
        Self { chat }
    }
}

impl Listen for Listener {
    fn frame(&mut self, frame: Frame<'_>, observed: &mut Observed) -> Verdict {
        let verdict = self.chat.frame(frame, observed);
        if observed.error.is_some() {
            return verdict;
        }
        observed.meaningful = true;
        let data = frame.data.as_bytes();
        if memmem::find(data, br#""usage""#).is_some() || memmem::find(data, DONE.as_bytes()).is_some() {
            note(data, observed);
        }
        verdict
    }

    /// Not all servers say when they are done.
    fn end(&mut self, observed: &mut Observed) {
        observed.complete = true;
    }
}

/// Notes what a whole reply says.
pub(super) fn response(body: &[u8], observed: &mut Observed) {
    if body.trim_ascii_start().starts_with(b"{") {
        note(body, observed);
    }
    observed.meaningful = true;
    observed.complete = true;
}

/// The event that ends a transcription (API reference, "Audio", streaming events).
const DONE: &str = "transcript.text.done";

fn note(document: &[u8], observed: &mut Observed) {
    let Ok(heard) = serde_json::from_slice::<Heard<'_>>(document) else {
        return;
    };
    let kind = heard
        .kind
        .and_then(|kind| serde_json::from_str::<&str>(kind.get()).ok());
    observed.complete |= kind == Some(DONE);
    let counted = heard
        .usage
        .and_then(|usage| serde_json::from_str::<Counted>(usage.get()).ok());
    if let Some(counted) = counted {
        counted.note(observed);
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Heard<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// Token counts, or `{"type":"duration","seconds":9}` (API reference, "Create transcription").
#[derive(Default, Deserialize)]
#[serde(default)]
struct Counted {
    #[serde(alias = "prompt_tokens")]
    input_tokens: Option<u64>,
    #[serde(alias = "completion_tokens")]
    output_tokens: Option<u64>,
    seconds: Option<f64>,
}

impl Counted {
    fn note(&self, observed: &mut Observed) {
        observed.usage.merge(&Usage {
            input: self.input_tokens,
            output: self.output_tokens,
            ..Usage::default()
        });
        let seconds = self
            .seconds
            .filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds));
        // Providers that count seconds charge for those that have begun.
        observed.seconds = seconds.map(|seconds| seconds.ceil() as u64).or(observed.seconds);
    }
}

/// More than any recording has: a century.
const MAX_SECONDS: f64 = 3.2e9;
