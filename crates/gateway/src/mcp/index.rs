//! Whose a name is, where names are not prefixed: learned from the lists that pass, and a hint only. What may be
//! asked is decided when it is asked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcp::{List, header::Repeated, rewrite::Item, template};

/// Names by route and backend.
#[derive(Default)]
pub(crate) struct Index(Mutex<HashMap<Arc<str>, Names>>);

/// The names of one route, by list and backend, and what headers repeat of a tool's arguments.
type Names = BTreeMap<(List, Arc<str>), HashMap<String, Option<Arc<Repeated>>>>;

/// The most routes whose names are kept; a route that is gone makes place for another.
const MAX_ROUTES: usize = 4096;

impl Index {
    /// Takes note of a backend's whole list.
    pub(super) fn learn(&self, route: &Arc<str>, backend: &Arc<str>, list: List, items: &[Item]) {
        let names = items.iter().map(|item| {
            let repeated = match list {
                List::Tools => Repeated::read(&item.raw),
                List::Prompts | List::Resources | List::Templates => Repeated::default(),
            };
            let repeated = (!repeated.is_empty()).then(|| Arc::new(repeated));
            (item.own.clone(), repeated)
        });
        let names = names.collect();
        let mut index = self.lock();
        if index.len() >= MAX_ROUTES && !index.contains_key(route) {
            index.clear();
        }
        let of_route = index.entry(Arc::clone(route)).or_default();
        of_route.insert((list, Arc::clone(backend)), names);
    }

    /// Returns the first of `backends` that has something called `name` in `list`.
    pub(super) fn find(
        &self,
        route: &str,
        list: List,
        name: &str,
        backends: &[Arc<str>],
    ) -> Option<Arc<str>> {
        let index = self.lock();
        let of_route = index.get(route)?;
        let has = |backend: &&Arc<str>| {
            let names = of_route.get(&(list, Arc::clone(backend)));
            names.is_some_and(|names| match list {
                List::Templates => names
                    .keys()
                    .any(|own| own == name || template::matches(own, name)),
                List::Tools | List::Prompts | List::Resources => names.contains_key(name),
            })
        };
        backends.iter().find(has).cloned()
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
        Some(tools.get(tool).cloned().flatten())
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
