//! Signed statements (RFC 7519) with a key of RSA, which prove to an issuer who asks.

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;

use super::MintError;

/// Returns `header` and `claims`, signed with the key in `pem`.
pub(crate) fn sign(header: &Value, claims: &Value, pem: &str) -> Result<String, MintError> {
    let key = key(pem)?;
    let mut text = format!("{}.{}", encode(header), encode(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .map_err(|_| MintError::Key("the private key does not sign"))?;
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Ok(text)
}

/// Returns the SHA-256 of the first certificate in `pem`, as headers name it.
pub(crate) fn thumbprint(pem: &str) -> Result<String, MintError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| MintError::Key("there is no certificate in the PEM"))?;
    Ok(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &certificate)))
}

fn key(pem: &str) -> Result<RsaKeyPair, MintError> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| MintError::Key("there is no private key in the PEM"))?;
    let pair = match &key {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(MintError::Key("the private key is not one of RSA")),
    };
    pair.map_err(|_| MintError::Key("the private key is not one of RSA"))
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
