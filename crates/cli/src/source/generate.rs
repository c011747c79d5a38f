//! The resources of generated configuration, as YAML.

use std::fmt::Write;

use super::base::Base;

/// Returns the Gateway and the route around `rules`.
pub(super) fn frame(origin: &str, rules: &str) -> String {
    format!(
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
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata:
  name: tollgate
  namespace: default
spec:
  parentRefs:
    - group: gateway.networking.k8s.io
      kind: Gateway
      name: tollgate
  rules:
{rules}"
    )
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

/// Returns the backend that speaks `schema` at the endpoint called `endpoint`; `headers` are names and the
/// variables that hold their values.
pub(super) fn backend(
    name: &str,
    schema: &str,
    endpoint: &str,
    prefix: Option<&str>,
    headers: &[(&str, &str)],
) -> String {
    let mut yaml = format!(
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata:
  name: {name}
  namespace: default
spec:
  schema:
    name: {schema}
"
    );
    if let Some(prefix) = prefix {
        let _ = writeln!(yaml, "    prefix: {}", quote(prefix));
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

/// The port of generated configuration.
const DEFAULT_PORT: u16 = 1975;
