//! Asks the admin listener of a running gateway.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use http::Uri;

/// What the gateway answered.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The document.
    pub(crate) body: Vec<u8>,
}

/// Returns what a GET of `url` is answered with.
///
/// # Errors
/// If there is no answer within `budget`.
pub(crate) fn ask(url: Uri, budget: Duration) -> anyhow::Result<Answer> {
    let (answer, heard) = mpsc::sync_channel(1);
    let deadline = Instant::now() + budget;
    // Looking up a name has no limit of its own, so the whole of it runs beside the clock.
    thread::spawn(move || answer.send(exchange(&url, deadline)));
    heard
        .recv_timeout(budget)
        .unwrap_or_else(|_| bail!("no answer within {} s", budget.as_secs()))
}

fn exchange(url: &Uri, deadline: Instant) -> anyhow::Result<Answer> {
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
    let mut read = Vec::new();
    stream
        .take(MAX_ANSWER)
        .read_to_end(&mut read)
        .context("no answer")?;
    parse(&read).context("the answer is not HTTP")
}

/// Reads an answer that ends with its connection.
fn parse(read: &[u8]) -> Option<Answer> {
    let line = read.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let status = std::str::from_utf8(line).ok()?.parse().ok()?;
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(Answer {
        status,
        body: read.get(end + 4..)?.to_vec(),
    })
}

/// The most bytes of an answer that are read.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
