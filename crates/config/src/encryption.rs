//! How connections of clients are encrypted: what they are shown, what is agreed to, and what is asked of them.

use std::{fmt, sync::Arc};

use regex::Regex;

use crate::{
    certificate::{Authorities, Certificate, Revoked},
    host::Host,
};

/// How connections of clients are encrypted.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTls {
    /// The host of the listener.
    pub host: Host,
    /// Never empty. The first is shown to clients whose name none is for.
    pub certificates: Vec<Certificate>,
    /// What is agreed to.
    pub handshake: Handshake,
    /// What clients show.
    pub clients: ClientCertificates,
}

/// What is agreed to with whoever is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Terms {
    /// The oldest version.
    pub oldest: TlsVersion,
    /// The newest version.
    pub newest: TlsVersion,
    /// Ciphers of TLS 1.2, by their registered numbers; all that are known if it is empty.
    pub ciphers: Vec<u16>,
    /// Groups for the exchange of keys, by their registered numbers; all that are known if it is empty.
    pub groups: Vec<u16>,
}

/// What is agreed to with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// About the encryption itself.
    pub terms: Terms,
    /// Versions of HTTP, the most wanted first; if it is empty nothing is said about that.
    pub protocols: Vec<String>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// Which certificates clients show.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientCertificates {
    /// None: they are not asked.
    Unasked,
    /// Those that fit.
    Required(Arc<ClientRules>),
    /// Whatever they show, they are not let in, for this reason.
    Nobody(String),
}

/// Which certificates of clients fit. Of each list that is not empty one entry must.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientRules {
    /// Whether clients that show none are let in.
    pub optional: bool,
    /// Who signs them.
    pub authorities: Authorities,
    /// Those that are void.
    pub revoked: Option<Revoked>,
    /// SHA-256 of keys.
    pub keys: Vec<[u8; 32]>,
    /// SHA-256 of certificates.
    pub certificates: Vec<[u8; 32]>,
    /// Names of hosts that they are for.
    pub hosts: Vec<NameTest>,
    /// URIs that they are for.
    pub uris: Vec<NameTest>,
}

/// What a name must be.
#[derive(Clone)]
pub enum NameTest {
    /// This.
    Exact(String),
    /// It begins like this.
    Prefix(String),
    /// It ends like this.
    Suffix(String),
    /// The expression matches all of it.
    Pattern(Regex),
}

impl ServerTls {
    /// Adds what another listener of the same host has.
    pub fn join(&mut self, other: &Self) {
        let new = |certificate: &&Certificate| !self.certificates.contains(certificate);
        let more: Vec<Certificate> = other.certificates.iter().filter(new).cloned().collect();
        self.certificates.extend(more);
        // Whoever asks something of clients asks it of all that come for the host.
        if self.clients == ClientCertificates::Unasked {
            self.clients = other.clients.clone();
        }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            oldest: TlsVersion::Tls12,
            newest: TlsVersion::Tls13,
            ciphers: Vec::new(),
            groups: Vec::new(),
        }
    }
}

impl Default for Handshake {
    fn default() -> Self {
        Self {
            terms: Terms::default(),
            protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
        }
    }
}

impl ClientRules {
    /// Returns the rules that let in whoever one of `authorities` vouches for.
    pub fn of(authorities: Authorities) -> Self {
        Self {
            optional: false,
            authorities,
            revoked: None,
            keys: Vec::new(),
            certificates: Vec::new(),
            hosts: Vec::new(),
            uris: Vec::new(),
        }
    }
}

impl NameTest {
    /// Reads an expression.
    ///
    /// # Errors
    /// Why it is none.
    pub fn pattern(written: &str) -> Result<Self, String> {
        let pattern = Regex::new(&format!("^(?:{written})$"));
        pattern.map(Self::Pattern).map_err(|error| error.to_string())
    }

    /// Returns whether `name` is as it must be.
    pub fn fits(&self, name: &str) -> bool {
        match self {
            NameTest::Exact(own) => own == name,
            NameTest::Prefix(own) => name.starts_with(own.as_str()),
            NameTest::Suffix(own) => name.ends_with(own.as_str()),
            NameTest::Pattern(own) => own.is_match(name),
        }
    }
}

impl fmt::Debug for NameTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameTest::Exact(own) => write!(f, "{own}"),
            NameTest::Prefix(own) => write!(f, "{own}…"),
            NameTest::Suffix(own) => write!(f, "…{own}"),
            NameTest::Pattern(own) => write!(f, "/{own}/"),
        }
    }
}

/// Expressions are equal if they are written alike.
impl PartialEq for NameTest {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (NameTest::Exact(own), NameTest::Exact(other))
            | (NameTest::Prefix(own), NameTest::Prefix(other))
            | (NameTest::Suffix(own), NameTest::Suffix(other)) => own == other,
            (NameTest::Pattern(own), NameTest::Pattern(other)) => own.as_str() == other.as_str(),
            (NameTest::Exact(_) | NameTest::Prefix(_) | NameTest::Suffix(_) | NameTest::Pattern(_), _) => {
                false
            }
        }
    }
}
