//! The output of a reply, put together from what its events say.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{
    input::BETWEEN_SUMMARIES,
    stream::{Step, unreadable},
    wire,
};
use crate::{
    Field, Losses,
    chat::{
        Delta, Event, PartHead, Token, ToolKind,
        openai::{note, upstream::Names},
    },
    json::{Path, Typed},
    unread,
};

/// The output so far.
#[derive(Debug)]
pub(super) struct Output {
    /// Names of tools that had to be rewritten.
    names: Names,
    /// The items that have begun, by their index.
    items: BTreeMap<u64, Item>,
    parts: Parts,
    /// Whether a tool is called.
    pub(super) called: bool,
}

/// An item of the output.
#[derive(Debug)]
enum Item {
    /// Texts and refusals, by their index in the content.
    Message(BTreeMap<u64, Part>),
    Reasoning(Thought),
    Call(Part),
    /// All of it was said, or nothing of it can be.
    Done,
}

/// A part of the answer, and how many bytes of it were said.
#[derive(Clone, Copy, Debug)]
struct Part {
    index: usize,
    said: usize,
    /// How many of its tokens were told, and how many annotations.
    tokens: usize,
    annotations: usize,
    open: bool,
}

/// Reasoning, which begins with what is said of it.
#[derive(Debug, Default)]
struct Thought {
    index: Option<usize>,
    /// Which of the two was said first: the other would say it twice.
    voice: Option<Voice>,
    /// How much was said of each piece.
    said: BTreeMap<u64, usize>,
}

/// What tells of reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// Its summary.
    Summary,
    /// Its own text.
    Text,
}

/// What the parts of an answer share.
#[derive(Debug, Default)]
struct Parts {
    /// The index of the next part.
    next: usize,
}

impl Output {
    /// Returns the output of which nothing was said yet, by a model that knows tools by `names`.
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            items: BTreeMap::new(),
            parts: Parts::default(),
            called: false,
        }
    }

    /// Returns the index of the item that began last, for servers that leave it out.
    pub(super) fn latest(&self) -> u64 {
        self.items.last_key_value().map_or(0, |(at, _)| *at)
    }

    /// Closes what is open: nothing more comes.
    pub(super) fn close(&mut self, out: &mut Vec<Event>) {
        for item in std::mem::take(&mut self.items).into_values() {
            item.close(out);
        }
    }

    /// Reads the item at `path`; one that is `done` says everything that is in it.
    pub(super) fn item(
        &mut self,
        at: u64,
        raw: Option<&RawValue>,
        path: &Path<'_>,
        done: bool,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) -> Step {
        let raw = raw.ok_or_else(|| unreadable(&"an event about an item has none"))?;
        let typed: Typed<'_> = serde_json::from_str(raw.get()).map_err(|reason| unreadable(&reason))?;
        if let Some(kind) = typed.kind.filter(|kind| !ITEMS.contains(&&**kind)) {
            // Types that are not known may use known names for other things.
            if done && !matches!(self.items.get(&at), Some(Item::Done)) {
                lose_native(&kind, losses);
                self.items.insert(at, Item::Done);
            }
            return Ok(());
        }
        let item: wire::Item<'_> =
            unread::read(raw.get(), path, losses).map_err(|reason| unreadable(&reason))?;
        for piece in item.content.iter().flatten() {
            piece.hear(&path.key("content").index(0), losses);
        }
        if matches!(self.items.get(&at), Some(Item::Done)) {
            return Ok(());
        }
        match item.kind.as_str() {
            "message" => self.message(at, item, path, done, out, losses),
            "reasoning" => self.reasoning(at, item, done, out, losses),
            "function_call" => self.call(at, item, ToolKind::Function, done, out),
            "custom_tool_call" => self.call(at, item, ToolKind::Custom, done, out),
            _ => return Err(unreadable(&"an item has no type")),
        }
        Ok(())
    }

    fn message(
        &mut self,
        at: u64,
        item: wire::Item<'_>,
        path: &Path<'_>,
        done: bool,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) {
        let content = path.key("content");
        self.items
            .entry(at)
            .or_insert_with(|| Item::Message(BTreeMap::new()));
        for (piece, said) in (0..).zip(item.content.into_iter().flatten()) {
            match (said.kind.as_str(), said.text, said.refusal) {
                ("output_text" | "text", Some(text), _) => {
                    let path = content.index(0);
                    self.note_rest(at, piece, said.logprobs, &path.key("logprobs"), out, losses);
                    self.rest(at, piece, PartHead::Text, &text, out);
                    let (_, cited) = self.noted(at, piece);
                    let annotations = said.annotations.map(RawValue::get).unwrap_or("[]");
                    let annotations: Vec<&RawValue> = serde_json::from_str(annotations).unwrap_or_default();
                    let annotations = annotations.into_iter().skip(cited);
                    let list = path.key("annotations");
                    self.cite(at, piece, annotations, &list.index(0), out, losses);
                }
                ("refusal", _, Some(refusal)) => {
                    self.rest(at, piece, PartHead::Refusal, &refusal, out);
                }
                _ => lose("content", losses),
            }
        }
        if done && let Some(item) = self.items.insert(at, Item::Done) {
            item.close(out);
        }
    }

    /// Says more of a text or refusal.
    pub(super) fn say(&mut self, at: u64, piece: u64, head: PartHead, more: &str, out: &mut Vec<Event>) {
        if let Some(pieces) = pieces(&mut self.items, at)
            && !more.is_empty()
        {
            let part = pieces.entry(piece).or_insert_with(|| self.parts.open(head, out));
            part.say(more, Delta::Text, out);
        }
    }

    /// Notes the tokens of the text that comes next.
    pub(super) fn note(&mut self, at: u64, piece: u64, tokens: Vec<Token>, out: &mut Vec<Event>) {
        if tokens.is_empty() {
            return;
        }
        if let Some(part) = self.text(at, piece, out).filter(|part| part.open) {
            part.tokens += tokens.len();
            let (index, delta) = (part.index, Delta::Tokens(tokens));
            out.push(Event::Delta { index, delta });
        }
    }

    /// Notes the tokens that are still missing, of all that there are.
    pub(super) fn note_rest(
        &mut self,
        at: u64,
        piece: u64,
        all: Option<&RawValue>,
        path: &Path<'_>,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) {
        let (told, _) = self.noted(at, piece);
        let tokens = all.map(|raw| note::read_tokens(raw, path, losses));
        let tokens = tokens.unwrap_or_default();
        self.note(at, piece, tokens.into_iter().skip(told).collect(), out);
    }

    /// Says where a text is from; each of the annotations lies at `path`.
    pub(super) fn cite<'r>(
        &mut self,
        at: u64,
        piece: u64,
        annotations: impl IntoIterator<Item = &'r RawValue>,
        path: &Path<'_>,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) {
        for raw in annotations {
            let citation = note::read_citation(raw, path, losses);
            let part = self.text(at, piece, out);
            match (citation, part) {
                (Some(citation), Some(part)) if part.open => {
                    part.annotations += 1;
                    let (index, delta) = (part.index, Delta::Citation(Box::new(citation)));
                    out.push(Event::Delta { index, delta });
                }
                (_, part) => {
                    if let Some(part) = part {
                        part.annotations += 1;
                    }
                    lose("annotations", losses);
                }
            }
        }
    }

    /// Returns how many tokens and annotations of a text were told.
    fn noted(&self, at: u64, piece: u64) -> (usize, usize) {
        match self.items.get(&at) {
            Some(Item::Message(pieces)) => pieces
                .get(&piece)
                .map_or((0, 0), |part| (part.tokens, part.annotations)),
            Some(Item::Reasoning(_) | Item::Call(_) | Item::Done) | None => (0, 0),
        }
    }

    /// Returns a text, which begins if it has not; `None` if another thing is at its place.
    fn text(&mut self, at: u64, piece: u64, out: &mut Vec<Event>) -> Option<&mut Part> {
        let (items, parts) = (&mut self.items, &mut self.parts);
        let pieces = pieces(items, at)?;
        Some(
            pieces
                .entry(piece)
                .or_insert_with(|| parts.open(PartHead::Text, out)),
        )
    }

    /// Says what is still missing of a text or refusal.
    fn rest(&mut self, at: u64, piece: u64, head: PartHead, whole: &str, out: &mut Vec<Event>) {
        let said = match self.items.get(&at) {
            Some(Item::Message(pieces)) => pieces.get(&piece).map_or(0, |part| part.said),
            Some(Item::Reasoning(_) | Item::Call(_) | Item::Done) | None => 0,
        };
        self.say(at, piece, head, whole.get(said..).unwrap_or_default(), out);
    }

    /// Hears that a text or refusal is complete.
    pub(super) fn said(
        &mut self,
        at: u64,
        piece: u64,
        head: PartHead,
        whole: Option<&RawValue>,
        out: &mut Vec<Event>,
    ) {
        if let Some(whole) = whole.and_then(wire::text) {
            self.rest(at, piece, head, &whole, out);
        }
        if let Some(Item::Message(pieces)) = self.items.get_mut(&at)
            && let Some(part) = pieces.get_mut(&piece)
        {
            part.close(out);
        }
    }

    fn reasoning(
        &mut self,
        at: u64,
        item: wire::Item<'_>,
        done: bool,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) {
        for (pieces, voice) in [(item.summary, Voice::Summary), (item.content, Voice::Text)] {
            for (piece, text) in (0..).zip(pieces.into_iter().flatten()) {
                let Some(text) = text.text.filter(|text| !text.is_empty()) else {
                    continue;
                };
                let known = match self.items.get(&at) {
                    Some(Item::Reasoning(thought)) if thought.voice == Some(voice) => {
                        thought.said.get(&piece).copied().unwrap_or(0)
                    }
                    Some(_) | None => 0,
                };
                let rest = text.get(known..).unwrap_or_default();
                self.think(at, voice, piece, rest, out, losses);
            }
        }
        if !done {
            return;
        }
        let thought = match self.items.insert(at, Item::Done) {
            Some(Item::Reasoning(thought)) => thought,
            Some(Item::Message(_) | Item::Call(_) | Item::Done) | None => Thought::default(),
        };
        let bare = thought.index.is_none();
        let seal = item
            .encrypted_content
            .and_then(|encrypted| wire::seal(item.id.as_deref(), &encrypted, bare));
        let redacted = seal.as_ref().is_some_and(|(_, redacted)| *redacted);
        let index = match (thought.index, &seal) {
            (Some(index), _) => index,
            (None, Some(_)) => self.parts.open(PartHead::Reasoning { redacted }, out).index,
            (None, None) => return,
        };
        let seal = seal.map(|(seal, _)| Delta::Seal(seal));
        out.extend(seal.map(|delta| Event::Delta { index, delta }));
        out.push(Event::Close { index });
    }

    /// Says more of a piece of reasoning. Pieces are paragraphs.
    pub(super) fn think(
        &mut self,
        at: u64,
        voice: Voice,
        piece: u64,
        more: &str,
        out: &mut Vec<Event>,
        losses: &mut Losses,
    ) {
        let item = self
            .items
            .entry(at)
            .or_insert_with(|| Item::Reasoning(Thought::default()));
        let Item::Reasoning(thought) = item else {
            return;
        };
        if more.is_empty() {
            return;
        }
        if *thought.voice.get_or_insert(voice) != voice {
            let reason = "the text of reasoning and its summary are one in other formats";
            losses.advisory(Field::Reply("reasoning"), reason);
            return;
        }
        let index = match thought.index {
            Some(index) => index,
            None => {
                let head = PartHead::Reasoning { redacted: false };
                *thought.index.insert(self.parts.open(head, out).index)
            }
        };
        let mut add = |text: &str| {
            out.push(Event::Delta {
                index,
                delta: Delta::Text(text.to_owned()),
            });
        };
        if !thought.said.is_empty() && !thought.said.contains_key(&piece) {
            add(BETWEEN_SUMMARIES);
        }
        add(more);
        *thought.said.entry(piece).or_default() += more.len();
    }

    fn call(&mut self, at: u64, item: wire::Item<'_>, kind: ToolKind, done: bool, out: &mut Vec<Event>) {
        let arguments = match kind {
            ToolKind::Function => item.arguments,
            ToolKind::Custom => item.input,
        };
        let arguments = arguments.unwrap_or_default();
        if !matches!(self.items.get(&at), Some(Item::Call(_))) {
            let name = item.name.unwrap_or_default();
            let head = PartHead::ToolCall {
                id: item.call_id.or(item.id).unwrap_or_default(),
                name: self.names.original(&name).to_owned(),
                kind,
            };
            let part = self.parts.open(head, out);
            self.items.insert(at, Item::Call(part));
            self.called = true;
        }
        let Some(Item::Call(part)) = self.items.get_mut(&at) else {
            return;
        };
        let rest = arguments.get(part.said..).unwrap_or_default();
        part.say(rest, Delta::Arguments, out);
        if done {
            // A call without arguments has none to stream, while it means an empty object.
            if kind == ToolKind::Function && part.said == 0 {
                part.say("{}", Delta::Arguments, out);
            }
            part.close(out);
            self.items.insert(at, Item::Done);
        }
    }

    /// Says more of a call's arguments; one that did not begin yet says them when it is complete.
    pub(super) fn argue(&mut self, at: u64, more: &str, out: &mut Vec<Event>) {
        if let Some(Item::Call(part)) = self.items.get_mut(&at) {
            part.say(more, Delta::Arguments, out);
        }
    }
}

impl Item {
    /// Closes what is open of an item of which nothing more comes.
    fn close(self, out: &mut Vec<Event>) {
        match self {
            Item::Message(pieces) => {
                for mut part in pieces.into_values() {
                    part.close(out);
                }
            }
            Item::Reasoning(thought) => {
                out.extend(thought.index.map(|index| Event::Close { index }));
            }
            Item::Call(mut part) => part.close(out),
            Item::Done => {}
        }
    }
}

impl Parts {
    fn open(&mut self, part: PartHead, out: &mut Vec<Event>) -> Part {
        let index = self.next;
        self.next += 1;
        out.push(Event::Open {
            index,
            choice: 0,
            part,
        });
        Part {
            index,
            said: 0,
            tokens: 0,
            annotations: 0,
            open: true,
        }
    }
}

impl Part {
    fn say(&mut self, more: &str, delta: fn(String) -> Delta, out: &mut Vec<Event>) {
        if self.open && !more.is_empty() {
            self.said += more.len();
            out.push(Event::Delta {
                index: self.index,
                delta: delta(more.to_owned()),
            });
        }
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        if self.open {
            self.open = false;
            out.push(Event::Close { index: self.index });
        }
    }
}

/// The items that other formats have.
const ITEMS: &[&str] = &["message", "reasoning", "function_call", "custom_tool_call"];

/// Returns the pieces of the message that is the item `at`, which begins if it has not; `None` if it is no message.
fn pieces(items: &mut BTreeMap<u64, Item>, at: u64) -> Option<&mut BTreeMap<u64, Part>> {
    match items.entry(at).or_insert_with(|| Item::Message(BTreeMap::new())) {
        Item::Message(pieces) => Some(pieces),
        Item::Reasoning(_) | Item::Call(_) | Item::Done => None,
    }
}

/// Records that what replies have by this name cannot be said in another format.
fn lose(what: &'static str, losses: &mut Losses) {
    losses.advisory(
        Field::Reply(what),
        format!("{what} of this kind are known to responses only"),
    );
}

fn lose_native(kind: &str, losses: &mut Losses) {
    let reason = format!("an item of type \"{kind}\" is known to responses only");
    losses.advisory(Field::Reply(wire::native_item(kind)), reason);
}
