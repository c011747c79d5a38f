//! The first bytes of a connection that a proxy hands on: whose it is (the PROXY protocol, versions 1 and 2).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

/// How long a proxy may take to say whose connection it hands on.
const WITHIN: Duration = Duration::from_secs(10);

/// The longest first line of version 1.
const MAX_LINE: usize = 107;

/// The longest header of version 2, with all that may follow the addresses.
const MAX_HEADER: usize = 4096;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
enum First {
    /// So many of them say whose it is, or that it is the proxy's own.
    Said(usize, Option<SocketAddr>),
    /// It cannot be told yet.
    More,
    /// They say no such thing.
    Other,
}

/// Returns whose connection `stream` is, if the proxy says so, and what was read beyond that.
///
/// # Errors
/// If that is not said, unless it is `optional`, or not in time.
pub(super) async fn read(stream: &mut TcpStream, optional: bool) -> io::Result<(Option<SocketAddr>, Bytes)> {
    let mut buffer = BytesMut::with_capacity(256);
    let read = async {
        loop {
            match first(&buffer) {
                First::Said(length, address) => {
                    buffer.advance(length);
                    return Ok((address, buffer.freeze()));
                }
                First::Other if optional => return Ok((None, buffer.freeze())),
                First::Other => {
                    let message = "the connection does not begin with the PROXY protocol";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                First::More => {}
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    let late = || {
        io::Error::new(
            io::ErrorKind::TimedOut,
            "the PROXY protocol did not arrive in time",
        )
    };
    timeout(WITHIN, read).await.unwrap_or_else(|_| Err(late()))
}

fn first(bytes: &[u8]) -> First {
    let begins = |with: &[u8]| {
        let both = bytes.len().min(with.len());
        bytes.get(..both) == with.get(..both)
    };
    if begins(SIGNATURE) {
        return second_version(bytes);
    }
    if begins(b"PROXY ") {
        return first_version(bytes);
    }
    First::Other
}

/// Reads `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`.
fn first_version(bytes: &[u8]) -> First {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > MAX_LINE {
            First::Other
        } else {
            First::More
        };
    };
    let line = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => First::Said(end + 2, None),
        ["PROXY", "TCP4" | "TCP6", from, _, port, _] => match (from.parse(), port.parse()) {
            (Ok(address), Ok(port)) => First::Said(end + 2, Some(SocketAddr::new(address, port))),
            (Ok(_) | Err(_), _) => First::Other,
        },
        _ => First::Other,
    }
}

/// Reads the signature, a command, a family, a length, and so many bytes with addresses and more.
fn second_version(bytes: &[u8]) -> First {
    let Some((head, rest)) = bytes.split_at_checked(16) else {
        return First::More;
    };
    let (command, family, length) = match head {
        [.., command, family, high, low] => (*command, *family, u16::from_be_bytes([*high, *low])),
        _ => return First::More,
    };
    let length = usize::from(length);
    if command & 0xf0 != 0x20 || length > MAX_HEADER {
        return First::Other;
    }
    let Some(addresses) = rest.get(..length) else {
        return First::More;
    };
    let address = match (command & 0x0f, family) {
        // A check of the proxy's own.
        (0, _) => Some(None),
        (1, 0x11) => pair::<4>(addresses)
            .map(|(from, port)| Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(from)), port))),
        (1, 0x21) => pair::<16>(addresses)
            .map(|(from, port)| Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(from)), port))),
        (1, _) => Some(None),
        (_, _) => None,
    };
    match address {
        Some(address) => First::Said(16 + length, address),
        None => First::Other,
    }
}

/// Returns the first of two addresses and its port.
fn pair<const N: usize>(addresses: &[u8]) -> Option<([u8; N], u16)> {
    let from = addresses.get(..N)?.try_into().ok()?;
    let port = addresses.get(2 * N..2 * N + 2)?.try_into().ok()?;
    Some((from, u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_bytes_say() {
        let said = |length: usize, address: &str| First::Said(length, address.parse().ok());
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";
        let v6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\nGET";
        let mut second = SIGNATURE.to_vec();
        second.extend([0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb]);
        let mut own = SIGNATURE.to_vec();
        own.extend([0x20, 0, 0, 0]);
        let mut long = SIGNATURE.to_vec();
        long.extend([0x21, 0x11, 0xff, 0xff]);
        for (bytes, expected) in [
            (&line[..], said(line.len(), "192.0.2.1:56324")),
            (&v6[..], said(v6.len() - 3, "[2001:db8::1]:1")),
            (b"PROXY UNKNOWN\r\n", First::Said(15, None)),
            (b"PROXY TCP4 192.0.2.1", First::More),
            (b"PRO", First::More),
            (b"", First::More),
            (b"PRI * HTTP/2.0", First::Other),
            (b"POST / HTTP/1.1", First::Other),
            (b"PROXY TCP4 here there 1 2\r\n", First::Other),
            (&[b'P'; 200], First::Other),
            (&second, said(28, "192.0.2.1:56324")),
            (second.get(..20).unwrap_or_default(), First::More),
            (&own, First::Said(16, None)),
            (&long, First::Other),
            (b"\r\n\r\n\0\r\nQUIT\n\x11", First::More),
        ] {
            assert_eq!(first(bytes), expected, "{}", bytes.escape_ascii());
        }
        let endless = [&b"PROXY "[..], &[b'x'; 200]].concat();
        assert_eq!(first(&endless), First::Other);
    }
}
