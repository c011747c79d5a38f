//! Writes turns as contents: parts of one role gathered, signatures hung where they belong, nothing empty.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    content::{self, DETAILS},
    wire::{self, Members},
};
use crate::{
    ApiError, ErrorKind, Field, Format, Losses,
    capability::Capability,
    chat::{Extensions, Part, PartBody, Reasoned, Role, ToolCall, ToolKind, ToolResult, Turn},
    json::{self, Path},
    media::{Media, MediaKind, Source},
};

/// The signature of a call that the provider did not sign, as histories of other models have them: base64 of
/// `skip_thought_signature_validator` ("Thought signatures", frequently asked questions).
pub(super) const UNSIGNED: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// What one side said.
#[derive(Serialize)]
pub(super) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    pub(super) parts: Vec<Block<'a>>,
    #[serde(flatten)]
    pub(super) members: Option<Members<'a>>,
}

/// A part.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Block<'a> {
    /// Written from a part of the neutral form.
    Written(Box<Written<'a>>),
    /// As the client wrote it.
    Native(&'a RawValue),
}

/// A part that was written from one of the neutral form.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Written<'a> {
    #[serde(flatten)]
    pub(super) body: Body<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thought_signature: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) media_resolution: Option<Resolution>,
    #[serde(flatten)]
    pub(super) members: Option<Members<'a>>,
}

/// What a part is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Body<'a> {
    Text(Cow<'a, str>),
    InlineData(Blob<'a>),
    FileData(File<'a>),
    FunctionCall(FunctionCall<'a>),
    FunctionResponse(FunctionResponse<'a>),
}

impl Default for Body<'_> {
    fn default() -> Self {
        Body::Text(Cow::Borrowed(""))
    }
}

/// How closely a picture is looked at.
#[derive(Serialize)]
pub(super) struct Resolution {
    level: &'static str,
}

/// Bytes in the request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    mime_type: &'a str,
    data: Cow<'a, str>,
    #[serde(flatten)]
    members: Option<Members<'a>>,
}

/// Bytes at an address.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    file_uri: &'a str,
    #[serde(flatten)]
    members: Members<'a>,
}

/// A call.
#[derive(Serialize)]
pub(super) struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Cow<'a, str>,
    pub(super) args: Cow<'a, RawValue>,
    #[serde(flatten)]
    pub(super) members: Option<Members<'a>>,
}

/// What a function gave.
#[derive(Serialize)]
pub(super) struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: Cow<'a, str>,
    response: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Block<'a>>,
    #[serde(flatten)]
    members: Members<'a>,
}

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
            match &inner.body {
                PartBody::Text(more) | PartBody::Refusal(more) if text.is_empty() => text = more.into(),
                PartBody::Text(more) | PartBody::Refusal(more) => text.to_mut().push_str(more),
                PartBody::Media(medium) => {
                    let body = self.media(medium, inner, &field);
                    media.extend(body.map(|body| self.written(body, inner, &field)));
                }
                PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
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

impl<'a> Block<'a> {
    /// Hangs `signature` on the part.
    pub(super) fn signed(mut self, signature: Option<Cow<'a, str>>) -> Self {
        if let (Block::Written(written), Some(_)) = (&mut self, &signature) {
            written.thought_signature = signature;
        }
        self
    }

    /// Says how closely a picture is to be looked at, to a model that takes it.
    fn look(&mut self, body: &PartBody, capability: &Capability) {
        let PartBody::Media(media) = body else {
            return;
        };
        let word = media.detail.as_deref().filter(|_| capability.media_resolution);
        let known = DETAILS.iter().find(|(name, _)| Some(*name) == word);
        if let (Block::Written(written), Some((_, level))) = (self, known) {
            written.media_resolution = Some(Resolution { level });
        }
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

/// Returns a part that says nothing and carries `signature`, as the provider writes it at the end of a stream.
pub(super) fn bare(signature: Cow<'_, str>) -> Block<'_> {
    Block::Written(Box::default()).signed(Some(signature))
}

/// Returns the bytes of `media`, if they came with it.
pub(super) fn blob(media: &Media) -> Option<Blob<'_>> {
    let (mime_type, data) = match &media.source {
        Source::Inline { media_type, data } => (media_type.as_str(), Cow::Borrowed(data.as_str())),
        Source::Text(text) => ("text/plain", Cow::Owned(STANDARD.encode(text))),
        Source::Url(_) | Source::File { .. } => return None,
    };
    Some(Blob {
        mime_type,
        data,
        members: None,
    })
}

fn file<'a>(uri: &'a str, kind: MediaKind, extensions: &'a Extensions) -> File<'a> {
    let members = Members {
        extensions,
        prefix: wire::FILE,
    };
    let key = format!("{}mimeType", wire::FILE);
    let said = extensions
        .of(Format::Gemini)
        .any(|extension| extension.key == key);
    File {
        mime_type: (!said).then(|| content::guess(uri, Some(kind))),
        file_uri: uri,
        members,
    }
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

/// Returns the arguments of `call` as the object that this format demands; `None` if they are something else.
pub(super) fn arguments(call: &ToolCall) -> Option<Cow<'_, RawValue>> {
    match call.kind {
        ToolKind::Custom => Some(Cow::Owned(json::raw(&BTreeMap::from([(
            "input",
            &call.arguments,
        )])))),
        ToolKind::Function if call.arguments.trim().is_empty() => {
            Some(Cow::Owned(json::raw(&serde_json::Map::new())))
        }
        ToolKind::Function => content::as_object(&call.arguments).map(Cow::Borrowed),
    }
}

fn refuse(origin: usize, what: &str) -> ApiError {
    let path = Path::Root;
    let path = path.key("messages");
    let path = path.index(origin);
    ApiError::new(ErrorKind::Unprocessable, format!("{path}: {what}")).with_param(path)
}
