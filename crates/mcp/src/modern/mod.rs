//! Requests of revisions without sessions: each says for itself what it needs, and headers repeat what bodies say,
//! so that whoever stands between need not read bodies (revision 2026-07-28, "Streamable HTTP").

use std::borrow::Cow;

use serde_json::{json, value::RawValue};

use crate::{
    Capabilities, Level, Message, Version,
    error::{self, RpcError},
    header,
    json::{self, Object},
    message::Request,
    method::List,
};

/// Where a request says which revision it is in.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Where it says what its sender can do.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Where it says who its sender is.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// Where it says which log messages are wanted.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Where a result says who its sender is.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// All that a request says in `_meta` for this line of the protocol alone.
const OWN: &[&str] = &[PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL];

/// What the headers of a request repeat.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `mcp-protocol-version`
    pub version: Option<&'a str>,
    /// `mcp-method`
    pub method: Option<&'a str>,
    /// `mcp-name`
    pub name: Option<&'a str>,
}

/// What a request says of its sender.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// What the sender can do.
    pub capabilities: Box<RawValue>,
    /// Who it is.
    pub info: Option<Box<RawValue>>,
    /// Which log messages it wants; none if it does not say.
    pub level: Option<Level>,
}

/// Returns whether `message` is in a revision without sessions. `in_session` tells whether it names a session.
pub fn is_modern(message: &Message, version: Option<&str>, in_session: bool) -> bool {
    if let Message::Request(request) = message
        && said(request, PROTOCOL_VERSION)
    {
        return true;
    }
    let opens = matches!(message, Message::Request(request) if request.method == "initialize");
    match version.map(Version::parse) {
        None => false,
        Some(Some(version)) => version.is_modern(),
        // One that nobody knows yet is rather of the line that has a future.
        Some(None) => !in_session && !opens,
    }
}

fn said(request: &Request, key: &str) -> bool {
    let params = request.object();
    let meta = params.as_ref().and_then(|params| params.object("_meta"));
    meta.is_some_and(|meta| meta.get(key).is_some())
}

impl Envelope {
    /// Reads what `request` says of its sender, and holds `headers` against it.
    ///
    /// # Errors
    /// −32602 for what is missing, −32020 where header and body differ, −32022 for revisions that are not served.
    pub fn read(request: &Request, headers: Headers<'_>) -> Result<Self, RpcError> {
        let invalid = |what: &str| RpcError::invalid_params(format!("_meta lacks {what}"));
        let params = request
            .object()
            .ok_or_else(|| RpcError::invalid_params("invalid params"))?;
        let meta = params.object("_meta").unwrap_or_default();
        let version = meta
            .text(PROTOCOL_VERSION)
            .ok_or_else(|| invalid(PROTOCOL_VERSION))?;
        if headers.version.map(str::trim) != Some(&*version) {
            return Err(mismatch(header::VERSION));
        }
        if !Version::parse(&version).is_some_and(Version::is_modern) {
            return Err(unsupported(&version));
        }
        let capabilities = meta
            .get(CLIENT_CAPABILITIES)
            .filter(|own| Object::parse(own).is_some())
            .ok_or_else(|| invalid(CLIENT_CAPABILITIES))?;
        let level = match meta.get(LOG_LEVEL) {
            None => None,
            Some(level) => {
                let level = json::text(level).and_then(|level| Level::parse(&level));
                Some(level.ok_or_else(|| RpcError::invalid_params("an unknown log level"))?)
            }
        };
        if headers.method.map(str::trim) != Some(request.method.as_str()) {
            return Err(mismatch(header::METHOD));
        }
        let named = name(&request.method, &params);
        let decoded = headers.name.map(|name| header::decode(name.trim()));
        match (named, decoded) {
            (Some(named), Some(Some(decoded))) if named == decoded => {}
            (None, None | Some(Some(_))) => {}
            (Some(_), _) | (None, Some(None)) => return Err(mismatch(header::NAME)),
        }
        Ok(Self {
            capabilities: capabilities.to_owned(),
            info: meta.get(CLIENT_INFO).map(RawValue::to_owned),
            level,
        })
    }
}

/// Returns what `mcp-name` repeats of the parameters of `method`.
pub fn name<'p>(method: &str, params: &'p Object<'_>) -> Option<Cow<'p, str>> {
    match method {
        "tools/call" | "prompts/get" => params.text("name"),
        "resources/read" => params.text("uri"),
        _ => None,
    }
}

/// Returns the error for a header that is missing, or does not say what the body does.
pub fn mismatch(header: &str) -> RpcError {
    let message = format!("the header {header} does not say what the body does");
    RpcError::new(error::HEADER_MISMATCH, message)
}

/// Returns the error for a revision that is not served.
pub fn unsupported(requested: &str) -> RpcError {
    let shown: String = requested.chars().take(64).collect();
    let data = json!({ "supported": offered(), "requested": shown });
    RpcError::new(error::UNSUPPORTED_VERSION, "unsupported protocol version").with_data(data)
}

/// Returns the names of all revisions that clients may speak, the newest first.
pub fn offered() -> Vec<&'static str> {
    Version::OFFERED.iter().map(|version| version.name()).collect()
}

/// What is said of a client to a server that is asked in this line of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// What it can do, as JSON.
    pub capabilities: &'a str,
    /// Who it is, as JSON.
    pub info: &'a str,
    /// Which log messages it wants.
    pub level: Option<Level>,
}

/// Returns `params` with what a server has to be told; what a client says for itself stays.
pub fn stamped(params: Option<&RawValue>, about: &About<'_>) -> Option<Box<RawValue>> {
    let mut object = match params {
        Some(params) => Object::parse(params)?,
        None => Object::default(),
    };
    let meta = object.get("_meta").map(RawValue::to_owned);
    let mut meta = meta.as_deref().and_then(Object::parse).unwrap_or_default();
    let own = meta.get(CLIENT_CAPABILITIES).is_some();
    meta.set(PROTOCOL_VERSION, json::raw(Version::V2026_07_28.name()));
    if !own {
        meta.set(CLIENT_CAPABILITIES, json::document(about.capabilities));
        meta.set(CLIENT_INFO, json::document(about.info));
        if let Some(level) = about.level {
            meta.set(LOG_LEVEL, json::raw(level.name()));
        }
    }
    object.set("_meta", meta.to_raw());
    Some(object.to_raw())
}

/// Returns `params` without what only servers of this line understand.
pub fn unstamped(params: &RawValue) -> Option<Box<RawValue>> {
    let mut object = Object::parse(params)?;
    object.get("_meta")?;
    let mut empty = false;
    object.edit("_meta", |meta| {
        let mut meta = Object::parse(meta)?;
        for key in OWN {
            meta.remove(key);
        }
        empty = meta.members().next().is_none();
        Some(meta.to_raw())
    });
    if empty {
        object.remove("_meta");
    }
    Some(object.to_raw())
}

/// For how long, and by whom, a result may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hints {
    /// Milliseconds.
    pub ttl: u64,
    /// Whether everybody is given the same.
    pub public: bool,
}

impl Hints {
    /// It may not be kept.
    pub const NONE: Self = Self {
        ttl: 0,
        public: false,
    };

    /// Returns the hints that a result gives, if it does.
    pub fn read(result: &RawValue) -> Option<Self> {
        let object = Object::parse(result)?;
        Some(Self {
            ttl: object.get("ttlMs")?.get().parse().ok()?,
            public: object.text("cacheScope")? == "public",
        })
    }

    /// Returns what holds for two results together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            ttl: self.ttl.min(other.ttl),
            public: self.public && other.public,
        }
    }

    /// Writes the hints into a result.
    pub fn write(self, result: &mut Object<'_>) {
        result.set("ttlMs", json::raw(&self.ttl));
        let scope = if self.public { "public" } else { "private" };
        result.set("cacheScope", json::raw(scope));
    }
}

/// Returns a result as clients of this line are given it: it says what kind it is, and that `server` gave it.
pub fn finished(result: &RawValue, server: &RawValue, hints: Option<Hints>) -> Option<Box<RawValue>> {
    let mut object = Object::parse(result)?;
    if object.get("resultType").is_none() {
        object.set("resultType", json::raw("complete"));
    }
    if let Some(hints) = hints {
        hints.write(&mut object);
    }
    let meta = object.get("_meta").map(RawValue::to_owned);
    let mut meta = meta.as_deref().and_then(Object::parse).unwrap_or_default();
    meta.set(SERVER_INFO, server.to_owned());
    object.set("_meta", meta.to_raw());
    Some(object.to_raw())
}

/// Returns an error as clients of this line are given it: two codes of the other have no place here.
pub fn error(error: &RawValue) -> Option<Box<RawValue>> {
    let mut object = Object::parse(error)?;
    let code = match code(error)? {
        error::RESOURCE_NOT_FOUND => error::INVALID_PARAMS,
        error::ELICITATION_REQUIRED => error::SERVER,
        _ => return None,
    };
    object.set("code", json::raw(&code));
    Some(object.to_raw())
}

/// Returns an error as clients with sessions are given it, to a request for the resource `uri`.
pub fn legacy_error(error: &RawValue, uri: &str) -> Option<Box<RawValue>> {
    let mut object = Object::parse(error)?;
    let same = object.object("data")?.text("uri")? == uri;
    if code(error)? != error::INVALID_PARAMS || !same {
        return None;
    }
    object.set("code", json::raw(&error::RESOURCE_NOT_FOUND));
    Some(object.to_raw())
}

/// Returns the code of an error object.
pub fn code(error: &RawValue) -> Option<i32> {
    Object::parse(error)?.get("code")?.get().parse().ok()
}

/// Returns the HTTP status of an answer that is an error of this code.
pub fn status(code: i32) -> u16 {
    match code {
        error::METHOD_NOT_FOUND => 404,
        error::PARSE
        | error::INVALID_REQUEST
        | error::INVALID_PARAMS
        | error::HEADER_MISMATCH
        | error::MISSING_CAPABILITY
        | error::UNSUPPORTED_VERSION => 400,
        _ => 200,
    }
}

/// What a server says of itself when it is asked with `server/discover`.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// What it can do.
    pub capabilities: Capabilities,
    /// For how long that may be believed.
    pub hints: Hints,
}

impl Discovered {
    /// Reads the result of `server/discover`; `None` if the server speaks no revision of this line.
    pub fn read(result: &RawValue) -> Option<Self> {
        let object = Object::parse(result)?;
        let versions = json::elements(object.get("supportedVersions")?)?;
        let mut versions = versions.into_iter().filter_map(json::text);
        versions.find(|version| *version == Version::V2026_07_28.name())?;
        Some(Self {
            capabilities: Capabilities::read(object.get("capabilities")),
            hints: Hints::read(result).unwrap_or(Hints::NONE),
        })
    }
}

/// Returns whether a result of `method` may be kept at all.
pub fn is_cacheable(method: &str) -> bool {
    method == "resources/read" || List::ALL.iter().any(|list| list.method() == method)
}

#[cfg(test)]
mod tests;
