//! Which rule serves which request: host, headers and model to rule, and the models that a host may see.
//!
//! One matcher serves both questions, so that every model that is listed can be reached and the reverse. A
//! request belongs to the listener with the most specific host, and to no other (Gateway API, "listener
//! isolation"). The rules of a listener are grouped by host and sorted once; within a group those that want one
//! exact model are found by that model, and those of plain requests by their path, so that a request costs the same
//! with ten of them as with ten thousand.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use foldhash::fast::RandomState;
use policy::Policies;

use crate::{
    host::{Host, Hosts},
    kind::Time,
    snapshot::Rule,
};

mod gate;
mod matching;
mod mcp;
mod paths;
#[cfg(test)]
mod tests;

pub use gate::Gate;
use gate::Guards;
pub use matching::{Asked, HeaderTest, Match, PathTest, Pattern, QueryTest};
pub use mcp::{McpRouter, ROUTE_HEADER, Row as McpRow};
use paths::Paths;

/// The header that carries the model in rules' matches; clients cannot set it.
pub const MODEL_HEADER: &str = "x-ai-eg-model";

/// The rules of one port, compiled.
#[derive(Clone, Debug, Default)]
pub struct Router {
    sites: Hosts<Site>,
    /// Whether any rule has policies.
    guarded: bool,
    /// Whether any rule is one of plain requests.
    plain: bool,
}

/// A rule with what decides whether it serves a request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The host of the listener that it is attached to.
    pub listener: Host,
    /// The hosts that it serves there.
    pub hosts: Arc<[Host]>,
    /// When its route was made.
    pub created: Option<Time>,
    /// Alternatives; every request if there are none.
    pub matches: Arc<[Arc<Match>]>,
    /// What lists say of the models that it serves.
    pub owned_by: Arc<str>,
    /// What lists say of the models that it serves, in seconds since the Unix epoch.
    pub models_created: u64,
}

/// A model that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What clients call it.
    pub id: Arc<str>,
    /// Who owns it.
    pub owned_by: Arc<str>,
    /// Seconds since the Unix epoch.
    pub created: u64,
}

/// Which rule a request would take, and why no other.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The rule that serves it.
    pub chosen: Option<Arc<Rule>>,
    /// Every match of every rule, in order of precedence; those of other hosts last.
    pub considered: Vec<Considered>,
}

/// One match of a rule, held against a request.
#[derive(Clone, Debug)]
pub struct Considered {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The match, as `host *.example.com, x-ai-eg-model = gpt`.
    pub wanted: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of holding a match against a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It matches and serves the request.
    Chosen,
    /// It matches, but another of higher precedence does too.
    Shadowed,
    /// It does not match, for this reason.
    Refused(String),
}

impl Router {
    /// Compiles `entries`, which are in the order of their declaration.
    pub fn new(entries: Vec<Entry>) -> Self {
        let mut router = Self::default();
        for entry in &entries {
            for host in entry.hosts.iter() {
                let groups = &mut router.site(&entry.listener).groups;
                groups.entry(host, || Group::of(host)).add(entry);
            }
        }
        for site in router.sites.values_mut() {
            site.groups.values_mut().for_each(Group::index);
        }
        let guarded = router.all().any(|group| group.guards.is_any());
        let plain = entries.iter().any(|entry| entry.rule.plain.is_some());
        Self {
            guarded,
            plain,
            ..router
        }
    }

    /// Returns whether any rule is one of plain requests.
    pub fn has_plain(&self) -> bool {
        self.plain
    }

    /// Adds a listener of `host`, which takes that host's requests even if it has no rules.
    pub fn listen(&mut self, host: &Host) {
        self.site(host);
    }

    /// Returns the rule that serves a request, by the precedence of the Gateway API: most specific host, path,
    /// method, most header matches, most query matches, oldest route, name, order. Where models are served, whoever
    /// takes every request serves none whose path is that of an operation.
    pub fn route(&self, asked: &Asked<'_>) -> Option<&Arc<Rule>> {
        self.groups(asked.host)
            .flat_map(|group| group.candidates(asked.model))
            .find(|row| row.wanted.refusal(asked).is_none())
            .map(|row| &row.rule)
    }

    /// Returns the rule of plain requests that serves a request whatever model it names. `operation` tells whether
    /// the path is that of an operation, so that rules of models may serve it too.
    pub fn plain(&self, asked: &Asked<'_>, operation: bool) -> Option<&Arc<Rule>> {
        for group in self.groups(asked.host) {
            let first = group.first_model.filter(|_| operation);
            if let Some(row) = group.plain.first(&group.rows, asked, first) {
                return Some(&row.rule);
            }
            if first.is_some() {
                return None;
            }
        }
        None
    }

    /// Returns the host of the listener that requests to `host` belong to.
    pub fn listener(&self, host: &str) -> Option<&Host> {
        self.sites.of(host).next().map(|site| &site.host)
    }

    /// Returns the models that requests to `host` can ask for, each once: those of the most specific host
    /// first, then in the order of the routes.
    pub fn models(&self, host: &str) -> Vec<&Model> {
        self.models_behind(host, |_| true)
    }

    /// Returns whether any rule is for `model` by its name.
    pub fn names_model(&self, model: &str) -> bool {
        self.all().any(|group| group.by_model.contains_key(model))
    }

    /// Returns up to `n` models of `host` whose names resemble `model`, the nearest first.
    pub fn nearest(&self, host: &str, model: &str, n: usize) -> Vec<&str> {
        let length = model.chars().count();
        if length > MAX_COMPARED {
            return Vec::new();
        }
        let asked = model.to_lowercase();
        let mut near: Vec<(usize, &str)> = self
            .models(host)
            .into_iter()
            .map(|known| &*known.id)
            // The distance is at least the difference in length, which is cheaper to know.
            .filter(|known| known.chars().count().abs_diff(length) <= tolerance(length))
            .map(|known| (strsim::damerau_levenshtein(&asked, &known.to_lowercase()), known))
            .filter(|(distance, _)| *distance <= tolerance(length))
            .collect();
        near.sort_unstable();
        near.into_iter().take(n).map(|(_, known)| known).collect()
    }

    /// Returns which rule a request would take and why no other; takes what [`Router::plain`] takes, and the model.
    pub fn explain(&self, asked: &Asked<'_>, operation: bool) -> Explanation {
        let host = asked.host;
        let chosen = self.plain(asked, operation);
        let chosen = chosen.or_else(|| operation.then(|| self.route(asked)).flatten());
        let mut explanation = Explanation {
            chosen: None,
            considered: Vec::new(),
        };
        for (group, row) in self.groups(host).flat_map(Group::rows) {
            let verdict = match row.wanted.refusal(asked) {
                Some(reason) => Verdict::Refused(reason.to_string()),
                None if !operation && !row.is_plain() => Verdict::Refused(NO_OPERATION.to_owned()),
                None if explanation.chosen.is_some() => Verdict::Shadowed,
                None if chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, &row.rule)) => {
                    explanation.chosen = Some(Arc::clone(&row.rule));
                    Verdict::Chosen
                }
                None => Verdict::Refused(NO_MODEL.to_owned()),
            };
            explanation.considered.push(group.considered(row, verdict));
        }
        let held: HashSet<*const Group> = self.groups(host).map(std::ptr::from_ref).collect();
        let others = self
            .all()
            .filter(|group| !held.contains(&std::ptr::from_ref(*group)));
        for (group, row) in others.flat_map(Group::rows) {
            let reason = format!("the host is not {}", group.host);
            let considered = group.considered(row, Verdict::Refused(reason));
            explanation.considered.push(considered);
        }
        explanation
    }

    /// Returns every match of every rule in the order in which they are tried: its text and its rule.
    pub fn rows(&self) -> impl Iterator<Item = (String, &Arc<Rule>)> {
        self.all()
            .flat_map(Group::rows)
            .map(|(group, row)| (group.text(row), &row.rule))
    }

    /// Returns the rule of every match, in the order in which they are tried; a rule comes once for each.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.all().flat_map(|group| &group.rows).map(|row| &row.rule)
    }

    fn all(&self) -> impl Iterator<Item = &Group> {
        self.sites.values().flat_map(|site| site.groups.values())
    }

    /// Returns the rules that serve `host`, those with the most specific host first.
    fn groups<'r>(&'r self, host: &str) -> impl Iterator<Item = &'r Group> + use<'r> {
        let site = self.sites.of(host).next();
        site.map(|site| site.groups.of(host)).into_iter().flatten()
    }

    fn site(&mut self, listener: &Host) -> &mut Site {
        self.sites.entry(listener, || Site {
            host: listener.clone(),
            groups: Hosts::default(),
        })
    }
}

/// What is attached to the listeners of one host.
#[derive(Clone, Debug)]
struct Site {
    host: Host,
    groups: Hosts<Group>,
}

/// The rules of one host pattern.
#[derive(Clone, Debug)]
struct Group {
    host: Host,
    /// In order of precedence.
    rows: Vec<Row>,
    /// Rows that want one exact model, by that model, in order of precedence.
    by_model: HashMap<Arc<str>, Vec<usize>, RandomState>,
    /// The other rows that depend on the model, in order of precedence: among rows of models a plain one can come
    /// after one that is for another model.
    rest: Vec<usize>,
    /// Rows of plain requests.
    plain: Paths,
    /// The first row of models.
    first_model: Option<usize>,
    /// In order of declaration, each once for each of the policies that guard it.
    models: Vec<Listed>,
    guards: Guards,
}

/// A model in lists, for whoever passes what guards it.
#[derive(Clone, Debug)]
struct Listed {
    model: Model,
    policies: Option<Arc<Policies>>,
}

/// One match of a rule.
#[derive(Clone, Debug)]
struct Row {
    rule: Arc<Rule>,
    created: Option<Time>,
    wanted: Arc<Match>,
}

impl Group {
    fn of(host: &Host) -> Self {
        Self {
            host: host.clone(),
            rows: Vec::new(),
            by_model: HashMap::default(),
            rest: Vec::new(),
            plain: Paths::default(),
            first_model: None,
            models: Vec::new(),
            guards: Guards::default(),
        }
    }

    fn add(&mut self, entry: &Entry) {
        let everything = entry.matches.is_empty().then(Arc::default);
        for wanted in entry.matches.iter().chain(&everything) {
            let row = Row {
                rule: Arc::clone(&entry.rule),
                created: entry.created,
                wanted: Arc::clone(wanted),
            };
            if let Some(id) = wanted.exact_model().filter(|_| !row.is_plain()) {
                self.models.push(Listed {
                    model: Model {
                        id: Arc::clone(id),
                        owned_by: Arc::clone(&entry.owned_by),
                        created: entry.models_created,
                    },
                    policies: entry.rule.policies.clone(),
                });
            }
            self.rows.push(row);
        }
    }

    /// Sorts what was added and finds it again by model.
    fn index(&mut self) {
        // The sort is stable: matches of one rule stay in their order.
        self.rows.sort_by(|one, two| {
            let age = |row: &Row| (row.created.is_none(), row.created);
            (one.wanted.precedence(&two.wanted))
                .then_with(|| age(one).cmp(&age(two)))
                .then_with(|| one.rule.route.cmp(&two.rule.route))
                .then_with(|| one.rule.index.cmp(&two.rule.index))
        });
        for (at, row) in self.rows.iter().enumerate() {
            if row.is_plain() {
                self.plain.add(at, &row.wanted.path);
                let depends = self.first_model.is_some() && !row.wanted.takes_all();
                self.rest.extend(depends.then_some(at));
                continue;
            }
            self.first_model.get_or_insert(at);
            match row.wanted.exact_model() {
                Some(model) => self.by_model.entry(Arc::clone(model)).or_default().push(at),
                None => self.rest.push(at),
            }
        }
        let mut seen = HashSet::with_capacity_and_hasher(self.models.len(), RandomState::default());
        self.models.retain(|listed| {
            let policies = listed.policies.as_ref().map(Arc::as_ptr);
            seen.insert((Arc::clone(&listed.model.id), policies))
        });
        self.guards = Guards::of(self);
    }

    /// Returns the rows, each with the group.
    fn rows(&self) -> impl Iterator<Item = (&Self, &Row)> {
        self.rows.iter().map(move |row| (self, row))
    }

    fn considered(&self, row: &Row, verdict: Verdict) -> Considered {
        Considered {
            rule: Arc::clone(&row.rule),
            wanted: self.text(row),
            verdict,
        }
    }

    /// Returns what a row wants, for a person.
    fn text(&self, row: &Row) -> String {
        format!("host {}{}", self.host, row.wanted)
    }

    /// Returns the rows that may want `model`, in order of precedence.
    fn candidates(&self, model: &str) -> impl Iterator<Item = &Row> {
        let mut own = self.by_model.get(model).map_or(&[][..], Vec::as_slice);
        let mut rest = self.rest.as_slice();
        std::iter::from_fn(move || {
            let from = match (own.first(), rest.first()) {
                (Some(one), Some(two)) if two < one => &mut rest,
                (Some(_), _) => &mut own,
                (None, _) => &mut rest,
            };
            let (at, after) = from.split_first()?;
            *from = after;
            self.rows.get(*at)
        })
    }
}

impl Row {
    fn is_plain(&self) -> bool {
        self.rule.plain.is_some()
    }
}

const NO_OPERATION: &str = "the path is not that of an operation";
const NO_MODEL: &str = "paths of operations are left to the rules of models";

/// The longest model name, in characters, that is compared with the known ones.
const MAX_COMPARED: usize = 128;

fn tolerance(length: usize) -> usize {
    2 + length / 3
}
