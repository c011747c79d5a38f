//! The files and crates of the workspace, read once; checks see only this.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::rust::Source;

/// What checks look at.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Every Rust file.
    pub sources: Vec<Source>,
    /// Every other text file that a check reads (`.md`, `.toml`, `.yml`, `.yaml`), by path.
    pub texts: BTreeMap<String, String>,
    /// The path of every file and folder, with `/` between segments and none in front.
    pub paths: BTreeSet<String>,
    /// Our own crates.
    pub crates: Vec<Crate>,
}

/// One of our crates and what it depends on.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    /// Its name as cargo has it.
    pub package: String,
    /// Its name without the `tollgate-` in front.
    pub name: String,
    /// Names of direct dependencies of the library or binary, and of its build script.
    pub direct: BTreeSet<String>,
    /// Names of direct dependencies of its tests.
    pub dev: BTreeSet<String>,
    /// Names of everything that is linked into the library or binary, on any target.
    pub linked: BTreeSet<String>,
}

impl Tree {
    /// Reads the workspace at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, "")?;
        let metadata = cargo(root, &["metadata", "--format-version", "1", "--locked"])?;
        tree.crates = crates(&serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?)?;
        for one in &mut tree.crates {
            // The graph of cargo metadata holds what a weak feature names though nothing enables it.
            let arguments = [
                "tree", "--locked", "--edges", "normal", "--target", "all", "--prefix", "none",
            ];
            let printed = cargo(root, &[&arguments[..], &["--package", &one.package]].concat())?;
            one.linked = linked(&printed);
        }
        Ok(tree)
    }

    fn walk(&mut self, root: &Path, under: &str) -> Result<()> {
        let folder = root.join(under);
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                bail!("{} holds a file whose name is not text", folder.display());
            };
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = if under.is_empty() {
                name
            } else {
                format!("{under}/{name}")
            };
            if entry.file_type()?.is_dir() {
                self.walk(root, &path)?;
            } else {
                self.file(root, &path)?;
            }
            self.paths.insert(path);
        }
        Ok(())
    }

    fn file(&mut self, root: &Path, path: &str) -> Result<()> {
        let read = || fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"));
        match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("rs") => self.sources.push(Source::new(path, read()?)),
            Some("md" | "py" | "toml" | "yaml" | "yml") => {
                self.texts.insert(path.to_owned(), read()?);
            }
            Some(_) | None => {}
        }
        Ok(())
    }
}

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &[".git", ".venv", "artifacts", "corpus", "node_modules", "target"];

fn cargo(root: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root)
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "cargo {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).context("cargo printed what is not text")
}

/// Reads the names of packages out of what `cargo tree` prints, the first one left out.
fn linked(printed: &str) -> BTreeSet<String> {
    printed
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| short(name).to_owned())
        .collect()
}

/// Reads our crates out of what `cargo metadata` prints.
fn crates(metadata: &Value) -> Result<Vec<Crate>> {
    let names: BTreeMap<&str, &str> = list(metadata, "packages")?
        .iter()
        .map(|package| Ok((text(package, "id")?, text(package, "name")?)))
        .collect::<Result<_>>()?;
    let resolve = metadata.get("resolve").context("metadata has no resolve")?;
    let mut edges: BTreeMap<&str, Vec<Edge<'_>>> = BTreeMap::new();
    for node in list(resolve, "nodes")? {
        let deps = list(node, "deps")?
            .iter()
            .map(Edge::read)
            .collect::<Result<_>>()?;
        edges.insert(text(node, "id")?, deps);
    }
    let package = |id: &str| names.get(id).copied().unwrap_or(id).to_owned();
    list(metadata, "workspace_members")?
        .iter()
        .map(|member| {
            let id = member.as_str().context("a workspace member is not text")?;
            let own = edges.get(id).map(Vec::as_slice).unwrap_or_default();
            let of = |wanted: fn(&Edge<'_>) -> bool| {
                own.iter()
                    .filter(|edge| wanted(edge))
                    .map(|edge| short(&package(edge.to)).to_owned())
                    .collect()
            };
            Ok(Crate {
                name: short(&package(id)).to_owned(),
                package: package(id),
                direct: of(|edge| edge.normal || edge.build),
                dev: of(|edge| edge.dev),
                linked: BTreeSet::new(),
            })
        })
        .collect()
}

/// A dependency of one package on another.
struct Edge<'m> {
    to: &'m str,
    normal: bool,
    build: bool,
    dev: bool,
}

impl<'m> Edge<'m> {
    fn read(dependency: &'m Value) -> Result<Self> {
        let kinds = list(dependency, "dep_kinds")?;
        let has = |wanted: Option<&str>| {
            kinds
                .iter()
                .any(|kind| kind.get("kind").and_then(Value::as_str) == wanted)
        };
        Ok(Self {
            to: text(dependency, "pkg")?,
            normal: has(None),
            build: has(Some("build")),
            dev: has(Some("dev")),
        })
    }
}

/// Returns the name of a crate as the table of crates has it.
fn short(name: &str) -> &str {
    match name {
        "tollgate" => "cli",
        other => other.strip_prefix("tollgate-").unwrap_or(other),
    }
}

fn list<'m>(value: &'m Value, key: &str) -> Result<&'m Vec<Value>> {
    value
        .get(key)
        .and_then(Value::as_array)
        .with_context(|| format!("metadata has no list {key}"))
}

fn text<'m>(value: &'m Value, key: &str) -> Result<&'m str> {
    value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("metadata has no text {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_direct_and_dev_dependencies() {
        let metadata = serde_json::json!({
            "workspace_members": ["a", "t"],
            "packages": [
                { "id": "a", "name": "tollgate-llm" },
                { "id": "t", "name": "tollgate" },
                { "id": "b", "name": "bytes" },
                { "id": "c", "name": "cc" },
                { "id": "d", "name": "insta" },
            ],
            "resolve": { "nodes": [
                { "id": "t", "deps": [{ "pkg": "a", "dep_kinds": [{ "kind": null }] }] },
                { "id": "a", "deps": [
                    { "pkg": "b", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "d", "dep_kinds": [{ "kind": "dev" }] },
                ] },
                { "id": "b", "deps": [{ "pkg": "c", "dep_kinds": [{ "kind": "build" }] }] },
                { "id": "c", "deps": [] },
                { "id": "d", "deps": [] },
            ] },
        });
        let crates = crates(&metadata).expect("the metadata above is whole");
        let seen: Vec<String> = crates
            .iter()
            .map(|one| format!("{} {:?} {:?}", one.name, one.direct, one.dev))
            .collect();
        assert_eq!(seen, [r#"llm {"bytes"} {"insta"}"#, r#"cli {"llm"} {}"#]);
    }

    #[test]
    fn reads_what_is_linked() {
        let printed = "tollgate v0.1.0 (/src)\ntollgate-llm v0.1.0 (/src)\nbytes v1.2.3\nbytes v1.2.3 (*)\n";
        assert_eq!(
            linked(printed),
            BTreeSet::from(["bytes".to_owned(), "llm".to_owned()])
        );
    }
}
