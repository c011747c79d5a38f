//! How a service says where a request goes: the Endpoint Picker Protocol, version 1.0 (Gateway API Inference Extension,
//! proposal 004).

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::Told;

/// The header, and the name in metadata, that say where a request goes.
pub const DESTINATION: &str = "x-gateway-destination-endpoint";

/// The name in metadata of who has answered.
pub const SERVED: &str = "x-gateway-destination-endpoint-served";

/// The name in metadata of those who may be picked.
const SUBSET: &str = "x-gateway-destination-endpoint-subset";

/// The namespace of what is picked and has answered.
const NAMESPACE: &str = "envoy.lb";

/// The namespace of those who may be picked.
const HINT: &str = "envoy.lb.subset_hint";

/// The most endpoints of one answer that are looked at.
const MAX_DESTINATIONS: usize = 64;

/// Returns that one of `endpoints` is to be picked.
pub fn subset(endpoints: &[String]) -> Map<String, Value> {
    Map::from_iter([(HINT.to_owned(), json!({ SUBSET: endpoints }))])
}

/// Returns that `endpoint` has answered.
pub fn served(endpoint: &str) -> Map<String, Value> {
    Map::from_iter([(NAMESPACE.to_owned(), json!({ SERVED: endpoint }))])
}

impl Told {
    /// Returns where the metadata say that the request goes, as it is written.
    pub fn destination(&self) -> Option<&str> {
        self.metadata.get(NAMESPACE)?.get(DESTINATION)?.as_str()
    }
}

/// Returns the endpoints that are written, the most wanted first; what is none is passed over.
pub fn destinations(written: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for address in written
        .split(',')
        .filter_map(|written| written.trim().parse().ok())
    {
        if found.len() < MAX_DESTINATIONS && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}
