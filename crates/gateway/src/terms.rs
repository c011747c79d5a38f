//! What is agreed to where connections are encrypted, with clients and with upstreams.

use config::encryption::{Terms, TlsVersion};
use rustls::{
    SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};

/// Returns what encrypts, as far as it is agreed to.
pub(crate) fn provider(terms: &Terms) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if !terms.ciphers.is_empty() {
        // Those of TLS 1.3 are not for choosing.
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || terms.ciphers.contains(&u16::from(suite.suite())));
    }
    if !terms.groups.is_empty() {
        provider
            .kx_groups
            .retain(|group| terms.groups.contains(&u16::from(group.name())));
    }
    provider
}

/// Returns the versions that are agreed to.
pub(crate) fn versions(terms: &Terms) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    const OLDER: &[&SupportedProtocolVersion] = &[&TLS12];
    const NEWER: &[&SupportedProtocolVersion] = &[&TLS13];
    match (terms.oldest, terms.newest) {
        (TlsVersion::Tls12, TlsVersion::Tls13) => BOTH,
        (TlsVersion::Tls12, TlsVersion::Tls12) => OLDER,
        (TlsVersion::Tls13, TlsVersion::Tls12 | TlsVersion::Tls13) => NEWER,
    }
}
