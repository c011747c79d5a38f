//! Who calls: keys, names and passwords.

use http::HeaderName;
use policy::{ApiKey, Basic, Carrier, api_key::Keys, told_in};

use super::builder::Builder;
use crate::kind::security_policy::{ApiKeyAuth, BasicAuth, authentication::ExtractFrom};

impl Builder<'_> {
    /// Returns what `spec`, which lies at `field`, demands.
    pub(in crate::resolve) fn api_key(&mut self, spec: &ApiKeyAuth, field: &str) -> ApiKey {
        let mut keys = Keys::default();
        let mut clients: Vec<&str> = Vec::new();
        for (index, reference) in spec.credential_refs.iter().enumerate() {
            let at = format!("{field}.credentialRefs[{index}]");
            let Some((secret, data)) = self.secret(reference, &at) else {
                continue;
            };
            for (client, key) in &data.data {
                let key = key.expose().trim();
                if key.is_empty() {
                    let message =
                        format!("key \"{client}\" of Secret {secret} is empty: nobody is let in by it");
                    self.warn("EmptyKey", &at, message);
                    continue;
                }
                if clients.contains(&client.as_str()) {
                    let message = format!("client \"{client}\" has a key in an earlier Secret, which counts");
                    self.warn("DuplicateClient", &at, message);
                    continue;
                }
                clients.push(client);
                if let Some(holder) = keys.add(client.as_str(), key) {
                    let message = format!(
                        "clients \"{client}\" and \"{holder}\" have the same key: \"{holder}\" counts"
                    );
                    self.warn("DuplicateKey", &at, message);
                }
            }
        }
        if keys.is_empty() {
            let at = format!("{field}.credentialRefs");
            self.unresolved("InvalidSecret", &at, "no client has a key");
        }
        let mut carriers = Vec::new();
        for (index, places) in spec.extract_from.iter().enumerate() {
            self.extract_from(places, &format!("{field}.extractFrom[{index}]"), &mut carriers);
        }
        if spec.extract_from.is_empty() {
            self.invalid(&format!("{field}.extractFrom"), "must have at least 1 item");
        }
        let header = spec.forward_client_id_header.as_deref();
        ApiKey {
            keys,
            carriers,
            told_in: self.told_in(header, &format!("{field}.forwardClientIDHeader")),
            sanitize: spec.sanitize == Some(true),
        }
    }

    fn extract_from(&mut self, places: &ExtractFrom, field: &str, carriers: &mut Vec<Carrier>) {
        let ExtractFrom {
            headers,
            params,
            cookies,
        } = places;
        let kinds = [headers, params, cookies];
        if kinds.into_iter().filter(|names| !names.is_empty()).count() != 1 {
            let message = "exactly one of headers, params, or cookies must be specified";
            return self.invalid(field, message);
        }
        for (index, name) in headers.iter().enumerate() {
            let at = format!("{field}.headers[{index}]");
            carriers.extend(self.header(name, &at).map(Carrier::header));
        }
        carriers.extend(params.iter().cloned().map(Carrier::Param));
        carriers.extend(cookies.iter().cloned().map(Carrier::Cookie));
    }

    /// Returns what `spec`, which lies at `field`, demands.
    pub(in crate::resolve) fn basic(&mut self, spec: &BasicAuth, field: &str) -> Option<Basic> {
        let at = format!("{field}.users");
        let header = spec.forward_username_header.as_deref();
        let told_in = self.told_in(header, &format!("{field}.forwardUsernameHeader"));
        let (secret, data) = self.secret(&spec.users, &at)?;
        let Some(users) = data.data.get(USERS) else {
            let message = format!("Secret {secret} has no key \"{USERS}\"");
            self.unresolved("InvalidSecret", &at, message);
            return None;
        };
        match Basic::parse(users.expose(), told_in) {
            Ok(basic) => Some(basic),
            Err(error) => {
                let message = format!("key \"{USERS}\" of Secret {secret}: {error}");
                self.unresolved("InvalidSecret", &at, message);
                None
            }
        }
    }

    /// Returns the header in which upstreams are told something, which clients cannot forge.
    pub(super) fn told_in(&mut self, written: Option<&str>, field: &str) -> Option<HeaderName> {
        let written = written.filter(|written| !written.is_empty())?;
        told_in(written)
            .map_err(|error| self.invalid(field, error.to_string()))
            .ok()
    }

    /// Returns a header that clients send.
    pub(super) fn header(&mut self, written: &str, field: &str) -> Option<HeaderName> {
        let name = HeaderName::from_bytes(written.to_ascii_lowercase().as_bytes());
        if name.is_err() {
            self.invalid(field, format!("\"{written}\" is not a header name"));
        }
        name.ok()
    }
}

/// Where a Secret keeps names and passwords.
const USERS: &str = ".htpasswd";
