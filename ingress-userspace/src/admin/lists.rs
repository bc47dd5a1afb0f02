//! `/lists`: what the entries of deny lists caught, as the agent of this process knows it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::StatusCode;

use super::State;

type Ask = dyn Fn() -> Result<String, String> + Send + Sync;

/// Whom to ask. Empty in a process without an agent.
#[derive(Clone, Default)]
pub struct Lists(Arc<OnceLock<Box<Ask>>>);

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists").finish_non_exhaustive()
    }
}

impl Lists {
    /// From now on this is asked: the entries as JSON, or why they cannot be told. The first one stays.
    pub fn told_by(&self, ask: impl Fn() -> Result<String, String> + Send + Sync + 'static) {
        // A process has one agent.
        let _ = self.0.set(Box::new(ask));
    }
}

pub(super) async fn answer(state: &State) -> (StatusCode, String) {
    let lists = state.lists.clone();
    if lists.0.get().is_none() {
        return (StatusCode::NOT_FOUND, "this process has no agent\n".to_owned());
    }
    // It reads thousands of entries of a map: not on a thread that others wait for.
    let told =
        tokio::task::spawn_blocking(move || lists.0.get().map_or_else(|| Ok("[]".to_owned()), |ask| ask()));
    match told.await {
        Ok(Ok(text)) => (StatusCode::OK, format!("{text}\n")),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
