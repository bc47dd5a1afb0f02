//! The last model, kept for a start while the API server is away.
//!
//! The file holds the keys of certificates. It is written to memory-backed storage only, by a process that alone may open
//! it, and replaced as a whole. It is read by the same build of the model, for the same cluster and flags, or not at all;
//! Problems, status and Events never come from it. Its modification time is when it was last known to be current.

mod file;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::app::world::WorldReceiver;
use crate::error_chain::chain;
use crate::link::messages::ModelVersion;
use crate::model::Model;
use file::Unusable;

/// The least time between two writes.
const PAUSE: Duration = Duration::from_millis(100);
/// A write is followed by a pause of as many times its own length: however large the model and however often it changes,
/// keeping it takes a twentieth of a processor at most.
const SHARE: u32 = 20;

/// Where the model is kept, and for whom.
#[derive(Clone, Debug)]
pub struct LastModel {
    path: PathBuf,
    /// Digest of what the model was made from.
    origin: [u8; 32],
}

/// A model that an earlier process kept.
#[derive(Debug)]
pub struct Kept {
    /// Its number in that process.
    pub version: ModelVersion,
    /// The model.
    pub model: Arc<Model>,
    /// Second at which it was last known to be current.
    pub current_at: i64,
}

/// How long a start waits for the API server before it begins with the last model.
const FIRST_WORLD: Duration = Duration::from_secs(1);

/// What to begin with: the first world or, when there is none in time, what an earlier process kept.
pub(super) async fn first(world: &mut WorldReceiver, last_model: Option<&LastModel>) -> Option<Kept> {
    let mut of_world = async || {
        let first = world.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(Kept { version: first.version, model: Arc::clone(&first.model), current_at: 0 })
    };
    let Some(last_model) = last_model else { return of_world().await };
    if let Ok(first) = tokio::time::timeout(FIRST_WORLD, of_world()).await {
        return first;
    }
    let Some(kept) = last_model.read().await else { return of_world().await };
    let age = now().saturating_sub(kept.current_at);
    warn!(
        version = kept.version,
        age_seconds = age,
        "the API server was not reached yet, serving the last model"
    );
    Some(kept)
}

impl LastModel {
    /// Kept in `path`; `origin` is everything that tells this model from one of another cluster or of other flags.
    pub fn new(path: PathBuf, origin: &impl Debug) -> Self {
        let mut sum = [0; 32];
        for (to, from) in sum.iter_mut().zip(digest(&SHA256, format!("{origin:?}").as_bytes()).as_ref()) {
            *to = *from;
        }
        Self { path, origin: sum }
    }

    /// What an earlier process kept, if it is of use.
    pub(super) async fn read(&self) -> Option<Kept> {
        let this = self.clone();
        let path = self.path.display();
        match tokio::task::spawn_blocking(move || file::read(&this.path, &this.origin)).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(error @ (Unusable::OtherLayout | Unusable::OtherOrigin))) => {
                info!(%path, reason = %error, "the last model is not used");
                None
            }
            Ok(Err(error)) => {
                warn!(%path, error = %chain(&error), "the last model cannot be used");
                None
            }
            Err(error) => {
                warn!(%path, %error, "the last model cannot be used");
                None
            }
        }
    }

    /// Starts to keep what [`Keeper::keep`] is given.
    pub(super) fn start(self) -> Keeper {
        let (newest, seen) = watch::channel(None);
        let end = CancellationToken::new();
        let task = tokio::spawn(follow(self.clone(), seen, end.clone()));
        Keeper { file: self, newest, task, end }
    }
}

type Newest = Option<(ModelVersion, Arc<Model>)>;

/// Writes the newest model; never waited for.
#[derive(Debug)]
pub(super) struct Keeper {
    file: LastModel,
    newest: watch::Sender<Newest>,
    task: JoinHandle<()>,
    end: CancellationToken,
}

impl Keeper {
    /// This is the newest.
    pub(super) fn keep(&self, version: ModelVersion, model: &Arc<Model>) {
        self.newest.send_replace(Some((version, Arc::clone(model))));
    }

    /// What is kept is current.
    pub(super) fn confirm(&self) {
        if let Err(error) = file::touch(&self.file.path) {
            // There is none as long as none could be written, which was said.
            debug!(%error, "the time of the last model could not be set");
        }
    }

    /// Writes what is not written yet.
    pub(super) async fn end(self) {
        self.end.cancel();
        drop(self.newest);
        // It panicked, which is in the log.
        let _ = self.task.await;
    }
}

async fn follow(file: LastModel, mut newest: watch::Receiver<Newest>, end: CancellationToken) {
    let mut failure = String::new();
    while newest.changed().await.is_ok() {
        let Some((version, model)) = newest.borrow_and_update().clone() else { continue };
        let (to, begun) = (file.clone(), Instant::now());
        let written =
            tokio::task::spawn_blocking(move || file::write(&to.path, &to.origin, version, &model)).await;
        let error = match written {
            Ok(Ok(bytes)) => {
                debug!(version, bytes, "model kept");
                String::new()
            }
            Ok(Err(error)) => chain(&error),
            Err(error) => error.to_string(),
        };
        if error != failure && !error.is_empty() {
            warn!(path = %file.path.display(), error, "the model is not kept: a start without the API server serves nothing");
        }
        failure = error;
        tokio::select! {
            () = tokio::time::sleep(PAUSE.max(begun.elapsed() * SHARE)) => {}
            () = end.cancelled() => {}
        }
    }
}

/// The second of now.
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

#[cfg(test)]
mod tests;
