//! Connections through a proxy that takes CONNECT (RFC 9110, section 9.3.6).
//!
//! What is said through it is as if it were not there: TLS is spoken with the upstream, end to end.

use std::{io, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use config::snapshot::{Endpoint, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::Io;

/// The longest answer of a proxy.
const MAX_ANSWER: usize = 16 * 1024;

/// The proxy did not connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// It cannot be spoken with.
    #[error("the connection to the proxy broke")]
    Io(#[source] io::Error),
    /// It does not want to.
    #[error("the proxy refused with status {0}")]
    Refused(u16),
    /// It speaks otherwise.
    #[error("the proxy's answer is not one to CONNECT")]
    Malformed,
}

/// Has `proxy`, which `io` leads to, connect to `endpoint`.
pub(super) async fn tunnel(proxy: &Proxy, endpoint: &Endpoint, io: &mut Io) -> Result<(), ProxyError> {
    let request = request(proxy, endpoint);
    io.write_all(request.as_bytes()).await.map_err(ProxyError::Io)?;
    io.flush().await.map_err(ProxyError::Io)?;
    let mut answer = Vec::with_capacity(256);
    let end = loop {
        if let Some(at) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        if answer.len() > MAX_ANSWER {
            return Err(ProxyError::Malformed);
        }
        if io.read_buf(&mut answer).await.map_err(ProxyError::Io)? == 0 {
            return Err(ProxyError::Malformed);
        }
    };
    match status(&answer) {
        // Nobody speaks before we do, so nothing can follow yet.
        Some(200..=299) if end == answer.len() => Ok(()),
        Some(200..=299) | None => Err(ProxyError::Malformed),
        Some(status) => Err(ProxyError::Refused(status)),
    }
}

fn request(proxy: &Proxy, endpoint: &Endpoint) -> String {
    let Endpoint { host, port, .. } = endpoint;
    let to = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("{host}:{port}"),
    };
    let credentials = proxy.credentials.as_ref().map(|credentials| {
        let credentials = STANDARD.encode(credentials.expose());
        format!("proxy-authorization: Basic {credentials}\r\n")
    });
    let credentials = credentials.unwrap_or_default();
    format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n{credentials}\r\n")
}

/// Returns the status of an answer.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok().filter(|status| *status >= 200)
}
