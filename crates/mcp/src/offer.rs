//! What of a backend clients see, and what it is called there: selected by the backend's own names, then renamed.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{json::Object, method::List, select::Selector};

/// What of a backend is offered; everything, under its own name, by default.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Which tools.
    pub tools: Selector,
    /// Which prompts.
    pub prompts: Selector,
    /// Which resources and templates, by their URIs.
    pub resources: Selector,
    /// What tools have to say of themselves.
    pub hints: Hints,
    /// Tools that have another name.
    pub tool_names: Vec<Rename>,
    /// Prompts that have another name.
    pub prompt_names: Vec<Rename>,
}

/// Another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The backend's own name.
    pub own: String,
    /// What clients call it.
    pub called: String,
    /// Whether its own name is known to clients as well.
    pub both: bool,
}

/// What a tool says of itself, by default as the protocol has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotations {
    /// It changes nothing.
    pub read_only: bool,
    /// It may destroy something.
    pub destructive: bool,
    /// Calling it twice does what calling it once does.
    pub idempotent: bool,
    /// It reaches out to who knows whom.
    pub open_world: bool,
}

/// What a tool has to say of itself to be offered; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// That it changes nothing, or something.
    pub read_only: Option<bool>,
    /// That it may destroy something, or not.
    pub destructive: Option<bool>,
    /// That it may be called again, or not.
    pub idempotent: Option<bool>,
    /// That it reaches out, or not.
    pub open_world: Option<bool>,
}

impl Offer {
    /// Returns whether `own` is offered in `list`, as far as its name says.
    pub fn allows(&self, list: List, own: &str) -> bool {
        match list {
            List::Tools => self.tools.allows(own),
            List::Prompts => self.prompts.allows(own),
            List::Resources | List::Templates => self.resources.allows(own),
        }
    }

    /// Returns what clients call `own`; nothing where another has been given its name.
    pub fn called<'n>(&'n self, list: List, own: &'n str) -> impl Iterator<Item = &'n str> {
        let renames = self.renames(list);
        let rename = renames.iter().find(|rename| rename.own == own);
        let stays = match rename {
            Some(rename) => rename.both,
            None => renames.iter().all(|rename| rename.called != own),
        };
        let called = rename.map(|rename| rename.called.as_str());
        called.into_iter().chain(stays.then_some(own))
    }

    /// Returns the backend's own name for what clients call `called`, if they may call it so.
    pub fn own<'n>(&'n self, list: List, called: &'n str) -> Option<&'n str> {
        let renames = self.renames(list);
        if let Some(rename) = renames.iter().find(|rename| rename.called == called) {
            return Some(&rename.own);
        }
        let hidden = renames.iter().any(|rename| rename.own == called && !rename.both);
        (!hidden).then_some(called)
    }

    fn renames(&self, list: List) -> &[Rename] {
        match list {
            List::Tools => &self.tool_names,
            List::Prompts => &self.prompt_names,
            List::Resources | List::Templates => &[],
        }
    }
}

impl Annotations {
    /// Reads what the tool `item` says of itself.
    pub fn read(item: &RawValue) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Written {
            read_only_hint: Option<bool>,
            destructive_hint: Option<bool>,
            idempotent_hint: Option<bool>,
            open_world_hint: Option<bool>,
        }
        let written = Object::parse(item).and_then(|item| {
            let annotations = item.get("annotations")?;
            serde_json::from_str::<Written>(annotations.get()).ok()
        });
        let written = written.unwrap_or_default();
        let read_only = written.read_only_hint.unwrap_or(false);
        Self {
            read_only,
            // What changes nothing destroys nothing.
            destructive: !read_only && written.destructive_hint.unwrap_or(true),
            idempotent: read_only || written.idempotent_hint.unwrap_or(false),
            open_world: written.open_world_hint.unwrap_or(true),
        }
    }
}

impl Hints {
    /// Returns whether nothing has to be said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether a tool that says this of itself is offered.
    pub fn fit(&self, tool: Annotations) -> bool {
        let pairs = [
            (self.read_only, tool.read_only),
            (self.destructive, tool.destructive),
            (self.idempotent, tool.idempotent),
            (self.open_world, tool.open_world),
        ];
        pairs
            .into_iter()
            .all(|(wanted, said)| wanted.is_none_or(|wanted| wanted == said))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::json;

    fn rename(own: &str, called: &str, both: bool) -> Rename {
        Rename {
            own: own.to_owned(),
            called: called.to_owned(),
            both,
        }
    }

    #[test]
    fn names_that_are_given_lead_back() {
        let offer = Offer {
            tool_names: vec![
                rename("list_issues", "issues", false),
                rename("get", "fetch", true),
            ],
            prompt_names: vec![rename("a", "b", false)],
            ..Offer::default()
        };
        let check = |list: List, own: &str, called: &[&str]| {
            assert_eq!(offer.called(list, own).collect::<Vec<_>>(), called, "{own}");
            for called in called {
                assert_eq!(offer.own(list, called), Some(own), "{called}");
            }
        };
        check(List::Tools, "list_issues", &["issues"]);
        check(List::Tools, "get", &["fetch", "get"]);
        check(List::Tools, "set", &["set"]);
        check(List::Tools, "a", &["a"]);
        check(List::Tools, "issues", &[]);
        check(List::Prompts, "a", &["b"]);
        check(List::Prompts, "b", &[]);
        check(List::Resources, "a", &["a"]);
        assert_eq!(offer.own(List::Tools, "list_issues"), None);
        assert_eq!(offer.own(List::Prompts, "a"), None);
    }

    #[test]
    fn tools_are_told_by_what_they_say() {
        let check = |annotations: Value, hints: Hints, fits: bool| {
            let tool = json::raw(&json!({ "name": "t", "annotations": annotations }));
            assert_eq!(
                hints.fit(Annotations::read(&tool)),
                fits,
                "{annotations} {hints:?}"
            );
        };
        let read_only = |wanted| Hints {
            read_only: Some(wanted),
            ..Hints::default()
        };
        let harmless = Hints {
            destructive: Some(false),
            ..Hints::default()
        };
        check(json!({}), Hints::default(), true);
        check(json!({ "readOnlyHint": true }), read_only(true), true);
        check(json!({ "readOnlyHint": true }), read_only(false), false);
        check(json!({}), read_only(true), false);
        check(json!({ "readOnlyHint": "yes" }), read_only(true), false);
        check(json!(7), read_only(true), false);
        check(json!({}), harmless, false);
        check(json!({ "destructiveHint": false }), harmless, true);
        check(json!({ "readOnlyHint": true }), harmless, true);
        let closed = Hints {
            idempotent: Some(true),
            open_world: Some(false),
            ..Hints::default()
        };
        check(
            json!({ "idempotentHint": true, "openWorldHint": false }),
            closed,
            true,
        );
        check(json!({ "idempotentHint": true }), closed, false);
    }
}
