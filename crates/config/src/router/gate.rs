//! Who guards the rules of a host, as far as that is known before the model is.

use std::{collections::HashSet, sync::Arc};

use policy::Policies;

use super::{Group, Model, Router};

/// What guards a host, as long as it is not known which of its rules is meant.
#[derive(Clone, Copy, Debug)]
pub enum Gate<'r> {
    /// Nothing guards any of its rules.
    Open,
    /// The same policies guard all of them.
    Same(&'r Arc<Policies>),
    /// It depends on the rule.
    Several,
}

/// What guards the rules of one host pattern.
#[derive(Clone, Debug, Default)]
pub(super) struct Guards {
    /// Each once, in the order of the rules.
    policies: Vec<Arc<Policies>>,
    /// Those of them that guard rules of models.
    of_models: Vec<Arc<Policies>>,
    /// Whether some rule has none.
    open: bool,
}

impl Router {
    /// Returns what guards every rule that may serve a request to `host`.
    pub fn gate(&self, host: &str) -> Gate<'_> {
        if !self.guarded {
            return Gate::Open;
        }
        let mut found: Option<&Arc<Policies>> = None;
        let mut open = false;
        for guards in self.groups(host).map(|group| &group.guards) {
            open |= guards.open;
            for policies in &guards.policies {
                if found.is_some_and(|known| !Arc::ptr_eq(known, policies)) {
                    return Gate::Several;
                }
                found = Some(policies);
            }
        }
        match (found, open) {
            (None, _) => Gate::Open,
            (Some(policies), false) => Gate::Same(policies),
            (Some(_), true) => Gate::Several,
        }
    }

    /// Returns the policies that guard any of the rules of `host`, each once.
    pub fn policies(&self, host: &str) -> Vec<&Arc<Policies>> {
        self.guards(host, |guards| &guards.policies)
    }

    /// Returns the policies that guard any of the rules of models of `host`, each once.
    pub fn policies_of_models(&self, host: &str) -> Vec<&Arc<Policies>> {
        self.guards(host, |guards| &guards.of_models)
    }

    fn guards(&self, host: &str, of: fn(&Guards) -> &Vec<Arc<Policies>>) -> Vec<&Arc<Policies>> {
        if !self.guarded {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        self.groups(host)
            .flat_map(|group| of(&group.guards))
            .filter(|policies| seen.insert(Arc::as_ptr(policies)))
            .collect()
    }

    /// Returns the models of `host` that [`Router::models`] gives, without those whose rules are all guarded by
    /// policies that `passed` refuses.
    pub fn models_behind(&self, host: &str, passed: impl Fn(&Arc<Policies>) -> bool) -> Vec<&Model> {
        let mut seen = HashSet::new();
        self.groups(host)
            .flat_map(|group| &group.models)
            .filter(|listed| listed.policies.as_ref().is_none_or(&passed))
            .map(|listed| &listed.model)
            .filter(|model| seen.insert(&*model.id))
            .collect()
    }
}

impl Guards {
    /// Returns what guards the rules of `group`.
    pub(super) fn of(group: &Group) -> Self {
        let mut guards = Self::default();
        let (mut seen, mut of_models) = (HashSet::new(), HashSet::new());
        for row in &group.rows {
            let Some(policies) = &row.rule.policies else {
                guards.open = true;
                continue;
            };
            if seen.insert(Arc::as_ptr(policies)) {
                guards.policies.push(Arc::clone(policies));
            }
            if !row.is_plain() && of_models.insert(Arc::as_ptr(policies)) {
                guards.of_models.push(Arc::clone(policies));
            }
        }
        guards
    }

    /// Returns whether any rule is guarded.
    pub(super) fn is_any(&self) -> bool {
        !self.policies.is_empty()
    }
}
