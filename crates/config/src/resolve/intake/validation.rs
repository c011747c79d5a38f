//! Which certificates clients must have.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::KIND;
use crate::{
    Key, Resources,
    certificate::{Authorities, Revoked},
    encryption::{ClientRules, NameTest},
    kind::{
        ENVOY,
        client_traffic_policy::{ClientValidation, StringMatch, StringMatchType},
    },
    resolve::{End, Notes, certificates},
};

/// Returns what is asked of clients; a field and a message where it cannot be asked.
pub(super) fn clients(
    resources: &Resources,
    key: &Key,
    spec: &ClientValidation,
    notes: &mut Notes,
) -> Result<ClientRules, (String, String)> {
    let from = End {
        group: ENVOY,
        kind: KIND,
        key,
    };
    let texts = certificates::texts(resources, from, &spec.ca_certificate_refs, "ca.crt", notes);
    let texts = texts.map_err(|(index, message)| (format!("caCertificateRefs[{index}]"), message))?;
    if texts.is_empty() {
        let message = "authorities are required: caCertificateRefs";
        return Err(("caCertificateRefs".to_owned(), message.to_owned()));
    }
    let trusted = Authorities::parse(&texts.join("\n"));
    let trusted = trusted.map_err(|message| ("caCertificateRefs".to_owned(), message))?;
    let revoked = spec.crl.as_ref().map(|crl| {
        let texts = certificates::texts(resources, from, &crl.refs, "ca.crl", notes);
        let texts = texts.map_err(|(index, message)| (format!("crl.refs[{index}]"), message))?;
        let only_leaf = crl.only_verify_leaf_certificate == Some(true);
        Revoked::parse(&texts.join("\n"), only_leaf).map_err(|message| ("crl".to_owned(), message))
    });
    let names = spec.subject_alt_names.clone().unwrap_or_default();
    let unserved = [
        ("emailAddresses", !names.email_addresses.is_empty()),
        ("ipAddresses", !names.ip_addresses.is_empty()),
        ("otherNames", !names.other_names.is_empty()),
    ];
    if let Some((field, _)) = unserved.iter().find(|(_, present)| *present) {
        let message = "such names are not checked by this version";
        return Err((format!("subjectAltNames.{field}"), message.to_owned()));
    }
    Ok(ClientRules {
        optional: spec.optional == Some(true),
        authorities: trusted,
        revoked: revoked.transpose()?,
        keys: hashes(&spec.spki_hashes, "spkiHashes", |text| STANDARD.decode(text).ok())?,
        certificates: hashes(&spec.certificate_hashes, "certificateHashes", hex)?,
        hosts: tests(&names.dns_names, "dnsNames")?,
        uris: tests(&names.uris, "uris")?,
    })
}

fn hashes(
    written: &[String],
    field: &str,
    read: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Vec<[u8; 32]>, (String, String)> {
    let hashes = written.iter().enumerate().map(|(index, text)| {
        let hash = read(text).and_then(|bytes| bytes.try_into().ok());
        hash.ok_or_else(|| (format!("{field}[{index}]"), "expected a SHA-256".to_owned()))
    });
    hashes.collect()
}

/// Reads bytes in hex, with or without colons between them.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|char| *char != ':')
        .map(|char| char.to_digit(16))
        .collect::<Option<_>>()?;
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    bytes.collect()
}

fn tests(written: &[StringMatch], field: &str) -> Result<Vec<NameTest>, (String, String)> {
    let tests = written.iter().enumerate().map(|(index, own)| {
        let value = own.value.clone();
        match own.kind.unwrap_or_default() {
            StringMatchType::Exact => Ok(NameTest::Exact(value)),
            StringMatchType::Prefix => Ok(NameTest::Prefix(value)),
            StringMatchType::Suffix => Ok(NameTest::Suffix(value)),
            StringMatchType::RegularExpression => {
                let field = format!("subjectAltNames.{field}[{index}]");
                let parsed = NameTest::pattern(&value);
                parsed.map_err(|message| (field, message))
            }
        }
    });
    tests.collect()
}
