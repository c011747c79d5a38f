//! Which MCP servers stand behind which paths, and how each is called.

mod credential;
mod offer;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ::mcp::{
    name::{self, Prefix},
    offer::Offer,
    session,
};
use http::HeaderName;

use super::{
    End, Notes,
    access::{self, Access},
    attach::{self, attach},
    backends::{Place, Reach, Trouble},
    listeners::Listeners,
    memory::{Compiled, Memory, Sources},
    routes::Guards,
    spans,
    targets::Routed,
    traffic,
    validate::Faults,
};
use crate::{
    Key,
    kind::{
        Duration as Written, ENVOY, GATEWAY_API, MCPRoute,
        ai_gateway_route::HeaderMatchKind,
        mcp_route::{
            BackendRef, ErrorFormat, FailureMode, OnConfigChange, Pagination, PathMatch, Protocol, Stdio,
            ToolNamePrefix,
        },
    },
    mcp_route::{self, Http, Program, Route},
    resources::Declared,
    router::{HeaderTest, McpRow},
};

/// Returns the routes of every port.
pub(super) fn resolve(
    from: &Reach<'_>,
    memory: &mut Memory,
    listeners: &Listeners,
    access: &mut Access,
    traffic: &mut traffic::Policies<'_>,
    notes: &mut Notes,
) -> BTreeMap<u16, Vec<McpRow>> {
    let resources = from.resources;
    let mut ports: BTreeMap<u16, Vec<McpRow>> = BTreeMap::new();
    for (key, declared) in &resources.mcp_routes {
        let spec = &declared.spec;
        let places = attach(
            attach::Route {
                kind: KIND,
                key,
                parents: &spec.parent_refs,
                hostnames: &spec.hostnames,
            },
            listeners,
            notes,
        );
        let compiled = memory.tools.route(key, declared, Sources::none(), |_| {
            let (own, said) = notes.hear(|notes| Own::of(key, spec, notes));
            Compiled {
                rules: Arc::new(own),
                said: said.into(),
            }
        });
        // What was heard just now is not said twice.
        for condition in compiled.said.iter() {
            notes.say(KIND, key, condition.clone());
        }
        if !notes.accepts(KIND, key) {
            continue;
        }
        let own = &compiled.rules;
        let route = Arc::new(route(from, key, (declared, own), access, notes));
        // An expression that does not compile is found only now.
        if !notes.accepts(KIND, key) {
            continue;
        }
        let timed: Vec<bool> = spec.backend_refs.iter().map(is_timed).collect();
        for (port, listeners) in places {
            let rows = ports.entry(port).or_default();
            for (listener, hosts) in listeners {
                let mut route = Arc::clone(&route);
                if let Some((gateway, listener)) = hosts.values().flatten().next() {
                    traffic.treat(&mut route, (key, &timed), (gateway, listener), notes);
                }
                rows.extend(hosts.iter().map(|(host, reached)| McpRow {
                    route: Arc::clone(&route),
                    listener: listener.clone(),
                    hosts: vec![host.clone()],
                    created: declared.metadata.creation_timestamp,
                    tests: own.tests.clone(),
                    policies: access.of_all(Routed::Tools(key), None, reached),
                }));
            }
        }
    }
    ports
}

/// What a route comes to by itself.
#[derive(Debug)]
pub(super) struct Own {
    tests: Vec<HeaderTest>,
    /// What is offered of each server.
    offers: Vec<Offer>,
}

impl Own {
    fn of(key: &Key, spec: &MCPRoute, notes: &mut Notes) -> Self {
        let servers = spec.backend_refs.iter().enumerate();
        Self {
            tests: tests(key, spec, notes),
            offers: servers
                .map(|(index, server)| {
                    offer::resolve(key, &format!("spec.backendRefs[{index}]"), server, notes)
                })
                .collect(),
        }
    }
}

fn tests(key: &Key, spec: &MCPRoute, notes: &mut Notes) -> Vec<HeaderTest> {
    let mut tests = Vec::new();
    for (index, header) in spec.headers.iter().enumerate() {
        let kind = header.kind.unwrap_or(HeaderMatchKind::Exact);
        match HeaderTest::new(&header.name, &header.value, kind) {
            Ok(test) => tests.push(test),
            Err(message) => notes.refuse(KIND, key, "Invalid", format!("spec.headers[{index}]"), message),
        }
    }
    tests
}

fn route(
    from: &Reach<'_>,
    key: &Key,
    (declared, own): (&Declared<MCPRoute>, &Own),
    access: &mut Access,
    notes: &mut Notes,
) -> Route {
    let spec = &declared.spec;
    let max_event = spec.max_event_bytes.and_then(|own| usize::try_from(own).ok());
    let backends = spec.backend_refs.iter().zip(&own.offers).enumerate();
    let backends = backends.map(|(index, server)| mcp_route::Backend {
        max_event: max_event.unwrap_or(MAX_EVENT),
        ..backend(from, key, index, server, notes)
    });
    let backends = backends.collect();
    let shut = Guards::of(from.resources).cover(KIND, key, &spec.parent_refs);
    if let Some(reason) = &shut {
        notes.unresolved(KIND, key, "GuardNotServed", None, reason.as_str());
    }
    Route {
        id: Arc::from(key.to_string()),
        sealed: sealed(key, spec),
        path: spec.path.clone().unwrap_or_else(|| PATH.to_owned()),
        below: spec.path_match.unwrap_or_default() == PathMatch::Prefix,
        backends,
        prefix: match spec.tool_name_prefix.unwrap_or_default() {
            ToolNamePrefix::Always => Prefix::Always,
            ToolNamePrefix::Conditional => Prefix::Conditional,
            ToolNamePrefix::Never => Prefix::Never,
        },
        max_name: (spec.max_tool_name_length)
            .and_then(|own| usize::try_from(own).ok())
            .unwrap_or(name::MAX_NAME),
        modern: spec.protocol.and_then(Protocol::is_modern),
        server: spec.server_info.clone(),
        paged: spec.pagination.unwrap_or_default() == Pagination::Cursor,
        plain_errors: spec.error_format.unwrap_or_default() == ErrorFormat::Text,
        closed: spec.failure_mode.unwrap_or_default() == FailureMode::Closed,
        origins: spec.allowed_origins.clone(),
        hosts: spec
            .allowed_hosts
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect(),
        hostnames: !spec.hostnames.is_empty(),
        session_ttl: match spec.session_ttl {
            Some(own) => own.0,
            None => SESSION_TTL,
        },
        max_token: spec
            .max_session_token_bytes
            .map_or(MAX_TOKEN, |own| usize::try_from(own).unwrap_or(MAX_TOKEN)),
        words: spans::words(KIND, key, &declared.metadata, notes),
        access: access::own(from, key, spec, access, notes),
        shut,
        treated: None,
    }
}

/// Returns whether the route says itself how long a call to a server may take.
fn is_timed(reference: &BackendRef) -> bool {
    let timeouts = reference.timeouts.as_ref();
    timeouts.is_some_and(|timeouts| timeouts.call.is_some())
}

/// Returns what sessions of the route are good for.
fn sealed(key: &Key, spec: &MCPRoute) -> Arc<str> {
    match spec.on_config_change.unwrap_or_default() {
        OnConfigChange::Overlay => Arc::from(key.to_string()),
        // Every replica that is configured alike comes to the same. Secrets are no part of it.
        OnConfigChange::Reinit => {
            let now = u128::from_be_bytes(session::fingerprint(&format!("{spec:?}")));
            Arc::from(format!("{key}#{now:032x}"))
        }
    }
}

fn backend(
    from: &Reach<'_>,
    key: &Key,
    index: usize,
    (reference, offer): (&BackendRef, &Offer),
    notes: &mut Notes,
) -> mcp_route::Backend {
    let field = format!("spec.backendRefs[{index}]");
    let reach = reach(from, key, reference, notes).map_err(|(reason, message)| {
        notes.unresolved(KIND, key, reason, field.clone(), &message);
        message
    });
    let timeouts = reference.timeouts.clone().unwrap_or_default();
    mcp_route::Backend {
        name: Arc::from(reference.name.as_str()),
        prefix: Arc::from(reference.alias.as_ref().unwrap_or(&reference.name).as_str()),
        reach,
        modern: reference.protocol.and_then(Protocol::is_modern),
        offer: offer.clone(),
        forward: reference
            .forward_headers
            .iter()
            .filter_map(|own| {
                let from = HeaderName::try_from(own.name.as_str()).ok()?;
                let to = own.backend_header.as_deref().unwrap_or(&own.name);
                Some((from, HeaderName::try_from(to).ok()?))
            })
            .collect(),
        open_timeout: timeouts.initialize.map_or(OPEN_TIMEOUT, |own| own.0),
        list_timeout: timeouts.list.map_or(LIST_TIMEOUT, |own| own.0),
        call_timeout: timeouts.call.map_or(CALL_TIMEOUT, |own| own.0),
        tool_timeouts: timeouts
            .tools
            .into_iter()
            .map(|own| (own.tool, own.call.0))
            .collect(),
        list_ttl: reference.list_cache_ttl.map_or(Duration::ZERO, |own| own.0),
        max_event: MAX_EVENT,
        traffic: None,
    }
}

fn reach(
    from: &Reach<'_>,
    key: &Key,
    reference: &BackendRef,
    notes: &mut Notes,
) -> Result<mcp_route::Reach, Trouble> {
    if let Some(stdio) = &reference.stdio {
        return Ok(mcp_route::Reach::Program(program(stdio)));
    }
    let to = Place::of(&reference.object(), &key.namespace)?;
    let route = End {
        kind: KIND,
        ..End::route(key)
    };
    from.permit(&[route], &to, notes)?;
    let (endpoints, tls) = from.endpoints(&to, notes)?;
    let credential = credential::resolve(from.resources, key, reference, notes)?;
    Ok(mcp_route::Reach::Http(Http {
        id: Arc::from(format!("mcp/{}", to.id())),
        endpoints,
        tls,
        path: reference.path.clone().unwrap_or_else(|| PATH.to_owned()),
        key: credential,
        headers: reference
            .headers
            .iter()
            .filter_map(|own| Some((HeaderName::try_from(own.name.as_str()).ok()?, own.value.clone())))
            .collect(),
    }))
}

fn program(stdio: &Stdio) -> Program {
    let env = stdio.env.iter().map(|own| (own.name.clone(), own.value.clone()));
    let words: Vec<&str> = [stdio.command.as_str()]
        .into_iter()
        .chain(stdio.args.iter().map(String::as_str))
        .collect();
    Program {
        id: Arc::from(words.join(" ")),
        command: stdio.command.clone(),
        args: stdio.args.clone(),
        env: env.collect(),
        cwd: stdio.cwd.clone(),
        shared: stdio.shared,
    }
}

/// Checks a route in itself, as the cluster's API would.
pub(super) fn validate(spec: &MCPRoute, faults: &mut Faults) {
    faults.at_most(16, spec.parent_refs.len(), "spec.parentRefs");
    for (index, parent) in spec.parent_refs.iter().enumerate() {
        let kind = parent.kind.as_deref().unwrap_or("Gateway");
        let group = parent.group.as_deref().unwrap_or(GATEWAY_API);
        let wrong = (group, kind) != (GATEWAY_API, "Gateway");
        let field = format!("spec.parentRefs[{index}]");
        faults.add_if(wrong, field.clone(), "only Gateway is supported");
        faults.filled(&parent.name, format!("{field}.name"));
    }
    faults.at_most(16, spec.hostnames.len(), "spec.hostnames");
    for (index, name) in spec.hostnames.iter().enumerate() {
        faults.hostname(name, format!("spec.hostnames[{index}]"));
    }
    faults.at_most(16, spec.headers.len(), "spec.headers");
    let fits = |bytes: u32| (256..=1_048_576).contains(&bytes);
    faults.add_if(
        !spec.max_session_token_bytes.is_none_or(fits),
        "spec.maxSessionTokenBytes",
        "expected a number from 256 to 1048576",
    );
    let fits = |bytes: u32| (1024..=67_108_864).contains(&bytes);
    faults.add_if(
        !spec.max_event_bytes.is_none_or(fits),
        "spec.maxEventBytes",
        "expected a number from 1024 to 67108864",
    );
    path(spec.path.as_deref(), "spec.path", faults);
    // The end of a session is told in seconds.
    let short = spec.session_ttl.is_some_and(|own| own.0 < SECOND);
    faults.add_if(short, "spec.sessionTTL", "must be at least 1s");
    let odd = spec
        .max_tool_name_length
        .is_some_and(|own| !(32..=256).contains(&own));
    faults.add_if(odd, "spec.maxToolNameLength", "must be between 32 and 256");
    if let Some(server) = &spec.server_info {
        faults.filled(&server.name, "spec.serverInfo.name");
        faults.filled(&server.version, "spec.serverInfo.version");
    }
    faults.add_if(
        spec.backend_refs.is_empty(),
        "spec.backendRefs",
        "must have at least 1 item",
    );
    faults.at_most(256, spec.backend_refs.len(), "spec.backendRefs");
    let mut names = std::collections::BTreeSet::new();
    let unlike = |index: usize, alias: &String| {
        let mut others = spec
            .backend_refs
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        others.all(|(_, other)| *alias != other.name && Some(alias) != other.alias.as_ref())
    };
    for (index, reference) in spec.backend_refs.iter().enumerate() {
        let field = format!("spec.backendRefs[{index}]");
        if let Some(alias) = &reference.alias {
            let message = "another server has this name";
            faults.add_if(!unlike(index, alias), format!("{field}.alias"), message);
        }
        let repeated = !names.insert(&reference.name);
        faults.add_if(
            repeated,
            format!("{field}.name"),
            "all backendRefs names must be unique",
        );
        validate_backend(reference, &field, faults);
    }
}

fn validate_backend(reference: &BackendRef, field: &str, faults: &mut Faults) {
    if let Err(error) = name::check(&reference.name) {
        faults.add(format!("{field}.name"), error.to_string());
    }
    if let Some(Err(error)) = reference.alias.as_deref().map(name::check) {
        faults.add(format!("{field}.alias"), error.to_string());
    }
    let kind = (
        reference.group.as_deref().unwrap_or_default(),
        reference.kind.as_deref().unwrap_or("Service"),
    );
    let known = [("", "Service"), (ENVOY, "Backend")].contains(&kind) || reference.stdio.is_some();
    faults.add_if(
        !known,
        field,
        "must refer to a Service or to a Backend of Envoy Gateway",
    );
    path(reference.path.as_deref(), &format!("{field}.path"), faults);
    offer::validate(reference, field, faults);
    credential::validate(reference, field, faults);
    faults.at_most(
        32,
        reference.forward_headers.len(),
        format!("{field}.forwardHeaders"),
    );
    faults.at_most(32, reference.headers.len(), format!("{field}.headers"));
    for (index, own) in reference.headers.iter().enumerate() {
        let wrong = HeaderName::try_from(own.name.as_str()).is_err();
        let field = format!("{field}.headers[{index}]");
        faults.add_if(wrong, field.clone(), "expected the name of a header");
        let of_the_call = !own.name.eq_ignore_ascii_case("host") && mcp_route::is_of_the_call(&own.name);
        faults.add_if(of_the_call, field, OF_THE_CALL);
    }
    if let Some(own) = &reference.timeouts {
        for (limit, name) in [
            (own.initialize, "initialize"),
            (own.list, "list"),
            (own.call, "call"),
        ] {
            lasts(limit, &format!("{field}.timeouts.{name}"), faults);
        }
    }
    let tools = reference.timeouts.as_ref().map_or(&[][..], |own| &own.tools);
    faults.at_most(64, tools.len(), format!("{field}.timeouts.tools"));
    for (index, own) in tools.iter().enumerate() {
        let field = format!("{field}.timeouts.tools[{index}]");
        lasts(Some(own.call), &format!("{field}.call"), faults);
        let field = format!("{field}.tool");
        faults.filled(&own.tool, field.clone());
        let twice = tools.iter().take(index).any(|before| before.tool == own.tool);
        faults.add_if(twice, field, "the tool has another time already");
    }
    if let Some(stdio) = &reference.stdio {
        faults.filled(&stdio.command, format!("{field}.stdio.command"));
    }
    for (index, own) in reference.forward_headers.iter().enumerate() {
        let names = [Some(own.name.as_str()), own.backend_header.as_deref()];
        let wrong = names
            .into_iter()
            .flatten()
            .any(|name| HeaderName::try_from(name).is_err());
        let field = format!("{field}.forwardHeaders[{index}]");
        faults.add_if(wrong, field.clone(), "expected the name of a header");
        let to = own.backend_header.as_deref().unwrap_or(&own.name);
        faults.add_if(mcp_route::is_of_the_call(to), field, OF_THE_CALL);
    }
}

/// Checks that a time is one in which something can happen.
fn lasts(written: Option<Written>, field: &str, faults: &mut Faults) {
    let none = written.is_some_and(|own| own.0.is_zero());
    faults.add_if(none, field, "must be longer than 0s");
}

fn path(written: Option<&str>, field: &str, faults: &mut Faults) {
    let Some(path) = written else {
        return;
    };
    let clean = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let good = path.len() <= 1024 && path.starts_with('/') && clean;
    faults.add_if(!good, field, "expected a path of at most 1024 characters");
}

const KIND: &str = "MCPRoute";
const OF_THE_CALL: &str = "the gateway itself says this header of its calls";
/// The path of a route or server that says none.
pub(super) const PATH: &str = "/mcp";
const SECOND: Duration = Duration::from_secs(1);
const SESSION_TTL: Duration = Duration::from_secs(24 * 3600);
const MAX_TOKEN: usize = 16 * 1024;
const MAX_EVENT: usize = 4 * 1024 * 1024;
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
const CALL_TIMEOUT: Duration = Duration::from_secs(30 * 60);
