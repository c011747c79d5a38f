//! Tools that take free text, at upstreams whose tools take JSON.
//!
//! Both of OpenAI's formats have such tools; each writes them in its own shape. Elsewhere one is offered as a
//! function of one text, and its calls are turned back, so that the client sees what it declared.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    DecodeReply, DecodeStream, Delta, Event, PartBody, PartHead, Request, Response, Tool, ToolBody, ToolKind,
};
use crate::{
    ApiError, Field, Format, Losses,
    frame::Frame,
    json::{self, Path},
    reply::End,
    unread::{self, Silent},
};

/// The one parameter of the function.
const PARAMETERS: &str = r#"{"type":"object","properties":{"input":{"type":"string","description":"The input of the tool, as plain text."}},"required":["input"],"additionalProperties":false}"#;

/// The most bytes of arguments that are held until their call is complete.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// The names of tools that take free text and are offered as functions.
pub(crate) struct Lowered(BTreeSet<String>);

/// A tool that takes free text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Custom {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) grammar: Option<Grammar>,
}

/// What the text must follow.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Grammar {
    pub(super) syntax: String,
    pub(super) definition: String,
}

/// Makes `request` one that an upstream of `format` can be told; `None` if it is one already.
pub(crate) fn lower(request: &mut Request, format: Format, losses: &mut Losses) -> Option<Lowered> {
    let customs: BTreeMap<usize, Custom> = request
        .tools
        .iter()
        .enumerate()
        .filter(|(_, tool)| !speaks(format, &tool.body))
        .filter_map(|(index, tool)| Some((index, Custom::read(&tool.body, index, losses)?)))
        .collect();
    if customs.is_empty() {
        return None;
    }
    let mut names = BTreeSet::new();
    for (index, custom) in customs {
        if custom.grammar.is_some() {
            let reason = "the grammar of this tool is told to the model, not enforced";
            losses.advisory(Field::Tool(index), reason);
        }
        names.insert(custom.name.clone());
        if let Some(tool) = request.tools.get_mut(index) {
            *tool = Tool {
                body: custom.into_function(),
                ..tool.clone()
            };
        }
    }
    let parts = request.turns.iter_mut().flat_map(|turn| &mut turn.parts);
    for part in parts {
        if let PartBody::ToolCall(call) = &mut part.body
            && call.kind == ToolKind::Custom
        {
            call.arguments = serde_json::json!({ "input": call.arguments }).to_string();
            call.kind = ToolKind::Function;
        }
    }
    Some(Lowered(names))
}

impl Lowered {
    /// Returns a reader of the reply that turns calls of functions back into calls with free text.
    pub(crate) fn raise(self, reply: Box<dyn DecodeReply>) -> Box<dyn DecodeReply> {
        Box::new(Raised {
            names: self.0,
            inner: reply,
        })
    }
}

impl Custom {
    /// Reads `tool`, in the shape of chat completions or of Responses; `None` if it is another tool.
    ///
    /// Members that it does not have are lost; it is the tool at `index`.
    pub(super) fn read(tool: &ToolBody, index: usize, losses: &mut Losses) -> Option<Self> {
        #[derive(Deserialize)]
        struct Outer {
            custom: Inner,
            #[serde(rename = "type")]
            _type: Silent,
        }
        #[derive(Deserialize)]
        struct Inner {
            name: String,
            description: Option<String>,
            format: Option<Shape>,
            #[serde(default, rename = "type")]
            _type: Silent,
        }
        #[derive(Deserialize)]
        struct Shape {
            grammar: Option<Grammar>,
            syntax: Option<String>,
            definition: Option<String>,
            #[serde(default, rename = "type")]
            _type: Silent,
        }

        let (format, raw) = match tool {
            ToolBody::Native { format, kind, raw } if kind == "custom" => (format, raw),
            ToolBody::Native { .. } | ToolBody::Function { .. } => return None,
        };
        let path = Path::Root;
        let path = path.key("tools");
        let path = path.index(index);
        let inner = match format {
            Format::OpenAi => unread::read::<Outer>(raw.get(), &path, losses).ok()?.custom,
            Format::Responses => unread::read::<Inner>(raw.get(), &path, losses).ok()?,
            Format::Messages | Format::Gemini | Format::Converse | Format::Cohere => return None,
        };
        let grammar = inner.format.and_then(|shape| {
            let flat = shape.syntax.zip(shape.definition);
            shape
                .grammar
                .or(flat.map(|(syntax, definition)| Grammar { syntax, definition }))
        });
        Some(Self {
            name: inner.name,
            description: inner.description,
            grammar,
        })
    }

    fn into_function(self) -> ToolBody {
        let grammar = self.grammar.map(|grammar| {
            let Grammar { syntax, definition } = grammar;
            format!("The input must follow this grammar ({syntax}):\n{definition}")
        });
        let told: Vec<String> = self.description.into_iter().chain(grammar).collect();
        ToolBody::Function {
            name: self.name,
            description: (!told.is_empty()).then(|| told.join("\n\n")),
            parameters: RawValue::from_string(PARAMETERS.to_owned()).ok(),
            strict: None,
        }
    }
}

/// Returns whether an upstream of `format` takes `tool` as it is. Responses rewrites the shape of chat
/// completions; most servers of chat completions know functions only, and OpenAI's own is relayed to.
fn speaks(format: Format, tool: &ToolBody) -> bool {
    match tool {
        ToolBody::Function { .. } => true,
        ToolBody::Native { format: issuer, .. } => match format {
            Format::Responses => true,
            Format::OpenAi | Format::Messages | Format::Gemini | Format::Converse | Format::Cohere => {
                *issuer == format
            }
        },
    }
}

struct Raised {
    names: BTreeSet<String>,
    inner: Box<dyn DecodeReply>,
}

impl DecodeReply for Raised {
    fn decode_response(self: Box<Self>, body: &[u8], losses: &mut Losses) -> Result<Response, ApiError> {
        let mut response = self.inner.decode_response(body, losses)?;
        let parts = response.choices.iter_mut().flat_map(|choice| &mut choice.parts);
        for part in parts {
            if let PartBody::ToolCall(call) = &mut part.body
                && self.names.contains(&call.name)
            {
                call.arguments = text(&call.arguments);
                call.kind = ToolKind::Custom;
            }
        }
        Ok(response)
    }

    fn into_stream(self: Box<Self>) -> Box<dyn DecodeStream> {
        Box::new(RaisedStream {
            names: self.names,
            inner: self.inner.into_stream(),
            events: Vec::new(),
            held: BTreeMap::new(),
            failed: false,
        })
    }
}

/// Arguments are held until their call is complete: an object that is cut anywhere cannot be read.
struct RaisedStream {
    names: BTreeSet<String>,
    inner: Box<dyn DecodeStream>,
    events: Vec<Event>,
    held: BTreeMap<usize, String>,
    failed: bool,
}

impl DecodeStream for RaisedStream {
    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>, losses: &mut Losses) {
        let mut events = std::mem::take(&mut self.events);
        self.inner.frame(frame, &mut events, losses);
        self.raise(&mut events, out);
        self.events = events;
    }

    fn end(&mut self, how: End, out: &mut Vec<Event>) {
        let mut events = std::mem::take(&mut self.events);
        self.inner.end(how, &mut events);
        self.raise(&mut events, out);
    }
}

impl RaisedStream {
    fn raise(&mut self, events: &mut Vec<Event>, out: &mut Vec<Event>) {
        for mut event in events.drain(..) {
            if self.failed {
                return;
            }
            match &mut event {
                Event::Open { index, part, .. } => {
                    if let PartHead::ToolCall { name, kind, .. } = part
                        && self.names.contains(name)
                    {
                        *kind = ToolKind::Custom;
                        self.held.insert(*index, String::new());
                    }
                }
                Event::Delta {
                    index,
                    delta: Delta::Arguments(more),
                } => {
                    if let Some(held) = self.held.get_mut(index) {
                        held.push_str(more);
                        if held.len() > MAX_HELD {
                            self.failed = true;
                            let message = "the arguments of a tool call exceed 16 MiB";
                            out.push(Event::Error(ApiError::bad_reply(message)));
                            return;
                        }
                        continue;
                    }
                }
                Event::Close { index } => {
                    if let Some(held) = self.held.remove(index) {
                        out.push(Event::Delta {
                            index: *index,
                            delta: Delta::Arguments(text(&held)),
                        });
                    }
                }
                Event::Start(_)
                | Event::Delta { .. }
                | Event::Usage(_)
                | Event::Finish { .. }
                | Event::Ping
                | Event::Error(_) => {}
            }
            out.push(event);
        }
    }
}

/// Returns the text in `arguments`; what is not an object with one stays as it is.
fn text(arguments: &str) -> String {
    let input = json::Object::parse_str(arguments, &json::Path::Root)
        .ok()
        .and_then(|mut object| object.optional("input", &json::Path::Root).ok()?);
    input.unwrap_or_else(|| arguments.to_owned())
}
