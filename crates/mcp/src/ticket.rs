//! Ids and tokens of backends as clients see them.
//!
//! A backend that asks the client something gives its request an id, and a client answers by that id. Two
//! backends may choose the same, and a client must not be able to answer what it was not asked. So the client
//! sees a ticket: `<content>__<type>__<backend>__<mark>`, where the mark proves that the ticket was issued in
//! the same MCP session. All but the mark is as in the compatibility specification, "Id mapping outwards".
//!
//! A backend may ask in another session of its own than the one in the client's token, because it has lost that.
//! Then the type is a capital, and `<sealed>.` before the backend says which, as any replica may get the answer.

use std::fmt::Write;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use crate::{
    json,
    seal::{self, Seal},
    session::{Entry, v1},
};

/// Issues and reads tickets.
pub struct Tickets {
    primary: hmac::Key,
    fallback: Option<hmac::Key>,
    elsewhere: Seal,
}

/// What a ticket stands for.
#[derive(Debug)]
pub struct Redeemed<'t> {
    /// Who asks.
    pub backend: &'t str,
    /// What it calls the question.
    pub value: Box<RawValue>,
    /// In which session of its own it asks, if that is not the one in the client's token.
    pub elsewhere: Option<Entry>,
}

/// Bytes of a mark.
const MARK: usize = 8;

impl Tickets {
    /// Returns the keys from a seed and the one before it.
    pub fn new(seed: &[u8], fallback: Option<&[u8]>) -> Self {
        Self {
            primary: seal::authenticator("ticket", seed),
            fallback: fallback.map(|seed| seal::authenticator("ticket", seed)),
            elsewhere: Seal::new("asked", seed, fallback),
        }
    }

    /// Returns the ticket for `value`, a string or number of `backend`, in the session with this token; `elsewhere` is
    /// in which of its own `backend` asks, if that is another than the token's. The same is always the same ticket.
    pub fn issue(&self, token: &str, backend: &str, value: &RawValue, elsewhere: Option<&Entry>) -> String {
        let (content, kind) = content(value);
        let mut ticket = match elsewhere {
            None => format!("{content}__{kind}__{backend}"),
            Some(entry) => {
                let sealed = self.sealed(token, entry);
                format!("{content}__{}__{sealed}.{backend}", kind.to_ascii_uppercase())
            }
        };
        let mark = mark(&self.primary, token, &ticket);
        ticket.push_str("__");
        ticket.push_str(&mark);
        ticket
    }

    /// Returns what `ticket` stands for, if it was issued in the session with this token.
    pub fn redeem<'t>(&self, token: &str, ticket: &'t str) -> Option<Redeemed<'t>> {
        let (signed, given) = ticket.rsplit_once("__")?;
        let mut keys = [Some(&self.primary), self.fallback.as_ref()]
            .into_iter()
            .flatten();
        keys.find(|key| {
            let wanted = mark(key, token, signed);
            aws_lc_rs::constant_time::verify_slices_are_equal(wanted.as_bytes(), given.as_bytes()).is_ok()
        })?;
        let mut parts = signed.splitn(3, "__");
        let (content, kind, rest) = (parts.next()?, parts.next()?.parse::<char>().ok()?, parts.next()?);
        let value = value(content, kind.to_ascii_lowercase())?;
        if kind.is_ascii_lowercase() {
            return Some(Redeemed {
                backend: rest,
                value,
                elsewhere: None,
            });
        }
        let (sealed, backend) = rest.split_once('.')?;
        let entry = v1::decode_entry(&self.elsewhere.open(token.as_bytes(), sealed)?)?;
        Some(Redeemed {
            backend,
            value,
            elsewhere: Some(entry),
        })
    }

    /// Returns `entry`, readable in the session with this token alone. What makes it unlike any other is what it says, so
    /// that a backend that takes a question back names the same ticket.
    fn sealed(&self, token: &str, entry: &Entry) -> String {
        let plain = v1::encode_entry(entry);
        let mut context = hmac::Context::with_key(&self.primary);
        for part in [b"elsewhere\0", token.as_bytes(), b"\0", &plain] {
            context.update(part);
        }
        let tag = context.sign();
        let unique = std::array::from_fn(|index| tag.as_ref().get(index).copied().unwrap_or_default());
        self.elsewhere.seal(token.as_bytes(), unique, &plain)
    }
}

fn mark(key: &hmac::Key, token: &str, signed: &str) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(token.as_bytes());
    context.update(b"\0");
    context.update(signed.as_bytes());
    let tag = context.sign();
    tag.as_ref()
        .iter()
        .take(MARK)
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Returns content and type: `s` a string, `i` an integer, `f` another number, `n` one that would be spelled
/// differently when it comes back.
fn content(value: &RawValue) -> (String, char) {
    let written = value.get();
    if let Some(text) = json::text(value) {
        return (STANDARD.encode(text.as_bytes()), 's');
    }
    if written
        .parse::<i64>()
        .is_ok_and(|integer| integer.to_string() == written)
    {
        return (written.to_owned(), 'i');
    }
    match written.parse::<f64>() {
        Ok(float) if float.to_string() == written => {
            let bytes = float.to_le_bytes();
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            (hex, 'f')
        }
        Ok(_) | Err(_) => (STANDARD.encode(written), 'n'),
    }
}

fn value(content: &str, kind: char) -> Option<Box<RawValue>> {
    let decoded = || String::from_utf8(STANDARD.decode(content).ok()?).ok();
    match kind {
        's' => Some(json::raw(&decoded()?)),
        'i' => Some(json::raw(&content.parse::<i64>().ok()?)),
        'f' => {
            let bits = u64::from_str_radix(content, 16).ok()?;
            let float = f64::from_bits(bits.swap_bytes());
            RawValue::from_string(float.to_string()).ok()
        }
        'n' => RawValue::from_string(decoded()?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capabilities, Version};

    fn entry(session: &str) -> Entry {
        Entry {
            backend: "alpha".to_owned(),
            session: session.to_owned(),
            capabilities: Capabilities::ALL,
            version: Some(Version::V2025_11_25),
            endpoint: Some(7),
        }
    }

    #[test]
    fn values_come_back_as_they_were_spelled() {
        let tickets = Tickets::new(b"seed", None);
        let check = |value: &str, begins: &str| {
            let raw = RawValue::from_string(value.to_owned()).expect("a document");
            let ticket = tickets.issue("token", "alpha", &raw, None);
            assert!(ticket.starts_with(begins), "{ticket}");
            let redeemed = tickets.redeem("token", &ticket).expect("a ticket");
            assert_eq!((redeemed.backend, redeemed.value.get()), ("alpha", value));
            assert_eq!(redeemed.elsewhere, None);
            let other = entry("s-2");
            let ticket = tickets.issue("token", "alpha.b_", &raw, Some(&other));
            let redeemed = tickets.redeem("token", &ticket).expect("a ticket");
            assert_eq!((redeemed.backend, redeemed.value.get()), ("alpha.b_", value));
            assert_eq!(redeemed.elsewhere, Some(other));
        };
        check("\"req-7\"", "cmVxLTc=__s__alpha__");
        check("7", "7__i__alpha__");
        check("1.5", "000000000000f83f__f__alpha__");
        check("1.0", "MS4w__n__alpha__");
        check("9223372036854775809", "OTIyMzM3MjAzNjg1NDc3NTgwOQ==__n__alpha__");
        check("-0", "0000000000000080__f__alpha__");
        check("\"\"", "__s__alpha__");
    }

    #[test]
    fn what_was_not_issued_is_not_redeemed() {
        let tickets = Tickets::new(b"seed", None);
        let seven = json::raw(&7);
        let other = entry("s-2");
        for elsewhere in [None, Some(&other)] {
            let ticket = tickets.issue("token", "alpha", &seven, elsewhere);
            assert!(tickets.redeem("other", &ticket).is_none());
            assert!(
                tickets
                    .redeem("token", &ticket.replace("alpha", "beta"))
                    .is_none()
            );
            assert!(tickets.redeem("token", &ticket.replacen('7', "8", 1)).is_none());
            assert!(!ticket.contains("s-2"), "{ticket}");
            let newer = Tickets::new(b"new", Some(b"seed"));
            assert!(newer.redeem("token", &ticket).is_some());
        }
        for made_up in ["", "7", "7__i__alpha", "7__i__alpha__00", "__", "a__b__c__d"] {
            assert!(tickets.redeem("token", made_up).is_none(), "{made_up}");
        }
    }

    /// A backend takes a question back under the id that it gave it, and the client knows it by its ticket.
    #[test]
    fn the_same_is_always_the_same_ticket() {
        let tickets = Tickets::new(b"seed", None);
        let issue =
            |token: &str, session: &str| tickets.issue(token, "alpha", &json::raw(&7), Some(&entry(session)));
        assert_eq!(issue("token", "s-2"), issue("token", "s-2"));
        assert_ne!(issue("token", "s-2"), issue("token", "s-3"));
        assert_ne!(issue("token", "s-2"), issue("other", "s-2"));
    }
}
