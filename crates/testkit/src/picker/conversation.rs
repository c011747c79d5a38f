//! One conversation: what is said to a picker, read strictly, and what its plan has it answer.

use std::{
    future::poll_fn,
    sync::{Arc, PoisonError},
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::Value;

use super::{
    Fault, Left, Plan, Seen, Stage, State,
    wire::{Message, fields, headers, metadata, mutation, nested},
};

/// Serves one call.
pub(super) async fn talk(request: Request<RecvStream>, respond: SendResponse<Bytes>, state: Arc<State>) {
    let index = {
        let mut seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let authority = request.uri().authority().map(ToString::to_string);
        seen.push(Seen {
            authority: authority.unwrap_or_default(),
            ..Seen::default()
        });
        seen.len() - 1
    };
    let (head, body) = request.into_parts();
    let as_it_should = head.method == http::Method::POST
        && head.uri.path() == "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
        && head
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "application/grpc")
        && head.headers.get("te").is_some_and(|te| te == "trailers");
    if !as_it_should {
        state.fault(format!("the call is {head:?}"));
    }
    let mut conversation = Conversation {
        index,
        state: Arc::clone(&state),
        body,
        buffer: BytesMut::new(),
        respond: Some(respond),
        stream: None,
    };
    match conversation.run().await {
        Ok(left) => state.change(index, |seen| seen.left = Some(left)),
        Err(fault) => state.fault(fault),
    }
}

/// A conversation about one request.
struct Conversation {
    index: usize,
    state: Arc<State>,
    body: RecvStream,
    buffer: BytesMut,
    /// Until something was said.
    respond: Option<SendResponse<Bytes>>,
    stream: Option<SendStream<Bytes>>,
}

/// A ProcessingRequest, as far as it is told apart.
struct Said {
    kind: u64,
    message: Vec<u8>,
    metadata: Option<Value>,
    config: Option<(u64, u64)>,
}

impl Conversation {
    async fn run(&mut self) -> Result<Left, String> {
        let first = match self.next().await? {
            Ok(first) => first,
            Err(left) => return Ok(left),
        };
        let Some(config) = first.config.filter(|_| first.kind == 2) else {
            return Err(format!(
                "the first message is of kind {}, or says no modes",
                first.kind
            ));
        };
        let (head, ended) = head(&first.message)?;
        let known = first.metadata.unwrap_or_default();
        let index = self.index;
        self.state.change(index, |seen| {
            (seen.head, seen.metadata, seen.modes) = (head, known, config);
        });
        let mut modes = config;
        let duplex = modes.0 == 4;
        if !ended
            && duplex
            && let Some(left) = self.hear_body().await?
        {
            return Ok(left);
        }
        let mut plan = (self.state.script)(index, &self.state.of(index));
        if let Some(gate) = &plan.gate {
            gate.wait().await;
        }
        if let Some(fault) = plan.fails_at(Stage::Request) {
            return self.fail(fault).await;
        }
        if let Some((status, headers, body)) = plan.immediate.take() {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            let immediate = Message::default()
                .message(1, Message::default().number(1, u64::from(status)))
                .message(2, mutation(headers))
                .bytes(3, body.as_bytes());
            self.say(Message::default().message(7, immediate)).await;
            return self.leave().await;
        }
        self.say(self.changed_head(&plan)).await;
        if let Some((_, request, reply)) = plan.modes {
            modes = (if duplex { 4 } else { request }, reply);
        }
        if !ended {
            match modes.0 {
                4 => self.send_back(&plan).await,
                0 => {}
                _ => {
                    if let Some(left) = self.hear_body().await? {
                        return Ok(left);
                    }
                    if self.state.of(index).body_pieces != 1 {
                        return Err("a buffered body came in pieces".to_owned());
                    }
                    let mut common = Message::default();
                    if let Some(body) = &plan.body {
                        common = common.message(3, Message::default().bytes(1, body.as_bytes()));
                    }
                    self.say(Message::default().message(3, Message::default().message(1, common)))
                        .await;
                }
            }
        }
        self.reply(&plan, modes.1).await
    }

    /// Returns what becomes of the head of the request.
    fn changed_head(&self, plan: &Plan) -> Message {
        let named = plan
            .header
            .iter()
            .map(|value| ("x-gateway-destination-endpoint", value.as_str()));
        let set = plan
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let common = Message::default().message(2, mutation(named.chain(set)));
        let mut told = Message::default().message(1, Message::default().message(1, common));
        if let Some(named) = &plan.metadata {
            told = told.message(8, nested("envoy.lb", "x-gateway-destination-endpoint", named));
        }
        if let Some((reply_head, request, reply)) = plan.modes {
            let mode = Message::default()
                .number(2, reply_head)
                .number(3, request)
                .number(4, reply);
            told = told.message(9, mode);
        }
        told
    }

    /// Sends the body of the request back, in two pieces.
    async fn send_back(&mut self, plan: &Plan) {
        let seen = self.state.of(self.index).body;
        let body = plan.body.clone().map_or(seen, String::into_bytes);
        let (first, second) = body.split_at(body.len() / 2);
        for (piece, is_last) in [(first, false), (second, true)] {
            let streamed = Message::default().bytes(1, piece).number(2, u64::from(is_last));
            let common = Message::default().message(3, Message::default().message(3, streamed));
            self.say(Message::default().message(3, Message::default().message(1, common)))
                .await;
        }
    }

    /// Hears the body of the request to its end.
    async fn hear_body(&mut self) -> Result<Option<Left>, String> {
        loop {
            let said = match self.next().await? {
                Ok(said) => said,
                Err(left) => return Ok(Some(left)),
            };
            if said.kind != 4 {
                return Err(format!(
                    "a message of kind {} within the body of a request",
                    said.kind
                ));
            }
            let (piece, is_last) = body(&said.message)?;
            self.state.change(self.index, |seen| {
                seen.body.extend_from_slice(&piece);
                seen.body_pieces += 1;
            });
            if is_last {
                return Ok(None);
            }
        }
    }

    async fn reply(&mut self, plan: &Plan, mode: u64) -> Result<Left, String> {
        let said = match self.next().await? {
            Ok(said) => said,
            Err(left) => return Ok(left),
        };
        if said.kind != 3 {
            return Err(format!(
                "a message of kind {} in place of the head of a reply",
                said.kind
            ));
        }
        let (head, mut ended) = head(&said.message)?;
        let index = self.index;
        self.state.change(index, |seen| {
            (seen.reply_head, seen.reply_metadata) = (head, said.metadata.unwrap_or_default());
        });
        if let Some(fault) = plan.fails_at(Stage::ReplyHead) {
            return self.fail(fault).await;
        }
        let set = plan.reply_headers.iter();
        let set = set.map(|(name, value)| (name.as_str(), value.as_str()));
        let common = Message::default().message(2, mutation(set));
        self.say(Message::default().message(2, Message::default().message(1, common)))
            .await;
        while !ended {
            let said = match self.next().await? {
                Ok(said) => said,
                Err(left) => return Ok(left),
            };
            if let Some(fault) = plan.fails_at(Stage::ReplyBody) {
                return self.fail(fault).await;
            }
            if said.kind == 7 {
                let trailers = fields(&said.message, &[1], "HttpTrailers")?;
                let trailers = trailers
                    .first()
                    .map(|(_, map)| headers(map.bytes()?))
                    .transpose()?;
                self.state.change(index, |seen| seen.reply_trailers = trailers);
                self.say(Message::default().message(6, Message::default())).await;
                break;
            }
            if said.kind != 5 {
                return Err(format!(
                    "a message of kind {} within the body of a reply",
                    said.kind
                ));
            }
            let (piece, is_last) = body(&said.message)?;
            self.state.change(index, |seen| {
                seen.reply_body.extend_from_slice(&piece);
                seen.reply_pieces += 1;
            });
            ended = is_last;
            self.say(changed_piece(plan, mode, &piece, is_last)).await;
        }
        self.state.change(index, |seen| seen.reply_ended = true);
        match self.next().await? {
            Ok(said) => Err(format!("a message of kind {} after the end", said.kind)),
            Err(left) => {
                self.leave().await?;
                Ok(left)
            }
        }
    }

    async fn say(&mut self, message: Message) {
        self.send(message.framed()).await;
    }

    async fn send(&mut self, message: Vec<u8>) {
        if let Some(mut respond) = self.respond.take() {
            let response = Response::builder().header("content-type", "application/grpc");
            let response = response.body(()).expect("a head");
            self.stream = respond.send_response(response, false).ok();
        }
        let Some(stream) = &mut self.stream else { return };
        let mut rest = Bytes::from(message);
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                return;
            };
            if stream
                .send_data(rest.split_to(room.min(rest.len())), false)
                .is_err()
            {
                return;
            }
        }
    }

    /// Ends the conversation without complaint.
    async fn leave(&mut self) -> Result<Left, String> {
        self.end(0).await;
        Ok(Left::Well)
    }

    async fn end(&mut self, status: u16) {
        self.send(Vec::new()).await;
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from(status),
        )]);
        if let Some(stream) = &mut self.stream {
            // Whoever has gone is told nothing.
            let _ = stream.send_trailers(trailers);
        }
    }

    async fn fail(&mut self, fault: Fault) -> Result<Left, String> {
        match fault {
            Fault::Status(status) => self.end(status).await,
            Fault::Leave => self.end(0).await,
            Fault::Nonsense => {
                self.send(b"\x00\x00\x00\x00\x01\xff".to_vec()).await;
                self.end(0).await;
            }
            Fault::Reset => match (&mut self.respond, &mut self.stream) {
                (Some(respond), _) => respond.send_reset(Reason::INTERNAL_ERROR),
                (None, Some(stream)) => stream.send_reset(Reason::INTERNAL_ERROR),
                (None, None) => {}
            },
            Fault::Stall => loop {
                if let Err(left) = self.next().await? {
                    return Ok(left);
                }
            },
        }
        Ok(Left::Well)
    }

    /// Returns the next message, or how whoever asks has left.
    async fn next(&mut self) -> Result<Result<Said, Left>, String> {
        loop {
            if let Some((prefix, rest)) = self.buffer.split_first_chunk::<5>() {
                let [compressed, length @ ..] = *prefix;
                if compressed != 0 {
                    return Err("a message is compressed".to_owned());
                }
                let length = u32::from_be_bytes(length) as usize;
                if rest.len() >= length {
                    let message = self.buffer.split_to(5 + length).split_off(5);
                    return said(&message).map(Ok);
                }
            }
            match self.body.data().await {
                Some(Ok(data)) => {
                    // A stream that is gone needs no window.
                    let _ = self.body.flow_control().release_capacity(data.len());
                    self.buffer.extend_from_slice(&data);
                }
                Some(Err(_)) => return Ok(Err(Left::Reset)),
                None => return Ok(Err(Left::Well)),
            }
        }
    }
}

/// Returns what becomes of a piece of a reply's body.
fn changed_piece(plan: &Plan, mode: u64, piece: &[u8], is_last: bool) -> Message {
    let text = String::from_utf8_lossy(piece).into_owned();
    let changed = plan.reply_text.as_ref().map(|(from, to)| text.replace(from, to));
    let mutation = match (mode, changed) {
        (4, changed) => {
            let bytes = changed.map_or_else(|| piece.to_vec(), String::into_bytes);
            let streamed = Message::default().bytes(1, &bytes).number(2, u64::from(is_last));
            Some(Message::default().message(3, streamed))
        }
        (_, Some(changed)) => Some(Message::default().bytes(1, changed.as_bytes())),
        (_, None) => None,
    };
    let common = mutation.map_or_else(Message::default, |mutation| {
        Message::default().message(3, mutation)
    });
    Message::default().message(4, Message::default().message(1, common))
}

/// Reads a ProcessingRequest.
fn said(bytes: &[u8]) -> Result<Said, String> {
    let mut said = Said {
        kind: 0,
        message: Vec::new(),
        metadata: None,
        config: None,
    };
    for (field, value) in fields(bytes, &[2, 3, 4, 5, 6, 7, 8, 11], "ProcessingRequest")? {
        match field {
            8 => said.metadata = Some(metadata(value.bytes()?)?),
            11 => {
                let mut config = (0, 0);
                for (field, mode) in fields(value.bytes()?, &[1, 2], "ProtocolConfiguration")? {
                    match field {
                        1 => config.0 = mode.number()?,
                        _ => config.1 = mode.number()?,
                    }
                }
                said.config = Some(config);
            }
            _ if said.kind == 0 => (said.kind, said.message) = (field, value.bytes()?.to_vec()),
            _ => return Err("a ProcessingRequest is of two kinds".to_owned()),
        }
    }
    match said.kind {
        0 => Err("a ProcessingRequest is of no kind".to_owned()),
        2 => Ok(said),
        _ if said.config.is_some() => Err("modes are said again".to_owned()),
        _ => Ok(said),
    }
}

/// Reads an HttpHeaders: the headers, and whether no body follows.
fn head(bytes: &[u8]) -> Result<(Vec<(String, String)>, bool), String> {
    let (mut lines, mut ended) = (Vec::new(), false);
    for (field, value) in fields(bytes, &[1, 3], "HttpHeaders")? {
        match field {
            1 => lines = headers(value.bytes()?)?,
            _ => ended = value.number()? == 1,
        }
    }
    Ok((lines, ended))
}

/// Reads an HttpBody: the bytes, and whether they are the last.
fn body(bytes: &[u8]) -> Result<(Vec<u8>, bool), String> {
    let (mut piece, mut ended) = (Vec::new(), false);
    for (field, value) in fields(bytes, &[1, 2], "HttpBody")? {
        match field {
            1 => piece = value.bytes()?.to_vec(),
            _ => ended = value.number()? == 1,
        }
    }
    Ok((piece, ended))
}
