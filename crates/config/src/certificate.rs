//! Certificates and their keys, as listeners show them to clients, and those of authorities, as upstreams are checked
//! against.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use crate::Secret;

/// A chain of certificates and the key of the first. Neither prints.
#[derive(Clone)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads a chain and a key, both in PEM.
    ///
    /// # Errors
    /// Why they are not a certificate and its key.
    pub fn parse(chain: &Secret, key: &Secret) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(chain.expose().as_bytes());
        let chain: Vec<_> = chain
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the certificate is not PEM: {error}"))?;
        if chain.is_empty() {
            return Err("there is no certificate in PEM".to_owned());
        }
        // What the reader says of a key may quote it.
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
            .map_err(|_| "there is no private key in PEM".to_owned())?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| format!("the certificate and its key cannot be used: {error}"))?;
        let first = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
        first.map_err(|error| format!("the certificate cannot be read: {error}"))?;
        Ok(Self {
            certified: Arc::new(certified),
        })
    }

    /// Returns what a handshake is made with.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Returns whether the certificate is for `name`.
    pub fn is_for(&self, name: &str) -> bool {
        let parsed = self
            .certified
            .end_entity_cert()
            .and_then(ParsedCertificate::try_from);
        let name = ServerName::try_from(name);
        match (parsed, name) {
            (Ok(parsed), Ok(name)) => rustls::client::verify_server_name(&parsed, &name).is_ok(),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }
}

/// Certificates of authorities.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authorities(Arc<[Vec<u8>]>);

impl Authorities {
    /// Reads certificates in PEM.
    ///
    /// # Errors
    /// Why they are none.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let read = CertificateDer::pem_slice_iter(pem.as_bytes());
        let read: Vec<CertificateDer<'_>> = read
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the authority is not PEM: {error}"))?;
        if read.is_empty() {
            return Err("there is no certificate in PEM".to_owned());
        }
        let mut roots = RootCertStore::empty();
        for certificate in &read {
            let added = roots.add(certificate.clone());
            added.map_err(|error| format!("the authority cannot be used: {error}"))?;
        }
        Ok(Self(
            read.iter().map(|certificate| certificate.to_vec()).collect(),
        ))
    }

    /// Returns them as a handshake wants them.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.0.iter().cloned().map(CertificateDer::from));
        roots
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none; never true of what was parsed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("count", &self.len())
            .finish_non_exhaustive()
    }
}

/// Certificates are equal if their chains are: the key is that of the first.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("chain", &self.certified.cert.len())
            .finish_non_exhaustive()
    }
}
