//! Signed tokens: a client is known by what an issuer says of it, as far as that is signed with the issuer's keys.

mod key_set;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use llm::ErrorKind;
use serde_json::{Value, json};

pub use key_set::{Algorithm, KeySet, KeySetError};
pub use token::TokenError;

use self::token::Token;
use crate::{Carrier, Claims, Egress, Refusal, Remote};

/// Whose tokens let a client in. One of the providers has to vouch for it.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// Who issues tokens.
    pub providers: Vec<Provider>,
    /// Whether a request without a token is let in; one with a wrong token never is.
    pub optional: bool,
}

/// Who issues tokens, and what they must be.
#[derive(Clone, Debug)]
pub struct Provider {
    /// What authorization rules call it.
    pub name: Arc<str>,
    /// What `iss` must be; not looked at if `None`.
    pub issuer: Option<String>,
    /// One of which `aud` must hold; not looked at if empty.
    pub audiences: Vec<String>,
    /// The keys that tokens are signed with.
    pub keys: Keys,
    /// Where a token is looked for; the first place that has one decides.
    pub carriers: Vec<Carrier>,
    /// Headers in which upstreams are told claims.
    pub told_in: Vec<(String, HeaderName)>,
    /// Whether the route is chosen by these headers too.
    pub recompute_route: bool,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug)]
pub enum Keys {
    /// They were declared.
    Local(Arc<KeySet>),
    /// They are fetched.
    Remote(Arc<Remote>),
}

/// What is wrong with the token that a request carries.
enum Doubt {
    Token(TokenError),
    /// Nobody can tell: the keys are not there.
    NoKeys,
}

impl Jwt {
    /// Returns what the token that `head` carries says of its holder, and tells it to upstreams. `now` is in
    /// seconds since the Unix epoch.
    ///
    /// # Errors
    /// A 401 without a token that is believed; a 503 where nobody can tell, because keys cannot be fetched.
    pub async fn verify(
        &self,
        egress: &dyn Egress,
        now: u64,
        head: &mut Parts,
    ) -> Result<Option<(Arc<str>, Claims)>, Box<Refusal>> {
        for (_, name) in self.providers.iter().flat_map(|provider| &provider.told_in) {
            head.headers.remove(name);
        }
        let mut doubt: Option<(&Provider, Doubt)> = None;
        for provider in &self.providers {
            let Some(token) = provider.carriers.iter().find_map(|carrier| carrier.read(head)) else {
                continue;
            };
            let wrong = match provider.verify(egress, now, &token).await {
                Ok(claims) => {
                    drop(token);
                    provider.tell(&claims, &mut head.headers);
                    return Ok(Some((Arc::clone(&provider.name), claims)));
                }
                Err(wrong) => wrong,
            };
            if doubt
                .as_ref()
                .is_none_or(|(_, before)| wrong.tells_more_than(before))
            {
                doubt = Some((provider, wrong));
            }
        }
        match doubt {
            None if self.optional => Ok(None),
            None => Err(Refusal::challenge("a token is required", MISSING)),
            Some((_, Doubt::Token(error))) => Err(invalid(error)),
            Some((provider, Doubt::NoKeys)) => {
                let message = format!("the keys of {} are not available", provider.name);
                let mut refusal = Refusal::new(ErrorKind::Unavailable, message);
                refusal.error.retry_after = Some(RETRY_AFTER);
                Err(refusal)
            }
        }
    }

    /// Returns whether the route is to be chosen anew once a token was verified.
    pub fn recomputes_route(&self) -> bool {
        self.providers.iter().any(|provider| provider.recompute_route)
    }

    /// Returns what is declared.
    pub fn dump(&self) -> Value {
        let providers: Vec<Value> = self.providers.iter().map(Provider::dump).collect();
        json!({ "providers": providers, "optional": self.optional })
    }
}

impl Provider {
    async fn verify(&self, egress: &dyn Egress, now: u64, token: &str) -> Result<Claims, Doubt> {
        let token = Token::parse(token.trim()).map_err(Doubt::Token)?;
        // Told first, so that nobody's keys are fetched for somebody else's token.
        if self.issuer.as_ref().is_some_and(|issuer| !token.is_of(issuer)) {
            return Err(Doubt::Token(TokenError::Issuer));
        }
        let signed = match &self.keys {
            Keys::Local(keys) => token.is_signed_by(keys),
            Keys::Remote(place) => {
                let keys = egress.keys(place, false).await.map_err(|_| Doubt::NoKeys)?;
                match token.is_signed_by(&keys) {
                    // The issuer may have a new key.
                    Err(error) if error == TokenError::Key || !token.names_key() => {
                        token.is_signed_by(&egress.keys(place, true).await.unwrap_or(keys))
                    }
                    signed => signed,
                }
            }
        };
        let believed = signed.and_then(|()| token.claims(&self.audiences, now));
        believed.map_err(Doubt::Token)
    }

    fn tell(&self, claims: &Claims, headers: &mut HeaderMap) {
        for (claim, name) in &self.told_in {
            let value = claims.text(claim);
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name.clone(), value);
            }
        }
    }

    fn dump(&self) -> Value {
        let keys = match &self.keys {
            Keys::Local(_) => json!("local"),
            Keys::Remote(place) => json!(place.uri.to_string()),
        };
        let carriers: Vec<String> = self.carriers.iter().map(Carrier::to_string).collect();
        let told_in = self.told_in.iter();
        let told_in: Vec<Value> = told_in
            .map(|(claim, name)| json!({ "claim": claim, "header": name.as_str() }))
            .collect();
        json!({
            "name": self.name,
            "issuer": self.issuer,
            "audiences": self.audiences,
            "keys": keys,
            "extractFrom": carriers,
            "claimToHeaders": told_in,
            "recomputeRoute": self.recompute_route,
        })
    }
}

impl Doubt {
    /// Returns whether this says more about a request than `before`: that a token is not one provider's says
    /// nothing where it is another's.
    fn tells_more_than(&self, before: &Doubt) -> bool {
        let rank = |doubt: &Doubt| match doubt {
            Doubt::Token(TokenError::Issuer) => 0,
            Doubt::Token(_) => 1,
            Doubt::NoKeys => 2,
        };
        rank(self) > rank(before)
    }
}

/// Returns the 401 about a token (RFC 6750, section 3).
fn invalid(error: TokenError) -> Box<Refusal> {
    let challenge =
        format!("Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"{error}\"");
    let challenge = HeaderValue::try_from(challenge).unwrap_or(MISSING);
    let mut refusal = Refusal::challenge(error.to_string(), challenge);
    refusal.error.code = Some("invalid_token".to_owned());
    refusal
}

const MISSING: HeaderValue = HeaderValue::from_static("Bearer realm=\"tollgate\"");

/// After how many seconds keys may be there.
const RETRY_AFTER: u64 = 1;
