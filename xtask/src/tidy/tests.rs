//! Each check on the smallest workspace that it refuses, and on one that it accepts.

use std::collections::BTreeSet;

use super::{CHECKS, Fault, crates, docs, log, source};
use crate::{
    rust::Source,
    tree::{Crate, Tree},
};

/// Builds a workspace of files.
fn files(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    for (path, text) in files {
        tree.paths.insert((*path).to_owned());
        if path.ends_with(".rs") {
            tree.sources.push(Source::new(path, (*text).to_owned()));
        } else {
            tree.texts.insert((*path).to_owned(), (*text).to_owned());
        }
    }
    tree
}

/// A crate: name, direct dependencies, those of its tests, everything linked.
type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

/// Builds a workspace of crates.
fn workspace(crates: &[Row<'_>]) -> Tree {
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let crates = crates.iter().map(|(name, direct, dev, linked)| Crate {
        package: format!("tollgate-{name}"),
        name: (*name).to_owned(),
        direct: set(direct),
        dev: set(dev),
        linked: set(linked),
    });
    Tree {
        crates: crates.collect(),
        ..Tree::default()
    }
}

/// Runs one check and compares where it finds faults.
fn check(check: fn(&Tree) -> Vec<Fault>, tree: &Tree, expected: &[&str]) {
    let found: Vec<String> = check(tree)
        .iter()
        .map(|fault| format!("{}:{}", fault.path, fault.line))
        .collect();
    assert_eq!(found, expected, "{:?}", check(tree));
}

#[test]
fn crates_know_only_those_below() {
    check(
        crates::edges,
        &workspace(&[
            ("llm", &["bytes"], &[], &[]),
            ("config", &["llm"], &["testkit"], &[]),
            ("testkit", &[], &[], &[]),
        ]),
        &[],
    );
    check(
        crates::edges,
        &workspace(&[("llm", &["config"], &[], &[]), ("config", &[], &[], &[])]),
        &["llm:0"],
    );
    check(
        crates::edges,
        &workspace(&[("llm", &[], &["gateway"], &[]), ("gateway", &[], &[], &[])]),
        &["llm:0"],
    );
    check(
        crates::edges,
        &workspace(&[("novel", &[], &[], &[])]),
        &["novel:0"],
    );
}

#[test]
fn crates_are_free_of_what_they_must_not_bring() {
    check(
        crates::outside,
        &workspace(&[("llm", &["bytes"], &["async-std"], &["bytes"])]),
        &[],
    );
    check(
        crates::outside,
        &workspace(&[("llm", &["bytes"], &[], &["bytes", "tokio"])]),
        &["llm:0"],
    );
    check(
        crates::outside,
        &workspace(&[("cli", &[], &[], &["ring"])]),
        &["cli:0"],
    );
    check(
        crates::outside,
        &workspace(&[("cli", &[], &["async-trait"], &[])]),
        &["cli:0"],
    );
    check(
        crates::outside,
        &workspace(&[("cli", &[], &[], &["async-trait"])]),
        &[],
    );
}

#[test]
fn manifests_share_versions_and_lints() {
    let manifest = |dependencies: &str, lints: &str| {
        let text = format!("[package]\nversion = \"1\"\n\n[dependencies]\n{dependencies}\n\n{lints}");
        files(&[
            ("crates/a/Cargo.toml", &text),
            ("fuzz/Cargo.toml", "[dependencies]\na = \"1\"\n"),
        ])
    };
    let lints = "[lints]\nworkspace = true\n";
    check(crates::manifests, &manifest("bytes.workspace = true", lints), &[]);
    check(
        crates::manifests,
        &manifest("bytes = { workspace = true, features = [] }", lints),
        &[],
    );
    check(
        crates::manifests,
        &manifest("bytes = \"1\"", lints),
        &["crates/a/Cargo.toml:5"],
    );
    check(
        crates::manifests,
        &manifest("bytes.workspace = true", ""),
        &["crates/a/Cargo.toml:0"],
    );
}

#[test]
fn files_say_what_they_are_for() {
    check(source::heads, &files(&[("a.rs", "//! Counts.\n")]), &[]);
    check(source::heads, &files(&[("a.rs", "use std::fmt;\n")]), &["a.rs:1"]);
}

#[test]
fn modules_are_named_for_what_they_are() {
    check(
        source::names,
        &files(&[("src/frame.rs", "mod sse;\n// mod util\n")]),
        &[],
    );
    check(source::names, &files(&[("src/util.rs", "")]), &["src/util.rs:0"]);
    check(
        source::names,
        &files(&[("src/types/mod.rs", "")]),
        &["src/types/mod.rs:0"],
    );
    check(
        source::names,
        &files(&[("src/a.rs", "\nmod helpers { }\n")]),
        &["src/a.rs:2"],
    );
}

#[test]
fn imports_name_what_is_used() {
    check(
        source::globs,
        &files(&[(
            "a.rs",
            "use crate::a;\n#[cfg(test)]\nmod tests {\n use super::*;\n}",
        )]),
        &[],
    );
    check(source::globs, &files(&[("a.rs", "use super::*;\n")]), &["a.rs:1"]);
    check(
        source::globs,
        &files(&[("a.rs", "\nuse crate::{a, b::*};\n")]),
        &["a.rs:2"],
    );
}

#[test]
fn pure_crates_do_no_io() {
    let pure = |text: &str| files(&[("crates/llm/src/a.rs", text)]);
    check(source::purity, &pure("use std::net::IpAddr;\n// std::fs\n"), &[]);
    check(
        source::purity,
        &pure("use std::{fmt, fs};\n"),
        &["crates/llm/src/a.rs:1"],
    );
    check(
        source::purity,
        &pure("\nfn f() { std::env::var(\"A\"); }\n"),
        &["crates/llm/src/a.rs:2"],
    );
    check(
        source::purity,
        &pure("use std::time::{Duration, SystemTime};\n"),
        &["crates/llm/src/a.rs:1"],
    );
    check(
        source::purity,
        &pure("#[cfg(test)]\nmod tests { use std::fs; }\n"),
        &[],
    );
    check(
        source::purity,
        &files(&[("crates/llm/tests/a.rs", "use std::fs;\n")]),
        &[],
    );
    check(
        source::purity,
        &files(&[("crates/cli/src/a.rs", "use std::fs;\n")]),
        &[],
    );
}

#[test]
fn work_is_finished() {
    check(
        source::unfinished,
        &files(&[("a.rs", "// to do, methods, TODOS"), ("a.md", "mastodon")]),
        &[],
    );
    let mark = concat!("// FIX", "ME\n");
    check(
        source::unfinished,
        &files(&[("a.rs", mark), ("a.md", mark)]),
        &["a.rs:1", "a.md:1"],
    );
}

#[test]
fn tests_are_run() {
    check(
        source::ignored,
        &files(&[("a.rs", "// #[ignore]\n#[test]\nfn f() {}\n")]),
        &[],
    );
    check(
        source::ignored,
        &files(&[("a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n")]),
        &["a.rs:2"],
    );
}

#[test]
fn log_messages_have_one_form() {
    let good = [
        r#"info!("listening");"#,
        r#"warn!(upstream = %id, attempt, "upstream refused");"#,
        r#"debug!(target: "access", "TLS handshake failed");"#,
        r#"error!(error = format!("{error}."), "cannot bind");"#,
        r#"tracing::info!(port, "with {{braces}}");"#,
        r#"info(1);"#,
    ];
    for text in good {
        check(log::messages, &files(&[("a.rs", text)]), &[]);
    }
    let bad = [
        r#"info!("Listening");"#,
        r#"info!("listening.");"#,
        r#"info!("listening on {port}");"#,
        r#"tracing::warn!(port, "listening on {}", port);"#,
    ];
    for text in bad {
        check(log::messages, &files(&[("a.rs", text)]), &["a.rs:1"]);
    }
}

#[test]
fn examples_and_decisions_are_listed() {
    let page = ("README.md", "see examples/relay.yaml");
    check(docs::examples, &files(&[page, ("examples/relay.yaml", "")]), &[]);
    let linked = ("examples/README.md", "[relay](relay.yaml)");
    check(
        docs::examples,
        &files(&[linked, ("examples/relay.yaml", "")]),
        &[],
    );
    check(
        docs::examples,
        &files(&[page, ("examples/other.yaml", "")]),
        &["examples/other.yaml:0"],
    );
    let page = ("ARCHITECTURE.md", "[why](docs/design/0001-a.md)");
    check(docs::design, &files(&[page, ("docs/design/0001-a.md", "")]), &[]);
    check(
        docs::design,
        &files(&[page, ("docs/design/0002-b.md", "")]),
        &["docs/design/0002-b.md:0"],
    );
}

#[test]
fn links_lead_somewhere() {
    let pages = |text: &str| {
        files(&[
            ("docs/a.md", text),
            ("docs/b.md", "## The `way` in\n"),
            ("LICENSE", ""),
        ])
    };
    for good in [
        "[b](b.md), [l](../LICENSE)",
        "[b](./b.md#the-way-in)",
        "# Top\n[t](#top)",
        "[x](https://example.com/x.md)",
        "```\n[x](nowhere.md)\n```",
    ] {
        check(docs::links, &pages(good), &[]);
    }
    for bad in [
        "[c](c.md)",
        "[b](b.md#nowhere)",
        "[t](#nowhere)",
        "[up](../../x.md)",
        "[b](b.md) [c](c.md)",
    ] {
        check(docs::links, &pages(bad), &["docs/a.md:1"]);
    }
}

#[test]
fn tests_that_pages_name_are_there() {
    let pages = |text: &str| {
        files(&[
            ("docs/a.md", text),
            ("crates/a/tests/b.rs", "#[test]\nfn a_thing_is_said_well() {}\n"),
            ("tests/c.py", "def test_it_is_said_twice():\n    pass\n"),
        ])
    };
    for good in [
        "`a b::a_thing_is_said_well` holds it",
        "`crates/a/tests/b.rs::a_thing_is_said_well`, `tests/c.py::test_it_is_said_twice`",
        "`chat::Request`, `llm::inbound`, `a_thing::of_two`",
        "outside: b::nothing_is_said_at_all",
        "```\n`b::nothing_is_said_at_all`\n```",
    ] {
        check(docs::tests, &pages(good), &[]);
    }
    let bad = "`b::a_thing_is_said_well`\n`a b::nothing_is_said_at_all`\n`tests/b.rs::a_thing_is_said_well`";
    check(docs::tests, &pages(bad), &["docs/a.md:2", "docs/a.md:3"]);
}

#[test]
fn every_check_has_its_own_name() {
    let names: BTreeSet<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), CHECKS.len());
}
