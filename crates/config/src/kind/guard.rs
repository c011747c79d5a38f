//! Policies that restrict access and are not served yet: what they are attached to is all that is read of them.

use serde::Deserialize;

use super::reference::TargetRef;

/// What a policy is attached to, in its own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// The targets, by name.
    #[serde(default)]
    pub target_refs: Vec<TargetRef>,
    /// The one target, in the older spelling.
    pub target_ref: Option<TargetRef>,
}

impl Guard {
    /// Returns whether the policy is for the resource called `name` of a kind in `kinds`. One that names no
    /// target, because it selects them by labels or cannot be read, is taken to be for all.
    pub fn covers(&self, kinds: &[&str], name: &str) -> bool {
        let mut targets = self.target_refs.iter().chain(&self.target_ref).peekable();
        if targets.peek().is_none() {
            return true;
        }
        targets.any(|target| kinds.contains(&target.kind.as_str()) && target.name == name)
    }
}
