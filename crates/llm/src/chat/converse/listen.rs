//! What a relay would overhear. No client speaks the format, so what is heard is what a translation reads.

use super::{reply::Memory, stream::Decoder};
use crate::{
    ApiError, Losses, Observed,
    chat::{DecodeReply, DecodeStream, Event, Listen, Verdict},
    frame::Frame,
};

/// Overhears a stream.
#[derive(Debug)]
pub(super) struct Listener(Decoder);

impl Default for Listener {
    fn default() -> Self {
        Self(Decoder::new(Memory::default()))
    }
}

impl Listen for Listener {
    fn frame(&mut self, frame: Frame<'_>, observed: &mut Observed) -> Verdict {
        let mut events = Vec::new();
        self.0.frame(frame, &mut events, &mut Losses::default());
        for event in events {
            match event {
                Event::Start(_) | Event::Open { .. } | Event::Close { .. } | Event::Ping => {}
                Event::Delta { .. } => observed.meaningful = true,
                Event::Usage(usage) => observed.usage.merge(&usage),
                Event::Finish { reason, .. } => {
                    observed.finish = Some(reason);
                    observed.meaningful = true;
                    observed.complete = true;
                }
                Event::Error(error) => observed.error = Some(error),
            }
        }
        Verdict::Pass
    }
}

/// Notes what a whole reply says.
///
/// # Errors
/// A 502, if `body` is not a reply of the format.
pub(super) fn response(body: &[u8], observed: &mut Observed) -> Result<(), ApiError> {
    let response = Box::<Memory>::default().decode_response(body, &mut Losses::default())?;
    observed.usage = response.usage;
    observed.finish = response.choices.into_iter().next().map(|choice| choice.finish);
    observed.meaningful = true;
    observed.complete = true;
    Ok(())
}
