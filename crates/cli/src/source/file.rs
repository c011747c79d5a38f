//! Files and folders, read as they are now.

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
};

use super::{Document, Problem};

/// Returns whether `path` stands for standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Returns what `path` is called in messages.
pub(super) fn name(path: &Path) -> String {
    if is_stdin(path) {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Returns `path` with a leading `~/` replaced by the home folder.
pub(super) fn expand(path: &str) -> PathBuf {
    let home = path.strip_prefix("~/").zip(env::home_dir());
    home.map_or_else(|| PathBuf::from(path), |(rest, home)| home.join(rest))
}

/// Reads `paths` in order, each file once. Of a folder, the YAML and JSON files directly in it, by name.
pub(super) fn read(paths: &[PathBuf], stdin: &str, problems: &mut Vec<Problem>) -> Vec<Document> {
    let mut documents: Vec<Document> = Vec::new();
    let mut names = HashSet::new();
    for path in paths {
        if is_stdin(path) {
            documents.push(Document {
                name: name(path),
                text: stdin.to_owned(),
            });
            continue;
        }
        let files = match files(path) {
            Ok(files) => files,
            Err(reason) => {
                problems.push(Problem::Unreadable {
                    path: path.clone(),
                    reason,
                });
                continue;
            }
        };
        for file in files {
            let name = name(&file);
            if !names.insert(name.clone()) {
                continue;
            }
            match super::text_of(&file) {
                Ok(text) => documents.push(Document { name, text }),
                Err(reason) => problems.push(Problem::Unreadable {
                    path: file,
                    reason: format!("cannot be read: {reason}"),
                }),
            }
        }
    }
    documents
}

/// Returns the files that `path` stands for.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(|error| format!("cannot be listed: {error}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot be listed: {error}"))?;
        let file = entry.path();
        // A volume of a cluster keeps the real files under names with dots and links to them.
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A link that leads nowhere is read, so that it is said; what it stood for may have guarded something.
        let is_read = || match fs::metadata(&file) {
            Ok(metadata) => metadata.is_file(),
            Err(_) => fs::symlink_metadata(&file).is_ok(),
        };
        if !hidden && is_resource(&file) && is_read() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err("this folder holds no .yaml, .yml or .json file".to_owned());
    }
    files.sort();
    Ok(files)
}

/// Returns whether a file of a folder is read.
pub(super) fn is_resource(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_by_name_and_files_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.YML", "c.json", "d.txt", ".hidden.yaml", "..data"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("e.yaml")).unwrap();
        let mut problems = Vec::new();
        let paths = [
            folder.path().to_owned(),
            folder.path().join("b.yaml"),
            PathBuf::from("-"),
        ];
        let texts: Vec<_> = read(&paths, "stdin", &mut problems)
            .into_iter()
            .map(|document| document.text)
            .collect();
        assert_eq!(texts, ["a.YML", "b.yaml", "c.json", "stdin"]);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let latin = folder.path().join("latin.yaml");
        fs::write(&latin, b"name: caf\xe9").unwrap();
        let empty = folder.path().join("empty");
        fs::create_dir(&empty).unwrap();
        let mut problems = Vec::new();
        let missing = folder.path().join("missing.yaml");
        let links = folder.path().join("links");
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(&missing, links.join("dangling.yaml")).unwrap();
        assert_eq!(read(&[missing, latin, empty, links], "", &mut problems), []);
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let parts = [
            "missing.yaml: error: cannot be read",
            "latin.yaml",
            "holds no",
            "dangling.yaml: error: cannot be read",
        ];
        for (line, part) in lines.iter().zip(parts) {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(lines.len(), 4);
    }
}
