//! Versions, ciphers and groups of TLS, as policies for clients and backends write them alike.

use rustls::{CipherSuite, NamedGroup};

use crate::encryption::{Terms, TlsVersion};

/// What is written of the terms of encryption.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenTerms<'a> {
    pub(super) oldest: Option<&'a str>,
    pub(super) newest: Option<&'a str>,
    pub(super) ciphers: &'a [String],
    pub(super) groups: &'a [String],
}

impl WrittenTerms<'_> {
    /// Returns what is meant. What is not known is left out: it was found to be wrong.
    pub(super) fn terms(self) -> Terms {
        let usual = Terms::default();
        let version = |written: Option<&str>| match written {
            Some("1.2") => Some(TlsVersion::Tls12),
            Some("1.3") => Some(TlsVersion::Tls13),
            Some(_) | None => None,
        };
        let ciphers = self.ciphers.iter().filter_map(|name| cipher(name));
        let groups = self.groups.iter().filter_map(|name| group(name));
        Terms {
            oldest: version(self.oldest).unwrap_or(usual.oldest),
            newest: version(self.newest).unwrap_or(usual.newest),
            ciphers: ciphers.map(u16::from).collect(),
            groups: groups.map(u16::from).collect(),
        }
    }

    /// Returns what is wrong: the member, and why.
    pub(super) fn faults(self) -> Vec<(String, &'static str)> {
        let mut faults = Vec::new();
        for (version, member) in [(self.oldest, "minVersion"), (self.newest, "maxVersion")] {
            if version.is_some_and(|version| !VERSIONS.contains(&version)) {
                let message = "expected Auto, 1.2 or 1.3: nothing older is served";
                faults.push((member.to_owned(), message));
            }
        }
        if (self.oldest, self.newest) == (Some("1.3"), Some("1.2")) {
            faults.push(("minVersion".to_owned(), "must not be newer than maxVersion"));
        }
        for (index, name) in self.ciphers.iter().enumerate() {
            if cipher(name).is_none() {
                faults.push((format!("ciphers[{index}]"), "no such cipher is served"));
            }
        }
        for (index, name) in self.groups.iter().enumerate() {
            if group(name).is_none() {
                faults.push((format!("ecdhCurves[{index}]"), "no such group is served"));
            }
        }
        faults
    }
}

/// Returns the cipher of TLS 1.2 with this name in OpenSSL.
fn cipher(name: &str) -> Option<CipherSuite> {
    let found = CIPHERS.iter().find(|(known, _)| *known == name);
    found.map(|(_, cipher)| *cipher)
}

/// Returns the group with this name in OpenSSL.
fn group(name: &str) -> Option<NamedGroup> {
    let found = GROUPS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, group)| *group)
}

const CIPHERS: &[(&str, CipherSuite)] = &[
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

const GROUPS: &[(&str, NamedGroup)] = &[
    ("X25519", NamedGroup::X25519),
    ("P-256", NamedGroup::secp256r1),
    ("P-384", NamedGroup::secp384r1),
    ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
];

const VERSIONS: [&str; 3] = ["Auto", "1.2", "1.3"];
