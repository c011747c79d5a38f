//! Certificates, as several kinds refer to them: those to be shown in Secrets, those of authorities in ConfigMaps too.

use super::{End, Notes, permitted, target};
use crate::{Key, Resources, certificate::Certificate, kind::reference::SecretRef};

/// Returns the certificate that `reference` leads to, with its key.
///
/// # Errors
/// Why it leads to none: in one word and in a sentence.
pub(super) fn certificate(
    resources: &Resources,
    from: End<'_>,
    reference: &SecretRef,
    notes: &mut Notes,
) -> Result<Certificate, (&'static str, String)> {
    let invalid = |message: String| ("InvalidCertificateRef", message);
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    if (group, kind) != ("", "Secret") {
        return Err(invalid(format!(
            "a {kind} holds no certificate: only a Secret does"
        )));
    }
    let to = target(
        reference.namespace.as_deref(),
        &reference.name,
        &from.key.namespace,
    );
    if !permitted(resources, from, End::secret(&to), notes) {
        let message = format!("no ReferenceGrant allows the reference to Secret {to}");
        return Err(("RefNotPermitted", message));
    }
    let secret = resources.secrets.get(&to);
    let secret = secret.ok_or_else(|| invalid(format!("Secret {to} does not exist")))?;
    notes.used("Secret", &to);
    let value = |name: &str| {
        let value = secret.spec.data.get(name);
        value.ok_or_else(|| invalid(format!("Secret {to} has no key \"{name}\"")))
    };
    let parsed = Certificate::parse(value("tls.crt")?, value("tls.key")?);
    parsed.map_err(|reason| invalid(format!("Secret {to}: {reason}")))
}

/// Returns the texts under `entry` of what `references` lead to.
///
/// # Errors
/// The place of the first reference that leads to none, and why.
pub(super) fn texts(
    resources: &Resources,
    from: End<'_>,
    references: &[SecretRef],
    entry: &str,
    notes: &mut Notes,
) -> Result<Vec<String>, (usize, String)> {
    let texts = references.iter().enumerate().map(|(index, reference)| {
        text(resources, from, reference, entry, notes).map_err(|message| (index, message))
    });
    texts.collect()
}

fn text(
    resources: &Resources,
    from: End<'_>,
    reference: &SecretRef,
    entry: &str,
    notes: &mut Notes,
) -> Result<String, String> {
    let to = target(
        reference.namespace.as_deref(),
        &reference.name,
        &from.key.namespace,
    );
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    match (group, kind) {
        ("", "Secret") => {
            allow(resources, from, End::secret(&to), notes)?;
            let secret = resources.secrets.get(&to);
            let secret = secret.ok_or_else(|| format!("Secret {to} does not exist"))?;
            notes.used("Secret", &to);
            let value = secret.spec.data.get(entry);
            let value = value.ok_or_else(|| format!("Secret {to} has no key \"{entry}\""))?;
            Ok(value.expose().to_owned())
        }
        ("", "ConfigMap") => {
            allow(resources, from, config_map(&to), notes)?;
            let map = resources.config_maps.get(&to);
            let map = map.ok_or_else(|| format!("ConfigMap {to} does not exist"))?;
            notes.used("ConfigMap", &to);
            let value = map.spec.data.get(entry);
            let value = value.ok_or_else(|| format!("ConfigMap {to} has no key \"{entry}\""))?;
            Ok(value.clone())
        }
        (_, kind) => Err(format!(
            "a {kind} holds no authority: only a Secret or a ConfigMap does"
        )),
    }
}

fn config_map(key: &Key) -> End<'_> {
    End {
        group: "",
        kind: "ConfigMap",
        key,
    }
}

fn allow(resources: &Resources, from: End<'_>, to: End<'_>, notes: &mut Notes) -> Result<(), String> {
    if permitted(resources, from, to, notes) {
        return Ok(());
    }
    Err(format!(
        "no ReferenceGrant allows the reference to {} {}",
        to.kind, to.key
    ))
}
