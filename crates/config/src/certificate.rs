//! Certificates and their keys, as listeners show them to clients, and those of authorities, as upstreams are checked
//! against.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, pem::PemObject},
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

    fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.certified.cert.iter().map(AsRef::as_ref)
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

/// Lists of certificates that are void.
#[derive(Clone, PartialEq, Eq)]
pub struct Revoked {
    lists: Arc<[Vec<u8>]>,
    /// Whether authorities in between are not looked up in them.
    pub only_leaf: bool,
}

impl Revoked {
    /// Reads lists in PEM.
    ///
    /// # Errors
    /// Why they are none.
    pub fn parse(pem: &str, only_leaf: bool) -> Result<Self, String> {
        let read = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes());
        let read: Vec<CertificateRevocationListDer<'_>> = read
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the list is not PEM: {error}"))?;
        if read.is_empty() {
            return Err("there is no list of revoked certificates in PEM".to_owned());
        }
        Ok(Self {
            lists: read.iter().map(|list| list.to_vec()).collect(),
            only_leaf,
        })
    }

    /// Returns them as a handshake wants them.
    pub fn lists(&self) -> Vec<CertificateRevocationListDer<'static>> {
        let lists = self.lists.iter().cloned();
        lists.map(CertificateRevocationListDer::from).collect()
    }
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoked")
            .field("lists", &self.lists.len())
            .finish_non_exhaustive()
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
        self.chain().eq(other.chain())
    }
}

impl Eq for Certificate {}

impl PartialOrd for Certificate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Certificate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.chain().cmp(other.chain())
    }
}

impl Hash for Certificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.chain().for_each(|certificate| certificate.hash(state));
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("chain", &self.certified.cert.len())
            .finish_non_exhaustive()
    }
}
