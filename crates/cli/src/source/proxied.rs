//! What Envoy AI Gateway's control plane configures its MCP proxy with, as the resources that say the same: routes,
//! each of whose servers is reached through one listener of Envoy's, which tells them by headers.

use serde_json::{Map, Value, json};

use super::tools;

/// The member that holds it.
pub(super) const MEMBER: &str = "mcpConfig";

/// Names the route, in what Envoy sends and is sent.
const ROUTE: &str = "x-ai-eg-mcp-route";

/// Names the server, in what Envoy is sent.
const BACKEND: &str = "x-ai-eg-mcp-backend";

/// What is wrong, and where.
type Wrong = (String, String);

/// Returns the resources. Where there are no routes there are none.
pub(super) fn resources(document: &Value) -> Result<Vec<Value>, Wrong> {
    let config = match document.get(MEMBER) {
        Some(Value::Object(config)) => config,
        Some(Value::Null) | None => return Ok(Vec::new()),
        Some(_) => return Err(wrong(MEMBER, "expected an object")),
    };
    known(config, &["backendListenerAddr", "routes"], MEMBER)?;
    let routes = list(config, "routes", MEMBER)?;
    let address = text(config, "backendListenerAddr");
    let mut documents = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let at = format!("{MEMBER}.routes[{index}]");
        let Value::Object(route) = route else {
            return Err(wrong(&at, "expected an object"));
        };
        let address =
            address.ok_or_else(|| wrong(&format!("{MEMBER}.backendListenerAddr"), "is required"))?;
        documents.extend(
            Route {
                at: &at,
                route,
                address,
            }
            .resources()?,
        );
    }
    Ok(documents)
}

struct Route<'a> {
    at: &'a str,
    route: &'a Map<String, Value>,
    address: &'a str,
}

impl Route<'_> {
    fn resources(&self) -> Result<Vec<Value>, Wrong> {
        let Self { at, route, .. } = *self;
        let members = [
            "name",
            "backends",
            "forwardHeaders",
            "authorization",
            "backendSelector",
        ];
        known(route, &members, at)?;
        let full = text(route, "name").unwrap_or_default();
        let (namespace, name) = full.split_once('/').ok_or_else(|| {
            wrong(
                &format!("{at}.name"),
                "expected a namespace and a name with a slash between",
            )
        })?;
        let mut documents = Vec::new();
        let mut references = Vec::new();
        for (index, backend) in list(route, "backends", at)?.iter().enumerate() {
            let at = format!("{at}.backends[{index}]");
            let Value::Object(backend) = backend else {
                return Err(wrong(&at, "expected an object"));
            };
            let (reference, mut resource) = self.backend(&at, full, backend)?;
            resource["metadata"]["namespace"] = Value::from(namespace);
            references.push(reference);
            documents.push(resource);
        }
        let mut spec = json!({
            "parentRefs": [{ "name": "tollgate", "namespace": "default" }],
            "path": "/",
            "pathMatch": "prefix",
            "headers": [{ "name": ROUTE, "value": full }],
            // Envoy has looked at these.
            "allowedHosts": ["*"],
            "allowedOrigins": ["*"],
            "backendRefs": references,
        });
        if let Some(Value::Object(authorization)) = route.get("authorization") {
            let mut authorization = authorization.clone();
            // Whoever has a route of its own with `oauth` has this from there.
            authorization.remove("resourceMetadataURL");
            spec["securityPolicy"] = json!({ "authorization": authorization });
        }
        if let Some(selector) = route.get("backendSelector").filter(|own| !own.is_null()) {
            spec["backendSelector"] = selector.clone();
        }
        documents.push(json!({
            "apiVersion": "aigateway.envoyproxy.io/v1beta1",
            "kind": "MCPRoute",
            "metadata": { "name": name, "namespace": namespace },
            "spec": spec,
        }));
        Ok(documents)
    }

    /// Returns the reference to a server, and the Backend that it refers to.
    fn backend(&self, at: &str, route: &str, backend: &Map<String, Value>) -> Result<(Value, Value), Wrong> {
        known(backend, &["name", "toolSelector", "forwardHeaders"], at)?;
        let name = text(backend, "name").ok_or_else(|| wrong(&format!("{at}.name"), "is required"))?;
        let (resource, path) = tools::backend(name, self.address)
            .map_err(|message| wrong(&format!("{MEMBER}.backendListenerAddr"), &message))?;
        let told = list(self.route, "forwardHeaders", self.at)?;
        let mut forward: Vec<Value> = told.iter().map(|name| json!({ "name": name })).collect();
        forward.extend(list(backend, "forwardHeaders", at)?.iter().cloned());
        let mut reference = json!({
            "group": "gateway.envoyproxy.io",
            "kind": "Backend",
            "name": name,
            "path": path,
            "headers": [{ "name": BACKEND, "value": name }, { "name": ROUTE, "value": route }],
            "forwardHeaders": forward,
        });
        if let Some(selector) = backend.get("toolSelector").filter(|own| !is_empty(own)) {
            reference["toolSelector"] = selector.clone();
        }
        Ok((reference, resource))
    }
}

/// Returns whether nothing is selected: lists that are empty are written too.
fn is_empty(selector: &Value) -> bool {
    let lists = selector.as_object().into_iter().flat_map(Map::values);
    let mut lists = lists.map(|list| list.as_array().is_none_or(Vec::is_empty));
    selector.is_null() || lists.all(|empty| empty)
}

/// Refuses what is not understood.
fn known(object: &Map<String, Value>, members: &[&str], at: &str) -> Result<(), Wrong> {
    match object.keys().find(|key| !members.contains(&key.as_str())) {
        Some(key) => Err(wrong(&format!("{at}.{key}"), "unknown member")),
        None => Ok(()),
    }
}

fn list<'a>(object: &'a Map<String, Value>, key: &str, at: &str) -> Result<&'a [Value], Wrong> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(wrong(&format!("{at}.{key}"), "expected a list")),
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    let text = object.get(key).and_then(Value::as_str);
    text.filter(|text| !text.is_empty())
}

fn wrong(at: &str, message: &str) -> Wrong {
    (at.to_owned(), message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(route: Value) -> Value {
        json!({ MEMBER: { "backendListenerAddr": "http://127.0.0.1:10088", "routes": [route] } })
    }

    #[test]
    fn routes_become_resources() {
        let documents = resources(&config(json!({
            "name": "team-a/tools",
            "backends": [
                { "name": "alpha", "toolSelector": { "include": ["x"], "includeRegex": [], "excludeRegex": ["^admin_"] },
                  "forwardHeaders": [{ "name": "x-pat", "backendHeader": "authorization" }] },
                { "name": "beta", "toolSelector": { "include": [] } } ],
            "forwardHeaders": ["x-user-id"],
            "authorization": { "defaultAction": "Deny", "resourceMetadataURL": "https://h/x", "rules": [{ "cel": "true" }] },
            "backendSelector": { "defaultAction": "Deny", "rules": [{ "action": "Allow", "cel": "true" }] },
        })));
        let documents = documents.unwrap();
        let [alpha, beta, route] = documents.as_slice() else {
            panic!("{documents:?}");
        };
        for (backend, name) in [(alpha, "alpha"), (beta, "beta")] {
            assert_eq!(
                backend["metadata"],
                json!({ "name": name, "namespace": "team-a" })
            );
            assert_eq!(
                backend["spec"]["endpoints"],
                json!([{ "ip": { "address": "127.0.0.1", "port": 10088 } }])
            );
        }
        assert_eq!(
            route["metadata"],
            json!({ "name": "tools", "namespace": "team-a" })
        );
        let spec = &route["spec"];
        assert_eq!(
            spec["headers"],
            json!([{ "name": "x-ai-eg-mcp-route", "value": "team-a/tools" }])
        );
        assert_eq!(
            spec["backendRefs"][0],
            json!({ "group": "gateway.envoyproxy.io", "kind": "Backend", "name": "alpha", "path": "/",
                "headers": [{ "name": "x-ai-eg-mcp-backend", "value": "alpha" },
                            { "name": "x-ai-eg-mcp-route", "value": "team-a/tools" }],
                "forwardHeaders": [{ "name": "x-user-id" }, { "name": "x-pat", "backendHeader": "authorization" }],
                "toolSelector": { "include": ["x"], "includeRegex": [], "excludeRegex": ["^admin_"] } })
        );
        assert!(spec["backendRefs"][1].get("toolSelector").is_none());
        assert_eq!(
            spec["securityPolicy"]["authorization"],
            json!({ "defaultAction": "Deny", "rules": [{ "cel": "true" }] })
        );
        assert_eq!(spec["backendSelector"]["defaultAction"], "Deny");
    }

    #[test]
    fn no_routes_are_none() {
        for empty in [
            json!(null),
            json!({}),
            json!({ "routes": null }),
            json!({ "routes": [] }),
        ] {
            assert_eq!(resources(&json!({ MEMBER: empty })), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |document: Value, at: &str| {
            let said = resources(&document).unwrap_err();
            assert_eq!(said.0, at, "{document}");
        };
        check(json!({ MEMBER: 7 }), "mcpConfig");
        check(json!({ MEMBER: { "routes": 7 } }), "mcpConfig.routes");
        check(json!({ MEMBER: { "colour": 1 } }), "mcpConfig.colour");
        check(
            json!({ MEMBER: { "routes": [{ "name": "a/b" }] } }),
            "mcpConfig.backendListenerAddr",
        );
        check(config(json!({ "name": "tools" })), "mcpConfig.routes[0].name");
        check(config(json!({ "name": "a/b", "x": 1 })), "mcpConfig.routes[0].x");
        check(
            config(json!({ "name": "a/b", "backends": [{}] })),
            "mcpConfig.routes[0].backends[0].name",
        );
        let odd = json!({ "name": "a/b", "backends": [{ "name": "x", "path": "/" }] });
        check(config(odd), "mcpConfig.routes[0].backends[0].path");
    }
}
