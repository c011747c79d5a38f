//! Which MCPRoute serves a path: by host, path and headers, with the precedence of the other rules.

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderMap;
use policy::Policies;

use super::HeaderTest;
use crate::{host::Host, kind::Time, mcp_route::Route};

/// The MCPRoutes of one port, by path.
#[derive(Clone, Debug, Default)]
pub struct McpRouter {
    paths: BTreeMap<String, Vec<Row>>,
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
        for row in rows {
            let path = row.route.path.clone();
            router.paths.entry(path).or_default().push(row);
        }
        for rows in router.paths.values_mut() {
            rows.sort_by(|one, two| {
                let age = |row: &Row| (row.created.is_none(), row.created);
                (two.tests.len().cmp(&one.tests.len()))
                    .then_with(|| age(one).cmp(&age(two)))
                    .then_with(|| one.route.id.cmp(&two.route.id))
            });
        }
        router
    }

    /// Returns whether there is no route at all.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns the row that serves `path` of `host`, which is without port and in lower case; `listener` is the
    /// host of the listener that the request belongs to.
    pub fn route(&self, listener: &Host, host: &str, path: &str, headers: &HeaderMap) -> Option<&Row> {
        let rows = self.paths.get(path)?;
        let mut best: Option<(usize, &Row)> = None;
        for row in rows.iter().filter(|row| row.listener == *listener) {
            let Some(length) = row.hosts.iter().filter_map(|own| own.specificity(host)).max() else {
                continue;
            };
            let fits = row.tests.iter().all(|test| test.refusal(headers, "").is_none());
            if fits && best.is_none_or(|(other, _)| length > other) {
                best = Some((length, row));
            }
        }
        best.map(|(_, row)| row)
    }

    /// Returns every route, in the order of paths; one that serves several hosts comes once.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.paths.values().flatten().map(|row| &row.route)
    }
}
