//! Tokens that are too long to be carried: they stay here, and clients carry names in their place.
//!
//! A session with many servers, or with servers whose ids are long, makes a header that clients and proxies refuse. Such a
//! session is served by the process that opened it, and by those that share a Redis with it.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// What names begin with; no token begins like that.
const MARK: &str = "gk.";

/// The most bytes of tokens that are kept; the oldest go first.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// How many names that were forgotten stand in the order at least before it is tidied.
const MAX_FORGOTTEN: usize = 64;

/// Tokens by the names that clients carry.
#[derive(Default)]
pub(super) struct Long(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    tokens: HashMap<Arc<str>, Arc<str>>,
    oldest_first: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Long {
    /// Keeps a token; returns its name. Nobody can guess it who does not know `drawn`.
    pub(super) fn keep(&self, drawn: [u8; 16], token: String) -> String {
        let name = format!("{MARK}{}", URL_SAFE_NO_PAD.encode(drawn));
        self.know(&name, token);
        name
    }

    /// Keeps a token that another process has given the name.
    pub(super) fn know(&self, name: &str, token: String) {
        let name: Arc<str> = name.into();
        let mut kept = self.lock();
        if kept.tokens.contains_key(&name) {
            return;
        }
        kept.bytes += token.len();
        kept.tokens.insert(Arc::clone(&name), token.into());
        kept.oldest_first.push_back(name);
        while kept.bytes > MAX_BYTES
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.forget(&oldest);
        }
        kept.tidy();
    }

    /// Returns the token that a client carries, or that it carries the name of.
    pub(super) fn find<'t>(&self, carried: &'t str) -> Option<Cow<'t, str>> {
        if !carried.starts_with(MARK) {
            return Some(carried.into());
        }
        let kept = self.lock();
        kept.tokens.get(carried).map(|token| token.to_string().into())
    }

    /// Forgets the token that has this name; returns whether it is one.
    pub(super) fn forget(&self, carried: &str) -> bool {
        let is_name = carried.starts_with(MARK);
        if is_name {
            self.lock().forget(carried);
        }
        is_name
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, name: &str) {
        if let Some(token) = self.tokens.remove(name) {
            self.bytes -= token.len();
        }
    }

    /// Lets go of names that were forgotten, once they are the most.
    fn tidy(&mut self) {
        let Self {
            tokens, oldest_first, ..
        } = self;
        if oldest_first.len() > 2 * tokens.len() + MAX_FORGOTTEN {
            oldest_first.retain(|name| tokens.contains_key(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let long = Long::default();
        let half = "t".repeat(MAX_BYTES / 2);
        let names: Vec<String> = (0..3).map(|index| long.keep([index; 16], half.clone())).collect();
        let is_kept = |name: &String| long.find(name).is_some();
        assert_eq!(names.iter().map(is_kept).collect::<Vec<_>>(), [false, true, true]);
        long.forget(&names[1]);
        assert!(!is_kept(&names[1]) && is_kept(&names[2]));
        assert_eq!(long.find("g1.x").as_deref(), Some("g1.x"));
        assert!(long.find("gk.unknown").is_none());
        for index in 10..250 {
            long.forget(&long.keep([index; 16], "t".to_owned()));
        }
        assert!(
            long.lock().oldest_first.len() < 100,
            "what is forgotten leaves no trace"
        );
    }
}
