//! Who calls: keys, names and passwords, signed tokens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::{HeaderName, header};
use policy::{
    ApiKey, Basic, Carrier, Jwt, Remote,
    api_key::Keys,
    jwt::{self, KeySet, Provider},
    told_in,
};

use super::builder::Builder;
use crate::{
    Secret,
    kind::{
        reference::LocalRef,
        security_policy::{
            self, ApiKeyAuth, BasicAuth,
            authentication::{ExtractFrom, JwtExtractor, JwtProvider, LocalJwks, LocalJwksType, RemoteJwks},
        },
    },
};

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

    /// Returns what `spec`, which lies at `field`, demands.
    pub(in crate::resolve) fn jwt(&mut self, spec: &security_policy::Jwt, field: &str) -> Jwt {
        if spec.providers.is_empty() || spec.providers.len() > MAX_PROVIDERS {
            let message = format!("must have 1 to {MAX_PROVIDERS} items");
            self.invalid(&format!("{field}.providers"), message);
        }
        let mut names = BTreeSet::new();
        let mut providers = Vec::new();
        for (index, provider) in spec.providers.iter().enumerate() {
            let at = format!("{field}.providers[{index}]");
            if !names.insert(&provider.name) {
                self.invalid(&format!("{at}.name"), "names of providers must be unique");
            }
            providers.extend(self.provider(provider, &at));
        }
        Jwt {
            providers,
            optional: spec.optional == Some(true),
        }
    }

    /// Returns what `spec`, which lies at `field`, vouches for.
    pub(in crate::resolve) fn provider(&mut self, spec: &JwtProvider, field: &str) -> Option<Provider> {
        if spec.recompute_route == Some(true) && spec.claim_to_headers.is_empty() {
            let message = "claimToHeaders must be specified if recomputeRoute is enabled";
            self.invalid(field, message);
        }
        let mut headers = Vec::new();
        for (index, told) in spec.claim_to_headers.iter().enumerate() {
            let at = format!("{field}.claimToHeaders[{index}].header");
            let header = self.told_in(Some(&told.header), &at);
            headers.extend(header.map(|header| (told.claim.clone(), header)));
        }
        let carriers = self.token_carriers(spec.extract_from.as_ref(), &format!("{field}.extractFrom"));
        Some(Provider {
            name: Arc::from(spec.name.as_str()),
            issuer: spec.issuer.clone().filter(|issuer| !issuer.is_empty()),
            audiences: spec.audiences.clone(),
            keys: self.keys(spec.remote_jwks.as_ref(), spec.local_jwks.as_ref(), field)?,
            carriers,
            told_in: headers,
            recompute_route: spec.recompute_route == Some(true),
        })
    }

    /// Returns where the keys of the issuer at `field` are.
    pub(in crate::resolve) fn keys(
        &mut self,
        remote: Option<&RemoteJwks>,
        local: Option<&LocalJwks>,
        field: &str,
    ) -> Option<jwt::Keys> {
        match (remote, local) {
            (Some(remote), None) => self.remote_keys(remote, &format!("{field}.remoteJWKS")),
            (None, Some(local)) => self.local_keys(local, &format!("{field}.localJWKS")),
            (None, None) => {
                self.invalid(field, "either remoteJWKS or localJWKS must be specified");
                None
            }
            (Some(_), Some(_)) => {
                self.invalid(field, "remoteJWKS and localJWKS cannot both be specified");
                None
            }
        }
    }

    fn remote_keys(&mut self, spec: &RemoteJwks, field: &str) -> Option<jwt::Keys> {
        let (uri, id, own) = self.address(&spec.uri, &format!("{field}.uri"))?;
        let service = if spec.backend_refs.is_empty() {
            if spec.backend_settings.is_some() {
                let at = format!("{field}.backendSettings");
                self.warn("NoEffect", &at, "goes with backendRefs");
            }
            self.serve(id, own)
        } else {
            let way = (spec.backend_settings.as_ref(), false);
            self.service(&spec.backend_refs, way, &format!("{field}.backendRefs"))?
        };
        Some(jwt::Keys::Remote(self.fetch(Remote {
            service,
            uri,
            keep: spec.cache_duration.and_then(crate::kind::Duration::limit),
            issuer: None,
        })))
    }

    fn local_keys(&mut self, spec: &LocalJwks, field: &str) -> Option<jwt::Keys> {
        let document = match (
            spec.kind.unwrap_or(LocalJwksType::Inline),
            &spec.inline,
            &spec.value_ref,
        ) {
            (LocalJwksType::Inline, Some(inline), None) => inline.clone(),
            (LocalJwksType::ValueRef, None, Some(reference)) => {
                self.value(reference, &format!("{field}.valueRef"))?
            }
            _ => {
                let message = "Exactly one of inline or valueRef must be set with correct type";
                self.invalid(field, message);
                return None;
            }
        };
        match KeySet::parse(document.as_bytes()) {
            Ok(keys) => Some(jwt::Keys::Local(Arc::new(keys))),
            Err(error) => {
                self.invalid(field, error.to_string());
                None
            }
        }
    }

    /// Returns the document that a ConfigMap or a Secret of the namespace holds.
    fn value(&mut self, reference: &LocalRef, field: &str) -> Option<String> {
        let to = self.named(None, &reference.name);
        let found = match (reference.group.as_str(), reference.kind.as_str()) {
            ("", "ConfigMap") => {
                let declared = self.resources.config_maps.get(&to);
                self.notes.used("ConfigMap", &to);
                declared.and_then(|declared| declared.spec.text(JWKS).map(str::to_owned))
            }
            ("", "Secret") => {
                let declared = self.resources.secrets.get(&to);
                self.notes.used("Secret", &to);
                let data = declared.map(|declared| &declared.spec.data);
                let only = |data: &BTreeMap<String, Secret>| {
                    data.values().next().filter(|_| data.len() == 1).cloned()
                };
                let value = data.and_then(|data| data.get(JWKS).cloned().or_else(|| only(data)));
                value.map(|value| value.expose().to_owned())
            }
            _ => {
                self.invalid(field, "only a ConfigMap or a Secret can be referred to");
                return None;
            }
        };
        if found.is_none() {
            let message = format!("{} {to} has no key \"{JWKS}\", and no only one", reference.kind);
            self.unresolved("InvalidKeys", field, message);
        }
        found
    }

    fn token_carriers(&mut self, spec: Option<&JwtExtractor>, field: &str) -> Vec<Carrier> {
        let default = JwtExtractor::default();
        let spec = spec.unwrap_or(&default);
        let mut carriers = Vec::new();
        for (index, from) in spec.headers.iter().enumerate() {
            let at = format!("{field}.headers[{index}].name");
            let prefix = from.value_prefix.clone().unwrap_or_default();
            carriers.extend(
                self.header(&from.name, &at)
                    .map(|name| Carrier::Header(name, prefix)),
            );
        }
        carriers.extend(spec.cookies.iter().cloned().map(Carrier::Cookie));
        carriers.extend(spec.params.iter().cloned().map(Carrier::Param));
        if carriers.is_empty() {
            carriers.push(Carrier::Header(header::AUTHORIZATION, "Bearer ".to_owned()));
            carriers.push(Carrier::Param("access_token".to_owned()));
        }
        carriers
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

/// The most providers that may vouch for one request.
const MAX_PROVIDERS: usize = 4;

/// Where a ConfigMap or Secret keeps keys of issuers.
const JWKS: &str = "jwks";

/// Where a Secret keeps names and passwords.
const USERS: &str = ".htpasswd";
