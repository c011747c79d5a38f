//! Addresses of clients: blocks of them, and which one a request comes from.

use std::{fmt, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A block of addresses, as `10.0.0.0/8`; a single address is a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Whom to believe about a client's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// The connection.
    #[default]
    Peer,
    /// `x-forwarded-for`, to which that many trusted proxies in front of the gateway have each added a line,
    /// counting from the right.
    Hops(usize),
    /// `x-forwarded-for`, as far from the right as it was written by these.
    Proxies(Vec<Cidr>),
    /// A header that something trusted has set; the connection where it is absent or malformed.
    Header(HeaderName),
}

impl Cidr {
    /// Reads `address/prefix`, or an address alone.
    pub fn parse(written: &str) -> Option<Self> {
        let (address, prefix) = match written.split_once('/') {
            Some((address, prefix)) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(prefix.parse::<u8>().ok()?))
            }
            Some(_) => return None,
            None => (written, None),
        };
        let network: IpAddr = address.parse().ok()?;
        let longest = if network.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        (prefix <= longest).then_some(Self { network, prefix })
    }

    /// Returns whether the block holds `address`. An IPv4 address is the same one when IPv6 carries it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                (network.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                (network.to_bits() ^ address.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl ClientAddress {
    /// Returns the address that a request with `headers` comes from, which `peer` has sent.
    pub fn of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let found = match self {
            ClientAddress::Peer => None,
            // The nearest proxy is the peer itself: the first line from the right is what it has seen.
            ClientAddress::Hops(hops) => hops.checked_sub(1).and_then(|before| chain(headers).nth(before)?),
            ClientAddress::Proxies(trusted) => {
                let trusts = |address: IpAddr| trusted.iter().any(|block| block.contains(address));
                if trusts(peer) {
                    beyond(headers, trusts)
                } else {
                    None
                }
            }
            ClientAddress::Header(name) => headers.get(name).and_then(|value| parse(value.to_str().ok()?)),
        };
        found.unwrap_or(peer).to_canonical()
    }
}

/// Returns the first address from the right that is not trusted; the leftmost if all are. What stands left of
/// something malformed is nobody's word.
fn beyond(headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut last = None;
    for address in chain(headers) {
        let Some(address) = address else { break };
        last = Some(address);
        if !trusts(address) {
            break;
        }
    }
    last
}

/// Returns the addresses of `x-forwarded-for` from the right, over all its lines; `None` for what is none.
fn chain(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines: Vec<&HeaderValue> = headers.get_all(FORWARDED_FOR).iter().collect();
    lines
        .into_iter()
        .rev()
        .flat_map(|line| line.to_str().unwrap_or_default().rsplit(','))
        .map(parse)
}

/// Reads an address with or without a port, as proxies write it.
fn parse(written: &str) -> Option<IpAddr> {
    let written = written.trim();
    if let Ok(address) = written.parse() {
        return Some(address);
    }
    match written.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse().ok(),
        None => written.rsplit_once(':')?.0.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        let check = |block: &str, address: &str, expected: bool| {
            let parsed = Cidr::parse(block).expect("a block");
            let address = address.parse().expect("an address");
            assert_eq!(parsed.contains(address), expected, "{block} {address}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "::1", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7/32", "192.0.2.6", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("::/0", "2001:db9::1", true);
        for malformed in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "a/1",
        ] {
            assert_eq!(Cidr::parse(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn whom_to_believe() {
        let blocks = |written: &[&str]| {
            let blocks = written.iter().filter_map(|block| Cidr::parse(block));
            ClientAddress::Proxies(blocks.collect())
        };
        let check = |client: &ClientAddress, lines: &[&'static str], expected: &str| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
            }
            headers.insert("x-real-ip", HeaderValue::from_static("192.0.2.44"));
            let expected: IpAddr = expected.parse().expect("an address");
            let peer = IpAddr::from([10, 0, 0, 9]);
            assert_eq!(client.of(peer, &headers), expected, "{client:?} {lines:?}");
        };
        check(&ClientAddress::Peer, &["192.0.2.1"], "10.0.0.9");
        check(&ClientAddress::Hops(1), &["192.0.2.1, 192.0.2.2"], "192.0.2.2");
        check(&ClientAddress::Hops(2), &["192.0.2.1, 192.0.2.2"], "192.0.2.1");
        check(&ClientAddress::Hops(2), &["192.0.2.1", "192.0.2.2"], "192.0.2.1");
        check(&ClientAddress::Hops(3), &["192.0.2.1, 192.0.2.2"], "10.0.0.9");
        check(&ClientAddress::Hops(1), &["192.0.2.1, unknown"], "10.0.0.9");
        check(&ClientAddress::Hops(0), &["192.0.2.1"], "10.0.0.9");
        let trusted = blocks(&["10.0.0.0/8"]);
        check(&trusted, &["198.51.100.1, 192.0.2.2, 10.0.0.1"], "192.0.2.2");
        check(&trusted, &["192.0.2.2:8080"], "192.0.2.2");
        check(&trusted, &["[2001:db8::1]:80"], "2001:db8::1");
        check(&trusted, &["198.51.100.1, nonsense, 10.0.0.1"], "10.0.0.1");
        check(&trusted, &[], "10.0.0.9");
        check(&blocks(&["172.16.0.0/12"]), &["192.0.2.2"], "10.0.0.9");
        let header = ClientAddress::Header(HeaderName::from_static("x-real-ip"));
        check(&header, &[], "192.0.2.44");
        let header = ClientAddress::Header(HeaderName::from_static("x-absent"));
        check(&header, &[], "10.0.0.9");
    }
}
