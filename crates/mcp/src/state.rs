//! What a client is given to say again when it answers what it was asked in a result: whose request it was, and
//! what the server wants to be reminded of.

use crate::{
    seal::Unique,
    session::Tokens,
    wire::{Reader, Writer},
};

/// A request that goes on once its client has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Who was asked.
    pub backend: String,
    /// The method of the request.
    pub method: String,
    /// What it names, in the client's words.
    pub name: String,
    /// Who asks.
    pub owner: [u8; 16],
    /// When it ends, in seconds since the Unix epoch.
    pub expires: u64,
    /// Where it goes on.
    pub place: Place,
}

/// Where a request goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the server, which wants to be reminded of this.
    Server(String),
    /// In the process that holds the server's stream under this name.
    Held(String),
}

impl Tokens {
    /// Returns the token of `state` on `route`.
    pub fn seal_state(&self, state: &State, route: &str, unique: Unique) -> String {
        self.states.seal(route.as_bytes(), unique, &encode(state))
    }

    /// Returns the state in `token`, if it is one of `route` and has not ended at `now`.
    pub fn open_state(&self, token: &str, route: &str, now: u64) -> Option<State> {
        let state = decode(&self.states.open(route.as_bytes(), token)?)?;
        (state.expires > now).then_some(state)
    }
}

fn encode(state: &State) -> Vec<u8> {
    let mut out = Writer::default();
    out.text(&state.backend);
    out.text(&state.method);
    out.text(&state.name);
    out.bytes(&state.owner);
    out.number(state.expires);
    let (kind, text) = match &state.place {
        Place::Server(text) => (0, text),
        Place::Held(text) => (1, text),
    };
    out.number(kind);
    out.text(text);
    out.into_bytes()
}

fn decode(bytes: &[u8]) -> Option<State> {
    let mut from = Reader::new(bytes);
    let state = State {
        backend: from.text()?.to_owned(),
        method: from.text()?.to_owned(),
        name: from.text()?.to_owned(),
        owner: from.bytes()?.try_into().ok()?,
        expires: from.number()?,
        place: match from.number()? {
            0 => Place::Server(from.text()?.to_owned()),
            1 => Place::Held(from.text()?.to_owned()),
            _ => return None,
        },
    };
    from.is_empty().then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Form, tests::tokens};

    #[test]
    fn states_come_back_on_their_route_and_in_time() {
        let tokens = tokens("seed", None, Form::V1);
        for place in [Place::Server("ü".to_owned()), Place::Held(String::new())] {
            let state = State {
                backend: "alpha".to_owned(),
                method: "tools/call".to_owned(),
                name: "alpha__x".to_owned(),
                owner: [7; 16],
                expires: 100,
                place,
            };
            let token = tokens.seal_state(&state, "default/mcp", [1; 12]);
            assert_eq!(tokens.open_state(&token, "default/mcp", 99), Some(state));
            assert_eq!(tokens.open_state(&token, "default/mcp", 100), None);
            assert_eq!(tokens.open_state(&token, "default/other", 0), None);
            assert_eq!(tokens.open_state(&format!("{token}-x"), "default/mcp", 0), None);
            assert_eq!(tokens.open_place(&format!("e1.{token}"), "default/mcp", 0), None);
        }
    }
}
