//! What routes came to before, so that those that stay as they are need not be compiled again.
//!
//! What is remembered of a route serves again as long as all that it was made of is the same value as before, not one
//! that looks like it: the declaration, the backends that it refers to, what its Gateways have counted. Backends are
//! resolved each time, because much has a say in them; one that comes out as it did before is taken from before.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use super::backends::{Backends, Service};
use crate::{
    Condition, Key,
    kind::{AIGatewayRoute, GatewayConfig, Metadata},
    resources::Declared,
    router::Entry,
};

/// What routes came to, by name: before, and this time.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The age of models of which nothing is said.
    loaded: u64,
    services: Backends,
    before: HashMap<Key, Known, RandomState>,
    now: HashMap<Key, Known, RandomState>,
}

/// What a route is made of besides its declaration.
#[derive(Debug)]
pub(super) struct Sources {
    /// What each reference leads to, in order, or why it leads nowhere.
    pub(super) references: Vec<Result<Arc<Service>, String>>,
    /// What its Gateways have for all routes.
    pub(super) config: Option<Arc<GatewayConfig>>,
}

/// What a route comes to, wherever it is attached.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) rules: Arc<[Entry]>,
    /// What is to be said of it.
    pub(super) said: Arc<[Condition]>,
}

/// A route that was compiled, and what of.
#[derive(Debug)]
struct Known {
    metadata: Arc<Metadata>,
    spec: Arc<AIGatewayRoute>,
    sources: Sources,
    compiled: Compiled,
}

impl Memory {
    /// Begins another time: what was not asked for in the one before is forgotten.
    pub(super) fn turn(&mut self, loaded: u64) {
        self.before = std::mem::take(&mut self.now);
        if self.loaded != loaded {
            self.loaded = loaded;
            self.before.clear();
        }
    }

    /// Puts the backends of before in the place of equal ones.
    pub(super) fn settle(&mut self, backends: &mut Backends) {
        for (key, service) in &mut *backends {
            if let Some(known) = self.services.get(key).filter(|known| *known == service) {
                *service = Arc::clone(known);
            }
        }
        self.services.clone_from(backends);
    }

    /// Returns what a route comes to; it is compiled unless that is known.
    pub(super) fn route(
        &mut self,
        key: &Key,
        route: &Declared<AIGatewayRoute>,
        sources: Sources,
        compile: impl FnOnce(&Sources) -> Compiled,
    ) -> Compiled {
        let known = self.before.remove_entry(key);
        if let Some((key, known)) = known.filter(|(_, known)| known.is_of(route, &sources)) {
            let compiled = known.compiled.clone();
            self.now.insert(key, known);
            return compiled;
        }
        let compiled = compile(&sources);
        let known = Known {
            metadata: Arc::clone(&route.metadata),
            spec: Arc::clone(&route.spec),
            sources,
            compiled: compiled.clone(),
        };
        self.now.insert(key.clone(), known);
        compiled
    }
}

impl Known {
    fn is_of(&self, route: &Declared<AIGatewayRoute>, sources: &Sources) -> bool {
        Arc::ptr_eq(&self.spec, &route.spec)
            && Arc::ptr_eq(&self.metadata, &route.metadata)
            && self.sources.are(sources)
    }
}

impl Sources {
    /// Returns whether these are the same values.
    fn are(&self, other: &Self) -> bool {
        let same = |(one, other): (&Result<_, String>, &Result<_, String>)| match (one, other) {
            (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
            (Err(one), Err(other)) => one == other,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        let (own, others) = (&self.references, &other.references);
        own.len() == others.len()
            && own.iter().zip(others).all(same)
            && self.config.as_ref().map(Arc::as_ptr) == other.config.as_ref().map(Arc::as_ptr)
    }
}
