//! Headers that repeat arguments of tools: written for clients that do not know of them, and held against the
//! arguments where the server does not do it.

use std::{pin::Pin, sync::Arc};

use config::mcp_route::Backend;
use http::HeaderName;
use mcp::{List, Request, header::Repeated, json::Object};
use serde_json::value::RawValue;

use super::{checks, lists, refused::Refused, turn::Turn};

/// Returns the headers that a server without sessions is sent with a call.
pub(super) async fn headers(turn: &Turn, backend: &Backend, request: &Request) -> Vec<(String, String)> {
    if request.method != "tools/call" {
        return Vec::new();
    }
    let params = request.params.as_deref().and_then(Object::parse);
    let Some(name) = params.as_ref().and_then(|params| params.text("name")) else {
        return Vec::new();
    };
    let arguments = params.as_ref().and_then(|params| params.get("arguments"));
    match of(turn, backend, &name).await {
        Some(repeated) => repeated.headers(arguments),
        None => Vec::new(),
    }
}

/// Refuses a call of the tool `own` whose headers do not say what `params` do.
pub(super) async fn check(
    turn: &Turn,
    backend: &Backend,
    own: &str,
    params: &RawValue,
) -> Result<(), Box<Refused>> {
    let Some(repeated) = of(turn, backend, own).await else {
        return Ok(());
    };
    let params = Object::parse(params).unwrap_or_default();
    let header = |name: &str| {
        let name = HeaderName::try_from(name).ok()?;
        checks::once(&turn.headers, &name).ok().flatten()
    };
    Ok(repeated.check(params.get("arguments"), header)?)
}

/// Returns what headers repeat of the tool `name`; its list is asked for if it is not known.
async fn of(turn: &Turn, backend: &Backend, name: &str) -> Option<Arc<Repeated>> {
    let index = &turn.runtime.sessions.index;
    if let Some(known) = index.repeated(&turn.route.id, &backend.name, name) {
        return known;
    }
    learn(turn, &[backend]).await;
    index.repeated(&turn.route.id, &backend.name, name).flatten()
}

/// Asks for lists of tools. A list is asked for as a call is, so the type of the one would hold that of the other.
fn learn<'a>(turn: &'a Turn, backends: &'a [&'a Backend]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(lists::learn(turn, List::Tools, backends))
}
