//! Opens connections to upstreams: TCP, and TLS where the backend asks for it.

use std::{
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use config::snapshot::{Endpoint, Protocol, Tls};
use policy::traffic::{Connections, KeepAlive};
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    proxy::{self, ProxyError},
    verify,
};

/// What is needed to connect to one endpoint, prepared when a snapshot is installed.
pub(crate) struct Connector {
    endpoint: Endpoint,
    tls: Option<Result<Handshake, TlsError>>,
    /// The TLS side of the way to the endpoint's proxy.
    proxy_tls: Option<Result<Handshake, TlsError>>,
    connections: Connections,
}

/// The TLS side of a connector.
#[derive(Clone)]
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
    /// The time to connect passed.
    #[error("the connection was not established within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The name has no address, or nobody listens there.
    #[error("cannot connect")]
    Tcp(#[source] io::Error),
    /// The handshake failed.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The certificate is not one to be trusted.
    #[error("the upstream's certificate {0}")]
    Certificate(&'static str, #[source] io::Error),
    /// The upstream wants another certificate of us, or one at all.
    #[error("the upstream does not take the certificate that it is shown, or wants one")]
    Unwelcome(#[source] io::Error),
    /// The proxy on the way did not connect.
    #[error("the proxy does not connect")]
    Proxy(#[from] ProxyError),
    /// TLS is not possible here.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection was made, but is not fit for HTTP.
    #[error("the connection cannot be used")]
    Http(#[source] hyper::Error),
    /// The same, with HTTP/2.
    #[error("the connection cannot be used")]
    Http2(#[source] h2::Error),
    /// The request cannot be said in HTTP/2.
    #[error("the request cannot be said")]
    Request(#[source] http::Error),
}

/// Which versions of HTTP are offered where a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// HTTP/2 and HTTP/1.1.
    Any,
    /// HTTP/1.1 alone.
    Http1,
}

/// A connection, encrypted or not.
pub(crate) enum Io {
    /// In the clear.
    Plain(TcpStream),
    /// To a process of this machine.
    Unix(UnixStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// Encrypted, through a proxy or to a process of this machine.
    Within(Box<TlsStream<Io>>),
}

/// Returns what all encrypted connections share.
pub(crate) fn tls_config() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|error| TlsError::Authorities(error.to_string()))?
        .with_no_client_auth();
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Arc::new(config))
}

/// What is offered where both versions of HTTP will do, the better one first.
pub(super) const PROTOCOLS: [&[u8]; 2] = [HTTP2, HTTP1];
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

impl Connector {
    /// Prepares connections to `endpoint`; `shared` is used where `tls` is set.
    pub(crate) fn new(
        endpoint: Endpoint,
        tls: Option<&Tls>,
        shared: Option<&Result<Arc<ClientConfig>, TlsError>>,
        connections: Connections,
    ) -> Self {
        let prepare = |tls: &Tls| Handshake::new(tls, shared);
        let proxy = endpoint.proxy.as_ref();
        let proxy_tls = proxy.and_then(|proxy| proxy.tls.as_ref()).map(prepare);
        Self {
            tls: tls.map(prepare),
            proxy_tls,
            endpoint,
            connections,
        }
    }

    /// Returns a connector to the same endpoint, at another port perhaps, and by HTTP/2 in any case if that is wanted.
    pub(super) fn beside(&self, port: Option<u16>, http2: bool) -> Self {
        let own = &self.endpoint;
        self.to(Endpoint {
            port: port.unwrap_or(own.port),
            protocol: if http2 { Protocol::Http2 } else { own.protocol },
            ..own.clone()
        })
    }

    /// Returns a connector to one address of the endpoint, whose certificate is for the same name.
    pub(super) fn at(&self, address: IpAddr) -> Self {
        self.to(Endpoint {
            host: address.to_string(),
            ..self.endpoint.clone()
        })
    }

    fn to(&self, endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            tls: self.tls.clone(),
            proxy_tls: self.proxy_tls.clone(),
            connections: self.connections,
        }
    }

    /// Returns the endpoint.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the addresses that the endpoint's name has now, as the system orders them.
    pub(super) async fn look_up(&self) -> Result<Vec<IpAddr>, ConnectError> {
        let limit = self.connections.connect;
        let asked = lookup_host((self.endpoint.host.as_str(), self.endpoint.port));
        let found = timeout(limit, asked).await;
        let found = found.map_err(|_| ConnectError::Timeout(limit))?;
        Ok(found
            .map_err(ConnectError::Tcp)?
            .map(|address| address.ip())
            .collect())
    }

    /// Returns whether connections are encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns what is spoken where connections are not encrypted.
    pub(super) fn protocol(&self) -> Protocol {
        self.endpoint.protocol
    }

    /// Returns a new connection.
    pub(super) async fn connect(&self, offer: Offer) -> Result<Io, ConnectError> {
        let limit = self.connections.connect;
        timeout(limit, self.open(offer))
            .await
            .unwrap_or(Err(ConnectError::Timeout(limit)))
    }

    async fn open(&self, offer: Offer) -> Result<Io, ConnectError> {
        if let Some(path) = &self.endpoint.socket {
            let stream = UnixStream::connect(path.as_ref()).await;
            let io = Io::Unix(stream.map_err(ConnectError::Tcp)?);
            return secure(io, self.tls.as_ref(), offer).await;
        }
        let Some(proxy) = &self.endpoint.proxy else {
            let io = Io::Plain(dial(&self.endpoint.host, self.endpoint.port, &self.connections).await?);
            return secure(io, self.tls.as_ref(), offer).await;
        };
        let io = Io::Plain(dial(&proxy.host, proxy.port, &self.connections).await?);
        let mut io = secure(io, self.proxy_tls.as_ref(), Offer::Http1).await?;
        proxy::tunnel(proxy, &self.endpoint, &mut io).await?;
        secure(io, self.tls.as_ref(), offer).await
    }
}

impl Handshake {
    fn new(tls: &Tls, shared: Option<&Result<Arc<ClientConfig>, TlsError>>) -> Result<Self, TlsError> {
        let name =
            ServerName::try_from(tls.hostname.clone()).map_err(|_| TlsError::Name(tls.hostname.clone()))?;
        let config = match shared {
            _ if *tls != Tls::to(tls.hostname.as_str()) => verify::config(tls)?,
            Some(shared) => shared.clone()?,
            None => tls_config()?,
        };
        Ok(Self {
            connector: TlsConnector::from(config),
            name,
        })
    }

    async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: S,
        offer: Offer,
    ) -> io::Result<TlsStream<S>> {
        let name = self.name.clone();
        match offer {
            Offer::Any => self.connector.connect(name, io).await,
            Offer::Http1 => {
                let only = self.connector.with_alpn(vec![HTTP1.to_vec()]);
                only.connect(name, io).await
            }
        }
    }
}

async fn dial(host: &str, port: u16, connections: &Connections) -> Result<TcpStream, ConnectError> {
    let tcp = match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    };
    let tcp = tcp.map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    if let Some(probes) = &connections.keep_alive {
        keep_alive(&tcp, probes).map_err(ConnectError::Tcp)?;
    }
    Ok(tcp)
}

/// Has the system probe a connection that is silent.
pub(crate) fn keep_alive(tcp: &TcpStream, probes: &KeepAlive) -> io::Result<()> {
    let mut wanted = TcpKeepalive::new();
    if let Some(idle) = probes.idle {
        wanted = wanted.with_time(idle);
    }
    if let Some(interval) = probes.interval {
        wanted = wanted.with_interval(interval);
    }
    if let Some(count) = probes.probes {
        wanted = wanted.with_retries(count);
    }
    SockRef::from(tcp).set_tcp_keepalive(&wanted)
}

/// Speaks TLS on `io` where there is a handshake for it.
async fn secure(io: Io, tls: Option<&Result<Handshake, TlsError>>, offer: Offer) -> Result<Io, ConnectError> {
    let handshake = match tls {
        None => return Ok(io),
        Some(Err(error)) => return Err(ConnectError::Tls(error.clone())),
        Some(Ok(handshake)) => handshake,
    };
    let secured = match io {
        Io::Plain(tcp) => {
            let stream = handshake.shake(tcp, offer).await;
            stream.map(|stream| Io::Tls(Box::new(stream)))
        }
        io @ (Io::Unix(_) | Io::Tls(_) | Io::Within(_)) => {
            let stream = handshake.shake(io, offer).await;
            stream.map(|stream| Io::Within(Box::new(stream)))
        }
    };
    secured.map_err(verify::refused)
}

impl Io {
    /// Returns whether both sides agreed on HTTP/2.
    pub(super) fn speaks_http2(&self) -> bool {
        let agreed = match self {
            Io::Plain(_) | Io::Unix(_) => None,
            Io::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Io::Within(stream) => stream.get_ref().1.alpn_protocol(),
        };
        agreed == Some(HTTP2)
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
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Io::Within(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Io::Within(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Io::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, pieces),
            Io::Within(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Unix(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
            Io::Within(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Io::Within(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Io::Within(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
