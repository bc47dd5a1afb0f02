//! Which replica writes: a `coordination.k8s.io/v1` Lease, as client-go's leader election uses it.
//!
//! Clocks of different machines are never compared: a Lease counts as expired when this process has seen it unchanged
//! for the whole duration that it names. Time in which the API server was away does not count, for the holder could not
//! renew either.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{call, refusal};

/// A holder that has not renewed for this long has lost the Lease.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long stops writing, before others may begin.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Which Lease, and as whom.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Identity of this replica; no two may share one.
    pub identity: String,
}

/// Takes part in the election until `shutdown`, then gives the Lease up. `is_leader` follows what this replica is.
pub async fn run(
    client: Client,
    settings: LeaseSettings,
    is_leader: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
    let mut seen = Seen::default();
    let mut renewed: Option<Instant> = None;
    while !shutdown.is_cancelled() {
        // Others count from the renewal as they saw it, which is not before it was sent.
        let begun = Instant::now();
        let held_until = renewed.map(|at| at + RENEW_DEADLINE);
        let attempt = attempt(&api, &settings, &mut seen);
        let answer = match held_until.filter(|_| *is_leader.borrow()) {
            // However slow the API server is: who leads stops in time.
            Some(deadline) => timeout_at(deadline, attempt).await,
            None => Ok(attempt.await),
        };
        match answer {
            Ok(Ok(true)) => renewed = Some(begun),
            Ok(Ok(false)) => renewed = None,
            // A conflict means that another replica was faster, which the next attempt will see.
            Ok(Err(error)) if refusal(&error) == Some(409) => {}
            Ok(Err(error)) => warn!(lease = settings.name, %error, "the Lease could not be read or written"),
            Err(_) => warn!(lease = settings.name, "the Lease could not be renewed in time"),
        }
        let leads = renewed.is_some_and(|at| at.elapsed() < RENEW_DEADLINE);
        let changed = is_leader.send_if_modified(|was| std::mem::replace(was, leads) != leads);
        if changed {
            info!(lease = settings.name, identity = settings.identity, leads, "leadership changed");
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(held_until_next(renewed)) => {}
        }
    }
    if *is_leader.borrow() {
        release(&api, &settings).await;
        is_leader.send_replace(false);
    }
}

/// Until the next attempt: the pause, or what is left of the time in which the holder may write.
fn held_until_next(renewed: Option<Instant>) -> Duration {
    let left = renewed.map(|at| RENEW_DEADLINE.saturating_sub(at.elapsed())).filter(|left| !left.is_zero());
    left.map_or(RETRY, |left| left.min(RETRY))
}

/// The holder's last sign of life, as this process saw it.
#[derive(Debug, Default)]
struct Seen {
    renew_time: Option<MicroTime>,
    at: Option<Instant>,
    /// The last look.
    looked: Option<Instant>,
}

impl Seen {
    /// Notes the Lease and says for how long it has been as it is.
    fn unchanged_for(&mut self, spec: &LeaseSpec, now: Instant) -> Duration {
        let could_look = self.looked.is_some_and(|at| now.duration_since(at) < DURATION);
        self.looked = Some(now);
        if !could_look || self.at.is_none() || self.renew_time != spec.renew_time {
            self.renew_time.clone_from(&spec.renew_time);
            self.at = Some(now);
        }
        self.at.map(|at| now.duration_since(at)).unwrap_or_default()
    }
}

/// One round; whether the Lease is ours afterwards.
async fn attempt(api: &Api<Lease>, settings: &LeaseSettings, seen: &mut Seen) -> Result<bool, Error> {
    let Some(mut lease) = call(api.get_opt(&settings.name)).await? else {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(settings.name.clone()), ..ObjectMeta::default() },
            spec: Some(claim(None, &settings.identity)),
        };
        call(api.create(&PostParams::default(), &lease)).await?;
        return Ok(true);
    };
    let spec = lease.spec.take().unwrap_or_default();
    if !may_claim(&spec, &settings.identity, seen.unchanged_for(&spec, Instant::now())) {
        return Ok(false);
    }
    // `replace` carries the resource version that was read: of two replicas that claim at once, one gets a conflict.
    lease.spec = Some(claim(Some(&spec), &settings.identity));
    call(api.replace(&settings.name, &PostParams::default(), &lease)).await?;
    Ok(true)
}

fn may_claim(spec: &LeaseSpec, identity: &str, unchanged_for: Duration) -> bool {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let duration = spec.lease_duration_seconds.and_then(|seconds| seconds.try_into().ok());
    let duration = duration.map_or(DURATION, Duration::from_secs);
    holder.is_empty() || holder == identity || unchanged_for > duration
}

fn claim(before: Option<&LeaseSpec>, identity: &str) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let was_ours = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(identity));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    let acquired = before.filter(|_| was_ours).and_then(|spec| spec.acquire_time.clone());
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(if was_ours { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }
}

/// Leaves the Lease without a holder, so that the next replica need not wait for it to expire.
async fn release(api: &Api<Lease>, settings: &LeaseSettings) {
    let Ok(Some(mut lease)) = call(api.get_opt(&settings.name)).await else { return };
    let Some(spec) = lease.spec.as_mut() else { return };
    if spec.holder_identity.as_deref() == Some(settings.identity.as_str()) {
        spec.holder_identity = Some(String::new());
        if let Err(error) = call(api.replace(&settings.name, &PostParams::default(), &lease)).await {
            warn!(lease = settings.name, %error, "the Lease could not be given up, it will expire");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    /// An API server that grants the Lease, and from a moment on never answers.
    fn silent_after(silence: Duration) -> Client {
        let silence = Instant::now() + silence;
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| async move {
            if Instant::now() >= silence {
                std::future::pending::<()>().await;
            }
            let spec = if request.method() == http::Method::GET { held_by("a") } else { claim(None, "a") };
            let lease = Lease { spec: Some(spec), ..Lease::default() };
            let body = serde_json::to_vec(&lease).expect("JSON");
            Ok::<_, Error>(http::Response::new(http_body_util::Full::new(bytes::Bytes::from(body))))
        });
        Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_stops_in_time_when_the_api_server_answers_nothing() {
        // Silence at every point of an attempt and of the pause after it.
        for millis in (500..5000).step_by(250) {
            let silence = Duration::from_millis(millis);
            let begun = Instant::now();
            let (sender, mut leads) = watch::channel(false);
            let settings = LeaseSettings { namespace: "x".into(), name: "l".into(), identity: "a".into() };
            let election =
                tokio::spawn(run(silent_after(silence), settings, sender, CancellationToken::new()));
            leads.wait_for(|leads| *leads).await.expect("it runs");
            leads.wait_for(|leads| !*leads).await.expect("it runs");
            assert!(begun.elapsed() <= silence + RENEW_DEADLINE, "{:?} after {silence:?}", begun.elapsed());
            election.abort();
        }
    }

    #[test]
    fn a_lease_is_claimed_when_free_ours_or_expired() {
        let short = Duration::from_secs(14);
        assert!(may_claim(&LeaseSpec::default(), "a", Duration::ZERO));
        assert!(may_claim(&held_by(""), "a", Duration::ZERO));
        assert!(may_claim(&held_by("a"), "a", short));
        assert!(!may_claim(&held_by("b"), "a", short));
        assert!(may_claim(&held_by("b"), "a", Duration::from_secs(16)));
    }

    #[test]
    fn a_renewed_lease_counts_from_the_moment_it_was_seen() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let mut spec = held_by("b");
        spec.renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        assert_eq!(seen.unchanged_for(&spec, start), Duration::ZERO);
        assert_eq!(seen.unchanged_for(&spec, start + Duration::from_secs(9)), Duration::from_secs(9));
        assert_eq!(seen.unchanged_for(&spec, start + Duration::from_secs(11)), Duration::from_secs(11));
        spec.renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH + Duration::from_secs(1)));
        assert_eq!(seen.unchanged_for(&spec, start + Duration::from_secs(12)), Duration::ZERO);
    }

    #[test]
    fn a_holder_has_its_time_to_renew_when_the_api_server_is_back() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let spec = held_by("b");
        seen.unchanged_for(&spec, start);
        assert_eq!(seen.unchanged_for(&spec, start + Duration::from_secs(2)), Duration::from_secs(2));
        let back = start + Duration::from_secs(600);
        assert_eq!(seen.unchanged_for(&spec, back), Duration::ZERO);
        assert_eq!(seen.unchanged_for(&spec, back + Duration::from_secs(8)), Duration::from_secs(8));
    }

    #[test]
    fn a_renewal_keeps_the_time_of_acquiring_and_a_takeover_counts() {
        let first = claim(None, "a");
        let renewed = claim(Some(&first), "a");
        assert_eq!(
            (renewed.acquire_time.clone(), renewed.lease_transitions),
            (first.acquire_time, first.lease_transitions)
        );
        let taken = claim(Some(&renewed), "b");
        assert_eq!(taken.lease_transitions, renewed.lease_transitions.map(|count| count + 1));
        assert_eq!(taken.holder_identity.as_deref(), Some("b"));
    }
}
