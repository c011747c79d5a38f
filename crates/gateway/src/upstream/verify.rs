//! Whose certificates are trusted, where a policy does not leave that to the system.

use std::{io, sync::Arc};

use config::{certificate::Certificate, snapshot::Tls};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use rustls_platform_verifier::Verifier;

use super::connect::{ConnectError, PROTOCOLS, TlsError};
use crate::terms;

/// Trusts a certificate that is for one of several names, whatever name was asked for.
#[derive(Debug)]
struct AnyOf {
    inner: Arc<dyn ServerCertVerifier>,
    names: Vec<ServerName<'static>>,
}

/// Returns what connections to one upstream are encrypted with.
pub(crate) fn config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(terms::provider(&tls.terms));
    let unusable = |error: &dyn std::fmt::Display| TlsError::Authorities(error.to_string());
    let mut verifier: Arc<dyn ServerCertVerifier> = match &tls.authorities {
        _ if tls.unverified => Arc::new(Anybody(Arc::clone(&provider))),
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
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(terms::versions(&tls.terms))
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.certificate {
        Some(certificate) => builder.with_client_cert_resolver(Arc::new(Shown(certificate.clone()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match tls.protocols.as_slice() {
        [] => PROTOCOLS.map(<[u8]>::to_vec).into(),
        own => own.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
    };
    Ok(Arc::new(config))
}

/// Shows one certificate to whoever asks for one that it can check.
#[derive(Debug)]
struct Shown(Certificate);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let certified = self.0.certified();
        certified.key.choose_scheme(schemes)?;
        Some(Arc::clone(certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
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
        Some(alert) if is_unwelcome(alert) => return ConnectError::Unwelcome(error),
        Some(_) | None => return ConnectError::Handshake(error),
    };
    ConnectError::Certificate(reason, error)
}

/// Returns what it means that a connection broke before the reply, if the reason is the certificate that the upstream
/// was shown: that is told only once the handshake is done (RFC 8446, section 4.4.2.4).
pub(super) fn unwelcome(error: &(dyn std::error::Error + 'static)) -> Option<ConnectError> {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref()?.downcast_ref::<Error>());
        if let Some(alert) = inner.filter(|inner| is_unwelcome(inner)) {
            return Some(ConnectError::Unwelcome(io::Error::other(alert.clone())));
        }
        cause = error.source();
    }
    None
}

fn is_unwelcome(error: &Error) -> bool {
    matches!(
        error,
        Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                // The signature under it is not that of the authority.
                | AlertDescription::DecryptError,
        )
    )
}

/// Trusts whoever has the key of the certificate that it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
