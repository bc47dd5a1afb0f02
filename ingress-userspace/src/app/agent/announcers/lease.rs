//! The agreement by Leases: watches them, and writes its own share.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Client, Error};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::Inputs;
use super::race::{RENEW, Race, Step};
use crate::error_chain::chain;
use crate::k8s::pool_lease::{self, LABEL};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(100);
/// A call that takes longer has failed: the next one may still be in time.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Takes part until its inputs end.
pub(super) async fn run(client: Client, namespace: &str, mut inputs: Inputs) {
    let api: Api<Lease> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().labels(&format!("{LABEL}=true"));
    let mut events = pin!(watch(api.clone(), config).default_backoff());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut writer =
        Writer { api, race: Race::new(&inputs.node), node: inputs.node.clone(), failure: String::new() };
    let mut listed = BTreeSet::new();
    // While there is no watch, Leases are read.
    let mut read: Option<Instant> = None;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    read = None;
                    hear(&mut writer.race, event, &mut listed);
                }
                // A write that fails says so.
                Some(Err(_)) => read = read.or_else(|| Some(Instant::now())),
                None => return,
            },
            changed = inputs.seats.changed() => if changed.is_err() { return },
            _ = tick.tick() => {}
        }
        let seats = inputs.seats.borrow_and_update().clone();
        let down = inputs.down.borrow_and_update().clone();
        if read.is_some_and(|due| due <= Instant::now()) {
            read = Some(Instant::now() + RENEW);
            let others = seats.iter().filter(|seat| !writer.race.announced().contains(&seat.pool));
            for pool in others.map(|seat| seat.pool.clone()).collect::<Vec<_>>() {
                writer.read(&pool, &pool_lease::name(&pool)).await;
            }
        }
        for step in writer.race.steps(&seats, &down, Instant::now()) {
            writer.write(step).await;
        }
        inputs.publish(writer.race.announced().clone(), writer.race.holders());
    }
}

fn hear(race: &mut Race, event: Event<Lease>, listed: &mut BTreeSet<String>) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(lease) => {
            if let Some(pool) = pool_lease::pool(&lease) {
                listed.insert(pool.clone());
                race.hear(&pool, lease, Instant::now());
            }
        }
        Event::InitDone => race.keep(listed),
        Event::Apply(lease) => {
            if let Some(pool) = pool_lease::pool(&lease) {
                race.hear(&pool, lease, Instant::now());
            }
        }
        Event::Delete(lease) => {
            if let Some(pool) = pool_lease::pool(&lease) {
                race.forget(&pool);
            }
        }
    }
}

struct Writer {
    api: Api<Lease>,
    race: Race,
    node: String,
    /// Said already.
    failure: String,
}

impl Writer {
    async fn write(&mut self, step: Step) {
        let begun = Instant::now();
        let (pool, lease, before) = match step {
            Step::Create(pool) => {
                let lease = pool_lease::held(&pool, &self.node, &Lease::default(), Timestamp::now());
                (pool, lease, None)
            }
            Step::Hold(pool, before) => {
                let lease = pool_lease::held(&pool, &self.node, &before, Timestamp::now());
                (pool, lease, Some(before))
            }
            Step::Release(pool, before) => {
                let lease = pool_lease::released(&pool, &before);
                (pool, lease, Some(before))
            }
        };
        let name = pool_lease::name(&pool);
        let answer = timeout(CALL_TIMEOUT, async {
            match before {
                None => self.api.create(&PostParams::default(), &lease).await,
                Some(_) => self.api.patch(&name, &PatchParams::default(), &Patch::Merge(&lease)).await,
            }
        });
        let failure = match answer.await {
            Ok(Ok(lease)) => {
                self.race.note(&pool, lease, Instant::now());
                self.race.wrote(&pool, begun);
                if !self.failure.is_empty() {
                    info!(pool, "the Lease of the pool is written again");
                    self.failure.clear();
                }
                return;
            }
            // Another was faster, or made it, or removed it: look.
            Ok(Err(Error::Api(status))) if matches!(status.code, 404 | 409) => {
                self.read(&pool, &name).await;
                return;
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        if failure != self.failure {
            warn!(pool, error = failure, "the Lease of the pool could not be written, trying again");
            self.failure = failure;
        }
        self.race.failed(&pool, Instant::now());
        self.race.was_away(Instant::now());
    }

    async fn read(&mut self, pool: &str, name: &str) {
        match timeout(CALL_TIMEOUT, self.api.get_opt(name)).await {
            Ok(Ok(Some(lease))) => self.race.note(pool, lease, Instant::now()),
            Ok(Ok(None)) => self.race.forget(pool),
            // The next write fails as well, and says so.
            Ok(Err(_)) | Err(_) => self.race.failed(pool, Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, StatusCode};
    use serde_json::{Value, json};
    use tokio::sync::watch;

    use super::super::{Agreed, Seat};
    use super::*;
    use crate::controller::testing;

    /// An API server that holds the one Lease, and checks versions. Watches get nothing.
    fn server() -> (Client, Arc<Mutex<Option<Value>>>) {
        let held: Arc<Mutex<Option<Value>>> = Arc::default();
        let lease = Arc::clone(&held);
        let (client, _) = testing::client(move |seen| {
            let mut lease = lease.lock().expect("lock");
            let version = |lease: &Value| {
                lease["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok())
            };
            match (&seen.method, &*lease) {
                (&Method::GET, _) if !seen.path.contains("portcullis-pool.") => {
                    testing::refuse(StatusCode::FORBIDDEN, "Forbidden")
                }
                (&Method::GET, Some(found)) => (StatusCode::OK, found.clone()),
                (&Method::POST, Some(_)) => testing::refuse(StatusCode::CONFLICT, "AlreadyExists"),
                (&Method::POST, None) => {
                    let mut new = seen.body.clone();
                    new["metadata"]["resourceVersion"] = json!("1");
                    *lease = Some(new.clone());
                    (StatusCode::OK, new)
                }
                (&Method::PATCH, Some(found)) if version(found) == version(&seen.body) => {
                    let mut new = seen.body.clone();
                    let next = version(found).unwrap_or_default() + 1;
                    new["metadata"]["resourceVersion"] = json!(next.to_string());
                    *lease = Some(new.clone());
                    (StatusCode::OK, new)
                }
                (&Method::PATCH, Some(_)) => testing::refuse(StatusCode::CONFLICT, "Conflict"),
                _ => testing::refuse(StatusCode::NOT_FOUND, "NotFound"),
            }
        });
        (client, held)
    }

    fn join(
        client: &Client,
        node: &str,
        wait: u64,
    ) -> (watch::Sender<Vec<Seat>>, watch::Receiver<Agreed>, tokio::task::JoinHandle<()>) {
        let seat =
            Seat { pool: "edge".into(), is_eligible: true, nodes: vec![], wait: Duration::from_millis(wait) };
        let (seats, seats_seen) = watch::channel(vec![seat]);
        let (down, down_seen) = watch::channel(BTreeSet::new());
        let (sender, agreed) = watch::channel(Agreed::default());
        let inputs = Inputs { node: node.to_owned(), seats: seats_seen, down: down_seen, agreed: sender };
        let client = client.clone();
        let task = tokio::spawn(async move {
            let _down = down;
            run(client, "synced", inputs).await;
        });
        (seats, agreed, task)
    }

    #[tokio::test(start_paused = true)]
    async fn one_node_announces_and_the_other_within_three_seconds_of_its_end() {
        let (client, _) = server();
        let (_seats_a, mut a, task_a) = join(&client, "a", 0);
        a.wait_for(|agreed| agreed.announced.contains("edge")).await.expect("it runs");
        let (_seats_b, mut b, _task_b) = join(&client, "b", 50);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(a.borrow().announced.contains("edge") && b.borrow().announced.is_empty(), "one alone");
        assert_eq!(b.borrow().holders["edge"], "a");
        task_a.abort();
        let dead = Instant::now();
        b.wait_for(|agreed| agreed.announced.contains("edge")).await.expect("it runs");
        assert!(dead.elapsed() < Duration::from_secs(3), "{:?}", dead.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_drains_gives_it_away_at_once() {
        let (client, held) = server();
        let (seats, mut a, _task_a) = join(&client, "a", 0);
        a.wait_for(|agreed| agreed.announced.contains("edge")).await.expect("it runs");
        seats.send_modify(|seats| seats[0].is_eligible = false);
        a.wait_for(|agreed| agreed.announced.is_empty()).await.expect("it runs");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let holder = held.lock().expect("lock").clone().expect("a Lease")["spec"]["holderIdentity"].clone();
        assert_eq!(holder, json!(""));
        let (_seats_b, mut b, _task_b) = join(&client, "b", 0);
        b.wait_for(|agreed| agreed.announced.contains("edge")).await.expect("it runs");
    }
}
