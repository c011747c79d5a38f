//! One document: which kind it is, and what it says.

use std::{cell::RefCell, sync::Arc};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Fault, Severity, Surroundings,
    decode::{DecodeError, Unknown, decode, join, nearest},
    node::{self, Data, Node},
    piece::Piece,
    substitute::{Remark, substitute},
};
use crate::{
    Key, Origin, Resources,
    kind::{BackendSecurityPolicy, ConfigMapData, EndpointSlice, KINDS, KindInfo, Metadata, config_map},
    places::Position,
    resources::{Declared, Map},
};

/// Reads the documents of one text.
pub(super) struct Reader<'a> {
    pub(super) surroundings: &'a Surroundings<'a>,
    piece: Piece,
}

/// A document whose kind is known.
#[derive(Clone, Copy)]
pub(super) struct Document<'n> {
    pub(super) node: &'n Node,
    pub(super) kind: &'static KindInfo,
    pub(super) version: &'n str,
    /// Where it lies: empty, or `items[0]` in a list.
    pub(super) path: &'n str,
}

/// The shape of most documents.
#[derive(Deserialize)]
struct Shape<S> {
    #[serde(rename = "apiVersion")]
    _api_version: Option<IgnoredAny>,
    #[serde(rename = "kind")]
    _kind: Option<IgnoredAny>,
    metadata: Metadata,
    spec: S,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(surroundings: &'a Surroundings<'a>) -> Self {
        Self {
            surroundings,
            piece: Piece::default(),
        }
    }

    /// Returns what the documents of `text` say.
    pub(super) fn read(mut self, text: &str) -> Piece {
        let (documents, error) = node::documents(text);
        for mut document in documents {
            if self.substitute(&mut document) {
                self.document(&document, "");
            } else {
                self.unreadable(&document);
            }
        }
        if let Some(error) = error {
            self.piece.broken = true;
            self.say(Severity::Error, error.at, "", error.reason);
        }
        self.piece
    }

    /// Replaces variables and returns whether the document can still be read.
    fn substitute(&mut self, document: &mut Node) -> bool {
        let mut remarks = Vec::new();
        substitute(document, self.surroundings.environment, &mut |at, remark| {
            remarks.push((at, remark));
        });
        let readable = !remarks.iter().any(|(_, remark)| *remark == Remark::Unclosed);
        for (at, remark) in remarks {
            match remark {
                Remark::Unset(name) => {
                    let message = format!("${name} is not set: nothing stands in its place");
                    self.say(Severity::Warning, at, "", message);
                }
                Remark::Unclosed => self.say(Severity::Error, at, "", "closing brace expected"),
            }
        }
        readable
    }

    fn document(&mut self, node: &Node, path: &str) {
        let text = |name| {
            node.get(name)
                .and_then(Node::text)
                .filter(|text| !text.is_empty())
        };
        let Some(kind) = text("kind") else {
            let message = "expected an object with apiVersion, kind and metadata";
            return self.say(Severity::Error, node.at, path, message);
        };
        if let Some(Data::Sequence(items)) = node.get("items").map(|items| &items.data)
            && kind.ends_with("List")
        {
            for (index, item) in items.iter().enumerate() {
                self.document(item, &join(path, &format!("items[{index}]")));
            }
            return;
        }
        let at = node.get("kind").map_or(node.at, |kind| kind.at);
        let Some(info) = KindInfo::find(kind) else {
            let near = nearest(kind, KINDS.iter().map(|kind| kind.name));
            let hint = near
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            let message = format!("unknown kind \"{kind}\"{hint}");
            self.unreadable(node);
            return self.say(Severity::Error, at, &join(path, "kind"), message);
        };
        let Some(api_version) = text("apiVersion") else {
            let message = format!("\"apiVersion\" is required, such as {}", api_version(info));
            self.unreadable(node);
            return self.say(Severity::Error, node.at, path, message);
        };
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let at = node.get("apiVersion").map_or(node.at, |version| version.at);
        if group != info.group {
            let message = format!(
                "unknown kind \"{kind}\" in group \"{group}\"; did you mean {}?",
                self::api_version(info)
            );
            self.unreadable(node);
            return self.say(Severity::Error, at, &join(path, "apiVersion"), message);
        }
        let document = Document {
            node,
            kind: info,
            version,
            path,
        };
        self.version(&document, at);
        self.declare(&document);
    }

    fn version(&mut self, document: &Document<'_>, at: Position) {
        let Document {
            kind, version, path, ..
        } = document;
        let current = api_version(kind);
        let message = if !kind.versions.contains(version) {
            format!("version \"{version}\" is not known; read as {current}")
        } else if kind.group == crate::kind::AI && Some(version) != kind.versions.first() {
            format!("{}/{version} is deprecated; use {current}", kind.group)
        } else {
            return;
        };
        self.say(Severity::Warning, at, &join(path, "apiVersion"), message);
    }

    fn declare(&mut self, document: &Document<'_>) {
        match document.kind.name {
            "GatewayClass" => self.typed(document, |resources| &mut resources.gateway_classes),
            "Gateway" => self.typed(document, |resources| &mut resources.gateways),
            "AIGatewayRoute" => self.typed(document, |resources| &mut resources.ai_gateway_routes),
            "AIServiceBackend" => self.typed(document, |resources| &mut resources.ai_service_backends),
            "BackendSecurityPolicy" => self.credential(document),
            "Backend" => self.typed(document, |resources| &mut resources.backends),
            "BackendTLSPolicy" => self.typed(document, |resources| &mut resources.backend_tls_policies),
            "MCPRoute" => self.typed(document, |resources| &mut resources.mcp_routes),
            "GatewayConfig" => self.typed(document, |resources| &mut resources.gateway_configs),
            "BackendTrafficPolicy" => {
                self.typed(document, |resources| &mut resources.backend_traffic_policies);
            }
            "ClientTrafficPolicy" => {
                self.typed(document, |resources| &mut resources.client_traffic_policies);
            }
            "QuotaPolicy" => self.typed(document, |resources| &mut resources.quota_policies),
            "ReferenceGrant" => self.typed(document, |resources| &mut resources.reference_grants),
            "HTTPRoute" => self.typed(document, |resources| &mut resources.http_routes),
            "HTTPRouteFilter" => self.typed(document, |resources| &mut resources.http_route_filters),
            "InferencePool" => self.typed(document, |resources| &mut resources.inference_pools),
            "Service" => self.typed(document, |resources| &mut resources.services),
            "EndpointSlice" => self.endpoint_slice(document),
            "ConfigMap" => self.config_map(document),
            "Namespace" => self.typed(document, |resources| &mut resources.namespaces),
            "Secret" => self.secret(document),
            "SecurityPolicy" => self.typed(document, |resources| &mut resources.security_policies),
            "EnvoyProxy" => self.typed(document, |resources| &mut resources.envoy_proxies),
            _ => self.unserved(document),
        }
    }

    fn typed<S: for<'n> Deserialize<'n> + Send + Sync + 'static>(
        &mut self,
        document: &Document<'_>,
        map: fn(&mut Resources) -> &mut Map<S>,
    ) {
        if let Some(shape) = self.decoded::<Shape<S>>(document) {
            self.insert(document, shape.metadata, shape.spec, map);
        }
    }

    /// A field that `v1alpha1` does not have is left out there, as the Kubernetes API does.
    fn credential(&mut self, document: &Document<'_>) {
        let Some(mut shape) = self.decoded::<Shape<BackendSecurityPolicy>>(document) else {
            return;
        };
        if document.version == "v1alpha1" && shape.spec.credential_override.take().is_some() {
            let message = "v1alpha1 has no such field, so it is ignored; use v1beta1";
            let path = join(document.path, "spec.credentialOverride");
            let spec = document.node.get("spec");
            let field = spec.and_then(|spec| spec.get("credentialOverride"));
            let at = field.map_or(document.node.at, |field| field.at);
            self.say(Severity::Warning, at, &path, message);
        }
        self.insert(document, shape.metadata, shape.spec, |resources| {
            &mut resources.backend_security_policies
        });
    }

    fn endpoint_slice(&mut self, document: &Document<'_>) {
        if let Some(mut slice) = self.decoded::<EndpointSlice>(document) {
            let metadata = std::mem::take(&mut slice.metadata);
            self.insert(document, metadata, slice, |resources| {
                &mut resources.endpoint_slices
            });
        }
    }

    fn config_map(&mut self, document: &Document<'_>) {
        if let Some(written) = self.decoded::<config_map::Written>(document) {
            let data = ConfigMapData { data: written.data };
            self.insert(document, written.metadata, data, |resources| {
                &mut resources.config_maps
            });
        }
    }

    fn unserved(&mut self, document: &Document<'_>) {
        let Some(metadata) = document.node.get("metadata") else {
            return self.fail(document, document.node.at, "", "\"metadata\" is required");
        };
        let unknown = RefCell::default();
        let decoded: Result<Metadata, DecodeError> =
            decode(metadata, &join(document.path, "metadata"), &unknown);
        let metadata = match decoded {
            Ok(metadata) if unknown.borrow().is_empty() => metadata,
            Ok(_) => return self.refuse(document, unknown.into_inner()),
            Err(error) => return self.fail_decoding(document, error),
        };
        let guard = document.kind.guards.then(|| {
            let spec = document.node.get("spec");
            // Nothing else of it is read, so nothing else of it is unknown.
            spec.and_then(|spec| decode(spec, "", &RefCell::default()).ok())
                .unwrap_or_default()
        });
        if let Some((key, declared)) = self.declared(document, metadata, guard) {
            self.piece.unserved(document, key, declared);
        }
    }

    /// Reads the document, or says why not.
    pub(super) fn decoded<T: for<'n> Deserialize<'n>>(&mut self, document: &Document<'_>) -> Option<T> {
        let unknown = RefCell::default();
        let decoded = decode::<T>(document.node, document.path, &unknown);
        let unknown: Vec<Unknown> = unknown.into_inner();
        let (retired, unknown): (Vec<_>, Vec<_>) = unknown
            .into_iter()
            .map(|unknown| (retired(document, &unknown.path), unknown))
            .partition(|(hint, _)| hint.is_some());
        for (hint, field) in retired {
            let message = format!(
                "this field no longer exists and is ignored; {}",
                hint.unwrap_or_default()
            );
            self.say(Severity::Warning, field.at, &field.path, message);
        }
        let known = unknown.is_empty();
        if !known {
            let unknown = unknown.into_iter().map(|(_, unknown)| unknown).collect();
            self.refuse(document, unknown);
        }
        match decoded {
            Ok(value) => known.then_some(value),
            Err(error) => {
                self.fail_decoding(document, error);
                None
            }
        }
    }

    fn refuse(&mut self, document: &Document<'_>, unknown: Vec<Unknown>) {
        for Unknown { at, path, nearest } in unknown {
            let hint = nearest
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            self.say(Severity::Error, at, &path, format!("unknown field{hint}"));
        }
        self.unreadable(document.node);
    }

    fn fail_decoding(&mut self, document: &Document<'_>, error: DecodeError) {
        self.say(
            Severity::Error,
            error.at.unwrap_or(document.node.at),
            &error.path,
            error.reason,
        );
        self.unreadable(document.node);
    }

    pub(super) fn fail(&mut self, document: &Document<'_>, at: Position, path: &str, message: &str) {
        self.say(Severity::Error, at, &join(document.path, path), message);
        self.unreadable(document.node);
    }

    pub(super) fn insert<S: Send + Sync + 'static>(
        &mut self,
        document: &Document<'_>,
        metadata: Metadata,
        spec: S,
        map: fn(&mut Resources) -> &mut Map<S>,
    ) {
        if let Some((key, declared)) = self.declared(document, metadata, spec) {
            self.piece.declare(document, key, declared, map);
        }
    }

    fn declared<S>(
        &mut self,
        document: &Document<'_>,
        metadata: Metadata,
        spec: S,
    ) -> Option<(Key, Declared<S>)> {
        let at = document
            .node
            .get("metadata")
            .map_or(document.node.at, |node| node.at);
        let name = metadata.name.clone().unwrap_or_default();
        if name.is_empty() || name.len() > 253 {
            self.fail(
                document,
                at,
                "metadata.name",
                "a name of 1 to 253 characters is required",
            );
            return None;
        }
        let namespace = match metadata.namespace.as_deref() {
            _ if !document.kind.namespaced => "",
            None | Some("") => DEFAULT_NAMESPACE,
            Some(namespace) => namespace,
        };
        let key = Key::new(namespace, name);
        let declared = Declared {
            order: 0,
            origin: origin(document.node.at),
            places: document.node.places(),
            version: Arc::from(document.version),
            metadata: Arc::new(metadata),
            spec: Arc::new(spec),
        };
        Some((key, declared))
    }

    /// Remembers that a resource could not be read, as far as its name and probable kind are known.
    fn unreadable(&mut self, node: &Node) {
        let written = node.get("kind").and_then(Node::text);
        let near = written.and_then(|kind| nearest(kind, KINDS.iter().map(|kind| kind.name)));
        let Some(kind) = near.and_then(KindInfo::find) else {
            return;
        };
        let metadata = |name| {
            node.get("metadata")?
                .get(name)?
                .text()
                .filter(|text| !text.is_empty())
        };
        let namespace = metadata("namespace").unwrap_or(DEFAULT_NAMESPACE);
        let key = Key::new(namespace, metadata("name").unwrap_or_default());
        self.piece.unreadable.push((kind.name, key, origin(node.at)));
    }

    /// Says what is wrong at a place of the text.
    pub(super) fn say(&mut self, severity: Severity, at: Position, path: &str, message: impl Into<String>) {
        self.piece.faults.push(Fault {
            file: String::new(),
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message: message.into(),
            severity,
        });
    }
}

/// Returns a place of the text; it is not known yet which file that is, and after how many lines.
fn origin(at: Position) -> Origin {
    Origin {
        file: Arc::default(),
        line: at.line,
        column: at.column,
    }
}

/// Where resources lie that name no namespace.
const DEFAULT_NAMESPACE: &str = "default";

/// Fields that versions of the API before v1alpha1's last had, and what to write in their place.
const RETIRED: &[(&str, &str, &str)] = &[
    (
        "AIGatewayRoute",
        "spec.schema",
        "clients' APIs are told apart by path",
    ),
    ("AIGatewayRoute", "spec.targetRefs", "use spec.parentRefs"),
    ("AIGatewayRoute", "spec.filterConfig", "use a GatewayConfig"),
    (
        "AIServiceBackend",
        "spec.timeouts",
        "use the timeouts of the route's rules",
    ),
    (
        "AIServiceBackend",
        "spec.backendSecurityPolicyRef",
        "use spec.targetRefs of the BackendSecurityPolicy",
    ),
];

/// Returns what to write in place of a field that existed once.
fn retired(document: &Document<'_>, path: &str) -> Option<&'static str> {
    RETIRED
        .iter()
        .find(|(kind, field, _)| *kind == document.kind.name && join(document.path, field) == path)
        .map(|(_, _, hint)| *hint)
}

fn api_version(kind: &KindInfo) -> String {
    let version = kind.versions.first().copied().unwrap_or_default();
    match kind.group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}
