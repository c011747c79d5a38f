//! A session: which of a route's backends know the client under which id.
//!
//! The client carries it, sealed, so that every replica with the seed can serve every request. There are two
//! forms. `v0` is the compatibility specification's, so that sessions move between the two gateways in either
//! direction. `v1` is ours: bound to its route and its user, it ends, and it holds what is needed to open a
//! lost session with a backend anew. The first three characters tell them apart.

use std::num::NonZeroU32;

use aws_lc_rs::digest;

use crate::{
    Capabilities, Version,
    seal::{Derived, Salt, Seal, Seed, Unique},
    ticket::Tickets,
};

mod v0;
pub(crate) mod v1;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `namespace/route`
    pub route: String,
    /// Whose it is.
    pub owner: Owner,
    /// When it ends, in seconds since the Unix epoch; `None` for never.
    pub expires: Option<u64>,
    /// What the client and we agreed on.
    pub version: Version,
    /// What the client said about itself.
    pub client: Client,
    /// Backends, in the order of the route's references.
    pub backends: Vec<Entry>,
}

/// What a client said about itself when it opened the session, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `capabilities`
    pub capabilities: String,
    /// `clientInfo`
    pub info: String,
}

/// What a session knows of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub backend: String,
    /// Its own id for the session; empty for backends that keep none.
    pub session: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it and we agreed on; `None` where that is not known.
    pub version: Option<Version>,
    /// The hash of the address of the endpoint that keeps the session, where it is known: of several, no other does.
    pub endpoint: Option<u64>,
}

/// Whose a session is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// Nobody was asked who they are.
    #[default]
    Anyone,
    /// A subject, whoever says so.
    Subject(String),
    /// The hash of issuer and subject.
    Hash([u8; 16]),
}

impl Owner {
    /// Returns the owner that is `subject` of `issuer`.
    pub fn new(issuer: &str, subject: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [issuer, "\0", subject] {
            context.update(part.as_bytes());
        }
        let hash = context.finish();
        Owner::Hash(std::array::from_fn(|index| {
            hash.as_ref().get(index).copied().unwrap_or_default()
        }))
    }

    /// Returns whether a session of this owner serves `subject` of `issuer`. One that was opened by nobody in
    /// particular serves nobody who says who they are.
    pub fn is(&self, issuer: &str, subject: &str) -> bool {
        match self {
            Owner::Anyone => false,
            Owner::Subject(own) => own == subject,
            Owner::Hash(_) => *self == Owner::new(issuer, subject),
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            capabilities: "{}".to_owned(),
            info: r#"{"name":"unknown","version":"0"}"#.to_owned(),
        }
    }
}

impl Session {
    /// Returns what is known of `backend`.
    pub fn entry(&self, backend: &str) -> Option<&Entry> {
        self.backends.iter().find(|entry| entry.backend == backend)
    }
}

/// The form of new tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The compatibility specification's.
    V0,
    /// Ours.
    #[default]
    V1,
}

/// What the keys are made of.
#[derive(Clone)]
pub struct Config {
    /// What all replicas share.
    pub seed: Vec<u8>,
    /// What they shared before; opens tokens and seals none.
    pub fallback: Option<Vec<u8>>,
    /// Rounds of the derivation for `v0`.
    pub iterations: NonZeroU32,
    /// Rounds for the fallback.
    pub fallback_iterations: NonZeroU32,
    /// The form of new tokens; both are read.
    pub form: Form,
    /// Random bytes that this process alone has.
    pub salt: Salt,
}

/// Seals and opens the tokens of sessions and events.
pub struct Tokens {
    form: Form,
    derived: Derived,
    pub(crate) sessions: Seal,
    pub(crate) events: Seal,
    pub(crate) states: Seal,
    pub(crate) cursors: Seal,
    /// Ids that cross the gateway.
    pub tickets: Tickets,
}

impl Tokens {
    /// Returns the keys for `config`.
    pub fn new(config: &Config) -> Self {
        let fallback = config.fallback.as_deref();
        let primary = Seed {
            seed: config.seed.clone(),
            iterations: config.iterations,
        };
        let older = fallback.map(|seed| Seed {
            seed: seed.to_vec(),
            iterations: config.fallback_iterations,
        });
        Self {
            form: config.form,
            derived: Derived::new(primary, older, config.salt),
            sessions: Seal::new("session", &config.seed, fallback),
            events: Seal::new("event", &config.seed, fallback),
            states: Seal::new("state", &config.seed, fallback),
            cursors: Seal::new("cursor", &config.seed, fallback),
            tickets: Tickets::new(&config.seed, fallback),
        }
    }

    /// Returns the owner of a session that `subject` of `issuer` opens.
    pub fn owner(&self, issuer: &str, subject: &str) -> Owner {
        match self.form {
            Form::V0 => Owner::Subject(subject.to_owned()),
            Form::V1 => Owner::new(issuer, subject),
        }
    }

    /// Returns the token of `session`.
    pub fn seal(&self, session: &Session, unique: Unique) -> String {
        match self.form {
            Form::V0 => self.derived.seal(unique, v0::encode(session).as_bytes()),
            Form::V1 => {
                let sealed = self
                    .sessions
                    .seal(session.route.as_bytes(), unique, &v1::encode(session));
                format!("{}{sealed}", v1::MARK)
            }
        }
    }

    /// Returns the session in `token`, if it is one of `route` and has not ended at `now`, in seconds since the
    /// Unix epoch.
    pub fn open(&self, token: &str, route: &str, now: u64) -> Option<Session> {
        let session = match token.strip_prefix(v1::MARK) {
            Some(sealed) => v1::decode(route, &self.sessions.open(route.as_bytes(), sealed)?)?,
            None => v0::decode(&String::from_utf8(self.derived.open(token, now)?).ok()?)?,
        };
        let ended = session.expires.is_some_and(|expires| expires <= now);
        (session.route == route && !ended).then_some(session)
    }

    /// Returns how many keys were derived since this was last asked.
    pub fn derivations(&self) -> u64 {
        self.derived.derivations()
    }

    pub(crate) fn derived(&self) -> &Derived {
        &self.derived
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }
}

/// Returns what names a session without giving it away: for keys of maps and for logs.
pub fn fingerprint(token: &str) -> [u8; 16] {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    std::array::from_fn(|index| hash.as_ref().get(index).copied().unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::{Strategy, any, proptest};

    use super::*;

    pub(crate) fn tokens(seed: &str, fallback: Option<&str>, form: Form) -> Tokens {
        Tokens::new(&Config {
            seed: seed.as_bytes().to_vec(),
            fallback: fallback.map(|seed| seed.as_bytes().to_vec()),
            iterations: NonZeroU32::MIN,
            fallback_iterations: NonZeroU32::MIN,
            form,
            salt: [7; 16],
        })
    }

    pub(crate) fn session() -> Session {
        Session {
            route: "default/mcp".to_owned(),
            owner: Owner::new("https://idp", "alice"),
            expires: Some(100),
            version: Version::V2025_11_25,
            client: Client {
                capabilities: r#"{"sampling":{}}"#.to_owned(),
                info: r#"{"name":"c","version":"1"}"#.to_owned(),
            },
            backends: vec![
                Entry {
                    backend: "alpha".to_owned(),
                    session: "sid-1".to_owned(),
                    capabilities: Capabilities::ALL,
                    version: Some(Version::V2025_06_18),
                    endpoint: Some(0x9f3a_0000_0000_0001),
                },
                Entry {
                    backend: "beta".to_owned(),
                    session: String::new(),
                    capabilities: Capabilities::TOOLS,
                    version: None,
                    endpoint: None,
                },
            ],
        }
    }

    #[test]
    fn a_session_comes_back_as_it_went() {
        let tokens = tokens("seed", None, Form::V1);
        let token = tokens.seal(&session(), [1; 12]);
        assert!(token.starts_with("g1."), "{token}");
        assert_eq!(tokens.open(&token, "default/mcp", 99), Some(session()));
    }

    #[test]
    fn what_is_stolen_or_over_does_not_open() {
        let ours = tokens("seed", None, Form::V1);
        let token = ours.seal(&session(), [1; 12]);
        let check = |tokens: &Tokens, token: &str, route: &str, now: u64| {
            assert_eq!(tokens.open(token, route, now), None, "{token} {route} {now}");
        };
        check(&ours, &token, "default/other", 0);
        check(&ours, &token, "default/mcp", 100);
        check(&ours, &token[3..], "default/mcp", 0);
        check(&tokens("other", None, Form::V1), &token, "default/mcp", 0);
        check(&ours, "", "default/mcp", 0);
        check(&ours, "g1.", "default/mcp", 0);
        let older = tokens("new", Some("seed"), Form::V0);
        assert!(older.open(&token, "default/mcp", 0).is_some());
    }

    #[test]
    fn sessions_of_the_other_gateway_are_ours_too() {
        let tokens = tokens("seed", None, Form::V0);
        let token = tokens.seal(&session(), [1; 12]);
        let opened = tokens.open(&token, "default/mcp", 1_000_000).expect("a session");
        assert_eq!(opened.expires, None);
        assert_eq!(opened.backends[0].session, "sid-1");
        assert_eq!(opened.backends[0].endpoint, session().backends[0].endpoint);
        assert_eq!(opened.backends[1].capabilities, Capabilities::TOOLS);
        assert_eq!(tokens.open(&token, "default/other", 0), None);
    }

    #[test]
    fn owners_are_who_they_say() {
        assert!(Owner::new("i", "s").is("i", "s"));
        assert!(!Owner::new("i", "s").is("j", "s"));
        assert!(!Owner::new("i", "s").is("i", "t"));
        assert!(Owner::Subject("s".to_owned()).is("any", "s"));
        assert!(!Owner::Anyone.is("i", "s"));
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let name = "[a-z][a-z0-9_-]{0,8}x";
        let entry = (name, "\\PC{0,20}", any::<u16>(), 0..6_usize, any::<Option<u64>>());
        let entry = entry.prop_map(|(backend, session, bits, version, endpoint)| Entry {
            backend,
            session,
            capabilities: Capabilities::from_bits(bits),
            version: Version::ALL.get(version).copied(),
            endpoint,
        });
        proptest::collection::vec(entry, 0..5)
    }

    proptest! {
        #[test]
        fn any_session_comes_back(
            backends in entries(), expires in any::<Option<u32>>(), subject in "\\PC{0,10}", info in "\\PC{0,20}",
        ) {
            let own = Session {
                expires: expires.map(|at| u64::from(at) + 1),
                owner: Owner::new("i", &subject),
                client: Client { info, ..Client::default() },
                backends,
                ..session()
            };
            let tokens = tokens("seed", None, Form::V1);
            let token = tokens.seal(&own, [1; 12]);
            assert_eq!(tokens.open(&token, &own.route, 0), Some(own.clone()));
            let plain = v0::encode(&own);
            let opened = v0::decode(&plain).map(|session| session.backends).unwrap_or_default();
            let kept = |entries: &[Entry]| {
                let kept = entries.iter().map(|entry| (entry.session.clone(), entry.endpoint));
                kept.collect::<Vec<_>>()
            };
            assert_eq!(kept(&opened), kept(&own.backends));
        }

        #[test]
        fn nothing_made_up_opens(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = v1::decode("r", &bytes);
            let _ = v0::decode(&text);
            assert_eq!(tokens("seed", None, Form::V1).open(&text, "r", 0), None);
        }
    }
}
