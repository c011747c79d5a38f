//! Asks a gateway whether it is ready, as the health probe of a container does.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use http::Uri;

/// Succeeds if a GET of `url` is answered with 200 within a second.
///
/// # Errors
/// If it is not.
pub(crate) fn run(url: Uri) -> anyhow::Result<()> {
    let (answer, heard) = mpsc::sync_channel(1);
    let deadline = Instant::now() + BUDGET;
    // Looking up a name has no limit of its own, so the whole of it runs beside the clock.
    thread::spawn(move || answer.send(status(&url, deadline)));
    match heard.recv_timeout(BUDGET) {
        Ok(Ok(200)) => Ok(()),
        Ok(Ok(status)) => bail!("not ready: status {status}"),
        Ok(Err(error)) => Err(error),
        Err(_) => bail!("no answer within a second"),
    }
}

fn status(url: &Uri, deadline: Instant) -> anyhow::Result<u16> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(1))
    };
    if url.scheme_str() != Some("http") {
        bail!("{url}: only http:// can be asked");
    }
    let authority = url.authority().context("the address has no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (host, authority.port_u16().unwrap_or(80))
        .to_socket_addrs()
        .with_context(|| format!("cannot find {authority}"))?;
    let address = addresses
        .next()
        .with_context(|| format!("cannot find {authority}"))?;
    let mut stream = TcpStream::connect_timeout(&address, left())
        .with_context(|| format!("cannot connect to {authority}"))?;
    stream.set_read_timeout(Some(left()))?;
    stream.set_write_timeout(Some(left()))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n"
    )?;
    let mut head = Vec::new();
    while head.len() < HEAD && !head.contains(&b'\n') {
        let mut piece = [0; HEAD];
        let read = stream.read(&mut piece).context("no answer")?;
        if read == 0 {
            break;
        }
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.strip_prefix("HTTP/1.").and_then(|line| line.get(2..5));
    status
        .and_then(|status| status.parse().ok())
        .context("the answer is not HTTP")
}

/// How long it may take.
const BUDGET: Duration = Duration::from_secs(1);

/// How many bytes of the answer are looked at.
const HEAD: usize = 64;
