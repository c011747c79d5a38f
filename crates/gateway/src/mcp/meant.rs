//! Who is meant by a name or a URI of the client, and what it is asked in its own words. What is hidden is as unknown
//! as what is not there.

use config::mcp_route::Backend;
use http::StatusCode;
use mcp::{
    List, Method, Request, RpcError, error, json,
    method::{Named, Resource},
    name,
    rewrite::Naming,
};
use policy::tools::What;
use serde_json::{json, value::RawValue};

use super::{
    lists,
    refused::Refused,
    turn::{Turn, malformed},
};

/// A backend, and the parameters in its words.
pub(super) struct Asked<'a> {
    pub(super) backend: &'a Backend,
    pub(super) what: Meant,
    pub(super) params: Box<RawValue>,
}

/// What is asked for, in the backend's words.
pub(super) enum Meant {
    Tool(String),
    Prompt(String),
    Resource(String),
}

impl Meant {
    fn named(named: Named, own: String) -> Self {
        match named {
            Named::Tool => Meant::Tool(own),
            Named::Prompt => Meant::Prompt(own),
        }
    }

    /// Returns the tool, if it is one.
    pub(super) fn tool(&self) -> Option<&str> {
        match self {
            Meant::Tool(own) => Some(own),
            Meant::Prompt(_) | Meant::Resource(_) => None,
        }
    }

    /// Returns it as rules want it.
    pub(super) fn borrowed(&self) -> What<'_> {
        match self {
            Meant::Tool(own) => What::Tool(own),
            Meant::Prompt(own) => What::Prompt(own),
            Meant::Resource(own) => What::Resource(own),
        }
    }
}

/// Returns who is meant, and what it is asked.
pub(super) async fn find<'t>(
    turn: &'t Turn,
    method: Method,
    request: &Request,
) -> Result<Asked<'t>, Box<Refused>> {
    let mut params = request
        .object()
        .ok_or_else(|| Refused::params("invalid params"))?;
    let (backend, what) = match method {
        Method::Named(named) => {
            let name = params
                .text("name")
                .ok_or_else(|| Refused::params("invalid params: name"))?
                .into_owned();
            let (backend, own) = named_backend(turn, named, &name).await?;
            params.set("name", json::raw(&own));
            (backend, Meant::named(named, own))
        }
        Method::Resource(resource) => {
            let uri = params
                .text("uri")
                .ok_or_else(|| Refused::params("invalid params: uri"))?
                .into_owned();
            let (backend, own) = uri_backend(turn, &uri)
                .await
                .ok_or_else(|| unknown_resource(resource, &uri))?;
            params.set("uri", json::raw(&own));
            (backend, Meant::Resource(own))
        }
        Method::Complete => {
            let reference = params
                .object("ref")
                .ok_or_else(|| Refused::params("invalid params: ref"))?;
            let (backend, key, what) = match reference.text("type").as_deref() {
                Some("ref/prompt") => {
                    let name = reference
                        .text("name")
                        .ok_or_else(|| Refused::params("invalid params: ref.name"))?;
                    let (backend, own) = named_backend(turn, Named::Prompt, &name).await?;
                    (backend, "name", Meant::Prompt(own))
                }
                Some("ref/resource") => {
                    let uri = reference
                        .text("uri")
                        .ok_or_else(|| Refused::params("invalid params: ref.uri"))?;
                    let found = uri_backend(turn, &uri).await;
                    let (backend, own) = found.ok_or_else(|| unknown_resource(Resource::Read, &uri))?;
                    (backend, "uri", Meant::Resource(own))
                }
                Some(_) | None => {
                    let refused = Refused::params("invalid params: ref.type");
                    return Err(unknown_backend(refused, ""));
                }
            };
            let mut reference = reference.clone();
            let (Meant::Tool(own) | Meant::Prompt(own) | Meant::Resource(own)) = &what;
            reference.set(key, json::raw(own));
            let reference = reference.to_raw();
            params.set("ref", reference);
            (backend, what)
        }
        Method::Initialize
        | Method::Ping
        | Method::List(_)
        | Method::SetLevel
        | Method::Discover
        | Method::Listen => {
            return Err(malformed().into());
        }
    };
    Ok(Asked {
        backend,
        what,
        params: params.to_raw(),
    })
}

/// Returns whose a tool or prompt is and what it is called there. What is hidden is as unknown as what is not
/// there.
async fn named_backend<'t>(
    turn: &'t Turn,
    named: Named,
    name: &str,
) -> Result<(&'t Backend, String), Box<Refused>> {
    let what = match named {
        Named::Tool => "tool",
        Named::Prompt => "prompt",
    };
    let unknown = || {
        let refused = Refused::params(format!("unknown {what}: {name}"));
        match name::split(name) {
            None => refused.plainly(
                StatusCode::BAD_REQUEST,
                format!("invalid {what} name {name}: it has no prefix"),
            ),
            Some((prefix, _)) if turn.route.called(prefix).is_none() => unknown_backend(refused, prefix),
            Some((_, own)) => refused.plainly(StatusCode::BAD_REQUEST, format!("invalid {what} name: {own}")),
        }
    };
    let found = if turn.route.prefixes() {
        prefixed_backend(turn, named, name).await
    } else {
        match bare_backend(turn, named.list(), name).await {
            Some(found) => Some(found),
            None => prefixed_backend(turn, named, name).await,
        }
    };
    let (backend, own) = found.ok_or_else(unknown)?;
    let offered = backend.offer.allows(named.list(), &own);
    if !offered || (named == Named::Tool && !says_enough(turn, backend, &own).await) {
        return Err(unknown());
    }
    Ok((backend, own))
}

/// Returns whether the tool `own` says of itself what the route wants it to; its list is asked for if it is not known.
async fn says_enough(turn: &Turn, backend: &Backend, own: &str) -> bool {
    let hints = &backend.offer.hints;
    if hints.is_empty() {
        return true;
    }
    let index = &turn.runtime.sessions.index;
    let known = || index.annotations(&turn.route.id, &backend.name, own);
    let said = match known() {
        Some(said) => Some(said),
        None => {
            lists::learn(turn, List::Tools, std::slice::from_ref(&backend)).await;
            known()
        }
    };
    said.is_some_and(|said| hints.fit(said))
}

async fn prefixed_backend<'t>(turn: &'t Turn, named: Named, name: &str) -> Option<(&'t Backend, String)> {
    let (prefix, called) = name::split(name)?;
    let backend = turn.route.backends.get(turn.route.called(prefix)?)?;
    let list = named.list();
    let own = || Some((backend, backend.offer.own(list, called)?.to_owned()));
    if name.len() < turn.route.max_name {
        return own();
    }
    // It may be the short form of a name that only the list tells.
    let naming = Naming {
        prefixed: true,
        ..turn.naming(backend)
    };
    let is_meant = |own: &str| {
        let mut called = backend.offer.called(list, own);
        called.any(|called| naming.name(called) == name)
    };
    let index = &turn.runtime.sessions.index;
    if let Some(original) = index.original(&turn.route.id, &backend.name, list, is_meant) {
        return Some((backend, original));
    }
    lists::learn(turn, list, std::slice::from_ref(&backend)).await;
    let original = index.original(&turn.route.id, &backend.name, list, is_meant);
    match original {
        Some(original) => Some((backend, original)),
        None => own(),
    }
}

/// Returns who has something of this name, where names are not prefixed.
async fn bare_backend<'t>(turn: &'t Turn, list: List, name: &str) -> Option<(&'t Backend, String)> {
    if let [only] = turn.route.backends.as_slice()
        && !may_be_prefixed(turn, list, name)
    {
        return Some((only, only.offer.own(list, name)?.to_owned()));
    }
    let able: Vec<&Backend> = turn
        .able(list.capability())
        .into_iter()
        .map(|(backend, _)| backend)
        .collect();
    let all = able
        .iter()
        .filter_map(|backend| Some((*backend, backend.offer.own(list, name)?)));
    let all: Vec<(&Backend, &str)> = all.collect();
    // A name that is hidden with one backend is the next one's, as in the list.
    let shown = all.iter().filter(|(backend, own)| turn.shows(list, backend, own));
    let shown: Vec<(&Backend, &str)> = shown.copied().collect();
    let index = &turn.runtime.sessions.index;
    let find = || {
        let shown = index.find(&turn.route.id, list, &shown);
        shown.or_else(|| index.find(&turn.route.id, list, &all))
    };
    let known = match find() {
        Some(known) => Some(known),
        None => {
            lists::learn(turn, list, &able).await;
            find()
        }
    };
    let (backend, own) = known?;
    let own = own.to_owned();
    able.into_iter()
        .find(|able| able.name == backend.name)
        .map(|backend| (backend, own))
}

/// Returns whether a name begins as one does that has a prefix, so that only the lists can tell.
fn may_be_prefixed(turn: &Turn, list: List, name: &str) -> bool {
    let prefix = match list {
        List::Tools | List::Prompts => name::split(name).map(|(prefix, _)| prefix),
        List::Resources | List::Templates => name::split_uri(name).map(|(prefix, _)| prefix),
    };
    prefix.is_some_and(|prefix| turn.route.called(prefix).is_some())
}

/// Returns whose a resource is and what it is called there; what is hidden is nobody's.
pub(super) async fn uri_backend<'t>(turn: &'t Turn, uri: &str) -> Option<(&'t Backend, String)> {
    let offered = |(backend, own): &(&Backend, String)| backend.offer.allows(List::Resources, own);
    if !turn.route.prefixes() {
        for list in [List::Resources, List::Templates] {
            if let Some(found) = bare_backend(turn, list, uri).await {
                return Some(found).filter(offered);
            }
        }
    }
    let (prefix, own) = name::split_uri(uri)?;
    let backend = turn.route.backends.get(turn.route.called(prefix)?)?;
    Some((backend, own.into_owned())).filter(offered)
}

/// Revisions with sessions have a code of their own for this.
fn unknown_resource(resource: Resource, uri: &str) -> Box<Refused> {
    let code = match resource {
        Resource::Read => error::RESOURCE_NOT_FOUND,
        Resource::Subscribe | Resource::Unsubscribe => error::INVALID_PARAMS,
    };
    let error = RpcError::new(code, format!("unknown resource: {uri}")).with_data(json!({ "uri": uri }));
    let refused = Refused::new(StatusCode::OK, error);
    match name::split_uri(uri) {
        Some((prefix, _)) => unknown_backend(refused, prefix),
        None => refused.plainly(
            StatusCode::BAD_REQUEST,
            format!("invalid resource name {uri}: it has no prefix"),
        ),
    }
}

fn unknown_backend(refused: Box<Refused>, prefix: &str) -> Box<Refused> {
    refused.plainly(StatusCode::NOT_FOUND, format!("unknown backend {prefix}"))
}
