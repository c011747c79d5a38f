//! Lists that are given page by page: the next page of every backend that has one, under a cursor that holds theirs.

use config::mcp_route::Backend;
use mcp::{
    List,
    cursor::Cursor,
    json::{self, Object},
    session::fingerprint,
};
use serde_json::value::RawValue;

use super::{refused::Refused, turn::Turn};

/// Which page of a list is asked for.
pub(super) enum Page {
    /// All that there are.
    Every,
    /// The first of every backend.
    First,
    /// Those that follow.
    Next(Cursor),
}

impl Page {
    /// Reads which page the client asks for.
    pub(super) fn read(turn: &Turn, list: List, params: &Object<'_>) -> Result<Self, Box<Refused>> {
        let cursor = params.get("cursor").filter(|cursor| cursor.get() != "null");
        let Some(cursor) = cursor else {
            return Ok(if turn.route.paged {
                Page::First
            } else {
                Page::Every
            });
        };
        // Lists that are given whole have no cursor of ours.
        let known = || {
            let token = json::text(cursor).filter(|_| turn.route.paged)?;
            let tokens = turn.runtime.sessions.tokens();
            let whose = whose(turn);
            tokens.open_cursor(&token, (&turn.route.id, list.method(), &whose))
        };
        known()
            .map(Page::Next)
            .ok_or_else(|| Refused::params("unknown cursor"))
    }

    /// Returns whether `backend` has anything on it.
    pub(super) fn is_of(&self, backend: &Backend) -> bool {
        match self {
            Page::Every | Page::First => true,
            Page::Next(Cursor(next)) => next.iter().any(|(name, _)| *name == *backend.name),
        }
    }

    /// Returns where `backend` goes on.
    pub(super) fn of(&self, backend: &Backend) -> Option<Box<RawValue>> {
        let Page::Next(Cursor(next)) = self else {
            return None;
        };
        let (_, own) = next.iter().find(|(name, _)| *name == *backend.name)?;
        RawValue::from_string(own.clone()).ok()
    }
}

/// Returns `result` with where it goes on, if it does.
pub(super) fn going_on(turn: &Turn, list: List, result: Box<RawValue>, next: Cursor) -> Box<RawValue> {
    let Some(mut object) = Object::parse(&result).filter(|_| !next.0.is_empty()) else {
        return result;
    };
    let sessions = &turn.runtime.sessions;
    let here = (&*turn.route.id, list.method(), &whose(turn));
    let token = sessions.tokens().seal_cursor(&next, here, sessions.draw());
    object.set("nextCursor", json::raw(&token));
    object.to_raw()
}

fn whose(turn: &Turn) -> [u8; 16] {
    fingerprint(&format!("{:?}", turn.session.owner))
}
