//! The subject of a certificate as a text (RFC 2253), as Envoy tells it: names of attributes in short, the last of them
//! first, everything beyond ASCII escaped.

use std::fmt::Write;

/// Returns the text of a subject, given the names inside it (X.501, `RDNSequence`); what is malformed of it is left out.
pub(super) fn text(names: &[u8]) -> String {
    let mut relative: Vec<String> = Elements(names).map(|(_, set)| relative(set)).collect();
    relative.retain(|text| !text.is_empty());
    relative.reverse();
    relative.join(",")
}

/// Returns one relative name: mostly one attribute, sometimes several.
fn relative(set: &[u8]) -> String {
    let attributes = Elements(set).filter_map(|(_, pair)| {
        let mut pair = Elements(pair);
        let (OID, oid) = pair.next()? else { return None };
        let (kind, value) = pair.next()?;
        Some(attribute(oid, kind, value))
    });
    attributes.collect::<Vec<_>>().join("+")
}

fn attribute(oid: &[u8], kind: u8, value: &[u8]) -> String {
    let known = NAMES.iter().find(|(known, _)| *known == oid);
    match (known, spelled(kind, value)) {
        (Some((_, name)), Some(value)) => format!("{name}={}", escaped(&value)),
        (Some((_, name)), None) => format!("{name}={}", dumped(kind, value)),
        (None, _) => format!("{}={}", dotted(oid), dumped(kind, value)),
    }
}

/// Returns a value as text; `None` where it is of a kind that is none.
fn spelled(kind: u8, value: &[u8]) -> Option<String> {
    match kind {
        UTF8 => String::from_utf8(value.to_vec()).ok(),
        NUMERIC | PRINTABLE | IA5 | VISIBLE | T61 => {
            Some(value.iter().map(|byte| char::from(*byte)).collect())
        }
        BMP => {
            let units = value.chunks_exact(2).map(|unit| match unit {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0,
            });
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        }
        _ => None,
    }
}

/// Returns a value so that it ends where it does (RFC 2253, section 2.4).
fn escaped(value: &str) -> String {
    let mut text = String::new();
    let last = value.len().saturating_sub(1);
    for (at, own) in value.char_indices() {
        let edge = (own == ' ' && (at == 0 || at == last)) || (own == '#' && at == 0);
        match own {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => {
                text.push('\\');
                text.push(own);
            }
            _ if edge => {
                text.push('\\');
                text.push(own);
            }
            ' '..='~' => text.push(own),
            _ => {
                let mut bytes = [0; 4];
                for byte in own.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
        }
    }
    text
}

/// Returns a value as it is encoded.
fn dumped(kind: u8, value: &[u8]) -> String {
    let mut text = format!("#{kind:02X}");
    let length = match u8::try_from(value.len()) {
        Ok(short @ ..0x80) => vec![short],
        Ok(_) | Err(_) => {
            let all = value.len().to_be_bytes();
            let bytes: Vec<u8> = all.into_iter().skip_while(|byte| *byte == 0).collect();
            let mut length = vec![0x80 | bytes.len() as u8];
            length.extend(bytes);
            length
        }
    };
    for byte in length.iter().chain(value) {
        let _ = write!(text, "{byte:02X}");
    }
    text
}

/// Returns the numbers of an object identifier.
fn dotted(oid: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0_u64;
    for byte in oid {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(std::mem::take(&mut number));
        }
    }
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(".")
}

/// The elements of a structure in DER, each with its tag; it ends where it is malformed.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, rest) = self.0.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
                let length = bytes
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }
}

/// What certificates call their holders by, and how that is said in short.
const NAMES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 42], "GN"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 25], "DC"),
];

// Tags of X.690.
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const NUMERIC: u8 = 0x12;
const PRINTABLE: u8 = 0x13;
const T61: u8 = 0x14;
const IA5: u8 = 0x16;
const VISIBLE: u8 = 0x1a;
const BMP: u8 = 0x1e;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an element in DER.
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut all = vec![tag];
        match u8::try_from(content.len()).expect("short") {
            short @ ..0x80 => all.push(short),
            long => all.extend([0x81, long]),
        }
        all.extend(content);
        all
    }

    /// What it is, of which kind its value is, and the value.
    type Attribute<'a> = (&'a [u8], u8, &'a [u8]);

    /// Returns relative names, one for each row.
    fn names(rows: &[&[Attribute<'_>]]) -> Vec<u8> {
        let pair = |(oid, kind, value): &Attribute<'_>| {
            element(0x30, &[element(OID, oid), element(*kind, value)].concat())
        };
        let set =
            |row: &&[(&[u8], u8, &[u8])]| element(0x31, &row.iter().flat_map(pair).collect::<Vec<u8>>());
        rows.iter().flat_map(set).collect()
    }

    #[track_caller]
    fn check(rows: &[&[Attribute<'_>]], expected: &str) {
        assert_eq!(text(&names(rows)), expected);
    }

    const CN: &[u8] = &[0x55, 4, 3];
    const C: &[u8] = &[0x55, 4, 6];
    const O: &[u8] = &[0x55, 4, 10];

    #[test]
    fn the_last_name_is_said_first() {
        check(&[], "");
        check(
            &[
                &[(C, PRINTABLE, b"DE")],
                &[(O, UTF8, b"Acme")],
                &[(CN, UTF8, b"c.test")],
            ],
            "CN=c.test,O=Acme,C=DE",
        );
        check(
            &[
                &[(O, UTF8, b"Acme")],
                &[(CN, UTF8, b"a"), (&[0x55, 4, 5], PRINTABLE, b"7")],
            ],
            "CN=a+serialNumber=7,O=Acme",
        );
    }

    #[test]
    fn a_value_ends_where_it_does() {
        check(
            &[&[(O, UTF8, b"A, \"B\" + C; <D>\\")]],
            r#"O=A\, \"B\" \+ C\; \<D\>\\"#,
        );
        check(&[&[(O, UTF8, b" # ")]], r"O=\ #\ ");
        check(&[&[(O, UTF8, b"#1")]], r"O=\#1");
        check(&[&[(O, UTF8, "Kö\n".as_bytes())]], r"O=K\C3\B6\0A");
        check(&[&[(O, T61, &[0xf6])]], r"O=\C3\B6");
        check(&[&[(O, BMP, &[0, b'a', 0x20, 0xac])]], r"O=a\E2\82\AC");
    }

    #[test]
    fn what_has_no_name_or_is_no_text_is_said_as_it_is_encoded() {
        check(&[&[(&[0x2a, 0x03, 0x81, 0x01], UTF8, b"a")]], "1.2.3.129=#0C0161");
        check(&[&[(O, 0x04, &[1, 2])]], "O=#04020102");
        let long = vec![b'a'; 200];
        let expected = format!("1.2=#0C81C8{}", "61".repeat(200));
        check(&[&[(&[0x2a], UTF8, &long)]], &expected);
        assert_eq!(text(&[0x31, 0x05, 0x30]), "");
        assert_eq!(text(&[0x31, 0x80]), "");
    }
}
