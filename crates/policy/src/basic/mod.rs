//! Basic authentication (RFC 7617) against a file of htpasswd's, of which only `{SHA}` is read.

use std::{collections::HashMap, fmt};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};

use crate::{Refusal, carrier::strip_scheme};

/// Who has which password.
#[derive(Clone)]
pub struct Basic {
    users: HashMap<String, Vec<u8>>,
    /// The header in which upstreams are told the name.
    pub told_in: Option<HeaderName>,
}

/// Why a file of passwords cannot be used. Lines are not shown, they are secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordsError {
    /// A line is not `name:{SHA}digest`.
    #[error("line {0} is not of the form name:{{SHA}}digest, which is the only one served")]
    Line(usize),
    /// A name comes twice.
    #[error("line {0} names a user that an earlier line has named")]
    Twice(usize),
    /// There is no line.
    #[error("there is no user")]
    Empty,
}

impl Basic {
    /// Reads a file of passwords, as `htpasswd -s` writes it.
    ///
    /// # Errors
    /// If a line is of another form, or there is none.
    pub fn parse(htpasswd: &str, told_in: Option<HeaderName>) -> Result<Self, PasswordsError> {
        let mut users = HashMap::new();
        for (index, line) in htpasswd.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let malformed = PasswordsError::Line(index + 1);
            let (name, password) = line.split_once(':').ok_or(malformed)?;
            let password = password.strip_prefix("{SHA}").ok_or(malformed)?;
            let password = STANDARD.decode(password).map_err(|_| malformed)?;
            if name.is_empty() || password.len() != SHA1_FOR_LEGACY_USE_ONLY.output_len() {
                return Err(malformed);
            }
            if users.insert(name.to_owned(), password).is_some() {
                return Err(PasswordsError::Twice(index + 1));
            }
        }
        if users.is_empty() {
            return Err(PasswordsError::Empty);
        }
        Ok(Self { users, told_in })
    }

    /// Returns the name whose password `headers` carry, and tells it to upstreams.
    ///
    /// # Errors
    /// A 401, if they carry none, or a wrong one.
    pub fn verify(&self, headers: &mut HeaderMap) -> Result<String, Box<Refusal>> {
        let value = headers.get(header::AUTHORIZATION);
        let value = value.and_then(|value| strip_scheme(value.to_str().ok()?, "Basic"));
        let Some(value) = value else {
            return Err(refusal("a name and a password are required"));
        };
        let wrong = || refusal("name or password is wrong");
        let decoded = STANDARD.decode(value).map_err(|_| wrong())?;
        let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
        let (name, password) = decoded.split_once(':').ok_or_else(wrong)?;
        let presented = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        // A name that nobody has costs the same comparison as one that somebody has.
        let known = self.users.get(name);
        let wanted = known.map_or(&NOBODY[..], Vec::as_slice);
        let equal = verify_slices_are_equal(wanted, presented.as_ref()).is_ok();
        if !equal || known.is_none() {
            return Err(wrong());
        }
        if let Some(told_in) = &self.told_in {
            headers.remove(told_in);
            if let Ok(value) = HeaderValue::from_str(name) {
                headers.insert(told_in.clone(), value);
            }
        }
        Ok(name.to_owned())
    }

    /// Returns what is declared, without passwords.
    pub fn dump(&self) -> Value {
        json!({
            "users": self.names(),
            "forwardUsernameHeader": self.told_in.as_ref().map(HeaderName::as_str),
        })
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.users.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Shows the names only.
impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Basic").field(&self.names()).finish()
    }
}

fn refusal(message: &str) -> Box<Refusal> {
    let challenge = HeaderValue::from_static("Basic realm=\"tollgate\", charset=\"UTF-8\"");
    Refusal::challenge(message, challenge)
}

/// The digest of no password.
const NOBODY: [u8; 20] = [0; 20];

#[cfg(test)]
mod tests {
    use super::*;

    /// `ann` has "secret", `bob` has "pa:ss".
    const FILE: &str =
        "# two users\nann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n\nbob:{SHA}XyRLaTIb/WCdo8CuWc58gPVHl68=\n";

    #[test]
    fn passwords() {
        let check = |authorization: Option<&str>, expected: Option<&str>| {
            let name = HeaderName::from_static("x-user");
            let basic = Basic::parse(FILE, Some(name)).expect("well-formed");
            let mut headers = HeaderMap::new();
            headers.insert("x-user", HeaderValue::from_static("forged"));
            if let Some(value) = authorization {
                headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
            }
            match basic.verify(&mut headers) {
                Ok(name) => {
                    assert_eq!(Some(name.as_str()), expected, "{authorization:?}");
                    assert_eq!(headers["x-user"], name);
                }
                Err(refusal) => {
                    assert_eq!(expected, None, "{authorization:?}: {refusal:?}");
                    assert_eq!(refusal.error.status, 401);
                    let challenge = refusal.headers["www-authenticate"].to_str().expect("text");
                    assert!(challenge.starts_with("Basic "));
                }
            }
        };
        let basic = |pair: &str| format!("basic {}", STANDARD.encode(pair));
        check(Some(&basic("ann:secret")), Some("ann"));
        check(Some(&basic("bob:pa:ss")), Some("bob"));
        check(Some(&basic("ann:Secret")), None);
        check(Some(&basic("ann:")), None);
        check(Some(&basic("eve:secret")), None);
        check(Some(&basic("ann")), None);
        check(Some("Basic %%%"), None);
        check(Some("Bearer ann"), None);
        check(None, None);
    }

    #[test]
    fn files() {
        let check = |file: &str, expected: PasswordsError| {
            assert_eq!(Basic::parse(file, None).expect_err("malformed"), expected);
        };
        check("", PasswordsError::Empty);
        check("ann:$apr1$x$y", PasswordsError::Line(1));
        check("\nann:{SHA}short", PasswordsError::Line(2));
        check("ann", PasswordsError::Line(1));
        let twice = format!("{FILE}ann:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=");
        check(&twice, PasswordsError::Twice(5));
        let shown = format!("{:?}", Basic::parse(FILE, None));
        assert!(shown.contains("ann") && !shown.contains("5en6"));
    }
}
