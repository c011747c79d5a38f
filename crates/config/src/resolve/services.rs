//! Services: the addresses behind one, as EndpointSlices give them, or as a cluster's names do.

use std::{collections::BTreeMap, net::IpAddr};

use super::Notes;
use crate::{
    Key, Resources, Severity,
    kind::{EndpointSlice, Service, service::ServicePort},
    snapshot::{Endpoint, Protocol},
};

/// The EndpointSlices of each Service.
pub(super) struct Services<'r> {
    resources: &'r Resources,
    slices: BTreeMap<(&'r str, &'r str), Vec<(&'r Key, &'r EndpointSlice)>>,
}

impl<'r> Services<'r> {
    pub(super) fn new(resources: &'r Resources) -> Self {
        let mut slices: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, slice) in &resources.endpoint_slices {
            if let Some(service) = slice.metadata.labels.get(SERVICE_NAME) {
                let place = (key.namespace.as_str(), service.as_str());
                slices.entry(place).or_default().push((key, &*slice.spec));
            }
        }
        Self { resources, slices }
    }

    /// Returns whether a Service wants requests of one client to go to one endpoint.
    pub(super) fn is_sticky(&self, key: &Key) -> bool {
        let service = self.resources.services.get(key);
        let affinity = service.and_then(|service| service.spec.session_affinity.as_deref());
        affinity == Some("ClientIP")
    }

    /// Returns the addresses of the ready pods of a namespace that have `labels`, as far as EndpointSlices tell: of those
    /// whose own labels, or whose Service's, are these, or whose Service selects by these. `None` where there is none such.
    pub(super) fn selected(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        notes: &mut Notes,
    ) -> Option<Vec<String>> {
        let mut found: Option<Vec<String>> = None;
        for (key, slice) in &self.resources.endpoint_slices {
            let own = &slice.metadata.labels;
            let service = own.get(SERVICE_NAME);
            let service = service.map(|service| Key::new(namespace, service));
            let service = service.and_then(|service| self.resources.services.get(&service));
            let is_meant = || {
                let of_service = service.is_some_and(|service| {
                    has(&service.metadata.labels, labels) || selects(&service.spec, labels)
                });
                has(own, labels) || of_service
            };
            if key.namespace != namespace || !is_meant() {
                continue;
            }
            notes.used("EndpointSlice", key);
            let all = service.is_some_and(|service| service.spec.publish_not_ready_addresses == Some(true));
            let addresses = ready_addresses(&slice.spec, all).cloned();
            found.get_or_insert_default().extend(addresses);
        }
        if let Some(found) = &mut found {
            found.sort();
            found.dedup();
        }
        found
    }

    /// Returns the addresses behind port `port` of a Service.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn endpoints(&self, key: &Key, port: u32, notes: &mut Notes) -> Result<Vec<Endpoint>, String> {
        let service = self.resources.services.get(key);
        let service = service.ok_or_else(|| format!("Service {key} does not exist"))?;
        notes.used("Service", key);
        let spec = &service.spec;
        let declared = spec.ports.iter().find(|declared| declared.port == port);
        let declared = declared.ok_or_else(|| format!("Service {key} has no port {port}"))?;
        let number = u16::try_from(port).map_err(|_| format!("Service {key}: the port is out of range"))?;
        let slices = self.slices.get(&(key.namespace.as_str(), key.name.as_str()));
        let Some(slices) = slices else {
            return Ok(vec![Endpoint {
                protocol: protocol(declared),
                ..Endpoint::new(address(key, spec), number)
            }]);
        };
        let mut found = Vec::new();
        for (slice, spec) in slices {
            notes.used("EndpointSlice", slice);
            found.extend(ready(
                spec,
                declared,
                service.spec.publish_not_ready_addresses == Some(true),
            ));
        }
        found.sort();
        found.dedup();
        if found.is_empty() {
            return Err(format!("no endpoint of Service {key} is ready"));
        }
        Ok(found)
    }
}

/// Says what Services declare and this version does not do.
pub(super) fn remark(resources: &Resources, notes: &mut Notes) {
    for (key, service) in &resources.services {
        let spec = &service.spec;
        let local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let found = [
            (local, "spec.internalTrafficPolicy", NODES),
            (
                spec.traffic_distribution.is_some(),
                "spec.trafficDistribution",
                NODES,
            ),
        ];
        for (present, field, message) in found {
            if present {
                notes.unsupported("Service", key, Severity::Warning, field, message);
            }
        }
    }
}

/// Returns where a Service is reached whose endpoints are not declared: a cluster knows it by address or name.
fn address(key: &Key, service: &Service) -> String {
    let name = service.external_name.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = name {
        return name.trim_end_matches('.').to_ascii_lowercase();
    }
    let address = service.cluster_ip.as_deref();
    match address.filter(|address| address.parse::<IpAddr>().is_ok()) {
        Some(address) => address.to_owned(),
        None => format!("{}.{}.svc", key.name, key.namespace),
    }
}

/// Returns the endpoints of a slice that are ready, or all of them, at the port that `service` is about.
fn ready(slice: &EndpointSlice, service: &ServicePort, all: bool) -> Vec<Endpoint> {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let ports = slice
        .ports
        .iter()
        .filter(|port| name(&port.name) == name(&service.name))
        .filter_map(|port| u16::try_from(port.port?).ok());
    let ports: Vec<u16> = ports.collect();
    ready_addresses(slice, all)
        .flat_map(|address| {
            ports.iter().map(|port| Endpoint {
                protocol: protocol(service),
                ..Endpoint::new(address.clone(), *port)
            })
        })
        .collect()
}

/// Returns the addresses of a slice that are ready, or all of them.
fn ready_addresses(slice: &EndpointSlice, all: bool) -> impl Iterator<Item = &String> {
    let endpoints = slice.endpoints.iter();
    let ready =
        endpoints.filter(move |endpoint| all || endpoint.conditions.unwrap_or_default().ready != Some(false));
    ready.filter_map(|endpoint| endpoint.addresses.first())
}

/// Returns whether all of `wanted` are among `labels`.
fn has(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Returns whether the pods of a Service have all of these labels.
fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let selector = service.selector.as_ref();
    let of = |name: &str| selector?.get(name)?.as_str();
    labels
        .iter()
        .all(|(name, value)| of(name) == Some(value.as_str()))
}

/// Returns what is spoken at a port in clear.
fn protocol(port: &ServicePort) -> Protocol {
    match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => Protocol::Http2,
        Some(_) | None => Protocol::Http1,
    }
}

const NODES: &str = "has no effect: it is not known which node or zone an endpoint is in";

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
