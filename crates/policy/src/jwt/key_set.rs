//! Sets of public keys (RFC 7517), and what is signed with them (RFC 7518).
//!
//! A key says by what it is which algorithms may be used with it, so that a token cannot choose: not "none", and
//! not a shared secret in place of a signature.

use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;

/// Public keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// A set of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is not a JSON document of that form.
    #[error("not a JSON Web Key Set")]
    Malformed(#[source] serde_json::Error),
    /// It has no public key for signatures.
    #[error("the set has no key that signatures can be checked with")]
    Empty,
    /// It has more than are kept of one issuer.
    #[error("the set has more than {MAX_KEYS} keys")]
    TooMany,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS #1.
    Rs256,
    /// RSA, PKCS #1.
    Rs384,
    /// RSA, PKCS #1.
    Rs512,
    /// RSA, PSS.
    Ps256,
    /// RSA, PSS.
    Ps384,
    /// RSA, PSS.
    Ps512,
    /// P-256.
    Es256,
    /// P-384.
    Es384,
    /// P-521.
    Es512,
    /// Ed25519.
    EdDsa,
}

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    /// What may be signed with it.
    algorithms: Vec<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, or an Edwards key, as the algorithm takes it.
    Curve(Vec<u8>),
}

/// A key as it is written. Members of other kinds of keys are absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

impl KeySet {
    /// Reads a document. Keys that are for something else, or of a kind that is not known, are left out.
    ///
    /// # Errors
    /// If it is none, or no key is left.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(document).map_err(KeySetError::Malformed)?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        // One that is malformed does not spoil the others (RFC 7517, section 5).
        let written = document
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok());
        let keys: Vec<Key> = written.filter_map(Written::key).collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self { keys })
    }

    /// Returns whether some key may have signed something by `algorithm`, under the id that is given with it.
    pub fn knows(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        self.candidates(id, algorithm).next().is_some()
    }

    /// Returns whether `signature` is one of `message` by `algorithm`. Without an id every key is tried.
    pub fn verifies(&self, id: Option<&str>, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.candidates(id, algorithm)
            .any(|key| key.material.verifies(algorithm, message, signature))
    }

    fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| {
            let named = match (id, &key.id) {
                (Some(wanted), Some(id)) => wanted == id,
                // A key without an id may be any.
                (Some(_), None) | (None, _) => true,
            };
            named && key.algorithms.contains(&algorithm)
        })
    }
}

impl Algorithm {
    /// Returns the algorithm of that name; `None` for those that are not served, "none" and shared secrets.
    pub fn parse(name: &str) -> Option<Self> {
        ALGORITHMS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, algorithm)| *algorithm)
    }

    fn curve(self) -> Option<&'static EcdsaVerificationAlgorithm> {
        match self {
            Algorithm::Es256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::Es384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
            Algorithm::Es512 => Some(&signature::ECDSA_P521_SHA512_FIXED),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512
            | Algorithm::EdDsa => None,
        }
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::EdDsa => None,
        }
    }
}

impl Material {
    fn verifies(&self, algorithm: Algorithm, message: &[u8], signed: &[u8]) -> bool {
        match self {
            Material::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                let parameters = algorithm.rsa();
                parameters.is_some_and(|parameters| key.verify(parameters, message, signed).is_ok())
            }
            Material::Curve(point) => match algorithm.curve() {
                Some(curve) => UnparsedPublicKey::new(curve, point)
                    .verify(message, signed)
                    .is_ok(),
                None => UnparsedPublicKey::new(&signature::ED25519, point)
                    .verify(message, signed)
                    .is_ok(),
            },
        }
    }
}

impl Written {
    /// Returns the key, if signatures can be checked with it.
    fn key(self) -> Option<Key> {
        let other = self.purpose.as_deref().is_some_and(|purpose| purpose != "sig");
        let forbids = self
            .key_ops
            .iter()
            .any(|ops| !ops.iter().any(|op| op == "verify"));
        if other || forbids {
            return None;
        }
        let (mut algorithms, material) = match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => (
                RSA.to_vec(),
                Material::Rsa {
                    n: integer(&self.n)?,
                    e: integer(&self.e)?,
                },
            ),
            ("EC", curve) => {
                let (algorithm, size) = match curve {
                    "P-256" => (Algorithm::Es256, 32),
                    "P-384" => (Algorithm::Es384, 48),
                    "P-521" => (Algorithm::Es512, 66),
                    _ => return None,
                };
                let (x, y) = (decode(&self.x)?, decode(&self.y)?);
                if x.len() != size || y.len() != size {
                    return None;
                }
                let uncompressed = [&[4][..], &x, &y].concat();
                (vec![algorithm], Material::Curve(uncompressed))
            }
            ("OKP", "Ed25519") => (vec![Algorithm::EdDsa], Material::Curve(decode(&self.x)?)),
            _ => return None,
        };
        if let Some(only) = self.alg.as_deref() {
            let only = Algorithm::parse(only);
            algorithms.retain(|algorithm| Some(*algorithm) == only);
        }
        (!algorithms.is_empty()).then_some(Key {
            id: self.kid,
            algorithms,
            material,
        })
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    (!bytes.is_empty()).then_some(bytes)
}

/// Returns a number without the zeros that some issuers put before it.
fn integer(text: &str) -> Option<Vec<u8>> {
    let bytes = decode(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let number = bytes.get(zeros..)?;
    (!number.is_empty()).then(|| number.to_vec())
}

/// The most keys that a set may have: each may be tried against a token.
const MAX_KEYS: usize = 128;

const RSA: &[Algorithm] = &[
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];

/// The names of RFC 7518, section 3.1, and RFC 8037.
const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("ES512", Algorithm::Es512),
    ("EdDSA", Algorithm::EdDsa),
];
