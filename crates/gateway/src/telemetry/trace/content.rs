//! What was said, read again from the bytes that the client sent and was sent.
//!
//! Both are in the client's format, whatever the upstream speaks, so one decoder for each format serves relays and
//! translations, whole answers and streams. It runs beside the requests, when spans are built.

use bytes::Bytes;
use llm::{
    Endpoint, Losses, Operation, Site, Target,
    chat::{self, fold::Fold},
    frame::{Framer, Framing},
    provider,
};
use serde_json::Value;

/// What was said in one exchange.
#[derive(Default)]
pub(super) struct Content {
    /// The request, as a document.
    pub(super) document: Value,
    /// The request as a conversation, where it is one.
    pub(super) request: Option<chat::Request>,
    /// The answer as a conversation.
    pub(super) response: Option<chat::Response>,
    /// The answer, as a document; of a stream, what it says when it is whole.
    pub(super) answer: Option<String>,
}

impl Content {
    /// Reads what `endpoint` was sent and has answered with. `answer` is a stream if `streamed`.
    pub(super) fn read(endpoint: &Endpoint, request: &[u8], answer: &[Bytes], streamed: bool) -> Self {
        let mut content = Self {
            document: serde_json::from_slice(request).unwrap_or_default(),
            ..Self::default()
        };
        let whole = || String::from_utf8(answer.concat()).ok();
        if endpoint.operation != Operation::Chat {
            content.answer = whole().filter(|_| !streamed);
            return content;
        }
        let Some((client, upstream)) = endpoint.format.client().zip(endpoint.format.upstream()) else {
            return content;
        };
        let mut losses = Losses::default();
        content.request = client.decode_request(request, &mut losses).ok();
        let reader = content.request.as_ref().and_then(|request| {
            let target = Target {
                provider: &provider::COMPATIBLE,
                site: &Site::default(),
                model: &request.model,
                now: 0,
            };
            // Writing the request says how its answer is to be read.
            let (_, reader) = upstream
                .encode_request(request, &target, &mut Losses::default())
                .ok()?;
            Some(reader)
        });
        if !streamed {
            content.answer = whole();
            content.response = reader
                .zip(content.answer.as_ref())
                .and_then(|(reader, answer)| reader.decode_response(answer.as_bytes(), &mut losses).ok());
            return content;
        }
        content.response = reader.and_then(|reader| fold(reader, answer));
        content.answer = content.response.as_ref().map(|response| {
            let document = client.encode_response(response, &mut losses);
            String::from_utf8_lossy(&document).into_owned()
        });
        content
    }
}

/// Gathers a stream into the answer that it says.
fn fold(reader: Box<dyn chat::DecodeReply>, pieces: &[Bytes]) -> Option<chat::Response> {
    let mut stream = reader.into_stream();
    let mut framer = Framer::new(Framing::Sse);
    let (mut events, mut losses, mut fold) = (Vec::new(), Losses::default(), Fold::default());
    for piece in pieces {
        // What cannot be read is not shown.
        framer
            .push(piece, |frame, _| stream.frame(frame, &mut events, &mut losses))
            .ok()?;
        events.drain(..).for_each(|event| fold.push(&event));
    }
    framer.finish(|frame| stream.frame(frame, &mut events, &mut losses));
    stream.end(llm::End::Clean, &mut events);
    events
        .iter()
        .filter(|event| !matches!(event, chat::Event::Error(_)))
        .for_each(|event| fold.push(event));
    fold.finish().ok()
}
