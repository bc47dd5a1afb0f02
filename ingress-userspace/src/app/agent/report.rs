//! Tells the cluster how this node serves: its Lease, written on every change and as a sign of life.
//!
//! Nothing waits for it. While the API server is away it tries again, and says so once.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::state::AgentState;
use crate::error_chain::chain;
use crate::k8s::node_lease::{Figures, NodeReport, PERIOD};

/// Owner of the fields.
const MANAGER: &str = "portcullis-agent";
/// After a failure.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two writes, however often the state changes.
const PAUSE: Duration = Duration::from_secs(1);

/// As whom, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// This node.
    pub node: String,
    /// This pod.
    pub pod: String,
}

/// Follows the state. Ends with what fills it.
pub async fn run(client: Client, settings: ReportSettings, mut state: watch::Receiver<AgentState>) {
    let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
    let mut told: Option<NodeReport> = None;
    let mut failure = String::new();
    // Before the first world the agent serves nothing, and knows no mode.
    while state.wait_for(|state| !state.mode.is_empty()).await.is_ok() {
        let (now, figures) = {
            let state = state.borrow_and_update();
            (report(&settings, &state, told.as_ref()), figures(&state))
        };
        let lease = now.lease(&settings.namespace, &figures, Timestamp::now());
        let (params, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&lease));
        let write = timeout(CALL_TIMEOUT, api.patch(&settings.node, &params, &patch));
        let answer = match write.await {
            Ok(answer) => answer.map(|_| ()).map_err(|error| chain(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let begun = Instant::now();
        let due = match answer {
            Ok(()) => {
                if !failure.is_empty() {
                    failure.clear();
                    info!(lease = settings.node, "the Lease of this node is written again");
                }
                told = Some(now);
                begun + PERIOD
            }
            Err(error) => {
                if error != failure {
                    warn!(lease = settings.node, error, "the Lease of this node could not be written");
                    failure = error;
                }
                begun + TRY_AGAIN
            }
        };
        loop {
            tokio::select! {
                () = sleep_until(due) => break,
                changed = state.changed() => if changed.is_err() { return },
            }
            let now = report(&settings, &state.borrow_and_update(), told.as_ref());
            if told.as_ref().is_some_and(|told| !told.is_as(&now)) {
                sleep_until(due.min(begun + PAUSE)).await;
                break;
            }
        }
    }
}

fn figures(state: &AgentState) -> Figures {
    let AgentState { interfaces, addresses, entries, .. } = state;
    Figures { interfaces: interfaces.clone(), addresses: *addresses, entries: entries.clone() }
}

/// What is to be told; `since` moves when something else is.
fn report(settings: &ReportSettings, state: &AgentState, told: Option<&NodeReport>) -> NodeReport {
    let problems: Vec<&str> = state.degraded.iter().chain(&state.failing).map(String::as_str).collect();
    let now = NodeReport {
        node: settings.node.clone(),
        pod: settings.pod.clone(),
        mode: state.mode.to_owned(),
        is_beside: state.is_beside,
        problems: problems.join("; "),
        is_failing: !state.failing.is_empty(),
        unenforced: state.unenforced.clone(),
        since: String::new(),
        bans: state.bans.words(),
    };
    let same = told.filter(|told| told.is_as(&now));
    let since = same.map_or_else(|| Timestamp::now().to_string(), |told| told.since.clone());
    NodeReport { since, ..now }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::StatusCode;
    use serde_json::Value;

    use super::*;
    use crate::controller::testing;

    fn settings() -> ReportSettings {
        ReportSettings { namespace: "synced".into(), node: "node-1".into(), pod: "edge-1".into() }
    }

    async fn passes(time: Duration) {
        // In steps, so that what is due in between is done.
        for _ in 0..time.as_secs() * 4 {
            tokio::time::advance(Duration::from_millis(250)).await;
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_soon_and_a_sign_of_life_every_half_minute() {
        let (client, log) = testing::client(|seen| (StatusCode::OK, seen.body.clone()));
        let (sender, state) = watch::channel(AgentState::default());
        let task = tokio::spawn(run(client, settings(), state));
        let seen = || log.lock().expect("lock").clone();
        passes(Duration::from_secs(40)).await;
        assert!(seen().is_empty(), "nothing is known yet");
        sender.send_modify(|state| state.mode = "xdp-native");
        passes(Duration::from_secs(2)).await;
        let first = seen();
        assert_eq!(first.len(), 1);
        assert!(first[0].path.starts_with("/apis/coordination.k8s.io/v1/namespaces/synced/leases/node-1?"));
        assert_eq!(first[0].body["metadata"]["annotations"]["portcullis.dev/mode"], "xdp-native");
        assert_eq!(first[0].body["metadata"]["annotations"]["portcullis.dev/problems"], Value::Null);
        sender.send_modify(|state| state.version = 7);
        passes(Duration::from_secs(20)).await;
        assert_eq!(seen().len(), 1, "a new configuration is not told");
        passes(Duration::from_secs(10)).await;
        assert_eq!(seen().len(), 2, "a sign of life");
        sender.send_modify(|state| state.failing = vec!["kernel maps".to_owned()]);
        passes(Duration::from_secs(2)).await;
        assert_eq!(seen()[2].body["metadata"]["annotations"]["portcullis.dev/problems"], "kernel maps");
        drop(sender);
        task.await.expect("it ends with the agent");
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_trying_while_it_is_refused() {
        let refuses = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&refuses);
        let (client, log) = testing::client(move |seen| match asked.load(Ordering::Relaxed) {
            true => testing::refuse(StatusCode::FORBIDDEN, "Forbidden"),
            false => (StatusCode::OK, seen.body.clone()),
        });
        let (_sender, state) = watch::channel(AgentState { mode: "userspace", ..AgentState::default() });
        let task = tokio::spawn(run(client, settings(), state));
        passes(Duration::from_secs(21)).await;
        assert_eq!(log.lock().expect("lock").len(), 5);
        refuses.store(false, Ordering::Relaxed);
        passes(Duration::from_secs(29)).await;
        assert_eq!(log.lock().expect("lock").len(), 6, "once it was written, there is time");
        task.abort();
    }
}
