//! What servers are shown as a credential: a key, or a token that is issued to the gateway.

use std::sync::Arc;

use http::{HeaderName, Uri};
use llm::provider::CredentialKind;

use super::{
    super::{End, Notes, credential::CLIENT_SECRET, permitted, target, validate::Faults},
    KIND, Trouble,
};
use crate::{
    Key, Resources, Secret,
    credential::{Credential, Oidc, Scheme, Source},
    kind::{
        mcp_route::{ApiKey, BackendRef, ClientCredentials},
        reference::SecretRef,
    },
    mcp_route,
};

/// Returns what the server of `reference` is shown, if it is shown anything.
pub(super) fn resolve(
    resources: &Resources,
    key: &Key,
    reference: &BackendRef,
    notes: &mut Notes,
) -> Result<Option<mcp_route::Key>, Trouble> {
    let Some(own) = &reference.security_policy else {
        return Ok(None);
    };
    let mut asking = Asking {
        resources,
        key,
        notes,
    };
    match (&own.api_key, &own.client_credentials) {
        (None, None) => Ok(None),
        (Some(own), None) => asking.api_key(own).map(Some),
        (None, Some(own)) => asking.token(&reference.name, own).map(Some),
        (Some(_), Some(_)) => Err(("InvalidCredential", ONE.to_owned())),
    }
}

/// Checks what a reference says of this in itself.
pub(super) fn validate(reference: &BackendRef, field: &str, faults: &mut Faults) {
    let Some(own) = &reference.security_policy else {
        return;
    };
    let field = format!("{field}.securityPolicy");
    faults.add_if(
        own.api_key.is_some() && own.client_credentials.is_some(),
        &field,
        ONE,
    );
    if let Some(key) = &own.api_key {
        let field = format!("{field}.apiKey");
        let one = key.secret_ref.is_some() != key.inline.is_some();
        let message = "exactly one of secretRef or inline must be set";
        faults.add_if(!one, &field, message);
        let both = key.header.is_some() && key.query_param.is_some();
        faults.add_if(both, &field, "only one of header or queryParam can be set");
    }
    if let Some(client) = &own.client_credentials {
        let field = format!("{field}.clientCredentials");
        faults.filled(&client.client_id, format!("{field}.clientID"));
        faults.at_most(32, client.scopes.len(), format!("{field}.scopes"));
        let addresses = [
            ("issuer", Some(&client.issuer)),
            ("tokenEndpoint", client.token_endpoint.as_ref()),
        ];
        for (name, address) in addresses {
            let wrong = address.is_some_and(|address| !is_address(address));
            let message = "expected an address such as https://idp.example.com";
            faults.add_if(wrong, format!("{field}.{name}"), message);
        }
    }
    faults.add_if(
        reference.stdio.is_some(),
        field,
        "a program is shown no credential: say it in its env",
    );
}

fn is_address(text: &str) -> bool {
    let uri: Option<Uri> = text.parse().ok();
    uri.is_some_and(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")))
}

/// A route on its way to the credential of one of its servers.
struct Asking<'a> {
    resources: &'a Resources,
    key: &'a Key,
    notes: &'a mut Notes,
}

impl Asking<'_> {
    fn api_key(&mut self, own: &ApiKey) -> Result<mcp_route::Key, Trouble> {
        let value = match (&own.secret_ref, &own.inline) {
            (None, Some(inline)) => inline.expose().to_owned(),
            (Some(reference), None) => self.secret(reference, "apiKey")?,
            (Some(_), Some(_)) | (None, None) => {
                let message = "exactly one of secretRef and inline must be specified";
                return Err(("InvalidCredential", message.to_owned()));
            }
        };
        if value.is_empty() || value.contains(char::is_control) {
            let message = "the API key is empty, or holds characters that cannot be sent";
            return Err(("InvalidCredential", message.to_owned()));
        }
        Ok(match (&own.query_param, own.header.as_deref()) {
            (Some(name), _) => mcp_route::Key::Query(name.clone(), Secret::new(value)),
            // As in the compatibility specification the prefix belongs to this spelling only.
            (None, None | Some("Authorization")) => mcp_route::Key::Header(
                http::header::AUTHORIZATION,
                Secret::new(format!("Bearer {value}")),
            ),
            (None, Some(name)) => {
                let name = HeaderName::try_from(name)
                    .map_err(|_| ("InvalidCredential", format!("\"{name}\" is not a header name")))?;
                mcp_route::Key::Header(name, Secret::new(value))
            }
        })
    }

    fn token(&mut self, server: &str, own: &ClientCredentials) -> Result<mcp_route::Key, Trouble> {
        let secret = self.secret(&own.client_secret_ref, CLIENT_SECRET)?;
        if secret.is_empty() {
            let name = &own.client_secret_ref.name;
            let message = format!("key {CLIENT_SECRET} of Secret {name} is empty");
            return Err(("InvalidCredential", message));
        }
        Ok(mcp_route::Key::Token(Arc::new(Credential {
            policy: Arc::from(format!("{}/{server}", self.key)),
            scheme: Scheme::Header(CredentialKind::Bearer),
            source: Some(Source::Oidc(Oidc {
                issuer: own.issuer.trim_end_matches('/').to_owned(),
                endpoint: own.token_endpoint.clone(),
                client: own.client_id.clone(),
                secret: Secret::new(secret),
                scopes: own.scopes.clone(),
                audience: own.audience.clone(),
                resource: own.resource.clone(),
            })),
            brought: None,
            prefix: None,
        })))
    }

    /// Returns the value of `entry` in the Secret that `reference` leads to, without whitespace around it.
    fn secret(&mut self, reference: &SecretRef, entry: &str) -> Result<String, Trouble> {
        let to = target(
            reference.namespace.as_deref(),
            &reference.name,
            &self.key.namespace,
        );
        let from = End {
            kind: KIND,
            ..End::route(self.key)
        };
        if !permitted(self.resources, from, End::secret(&to), self.notes) {
            let message = format!("no ReferenceGrant allows the reference to Secret {to}");
            return Err(("RefNotPermitted", message));
        }
        let Some(secret) = self.resources.secrets.get(&to) else {
            return Err(("InvalidCredential", format!("Secret {to} does not exist")));
        };
        self.notes.used("Secret", &to);
        let value = secret.spec.data.get(entry);
        let value = value.ok_or_else(|| ("InvalidCredential", format!("Secret {to} has no key {entry}")))?;
        Ok(value.expose().trim().to_owned())
    }
}

const ONE: &str = "only one of apiKey or clientCredentials can be set";
