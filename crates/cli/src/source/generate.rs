//! The resources of generated configuration, as YAML.

use std::fmt::Write;

use super::base::Base;

/// Returns the Gateway and the route around `rules`: as many routes as it takes, tried in this order.
pub(super) fn frame(origin: &str, rules: &[String]) -> String {
    let mut yaml = format!(
        "# Generated {origin}.
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata:
  name: tollgate
spec:
  controllerName: gateway.envoyproxy.io/gatewayclass-controller
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: tollgate
  namespace: default
spec:
  gatewayClassName: tollgate
  listeners:
    - name: http
      protocol: HTTP
      port: {DEFAULT_PORT}
      allowedRoutes:
        namespaces:
          from: All
"
    );
    for (index, rules) in rules.chunks(MAX_RULES).enumerate() {
        // Of two routes of one age the name decides, in alphabetical order.
        let name = match index {
            0 => "tollgate".to_owned(),
            index => format!("tollgate-{index}"),
        };
        let _ = write!(
            yaml,
            "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata:
  name: {name}
  namespace: default
spec:
  parentRefs:
    - group: gateway.networking.k8s.io
      kind: Gateway
      name: tollgate
  rules:
{}",
            rules.concat()
        );
    }
    yaml
}

/// Returns a rule that sends `models`, matched in the way of `kind`, to `backend`.
pub(super) fn rule(kind: &str, models: &[&str], backend: &str) -> String {
    let mut yaml = String::from("    - matches:\n");
    for model in models {
        let _ = write!(
            yaml,
            "        - headers:
            - type: {kind}
              name: x-ai-eg-model
              value: {}
",
            quote(model)
        );
    }
    let _ = write!(
        yaml,
        "      backendRefs:
        - name: {backend}
      modelsOwnedBy: {backend}
      timeouts:
        request: 120s
"
    );
    yaml
}

/// A backend that is to be declared.
#[derive(Default)]
pub(super) struct Service<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The name of its schema.
    pub(super) schema: &'a str,
    /// The Backend behind it.
    pub(super) endpoint: &'a str,
    /// First segments of the path, unless they are the provider's own.
    pub(super) prefix: Option<&'a str>,
    /// The variable that holds the version of the API.
    pub(super) version: Option<&'a str>,
    /// The provider, where neither schema nor host tell.
    pub(super) provider: Option<&'a str>,
    /// Names of headers and the variables that hold their values.
    pub(super) headers: &'a [(&'a str, &'a str)],
}

/// Returns an AIServiceBackend.
pub(super) fn backend(service: &Service<'_>) -> String {
    let Service {
        name,
        schema,
        endpoint,
        headers,
        ..
    } = *service;
    let mut yaml = format!(
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata:
  name: {name}
  namespace: default
"
    );
    if let Some(provider) = service.provider {
        let _ = write!(
            yaml,
            "  annotations:\n    {}: {provider}\n",
            config::resolve::PROVIDER
        );
    }
    let _ = write!(yaml, "spec:\n  schema:\n    name: {schema}\n");
    if let Some(prefix) = service.prefix {
        let _ = writeln!(yaml, "    prefix: {}", quote(prefix));
    }
    if let Some(version) = service.version {
        let _ = writeln!(yaml, "    version: \"${{{version}}}\"");
    }
    let _ = write!(
        yaml,
        "  backendRef:
    group: gateway.envoyproxy.io
    kind: Backend
    name: {endpoint}
"
    );
    if !headers.is_empty() {
        yaml.push_str("  headerMutation:\n    set:\n");
    }
    for (header, variable) in headers {
        let _ = write!(
            yaml,
            "      - name: {header}\n        value: \"${{{variable}}}\"\n"
        );
    }
    yaml
}

/// Returns the key of the backend `name`, which the variable `key` holds, and the policy of type `policy` that sends it.
pub(super) fn credential(name: &str, key: &str, policy: &str, member: &str) -> String {
    format!(
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata:
  name: {name}-apikey
  namespace: default
spec:
  targetRefs:
    - group: aigateway.envoyproxy.io
      kind: AIServiceBackend
      name: {name}
  type: {policy}
  {member}:
    secretRef:
      name: {name}-apikey
---
apiVersion: v1
kind: Secret
metadata:
  name: {name}-apikey
  namespace: default
type: Opaque
stringData:
  apiKey: \"${{{key}}}\"
"
    )
}

/// Returns the policy of the backend `name` that says `says`.
pub(super) fn policy(name: &str, says: &str) -> String {
    format!(
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata:
  name: {name}
  namespace: default
spec:
  targetRefs:
    - group: aigateway.envoyproxy.io
      kind: AIServiceBackend
      name: {name}
{says}"
    )
}

/// Returns the Secret `name`, whose value `entry` the variable `variable` holds.
pub(super) fn secret(name: &str, entry: &str, variable: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Secret
metadata:
  name: {name}
  namespace: default
type: Opaque
stringData:
  {entry}: \"${{{variable}}}\"
"
    )
}

/// Returns the endpoint of a provider, and how calls to it are encrypted.
pub(super) fn endpoint(base: &Base, name: &str) -> String {
    let endpoint = if base.ip {
        format!("ip:\n        address: {}", quote(&base.host))
    } else {
        format!("fqdn:\n        hostname: {}", quote(&base.host))
    };
    let mut yaml = format!(
        "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata:
  name: {name}
  namespace: default
spec:
  endpoints:
    - {endpoint}
        port: {}
",
        base.port
    );
    if base.tls {
        let _ = write!(
            yaml,
            "---
apiVersion: gateway.networking.k8s.io/v1alpha3
kind: BackendTLSPolicy
metadata:
  name: {name}-tls
  namespace: default
spec:
  targetRefs:
    - group: gateway.envoyproxy.io
      kind: Backend
      name: {name}
  validation:
    hostname: {}
    wellKnownCACertificates: System
",
            quote(&base.host)
        );
    }
    yaml
}

/// Returns `text` as a YAML scalar that means exactly it: JSON's strings are YAML's, and `$$` is one `$`.
fn quote(text: &str) -> String {
    serde_json::Value::from(text.replace('$', "$$")).to_string()
}

/// The most rules that a route may have (compatibility specification, "AIGatewayRoute").
const MAX_RULES: usize = 15;

/// The port of generated configuration.
const DEFAULT_PORT: u16 = 1975;
