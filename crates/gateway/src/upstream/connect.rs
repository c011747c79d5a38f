//! Opens connections to upstreams: TCP, and TLS where the backend asks for it.

use std::{
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use config::snapshot::{Endpoint, Tls};
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long a connection may take, TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is needed to connect to one endpoint, prepared when a snapshot is installed.
pub(crate) struct Connector {
    endpoint: Endpoint,
    tls: Option<Result<Handshake, TlsError>>,
}

/// The TLS side of a connector.
struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// TLS cannot be spoken with an upstream; found out at installation, told to every request.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The name is neither a host name nor an address.
    #[error("\"{0}\" cannot be the name of a certificate")]
    Name(String),
    /// The system's authorities cannot be used.
    #[error("the system's certificate authorities cannot be used: {0}")]
    Authorities(String),
}

/// No connection came about; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// [`CONNECT_TIMEOUT`] passed.
    #[error("the connection was not established within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// The name has no address, or nobody listens there.
    #[error("cannot connect")]
    Tcp(#[source] io::Error),
    /// The handshake failed.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// TLS is not possible here.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection was made, but is not fit for HTTP.
    #[error("the connection cannot be used")]
    Http(#[source] hyper::Error),
}

/// A connection, encrypted or not.
pub(crate) enum Io {
    /// In the clear.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Returns what all encrypted connections share.
pub(crate) fn tls_config() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|error| TlsError::Authorities(error.to_string()))?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Connector {
    /// Prepares connections to `endpoint`; `shared` is used where `tls` is set.
    pub(crate) fn new(
        endpoint: Endpoint,
        tls: Option<&Tls>,
        shared: Option<&Result<Arc<ClientConfig>, TlsError>>,
    ) -> Self {
        let tls = tls.map(|tls| {
            let name = ServerName::try_from(tls.hostname.clone())
                .map_err(|_| TlsError::Name(tls.hostname.clone()))?;
            let config = match shared {
                Some(shared) => shared.clone()?,
                None => tls_config()?,
            };
            Ok(Handshake {
                connector: TlsConnector::from(config),
                name,
            })
        });
        Self { endpoint, tls }
    }

    /// Returns a new connection.
    pub(crate) async fn connect(&self) -> Result<Io, ConnectError> {
        timeout(CONNECT_TIMEOUT, self.open())
            .await
            .unwrap_or(Err(ConnectError::Timeout))
    }

    async fn open(&self) -> Result<Io, ConnectError> {
        let Endpoint { host, port } = &self.endpoint;
        let tcp = match host.parse::<IpAddr>() {
            Ok(address) => TcpStream::connect((address, *port)).await,
            Err(_) => TcpStream::connect((host.as_str(), *port)).await,
        };
        let tcp = tcp.map_err(ConnectError::Tcp)?;
        tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
        match &self.tls {
            None => Ok(Io::Plain(tcp)),
            Some(Err(error)) => Err(ConnectError::Tls(error.clone())),
            Some(Ok(Handshake { connector, name })) => {
                let stream = connector.connect(name.clone(), tcp).await;
                Ok(Io::Tls(Box::new(stream.map_err(ConnectError::Handshake)?)))
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
