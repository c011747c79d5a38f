//! Whose a name is, where names are not prefixed: learned from the lists that pass, and a hint only. What may be
//! asked is decided when it is asked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use config::mcp_route::Backend;
use mcp::{List, header::Repeated, offer::Annotations, rewrite::Item, template};

/// Names by route and backend.
#[derive(Default)]
pub(crate) struct Index(Mutex<HashMap<Arc<str>, Names>>);

/// The names of one route, by list and backend.
type Names = BTreeMap<(List, Arc<str>), HashMap<String, Said>>;

/// What a tool says of itself, beside its name.
#[derive(Clone)]
struct Said {
    /// What headers repeat of its arguments.
    repeated: Option<Arc<Repeated>>,
    annotations: Option<Annotations>,
}

impl Said {
    fn read(list: List, item: &Item) -> Self {
        let nothing = Self {
            repeated: None,
            annotations: None,
        };
        match list {
            List::Tools => {
                let repeated = Repeated::read(&item.raw);
                Self {
                    repeated: (!repeated.is_empty()).then(|| Arc::new(repeated)),
                    annotations: Some(Annotations::read(&item.raw)),
                }
            }
            List::Prompts | List::Resources | List::Templates => nothing,
        }
    }
}

/// The most routes whose names are kept; a route that is gone makes place for another.
const MAX_ROUTES: usize = 4096;

impl Index {
    /// Takes note of a backend's list: of the whole of it, or of a page more.
    pub(super) fn learn(
        &self,
        route: &Arc<str>,
        backend: &Arc<str>,
        list: List,
        items: &[Item],
        whole: bool,
    ) {
        let names = items
            .iter()
            .map(|item| (item.own.clone(), Said::read(list, item)));
        let mut index = self.lock();
        if index.len() >= MAX_ROUTES && !index.contains_key(route) {
            index.clear();
        }
        let of_route = index.entry(Arc::clone(route)).or_default();
        let known = of_route.entry((list, Arc::clone(backend))).or_default();
        if whole {
            known.clear();
        }
        known.extend(names);
    }

    /// Returns the first of these backends and names that is in `list`.
    pub(super) fn find<'a>(
        &self,
        route: &str,
        list: List,
        wanted: &[(&'a Backend, &'a str)],
    ) -> Option<(&'a Backend, &'a str)> {
        let index = self.lock();
        let of_route = index.get(route)?;
        let has = |(backend, name): &&(&'a Backend, &'a str)| {
            let names = of_route.get(&(list, Arc::clone(&backend.name)));
            names.is_some_and(|names| match list {
                List::Templates => names
                    .keys()
                    .any(|own| own == name || template::matches(own, name)),
                List::Tools | List::Prompts | List::Resources => names.contains_key(*name),
            })
        };
        wanted.iter().find(has).copied()
    }

    /// Returns the name of `backend` in `list` of which `shown` is what clients see.
    pub(super) fn original(
        &self,
        route: &str,
        backend: &Arc<str>,
        list: List,
        shown: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let index = self.lock();
        let names = index.get(route)?.get(&(list, Arc::clone(backend)))?;
        names.keys().find(|own| shown(own)).cloned()
    }

    /// Returns what headers repeat of the arguments of a tool; `None` if the tools of `backend` are not known.
    pub(super) fn repeated(
        &self,
        route: &str,
        backend: &Arc<str>,
        tool: &str,
    ) -> Option<Option<Arc<Repeated>>> {
        let index = self.lock();
        let tools = index.get(route)?.get(&(List::Tools, Arc::clone(backend)))?;
        Some(tools.get(tool).and_then(|said| said.repeated.clone()))
    }

    /// Returns what a tool says of itself, if it is known.
    pub(super) fn annotations(&self, route: &str, backend: &Arc<str>, tool: &str) -> Option<Annotations> {
        let index = self.lock();
        let tools = index.get(route)?.get(&(List::Tools, Arc::clone(backend)))?;
        tools.get(tool)?.annotations
    }

    /// Forgets what a backend says has changed.
    pub(super) fn forget(&self, route: &str, backend: &Arc<str>, lists: &[List]) {
        if let Some(of_route) = self.lock().get_mut(route) {
            for list in lists {
                of_route.remove(&(*list, Arc::clone(backend)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Names>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
