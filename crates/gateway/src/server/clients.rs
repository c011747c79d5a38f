//! Which certificates of clients are let in.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use config::encryption::{ClientRules, NameTest};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use webpki::EndEntityCert;

/// Lets in whoever a trusted authority vouches for and the rules name.
#[derive(Debug)]
struct Checked {
    inner: Arc<dyn ClientCertVerifier>,
    rules: Arc<ClientRules>,
}

/// Returns what checks the certificates of clients.
pub(super) fn verifier(
    rules: &Arc<ClientRules>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let roots = Arc::new(rules.authorities.roots());
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if let Some(revoked) = &rules.revoked {
        builder = builder.with_crls(revoked.lists());
        if revoked.only_leaf {
            builder = builder.only_check_end_entity_revocation();
        }
    }
    if rules.optional {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    Ok(Arc::new(Checked {
        inner,
        rules: Arc::clone(rules),
    }))
}

impl Checked {
    fn admits(&self, certificate: &CertificateDer<'_>) -> Result<bool, Error> {
        let rules = &self.rules;
        let is_one = |bytes: &[u8], of: &[[u8; 32]]| {
            let hash = digest(&SHA256, bytes);
            of.is_empty() || of.iter().any(|own| own == hash.as_ref())
        };
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        if !is_one(certificate, &rules.certificates) || !is_one(&key, &rules.keys) {
            return Ok(false);
        }
        if rules.hosts.is_empty() && rules.uris.is_empty() {
            return Ok(true);
        }
        let parsed = EndEntityCert::try_from(certificate);
        let parsed = parsed.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let fits = |mut names: Vec<&str>, tests: &[NameTest]| {
            names.retain(|name| tests.iter().any(|test| test.fits(name)));
            !names.is_empty()
        };
        // One name is enough, of whatever kind.
        Ok(fits(parsed.valid_dns_names().collect(), &rules.hosts)
            || fits(parsed.valid_uri_names().collect(), &rules.uris))
    }
}

impl ClientCertVerifier for Checked {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if self.admits(end_entity)? {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
