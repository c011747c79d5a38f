//! What routes came to before, so that those that stay as they are need not be compiled again.
//!
//! What is remembered of a route serves again as long as all that it was made of is the same value as before, not one
//! that looks like it: the declaration, the backends that it refers to, what its Gateways have counted. Backends are
//! resolved each time, because much has a say in them; one that comes out as it did before is taken from before.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use super::{
    backends::{Backends, Service},
    mcp,
};
use crate::{
    Condition, Key,
    kind::{AIGatewayRoute, GatewayConfig, HTTPRoute, HTTPRouteFilter, MCPRoute, Metadata},
    resources::Declared,
    router::Entry,
    snapshot::Backend,
};

/// What routes came to, by kind.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The age of models of which nothing is said.
    loaded: u64,
    services: Backends,
    pools: Backends,
    backends: Turns<(Option<Key>, String), Arc<Backend>>,
    pub(super) models: Shelf<AIGatewayRoute, Service, Arc<[Entry]>>,
    pub(super) plain: Shelf<HTTPRoute, Backend, Arc<[Entry]>>,
    pub(super) tools: Shelf<MCPRoute, (), Arc<mcp::Own>>,
}

/// What routes of one kind came to, by name.
#[derive(Debug)]
pub(super) struct Shelf<S, R, C>(Turns<Key, Known<S, R, C>>);

/// What was known before, and what of it is known this time.
#[derive(Debug)]
struct Turns<K, V> {
    before: HashMap<K, V, RandomState>,
    now: HashMap<K, V, RandomState>,
}

/// What a route is made of besides its declaration.
#[derive(Debug)]
pub(super) struct Sources<R> {
    /// What each reference leads to, in order, or why it leads nowhere.
    pub(super) references: Vec<Result<Arc<R>, String>>,
    /// The filters that it names, in order, as far as they are there.
    pub(super) filters: Vec<Option<Arc<HTTPRouteFilter>>>,
    /// What its Gateways have for all routes.
    pub(super) config: Option<Declared<GatewayConfig>>,
}

/// What a route comes to, wherever it is attached.
#[derive(Clone, Debug)]
pub(super) struct Compiled<C> {
    pub(super) rules: C,
    /// What is to be said of it.
    pub(super) said: Arc<[Condition]>,
}

/// A route that was compiled, and what of.
#[derive(Debug)]
struct Known<S, R, C> {
    metadata: Arc<Metadata>,
    spec: Arc<S>,
    sources: Sources<R>,
    compiled: Compiled<C>,
}

impl Memory {
    /// Begins another time: what was not asked for in the one before is forgotten.
    pub(super) fn turn(&mut self, loaded: u64) {
        self.backends.turn();
        self.models.0.turn();
        self.plain.0.turn();
        self.tools.0.turn();
        if self.loaded != loaded {
            self.loaded = loaded;
            self.models.0.before.clear();
        }
    }

    /// Puts the backends and the pools of before in the place of equal ones.
    pub(super) fn settle(&mut self, backends: &mut Backends, pools: &mut Backends) {
        for (known, all) in [(&mut self.services, backends), (&mut self.pools, pools)] {
            for (key, service) in &mut *all {
                if let Some(known) = known.get(key).filter(|known| *known == service) {
                    *service = Arc::clone(known);
                }
            }
            known.clone_from(all);
        }
    }

    /// Returns the backend of before if it is equal to `backend`, which routes of a Gateway call by this id.
    pub(super) fn backend(&mut self, gateway: Option<&Key>, id: &str, backend: Backend) -> Arc<Backend> {
        let name = (gateway.cloned(), id.to_owned());
        let known = self.backends.before.remove(&name);
        let known = known.filter(|known| **known == backend);
        let backend = known.unwrap_or_else(|| Arc::new(backend));
        self.backends.now.insert(name, Arc::clone(&backend));
        backend
    }
}

impl<S, R, C: Clone> Shelf<S, R, C> {
    /// Returns what a route comes to; it is compiled unless that is known.
    pub(super) fn route(
        &mut self,
        key: &Key,
        route: &Declared<S>,
        sources: Sources<R>,
        compile: impl FnOnce(&Sources<R>) -> Compiled<C>,
    ) -> Compiled<C> {
        let Self(Turns { before, now }) = self;
        let known = before.remove_entry(key);
        if let Some((key, known)) = known.filter(|(_, known)| known.is_of(route, &sources)) {
            let compiled = known.compiled.clone();
            now.insert(key, known);
            return compiled;
        }
        let compiled = compile(&sources);
        let known = Known {
            metadata: Arc::clone(&route.metadata),
            spec: Arc::clone(&route.spec),
            sources,
            compiled: compiled.clone(),
        };
        now.insert(key.clone(), known);
        compiled
    }
}

impl<K, V> Turns<K, V> {
    fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self {
            before: HashMap::default(),
            now: HashMap::default(),
        }
    }
}

impl<S, R, C> Default for Shelf<S, R, C> {
    fn default() -> Self {
        Self(Turns::default())
    }
}

impl<S, R, C> Known<S, R, C> {
    fn is_of(&self, route: &Declared<S>, sources: &Sources<R>) -> bool {
        Arc::ptr_eq(&self.spec, &route.spec)
            && Arc::ptr_eq(&self.metadata, &route.metadata)
            && self.sources.are(sources)
    }
}

impl<R> Sources<R> {
    /// Returns the sources of a route that is made of its declaration alone.
    pub(super) fn none() -> Self {
        Self {
            references: Vec::new(),
            filters: Vec::new(),
            config: None,
        }
    }

    /// Returns whether these are the same values.
    fn are(&self, other: &Self) -> bool {
        let same = |(one, other): (&Result<_, String>, &Result<_, String>)| match (one, other) {
            (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
            (Err(one), Err(other)) => one == other,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        let config = match (&self.config, &other.config) {
            (Some(one), Some(other)) => {
                Arc::ptr_eq(&one.spec, &other.spec) && Arc::ptr_eq(&one.metadata, &other.metadata)
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let (own, others) = (&self.references, &other.references);
        let filters = |sources: &Self| -> Vec<Option<*const HTTPRouteFilter>> {
            let filters = sources.filters.iter();
            filters.map(|filter| filter.as_ref().map(Arc::as_ptr)).collect()
        };
        own.len() == others.len()
            && own.iter().zip(others).all(same)
            && filters(self) == filters(other)
            && config
    }
}
