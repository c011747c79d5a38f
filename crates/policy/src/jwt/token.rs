//! One token (RFC 7519): its parts, and whether they hold together at a given time.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::key_set::{Algorithm, KeySet};
use crate::Claims;

/// A token that was taken apart. Nothing in it has been verified.
pub(super) struct Token<'t> {
    signed: &'t [u8],
    signature: Vec<u8>,
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Claims,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none.
    #[error("the token is malformed")]
    Malformed,
    /// It is signed in a way that is not allowed, or not at all.
    #[error("the token is not signed by an algorithm that is allowed")]
    Algorithm,
    /// It demands something that is not understood (RFC 7515, section 4.1.11).
    #[error("the token demands an extension that is not known")]
    Critical,
    /// It is somebody else's.
    #[error("the token is of another issuer")]
    Issuer,
    /// No key of its issuer has signed it.
    #[error("the token is signed with a key that is not known")]
    Key,
    /// The signature is not of this token.
    #[error("the signature of the token is wrong")]
    Signature,
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet")]
    Early,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    Audience,
}

impl<'t> Token<'t> {
    /// Takes a token apart.
    pub(super) fn parse(text: &'t str) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: Option<String>,
            crit: Option<Value>,
        }
        if text.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let claims: Map<String, Value> =
            serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)?;
        Ok(Self {
            signed: signed.as_bytes(),
            signature: decode(signature)?,
            algorithm: Algorithm::parse(&header.alg).ok_or(TokenError::Algorithm)?,
            key_id: header.kid,
            claims: Claims::new(claims),
        })
    }

    /// Returns whether the token says that `issuer` has issued it; whether that is true shows when it is verified.
    pub(super) fn is_of(&self, issuer: &str) -> bool {
        self.claims.get("iss").and_then(Value::as_str) == Some(issuer)
    }

    /// Returns whether the token says which key has signed it.
    pub(super) fn names_key(&self) -> bool {
        self.key_id.is_some()
    }

    /// Checks that one of `keys` has signed it.
    pub(super) fn is_signed_by(&self, keys: &KeySet) -> Result<(), TokenError> {
        let id = self.key_id.as_deref();
        if !keys.knows(id, self.algorithm) {
            return Err(TokenError::Key);
        }
        if !keys.verifies(id, self.algorithm, self.signed, &self.signature) {
            return Err(TokenError::Signature);
        }
        Ok(())
    }

    /// Returns what the token says, if it is valid `now`, in seconds since the Unix epoch, for one of `audiences`; for
    /// anybody if there are none. Who has signed it has been checked.
    pub(super) fn claims(self, audiences: &[String], now: u64) -> Result<Claims, TokenError> {
        let time = |name| match self.claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(TokenError::Malformed),
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds are exact for millions of years"
        )]
        let (now, skew) = (now as f64, SKEW as f64);
        if time("exp")?.is_some_and(|expires| now >= expires + skew) {
            return Err(TokenError::Expired);
        }
        if time("nbf")?.is_some_and(|begins| now + skew < begins) {
            return Err(TokenError::Early);
        }
        let is_one = |value: &Value| {
            let text = value.as_str();
            text.is_some_and(|text| audiences.iter().any(|audience| audience == text))
        };
        let meant = match self.claims.get("aud") {
            _ if audiences.is_empty() => true,
            Some(Value::Array(list)) => list.iter().any(is_one),
            Some(value) => is_one(value),
            None => false,
        };
        if meant {
            Ok(self.claims)
        } else {
            Err(TokenError::Audience)
        }
    }
}

/// How far the clocks of issuers may be from ours, in seconds.
const SKEW: u64 = 60;

/// The longest token that is looked at.
const MAX_TOKEN: usize = 64 * 1024;
