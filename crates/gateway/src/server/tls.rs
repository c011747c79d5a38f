//! TLS towards clients: which certificate a connection is shown, by the name that it asks for.
//!
//! What encrypts is made when a snapshot is installed and looked up for each connection, so that a new
//! certificate serves the next connection and disturbs none that is open.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use config::{
    Snapshot,
    certificate::Certificate,
    encryption::{ClientCertificates, ServerTls},
    host::Hosts,
};
use rustls::{
    ServerConfig,
    server::{Acceptor, ClientHello, NoClientAuth, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::clients;
use crate::terms;

/// How long a client may take for its side of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What encrypts the connections of a snapshot, by port.
#[derive(Default)]
pub(crate) struct Encryption {
    ports: HashMap<u16, Hosts<Encrypted>>,
}

/// What encrypts the connections of one listener.
#[derive(Clone)]
struct Encrypted {
    tls: Arc<ServerTls>,
    /// `None` where nobody is let in.
    config: Option<Arc<ServerConfig>>,
}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// [`HANDSHAKE_TIMEOUT`] passed.
    #[error("the handshake took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    /// The client speaks no TLS that we do, or went away.
    #[error("the handshake failed")]
    Failed(#[source] io::Error),
    /// No listener is for the name that the client asks for, or that one lets nobody in.
    #[error("no listener lets in who asks for this name")]
    Unknown,
}

impl Encryption {
    /// Returns what encrypts the connections of `snapshot`; what did before goes on where nothing changed for it,
    /// so that clients can resume their sessions.
    pub(crate) fn new(snapshot: &Snapshot, before: &Self) -> Self {
        let mut ports = HashMap::new();
        for (port, listener) in &snapshot.listeners {
            let Some(listeners) = &listener.tls else {
                continue;
            };
            let known = before.ports.get(port);
            let hosts: &mut Hosts<Encrypted> = ports.entry(*port).or_default();
            for tls in listeners.values() {
                let same = known.and_then(|known| known.values().find(|known| known.tls == *tls));
                match same.cloned().map_or_else(|| Encrypted::new(tls), Ok) {
                    Ok(encrypted) => {
                        hosts.entry(&tls.host, || encrypted);
                    }
                    Err(error) => tracing::error!(port, host = %tls.host, %error, "cannot encrypt"),
                }
            }
        }
        Self { ports }
    }

    /// Returns whether connections to `port` are encrypted.
    pub(crate) fn covers(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    /// Returns what encrypts a connection to `port` whose client asks for `name`.
    pub(crate) fn find(&self, port: u16, name: &str) -> Option<Arc<ServerConfig>> {
        self.ports.get(&port)?.of(name).next()?.config.clone()
    }
}

impl Encrypted {
    fn new(tls: &Arc<ServerTls>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(terms::provider(&tls.handshake.terms));
        let clients = match &tls.clients {
            ClientCertificates::Unasked => Arc::new(NoClientAuth),
            ClientCertificates::Required(rules) => clients::verifier(rules, &provider)?,
            ClientCertificates::Nobody(reason) => {
                tracing::warn!(host = %tls.host, reason, "nobody is let in");
                return Ok(Self {
                    tls: Arc::clone(tls),
                    config: None,
                });
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(terms::versions(&tls.handshake.terms))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(Shown(Arc::clone(tls))));
        let protocols = tls.handshake.protocols.iter();
        config.alpn_protocols = protocols.map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(Self {
            tls: Arc::clone(tls),
            config: Some(Arc::new(config)),
        })
    }
}

/// Encrypts a connection; returns it with the name that the client asked for, in lower case and empty if it asked
/// for none. `find` is given that name.
pub(crate) async fn accept<S>(
    stream: S,
    find: impl FnOnce(&str) -> Option<Arc<ServerConfig>>,
) -> Result<(TlsStream<S>, String), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
            .await
            .map_err(HandshakeError::Failed)?;
        let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
        let name = name.unwrap_or_default();
        let config = find(&name).ok_or(HandshakeError::Unknown)?;
        let stream = start.into_stream(config).await;
        Ok((stream.map_err(HandshakeError::Failed)?, name))
    };
    timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .unwrap_or(Err(HandshakeError::Timeout))
}

/// Chooses among the certificates of a listener.
#[derive(Debug)]
struct Shown(Arc<ServerTls>);

impl ResolvesServerCert for Shown {
    /// The first certificate that is for the name and that the client can check; else the first that it can check,
    /// so that it says itself what it misses.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let checked = |certificate: &&Certificate| {
            let key = &certificate.certified().key;
            key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let certificates = || self.0.certificates.iter().filter(checked);
        let named = hello.server_name().and_then(|name| {
            // One certificate is shown to everybody, so nothing is to be read in it.
            let several = self.0.certificates.len() > 1;
            certificates().find(|certificate| several && certificate.is_for(name))
        });
        let chosen = named.or_else(|| certificates().next());
        chosen.map(|certificate| Arc::clone(certificate.certified()))
    }
}
