//! Temporary files for bodies that do not fit into memory.
//!
//! A file has no name: it is gone when the process is, however it ends. All files of the process together have a limit. Reads
//! and writes go through the runtime's blocking threads, so that a slow disk holds up its own request alone. When there is no
//! room left, or the folder cannot be written, the log says so at most every ten seconds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;

/// A folder that cannot be written is said no more often.
const PAUSE: Duration = Duration::from_secs(10);

/// Where temporary files are made, and how much of them there may be.
#[derive(Debug)]
pub struct TempStore {
    folder: PathBuf,
    most: u64,
    used: AtomicU64,
    names: AtomicU64,
    started: Instant,
    /// When a failure may be said again, in milliseconds since the start.
    quiet_until: AtomicU64,
}

/// A temporary file: bytes that are appended, and read at any place.
#[derive(Debug)]
pub struct TempFile {
    file: Arc<File>,
    store: Arc<TempStore>,
    /// Bytes that count against the limit of the store.
    reserved: u64,
}

impl TempStore {
    /// In this folder, `most` bytes of all files together.
    pub fn new(folder: PathBuf, most: u64) -> Self {
        Self {
            folder,
            most,
            used: AtomicU64::new(0),
            names: AtomicU64::new(0),
            started: Instant::now(),
            quiet_until: AtomicU64::new(0),
        }
    }

    /// Whether files can be made.
    pub fn check(&self) -> io::Result<()> {
        self.open().map(|_| ())
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "the limit of temporary files is reached"))
            }
        }
    }

    /// Says why there is no file, and hands the error on.
    fn told<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| {
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let now = self.started.elapsed();
            let until = self.quiet_until.load(Ordering::Relaxed);
            let is_next = millis(now) >= until
                && self
                    .quiet_until
                    .compare_exchange(until, millis(now + PAUSE), Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
            if is_next {
                warn!(
                    %error, folder = %self.folder.display(), used = self.used(), limit = self.most,
                    "no room in temporary files: requests whose body does not fit into memory are answered 500, answers are \
                     not buffered; raise --temp-limit or free the disk"
                );
            }
        })
    }

    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let flags = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).unwrap_or_default();
        match options.clone().custom_flags(flags).open(&self.folder) {
            Ok(file) => Ok(file),
            // Not every file system has files without names.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOTSUP.raw_os_error()) => {
                self.open_and_unlink(options.create_new(true))
            }
            Err(error) => Err(named(&self.folder, &error)),
        }
    }

    fn open_and_unlink(&self, options: &OpenOptions) -> io::Result<File> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("portcullis-{}-{number}", std::process::id()));
        let file = options.open(&path).map_err(|error| named(&path, &error))?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl TempFile {
    /// An empty one.
    pub async fn create(store: &Arc<TempStore>) -> io::Result<Self> {
        let opener = Arc::clone(store);
        let opened = spawn_blocking(move || opener.open()).await.map_err(io::Error::other)?;
        let file = store.told(opened)?;
        Ok(Self { file: Arc::new(file), store: Arc::clone(store), reserved: 0 })
    }

    /// Writes bytes at a place.
    pub async fn write(&mut self, bytes: Bytes, at: u64) -> io::Result<()> {
        let written = self.start_write(bytes, at)?.await.map_err(io::Error::other)?;
        self.store.told(written)
    }

    /// Begins to write bytes at a place.
    pub fn start_write(&mut self, bytes: Bytes, at: u64) -> io::Result<JoinHandle<io::Result<()>>> {
        let end = at + bytes.len() as u64;
        if let Some(more) = end.checked_sub(self.reserved) {
            self.store.told(self.store.reserve(more))?;
            self.reserved = end;
        }
        let file = Arc::clone(&self.file);
        Ok(spawn_blocking(move || file.write_all_at(&bytes, at)))
    }

    /// Reads `length` bytes at a place; they must have been written.
    pub fn read(&self, at: u64, length: usize) -> JoinHandle<io::Result<Bytes>> {
        let file = Arc::clone(&self.file);
        spawn_blocking(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at)?;
            Ok(Bytes::from(bytes))
        })
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        self.store.used.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_have_no_name_and_share_a_limit() {
        let folder = std::env::temp_dir().join(format!("portcullis-temp-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let store = Arc::new(TempStore::new(folder.clone(), 10));
        let mut file = TempFile::create(&store).await.unwrap();
        file.write(Bytes::from_static(b"abcdef"), 0).await.unwrap();
        file.write(Bytes::from_static(b"XY"), 2).await.unwrap();
        assert_eq!(file.read(1, 4).await.unwrap().unwrap(), "bXYe");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        let mut other = TempFile::create(&store).await.unwrap();
        let full = other.write(Bytes::from_static(b"12345"), 0).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        other.write(Bytes::from_static(b"1234"), 0).await.unwrap();
        drop(file);
        assert_eq!(store.used(), 4);
        drop(other);
        let unlinked =
            store.open_and_unlink(OpenOptions::new().read(true).write(true).create_new(true)).unwrap();
        drop(unlinked);
        assert_eq!((store.used(), std::fs::read_dir(&folder).unwrap().count()), (0, 0));
        std::fs::remove_dir(&folder).unwrap();
        let gone = TempFile::create(&store).await.unwrap_err();
        assert!(gone.to_string().contains("portcullis-temp-"), "{gone}");
    }
}
