//! Writes turns as contents: parts of one role gathered, signatures hung where they belong, nothing empty.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::value::RawValue;

use super::{
    content::{self, DETAILS},
    part::{
        Blob, Block, Body, Content, FunctionCall, FunctionResponse, Written, arguments, bare, blob, file,
    },
    wire::{self, Members},
};
use crate::{
    ApiError, ErrorKind, Field, Format, Losses,
    capability::Capability,
    chat::{Part, PartBody, Reasoned, Role, ToolCall, ToolResult, Turn},
    json::{self, Path},
    media::{Media, Source},
};

/// The signature of a call that the provider did not sign, as histories of other models have them: base64 of
/// `skip_thought_signature_validator` ("Thought signatures", frequently asked questions).
pub(super) const UNSIGNED: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// Writes turns; remembers what was lost, which tools were renamed and what calls were of.
pub(super) struct Writer<'a, 'w> {
    /// What the format cannot say.
    pub(super) losses: &'w mut Losses,
    /// The client's names of renamed tools, by their new names.
    pub(super) names: &'w mut BTreeMap<String, String>,
    /// What the model takes.
    pub(super) capability: Capability,
    /// The tools that were called, by the ids of the calls.
    pub(super) calls: BTreeMap<&'a str, &'a str>,
}

impl<'a> Writer<'a, '_> {
    /// Writes `turns` as contents, in order; what the system says amid them is put behind `instructions`.
    ///
    /// # Errors
    /// A 422, if a call's arguments are not an object, or a result answers no call.
    pub(super) fn contents(
        &mut self,
        turns: &'a [Turn],
        instructions: &mut Vec<Block<'a>>,
    ) -> Result<Vec<Content<'a>>, ApiError> {
        let mut contents: Vec<Content<'a>> = Vec::with_capacity(turns.len());
        for turn in turns {
            let field = Field::Message(turn.origin);
            if turn.name.is_some() {
                self.losses
                    .advisory(field.clone(), "the gemini format has no names of speakers");
            }
            turn.extensions
                .lose(Format::Gemini, self.losses, |_| field.clone());
            let role = match turn.role {
                Role::System => {
                    let reason = "a system message amid the conversation is sent with the instructions";
                    self.losses.advisory(field, reason);
                    instructions.extend(self.instructions(&turn.parts));
                    continue;
                }
                Role::User => "user",
                Role::Assistant => "model",
            };
            let parts = self.turn(turn)?;
            match contents.last_mut() {
                _ if parts.is_empty() => {}
                Some(last) if last.role == Some(role) => last.parts.extend(parts),
                _ => contents.push(Content {
                    role: Some(role),
                    parts,
                    members: Some(Members {
                        extensions: &turn.extensions,
                        prefix: "",
                    }),
                }),
            }
        }
        Ok(contents)
    }

    /// Writes instructions as parts of text.
    pub(super) fn instructions(&mut self, parts: &'a [Part]) -> Vec<Block<'a>> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    blocks.extend(self.text(text, part, &Field::Instructions));
                }
                PartBody::Native {
                    format: Format::Gemini,
                    raw,
                    ..
                } => blocks.push(Block::Native(raw)),
                PartBody::Media(_)
                | PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::SearchResult(_)
                | PartBody::ToolResult(_)
                | PartBody::Native { .. } => {
                    let reason = "instructions of the gemini format are text";
                    self.losses.material(Field::Instructions, reason);
                }
            }
        }
        blocks
    }

    /// Returns the name that `tool` has upstream.
    pub(super) fn tool_name<'t>(&mut self, tool: &'t str) -> Cow<'t, str> {
        let name = wire::tool_name(tool);
        if let Cow::Owned(name) = &name {
            self.names.insert(name.clone(), tool.to_owned());
        }
        name
    }

    fn turn(&mut self, turn: &'a Turn) -> Result<Vec<Block<'a>>, ApiError> {
        let field = Field::Message(turn.origin);
        let mut blocks = Vec::with_capacity(turn.parts.len());
        // The signature of the part that comes next.
        let mut signature: Option<Cow<'a, str>> = None;
        for part in &turn.parts {
            self.lose_cache(part);
            let body = match &part.body {
                PartBody::Reasoning(reasoned) => {
                    part.extensions
                        .lose(Format::Gemini, self.losses, |_| field.clone());
                    let (block, hung) = self.reasoning(reasoned, part, turn);
                    blocks.extend(block);
                    if let Some(left) = signature.take_if(|_| hung.is_some()) {
                        blocks.push(bare(left));
                    }
                    signature = hung.or(signature);
                    continue;
                }
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    blocks.extend(
                        self.text(text, part, &field)
                            .map(|block| block.signed(signature.take())),
                    );
                    continue;
                }
                PartBody::Native {
                    format: Format::Gemini,
                    raw,
                    ..
                } => {
                    blocks.push(Block::Native(raw));
                    continue;
                }
                PartBody::Native { kind, format, .. } => {
                    let reason = format!("a part of type \"{kind}\" is known to {} only", format.name());
                    self.losses.material(field.clone(), reason);
                    continue;
                }
                PartBody::Media(media) => self.media(media, part, &field),
                PartBody::SearchResult(_) => {
                    self.losses
                        .material(field.clone(), "the gemini format has no search results");
                    None
                }
                PartBody::ToolCall(call) => Some(Body::FunctionCall(self.function_call(call, part, turn)?)),
                PartBody::ToolResult(result) => {
                    let (response, beside) = self.function_response(result, part, turn)?;
                    blocks.push(self.written(Body::FunctionResponse(response), part, &field));
                    blocks.extend(beside);
                    continue;
                }
            };
            if let Some(body) = body {
                let mut block = self.written(body, part, &field).signed(signature.take());
                block.look(&part.body, &self.capability);
                blocks.push(block);
            }
        }
        blocks.extend(signature.map(bare));
        if self.capability.signed_calls {
            sign(&mut blocks);
        }
        Ok(blocks)
    }

    /// Writes a text, unless it is empty.
    fn text(&mut self, text: &'a str, part: &'a Part, field: &Field) -> Option<Block<'a>> {
        self.lose_cache(part);
        (!text.is_empty()).then(|| self.written(Body::Text(Cow::Borrowed(text)), part, field))
    }

    fn written(&mut self, body: Body<'a>, part: &'a Part, field: &Field) -> Block<'a> {
        part.extensions
            .lose(Format::Gemini, self.losses, |_| field.clone());
        Block::Written(Box::new(Written {
            body,
            members: Some(Members {
                extensions: &part.extensions,
                prefix: "",
            }),
            ..Written::default()
        }))
    }

    fn lose_cache(&mut self, part: &Part) {
        if part.cache.is_some() {
            let reason = "the gemini format has no cache marks; the provider caches by itself";
            self.losses.advisory(Field::Cache, reason);
        }
    }

    /// Writes what the model thought, or returns the signature that hangs on what it says next.
    fn reasoning(
        &mut self,
        reasoned: &'a Reasoned,
        part: &'a Part,
        turn: &Turn,
    ) -> (Option<Block<'a>>, Option<Cow<'a, str>>) {
        let field = Field::Message(turn.origin);
        let own = reasoned
            .seal
            .as_ref()
            .filter(|seal| seal.issuer == Format::Gemini);
        let signature = own.map(|seal| Cow::Borrowed(&*seal.bytes));
        if reasoned.redacted {
            if signature.is_none() {
                let reason = "reasoning that another provider has withheld is not sent";
                self.losses.advisory(field, reason);
            }
            return (None, signature);
        }
        if reasoned.text.is_empty() {
            return (None, signature);
        }
        let mut block = self
            .written(Body::Text(Cow::Borrowed(&reasoned.text)), part, &field)
            .signed(signature);
        if let Block::Written(written) = &mut block {
            written.thought = true;
        }
        (Some(block), None)
    }

    fn media(&mut self, media: &'a Media, part: &'a Part, field: &Field) -> Option<Body<'a>> {
        let body = match &media.source {
            Source::Inline { .. } | Source::Text(_) => blob(media).map(|blob| {
                Body::InlineData(Blob {
                    members: Some(Members {
                        extensions: &part.extensions,
                        prefix: wire::BLOB,
                    }),
                    ..blob
                })
            }),
            Source::Url(uri) => Some(Body::FileData(file(uri, media.kind, &part.extensions))),
            Source::File {
                issuer: Format::Gemini,
                id,
            } => Some(Body::FileData(file(id, media.kind, &part.extensions))),
            Source::File { issuer, .. } => {
                let kind = media.kind.name();
                let reason = format!("the file id of this {kind} is known to {} only", issuer.name());
                self.losses.material(field.clone(), reason);
                None
            }
        };
        // AI Studio refuses names of inline data.
        if body.is_some() && media.name.is_some() {
            self.losses
                .advisory(field.clone(), "the gemini format has no names of files");
        }
        let unknown = |detail: &str| !DETAILS.iter().any(|(word, _)| *word == detail);
        if let Some(detail) = media.detail.as_deref().filter(|detail| *detail != "auto")
            && (!self.capability.media_resolution || unknown(detail))
        {
            let reason = format!("this model does not take the detail \"{detail}\"");
            self.losses.advisory(field.clone(), reason);
        }
        body
    }

    fn function_call(
        &mut self,
        call: &'a ToolCall,
        part: &'a Part,
        turn: &Turn,
    ) -> Result<FunctionCall<'a>, ApiError> {
        if call.id.is_empty() {
            return Err(refuse(turn.origin, "a tool call has no id"));
        }
        self.calls.insert(&call.id, &call.name);
        let args = arguments(call).ok_or_else(|| {
            let reason = format!("the arguments of tool call \"{}\" are not a JSON object", call.id);
            refuse(turn.origin, &reason)
        })?;
        Ok(FunctionCall {
            id: wire::known_id(&call.id).map(Cow::Borrowed),
            name: self.tool_name(&call.name),
            args,
            members: Some(Members {
                extensions: &part.extensions,
                prefix: wire::CALL,
            }),
        })
    }

    /// Writes a result. Media stand inside it or, for models that do not take them there, beside it.
    fn function_response(
        &mut self,
        result: &'a ToolResult,
        part: &'a Part,
        turn: &Turn,
    ) -> Result<(FunctionResponse<'a>, Vec<Block<'a>>), ApiError> {
        let field = Field::Message(turn.origin);
        let Some(name) = self.calls.get(result.call.as_str()).copied() else {
            let reason = format!("no tool call before it has the id \"{}\"", result.call);
            return Err(refuse(turn.origin, &reason));
        };
        let mut text = Cow::Borrowed("");
        let mut media = Vec::new();
        for inner in &result.parts {
            inner
                .extensions
                .lose(Format::Gemini, self.losses, |_| field.clone());
            match &inner.body {
                PartBody::Text(more) | PartBody::Refusal(more) if text.is_empty() => text = more.into(),
                PartBody::Text(more) | PartBody::Refusal(more) => text.to_mut().push_str(more),
                PartBody::Media(medium) => {
                    let body = self.media(medium, inner, &field);
                    media.extend(body.map(|body| self.written(body, inner, &field)));
                }
                PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::SearchResult(_)
                | PartBody::ToolResult(_)
                | PartBody::Native { .. } => {
                    let reason = "results of tools are text and media";
                    self.losses.material(field.clone(), reason);
                }
            }
        }
        let (parts, beside) = if self.capability.result_media {
            (media, Vec::new())
        } else {
            (Vec::new(), media)
        };
        let response = FunctionResponse {
            id: wire::known_id(&result.call),
            name: self.tool_name(name),
            response: Cow::Owned(given(&text, result.is_error.unwrap_or(false))),
            parts,
            members: Members {
                extensions: &part.extensions,
                prefix: wire::RESPONSE,
            },
        };
        Ok((response, beside))
    }
}

/// Sees to it that the first call is signed: by the signature that stood before it, if something else came
/// between on the way, or by the one that stands for none.
fn sign(blocks: &mut [Block<'_>]) {
    let call = blocks.iter().position(
        |block| matches!(block, Block::Written(written) if matches!(written.body, Body::FunctionCall(_))),
    );
    let Some((before, call)) = call.and_then(|at| blocks.split_at_mut_checked(at)) else {
        return;
    };
    let Some(Block::Written(call)) = call.first_mut() else {
        return;
    };
    if call.thought_signature.is_some() {
        return;
    }
    let moved = before.iter_mut().rev().find_map(|block| match block {
        Block::Written(written) => written.thought_signature.take(),
        Block::Native(_) => None,
    });
    call.thought_signature = moved.or(Some(Cow::Borrowed(UNSIGNED)));
}

/// Returns the object that says what a tool gave: its own, if it gave one.
fn given(text: &str, is_error: bool) -> Box<RawValue> {
    if is_error {
        return json::raw(&BTreeMap::from([("error", text)]));
    }
    let own = content::as_object(text);
    own.map_or_else(
        || json::raw(&BTreeMap::from([("output", text)])),
        RawValue::to_owned,
    )
}

fn refuse(origin: usize, what: &str) -> ApiError {
    let path = Path::Root;
    let path = path.key("messages");
    let path = path.index(origin);
    ApiError::new(ErrorKind::Unprocessable, format!("{path}: {what}")).with_param(path)
}
