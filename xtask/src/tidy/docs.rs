//! Pages that point nowhere, and files that no page points to.

use std::collections::BTreeSet;

use super::Fault;
use crate::tree::Tree;

/// Finds example configurations that no page names.
pub(super) fn examples(tree: &Tree) -> Vec<Fault> {
    unnamed(tree, "examples/", ".yaml", "no page names this example", |page| {
        page.ends_with(".md")
    })
}

/// Finds decisions that ARCHITECTURE.md does not list.
pub(super) fn design(tree: &Tree) -> Vec<Fault> {
    unnamed(
        tree,
        "docs/design/",
        ".md",
        "ARCHITECTURE.md does not list this page",
        |page| page == "ARCHITECTURE.md",
    )
}

fn unnamed(tree: &Tree, folder: &str, extension: &str, message: &str, page: fn(&str) -> bool) -> Vec<Fault> {
    let pages: Vec<(&String, &String)> = tree.texts.iter().filter(|(path, _)| page(path)).collect();
    let linked: BTreeSet<String> = pages
        .iter()
        .flat_map(|(path, text)| {
            targets(text)
                .into_iter()
                .filter_map(|(_, target)| join(path, target))
        })
        .collect();
    tree.paths
        .iter()
        .filter(|path| path.starts_with(folder) && path.ends_with(extension))
        .filter(|path| !linked.contains(*path) && !pages.iter().any(|(_, text)| text.contains(path.as_str())))
        .map(|path| Fault::new(path, 0, message))
        .collect()
}

/// Finds links between pages whose file or heading does not exist.
pub(super) fn links(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (line, target) in targets(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                Some(path.clone())
            } else {
                join(path, file)
            };
            let Some(file) = file.filter(|file| file.is_empty() || tree.paths.contains(file)) else {
                faults.push(Fault::new(path, line, format!("{target} does not exist")));
                continue;
            };
            let headings = tree
                .texts
                .get(&file)
                .map(|text| anchors(text))
                .unwrap_or_default();
            if !anchor.is_empty() && !headings.contains(anchor) {
                faults.push(Fault::new(path, line, format!("{file} has no heading #{anchor}")));
            }
        }
    }
    faults
}

/// Finds tests that a page names and that nobody has written: `module::name` or `path::name`, where the name is a
/// sentence as those of tests are.
pub(super) fn tests(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (line, text) in prose(text) {
            // What stands between backticks is every other part.
            let spans = text.split('`').skip(1).step_by(2);
            let named = spans.filter_map(|span| span.rsplit_once("::"));
            for (place, name) in named.filter(|(_, name)| name.matches('_').count() >= SENTENCE) {
                let is_there = !place.contains('/') || tree.paths.contains(place);
                if !is_there || !is_written(tree, name) {
                    faults.push(Fault::new(
                        path,
                        line,
                        format!("there is no test {place}::{name}"),
                    ));
                }
            }
        }
    }
    faults
}

/// Returns whether a function is called so, in Rust or in Python.
fn is_written(tree: &Tree, name: &str) -> bool {
    let (rust, python) = (format!("fn {name}("), format!("def {name}("));
    let mut scripts = tree.texts.iter().filter(|(path, _)| path.ends_with(".py"));
    tree.sources.iter().any(|source| source.code.contains(&rust))
        || scripts.any(|(_, text)| text.contains(&python))
}

/// Names with so many joints are sentences.
const SENTENCE: usize = 3;

/// Returns the targets of the links in a page, and the line of each.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (line, text) in prose(text) {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("](") {
            let end = after.find([')', ' ']).unwrap_or(after.len());
            found.push((line, after.get(..end).unwrap_or_default()));
            rest = after;
        }
    }
    found
}

/// Returns the anchors of a page's headings, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

/// Returns the lines outside fenced blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((at + 1, line))
    })
}

/// Returns the path of `link` as seen from the page at `page`; `None` if it leaves the workspace.
fn join(page: &str, link: &str) -> Option<String> {
    let mut segments: Vec<&str> = page.split('/').collect();
    segments.pop();
    for segment in link.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            name => segments.push(name),
        }
    }
    Some(segments.join("/"))
}
