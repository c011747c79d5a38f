//! Hears when files change.
//!
//! Folders are watched rather than files: editors replace a file by another of its name, and a cluster swaps a
//! link in the folder, and neither is a change of the file that was opened. What is heard is only that something
//! moved; whether it matters is found out by reading again. What others write to their files in the same folder, as logs
//! are written, is not listened to.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{sync::Notify, time};

use super::file;

/// The folders of files that may change.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    heard: Arc<Heard>,
}

/// What the watcher hears.
#[derive(Default)]
struct Heard {
    moved: Notify,
    /// Whether the last of it was that a file has begun to change: there is more to come.
    unfinished: AtomicBool,
    /// The files and folders that matter, by all their names.
    wanted: Mutex<BTreeSet<PathBuf>>,
}

/// What an event means for a file.
enum Change {
    /// It is being written.
    Begun,
    /// It was written.
    Written,
    /// It came into being, perhaps to be written.
    Made,
    /// It went, or took another's name.
    Moved,
    /// None.
    None,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// If the system has no watch to give.
    pub(crate) fn new() -> notify::Result<Self> {
        let heard = Arc::new(Heard::default());
        let hearing = Arc::clone(&heard);
        let watcher = notify::recommended_watcher(move |event| hearing.hear(&event))?;
        Ok(Self {
            watcher,
            folders: BTreeSet::new(),
            heard,
        })
    }

    /// Watches `paths` from now on, and nothing else. A folder that cannot be watched yet is tried again with the
    /// next call.
    ///
    /// # Errors
    /// The last reason why a folder cannot be watched.
    pub(crate) fn follow(&mut self, paths: &[PathBuf]) -> notify::Result<()> {
        let names: BTreeSet<_> = paths.iter().flat_map(|path| names(path)).collect();
        let wanted: BTreeSet<_> = names.iter().flat_map(|path| folders(path)).collect();
        *self.heard.wanted.lock().unwrap_or_else(PoisonError::into_inner) = names;
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
        let heard = &self.heard;
        heard.moved.notified().await;
        let deadline = time::Instant::now() + LONGEST;
        while time::Instant::now() < deadline {
            let quiet = if heard.unfinished.load(Ordering::Relaxed) {
                UNFINISHED
            } else {
                QUIET
            };
            if time::timeout(quiet, heard.moved.notified()).await.is_err() {
                break;
            }
        }
    }
}

impl Heard {
    fn hear(&self, event: &notify::Result<Event>) {
        // An error means that events were missed, which is a reason to look again as well.
        let change = event.as_ref().map_or(Change::Moved, |event| change(event.kind));
        let matters = match change {
            Change::None => false,
            Change::Made | Change::Moved => true,
            Change::Begun | Change::Written => event.as_ref().is_ok_and(|event| self.wants(&event.paths)),
        };
        if matters {
            let is_unfinished = matches!(change, Change::Begun | Change::Made);
            self.unfinished.store(is_unfinished, Ordering::Relaxed);
            self.moved.notify_one();
        }
    }

    /// Returns whether one of `paths` is a file that matters, or one that is read in such a folder.
    fn wants(&self, paths: &[PathBuf]) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let in_folder = |path: &Path| {
            file::is_resource(path) && path.parent().is_some_and(|folder| wanted.contains(folder))
        };
        paths.is_empty() || paths.iter().any(|path| wanted.contains(path) || in_folder(path))
    }
}

/// Returns the names of what lies at `path`: as it was given, and where it links to.
fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    let given = std::path::absolute(path).ok();
    let real = fs::canonicalize(path).ok();
    [given, real].into_iter().flatten()
}

/// Returns the folders in which a change of `path` shows: its own, and itself if it is one.
fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let own = path.is_dir().then(|| path.to_owned());
    path.parent().map(Path::to_owned).into_iter().chain(own)
}

fn change(kind: EventKind) -> Change {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Change::Written,
        EventKind::Access(_) => Change::None,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => Change::Begun,
        EventKind::Create(_) => Change::Made,
        EventKind::Any | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => Change::Moved,
    }
}

/// How long nothing must change before files are read: of several that are replaced one after the other, one comes after
/// the other sooner than that.
const QUIET: Duration = Duration::from_millis(20);

/// How long a file that is being written must stay as it is, where nobody says that it is finished.
const UNFINISHED: Duration = Duration::from_millis(100);

/// How long files may go on changing before they are read all the same.
const LONGEST: Duration = Duration::from_secs(1);

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

    use notify::{
        Event, EventKind,
        event::{AccessKind, AccessMode, CreateKind, DataChange, ModifyKind, RenameMode},
    };
    use tokio::time;

    use super::{Heard, Watch};

    #[tokio::test]
    async fn what_others_write_beside_is_not_heard() {
        let heard = Heard::default();
        *heard.wanted.lock().unwrap() = ["/etc/a.yaml", "/srv"].map(PathBuf::from).into();
        let check = async |kind, path: &str, expected: bool| {
            heard.hear(&Ok(Event::new(kind).add_path(PathBuf::from(path))));
            let moved = time::timeout(Duration::ZERO, heard.moved.notified()).await;
            assert_eq!(moved.is_ok(), expected, "{kind:?} {path}");
        };
        let writing = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        for kind in [writing, written] {
            check(kind, "/etc/a.yaml", true).await;
            check(kind, "/etc/a.log", false).await;
            check(kind, "/etc/b.yaml", false).await;
            check(kind, "/srv/b.yaml", true).await;
            check(kind, "/srv/b.log", false).await;
        }
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        for kind in [renamed, EventKind::Create(CreateKind::Any)] {
            check(kind, "/etc/..data", true).await;
        }
        check(EventKind::Access(AccessKind::Read), "/etc/a.yaml", false).await;
        heard.hear(&Err(notify::Error::generic("events were lost")));
        assert!(
            time::timeout(Duration::ZERO, heard.moved.notified())
                .await
                .is_ok()
        );
    }

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
