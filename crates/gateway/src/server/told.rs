//! What upstreams are told of the certificates of clients, in `x-forwarded-client-cert` (Envoy's documentation of HTTP
//! headers): elements joined by commas, one for each proxy that was shown one, of pairs joined by semicolons.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use config::intake::{Teller, Told};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::subject;

/// Carries it.
const HEADER: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Returns what is told of a client that has shown `chain`; `None` if it has shown nothing.
pub(super) fn of(chain: &[CertificateDer<'_>], told: Told) -> Option<HeaderValue> {
    let own = chain.first()?;
    let mut text = String::from("Hash=");
    for byte in digest(&SHA256, own).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    if told.certificate {
        let _ = write!(text, ";Cert=\"{}\"", pem(std::slice::from_ref(own)));
    }
    if told.chain {
        let _ = write!(text, ";Chain=\"{}\"", pem(chain));
    }
    // It was checked when it was shown.
    if let Ok(parsed) = EndEntityCert::try_from(own) {
        if told.subject {
            let _ = write!(text, ";Subject=\"{}\"", subject::text(parsed.subject()));
        }
        for uri in parsed.valid_uri_names().filter(|_| told.uris) {
            let _ = write!(text, ";URI={}", quoted(uri));
        }
        for host in parsed.valid_dns_names().filter(|_| told.hosts) {
            let _ = write!(text, ";DNS={}", quoted(host));
        }
    }
    HeaderValue::try_from(text).ok()
}

/// Leaves in `headers` what upstreams are told; `shown` is what is known of the client's certificate.
pub(crate) fn tell(headers: &mut HeaderMap, by: Teller, shown: Option<&HeaderValue>) {
    match (by, shown) {
        (Teller::Anybody, _) | (Teller::Shown, Some(_)) => {}
        (Teller::Both, Some(own)) => {
            let before = headers.get_all(HEADER).iter();
            let all: Vec<&[u8]> = before.chain([own]).map(HeaderValue::as_bytes).collect();
            if let Ok(all) = HeaderValue::from_bytes(&all.join(&b","[..])) {
                headers.insert(HEADER, all);
            }
        }
        (Teller::Gateway, Some(own)) => {
            headers.insert(HEADER, own.clone());
        }
        (Teller::Nobody, _) | (Teller::Shown | Teller::Both | Teller::Gateway, None) => {
            headers.remove(HEADER);
        }
    }
}

/// Returns certificates in PEM, as they stand in addresses.
fn pem(chain: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()
}

/// Returns a name so that it ends where it does.
fn quoted(name: &str) -> String {
    match name.contains([',', ';', '=', '"', '\\']) {
        false => name.to_owned(),
        true => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// The length of the lines of PEM.
const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(by: Teller, shown: bool, said: &[&'static str], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for value in said {
            headers.append(HEADER, HeaderValue::from_static(value));
        }
        let own = HeaderValue::from_static("Hash=1");
        tell(&mut headers, by, shown.then_some(&own));
        let found = headers.get(HEADER).map(|value| value.to_str().expect("text"));
        assert_eq!(found, expected, "{by:?} {shown} {said:?}");
        assert!(headers.get_all(HEADER).iter().count() <= 1.max(said.len()));
    }

    #[test]
    fn who_may_tell_is_believed() {
        for (by, with, without) in [
            (Teller::Nobody, None, None),
            (Teller::Shown, Some("Hash=0"), None),
            (Teller::Both, Some("Hash=0,Hash=1"), None),
            (Teller::Gateway, Some("Hash=1"), None),
            (Teller::Anybody, Some("Hash=0"), Some("Hash=0")),
        ] {
            check(by, true, &["Hash=0"], with);
            check(by, false, &["Hash=0"], without);
            check(by, false, &[], None);
        }
        check(
            Teller::Both,
            true,
            &["Hash=0", "Hash=2"],
            Some("Hash=0,Hash=2,Hash=1"),
        );
        check(Teller::Both, true, &[], Some("Hash=1"));
    }

    #[test]
    fn names_end_where_they_do() {
        assert_eq!(quoted("spiffe://a/b"), "spiffe://a/b");
        assert_eq!(quoted("a;b=\"c\""), "\"a;b=\\\"c\\\"\"");
    }
}
