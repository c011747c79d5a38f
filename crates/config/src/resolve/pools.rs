//! Inference pools: their pods, and who picks among them.
//!
//! Which pods a pool has, its picker knows. Where there is none, or it does not answer, they are those that EndpointSlices
//! of the namespace name whose labels, or whose Service's, are those that the pool selects by.

use std::sync::Arc;

use http::HeaderValue;
use llm::Site;
use policy::{body::Body, ext_proc::BodyMode, headers::Headers, traffic::Connections};

use super::{
    End, Notes,
    backends::{Backends, Place, Reach, Service, credential_of},
    permitted, schemas,
};
use crate::{
    Key,
    kind::{
        InferencePool,
        ai_service_backend::ApiName,
        inference_pool::{AppProtocol, EndpointPickerRef, FailureMode},
    },
    resources::Declared,
    snapshot::{self, Backend, Endpoint, Outside, Part, Picker, Protocol, Tls},
};

/// Every InferencePool, resolved.
#[derive(Debug, Default)]
pub(super) struct Pools {
    /// As backends of routes.
    pub(super) backends: Backends,
    /// Whom their pickers are asked at.
    pickers: Outside,
}

impl Pools {
    /// Returns how a pool is called that one of `from` refers to.
    ///
    /// # Errors
    /// The reason in one word, and in a sentence.
    pub(super) fn reached(
        &self,
        reach: &Reach<'_>,
        from: End<'_>,
        pool: &Key,
        notes: &mut Notes,
    ) -> Result<Arc<Service>, (&'static str, String)> {
        let Some(service) = self.backends.get(pool) else {
            return Err(("BackendNotFound", format!("{KIND} {pool} not found")));
        };
        if !permitted(reach.resources, from, End::pool(pool), notes) {
            let message =
                format!("cross-namespace reference to {KIND} {pool} not permitted: no valid ReferenceGrant");
            return Err(("RefNotPermitted", message));
        }
        notes.used(KIND, pool);
        match &service.backend {
            Ok(_) => Ok(Arc::clone(service)),
            Err(message) => Err(("BackendNotUsable", message.clone())),
        }
    }

    /// Returns what is asked beside upstreams.
    pub(super) fn outside(self) -> Outside {
        self.pickers
    }
}

pub(super) fn resolve(reach: &Reach<'_>, notes: &mut Notes) -> Pools {
    let mut pools = Pools::default();
    for (key, declared) in &reach.resources.inference_pools {
        let backend = pool(reach, key, declared, &mut pools.pickers, notes);
        let service = Service {
            backend: backend.map(Arc::new),
            headers: Headers::default(),
            body: Body::default(),
        };
        pools.backends.insert(key.clone(), Arc::new(service));
    }
    pools
}

fn pool(
    reach: &Reach<'_>,
    key: &Key,
    declared: &Declared<InferencePool>,
    pickers: &mut Outside,
    notes: &mut Notes,
) -> Result<Backend, String> {
    if !notes.accepts(KIND, key) {
        return Err(format!("{KIND} {key} is not accepted"));
    }
    let spec = &declared.spec;
    let annotations = &declared.metadata.annotations;
    let provider = annotations.get(schemas::PROVIDER).map(String::as_str);
    let serving = schemas::declared(ApiName::OpenAI, provider).map_err(|message| {
        let field = format!("metadata.annotations[{}]", schemas::PROVIDER);
        notes.refuse(KIND, key, "UnknownProvider", field, &message);
        format!("{KIND} {key}: {message}")
    })?;
    let members = members(reach, key, spec, notes);
    let picker = match &spec.endpoint_picker_ref {
        Some(reference) => picker(reach, key, declared, reference, members.as_deref(), notes)?,
        None => None,
    };
    let credential = credential_of(reach.resources, key, &reach.policies.pool_credentials);
    let credential = credential.map_err(|(reason, message)| {
        notes.unresolved(KIND, key, reason, None, &message);
        format!("{KIND} {key}: {message}")
    })?;
    let picker = picker.map(|(picker, service)| {
        pickers.services.insert(Arc::clone(&picker.service), service);
        Arc::new(picker)
    });
    if picker.is_none() && members.as_ref().is_none_or(Vec::is_empty) {
        let message = "no picker says which pods there are, and no EndpointSlice with the labels of the selector has any";
        let field = "spec.endpointPickerRef".to_owned();
        notes.unresolved(KIND, key, "EndpointPickerRefMissing", field, message);
        return Err(format!("{KIND} {key}: {message}"));
    }
    Ok(Backend {
        id: id(reach, key),
        provider: serving.at(""),
        site: Site {
            prefix: Some("v1".to_owned()),
            ..Site::default()
        },
        endpoints: members.unwrap_or_default(),
        is_sticky: false,
        tls: None,
        credential,
        quota: None,
        prices: None,
        picker,
    })
}

/// Returns `namespace/name`, as records have it, or another name where that is an AIServiceBackend's.
fn id(reach: &Reach<'_>, key: &Key) -> Arc<str> {
    match reach.resources.ai_service_backends.contains_key(key) {
        true => Arc::from(format!("pool/{key}")),
        false => Arc::from(key.to_string()),
    }
}

/// Returns the ready pods that EndpointSlices name, at each port; `None` where none of them is about the pool.
fn members(reach: &Reach<'_>, key: &Key, spec: &InferencePool, notes: &mut Notes) -> Option<Vec<Endpoint>> {
    let addresses = reach
        .services
        .selected(&key.namespace, &spec.selector.match_labels, notes)?;
    let protocol = protocol(spec);
    let ports = spec.target_ports.iter();
    let ports: Vec<u16> = ports.filter_map(|port| u16::try_from(port.number).ok()).collect();
    let members = addresses.iter().flat_map(|address| {
        ports.iter().map(|port| Endpoint {
            protocol,
            ..Endpoint::new(address.as_str(), *port)
        })
    });
    Some(members.collect())
}

/// Returns who picks, and where it is asked; `None` where requests are to go to any pod because nobody can be asked.
///
/// # Errors
/// Why requests are refused.
fn picker(
    reach: &Reach<'_>,
    key: &Key,
    declared: &Declared<InferencePool>,
    reference: &EndpointPickerRef,
    members: Option<&[Endpoint]>,
    notes: &mut Notes,
) -> Result<Option<(Picker, snapshot::Service)>, String> {
    let fails_open = reference.failure_mode == Some(FailureMode::FailOpen);
    let body = body_mode(key, declared, notes);
    match service(reach, key, reference, notes) {
        Ok((authority, service)) => {
            let picker = Picker {
                service: Arc::from(format!("picker of {key}")),
                authority,
                body,
                may_change_modes: declared
                    .metadata
                    .annotations
                    .get(OVERRIDE)
                    .is_some_and(|value| value == "true"),
                fails_open,
                subset: members.map(|members| members.iter().map(Endpoint::written).collect()),
                protocol: protocol(&declared.spec),
            };
            Ok(Some((picker, service)))
        }
        Err(message) => {
            let field = "spec.endpointPickerRef".to_owned();
            notes.unresolved(KIND, key, "InvalidExtensionRef", field, &message);
            if fails_open {
                return Ok(None);
            }
            Err(format!("{KIND} {key}: {message}"))
        }
    }
}

/// Returns by which name a picker is asked, and where.
fn service(
    reach: &Reach<'_>,
    key: &Key,
    reference: &EndpointPickerRef,
    notes: &mut Notes,
) -> Result<(HeaderValue, snapshot::Service), String> {
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Service");
    if (group, kind) != ("", "Service") {
        return Err(format!(
            "{kind} {} is nothing that can be asked: only Services are",
            reference.name
        ));
    }
    let to = Key::new(&key.namespace, &reference.name);
    if !reach.resources.services.contains_key(&to) {
        return Err(format!("ExtensionReference service {to} not found"));
    }
    let port = reference.port.map_or(PORT, |port| port.number);
    let place = Place::Service(to.clone(), port);
    let (endpoints, tls) = reach.endpoints(&place, notes).map_err(|(_, message)| message)?;
    let name = format!("{}.{}.svc", to.name, to.namespace);
    let in_clear = endpoints
        .iter()
        .all(|endpoint| endpoint.protocol == Protocol::Http2);
    let tls = match tls {
        Some(tls) => Some(tls),
        None if in_clear => None,
        // The protocol is spoken with certificates that nobody has signed.
        None => Some(Tls {
            unverified: true,
            ..Tls::to(name.as_str())
        }),
    };
    let authority = HeaderValue::try_from(format!("{name}:{port}")).map_err(|error| error.to_string())?;
    let service = snapshot::Service {
        parts: vec![Part {
            endpoints,
            weight: 1,
            reserve: false,
        }],
        tls: tls.map(|tls| Tls {
            protocols: vec!["h2".to_owned()],
            ..tls
        }),
        connections: Connections::default(),
        retries: 0,
    };
    Ok((authority, service))
}

/// Returns how the picker sees bodies.
fn body_mode(key: &Key, declared: &Declared<InferencePool>, notes: &mut Notes) -> BodyMode {
    match declared.metadata.annotations.get(MODE).map(String::as_str) {
        Some("buffered") => BodyMode::Buffered,
        Some("duplex") | None => BodyMode::Duplex,
        Some(other) => {
            let field = format!("metadata.annotations[{MODE}]");
            let message = format!("\"{other}\" is neither duplex nor buffered; duplex is taken");
            notes.warn(KIND, key, "UnknownBodyMode", field.as_str(), message);
            BodyMode::Duplex
        }
    }
}

/// Returns what is spoken with the pods in clear.
fn protocol(spec: &InferencePool) -> Protocol {
    match spec.app_protocol.unwrap_or_default() {
        AppProtocol::Http => Protocol::Http1,
        AppProtocol::H2c => Protocol::Http2,
    }
}

const KIND: &str = "InferencePool";

/// Says how a picker sees bodies: `duplex` or `buffered`.
const MODE: &str = "aigateway.envoyproxy.io/processing-body-mode";

/// Says whether a picker may change what it sees.
const OVERRIDE: &str = "aigateway.envoyproxy.io/allow-mode-override";

/// The port of a picker of which none is named.
const PORT: u32 = 9002;
