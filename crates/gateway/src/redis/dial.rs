//! Connects to Redis: in clear or encrypted, by way of sentinels where there are some, and to all of a cluster.

use std::{io, sync::Arc, time::Duration};

use config::certificate::{Authorities, Certificate};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Script, aio::MultiplexedConnection};
use rustls::{ClientConfig, pki_types::ServerName, sign::SingleCertAndKey};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{error::Elapsed, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    Link, RedisOptions,
    address::{Address, AddressError, Behind},
    cluster::Cluster,
};

/// The longest that connecting to one server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connects to Redis.
pub(crate) struct Dialer {
    address: Address,
    tls: Option<TlsConnector>,
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Nobody answers there.
    #[error("cannot connect")]
    Io(#[from] io::Error),
    /// It takes too long.
    #[error("connecting takes too long")]
    Slow(#[from] Elapsed),
    /// It is not what is looked for, or does not want us.
    #[error("the server refuses")]
    Refused(#[from] RedisError),
    /// No server answers that has keys.
    #[error("no server answers")]
    Nobody,
    /// No sentinel knows a server that takes writes.
    #[error("no sentinel knows the server \"{0}\"")]
    Unknown(String),
}

impl Dialer {
    /// Prepares connections to where `options` say.
    ///
    /// # Errors
    /// If the address is none, or TLS cannot be spoken.
    pub(crate) fn new(options: &RedisOptions) -> Result<Self, AddressError> {
        let address = Address::parse(&options.address)?;
        let (authorities, certificate) = (options.authorities.as_ref(), options.certificate.as_ref());
        if !address.encrypted && (authorities.is_some() || certificate.is_some()) {
            return Err(AddressError::InClear);
        }
        let tls = address.encrypted.then(|| tls(authorities, certificate));
        Ok(Self {
            tls: tls.transpose()?,
            address,
        })
    }

    /// Returns a connection to whoever takes writes, and knows `scripts`.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn dial(self: &Arc<Self>, scripts: &[&'static Script]) -> Result<Link, DialError> {
        let mut connection = match &self.address.behind {
            Behind::Server => self.first().await?.1,
            Behind::Sentinels(name) => self.master(name).await?,
            Behind::Cluster => return Ok(Link::Cluster(Cluster::connect(Arc::clone(self), scripts).await?)),
        };
        load(scripts, &mut connection).await?;
        Ok(Link::Server(connection))
    }

    /// Returns a connection to the server at `place`, which knows `scripts`.
    ///
    /// # Errors
    /// If there is none.
    pub(super) async fn at(
        &self,
        (host, port): &(String, u16),
        scripts: &[&Script],
    ) -> Result<MultiplexedConnection, DialError> {
        let mut connection = self.open(host, *port, &self.address.login()).await?;
        load(scripts, &mut connection).await?;
        Ok(connection)
    }

    /// Returns a connection to the first server of the address that answers, and where it is.
    ///
    /// # Errors
    /// If none does.
    pub(super) async fn first(&self) -> Result<((String, u16), MultiplexedConnection), DialError> {
        let mut last = DialError::Nobody;
        for place in &self.address.hosts {
            match self.at(place, &[]).await {
                Ok(connection) => return Ok((place.clone(), connection)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks one sentinel after the other where the server called `name` is. What it says may be old news: whoever
    /// it names must say itself that it takes writes.
    async fn master(&self, name: &str) -> Result<MultiplexedConnection, DialError> {
        let mut last = DialError::Unknown(name.to_owned());
        for (host, port) in &self.address.hosts {
            match self.by_way_of(host, *port, name).await {
                Ok(Some(connection)) => return Ok(connection),
                Ok(None) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn by_way_of(
        &self,
        host: &str,
        port: u16,
        name: &str,
    ) -> Result<Option<MultiplexedConnection>, DialError> {
        let login = self.address.login_at_sentinel();
        let mut sentinel = self.open(host, port, &login).await?;
        let mut asked = redis::cmd("SENTINEL");
        asked.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let found: Option<(String, u16)> = asked.query_async(&mut sentinel).await?;
        let Some((host, port)) = found else {
            return Ok(None);
        };
        let mut server = self.open(&host, port, &self.address.login()).await?;
        let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut server).await?;
        let writes = matches!(role.first(), Some(redis::Value::BulkString(role)) if role == b"master");
        Ok(writes.then_some(server))
    }

    async fn open(
        &self,
        host: &str,
        port: u16,
        login: &RedisConnectionInfo,
    ) -> Result<MultiplexedConnection, DialError> {
        timeout(PATIENCE, async {
            let tcp = TcpStream::connect((host, port)).await?;
            tcp.set_nodelay(true)?;
            let Some(tls) = &self.tls else {
                return greet(tcp, login).await;
            };
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            greet(tls.connect(name, tcp).await?, login).await
        })
        .await?
    }
}

/// Has a server learn scripts, so that requests need one round trip each.
async fn load(scripts: &[&Script], connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    for script in scripts {
        script.prepare_invoke().load_async(connection).await?;
    }
    Ok(())
}

/// Begins to speak over `stream`.
#[expect(
    clippy::disallowed_methods,
    reason = "the connection is driven for as long as anyone holds it"
)]
async fn greet<S>(stream: S, login: &RedisConnectionInfo) -> Result<MultiplexedConnection, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let (mut connection, driver) = MultiplexedConnection::new_with_config(login, stream, config).await?;
    tokio::spawn(driver);
    redis::cmd("PING").query_async::<()>(&mut connection).await?;
    Ok(connection)
}

fn tls(
    authorities: Option<&Authorities>,
    certificate: Option<&Certificate>,
) -> Result<TlsConnector, AddressError> {
    let fault = |error: rustls::Error| AddressError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(fault)?;
    let builder = match authorities {
        Some(authorities) => builder.with_root_certificates(authorities.roots()),
        None => builder.with_platform_verifier().map_err(fault)?,
    };
    let config = match certificate {
        Some(certificate) => {
            let shown = SingleCertAndKey::from(Arc::clone(certificate.certified()));
            builder.with_client_cert_resolver(Arc::new(shown))
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}
