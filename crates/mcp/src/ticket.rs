//! Ids and tokens of backends as clients see them.
//!
//! A backend that asks the client something gives its request an id, and a client answers by that id. Two
//! backends may choose the same, and a client must not be able to answer what it was not asked. So the client
//! sees a ticket: `<content>__<type>__<backend>__<mark>`, where the mark proves that the ticket was issued in
//! the same MCP session. All but the mark is as in the compatibility specification, "Id mapping outwards".

use std::fmt::Write;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use crate::{json, seal};

/// Issues and reads tickets.
pub struct Tickets {
    primary: hmac::Key,
    fallback: Option<hmac::Key>,
}

/// Bytes of a mark.
const MARK: usize = 8;

impl Tickets {
    /// Returns the keys from a seed and the one before it.
    pub fn new(seed: &[u8], fallback: Option<&[u8]>) -> Self {
        Self {
            primary: seal::authenticator("ticket", seed),
            fallback: fallback.map(|seed| seal::authenticator("ticket", seed)),
        }
    }

    /// Returns the backend that a ticket names, whoever has made it.
    pub fn backend(ticket: &str) -> Option<&str> {
        let (signed, _) = ticket.rsplit_once("__")?;
        signed.splitn(3, "__").nth(2)
    }

    /// Returns the ticket for `value`, a string or number of `backend`, in the session that `session` names.
    pub fn issue(&self, session: &str, backend: &str, value: &RawValue) -> String {
        let mut ticket = format!("{}__{backend}", content(value));
        let mark = mark(&self.primary, session, &ticket);
        ticket.push_str("__");
        ticket.push_str(&mark);
        ticket
    }

    /// Returns the backend and its own value, if `ticket` was issued in `session`.
    pub fn redeem<'t>(&self, session: &str, ticket: &'t str) -> Option<(&'t str, Box<RawValue>)> {
        let (signed, given) = ticket.rsplit_once("__")?;
        let mut keys = [Some(&self.primary), self.fallback.as_ref()]
            .into_iter()
            .flatten();
        keys.find(|key| {
            let wanted = mark(key, session, signed);
            aws_lc_rs::constant_time::verify_slices_are_equal(wanted.as_bytes(), given.as_bytes()).is_ok()
        })?;
        let mut parts = signed.splitn(3, "__");
        let (content, kind, backend) = (parts.next()?, parts.next()?, parts.next()?);
        Some((backend, value(content, kind)?))
    }
}

fn mark(key: &hmac::Key, session: &str, signed: &str) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(session.as_bytes());
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
fn content(value: &RawValue) -> String {
    let written = value.get();
    if let Some(text) = json::text(value) {
        return format!("{}__s", STANDARD.encode(text.as_bytes()));
    }
    if written
        .parse::<i64>()
        .is_ok_and(|integer| integer.to_string() == written)
    {
        return format!("{written}__i");
    }
    match written.parse::<f64>() {
        Ok(float) if float.to_string() == written => {
            let bytes = float.to_le_bytes();
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            format!("{hex}__f")
        }
        Ok(_) | Err(_) => format!("{}__n", STANDARD.encode(written)),
    }
}

fn value(content: &str, kind: &str) -> Option<Box<RawValue>> {
    let decoded = || String::from_utf8(STANDARD.decode(content).ok()?).ok();
    match kind {
        "s" => Some(json::raw(&decoded()?)),
        "i" => Some(json::raw(&content.parse::<i64>().ok()?)),
        "f" => {
            let bits = u64::from_str_radix(content, 16).ok()?;
            let float = f64::from_bits(bits.swap_bytes());
            RawValue::from_string(float.to_string()).ok()
        }
        "n" => RawValue::from_string(decoded()?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_spelled() {
        let tickets = Tickets::new(b"seed", None);
        let check = |value: &str, begins: &str| {
            let raw = RawValue::from_string(value.to_owned()).expect("a document");
            let ticket = tickets.issue("session", "alpha", &raw);
            assert!(ticket.starts_with(begins), "{ticket}");
            assert_eq!(Tickets::backend(&ticket), Some("alpha"));
            let (backend, back) = tickets.redeem("session", &ticket).expect("a ticket");
            assert_eq!((backend, back.get()), ("alpha", value));
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
        let ticket = tickets.issue("session", "alpha", &json::raw(&7));
        assert!(tickets.redeem("other", &ticket).is_none());
        assert!(
            tickets
                .redeem("session", &ticket.replace("alpha", "beta"))
                .is_none()
        );
        assert!(tickets.redeem("session", &ticket.replacen('7', "8", 1)).is_none());
        for made_up in ["", "7", "7__i__alpha", "7__i__alpha__00", "__", "a__b__c__d"] {
            assert!(tickets.redeem("session", made_up).is_none(), "{made_up}");
        }
        let newer = Tickets::new(b"new", Some(b"seed"));
        assert!(newer.redeem("session", &ticket).is_some());
    }
}
