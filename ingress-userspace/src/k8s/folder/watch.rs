//! Says when the folder must be looked at again: inotify where it works, a slow look in any case.
//!
//! A file that is still open for writing is reported as such, so that a half-written one is not read; a writer that
//! keeps it open and writes no more is waited for only so long. Nothing here reads manifests.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// How long a writer that keeps a file open, and writes no more, is waited for.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);
/// How often to look without events: file systems exist that have none, and links whose target changes elsewhere.
const SLOW_LOOK: Duration = Duration::from_secs(5);
/// The same where inotify is not available at all.
const POLL: Duration = Duration::from_millis(200);

/// Follows a folder.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    /// Dropping it ends the watch.
    _watcher: Option<RecommendedWatcher>,
    interval: Duration,
    /// The folder that is followed; another one may take its name.
    root: Option<u64>,
    /// Why events are not available, for the log.
    pub fallback: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The folder as it was given; events name their files by its absolute path.
    root: PathBuf,
    changed: Notify,
    writing: Mutex<HashMap<PathBuf, Instant>>,
}

impl Watch {
    /// Starts to follow `root`. Without inotify (limits, file system) it polls, and says so in `fallback`.
    pub fn start(root: &Path) -> Self {
        let shared = Arc::new(Shared { root: root.to_owned(), ..Shared::default() });
        match watcher(root, &shared) {
            Ok(watcher) => Self {
                shared,
                _watcher: Some(watcher),
                interval: SLOW_LOOK,
                root: inode(root),
                fallback: None,
            },
            Err(error) => Self {
                shared,
                _watcher: None,
                interval: POLL,
                root: inode(root),
                fallback: Some(error.to_string()),
            },
        }
    }

    /// Whether the name stands for another folder than the one that is followed.
    pub fn is_stale(&self, root: &Path) -> bool {
        let now = inode(root);
        now.is_some() && now != self.root
    }

    /// Resolves when the folder may have changed, or when it is time for a look in any case.
    pub async fn changed(&self) {
        let _ = tokio::time::timeout(self.interval, self.shared.changed.notified()).await;
    }

    /// Waits this long for a further event; whether one came.
    pub async fn changed_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.shared.changed.notified()).await.is_ok()
    }

    /// Files that somebody is writing right now.
    pub fn being_written(&self) -> HashSet<PathBuf> {
        let mut writing = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.retain(|_, since| since.elapsed() < WRITER_PATIENCE);
        writing.keys().cloned().collect()
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|meta| meta.ino())
}

fn watcher(root: &Path, shared: &Arc<Shared>) -> notify::Result<RecommendedWatcher> {
    let sink = Arc::clone(shared);
    let mut watcher =
        notify::recommended_watcher(move |event: notify::Result<notify::Event>| sink.take(event))?;
    watcher.watch(root, RecursiveMode::Recursive)?;
    // A root that is a link, or a file that editors replace, changes in the folder above.
    let is_link = root.symlink_metadata().is_ok_and(|meta| meta.is_symlink() || meta.is_file());
    if let (true, Some(above)) = (is_link, root.parent().filter(|above| !above.as_os_str().is_empty())) {
        watcher.watch(above, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

impl Shared {
    /// A file of an event as the folder names it, which may be relative.
    fn as_given(&self, path: PathBuf) -> PathBuf {
        let Ok(absolute) = std::path::absolute(&self.root) else { return path };
        match path.strip_prefix(absolute) {
            Ok(rest) if rest.as_os_str().is_empty() => self.root.clone(),
            Ok(rest) => self.root.join(rest),
            Err(_) => path,
        }
    }

    fn take(&self, event: notify::Result<notify::Event>) {
        // An error (a queue that ran over) means: anything may have changed.
        let Ok(event) = event else { return self.changed.notify_one() };
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => {
                for path in event.paths {
                    writing.insert(self.as_given(path), Instant::now());
                }
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => {
                for path in event.paths {
                    writing.remove(&self.as_given(path));
                }
            }
            // Our own reading must not wake us.
            EventKind::Access(_) => return,
            _ => {}
        }
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use notify::event::DataChange;

    use super::*;

    fn event(kind: EventKind, path: &Path) -> notify::Result<notify::Event> {
        Ok(notify::Event::new(kind).add_path(path.to_owned()))
    }

    #[test]
    fn a_file_is_being_written_until_it_is_closed_also_in_a_relative_folder() {
        let file = std::path::absolute("manifests/a.yaml").unwrap();
        let watch = |root: &str| Watch {
            shared: Arc::new(Shared { root: root.into(), ..Shared::default() }),
            _watcher: None,
            interval: POLL,
            root: None,
            fallback: None,
        };
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let touched = EventKind::Modify(ModifyKind::Metadata(notify::event::MetadataKind::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let above = file.parent().unwrap().to_string_lossy().into_owned();
        for (root, name) in [("manifests", "manifests/a.yaml"), (&above, &file.to_string_lossy())] {
            let watch = watch(root);
            watch.shared.take(event(written, &file));
            watch.shared.take(event(touched, &file));
            assert_eq!(watch.being_written(), HashSet::from([PathBuf::from(name)]), "{root}");
            watch.shared.take(event(closed, &file));
            assert_eq!(watch.being_written(), HashSet::new(), "{root}");
        }
    }
}
