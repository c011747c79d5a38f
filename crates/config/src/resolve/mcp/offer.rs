//! What of a server clients see, and under which names.

use ::mcp::{
    offer::{Hints, Offer, Rename},
    select::{self, Written},
};

use super::super::{Notes, validate::Faults};
use crate::{
    Key,
    kind::mcp_route::{self, BackendRef, Selector},
};

/// Returns what of the server at `field` is offered.
pub(super) fn resolve(key: &Key, field: &str, reference: &BackendRef, notes: &mut Notes) -> Offer {
    let annotations = reference.tool_annotations.unwrap_or_default();
    let [tools, prompts, resources] =
        selectors(reference).map(|(name, written)| selector(key, &format!("{field}.{name}"), written, notes));
    Offer {
        tools,
        prompts,
        resources,
        hints: Hints {
            read_only: annotations.read_only_hint,
            destructive: annotations.destructive_hint,
            idempotent: annotations.idempotent_hint,
            open_world: annotations.open_world_hint,
        },
        tool_names: renames(&reference.rename, |rename| rename.tool.as_ref()),
        prompt_names: renames(&reference.rename, |rename| rename.prompt.as_ref()),
    }
}

fn selectors(reference: &BackendRef) -> [(&'static str, Option<&Selector>); 3] {
    [
        ("toolSelector", reference.tool_selector.as_ref()),
        ("promptSelector", reference.prompt_selector.as_ref()),
        ("resourceSelector", reference.resource_selector.as_ref()),
    ]
}

fn renames(
    written: &[mcp_route::Rename],
    own: impl Fn(&mcp_route::Rename) -> Option<&String>,
) -> Vec<Rename> {
    let renames = written.iter().filter_map(|rename| {
        Some(Rename {
            own: own(rename)?.clone(),
            called: rename.to.clone(),
            both: rename.keep_original,
        })
    });
    renames.collect()
}

fn selector(key: &Key, field: &str, written: Option<&Selector>, notes: &mut Notes) -> select::Selector {
    let Some(written) = written else {
        return select::Selector::default();
    };
    let compiled = select::Selector::new(Written {
        include: &written.include,
        include_regex: &written.include_regex,
        exclude: &written.exclude,
        exclude_regex: &written.exclude_regex,
    });
    compiled.unwrap_or_else(|(expression, error)| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason);
        let message = format!("malformed regular expression \"{expression}\": {reason}");
        notes.refuse(super::KIND, key, "Invalid", field.to_owned(), message);
        select::Selector::default()
    })
}

/// Checks what a reference says of this in itself.
pub(super) fn validate(reference: &BackendRef, field: &str, faults: &mut Faults) {
    for (name, selector) in selectors(reference) {
        if let Some(selector) = selector {
            validate_selector(selector, &format!("{field}.{name}"), faults);
        }
    }
    faults.at_most(64, reference.rename.len(), format!("{field}.rename"));
    for kind in [
        |rename: &mcp_route::Rename| rename.tool.clone(),
        |rename: &mcp_route::Rename| rename.prompt.clone(),
    ] {
        let of_kind = reference.rename.iter().enumerate();
        let of_kind = of_kind.filter_map(|(index, rename)| Some((index, kind(rename)?, rename)));
        let of_kind: Vec<_> = of_kind.collect();
        for (at, (index, own, rename)) in of_kind.iter().enumerate() {
            let mut before = of_kind.iter().take(at);
            let twice = before.any(|(_, other, named)| other == own || named.to == rename.to);
            let kept = of_kind
                .iter()
                .any(|(_, other, named)| *other == rename.to && named.keep_original);
            let message = "one name must lead to one thing, which has one other name";
            faults.add_if(twice || kept, format!("{field}.rename[{index}]"), message);
        }
    }
    for (index, rename) in reference.rename.iter().enumerate() {
        let field = format!("{field}.rename[{index}]");
        let one = rename.tool.is_some() != rename.prompt.is_some();
        faults.add_if(!one, &field, "exactly one of tool and prompt must be set");
        let clean = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
        let good = (1..=128).contains(&rename.to.len()) && rename.to.bytes().all(clean);
        let message = "expected a name of at most 128 letters, digits, and any of _ . - /";
        faults.add_if(!good, format!("{field}.to"), message);
    }
}

fn validate_selector(selector: &Selector, field: &str, faults: &mut Faults) {
    let lists = [
        ("include", &selector.include),
        ("includeRegex", &selector.include_regex),
        ("exclude", &selector.exclude),
        ("excludeRegex", &selector.exclude_regex),
    ];
    let message = "at least one of include, includeRegex, exclude, or excludeRegex must be specified";
    faults.add_if(lists.iter().all(|(_, list)| list.is_empty()), field, message);
    for pair in lists.chunks(2) {
        let both = pair.iter().all(|(_, list)| !list.is_empty());
        let names: Vec<&str> = pair.iter().map(|(name, _)| *name).collect();
        faults.add_if(
            both,
            field,
            format!("{} are mutually exclusive", names.join(" and ")),
        );
    }
    for (name, list) in lists {
        faults.at_most(32, list.len(), format!("{field}.{name}"));
    }
}
