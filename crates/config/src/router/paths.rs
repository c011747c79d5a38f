//! Rows found by what they want of the path, so that a request is not held against those that want another.

use std::collections::HashMap;

use super::{
    Row,
    matching::{Asked, PathTest},
};

/// Some rows of a group, by path. The longer a path the earlier its rows, exact ones before expressions before
/// prefixes, so that what is found of each of these comes in order of precedence.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<String, Vec<usize>>,
    /// Rows whose paths are expressions: each is tried.
    regex: Vec<usize>,
    prefix: HashMap<String, Vec<usize>>,
    /// How long prefixes are, the longest first: there are fewer lengths than prefixes, and fewer than slashes that a
    /// client can send.
    lengths: Vec<usize>,
}

impl Paths {
    /// Adds the row at `at`, which comes after those that were added before.
    pub(super) fn add(&mut self, at: usize, path: &PathTest) {
        match path {
            PathTest::Exact(path) => self.exact.entry(path.clone()).or_default().push(at),
            PathTest::Regex(_) => self.regex.push(at),
            PathTest::Prefix(prefix) => {
                self.prefix.entry(prefix.clone()).or_default().push(at);
                if self.lengths.last() != Some(&prefix.len()) {
                    self.lengths.push(prefix.len());
                }
            }
        }
    }

    /// Returns the rows that may want `path`, in order of precedence: where they lie.
    pub(super) fn of<'p>(&'p self, path: &'p str) -> impl Iterator<Item = usize> + use<'p> {
        let lengths = self.lengths.iter();
        let prefixes = lengths.filter_map(move |length| {
            let (prefix, rest) = path.split_at_checked(*length)?;
            let is_whole = rest.is_empty() || rest.starts_with('/');
            self.prefix.get(prefix).filter(|_| is_whole)
        });
        let exact = self.exact.get(path).into_iter().flatten();
        exact.chain(&self.regex).chain(prefixes.flatten()).copied()
    }

    /// Returns the first of `rows` that serves `asked`, if it lies before `end`.
    pub(super) fn first<'r>(
        &self,
        rows: &'r [Row],
        asked: &Asked<'_>,
        end: Option<usize>,
    ) -> Option<&'r Row> {
        let ahead = self
            .of(asked.path)
            .take_while(|at| end.is_none_or(|end| *at < end));
        let mut ahead = ahead.filter_map(|at| rows.get(at));
        ahead.find(|row| row.wanted.refusal(asked).is_none())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, HeaderValue, Method};
    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::*;
    use crate::{
        host::Host,
        kind::{ai_gateway_route::HeaderMatchKind, http_route::PathMatchKind},
        plain::Plain,
        router::{Entry, HeaderTest, MODEL_HEADER, Match, QueryTest, Router},
        snapshot::{Rule, Timeouts},
    };

    fn entry(index: usize, is_plain: bool, wanted: Match) -> Entry {
        Entry {
            rule: Arc::new(Rule {
                route: Arc::from(format!("n/{}", index % 3)),
                index,
                name: None,
                candidates: Arc::default(),
                timeouts: Timeouts::default(),
                policies: None,
                plain: is_plain.then(Arc::<Plain>::default),
                traffic: None,
                costs: None,
                prices: None,
                words: None,
                limits: None,
                annotations: None,
            }),
            listener: Host::Any,
            hosts: Arc::new([Host::Any]),
            created: None,
            matches: Arc::new([Arc::new(wanted)]),
            owned_by: Arc::from("n"),
            models_created: 0,
        }
    }

    fn path() -> impl Strategy<Value = String> {
        let element = select(&["", "a", "b", "ab", "é", "a.b"][..]);
        vec(element, 0..4).prop_map(|elements| format!("/{}", elements.join("/")))
    }

    fn wanted() -> impl Strategy<Value = Match> {
        let kinds = [
            PathMatchKind::Exact,
            PathMatchKind::PathPrefix,
            PathMatchKind::PathPrefix,
            PathMatchKind::RegularExpression,
        ];
        let method = option::of(select(vec![Method::GET, Method::POST]));
        let parts = (
            path(),
            select(kinds.to_vec()),
            method,
            any::<bool>(),
            any::<bool>(),
        );
        parts.prop_map(|(path, kind, method, header, query)| Match {
            path: PathTest::new(&path, kind).expect("a well-formed path"),
            method,
            headers: test(header, "x-a"),
            query: query
                .then(|| QueryTest::new("q", "1", HeaderMatchKind::Exact).expect("a well-formed test"))
                .into_iter()
                .collect(),
        })
    }

    fn test(wanted: bool, name: &str) -> Vec<HeaderTest> {
        let test = || HeaderTest::new(name, "1", HeaderMatchKind::Exact).expect("a well-formed test");
        wanted.then(test).into_iter().collect()
    }

    /// A match of a route of plain requests, or of one for models.
    fn row() -> impl Strategy<Value = (bool, Match)> {
        let of_models = any::<bool>().prop_map(|one| Match::from(test(one, MODEL_HEADER)));
        prop_oneof![6 => wanted().prop_map(|wanted| (true, wanted)), 1 => of_models.prop_map(|wanted| (false, wanted))]
    }

    proptest! {
        /// What is found by path is what is found by holding the request against one row after the other.
        #[test]
        fn rows_found_by_path_are_those_found_one_by_one(
            rows in vec(row(), 0..24),
            path in path(),
            method in select(vec![Method::GET, Method::POST, Method::PUT]),
            header in any::<bool>(),
            query in any::<bool>(),
            operation in any::<bool>(),
        ) {
            let rows = rows.into_iter().enumerate();
            let router = Router::new(rows.map(|(index, (is_plain, wanted))| entry(index, is_plain, wanted)).collect());
            let mut headers = HeaderMap::new();
            if header {
                headers.insert("x-a", HeaderValue::from_static("1"));
            }
            let asked = Asked {
                host: "h",
                method: &method,
                path: &path,
                query: if query { "q=1" } else { "" },
                headers: &headers,
                model: "",
            };
            let found = router.plain(&asked, operation);
            let one_by_one = router.groups("h").find_map(|group| {
                let until = group.rows.iter().position(|row| operation && !row.is_plain());
                let ahead = group.rows.iter().take(until.unwrap_or(group.rows.len()));
                let mut plain = ahead.filter(|row| row.is_plain());
                plain.find(|row| row.wanted.refusal(&asked).is_none()).map(|row| &row.rule)
            });
            prop_assert_eq!(found.map(|rule| rule.index), one_by_one.map(|rule| rule.index));
        }
    }

    /// The number of rows that a request is held against does not grow with the number of routes.
    #[test]
    fn work_is_the_same_with_ten_thousand_paths() {
        let examined = |routes: usize| {
            let mut wanted: Vec<Match> = Vec::new();
            for at in 0..routes {
                for (kind, path) in [
                    (PathMatchKind::Exact, "page"),
                    (PathMatchKind::PathPrefix, "area"),
                ] {
                    wanted.push(Match {
                        path: PathTest::new(&format!("/{path}/{at}"), kind).expect("a well-formed path"),
                        ..Match::default()
                    });
                }
            }
            wanted.push(Match::default());
            let entries = wanted.into_iter().enumerate();
            let router = Router::new(
                entries
                    .map(|(index, wanted)| entry(index, true, wanted))
                    .collect(),
            );
            let work = |path: &str| -> usize {
                let groups = router.groups("h");
                groups.map(|group| group.plain.of(path).count()).sum()
            };
            [work("/page/5"), work("/area/5/x"), work("/"), work("/area/5x")]
        };
        assert_eq!(examined(10), [2, 2, 1, 1]);
        assert_eq!(examined(10_000), [2, 2, 1, 1]);
    }
}
