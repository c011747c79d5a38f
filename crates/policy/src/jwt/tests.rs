//! Tokens that are believed, and those that are not. Keys are made for each run.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, header};

use super::*;
use crate::{EgressError, KeysError, egress::BoxFuture};

const NOW: u64 = 1_800_000_000;

/// An issuer with a key of each kind.
struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    random: SystemRandom,
}

impl Issuer {
    fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            ed: Ed25519KeyPair::generate().expect("a key"),
            random: SystemRandom::new(),
        }
    }

    fn keys(&self) -> Value {
        // A sequence of two numbers (RFC 8017, appendix A.1.1), of which the second is 65537.
        let public = self.rsa.public_key().as_ref();
        let (n, e) = (&public[9..265], &public[267..]);
        let padded = [&[0][..], n].concat();
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "r", "use": "sig", "n": text(padded), "e": text(e)},
            {"kty": "EC", "kid": "e", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..65])},
            {"kty": "OKP", "kid": "d", "crv": "Ed25519", "alg": "EdDSA", "x": text(self.ed.public_key())},
            {"kty": "RSA", "kid": "encryption", "use": "enc", "n": text(n), "e": text(e)},
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
            {"kty": "EC", "kid": "odd", "crv": "secp256k1", "x": "AA", "y": "AA"},
        ]})
    }

    fn set(&self) -> Arc<KeySet> {
        Arc::new(KeySet::parse(self.keys().to_string().as_bytes()).expect("keys"))
    }

    /// Returns a token that is signed as its header says.
    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
        let message = signed.as_bytes();
        let signature = match header["alg"].as_str() {
            Some("RS256") => self.rsa(&RSA_PKCS1_SHA256, message),
            Some("PS256") => self.rsa(&RSA_PSS_SHA256, message),
            Some("ES256") => {
                let signature = self.ec.sign(&self.random, message).expect("signed");
                signature.as_ref().to_vec()
            }
            Some("EdDSA") => self.ed.sign(message).as_ref().to_vec(),
            _ => Vec::new(),
        };
        format!("{signed}.{}", text(signature))
    }

    fn rsa(&self, padding: &'static dyn aws_lc_rs::signature::RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        let signed = self.rsa.sign(padding, &self.random, message, &mut signature);
        signed.expect("signed");
        signature
    }
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Keys that are fetched; nothing else can be asked.
struct Fetched {
    sets: Mutex<Vec<Arc<KeySet>>>,
    anew: AtomicUsize,
}

impl Egress for Fetched {
    fn call<'a>(
        &'a self,
        _: &'a str,
        _: Request<Bytes>,
        _: Duration,
    ) -> BoxFuture<'a, Result<Response<Bytes>, EgressError>> {
        Box::pin(async { Err(EgressError::Unknown) })
    }

    fn keys<'a>(&'a self, _: &'a Remote, anew: bool) -> BoxFuture<'a, Result<Arc<KeySet>, KeysError>> {
        Box::pin(async move {
            let mut sets = self.sets.lock().expect("not poisoned");
            if anew {
                self.anew.fetch_add(1, Ordering::Relaxed);
                if sets.len() > 1 {
                    sets.remove(0);
                }
            }
            sets.first().cloned().ok_or(KeysError)
        })
    }
}

fn fetched(sets: &[Arc<KeySet>]) -> Fetched {
    Fetched {
        sets: Mutex::new(sets.to_vec()),
        anew: AtomicUsize::new(0),
    }
}

fn provider(keys: Keys) -> Provider {
    Provider {
        name: "idp".into(),
        issuer: Some("https://idp.example".to_owned()),
        audiences: vec!["gateway".to_owned(), "other".to_owned()],
        keys,
        carriers: vec![
            Carrier::Header(header::AUTHORIZATION, "Bearer ".to_owned()),
            Carrier::Param("access_token".to_owned()),
        ],
        told_in: vec![("sub".to_owned(), HeaderName::from_static("x-sub"))],
        recompute_route: false,
    }
}

fn remote() -> Keys {
    Keys::Remote(Arc::new(Remote {
        service: "idp".into(),
        uri: http::Uri::from_static("https://idp.example/keys"),
        keep: None,
        issuer: None,
    }))
}

/// Runs what never has to wait.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn head(token: Option<&str>) -> Parts {
    let mut request = Request::builder().uri("/v1/x").header("x-sub", "forged");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(()).expect("a request").into_parts().0
}

fn claims() -> Value {
    json!({"iss": "https://idp.example", "aud": "gateway", "sub": "u1", "exp": NOW + 10})
}

#[test]
fn tokens() {
    let issuer = Issuer::new();
    let stranger = Issuer::new();
    let jwt = Jwt {
        providers: vec![provider(Keys::Local(issuer.set()))],
        optional: false,
    };
    let check = |token: &str, expected: Result<(), TokenError>| {
        let mut head = head(Some(token));
        let found = run(jwt.verify(&fetched(&[]), NOW, &mut head));
        match (found, expected) {
            (Ok(Some((provider, claims))), Ok(())) => {
                assert_eq!((&*provider, claims.text("sub").as_deref()), ("idp", Some("u1")));
                assert_eq!(head.headers["x-sub"], "u1");
            }
            (Err(refusal), Err(expected)) => {
                assert_eq!(refusal.error.status, 401);
                assert_eq!(refusal.error.message, expected.to_string());
                let challenge = refusal.headers["www-authenticate"].to_str().expect("text");
                assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
                assert!(!head.headers.contains_key("x-sub"));
            }
            (found, expected) => panic!("{token}: {found:?}, expected {expected:?}"),
        }
    };
    let with = |header: Value, changes: Value| {
        let mut claims = claims();
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        issuer.token(&header, &claims)
    };
    for (algorithm, key) in [("RS256", "r"), ("PS256", "r"), ("ES256", "e"), ("EdDSA", "d")] {
        check(&with(json!({"alg": algorithm, "kid": key}), json!({})), Ok(()));
        check(&with(json!({"alg": algorithm}), json!({})), Ok(()));
        let forged = stranger.token(&json!({"alg": algorithm, "kid": key}), &claims());
        check(&forged, Err(TokenError::Signature));
    }
    let es = json!({"alg": "ES256", "kid": "e"});
    check(&with(es.clone(), json!({"aud": ["x", "other"]})), Ok(()));
    check(
        &with(es.clone(), json!({"aud": "gatewa"})),
        Err(TokenError::Audience),
    );
    check(&with(es.clone(), json!({"aud": null})), Err(TokenError::Audience));
    check(
        &with(es.clone(), json!({"iss": "https://idp.example/"})),
        Err(TokenError::Issuer),
    );
    // Clocks may differ by a minute, and no more.
    check(&with(es.clone(), json!({"exp": NOW - 59})), Ok(()));
    check(
        &with(es.clone(), json!({"exp": NOW - 60})),
        Err(TokenError::Expired),
    );
    check(&with(es.clone(), json!({"exp": 1.5})), Err(TokenError::Expired));
    check(
        &with(es.clone(), json!({"exp": "never"})),
        Err(TokenError::Malformed),
    );
    check(&with(es.clone(), json!({"nbf": NOW + 60})), Ok(()));
    check(
        &with(es.clone(), json!({"nbf": NOW + 61})),
        Err(TokenError::Early),
    );
    check(
        &with(json!({"alg": "none"}), json!({})),
        Err(TokenError::Algorithm),
    );
    check(
        &with(json!({"alg": "HS256", "kid": "secret"}), json!({})),
        Err(TokenError::Algorithm),
    );
    // A key signs in its own way only, and only what it is for.
    check(
        &with(json!({"alg": "RS256", "kid": "e"}), json!({})),
        Err(TokenError::Key),
    );
    check(
        &with(json!({"alg": "RS256", "kid": "encryption"}), json!({})),
        Err(TokenError::Key),
    );
    check(
        &with(json!({"alg": "ES256", "crit": ["b64"]}), json!({})),
        Err(TokenError::Critical),
    );
    for malformed in ["", "a", "a.b", "a.b.c", "..", "e30.e30.", &"x".repeat(70_000)] {
        if !malformed.is_empty() {
            check(malformed, Err(TokenError::Malformed));
        }
    }
    // A changed claim is not what was signed.
    let token = with(es, json!({}));
    let (rest, signature) = token.rsplit_once('.').expect("three parts");
    let header = rest.split('.').next().expect("a header");
    let changed = json!({"iss": "https://idp.example", "aud": "gateway", "sub": "root"});
    let changed = format!("{header}.{}.{signature}", text(changed.to_string()));
    check(&changed, Err(TokenError::Signature));
}

#[test]
fn requests_without_a_token() {
    let issuer = Issuer::new();
    for optional in [false, true] {
        let jwt = Jwt {
            providers: vec![provider(Keys::Local(issuer.set()))],
            optional,
        };
        let mut missing = head(None);
        match run(jwt.verify(&fetched(&[]), NOW, &mut missing)) {
            Ok(None) => assert!(optional),
            Err(refusal) => {
                assert!(!optional);
                assert_eq!(refusal.headers["www-authenticate"], MISSING);
            }
            Ok(Some(_)) => panic!("nobody vouches for it"),
        }
        assert!(!missing.headers.contains_key("x-sub"), "nobody may forge a claim");
        // What is optional is a token, not its being right.
        let wrong = run(jwt.verify(&fetched(&[]), NOW, &mut head(Some("a.b.c"))));
        assert_eq!(wrong.expect_err("not a token").error.status, 401);
    }
}

#[test]
fn one_of_several_providers_has_to_vouch() {
    let (one, two) = (Issuer::new(), Issuer::new());
    let other = Provider {
        name: "other".into(),
        issuer: Some("https://other.example".to_owned()),
        ..provider(Keys::Local(two.set()))
    };
    let jwt = Jwt {
        providers: vec![provider(Keys::Local(one.set())), other],
        optional: false,
    };
    let header = json!({"alg": "EdDSA"});
    let theirs = json!({"iss": "https://other.example", "aud": "other", "sub": "u2"});
    let found = run(jwt.verify(&fetched(&[]), NOW, &mut head(Some(&two.token(&header, &theirs)))));
    let (provider, _) = found.expect("a token").expect("vouched for");
    assert_eq!(&*provider, "other");
    // Of two refusals the one that is about the token's own issuer is told.
    let forged = one.token(&header, &theirs);
    let found = run(jwt.verify(&fetched(&[]), NOW, &mut head(Some(&forged))));
    let refusal = found.expect_err("signed by somebody else");
    assert_eq!(refusal.error.message, TokenError::Signature.to_string());
}

#[test]
fn keys_are_fetched_anew_once_for_a_key_that_is_not_known() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let rotated = {
        let mut keys = new.keys();
        keys["keys"][1]["kid"] = json!("e2");
        Arc::new(KeySet::parse(keys.to_string().as_bytes()).expect("keys"))
    };
    let jwt = Jwt {
        providers: vec![provider(remote())],
        optional: false,
    };
    let egress = fetched(&[old.set(), rotated]);
    let ask = |issuer: &Issuer, key: &str| {
        let token = issuer.token(&json!({"alg": "ES256", "kid": key}), &claims());
        run(jwt.verify(&egress, NOW, &mut head(Some(&token))))
    };
    ask(&old, "e").expect("a key that is known");
    assert_eq!(egress.anew.load(Ordering::Relaxed), 0);
    ask(&new, "e2").expect("a key that is new");
    assert_eq!(egress.anew.load(Ordering::Relaxed), 1);
    let refusal = ask(&new, "e3").expect_err("a key that nobody has");
    assert_eq!(refusal.error.message, TokenError::Key.to_string());
    assert_eq!(egress.anew.load(Ordering::Relaxed), 2);
    // Some issuers do not name their keys.
    let unnamed = new.token(&json!({"alg": "ES256"}), &claims());
    let unnamed_egress = fetched(&[old.set(), new.set()]);
    let found = run(jwt.verify(&unnamed_egress, NOW, &mut head(Some(&unnamed))));
    found.expect("a key that is new and has no name");
    assert_eq!(unnamed_egress.anew.load(Ordering::Relaxed), 1);
    // Somebody else's token fetches nothing.
    let theirs = old.token(
        &json!({"alg": "ES256", "kid": "e9"}),
        &json!({"iss": "https://else"}),
    );
    run(jwt.verify(&egress, NOW, &mut head(Some(&theirs)))).expect_err("of another issuer");
    assert_eq!(egress.anew.load(Ordering::Relaxed), 2);
    // Without keys nobody can tell.
    let refusal = run(jwt.verify(
        &fetched(&[]),
        NOW,
        &mut head(Some(&old.token(&json!({"alg": "ES256"}), &claims()))),
    ));
    let refusal = refusal.expect_err("no keys");
    assert_eq!(refusal.error.status, 503);
    assert!(refusal.error.message.contains("idp"));
}

#[test]
fn sets_of_keys() {
    let check = |document: &str, expected: &str| {
        let error = KeySet::parse(document.as_bytes()).expect_err("not usable");
        assert_eq!(error.to_string(), expected, "{document}");
    };
    check("{", "not a JSON Web Key Set");
    check("{\"keys\": 1}", "not a JSON Web Key Set");
    check(
        "{\"keys\": []}",
        "the set has no key that signatures can be checked with",
    );
    check(
        "{\"keys\": [{\"kty\": \"oct\", \"k\": \"AA\"}, {\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"AA\", \"y\": \"AA\"}]}",
        "the set has no key that signatures can be checked with",
    );
    let many = format!("{{\"keys\": [{}{{}}]}}", "{},".repeat(128));
    check(&many, "the set has more than 128 keys");
    let mut odd = Issuer::new().keys();
    for key in [
        json!(7),
        json!({"kty": 1}),
        json!({"kty": "RSA", "n": null, "e": []}),
    ] {
        odd["keys"].as_array_mut().expect("a list").push(key);
    }
    KeySet::parse(odd.to_string().as_bytes()).expect("one that is odd does not spoil the others");
}
