//! The upstream speaks the client's format: the client's own bytes go there and the upstream's come back.
//!
//! Of the request only `model` and what the target's format asks for is edited, and what goes with flags that the
//! target does not take is left out. The reply is overheard, for
//! usage, errors and the end, and changed in two cases alone: token counts that were asked for on the client's
//! behalf are withheld again, and the model that a route names in place of the client's is called as the client
//! called it.

use bytes::{Bytes, BytesMut};

use crate::{
    ApiError, Call, ErrorKind, Losses, Observed, Target,
    chat::{Client, Listen, Reframe, StreamOptions, Upstream, Verdict},
    frame::{Frame, Framer, Framing},
    inbound::{Inbound, Sides},
    json::Edit,
    kept,
    name::Name,
    provider::beta,
    reply::{self, Answer, End},
};

/// What is to be done with the reply to a relayed call.
pub struct Reply {
    client: &'static dyn Client,
    pub(crate) upstream: &'static dyn Upstream,
    pub(crate) framing: Framing,
    stream: StreamOptions,
    withhold_usage: bool,
    name: Option<Box<Name>>,
}

/// A streamed reply that is handed on as it is.
pub struct Stream {
    /// What was overheard so far.
    pub observed: Observed,
    client: &'static dyn Client,
    options: StreamOptions,
    framer: Framer,
    listen: Box<dyn Listen>,
    manner: Manner,
    /// What the model is called in place of the upstream's name for it.
    name: Option<Box<Name>>,
    failed: bool,
}

/// How frames are handed on.
enum Manner {
    /// As bytes, as they come.
    Bytes,
    /// Whole, because one may have to be withheld, or the model has another name in it; with the bytes of the frame
    /// that is not complete.
    Whole(BytesMut),
    /// As server-sent events, which the upstream frames otherwise.
    Events,
    /// Framed anew in the client's own way.
    Own(Box<dyn Reframe>),
}

/// About how much longer names may make what is handed on.
const SPARE: usize = 256;

/// Returns the call that relays `inbound` to `target`.
///
/// # Errors
/// A 422, if the provider takes a member of the format only with a flag that it does not take.
pub(crate) fn call(inbound: &Inbound, sides: &Sides<'_>, target: &Target<'_>) -> Result<Call, ApiError> {
    let Sides {
        client,
        upstream,
        ask,
        headers,
    } = *sides;
    let mut edits: Vec<Edit> = upstream.relay_edits(&inbound.shallow, inbound.stream, target);
    let withhold_usage = edits
        .iter()
        .any(|(key, value)| *key == "stream_options" && value.is_some());
    if inbound.continued.is_some() {
        edits.push((kept::PREVIOUS, None));
    }
    edits.extend(target.provider.edits(ask, target));
    let mut losses = Losses::default();
    let carried = beta::carry(target, ask.format, headers, &inbound.shallow, &mut losses)?;
    edits.extend(carried.edits);
    if let Some(refusal) = losses.refusal(client) {
        return Err(refusal);
    }
    let names_model = inbound.shallow.get("model").is_some() && !edits.iter().any(|(key, _)| *key == "model");
    if target.model != inbound.model && names_model {
        let model = serde_json::Value::from(target.model).to_string();
        edits.push(("model", Some(model)));
    }
    Ok(Call {
        format: ask.format,
        path: target.provider.path(ask, target),
        headers: crate::inbound::headers(target.provider, ask.format),
        replaces: carried.replaces,
        body: inbound.shallow.with(&edits),
        more: Vec::new(),
        losses,
        reply: reply::Reply::Relay(Reply {
            client,
            upstream,
            framing: target.provider.framing(ask.format),
            stream: inbound.options,
            withhold_usage,
            name: None,
        }),
    })
}

impl Reply {
    /// Has the answer call the model `model`.
    pub(crate) fn call_model(&mut self, model: &str) {
        self.name = Some(Box::new(Name::new(model, self.client.names_model())));
    }

    /// Returns whether a whole reply is handed on as it is.
    pub(crate) fn is_handed_on(&self) -> bool {
        self.name.is_none()
    }

    pub(crate) fn response(self, body: Bytes) -> Result<Answer, ApiError> {
        let mut observed = Observed::default();
        self.upstream.listen_response(&body, &mut observed)?;
        let body = match &self.name {
            Some(name) => name.put(body),
            None => body,
        };
        Ok(Answer::new(body, observed))
    }

    pub(crate) fn stream(self) -> Stream {
        let manner = match (self.client.reframe(self.stream), self.framing) {
            (Some(own), _) => Manner::Own(own),
            (None, Framing::Sse) if self.withhold_usage => Manner::Whole(BytesMut::new()),
            (None, Framing::Sse) => Manner::Bytes,
            (None, Framing::EventStream | Framing::WrappedEventStream) => Manner::Events,
        };
        let stream = Stream {
            observed: Observed::default(),
            client: self.client,
            options: self.stream,
            framer: Framer::new(self.framing),
            listen: self.upstream.listen_stream(self.withhold_usage),
            manner,
            name: None,
            failed: false,
        };
        stream.named(self.name)
    }
}

impl Stream {
    /// Returns a stream that is handed on as it is, while `listen` adds to what is `observed`.
    pub(crate) fn overheard(
        client: &'static dyn Client,
        options: StreamOptions,
        framing: Framing,
        listen: Box<dyn Listen>,
        observed: Observed,
    ) -> Self {
        Self {
            observed,
            client,
            options,
            framer: Framer::new(framing),
            listen,
            manner: Manner::Bytes,
            name: None,
            failed: false,
        }
    }

    /// Returns the stream with the frames left out that its listener withholds.
    pub(crate) fn withholding(self) -> Self {
        Self {
            manner: Manner::Whole(BytesMut::new()),
            ..self
        }
    }

    /// Returns the stream with `name` for the model.
    pub(crate) fn named(self, name: Option<Box<Name>>) -> Self {
        let manner = match self.manner {
            Manner::Bytes if name.is_some() => Manner::Whole(BytesMut::new()),
            other => other,
        };
        Self { manner, name, ..self }
    }

    pub(crate) fn push(&mut self, bytes: Bytes) -> Bytes {
        if self.failed {
            return Bytes::new();
        }
        let (listen, observed, name) = (&mut self.listen, &mut self.observed, self.name.as_deref());
        let mut out = BytesMut::new();
        let pushed = match &mut self.manner {
            Manner::Bytes => {
                let mut passed = bytes.len();
                let pushed = self.framer.push(&bytes, |frame, to| {
                    if observed.error.is_none() {
                        listen.frame(frame, observed);
                        passed = if observed.error.is_some() { to } else { passed };
                    }
                });
                if pushed.is_ok() {
                    return bytes.slice(..passed);
                }
                pushed
            }
            Manner::Whole(held) => {
                // What is handed on of these bytes and was not copied; as a rule that is all of them.
                let mut passed = 0..0;
                let pushed = self.framer.push(&bytes, |frame, to| {
                    if observed.error.is_some() {
                        return;
                    }
                    let verdict = listen.frame(frame, observed);
                    let renamed = name.and_then(|name| Some((name, name.find(frame.data)?)));
                    match (verdict, renamed) {
                        (Verdict::Pass, None) => {
                            out.extend_from_slice(held);
                            passed.end = to;
                        }
                        (Verdict::Pass, Some((name, place))) => {
                            if out.is_empty() {
                                out.reserve(bytes.len() + SPARE);
                            }
                            let before = passed.end;
                            out.extend_from_slice(bytes.get(passed.clone()).unwrap_or_default());
                            passed = to..to;
                            let mut raw = bytes.get(before..to).unwrap_or_default();
                            if !held.is_empty() {
                                held.extend_from_slice(raw);
                                raw = held;
                            }
                            name.write(frame, place, raw, &mut out);
                        }
                        (Verdict::Withhold, _) => {
                            out.extend_from_slice(bytes.get(passed.clone()).unwrap_or_default());
                            passed = to..to;
                        }
                    }
                    held.clear();
                });
                if observed.error.is_none() {
                    held.extend_from_slice(bytes.get(passed.end..).unwrap_or_default());
                }
                if pushed.is_ok() && out.is_empty() {
                    return bytes.slice(passed);
                }
                out.extend_from_slice(bytes.get(passed).unwrap_or_default());
                pushed
            }
            Manner::Events => self.framer.push(&bytes, |frame, _| {
                if listen.frame(frame, observed) == Verdict::Pass {
                    named(name, frame, |frame| frame.write_event(&mut out));
                }
            }),
            Manner::Own(own) => self.framer.push(&bytes, |frame, _| {
                if observed.error.is_none() && listen.frame(frame, observed) == Verdict::Pass {
                    named(name, frame, |frame| own.frame(frame, &mut out));
                }
            }),
        };
        if let Err(broken) = pushed {
            self.end_frame(&mut out);
            self.fail_with(broken.into(), &mut out);
        }
        out.freeze()
    }

    pub(crate) fn end(&mut self, how: End) -> Bytes {
        if self.failed {
            return Bytes::new();
        }
        let between_frames = self.framer.is_between_frames();
        let (listen, observed, name) = (&mut self.listen, &mut self.observed, self.name.as_deref());
        let mut out = BytesMut::new();
        match &mut self.manner {
            Manner::Bytes => self.framer.finish(|frame| {
                listen.frame(frame, observed);
            }),
            Manner::Whole(held) => {
                let held = std::mem::take(held);
                let mut is_whole = false;
                self.framer.finish(|frame| {
                    is_whole = true;
                    if listen.frame(frame, observed) == Verdict::Pass {
                        write(name, frame, &held, &mut out);
                    }
                });
                if !is_whole {
                    out = held;
                }
            }
            Manner::Events => self.framer.finish(|frame| {
                if listen.frame(frame, observed) == Verdict::Pass {
                    named(name, frame, |frame| frame.write_event(&mut out));
                }
            }),
            Manner::Own(own) => self.framer.finish(|frame| {
                if listen.frame(frame, observed) == Verdict::Pass {
                    named(name, frame, |frame| own.frame(frame, &mut out));
                }
            }),
        }
        if how == End::Clean {
            self.listen.end(&mut self.observed);
        }
        self.failed = self.observed.error.is_some() || self.observed.complete;
        if self.failed {
            if let Manner::Own(own) = &mut self.manner {
                own.end(&mut out);
            }
            return out.freeze();
        }
        if !between_frames && matches!(self.manner, Manner::Bytes | Manner::Whole(_)) {
            out.extend_from_slice(b"\n\n");
        }
        let error = ApiError::new(
            ErrorKind::BadUpstream,
            match how {
                End::Clean => "the upstream ended its stream before the answer was complete",
                End::Cut => "the upstream's stream was cut before the answer was complete",
            },
        );
        self.fail_with(error, &mut out);
        out.freeze()
    }

    pub(crate) fn fail(&mut self, error: ApiError) -> Bytes {
        if self.failed {
            return Bytes::new();
        }
        let mut out = BytesMut::new();
        self.end_frame(&mut out);
        self.fail_with(error, &mut out);
        out.freeze()
    }

    pub(crate) fn keep_alive(&self) -> Bytes {
        if matches!(self.manner, Manner::Bytes) && !self.framer.is_between_frames() {
            return Bytes::new();
        }
        Bytes::from_static(self.client.keep_alive(self.options))
    }

    /// Ends a frame of which the client has a part, or an error would become part of it.
    fn end_frame(&self, out: &mut BytesMut) {
        if matches!(self.manner, Manner::Bytes) && !self.framer.is_between_frames() {
            out.extend_from_slice(b"\n\n");
        }
    }

    fn fail_with(&mut self, error: ApiError, out: &mut BytesMut) {
        let before = out.len();
        match &mut self.manner {
            Manner::Own(own) => own.error(&error, out),
            Manner::Bytes | Manner::Whole(_) | Manner::Events => {
                out.extend_from_slice(&self.client.encode_error_event(&error));
            }
        }
        let told = out.get(before..).unwrap_or_default();
        self.observed.losses.extend(&error.untold(told));
        self.failed = true;
        self.observed.error = Some(error);
    }
}

/// Appends `frame`, whose bytes are `raw`, with `name` in it.
fn write(name: Option<&Name>, frame: Frame<'_>, raw: &[u8], out: &mut BytesMut) {
    match name.and_then(|name| Some((name, name.find(frame.data)?))) {
        Some((name, place)) => name.write(frame, place, raw, out),
        None => out.extend_from_slice(raw),
    }
}

/// Gives `frame` to `each` with `name` in it.
fn named(name: Option<&Name>, frame: Frame<'_>, each: impl FnOnce(Frame<'_>)) {
    match name.and_then(|name| name.in_text(frame.data)) {
        Some(data) => each(Frame { data: &data, ..frame }),
        None => each(frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, chat::StreamOptions};

    const SAID: &str = r#"data: {"model":"m","choices":[{"index":0,"delta":{"content":"a"}}],"usage":null}"#;
    const COUNTED: &str =
        r#"data: {"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    const ERROR: &str = r#"data: {"error":{"message":"out of memory"}}"#;

    /// Hands `frames` on in one piece, and byte by byte.
    #[track_caller]
    fn check(withhold_usage: bool, frames: &[&str], expected: &[&str]) {
        check_named(withhold_usage, None, frames, expected);
    }

    #[track_caller]
    fn check_named(withhold_usage: bool, model: Option<&str>, frames: &[&str], expected: &[&str]) {
        let stream = || {
            let (client, upstream) = (Format::OpenAi.client(), Format::OpenAi.upstream());
            let mut reply = Reply {
                client: client.expect("a client half"),
                upstream: upstream.expect("an upstream half"),
                framing: Framing::Sse,
                stream: StreamOptions::default(),
                withhold_usage,
                name: None,
            };
            if let Some(model) = model {
                reply.call_model(model);
            }
            reply.stream()
        };
        let whole: String = frames.iter().map(|frame| format!("{frame}\n\n")).collect();
        let expected: String = expected.iter().map(|frame| format!("{frame}\n\n")).collect();
        assert_eq!(stream().push(Bytes::from(whole.clone())), expected);
        let mut split = stream();
        let mut passed = Vec::new();
        for byte in whole.bytes() {
            passed.extend(split.push(Bytes::from(vec![byte])));
            if split.observed.error.is_some() {
                break;
            }
        }
        assert_eq!(String::from_utf8_lossy(&passed), expected);
    }

    #[test]
    fn what_was_asked_for_on_the_clients_behalf_is_withheld() {
        check(true, &[SAID, SAID], &[SAID, SAID]);
        check(true, &[SAID, COUNTED, SAID], &[SAID, SAID]);
        check(true, &[COUNTED, SAID], &[SAID]);
        check(true, &[COUNTED], &[]);
        check(false, &[SAID, COUNTED], &[SAID, COUNTED]);
    }

    #[test]
    fn nothing_follows_an_error() {
        for withhold in [false, true] {
            for model in [None, Some("m")] {
                let frames = [SAID, ERROR, SAID, "data: [DONE]"];
                check_named(withhold, model, &frames, &[SAID, ERROR]);
                check_named(withhold, model, &[ERROR, COUNTED], &[ERROR]);
            }
        }
    }

    #[test]
    fn the_model_is_called_as_the_client_called_it() {
        let named = |frame: &str| frame.replace("\"m\"", "\"house\"");
        let (said, counted) = (named(SAID), named(COUNTED));
        let comment = ": still there\n";
        let hushed = format!("{comment}{SAID}");
        let frames = [SAID, &hushed, COUNTED, "data: [DONE]"];
        let hushed = format!("{comment}{said}");
        let expected = [said.as_str(), &hushed, &counted, "data: [DONE]"];
        check_named(false, Some("house"), &frames, &expected);
        let expected = [said.as_str(), &hushed, "data: [DONE]"];
        check_named(true, Some("house"), &frames, &expected);
    }
}
