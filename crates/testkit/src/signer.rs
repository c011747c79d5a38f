//! Somebody who signs tokens, and whose public keys can be fetched. Keys are made anew for each test.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key of an issuer, for ES256.
pub struct Signer {
    id: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    /// Returns a new key that is called `id`.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made"),
            random: SystemRandom::new(),
        }
    }

    /// Returns the document with the public halves of `signers`.
    pub fn keys(signers: &[&Self]) -> Value {
        let keys: Vec<Value> = signers
            .iter()
            .map(|signer| {
                // Uncompressed: a byte that says so, and two coordinates.
                let point = signer.key.public_key().as_ref();
                let (x, y) = point.get(1..).unwrap_or_default().split_at(COORDINATE);
                json!({
                    "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
                    "kid": signer.id, "x": encode(x), "y": encode(y),
                })
            })
            .collect();
        json!({ "keys": keys })
    }

    /// Returns a token that says `claims`.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub fn token(&self, claims: &Value) -> String {
        self.signed(&json!({ "alg": "ES256", "typ": "JWT", "kid": self.id }), claims)
    }

    /// Returns a token that says `claims`, and says of itself what `header` has.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.key.sign(&self.random, signed.as_bytes());
        let signature = signature.expect("randomness is to be had");
        format!("{signed}.{}", encode(signature))
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The length of a coordinate on P-256.
const COORDINATE: usize = 32;
