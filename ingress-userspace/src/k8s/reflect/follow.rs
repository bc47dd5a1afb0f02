//! Follows one kind: list, watch, and list again.
//!
//! A watch that was interrupted goes on where it ended, and one that hangs is opened again by the watcher after five
//! minutes. Neither is enough after a backup of etcd was restored: numbers of versions went backwards, and a watch that
//! goes on behind the newest of them hears nothing until they have caught up. So everything is listed again in two cases,
//! by a new watcher: soon after a watch broke, for no backup is restored under a running API server, and every ten
//! minutes in any case. Both moments are spread, so that the nodes of a cluster do not ask at once, and lists come in
//! pages. A list that says what is known already changes nothing.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::freshness::Freshness;
use super::store::Writer;
use super::{Kept, State};
use crate::error_chain::chain;

/// A list whose next page, or whose refusal, takes longer has hung: it is begun again.
const PATIENCE: Duration = Duration::from_secs(120);
/// After a broken watch everything is listed again within this time, or a tenth of the period if that is less.
const AFTER_BREAK: Duration = Duration::from_secs(60);

/// When everything is listed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// About this long after the list before; zero: only after a watch broke.
    pub period: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { period: Duration::from_secs(600) }
    }
}

impl Pace {
    /// How long a list holds: the period, give or take a fifth.
    fn next(self) -> Option<Duration> {
        (!self.period.is_zero()).then(|| self.period.mul_f64(0.8 + 0.4 * random()))
    }

    /// How long after a break.
    fn after_break(self) -> Duration {
        let longest = if self.period.is_zero() { AFTER_BREAK } else { AFTER_BREAK.min(self.period / 10) };
        longest.mul_f64(0.1 + 0.9 * random())
    }
}

/// From 0 to 1; good enough to spread load.
fn random() -> f64 {
    f64::from((RandomState::new().hash_one(0_u8) >> 32) as u32) / f64::from(u32::MAX)
}

/// What a watch tells about itself.
pub(super) struct Follow<K> {
    pub(super) api: Api<K>,
    pub(super) config: watcher::Config,
    pub(super) pace: Pace,
    pub(super) writer: Writer<K>,
    pub(super) state: Arc<State>,
    pub(super) changed: Arc<Notify>,
    pub(super) freshness: Freshness,
    /// Number of this watch.
    pub(super) number: usize,
    /// The last failure, which is in the log already.
    pub(super) failure: String,
}

impl<K: Kept> Follow<K> {
    /// Never ends.
    pub(super) async fn run(mut self) {
        loop {
            self.list_and_watch().await;
        }
    }

    /// Until it is time to list again.
    async fn list_and_watch(&mut self) {
        let stream = watcher::watcher(self.api.clone(), self.config.clone()).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut due = Some(Instant::now() + PATIENCE);
        let (mut is_listed, mut is_broken) = (false, false);
        loop {
            let time = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = stream.next() => event,
                () = time => None,
            };
            match event {
                None => {
                    debug!(kind = %K::kind(&()), is_listed, is_broken, "listing again");
                    return;
                }
                Some(Ok(event)) => {
                    if matches!(event, Event::InitDone) {
                        (is_listed, is_broken) = (true, false);
                        due = self.pace.next().map(|time| Instant::now() + time);
                    } else if matches!(event, Event::Init | Event::InitApply(_)) {
                        is_listed = false;
                        due = Some(Instant::now() + PATIENCE);
                    }
                    self.hear(event);
                }
                Some(Err(error)) => {
                    if !is_listed {
                        due = Some(Instant::now() + PATIENCE);
                    } else if !is_broken {
                        is_broken = true;
                        let soon = Instant::now() + self.pace.after_break();
                        due = Some(due.map_or(soon, |due| due.min(soon)));
                    }
                    self.fail(&error);
                }
            }
        }
    }

    fn hear(&mut self, event: Event<K>) {
        let is_first = match event {
            // Nothing is known before the list is complete; not even that the server is there.
            Event::Init | Event::InitApply(_) => {
                self.writer.apply(event);
                return;
            }
            Event::InitDone => {
                let was_missing = self.state.is_missing.swap(false, Ordering::AcqRel);
                !self.state.is_ready.swap(true, Ordering::AcqRel) || was_missing
            }
            Event::Apply(_) | Event::Delete(_) => false,
        };
        self.freshness.regain(self.number);
        if !self.failure.is_empty() {
            self.failure.clear();
            info!(kind = %K::kind(&()), "watch works again");
        }
        if self.writer.apply(event) || is_first {
            self.changed.notify_one();
        }
    }

    fn fail(&mut self, error: &watcher::Error) {
        if is_not_installed(error) {
            self.freshness.regain(self.number);
            let was_missing = self.state.is_missing.swap(true, Ordering::AcqRel);
            let was_ready = self.state.is_ready.swap(true, Ordering::AcqRel);
            if !was_missing || !was_ready {
                self.changed.notify_one();
            }
            return;
        }
        self.freshness.lose(self.number);
        let text = chain(error);
        if text != self.failure {
            warn!(kind = %K::kind(&()), error = text, "watch failed, retrying with what is known");
            self.failure = text;
        }
    }
}

fn is_not_installed(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_spread_around_the_period_and_come_soon_after_a_break() {
        let pace = Pace::default();
        for _ in 0..100 {
            let next = pace.next().expect("a period").as_secs();
            assert!((480..=720).contains(&next), "{next}");
            let after = pace.after_break();
            assert!(after >= Duration::from_secs(6) && after <= AFTER_BREAK, "{after:?}");
        }
        let quick = Pace { period: Duration::from_secs(20) };
        assert!(quick.after_break() <= Duration::from_secs(2));
        let never = Pace { period: Duration::ZERO };
        assert_eq!(never.next(), None);
        assert!(never.after_break() <= AFTER_BREAK, "a broken watch is a reason in any case");
    }
}
