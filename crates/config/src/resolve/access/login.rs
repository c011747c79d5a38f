//! Tokens of an authorization server, and what clients are told so that they find it.

use std::sync::Arc;

use http::{Uri, header};
use policy::{
    Carrier, Jwt, Remote,
    jwt::{Keys, Provider},
};
use serde_json::{Map, Value, json};

use super::builder::Builder;
use crate::{
    kind::mcp_security::{OAuth, ResourceMetadata},
    mcp_access::{Described, Document, Login},
    mcp_route::METADATA as RESOURCE,
};

/// What the one provider of a route is called.
pub(super) const PROVIDER: &str = "mcp-jwt-provider";

const SERVER: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

impl Builder<'_> {
    /// Returns whose tokens are taken at `path`, and how clients get one; `None` where that is not said as it must
    /// be, which has been reported.
    pub(super) fn oauth(&mut self, spec: &OAuth, path: &str, field: &str) -> (Option<Jwt>, Option<Login>) {
        self.at_most(32, spec.audiences.len(), &format!("{field}.audiences"));
        self.at_most(
            16,
            spec.claim_to_headers.len(),
            &format!("{field}.claimToHeaders"),
        );
        let Some((server, named)) = self.server(spec, field) else {
            return (None, None);
        };
        let keys = match &spec.jwks {
            Some(jwks) => self.keys(
                jwks.remote.as_ref(),
                jwks.local.as_ref(),
                &format!("{field}.jwks"),
            ),
            None => named.map(Keys::Remote),
        };
        let metadata = &spec.protected_resource_metadata;
        let at = format!("{field}.protectedResourceMetadata");
        let login = self.login(spec, path, server, &at);
        let mut told_in = Vec::new();
        for (index, told) in spec.claim_to_headers.iter().enumerate() {
            let at = format!("{field}.claimToHeaders[{index}].header");
            let header = self.told_in(Some(&told.header), &at);
            told_in.extend(header.map(|header| (told.claim.clone(), header)));
        }
        // A token that is for anybody could have been got for somebody else (RFC 8707, section 2).
        let audiences = match spec.audiences.as_slice() {
            [] => {
                let resource = metadata.resource.as_str();
                let mut both = vec![resource.to_owned(), resource.trim_end_matches('/').to_owned()];
                both.dedup();
                both
            }
            audiences => audiences.to_vec(),
        };
        let provider = keys.map(|keys| Provider {
            name: Arc::from(PROVIDER),
            issuer: Some(spec.issuer.clone()),
            audiences,
            keys,
            carriers: vec![Carrier::Header(header::AUTHORIZATION, "Bearer ".to_owned())],
            told_in,
            recompute_route: false,
        });
        let jwt = provider.map(|provider| Jwt {
            providers: vec![provider],
            optional: false,
        });
        (jwt, login)
    }

    /// Returns what clients are told of the authorization server, and where the keys are that it names. What is declared
    /// stands in for all that the server would be asked.
    fn server(&mut self, spec: &OAuth, field: &str) -> Option<(Described, Option<Arc<Remote>>)> {
        let Some(declared) = &spec.authorization_server_metadata else {
            let issuer = self.issuer(&spec.issuer, &format!("{field}.issuer"))?;
            return Some((Described::There(Arc::clone(&issuer)), Some(issuer)));
        };
        let field_of = |member: &str| format!("{field}.authorizationServerMetadata{member}");
        let mut document: Map<String, Value> = declared.clone().into_iter().collect();
        let own = document.entry("issuer").or_insert_with(|| json!(spec.issuer));
        if *own != json!(spec.issuer) {
            // Whoever answers for somebody else could vouch for them (RFC 8414, section 3.3).
            self.invalid(&field_of(".issuer"), "is not the issuer of the tokens");
        }
        let keys = match declared.get("jwks_uri") {
            _ if spec.jwks.is_some() => None,
            None => self.issuer(&spec.issuer, &format!("{field}.issuer")),
            Some(uri) => {
                let written = uri.as_str().unwrap_or_default();
                let (uri, id, service) = self.address(written, &field_of(".jwks_uri"))?;
                let service = self.serve(id, service);
                Some(self.fetch(Remote {
                    service,
                    uri,
                    keep: None,
                    issuer: None,
                }))
            }
        };
        let document = Arc::from(Value::Object(document).to_string());
        Some((Described::Here(document), keys))
    }

    fn issuer(&mut self, written: &str, field: &str) -> Option<Arc<Remote>> {
        let (uri, id, service) = self.address(written, field)?;
        let service = self.serve(id, service);
        Some(self.fetch(Remote {
            service,
            uri,
            keep: None,
            issuer: Some(Arc::from(written)),
        }))
    }

    fn login(&mut self, spec: &OAuth, path: &str, server: Described, field: &str) -> Option<Login> {
        let metadata = &spec.protected_resource_metadata;
        self.at_most(
            32,
            metadata.scopes_supported.len(),
            &format!("{field}.scopesSupported"),
        );
        let clean = |scope: &String| {
            let mut bytes = scope.bytes();
            !scope.is_empty() && bytes.all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
        };
        if !metadata.scopes_supported.iter().all(clean) {
            self.invalid(
                &format!("{field}.scopesSupported"),
                "expected scopes as RFC 6749 has them",
            );
        }
        let Some((origin, resource)) = split(&metadata.resource) else {
            let message = "expected an address such as https://api.example.com/mcp";
            self.invalid(&format!("{field}.resource"), message);
            return None;
        };
        let served = path.trim_end_matches('/');
        let mut paths = vec![
            (format!("{RESOURCE}{served}"), Document::Resource),
            (format!("{SERVER}{served}"), Document::Server),
            (format!("{OPENID}{path}"), Document::Server),
        ];
        if resource != served {
            let message = format!(
                "its path is not that of the route, {path}: the route has to be reached at both, or clients do not \
                 find it"
            );
            self.warn("ResourceElsewhere", &format!("{field}.resource"), message);
            paths.push((format!("{RESOURCE}{resource}"), Document::Resource));
        }
        if spec.documents_at_root && !served.is_empty() {
            let bare = [
                (RESOURCE, Document::Resource),
                (SERVER, Document::Server),
                (OPENID, Document::Server),
            ];
            paths.extend(bare.map(|(path, document)| (path.to_owned(), document)));
        }
        Some(Login {
            metadata: format!("{origin}{RESOURCE}{resource}"),
            document: Arc::from(document(metadata, &spec.issuer).to_string()),
            scopes: metadata.scopes_supported.join(" "),
            paths,
            server,
        })
    }
}

/// Returns the origin and the path of an address, the latter without a slash at its end.
fn split(address: &str) -> Option<(String, String)> {
    let uri: Uri = address.parse().ok()?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| matches!(*scheme, "https" | "http"))?;
    let authority = uri
        .authority()
        .filter(|authority| !authority.as_str().contains('@'))?;
    let clean = uri.query().is_none() && !address.contains(['#', '"', '\\']);
    clean.then(|| {
        let path = uri.path().trim_end_matches('/').to_owned();
        (format!("{scheme}://{authority}"), path)
    })
}

/// Returns what the route says of itself (RFC 9728, section 2).
fn document(metadata: &ResourceMetadata, issuer: &str) -> Value {
    let mut document = Map::new();
    document.insert("resource".to_owned(), json!(metadata.resource));
    document.insert("authorization_servers".to_owned(), json!([issuer]));
    document.insert("bearer_methods_supported".to_owned(), json!(["header"]));
    let texts = [
        ("resource_name", &metadata.resource_name),
        ("resource_documentation", &metadata.resource_documentation),
        ("resource_policy_uri", &metadata.resource_policy_uri),
    ];
    for (name, text) in texts {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            document.insert(name.to_owned(), json!(text));
        }
    }
    let lists = [
        ("scopes_supported", &metadata.scopes_supported),
        (
            "resource_signing_alg_values_supported",
            &metadata.resource_signing_alg_values_supported,
        ),
    ];
    for (name, list) in lists {
        if !list.is_empty() {
            document.insert(name.to_owned(), json!(list));
        }
    }
    Value::Object(document)
}
