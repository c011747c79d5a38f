//! The longest files and functions: for the eye, never a failure.

use std::io::{self, Write};

use crate::tree::Tree;

/// How many of each are printed.
const SHOWN: usize = 10;

/// Prints the longest files and functions that are not tests.
pub(super) fn print(tree: &Tree, out: &mut impl Write) -> io::Result<()> {
    let files = tree
        .sources
        .iter()
        .map(|source| (source.production_lines, source.path.clone()))
        .collect();
    table("longest files, in lines without tests", files, out)?;
    let mut functions = Vec::new();
    for source in &tree.sources {
        for function in source.functions() {
            let place = format!("{}:{} {}", source.path, function.line, function.name);
            functions.push((function.lines, place));
        }
    }
    table("longest functions, without tests", functions, out)
}

fn table(title: &str, mut rows: Vec<(usize, String)>, out: &mut impl Write) -> io::Result<()> {
    rows.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    writeln!(out, "{title}:")?;
    for (lines, place) in rows.iter().take(SHOWN) {
        writeln!(out, "{lines:6}  {place}")?;
    }
    Ok(())
}
