//! YAML and JSON documents to [`Resources`], with the position of everything that is wrong.
//!
//! A document goes through four steps: text to nodes (`node`), variables in its scalars (`substitute`),
//! nodes to the types of its kind (`decode`), and into the resources. A document in which one of them fails
//! is left out; the others are read all the same.

use std::{cell::RefCell, collections::btree_map::Entry, fmt};

use serde::{Deserialize, de::IgnoredAny};

use self::{
    decode::{DecodeError, Unknown, decode, join, nearest},
    node::{Data, Node, Position},
    substitute::{Remark, substitute},
};
use crate::{
    Key, Origin, Resources,
    kind::{BackendSecurityPolicy, ConfigMapData, EndpointSlice, KINDS, KindInfo, Metadata, config_map},
    resources::{Declared, Map},
};

mod decode;
mod node;
mod secret;
mod substitute;

/// What a file may refer to; this crate does no IO of its own.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Returns the value of an environment variable, if it is set.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Returns the text of the file at a path, or why it cannot be read. A leading `~/` is the reader's to
    /// expand.
    pub reader: &'a dyn Fn(&str) -> Result<String, String>,
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The field, as `spec.rules[0].name`; empty where the whole document is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How bad it is.
    pub severity: Severity,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Served, but perhaps not as meant.
    Warning,
    /// Not served.
    Error,
}

/// Reads the documents of `text`, which came from `file`, into `resources` and returns what is wrong with
/// them.
///
/// A document with an error is left out; the others are read all the same. What was left out is remembered
/// in `resources`, so that nothing is called in clear because a policy could not be read; still, resources
/// with an error among their faults are better not served where older ones can be kept.
pub fn parse(
    file: &str,
    text: &str,
    surroundings: &Surroundings<'_>,
    resources: &mut Resources,
) -> Vec<Fault> {
    let mut parser = Parser {
        file,
        surroundings,
        resources,
        faults: Vec::new(),
    };
    let (documents, error) = node::documents(text.strip_prefix('\u{feff}').unwrap_or(text));
    for mut document in documents {
        if parser.substitute(&mut document) {
            parser.document(&document, "");
        } else {
            parser.unreadable(&document);
        }
    }
    if let Some(error) = error {
        parser.resources.incomplete = true;
        parser.say(Severity::Error, error.at, "", error.reason);
    }
    parser.faults
}

struct Parser<'a> {
    file: &'a str,
    surroundings: &'a Surroundings<'a>,
    resources: &'a mut Resources,
    faults: Vec<Fault>,
}

/// A document whose kind is known.
#[derive(Clone, Copy)]
struct Document<'n> {
    node: &'n Node,
    kind: &'static KindInfo,
    version: &'n str,
    /// Where it lies: empty, or `items[0]` in a list.
    path: &'n str,
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

impl Parser<'_> {
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

    fn typed<S: for<'n> Deserialize<'n>>(
        &mut self,
        document: &Document<'_>,
        map: fn(&mut Resources) -> &mut Map<S>,
    ) {
        if let Some(shape) = self.read::<Shape<S>>(document) {
            self.insert(document, shape.metadata, shape.spec, map);
        }
    }

    /// A field that `v1alpha1` does not have is left out there, as the Kubernetes API does.
    fn credential(&mut self, document: &Document<'_>) {
        let Some(mut shape) = self.read::<Shape<BackendSecurityPolicy>>(document) else {
            return;
        };
        if document.version == "v1alpha1" && shape.spec.credential_override.take().is_some() {
            let message = "v1alpha1 has no such field, so it is ignored; use v1beta1";
            let path = join(document.path, "spec.credentialOverride");
            self.say(Severity::Warning, document.node.at, &path, message);
        }
        self.insert(document, shape.metadata, shape.spec, |resources| {
            &mut resources.backend_security_policies
        });
    }

    fn endpoint_slice(&mut self, document: &Document<'_>) {
        if let Some(mut slice) = self.read::<EndpointSlice>(document) {
            let metadata = std::mem::take(&mut slice.metadata);
            self.insert(document, metadata, slice, |resources| {
                &mut resources.endpoint_slices
            });
        }
    }

    fn config_map(&mut self, document: &Document<'_>) {
        if let Some(written) = self.read::<config_map::Written>(document) {
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
        let Some((key, declared)) = self.declared(document, metadata, guard) else {
            return;
        };
        match self.resources.unserved.entry((document.kind.name, key)) {
            Entry::Vacant(entry) => {
                entry.insert(declared);
            }
            Entry::Occupied(entry) => {
                let ((_, key), first) = (entry.key().clone(), entry.get().origin.clone());
                self.duplicate(document, &key, &first);
            }
        }
    }

    /// Reads the document, or says why not.
    fn read<T: for<'n> Deserialize<'n>>(&mut self, document: &Document<'_>) -> Option<T> {
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

    fn fail(&mut self, document: &Document<'_>, at: Position, path: &str, message: &str) {
        self.say(Severity::Error, at, &join(document.path, path), message);
        self.unreadable(document.node);
    }

    fn insert<S>(
        &mut self,
        document: &Document<'_>,
        metadata: Metadata,
        spec: S,
        map: fn(&mut Resources) -> &mut Map<S>,
    ) {
        let Some((key, declared)) = self.declared(document, metadata, spec) else {
            return;
        };
        match map(self.resources).entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(declared);
            }
            Entry::Occupied(entry) => {
                let (key, first) = (entry.key().clone(), entry.get().origin.clone());
                self.duplicate(document, &key, &first);
            }
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
            order: self.resources.count,
            origin: self.origin(document.node.at),
            version: document.version.to_owned(),
            metadata,
            spec,
        };
        self.resources.count += 1;
        Some((key, declared))
    }

    fn duplicate(&mut self, document: &Document<'_>, key: &Key, first: &Origin) {
        let message = format!("{} {key} is declared twice, first at {first}", document.kind.name);
        self.say(Severity::Error, document.node.at, document.path, message);
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
        let origin = self.origin(node.at);
        self.resources.unreadable.insert((kind.name, key), origin);
    }

    fn origin(&self, at: Position) -> Origin {
        Origin {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
        }
    }

    fn say(&mut self, severity: Severity, at: Position, path: &str, message: impl Into<String>) {
        self.faults.push(Fault {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message: message.into(),
            severity,
        });
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

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
