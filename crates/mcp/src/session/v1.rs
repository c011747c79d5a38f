//! Our session: numbers and texts in a fixed order. The route is not inside: the seal is bound to it.

use super::{Client, Entry, Owner, Session};
use crate::{
    Capabilities, Version,
    wire::{Reader, Writer},
};

/// What tokens of this form begin with; no other begins like that.
pub(super) const MARK: &str = "g1.";

/// The layout that is written. One that is not known is not read.
const LAYOUT: u64 = 2;

/// The layout that knew no endpoints.
const WITHOUT_ENDPOINTS: u64 = 1;

/// The most backends that are read; more than a route can have.
const MAX_BACKENDS: u64 = 1024;

pub(super) fn encode(session: &Session) -> Vec<u8> {
    let mut out = Writer::default();
    out.number(LAYOUT);
    out.number(session.expires.unwrap_or(0));
    match &session.owner {
        Owner::Anyone => out.number(0),
        Owner::Hash(hash) => {
            out.number(1);
            out.bytes(hash);
        }
        Owner::Subject(subject) => {
            out.number(2);
            out.text(subject);
        }
    }
    out.number(version(Some(session.version)));
    out.text(&session.client.capabilities);
    out.text(&session.client.info);
    out.number(session.backends.len() as u64);
    for entry in &session.backends {
        write_entry(&mut out, entry);
    }
    out.into_bytes()
}

/// Returns what is known of one backend, by itself.
pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut out = Writer::default();
    write_entry(&mut out, entry);
    out.into_bytes()
}

fn write_entry(out: &mut Writer, entry: &Entry) {
    out.text(&entry.backend);
    out.text(&entry.session);
    out.number(u64::from(entry.capabilities.bits()));
    out.number(version(entry.version));
    let endpoint = entry.endpoint.map(u64::to_le_bytes);
    out.bytes(endpoint.as_ref().map_or(&[], |endpoint| endpoint));
}

pub(super) fn decode(route: &str, bytes: &[u8]) -> Option<Session> {
    let mut from = Reader::new(bytes);
    let layout = from.number()?;
    if layout != LAYOUT && layout != WITHOUT_ENDPOINTS {
        return None;
    }
    let expires = Some(from.number()?).filter(|at| *at > 0);
    let owner = match from.number()? {
        0 => Owner::Anyone,
        1 => Owner::Hash(from.bytes()?.try_into().ok()?),
        2 => Owner::Subject(from.text()?.to_owned()),
        _ => return None,
    };
    let agreed = read_version(&mut from)??;
    let client = Client {
        capabilities: from.text()?.to_owned(),
        info: from.text()?.to_owned(),
    };
    let count = from.number().filter(|count| *count <= MAX_BACKENDS)?;
    let backends: Option<Vec<Entry>> = (0..count).map(|_| read_entry(&mut from, layout)).collect();
    let backends = backends?;
    from.is_empty().then(|| Session {
        route: route.to_owned(),
        owner,
        expires,
        version: agreed,
        client,
        backends,
    })
}

/// Returns what [`encode_entry`] wrote.
pub(crate) fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let mut from = Reader::new(bytes);
    let entry = read_entry(&mut from, LAYOUT)?;
    from.is_empty().then_some(entry)
}

fn read_entry(from: &mut Reader<'_>, layout: u64) -> Option<Entry> {
    Some(Entry {
        backend: from.text()?.to_owned(),
        session: from.text()?.to_owned(),
        capabilities: Capabilities::from_bits(u16::try_from(from.number()?).ok()?),
        version: read_version(from)?,
        endpoint: match layout {
            WITHOUT_ENDPOINTS => None,
            _ => read_endpoint(from)?,
        },
    })
}

/// Returns the place of a revision in the list of all, from 1; 0 stands for none.
fn version(version: Option<Version>) -> u64 {
    let place = version.and_then(|version| Version::ALL.iter().position(|known| *known == version));
    place.map_or(0, |place| place as u64 + 1)
}

fn read_version(from: &mut Reader<'_>) -> Option<Option<Version>> {
    let Some(place) = usize::try_from(from.number()?).ok()?.checked_sub(1) else {
        return Some(None);
    };
    Version::ALL.get(place).copied().map(Some)
}

fn read_endpoint(from: &mut Reader<'_>) -> Option<Option<u64>> {
    match from.bytes()? {
        [] => Some(None),
        bytes => Some(Some(u64::from_le_bytes(bytes.try_into().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::session;

    /// Tokens from before endpoints were known go on.
    #[test]
    fn the_layout_before_is_read() {
        let mut out = Writer::default();
        for number in [WITHOUT_ENDPOINTS, 0, 0, version(Some(Version::V2025_11_25))] {
            out.number(number);
        }
        for text in ["{}", "{}"] {
            out.text(text);
        }
        out.number(1);
        for text in ["alpha", "sid-1"] {
            out.text(text);
        }
        out.number(1);
        out.number(0);
        let read = decode("r", &out.into_bytes()).expect("a session");
        let known: Vec<_> = read
            .backends
            .iter()
            .map(|entry| (&*entry.session, entry.endpoint))
            .collect();
        assert_eq!(known, [("sid-1", None)]);
    }

    #[test]
    fn what_is_cut_is_not_read() {
        let whole = encode(&session());
        for end in 0..whole.len() {
            assert_eq!(decode("r", whole.get(..end).unwrap_or_default()), None, "{end}");
        }
    }
}
