//! One call to a receiver of OTLP at a time, each on a connection of its own: they are seconds apart.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use config::snapshot::Tls;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Runtime,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::Receiver;
use crate::upstream::verify;

/// How often a message is sent at most.
const ATTEMPTS: u32 = 3;

/// How long is waited before a message is sent again; doubled each time.
const PAUSE: Duration = Duration::from_millis(500);

/// The most that is read of an answer.
const MAX_ANSWER: usize = 1024 * 1024;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Traces,
    Metrics,
    Logs,
}

/// A receiver, and what is needed to call it.
pub(super) struct Client {
    receiver: Receiver,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    runtime: Runtime,
}

/// A message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There can be no calls at all.
    #[error("the receiver cannot be called: {0}")]
    Setup(String),
    /// There is no connection.
    #[error("cannot connect to the receiver")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the receiver did not answer")]
    Http(#[source] hyper::Error),
    /// The receiver was too slow.
    #[error("the receiver did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The receiver does not want it.
    #[error("the receiver answered with status {0}")]
    Status(StatusCode),
    /// The receiver does not want it, as gRPC says it.
    #[error("the receiver answered with gRPC status {0}")]
    Grpc(String),
}

impl Service {
    fn method(self) -> &'static str {
        match self {
            Service::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Service::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Service::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

impl SendError {
    /// Returns whether the same message may be taken later (OTLP, "Failures").
    fn is_passing(&self) -> bool {
        match self {
            SendError::Setup(_) => false,
            SendError::Connect(_) | SendError::Http(_) | SendError::Timeout(_) => true,
            SendError::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            SendError::Grpc(status) => matches!(status.as_str(), "1" | "4" | "8" | "10" | "11" | "14" | "15"),
        }
    }
}

impl Client {
    pub(super) fn new(receiver: Receiver) -> Result<Self, SendError> {
        let tls = receiver.tls.as_ref().map(|tls| connector(tls, receiver.grpc));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            tls: tls.transpose()?,
            runtime: runtime.map_err(|error| SendError::Setup(error.to_string()))?,
            receiver,
        })
    }

    /// Sends `message`, again where that may help.
    ///
    /// # Errors
    /// Of the last try.
    pub(super) fn send(&self, service: Service, message: Vec<u8>) -> Result<(), SendError> {
        let limit = self.receiver.timeout;
        let message = self.body(message)?;
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            let sent = self.runtime.block_on(async {
                let call = self.call(service, &message);
                timeout(limit, call)
                    .await
                    .unwrap_or(Err(SendError::Timeout(limit)))
            });
            match sent {
                Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                    // A time begins on the runtime that tells it.
                    self.runtime.block_on(async { sleep(pause).await });
                    pause *= 2;
                    attempt += 1;
                }
                sent => return sent,
            }
        }
    }

    async fn call(&self, service: Service, message: &Bytes) -> Result<(), SendError> {
        let uri = &self.receiver.uri;
        let host = uri.host().unwrap_or_default();
        let default = match (self.receiver.grpc, &self.tls) {
            (true, _) => 4317,
            (false, Some(_)) => 443,
            (false, None) => 80,
        };
        let port = uri.port_u16().unwrap_or(default);
        let tcp = TcpStream::connect((bare(host), port))
            .await
            .map_err(SendError::Connect)?;
        match &self.tls {
            None => self.exchange(tcp, service, message).await,
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await;
                self.exchange(tls.map_err(SendError::Connect)?, service, message)
                    .await
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the connection lives on the exporter's own runtime, for one call"
    )]
    async fn exchange<T>(&self, io: T, service: Service, message: &Bytes) -> Result<(), SendError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = self.request(service, message)?;
        if self.receiver.grpc {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
                .await
                .map_err(SendError::Http)?;
            let driver = tokio::spawn(connection);
            let answered = grpc(sender.send_request(request).await.map_err(SendError::Http)?).await;
            driver.abort();
            return answered;
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(io))
            .await
            .map_err(SendError::Http)?;
        let driver = tokio::spawn(connection);
        let answered = sender.send_request(request).await;
        driver.abort();
        match answered.map_err(SendError::Http)?.status() {
            status if status.is_success() => Ok(()),
            status => Err(SendError::Status(status)),
        }
    }

    /// Returns a message as it is sent.
    fn body(&self, message: Vec<u8>) -> Result<Bytes, SendError> {
        let Receiver { grpc, compressed, .. } = &self.receiver;
        let message = match compressed {
            true => gzip(&message).map_err(|error| SendError::Setup(error.to_string()))?,
            false => message,
        };
        if !grpc {
            return Ok(message.into());
        }
        // Whether compressed, and how long (gRPC over HTTP/2, "Length-Prefixed-Message").
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        Ok([&[u8::from(*compressed)], &length.to_be_bytes()[..], &message]
            .concat()
            .into())
    }

    fn request(&self, service: Service, body: &Bytes) -> Result<Request<Full<Bytes>>, SendError> {
        let Receiver {
            uri,
            grpc,
            headers,
            compressed,
            ..
        } = &self.receiver;
        let mut all = HeaderMap::new();
        all.extend(headers.clone());
        if *compressed {
            let name = if *grpc {
                HeaderName::from_static("grpc-encoding")
            } else {
                header::CONTENT_ENCODING
            };
            all.insert(name, HeaderValue::from_static("gzip"));
        }
        let (target, kind) = if *grpc {
            all.insert(header::TE, HeaderValue::from_static("trailers"));
            let scheme = uri.scheme_str().unwrap_or("http");
            let authority = uri.authority().map_or("", http::uri::Authority::as_str);
            let target = Uri::try_from(format!("{scheme}://{authority}{}", service.method()));
            (target, "application/grpc")
        } else {
            let host = uri.authority().map_or("", http::uri::Authority::as_str);
            if let Ok(host) = HeaderValue::from_str(host) {
                all.insert(header::HOST, host);
            }
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            (Uri::try_from(path), "application/x-protobuf")
        };
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.map_err(|error| SendError::Setup(error.to_string()))?;
        *request.headers_mut() = all;
        Ok(request)
    }
}

/// Reads the status of a gRPC answer: in its head if there is nothing else, or after its message.
async fn grpc(response: http::Response<hyper::body::Incoming>) -> Result<(), SendError> {
    if !response.status().is_success() {
        return Err(SendError::Status(response.status()));
    }
    let in_head = response.headers().get("grpc-status").cloned();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let trailers = body.ok().and_then(|body| body.trailers().cloned());
    let status = in_head.or_else(|| trailers?.get("grpc-status").cloned());
    match status.as_ref().and_then(|status| status.to_str().ok()) {
        Some("0") => Ok(()),
        status => Err(SendError::Grpc(status.unwrap_or("14").to_owned())),
    }
}

fn gzip(message: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message)?;
    encoder.finish()
}

/// Returns a host without the brackets that an address of IPv6 has in a URI.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn connector(tls: &Tls, grpc: bool) -> Result<(TlsConnector, ServerName<'static>), SendError> {
    let setup = |error: &dyn std::fmt::Display| SendError::Setup(error.to_string());
    let shared = verify::config(tls).map_err(|error| setup(&error))?;
    let mut config = ClientConfig::clone(&shared);
    config.alpn_protocols = vec![if grpc {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }];
    let name = ServerName::try_from(bare(&tls.hostname).to_owned())
        .map_err(|_| SendError::Setup(format!("{:?} cannot be the name of a certificate", tls.hostname)))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    fn client(port: u16) -> Client {
        let receiver = Receiver {
            uri: format!("http://127.0.0.1:{port}/v1/traces")
                .parse()
                .expect("an address"),
            grpc: false,
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(20),
            compressed: false,
            tls: None,
        };
        Client::new(receiver).expect("a client")
    }

    /// Exporters are threads without a runtime of their own: a receiver that is away must not end them.
    #[test]
    fn what_is_not_taken_is_sent_again() {
        let receiver = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = receiver.local_addr().expect("an address").port();
        let takes = thread::spawn(move || {
            drop(receiver.accept());
            let (mut connection, _) = receiver.accept().expect("a second call");
            let mut read = Vec::new();
            while !read.ends_with(b"spans") {
                let mut piece = [0; 256];
                let count = connection.read(&mut piece).expect("a request");
                assert!(count > 0, "a whole request");
                read.extend_from_slice(&piece[..count]);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            connection.write_all(answer).expect("a reader");
        });
        assert!(client(port).send(Service::Traces, b"spans".to_vec()).is_ok());
        takes.join().expect("two calls");
    }

    #[test]
    fn a_receiver_that_is_not_there_is_an_error() {
        let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = gone.local_addr().expect("an address").port();
        drop(gone);
        let sent = client(port).send(Service::Traces, b"spans".to_vec());
        assert!(matches!(sent, Err(SendError::Connect(_))), "{sent:?}");
    }
}
