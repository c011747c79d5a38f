//! Names of tools that the format refuses, rewritten so that they can be given back, and ids of calls that a
//! server refuses.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use crate::{
    chat::{PartBody, Request, ToolBody, ToolChoice},
    provider::Dialect,
};

/// The most bytes that OpenAI takes in a tool's name.
const MAX: usize = 64;

/// How many letters and digits an id has at servers that count them.
const SHORT_ID: usize = 9;

/// The names of one request's tools and calls. Empty where all fit.
#[derive(Clone, Debug, Default)]
pub(in crate::chat) struct Names {
    /// From the client's name to the one on the wire.
    written: HashMap<String, String>,
    /// And back.
    read: HashMap<String, String>,
    /// From the client's id of a call to the one on the wire.
    calls: HashMap<String, String>,
}

impl Names {
    /// Returns the names of the tools that `request` offers, demands or has called, and of the calls, for a
    /// server with the habits of `dialect`.
    pub(in crate::chat) fn new(request: &Request, dialect: &Dialect) -> Self {
        let mut names = Self::default();
        if dialect.short_call_ids {
            let long = ids(request).filter(|id| !is_short(id));
            names.calls = long.map(|id| (id.to_owned(), shorten(id))).collect();
        }
        if all(request).all(fits) {
            return names;
        }
        let taken: HashSet<&str> = all(request).collect();
        for name in all(request).filter(|name| !fits(name)) {
            if names.written.contains_key(name) {
                continue;
            }
            let mut salt = 0;
            let short = loop {
                let short = rewrite(name, salt);
                if !names.read.contains_key(&short) && !taken.contains(short.as_str()) {
                    break short;
                }
                salt += 1;
            };
            names.read.insert(short.clone(), name.to_owned());
            names.written.insert(name.to_owned(), short);
        }
        names
    }

    /// Returns what the tool that the client calls `name` is called on the wire.
    pub(in crate::chat) fn wire<'a>(&'a self, name: &'a str) -> &'a str {
        self.written.get(name).map_or(name, String::as_str)
    }

    /// Returns what the call that the client calls `id` is called on the wire.
    pub(super) fn call<'a>(&'a self, id: &'a str) -> &'a str {
        self.calls.get(id).map_or(id, String::as_str)
    }

    /// Returns what the client calls the tool that is called `name` on the wire.
    pub(in crate::chat) fn original<'a>(&'a self, name: &'a str) -> &'a str {
        self.read.get(name).map_or(name, String::as_str)
    }
}

fn all(request: &Request) -> impl Iterator<Item = &str> {
    let offered = request.tools.iter().filter_map(|tool| match &tool.body {
        ToolBody::Function { name, .. } => Some(name.as_str()),
        ToolBody::Native { .. } => None,
    });
    let called = request.turns.iter().flat_map(|turn| &turn.parts);
    let called = called.filter_map(|part| match &part.body {
        PartBody::ToolCall(call) => Some(call.name.as_str()),
        PartBody::Text(_)
        | PartBody::Media(_)
        | PartBody::Reasoning(_)
        | PartBody::SearchResult(_)
        | PartBody::ToolResult(_)
        | PartBody::Refusal(_)
        | PartBody::Native { .. } => None,
    });
    let demanded = match &request.tool_choice {
        Some(ToolChoice::Tool(name)) => Some(name.as_str()),
        Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Required) | None => None,
    };
    offered.chain(called).chain(demanded)
}

/// Returns the ids of calls and results.
fn ids(request: &Request) -> impl Iterator<Item = &str> {
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    parts.filter_map(|part| match &part.body {
        PartBody::ToolCall(call) => Some(call.id.as_str()),
        PartBody::ToolResult(result) => Some(result.call.as_str()),
        PartBody::Text(_)
        | PartBody::Media(_)
        | PartBody::SearchResult(_)
        | PartBody::Reasoning(_)
        | PartBody::Refusal(_)
        | PartBody::Native { .. } => None,
    })
}

fn fits(name: &str) -> bool {
    (1..=MAX).contains(&name.len()) && name.bytes().all(is_allowed)
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Returns a name that fits: what can be kept of `name`, and a hash, so that names which differ stay apart.
/// The same on every replica, so that a provider's prompt cache is not defeated.
fn rewrite(name: &str, salt: u32) -> String {
    let kept: Cow<'_, str> = name
        .chars()
        .map(|char| match u8::try_from(char) {
            Ok(byte) if is_allowed(byte) => char,
            _ => '_',
        })
        .take(MAX - 9)
        .collect();
    // FNV-1a, 32 bits.
    let hash = salt
        .to_le_bytes()
        .iter()
        .chain(name.as_bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
    format!("{kept}_{hash:08x}")
}

fn is_short(id: &str) -> bool {
    id.len() == SHORT_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Returns an id of nine letters and digits: a hash, so that a call and its result keep the same one in every
/// turn.
fn shorten(id: &str) -> String {
    // FNV-1a, 64 bits.
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (0..SHORT_ID)
        .map(|_| {
            let digit = hash % 36;
            hash /= 36;
            u32::try_from(digit)
                .ok()
                .and_then(|digit| char::from_digit(digit, 36))
                .unwrap_or('0')
        })
        .collect()
}
