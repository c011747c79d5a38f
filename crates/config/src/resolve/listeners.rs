//! Which ports are served, how connections are encrypted there, and which routes may attach.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{End, Notes, certificates};
use crate::{
    Key, Resources, Severity,
    certificate::Authorities,
    encryption::{ClientCertificates, ClientRules, Handshake, ServerTls},
    host::Host,
    intake::Intake,
    kind::{
        AI, GATEWAY_API, Gateway,
        gateway::{self, From, FrontendTls, ListenerTls, PortTls},
    },
    report::{ConditionKind, ListenerStatus},
    resources::Declared,
};

/// The listeners that are served, by Gateway.
pub(super) type Listeners = BTreeMap<Key, Vec<Listener>>;

/// A declared listener that is served.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) host: Host,
    /// Set where connections are encrypted.
    pub(super) tls: Option<Arc<ServerTls>>,
    /// Set where a policy says how connections and requests are taken.
    pub(super) intake: Option<Arc<Intake>>,
    kinds: Vec<&'static str>,
    /// The namespaces whose routes may attach; `None` for all.
    namespaces: Option<BTreeSet<String>>,
}

impl Listener {
    /// Returns whether routes of that kind may attach.
    pub(super) fn takes(&self, kind: &str) -> bool {
        self.kinds.contains(&kind)
    }

    /// Returns whether routes of that namespace may attach.
    pub(super) fn allows(&self, namespace: &str) -> bool {
        let listed = self.namespaces.as_ref();
        listed.is_none_or(|namespaces| namespaces.contains(namespace))
    }
}

pub(super) fn resolve(resources: &Resources, notes: &mut Notes) -> Listeners {
    for (key, class) in &resources.gateway_classes {
        if !CONTROLLERS.contains(&class.spec.controller_name.as_str()) {
            let message = "the class belongs to another controller: its Gateways are not served";
            let field = "spec.controllerName";
            notes.warn("GatewayClass", key, "OtherController", field, message);
        }
    }
    let mut gateways: Vec<_> = resources.gateways.iter().collect();
    gateways.sort_by_key(|(_, gateway)| {
        let created = gateway.metadata.creation_timestamp;
        (created.is_none(), created)
    });
    let mut listeners = Listeners::new();
    // Whether a port is encrypted is decided by the first listener there.
    let mut encrypted = BTreeMap::new();
    for (key, gateway) in gateways {
        if !notes.accepts(KIND, key) || !ours(resources, key, &gateway.spec, notes) {
            continue;
        }
        remark(key, gateway, notes);
        let declared = gateway.spec.listeners.iter().enumerate();
        let served = declared.filter_map(|(index, spec)| {
            let place = Place {
                resources,
                gateway: key,
                frontend: gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()),
                index,
                spec,
            };
            let listener = place.resolve(&mut encrypted, notes);
            notes.listener(key, place.status(listener.as_ref()));
            listener.ok()
        });
        let served = served.collect();
        listeners.insert(key.clone(), served);
    }
    listeners
}

/// Returns whether the Gateway's class is one of ours. Files that declare no class at all mean us.
fn ours(resources: &Resources, key: &Key, gateway: &Gateway, notes: &mut Notes) -> bool {
    let class = Key::new("", &gateway.gateway_class_name);
    let field = "spec.gatewayClassName".to_owned();
    match resources.gateway_classes.get(&class) {
        None if resources.gateway_classes.is_empty() => true,
        None => {
            let message = format!("GatewayClass {class} does not exist");
            notes.refuse(KIND, key, "InvalidClass", field, message);
            false
        }
        Some(declared) => {
            notes.used("GatewayClass", &class);
            let controller = &declared.spec.controller_name;
            let ours = CONTROLLERS.contains(&controller.as_str());
            if !ours {
                let message = format!("class {class} belongs to {controller}: the Gateway is not served");
                notes.refuse(KIND, key, "OtherController", field, message);
            }
            ours
        }
    }
}

/// Says what a Gateway declares and this version does not do.
fn remark(key: &Key, gateway: &Declared<Gateway>, notes: &mut Notes) {
    let spec = &gateway.spec;
    let mut unsupported = |present: bool, field: &str, message: &str| {
        if present {
            notes.unsupported(KIND, key, Severity::Warning, field, message);
        }
    };
    unsupported(
        !spec.addresses.is_empty(),
        "spec.addresses",
        "addresses have no effect: the command says where to listen",
    );
    unsupported(
        spec.allowed_listeners.is_some(),
        "spec.allowedListeners",
        "ListenerSets are not served by this version",
    );
    unsupported(
        spec.default_scope.is_some(),
        "spec.defaultScope",
        "routes without parents are not attached by this version",
    );
}

/// A listener as it was declared.
struct Place<'a> {
    resources: &'a Resources,
    gateway: &'a Key,
    /// What the Gateway says of the certificates of clients.
    frontend: Option<&'a FrontendTls>,
    index: usize,
    spec: &'a gateway::Listener,
}

/// Why a listener is not served: about what, in the Gateway API's word, and in a sentence.
struct Unserved {
    about: ConditionKind,
    reason: &'static str,
    message: String,
}

impl Place<'_> {
    fn field(&self, name: &str) -> String {
        format!("spec.listeners[{}].{name}", self.index)
    }

    fn resolve(&self, encrypted: &mut BTreeMap<u16, bool>, notes: &mut Notes) -> Result<Listener, Unserved> {
        let spec = self.spec;
        let secure = match spec.protocol.as_str() {
            "HTTP" => false,
            "HTTPS" => true,
            other => {
                let message = format!("{other} listeners are not served by this version");
                return Err(self.unsupported("protocol", "UnsupportedProtocol", message, notes));
            }
        };
        // Both were validated; a listener that slipped through is not served.
        let port = u16::try_from(spec.port).map_err(|_| self.malformed("port"))?;
        let host = match spec.hostname.as_deref() {
            None | Some("") => Host::Any,
            Some(name) => Host::parse(name).ok_or_else(|| self.malformed("hostname"))?,
        };
        let tls = secure.then(|| self.tls(&host, notes)).transpose()?;
        if *encrypted.entry(port).or_insert(secure) != secure {
            let message = format!("another listener on port {port} has another protocol, and was first");
            notes.conflicted(
                KIND,
                self.gateway,
                "ProtocolConflict",
                self.field("protocol"),
                &message,
            );
            return Err(Unserved {
                about: ConditionKind::Conflicted,
                reason: "ProtocolConflict",
                message,
            });
        }
        Ok(Listener {
            name: spec.name.clone(),
            port,
            host,
            tls: tls.map(Arc::new),
            intake: None,
            kinds: self.kinds(notes),
            namespaces: self.namespaces(notes),
        })
    }

    fn unsupported(
        &self,
        field: &str,
        reason: &'static str,
        message: impl Into<String>,
        notes: &mut Notes,
    ) -> Unserved {
        let message = message.into();
        notes.unsupported(
            KIND,
            self.gateway,
            Severity::Error,
            self.field(field).as_str(),
            &message,
        );
        Unserved {
            about: ConditionKind::Accepted,
            reason,
            message,
        }
    }

    fn malformed(&self, field: &str) -> Unserved {
        Unserved {
            about: ConditionKind::Accepted,
            reason: "Invalid",
            message: format!("{} is malformed", self.field(field)),
        }
    }

    /// Returns how connections are encrypted.
    fn tls(&self, host: &Host, notes: &mut Notes) -> Result<ServerTls, Unserved> {
        let none = ListenerTls::default();
        let spec = self.spec.tls.as_ref().unwrap_or(&none);
        if spec.options.is_some() {
            let message = "options of an implementation have no effect";
            let field = self.field("tls.options");
            notes.unsupported(KIND, self.gateway, Severity::Warning, field.as_str(), message);
        }
        let from = End::gateway(self.gateway);
        let mut shown = Vec::new();
        let mut trouble = None;
        for (index, reference) in spec.certificate_refs.iter().enumerate() {
            match certificates::certificate(self.resources, from, reference, notes) {
                Ok(certificate) => shown.push(certificate),
                Err((reason, message)) => {
                    let field = self.field(&format!("tls.certificateRefs[{index}]"));
                    notes.unresolved(KIND, self.gateway, reason, field, &message);
                    trouble = Some((reason, message));
                }
            }
        }
        if shown.is_empty() {
            let (reason, message) =
                trouble.unwrap_or(("InvalidCertificateRef", "there is no certificate".to_owned()));
            return Err(Unserved {
                about: ConditionKind::ResolvedRefs,
                reason,
                message,
            });
        }
        Ok(ServerTls {
            host: host.clone(),
            certificates: shown,
            handshake: Handshake::default(),
            clients: self.clients(notes)?,
        })
    }

    /// Returns which certificates clients have to show: what the listener says, then what the Gateway says of its port,
    /// then of all ports.
    fn clients(&self, notes: &mut Notes) -> Result<ClientCertificates, Unserved> {
        let own = self
            .spec
            .tls
            .as_ref()
            .and_then(|tls| tls.frontend_validation.as_ref());
        let port = |at: &PortTls| at.port == self.spec.port;
        let (field, validation) = match (own, self.frontend) {
            (Some(own), _) => (self.field("tls.frontendValidation"), own),
            (None, Some(frontend)) => match frontend.per_port.iter().position(port) {
                Some(index) => {
                    let tls = frontend
                        .per_port
                        .get(index)
                        .and_then(|at| at.tls.validation.as_ref());
                    let Some(validation) = tls else {
                        return Ok(ClientCertificates::Unasked);
                    };
                    (
                        format!("spec.tls.frontend.perPort[{index}].tls.validation"),
                        validation,
                    )
                }
                None => match frontend.default.as_ref().and_then(|tls| tls.validation.as_ref()) {
                    Some(validation) => ("spec.tls.frontend.default.validation".to_owned(), validation),
                    None => return Ok(ClientCertificates::Unasked),
                },
            },
            (None, None) => return Ok(ClientCertificates::Unasked),
        };
        if validation.mode.as_deref() == Some("AllowInsecureFallback") {
            let message = "certificates that nobody vouches for are not let in: the listener is not served";
            notes.unsupported(
                KIND,
                self.gateway,
                Severity::Error,
                format!("{field}.mode").as_str(),
                message,
            );
            return Err(Unserved {
                about: ConditionKind::Accepted,
                reason: "UnsupportedValue",
                message: message.to_owned(),
            });
        }
        let from = End::gateway(self.gateway);
        let texts = certificates::texts(
            self.resources,
            from,
            &validation.ca_certificate_refs,
            "ca.crt",
            notes,
        );
        let trusted = texts
            .map_err(|(index, message)| (format!("{field}.caCertificateRefs[{index}]"), message))
            .and_then(|texts| {
                let parsed = Authorities::parse(&texts.join("\n"));
                parsed.map_err(|message| (format!("{field}.caCertificateRefs"), message))
            });
        match trusted {
            Ok(authorities) => Ok(ClientCertificates::Required(Arc::new(ClientRules::of(
                authorities,
            )))),
            Err((field, message)) => {
                let reason = "InvalidCACertificateRef";
                notes.unresolved(KIND, self.gateway, reason, field, &message);
                Err(Unserved {
                    about: ConditionKind::ResolvedRefs,
                    reason,
                    message,
                })
            }
        }
    }

    /// Returns the kinds of routes that may attach.
    fn kinds(&self, notes: &mut Notes) -> Vec<&'static str> {
        let allowed = self.spec.allowed_routes.as_ref();
        let written = allowed
            .map(|allowed| allowed.kinds.as_slice())
            .unwrap_or_default();
        if written.is_empty() {
            return KINDS.iter().map(|(_, kind)| *kind).collect();
        }
        let mut kinds = Vec::new();
        for (index, kind) in written.iter().enumerate() {
            let group = kind.group.as_deref().unwrap_or(GATEWAY_API);
            let known = KINDS.iter().find(|known| **known == (group, kind.kind.as_str()));
            match known {
                // Our own kinds are HTTPRoutes to whoever knows no others.
                Some((_, "HTTPRoute")) => kinds.extend(["HTTPRoute", "AIGatewayRoute", "MCPRoute"]),
                Some((_, kind)) => kinds.push(*kind),
                None => {
                    let field = self.field(&format!("allowedRoutes.kinds[{index}]"));
                    let message = format!("no {} of group {group} is served", kind.kind);
                    notes.unresolved(KIND, self.gateway, "InvalidRouteKinds", field, message);
                }
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Returns the namespaces whose routes may attach; `None` for all.
    fn namespaces(&self, notes: &mut Notes) -> Option<BTreeSet<String>> {
        let allowed = self.spec.allowed_routes.as_ref();
        let allowed = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        match allowed
            .and_then(|namespaces| namespaces.from)
            .unwrap_or(From::Same)
        {
            From::All => None,
            From::Same => Some(BTreeSet::from([self.gateway.namespace.clone()])),
            From::None => Some(BTreeSet::new()),
            From::Selector => {
                let selector = allowed.and_then(|namespaces| namespaces.selector.as_ref());
                let selected = |namespace: &str| {
                    let key = Key::new("", namespace);
                    let declared = self.resources.namespaces.get(&key);
                    selector.is_some_and(|selector| {
                        selector.matches(|label| match label {
                            // Every namespace has it (Kubernetes, "Automatic labelling").
                            "kubernetes.io/metadata.name" => Some(namespace),
                            label => declared?.metadata.labels.get(label).map(String::as_str),
                        })
                    })
                };
                let found: BTreeSet<String> = namespaces(self.resources)
                    .filter(|namespace| selected(namespace))
                    .cloned()
                    .collect();
                for namespace in &found {
                    notes.used("Namespace", &Key::new("", namespace));
                }
                Some(found)
            }
        }
    }

    fn status(&self, listener: Result<&Listener, &Unserved>) -> ListenerStatus {
        ListenerStatus {
            name: self.spec.name.clone(),
            kinds: listener
                .map(|listener| listener.kinds.clone())
                .unwrap_or_default(),
            attached_routes: 0,
            trouble: listener
                .err()
                .map(|trouble| (trouble.about, trouble.reason, trouble.message.clone())),
        }
    }
}

/// Returns the namespaces that there are, as far as routes and Namespaces tell.
fn namespaces(resources: &Resources) -> impl Iterator<Item = &String> {
    let declared = resources.namespaces.keys().map(|key| &key.name);
    let routes = resources.ai_gateway_routes.keys();
    let routes = routes
        .chain(resources.http_routes.keys())
        .map(|key| &key.namespace);
    declared.chain(routes)
}

/// The controllers whose classes are served: Envoy Gateway's, so that its manifests work unchanged, and ours.
const CONTROLLERS: &[&str] = &[
    "gateway.envoyproxy.io/gatewayclass-controller",
    "tollgate.dev/gateway-controller",
];

/// The kinds of routes that are served, with their groups.
const KINDS: &[(&str, &str)] = &[
    (AI, "AIGatewayRoute"),
    (AI, "MCPRoute"),
    (GATEWAY_API, "HTTPRoute"),
];

const KIND: &str = "Gateway";
