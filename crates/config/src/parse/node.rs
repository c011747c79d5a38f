//! YAML documents as trees that know where each value was written.
//!
//! Scalars stay text until they are read, because substitution happens in between: a plain `${PORT}` is a
//! number once it has been replaced. Depth and aliases are bounded, so that no document costs more than its
//! size suggests.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use super::substitute::{shield, unshield};
use crate::places::{Collected, Field, Places, Position};

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) data: Data,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// `typed` scalars are read by the YAML core schema; the others are strings.
    Scalar { text: String, typed: bool },
    /// Items.
    Sequence(Vec<Node>),
    /// Members, in order, names unique.
    Mapping(Vec<Member>),
}

/// A member of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) at: Position,
    pub(super) name: String,
    pub(super) value: Node,
}

/// Why a text is not YAML, or not YAML that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeError {
    pub(super) at: Position,
    pub(super) reason: String,
}

/// Returns the documents before the first error, and that error. Empty documents are left out.
pub(super) fn documents(text: &str) -> (Vec<Node>, Option<NodeError>) {
    let text = shield(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(&text),
        anchors: HashMap::new(),
        budget: MAX_ALIASED,
    };
    let mut documents = Vec::new();
    let error = reader.stream(&mut documents).err();
    (documents, error)
}

impl Node {
    /// Returns the member called `name`, of a mapping that has it.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        match &self.data {
            Data::Mapping(members) => members
                .iter()
                .find(|member| member.name == name)
                .map(|member| &member.value),
            Data::Scalar { .. } | Data::Sequence(_) => None,
        }
    }

    /// Returns the text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar { text, .. } => Some(text),
            Data::Sequence(_) | Data::Mapping(_) => None,
        }
    }

    /// Returns whether the node is YAML's null.
    pub(super) fn is_null(&self) -> bool {
        match &self.data {
            Data::Scalar { text, typed } => *typed && NULLS.contains(&text.as_str()),
            Data::Sequence(_) | Data::Mapping(_) => false,
        }
    }

    /// Returns where everything in it was written.
    pub(super) fn places(&self) -> Places {
        let mut collected = Collected::default();
        self.collect(Field::ROOT, &mut collected);
        collected.finish()
    }

    fn collect(&self, field: Field, collected: &mut Collected) {
        match &self.data {
            Data::Scalar { .. } => {}
            Data::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    let field = field.item(index);
                    collected.add(field, item.at);
                    item.collect(field, collected);
                }
            }
            Data::Mapping(members) => {
                for member in members {
                    // Names of annotations have dots of their own.
                    let field = match member.name.contains('.') {
                        true => field.entry(&member.name),
                        false => field.member(&member.name),
                    };
                    collected.add(field, member.at);
                    member.value.collect(field, collected);
                }
            }
        }
    }

    /// Returns how many nodes there are from here, and how many levels below.
    fn measure(&self) -> (usize, usize) {
        let below = |(size, depth): (usize, usize), node: &Node| {
            let (inner, levels) = node.measure();
            (size + inner, depth.max(levels + 1))
        };
        match &self.data {
            Data::Scalar { .. } => (1, 0),
            Data::Sequence(items) => items.iter().fold((1, 0), below),
            Data::Mapping(members) => members.iter().map(|member| &member.value).fold((1, 0), below),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    /// How many more nodes aliases may stand for.
    budget: usize,
}

type Spanned<'a> = (Event<'a>, Span);

impl<'a> Reader<'a> {
    fn stream(&mut self, documents: &mut Vec<Node>) -> Result<(), NodeError> {
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => break,
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => {
                    self.anchors.clear();
                    let node = self.node((event, span), 0)?;
                    if !node.is_null() {
                        documents.push(node);
                    }
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Spanned<'a>>, NodeError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(spanned)) => Ok(Some(spanned)),
            Some(Err(error)) => Err(NodeError {
                at: position(*error.marker()),
                reason: format!("malformed YAML: {}", error.info()),
            }),
        }
    }

    fn inner(&mut self, at: Position) -> Result<Spanned<'a>, NodeError> {
        self.next()?.ok_or_else(|| NodeError {
            at,
            reason: "malformed YAML: the document ends here".to_owned(),
        })
    }

    fn node(&mut self, (event, span): Spanned<'a>, depth: usize) -> Result<Node, NodeError> {
        let at = position(span.start);
        let fail = |reason: &str| NodeError {
            at,
            reason: reason.to_owned(),
        };
        if depth > MAX_DEPTH {
            return Err(fail(TOO_DEEP));
        }
        let (data, anchor) = match event {
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).ok_or_else(|| fail("unknown alias"))?;
                let (size, levels) = target.measure();
                if depth + levels > MAX_DEPTH {
                    return Err(fail(TOO_DEEP));
                }
                let left = self.budget.checked_sub(size);
                self.budget = left.ok_or_else(|| fail("aliases stand for more than 100000 values"))?;
                return Ok(Node {
                    at,
                    data: target.data.clone(),
                });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let typed = style == ScalarStyle::Plain && !tag.as_deref().is_some_and(is_string);
                let text = unshield(text);
                (Data::Scalar { text, typed }, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(at, depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(at, depth)?, anchor),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(fail("malformed YAML: a value is missing here")),
        };
        let node = Node { at, data };
        if anchor > 0 {
            let (size, _) = node.measure();
            let left = self.budget.checked_sub(size);
            self.budget = left.ok_or_else(|| fail("anchors hold more than 100000 values"))?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, at: Position, depth: usize) -> Result<Data, NodeError> {
        let mut items = Vec::new();
        loop {
            match self.inner(at)? {
                (Event::SequenceEnd, _) => return Ok(Data::Sequence(items)),
                spanned => items.push(self.node(spanned, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, at: Position, depth: usize) -> Result<Data, NodeError> {
        let mut members: Vec<Member> = Vec::new();
        let mut names: HashSet<String> = HashSet::new();
        loop {
            let spanned = self.inner(at)?;
            if matches!(spanned.0, Event::MappingEnd) {
                return Ok(Data::Mapping(members));
            }
            let key = self.node(spanned, depth + 1)?;
            let place = key.at;
            let fail = |reason: String| NodeError { at: place, reason };
            let name = match key.data {
                Data::Scalar { text, .. } => text,
                Data::Sequence(_) | Data::Mapping(_) => {
                    return Err(fail("a key must be a string".to_owned()));
                }
            };
            // A scan is cheaper for the few members that most mappings have; the set bounds the rest.
            let repeated = if members.len() < SCAN {
                members.iter().any(|member| member.name == name)
            } else {
                if names.is_empty() {
                    names.extend(members.iter().map(|member| member.name.clone()));
                }
                !names.insert(name.clone())
            };
            if repeated {
                return Err(fail(format!("\"{name}\" is written twice")));
            }
            let value = self.inner(place)?;
            let value = self.node(value, depth + 1)?;
            members.push(Member {
                at: place,
                name,
                value,
            });
        }
    }
}

fn position(marker: Marker) -> Position {
    Position {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

fn is_string(tag: &Tag) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == "str"
}

pub(super) const NULLS: &[&str] = &["", "~", "null", "Null", "NULL"];
const MAX_DEPTH: usize = 64;
/// Up to this many members, repeated names are looked for by scanning.
const SCAN: usize = 32;
const TOO_DEEP: &str = "nested more than 64 levels deep";
const MAX_ALIASED: usize = 100_000;
