//! Authenticated encryption of what clients carry for the gateway.
//!
//! [`Seal`] is ours: one key from the seed, so that opening a token is one operation. [`Derived`] is the
//! compatibility specification's: a key per salt, by a derivation that is slow on purpose. There the salt
//! travels in the token, so one salt and its key serve a process, and keys of other salts are remembered.
//!
//! Randomness is an argument here, as time is.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, hmac, pbkdf2,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

/// What makes one token unlike any other; never used twice.
pub type Unique = [u8; NONCE_LEN];

/// What one process's derived keys begin with.
pub type Salt = [u8; 16];

const TAG: usize = 16;

/// Keys from a seed, and from the one before it.
pub struct Seal {
    primary: LessSafeKey,
    fallback: Option<LessSafeKey>,
}

impl Seal {
    /// Returns the keys for one purpose: what is sealed for one cannot be opened for another.
    pub fn new(purpose: &'static str, seed: &[u8], fallback: Option<&[u8]>) -> Self {
        Self {
            primary: cipher(&expand(purpose, seed)),
            fallback: fallback.map(|seed| cipher(&expand(purpose, seed))),
        }
    }

    /// Returns `plain`, readable only with the key and with the same `bound`.
    pub fn seal(&self, bound: &[u8], unique: Unique, plain: &[u8]) -> String {
        let mut sealed = unique.to_vec();
        sealed.extend_from_slice(&encrypt(&self.primary, unique, bound, plain));
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Returns what was sealed; `None` if it was sealed by another, bound to something else, or changed.
    pub fn open(&self, bound: &[u8], text: &str) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (unique, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut keys = [Some(&self.primary), self.fallback.as_ref()]
            .into_iter()
            .flatten();
        keys.find_map(|key| decrypt(key, *unique, bound, sealed))
    }
}

/// Returns 32 bytes for one purpose.
pub(crate) fn expand(purpose: &'static str, seed: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let info = [purpose.as_bytes()];
    let filled = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tollgate mcp")
        .extract(seed)
        .expand(&info, hkdf::HKDF_SHA256)
        .and_then(|key| key.fill(&mut bytes));
    debug_assert!(filled.is_ok(), "SHA-256 gives 32 bytes");
    bytes
}

/// Returns the key that authenticates for one purpose.
pub(crate) fn authenticator(purpose: &'static str, seed: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &expand(purpose, seed))
}

/// A seed of the compatibility specification and how often it is stirred.
#[derive(Clone)]
pub struct Seed {
    /// Any bytes.
    pub seed: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: NonZeroU32,
}

impl Seed {
    fn derive(&self, salt: &Salt) -> [u8; 32] {
        let mut key = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            self.iterations,
            salt,
            &self.seed,
            &mut key,
        );
        key
    }
}

/// Keys derived from a seed, and from the one before it.
pub struct Derived {
    primary: Seed,
    fallback: Option<Seed>,
    salt: Salt,
    own: OnceLock<[u8; 32]>,
    known: Mutex<Known>,
    /// Keys that were derived and not counted yet.
    derivations: AtomicU64,
}

/// Keys that were derived for the salts of others.
#[derive(Default)]
struct Known {
    keys: HashMap<Salt, Keys>,
    oldest_first: VecDeque<Salt>,
    /// The second in which `derived` derivations were made.
    second: u64,
    derived: u32,
}

type Keys = [Option<[u8; 32]>; 2];

/// The most salts that are remembered.
const MAX_KNOWN: usize = 1024;

/// The most derivations in a second: whoever makes up tokens must not keep the process busy.
const MAX_DERIVATIONS: u32 = 16;

impl Derived {
    /// Returns keys that are derived when first needed; `salt` is what this process seals with.
    pub fn new(primary: Seed, fallback: Option<Seed>, salt: Salt) -> Self {
        Self {
            primary,
            fallback,
            salt,
            own: OnceLock::new(),
            known: Mutex::default(),
            derivations: AtomicU64::new(0),
        }
    }

    /// Returns how many keys were derived since this was last asked.
    pub fn derivations(&self) -> u64 {
        match self.derivations.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.derivations.swap(0, Ordering::Relaxed),
        }
    }

    fn derive(&self, seed: &Seed, salt: &Salt) -> [u8; 32] {
        self.derivations.fetch_add(1, Ordering::Relaxed);
        seed.derive(salt)
    }

    fn own(&self) -> &[u8; 32] {
        self.own.get_or_init(|| self.derive(&self.primary, &self.salt))
    }

    /// Returns `plain`, readable only with the seed.
    pub fn seal(&self, unique: Unique, plain: &[u8]) -> String {
        let key = cipher(self.own());
        let mut sealed = self.salt.to_vec();
        sealed.extend_from_slice(&unique);
        sealed.extend_from_slice(&encrypt(&key, unique, b"", plain));
        STANDARD.encode(sealed)
    }

    /// Returns what was sealed; `None` if it was sealed by another or changed. `now` is in seconds.
    pub fn open(&self, text: &str, now: u64) -> Option<Vec<u8>> {
        let sealed = STANDARD.decode(text).ok()?;
        let (salt, sealed) = sealed.split_first_chunk::<16>()?;
        let (unique, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        if sealed.len() < TAG {
            return None;
        }
        let keys = self.keys(salt, now)?;
        let mut keys = keys.iter().flatten();
        keys.find_map(|key| decrypt(&cipher(key), *unique, b"", sealed))
    }

    fn keys(&self, salt: &Salt, now: u64) -> Option<Keys> {
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(keys) = known.keys.get(salt) {
                return Some(*keys);
            }
            if known.second != now {
                known.second = now;
                known.derived = 0;
            }
            if known.derived >= MAX_DERIVATIONS {
                return None;
            }
            known.derived += 1;
        }
        let primary = if *salt == self.salt {
            *self.own()
        } else {
            self.derive(&self.primary, salt)
        };
        let keys = [
            Some(primary),
            self.fallback.as_ref().map(|fallback| self.derive(fallback, salt)),
        ];
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.keys.insert(*salt, keys).is_none() {
            known.oldest_first.push_back(*salt);
        }
        if known.oldest_first.len() > MAX_KNOWN
            && let Some(oldest) = known.oldest_first.pop_front()
        {
            known.keys.remove(&oldest);
        }
        Some(keys)
    }
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes keys of 32 bytes");
    LessSafeKey::new(key)
}

fn encrypt(key: &LessSafeKey, unique: Unique, bound: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut sealed = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(unique);
    let done = key.seal_in_place_append_tag(nonce, Aad::from(bound), &mut sealed);
    debug_assert!(done.is_ok(), "tokens are far below the cipher's limit");
    sealed
}

fn decrypt(key: &LessSafeKey, unique: Unique, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut opened = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(unique);
    let plain = key.open_in_place(nonce, Aad::from(bound), &mut opened).ok()?;
    let length = plain.len();
    opened.truncate(length);
    Some(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the compatibility specification, "Encryption".
    #[test]
    fn derived_seals_are_the_specified_ones() {
        const SESSION: &str = "default/mcp@alice@example.com@alpha:c2lkLTE=:1ff,beta::003";
        const EVENT: &str = "alpha:NDI=,beta:";
        let salt: Salt = std::array::from_fn(|index| u8::try_from(index).expect("below 16"));
        let unique: Unique = std::array::from_fn(|index| 0x10 + u8::try_from(index).expect("below 12"));
        let check = |iterations: u32, plain: &str, token: &str| {
            let seed = Seed {
                seed: b"default-insecure-seed".to_vec(),
                iterations: NonZeroU32::new(iterations).expect("positive"),
            };
            let derived = Derived::new(seed, None, salt);
            assert_eq!(derived.seal(unique, plain.as_bytes()), token);
            assert_eq!(derived.open(token, 0).as_deref(), Some(plain.as_bytes()));
        };
        check(
            1000,
            SESSION,
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaG9E3+j2emuwhUqlyQ6kCoaBi0CHJBmxFXRS4QLD9GuhL44oYLMaRU/jQm/gIbsp6iRDb5E6TQmxV4bQkNfvTfJhlxXUEPwkVxb7a",
        );
        check(
            1000,
            EVENT,
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaG9Q+7DSKzNZKdvcuYa0aqfnDkACbgL0UvCjqR1rOAb41",
        );
        check(
            100_000,
            SESSION,
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGwmZBnQQbhO8PZ8Zk2MDnMlpBJW6SON/GJ93pTX+fxfYiKEbGwZIgjfWG767HGfgoJnJCMlc4+C4FTSkGy6+VThUkd34n4iEn4eK",
        );
        check(
            100_000,
            EVENT,
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGwyQEH0EOCnXGcFFsWcblJCKzeVN2eplIazx+8CkgLAA",
        );
    }

    fn seed(text: &str) -> Seed {
        Seed {
            seed: text.as_bytes().to_vec(),
            iterations: NonZeroU32::MIN,
        }
    }

    #[test]
    fn a_seed_can_be_replaced_without_losing_a_token() {
        let old = Derived::new(seed("old"), None, [1; 16]);
        let new = Derived::new(seed("new"), Some(seed("old")), [2; 16]);
        let token = old.seal([3; 12], b"plain");
        assert_eq!(new.open(&token, 0).as_deref(), Some(&b"plain"[..]));
        assert_eq!(old.open(&new.seal([3; 12], b"plain"), 0), None);
        let old = Seal::new("test", b"old", None);
        let new = Seal::new("test", b"new", Some(b"old"));
        let token = old.seal(b"bound", [3; 12], b"plain");
        assert_eq!(new.open(b"bound", &token).as_deref(), Some(&b"plain"[..]));
        assert_eq!(old.open(b"bound", &new.seal(b"bound", [3; 12], b"plain")), None);
    }

    #[test]
    fn changed_tokens_do_not_open() {
        let seal = Seal::new("test", b"seed", None);
        let token = seal.seal(b"bound", [0; 12], b"plain");
        assert_eq!(seal.open(b"other", &token), None);
        assert_eq!(Seal::new("else", b"seed", None).open(b"bound", &token), None);
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8_lossy(&changed);
            assert_eq!(seal.open(b"bound", &changed), None, "{index}");
        }
        for cut in 0..token.len() {
            assert_eq!(seal.open(b"bound", &token[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn made_up_tokens_do_not_keep_us_busy() {
        let derived = Derived::new(seed("seed"), None, [0; 16]);
        let token = derived.seal([0; 12], b"plain");
        let made_up = |index: u32| {
            let mut bytes = vec![0; 64];
            bytes[..4].copy_from_slice(&(index + 1).to_be_bytes());
            STANDARD.encode(bytes)
        };
        assert!(derived.open(&token, 1).is_some());
        for index in 0..MAX_DERIVATIONS * 2 {
            assert!(derived.open(&made_up(index), 1).is_none());
        }
        let other = Derived::new(seed("seed"), None, [9; 16]).seal([0; 12], b"plain");
        assert!(derived.open(&token, 1).is_some(), "known salts still open");
        assert!(derived.open(&other, 1).is_none(), "nothing is derived any more");
        assert!(derived.open(&other, 2).is_some(), "until the next second");
    }
}
