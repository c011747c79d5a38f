//! Which MCPRoute serves a path: by host, path and headers, with the precedence of the other rules.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    sync::Arc,
};

use http::{HeaderMap, HeaderName};
use policy::Policies;

use super::HeaderTest;
use crate::{
    host::Host,
    kind::Time,
    mcp_access::Document,
    mcp_route::{METADATA, Route},
};

/// Names a route, where something stands before us that finds routes for requests. A client can only choose among those
/// that want to be named.
pub const ROUTE_HEADER: HeaderName = HeaderName::from_static("x-ai-eg-mcp-route");

/// The MCPRoutes of one port, by path.
#[derive(Clone, Debug, Default)]
pub struct McpRouter {
    paths: BTreeMap<String, Vec<Row>>,
    /// Rows of routes that serve what is below their path too; the longest paths first.
    below: Vec<(String, Vec<Row>)>,
    /// Whether a route wants to be named.
    named: bool,
    /// Documents about logging in, by path.
    documents: BTreeMap<String, Vec<(Document, Row)>>,
}

/// A route with what decides whether it serves a request to its path.
#[derive(Clone, Debug)]
pub struct Row {
    /// The route.
    pub route: Arc<Route>,
    /// The host of the listener that it is attached to.
    pub listener: Host,
    /// The hosts that it serves there.
    pub hosts: Vec<Host>,
    /// When it was made.
    pub created: Option<Time>,
    /// What requests must carry; all of it.
    pub tests: Vec<HeaderTest>,
    /// Who may use it; anybody if there are none.
    pub policies: Option<Arc<Policies>>,
}

impl McpRouter {
    /// Returns the router of `rows`.
    pub fn new(rows: Vec<Row>) -> Self {
        let mut router = Self::default();
        let mut below: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in rows {
            router.named |= row.tests.iter().any(|test| *test.name() == ROUTE_HEADER);
            if row.route.lends_login().is_some() {
                let path = format!("{METADATA}{}", row.route.path.trim_end_matches('/'));
                let documents = router.documents.entry(path).or_default();
                documents.push((Document::Lent, row.clone()));
            }
            let login = row.route.access.login.as_deref();
            for (path, document) in login.into_iter().flat_map(|login| &login.paths) {
                let documents = router.documents.entry(path.clone()).or_default();
                documents.push((*document, row.clone()));
            }
            let path = row.route.path.clone();
            let paths = if row.route.below {
                &mut below
            } else {
                &mut router.paths
            };
            paths.entry(path).or_default().push(row);
        }
        router.below = below.into_iter().collect();
        router.below.sort_by_key(|(path, _)| Reverse(path.len()));
        let below = router.below.iter_mut().map(|(_, rows)| rows);
        for rows in router.paths.values_mut().chain(below) {
            rows.sort_by(Row::order);
        }
        for rows in router.documents.values_mut() {
            rows.sort_by(|(_, one), (_, two)| one.order(two));
        }
        router
    }

    /// Returns whether a route wants to be named by whoever stands before us ([`ROUTE_HEADER`]).
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// Returns whether there is no route at all.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.below.is_empty()
    }

    /// Returns the row that serves `path` of `host`, which is without port and in lower case; `listener` is the
    /// host of the listener that the request belongs to.
    pub fn route(&self, listener: &Host, host: &str, path: &str, headers: &HeaderMap) -> Option<&Row> {
        let exact = self.paths.get(path).into_iter().flatten();
        let below = self.below.iter().filter(|(own, _)| is_below(own, path));
        let rows = exact.chain(below.flat_map(|(_, rows)| rows));
        let rows = rows.filter(|row| row.fits(headers)).map(|row| (row, ()));
        best(rows, listener, host).map(|(row, ())| row)
    }

    /// Returns the document about logging in at `path` of `host`, and the route that it is about. Clients that look
    /// for it may not send yet what the route wants of requests.
    pub fn document(
        &self,
        listener: &Host,
        host: &str,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<(Document, &Row)> {
        let rows = self.documents.get(path)?;
        let all = || rows.iter().map(|(document, row)| (row, *document));
        best(all().filter(|(row, _)| row.fits(headers)), listener, host)
            .or_else(|| best(all(), listener, host))
            .map(|(row, document)| (document, row))
    }

    /// Returns every route, in the order of paths; one that serves several hosts comes once.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let below = self.below.iter().map(|(_, rows)| rows);
        self.paths.values().chain(below).flatten().map(|row| &row.route)
    }
}

impl Row {
    fn order(&self, other: &Self) -> Ordering {
        let age = |row: &Self| (row.created.is_none(), row.created);
        (other.tests.len().cmp(&self.tests.len()))
            .then_with(|| age(self).cmp(&age(other)))
            .then_with(|| self.route.id.cmp(&other.route.id))
    }

    fn fits(&self, headers: &HeaderMap) -> bool {
        self.tests.iter().all(|test| test.refusal(headers, "").is_none())
    }
}

/// Returns whether `path` is `prefix` or lies below it, element by element.
fn is_below(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the first of the rows with the most specific host.
fn best<'r, T>(
    rows: impl Iterator<Item = (&'r Row, T)>,
    listener: &Host,
    host: &str,
) -> Option<(&'r Row, T)> {
    let mut best: Option<(usize, (&Row, T))> = None;
    for (row, what) in rows.filter(|(row, _)| row.listener == *listener) {
        let Some(length) = row.hosts.iter().filter_map(|own| own.specificity(host)).max() else {
            continue;
        };
        if best.as_ref().is_none_or(|(other, _)| length > *other) {
            best = Some((length, (row, what)));
        }
    }
    best.map(|(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn paths_lie_below_others_by_whole_elements() {
        let check = |prefix: &str, path: &str, below: bool| {
            assert_eq!(is_below(prefix, path), below, "{prefix} {path}");
        };
        check("/mcp", "/mcp", true);
        check("/mcp", "/mcp/", true);
        check("/mcp/", "/mcp", true);
        check("/mcp", "/mcp/a/b", true);
        check("/mcp", "/mcpx", false);
        check("/mcp", "/", false);
        check("/", "/anything", true);
    }
}
