//! Hears when files change.
//!
//! Folders are watched rather than files: editors replace a file by another of its name, and a cluster swaps a
//! link in the folder, and neither is a change of the file that was opened. What is heard is only that something
//! moved; whether it matters is found out by reading again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::Notify, time};

/// The folders of files that may change.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    moved: Arc<Notify>,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// If the system has no watch to give.
    pub(crate) fn new() -> notify::Result<Self> {
        let moved = Arc::new(Notify::new());
        let heard = Arc::clone(&moved);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that events were missed, which is a reason to look again as well.
            if event.map_or(true, |event| is_change(event.kind)) {
                heard.notify_one();
            }
        })?;
        Ok(Self {
            watcher,
            folders: BTreeSet::new(),
            moved,
        })
    }

    /// Watches `paths` from now on, and nothing else. A folder that cannot be watched yet is tried again with the
    /// next call.
    ///
    /// # Errors
    /// The last reason why a folder cannot be watched.
    pub(crate) fn follow(&mut self, paths: &[PathBuf]) -> notify::Result<()> {
        let wanted: BTreeSet<_> = paths.iter().flat_map(|path| folders(path)).collect();
        for gone in self.folders.difference(&wanted) {
            // It may be gone from the disk too.
            let _ = self.watcher.unwatch(gone);
        }
        let mut outcome = Ok(());
        self.folders = wanted
            .into_iter()
            .filter(|folder| {
                // A folder that was replaced has lost its watch, so each is watched anew.
                let watched = self.watcher.watch(folder, RecursiveMode::NonRecursive);
                let is_watched = watched.is_ok();
                if watched.is_err() {
                    outcome = watched;
                }
                is_watched
            })
            .collect();
        outcome
    }

    /// Waits until something has changed and nothing more does for a moment.
    ///
    /// # Cancel safety
    /// A change that was heard is lost if this is dropped while it waits for the rest.
    pub(crate) async fn changed(&self) {
        self.moved.notified().await;
        let deadline = time::Instant::now() + LONGEST;
        while time::Instant::now() < deadline {
            if time::timeout(QUIET, self.moved.notified()).await.is_err() {
                break;
            }
        }
    }
}

/// Returns the folders in which a change of `path` shows: its own, the one it links to, and itself if it is one.
fn folders(path: &Path) -> Vec<PathBuf> {
    let given = std::path::absolute(path).ok();
    let real = fs::canonicalize(path).ok();
    let mut folders = Vec::new();
    for path in [given, real].into_iter().flatten() {
        folders.extend(path.parent().map(Path::to_owned));
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders
}

fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// How long nothing must change before files are read.
const QUIET: Duration = Duration::from_millis(100);

/// How long files may go on changing before they are read all the same.
const LONGEST: Duration = Duration::from_secs(1);

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::symlink, time::Duration};

    use tokio::time;

    use super::Watch;

    #[tokio::test]
    async fn edits_replacements_and_swapped_links_are_heard() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("..1")).unwrap();
        fs::create_dir(at("..2")).unwrap();
        fs::write(at("..1/a.yaml"), "one").unwrap();
        fs::write(at("..2/a.yaml"), "two").unwrap();
        fs::write(at("b.yaml"), "one").unwrap();
        symlink("..1", at("..data")).unwrap();
        symlink("..data/a.yaml", at("a.yaml")).unwrap();
        let mut watch = Watch::new().unwrap();
        let mut check = async |name: &str, change: &dyn Fn()| {
            watch.follow(&[at(name)]).unwrap();
            change();
            let heard = time::timeout(Duration::from_secs(10), watch.changed()).await;
            assert!(heard.is_ok(), "{name}");
        };
        check("b.yaml", &|| fs::write(at("b.yaml"), "two").unwrap()).await;
        check("b.yaml", &|| {
            fs::write(at("b.tmp"), "three").unwrap();
            fs::rename(at("b.tmp"), at("b.yaml")).unwrap();
        })
        .await;
        check("a.yaml", &|| {
            symlink("..2", at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        })
        .await;
        check(".", &|| fs::write(at("c.yaml"), "new").unwrap()).await;
    }
}
