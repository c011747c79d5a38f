//! Whose certificates are trusted, where a policy does not leave that to the system.

use std::{io, sync::Arc};

use config::snapshot::Tls;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;

use super::connect::{ConnectError, PROTOCOLS, TlsError};

/// Trusts a certificate that is for one of several names, whatever name was asked for.
#[derive(Debug)]
struct AnyOf {
    inner: Arc<dyn ServerCertVerifier>,
    names: Vec<ServerName<'static>>,
}

/// Returns what connections to one upstream are encrypted with.
pub(crate) fn config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let unusable = |error: &dyn std::fmt::Display| TlsError::Authorities(error.to_string());
    let mut verifier: Arc<dyn ServerCertVerifier> = match &tls.authorities {
        Some(own) => {
            let roots = Arc::new(own.roots());
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| unusable(&error))?
        }
        None => Arc::new(Verifier::new(Arc::clone(&provider)).map_err(|error| unusable(&error))?),
    };
    if !tls.names.is_empty() {
        let names = tls.names.iter().map(|name| {
            let parsed = ServerName::try_from(name.clone());
            parsed.map_err(|_| TlsError::Name(name.clone()))
        });
        verifier = Arc::new(AnyOf {
            inner: verifier,
            names: names.collect::<Result<_, _>>()?,
        });
    }
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Arc::new(config))
}

/// Returns what a handshake that failed amounts to: what is wrong with the certificate, if that is the reason.
pub(super) fn refused(error: io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let reason = match inner {
        Some(Error::InvalidCertificate(reason)) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "is for another name"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "is not signed by a trusted authority"
            }
            CertificateError::Revoked => "has been revoked",
            _ => "cannot be trusted",
        },
        Some(_) | None => return ConnectError::Handshake(error),
    };
    ConnectError::Certificate(reason, error)
}

impl ServerCertVerifier for AnyOf {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut refused = Error::InvalidCertificate(CertificateError::NotValidForName);
        for name in &self.names {
            match self
                .inner
                .verify_server_cert(end_entity, intermediates, name, ocsp, now)
            {
                Ok(verified) => return Ok(verified),
                Err(error) => refused = error,
            }
        }
        Err(refused)
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
