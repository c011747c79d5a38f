//! Declared to resolved: the passes, in order.
//!
//! 1. `validate`: is each resource well-formed in itself?
//! 2. `listeners`: which ports are served? `intake`: how are clients taken there?
//! 3. `policies`: which credential and which encryption does each backend have?
//! 4. `backends`: which backends can be called, and how? `pools`: which pods are, and who picks among them?
//! 5. `proxies`: which of them are reached through a proxy?
//! 6. `access`, `traffic`: which policies guard what, and how are upstreams treated?
//! 7. `mcp`: which MCP servers stand behind which paths?
//! 8. `routes`: which rules serve at which listeners, and by which backends? `http_routes` adds those of plain
//!    requests.
//!
//! Each pass says what it finds to one `Notes`, and takes only what the passes before it accepted. What is
//! broken fails closed: a backend whose credential or encryption is not as declared is not called at all.

use crate::{Report, Resources, Severity, Snapshot, kind::KindInfo, router::McpRouter};

mod access;
mod access_logs;
mod attach;
mod backends;
mod certificates;
mod credential;
mod filters;
pub mod holding;
mod http_routes;
mod intake;
mod listeners;
mod log_receivers;
mod mcp;
mod memory;
mod metering;
mod notes;
mod parameters;
mod policies;
mod pools;
mod proxies;
mod reference;
mod routes;
mod schemas;
mod services;
mod spans;
mod targets;
mod terms;
mod traffic;
mod validate;

use backends::Reach;
use memory::Memory;
use notes::Notes;
use reference::{End, in_place, ordered, permitted, target, unreadable};
use services::Services;

pub use schemas::{PROVIDER, schema_of};

/// Resolves everything that was declared. `loaded`, in seconds since the Unix epoch, is the age of models of
/// which nothing is said; it should stay the same as long as the process lives.
///
/// Total: what is broken fails closed and is reported; the rest is served.
pub fn resolve(resources: &Resources, loaded: u64) -> (Snapshot, Report) {
    Resolver::default().resolve(resources, loaded)
}

/// Resolves time and again, and compiles only what is not as it was the time before.
#[derive(Debug, Default)]
pub struct Resolver {
    memory: Memory,
}

impl Resolver {
    /// Does what [`resolve`] does, with what is known from the time before.
    pub fn resolve(&mut self, resources: &Resources, loaded: u64) -> (Snapshot, Report) {
        self.memory.turn(loaded);
        passes(resources, loaded, &mut self.memory)
    }
}

fn passes(resources: &Resources, loaded: u64, memory: &mut Memory) -> (Snapshot, Report) {
    let mut notes = Notes::new(resources);
    unserved(resources, &mut notes);
    validate::check(resources, &mut notes);
    metering::check(resources, &mut notes);
    let mut listeners = listeners::resolve(resources, &mut notes);
    intake::resolve(resources, &mut listeners, &mut notes);
    let policies = policies::resolve(resources, &mut notes);
    let reach = Reach {
        resources,
        services: Services::new(resources),
        policies: &policies,
    };
    let mut backends = backends::resolve(&reach, &mut notes);
    let ways = proxies::of_gateways(resources, &mut notes);
    proxies::resolve(resources, &ways, &mut backends, &mut notes);
    let mut pools = pools::resolve(&reach, &mut notes);
    memory.settle(&mut backends, &mut pools.backends);
    let mut access = access::resolve(&reach, &mut notes);
    let mut logs = access_logs::resolve(&reach, &listeners, &mut notes);
    let mut traffic = traffic::resolve(resources, &mut notes);
    let tools = mcp::resolve(&reach, memory, &listeners, &mut access, &mut traffic, &mut notes);
    let mut snapshot = routes::resolve(
        &reach,
        (loaded, memory),
        listeners,
        (&backends, &pools, &ways),
        &mut access,
        traffic,
        &mut notes,
    );
    for (port, rows) in tools {
        snapshot.listeners.entry(port).or_default().mcp = McpRouter::new(rows);
    }
    snapshot.outside = access.finish(&mut notes);
    snapshot.outside.join(pools.outside());
    for (port, listener) in &mut snapshot.listeners {
        listener.access_logs = logs.remove(port);
    }
    (snapshot, notes.finish())
}

fn unserved(resources: &Resources, notes: &mut Notes) {
    for (kind, key) in resources.unserved.keys() {
        let info = KindInfo::find(kind);
        let (severity, effect) = if info.is_some_and(|info| info.guards) {
            (Severity::Error, "what it guards is refused")
        } else if info.is_some_and(|info| matches!(info.group, "" | "apps")) {
            (Severity::Note, "it has no effect")
        } else {
            (Severity::Warning, "it has no effect")
        };
        let message = format!("{kind} is not served by this version: {effect}");
        notes.unsupported(kind, key, severity, None, message);
    }
}
