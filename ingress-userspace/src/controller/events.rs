//! Problems and first syncs as Kubernetes Events.
//!
//! An Event's name is a hash of what it says, so that a restart or a second replica does not repeat it: the API server
//! answers "exists already" until the Event's own lifetime (an hour by default) is over. So many are written per second and no
//! more, however fast the world changes. What is new comes before what waits, mistakes before notices, and each namespace
//! has its turn: a mistake is seen at once also while thousands of Events wait, and also while another team makes
//! thousands of mistakes. An object that changes all the time is told less often.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{call, refusal};
use crate::problem::{ObjectRef, Problem, Severity};

/// The same Event is not tried again before.
const QUIET: Duration = Duration::from_secs(600);
/// Most Events per second, and at once; the rest waits for the next round.
const PER_SECOND: u32 = 20;
/// Events of one object within [`QUIET`]: enough for every mistake that an object has, not for one that flaps.
const MOST_PER_OBJECT: u32 = 25;
/// What of the object's name goes into the Event's, which may have 253 characters.
const LONGEST_NAME: usize = 253 - 17;
/// Longest `note` that the API server takes is 1,024 bytes.
const LONGEST_NOTE: usize = 1000;

/// What an Event says of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    object: ObjectRef,
    is_warning: bool,
    reason: &'static str,
    note: String,
    /// Tells what happened again from what was told already; not shown.
    occurrence: String,
}

impl Notice {
    /// A mistake in an object.
    pub fn problem(problem: &Problem) -> Self {
        let value = if problem.value.is_empty() { String::new() } else { format!(" = {:?}", problem.value) };
        let mut note = format!("{}{value}: {} [{}]", problem.field, problem.message, problem.code.name());
        if note.len() > LONGEST_NOTE {
            let end = note.char_indices().map(|(at, _)| at).take_while(|at| *at < LONGEST_NOTE).last();
            note.truncate(end.unwrap_or_default());
        }
        Self {
            object: problem.object.clone(),
            is_warning: problem.severity != Severity::Note,
            reason: problem.code.event_reason(),
            note,
            occurrence: String::new(),
        }
    }

    /// A pod of the data plane that does not serve, or not as it should.
    pub fn degraded(pod: ObjectRef, note: String, occurrence: String) -> Self {
        Self { object: pod, is_warning: true, reason: "DataplaneDegraded", note, occurrence }
    }

    /// A pod of the data plane that was degraded and serves as it should again.
    pub fn recovered(pod: ObjectRef, note: String, occurrence: String) -> Self {
        Self { object: pod, is_warning: false, reason: "DataplaneRecovered", note, occurrence }
    }

    /// A policy for which a node banned sources.
    pub fn banned(policy: ObjectRef, node: &str, words: &str) -> Self {
        let note = format!("{node} banned {words}; `portcullis bans` on the node lists them and lifts them");
        Self { object: policy, is_warning: false, reason: "SourcesBanned", note, occurrence: String::new() }
    }

    /// An object that agents cannot get.
    pub fn not_copied(object: ObjectRef, note: &str) -> Self {
        let note = note.get(..note.floor_char_boundary(LONGEST_NOTE)).unwrap_or_default().to_owned();
        Self { object, is_warning: true, reason: "CopyRefused", note, occurrence: String::new() }
    }

    /// A Service that has its addresses.
    pub fn assigned(object: ObjectRef, addresses: &[IpAddr]) -> Self {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let note = format!("serves the addresses {}", addresses.join(", "));
        Self { object, is_warning: false, reason: "AddressAssigned", note, occurrence: String::new() }
    }

    /// A Service that could have addresses.
    pub fn too_old(object: ObjectRef) -> Self {
        let note = "the API server does not know ipMode in the status of Services (Kubernetes before 1.30), without which \
                    kube-proxy would take the addresses over; none is assigned: publish the addresses of a pool by \
                    --publish-address-pool, without a Service"
            .to_owned();
        Self { object, is_warning: true, reason: "Unsupported", note, occurrence: String::new() }
    }

    /// An Ingress that is served.
    pub fn sync(object: &ObjectRef) -> Self {
        let note = "Scheduled for sync".to_owned();
        Self { object: object.clone(), is_warning: false, reason: "Sync", note, occurrence: String::new() }
    }

    /// Tells it from others that say the same.
    pub fn occurrence(&self) -> &str {
        &self.occurrence
    }

    fn name(&self) -> String {
        // Fixed keys: the name must be the same in every process.
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        // Names of objects may have 253 characters already.
        let object: String = self.object.name.chars().take(LONGEST_NAME).collect();
        format!("{object}.{:016x}", hasher.finish())
    }

    fn event(&self, identity: &str) -> Event {
        let namespace = if self.object.namespace.is_empty() { "default" } else { &self.object.namespace };
        Event {
            metadata: ObjectMeta {
                name: Some(self.name()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some(self.reason.to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(self.note.clone()),
            reason: Some(self.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(self.object.api_version.clone()),
                kind: Some(self.object.kind.clone()),
                name: Some(self.object.name.clone()),
                namespace: Some(self.object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
                uid: Some(self.object.uid.clone()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some("portcullis".to_owned()),
            reporting_instance: Some(identity.to_owned()),
            type_: Some(if self.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

/// Publishes what is new, at most once in ten minutes each.
pub struct Publisher {
    client: Client,
    identity: String,
    published: HashMap<Notice, Instant>,
    /// What the last round was given.
    known: HashSet<Notice>,
    /// Events per object since its first one.
    counts: HashMap<ObjectRef, (u32, Instant)>,
    /// Events that may be written now, and since when there were that few.
    allowed: (u32, Instant),
}

impl Publisher {
    /// `identity` names this replica in the Events.
    pub fn new(client: Client, identity: String) -> Self {
        Self {
            client,
            identity,
            published: HashMap::new(),
            known: HashSet::new(),
            counts: HashMap::new(),
            allowed: (PER_SECOND, Instant::now()),
        }
    }

    /// Publishes those of the notices that were not published lately; whether some are left for the next round.
    pub async fn publish(&mut self, notices: impl IntoIterator<Item = Notice>) -> bool {
        let now = Instant::now();
        self.published.retain(|_, at| now.duration_since(*at) < QUIET);
        self.counts.retain(|_, (_, since)| now.duration_since(*since) < QUIET);
        let due = self.due(notices);
        self.refill(now);
        for notice in due {
            let (told, _) = self.counts.entry(notice.object.clone()).or_insert((0, now));
            if *told >= MOST_PER_OBJECT {
                continue;
            }
            let Some(left) = self.allowed.0.checked_sub(1) else { return true };
            self.allowed.0 = left;
            *told += 1;
            let Entry::Vacant(entry) = self.published.entry(notice) else { continue };
            let event = entry.key().event(&self.identity);
            let namespace = event.metadata.namespace.clone().unwrap_or_default();
            let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
            match call(api.create(&PostParams::default(), &event)).await {
                Ok(_) => debug!(object = %entry.key().object, reason = entry.key().reason, "event published"),
                Err(error) if refusal(&error) == Some(409) => {}
                // Refused, as in a namespace that is being deleted: later, and no reason to hold back the others.
                Err(error) if matches!(refusal(&error), Some(400..=499)) => {
                    warn!(object = %entry.key().object, %error, "an Event was refused");
                }
                Err(error) => {
                    // Not marked as published: the next round tries again.
                    warn!(object = %entry.key().object, %error, "an Event could not be written");
                    return true;
                }
            }
            entry.insert(now);
        }
        false
    }

    /// What was not published lately, in the order in which it should be.
    fn due(&mut self, notices: impl IntoIterator<Item = Notice>) -> Vec<Notice> {
        // Without UID, the object is none of the cluster's: a file, or a kind that is not installed.
        let notices: Vec<Notice> =
            notices.into_iter().filter(|notice| !notice.object.uid.is_empty()).collect();
        let waiting = notices.iter().filter(|notice| !self.published.contains_key(notice));
        let rank =
            |notice: &Notice| (self.known.contains(notice), !notice.is_warning, notice.reason == "Sync");
        let mut turns: HashMap<_, u32> = HashMap::new();
        let mut due: Vec<_> = waiting
            .map(|notice| {
                let rank = rank(notice);
                let turn = turns.entry((rank, &notice.object.namespace)).or_insert(0);
                *turn += 1;
                ((rank, *turn), notice.clone())
            })
            .collect();
        // Stable: of equal rank and turn, as given.
        due.sort_by_key(|(place, _)| *place);
        let due = due.into_iter().map(|(_, notice)| notice).collect();
        self.known = notices.into_iter().collect();
        due
    }

    /// Adds what the time since the last call allows.
    fn refill(&mut self, now: Instant) {
        let (left, since) = self.allowed;
        let each = Duration::from_secs(1) / PER_SECOND;
        let more = now.duration_since(since).as_millis() / each.as_millis();
        let more = u32::try_from(more).unwrap_or(PER_SECOND).min(PER_SECOND);
        let left = left.saturating_add(more);
        self.allowed =
            if left >= PER_SECOND { (PER_SECOND, now) } else { (left, since + each.saturating_mul(more)) };
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::super::testing;
    use super::*;
    use crate::problem::Code;

    fn problem(message: &str) -> Problem {
        Problem {
            object: ObjectRef {
                api_version: "networking.k8s.io/v1".to_owned(),
                kind: "Ingress".to_owned(),
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                uid: "1234".to_owned(),
            },
            code: Code::AnnotationInvalid,
            severity: Severity::Warning,
            field: "metadata.annotations[limit-rps]".to_owned(),
            value: "ten".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn an_event_names_object_field_value_and_fix() {
        let event = Notice::problem(&problem("write a whole number")).event("replica-1");
        assert_eq!(event.reason.as_deref(), Some("AnnotationParsingFailed"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        let note = event.note.unwrap();
        assert_eq!(
            note,
            "metadata.annotations[limit-rps] = \"ten\": write a whole number [AnnotationInvalid]"
        );
        let regarding = event.regarding.unwrap();
        assert_eq!((regarding.kind.as_deref(), regarding.uid.as_deref()), (Some("Ingress"), Some("1234")));
    }

    #[test]
    fn equal_notices_share_a_name_and_others_do_not() {
        let name = |message: &str| Notice::problem(&problem(message)).name();
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let notice = Notice::problem(&problem(&"é".repeat(2000)));
        assert!(notice.note.len() <= LONGEST_NOTE);
    }

    #[test]
    fn cluster_scoped_objects_have_their_events_in_default() {
        let mut problem = problem("x");
        problem.object.namespace.clear();
        let event = Notice::problem(&problem).event("replica-1");
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.regarding.unwrap().namespace, None);
    }

    fn object(namespace: &str, name: usize) -> ObjectRef {
        ObjectRef { namespace: namespace.to_owned(), name: format!("web-{name}"), ..problem("x").object }
    }

    fn mistake(namespace: &str, name: usize) -> Notice {
        Notice::problem(&Problem { object: object(namespace, name), ..problem("y") })
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_mistake_is_told_before_what_waits() {
        let (client, log) = testing::client(|seen| (StatusCode::CREATED, seen.body.clone()));
        let mut publisher = Publisher::new(client, "replica-1".to_owned());
        let waiting: Vec<Notice> = (0..100).map(|name| Notice::sync(&object("shop", name))).collect();
        assert!(publisher.publish(waiting.clone()).await, "more than one round");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(publisher.publish(waiting.into_iter().chain([mistake("shop", 1)])).await);
        let log = log.lock().expect("lock");
        assert_eq!(log[20].body["reason"], "AnnotationParsingFailed", "first of the second round");
    }

    #[tokio::test(start_paused = true)]
    async fn the_mistakes_of_one_namespace_do_not_hide_those_of_another() {
        let (client, log) = testing::client(|seen| (StatusCode::CREATED, seen.body.clone()));
        let mut publisher = Publisher::new(client, "replica-1".to_owned());
        let storm = |count: usize| (0..count).map(|name| mistake("a", name));
        assert!(publisher.publish(storm(1000)).await);
        tokio::time::advance(Duration::from_millis(500)).await;
        // The storm goes on, and somebody else makes one mistake.
        assert!(publisher.publish(storm(1500).chain([mistake("b", 1)])).await);
        let log = log.lock().expect("lock");
        assert_eq!(log.len(), 30, "as many as the time allows");
        assert!(log[20..22].iter().any(|seen| seen.path.contains("/namespaces/b/")), "{:?}", log[21].path);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_does_not_depend_on_how_often_the_world_changes() {
        let (client, log) = testing::client(|seen| (StatusCode::CREATED, seen.body.clone()));
        let mut publisher = Publisher::new(client, "replica-1".to_owned());
        for round in 0..100 {
            publisher.publish((0..10 * round).map(|name| mistake("a", name))).await;
            tokio::time::advance(Duration::from_millis(33)).await;
        }
        let count = log.lock().expect("lock").len();
        assert!((80..=86).contains(&count), "{count} in 3.3 s");
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_flaps_is_told_less_often() {
        let (client, log) = testing::client(|seen| (StatusCode::CREATED, seen.body.clone()));
        let mut publisher = Publisher::new(client, "replica-1".to_owned());
        for round in 0..40 {
            assert!(!publisher.publish([Notice::problem(&problem(&format!("{round}")))]).await);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(log.lock().expect("lock").len(), 25);
    }

    #[tokio::test]
    async fn a_refused_event_does_not_hold_back_the_others() {
        let (client, log) = testing::client(|seen| match seen.path.contains("/namespaces/gone/") {
            true => testing::refuse(StatusCode::FORBIDDEN, "Forbidden"),
            false => (StatusCode::CREATED, seen.body.clone()),
        });
        let mut gone = problem("x");
        gone.object.namespace = "gone".to_owned();
        let notices = || [Notice::problem(&gone), Notice::problem(&problem("y"))];
        let mut publisher = Publisher::new(client, "replica-1".to_owned());
        assert!(!publisher.publish(notices()).await, "nothing is left for the next round");
        assert!(!publisher.publish(notices()).await);
        assert_eq!(log.lock().expect("lock").len(), 2, "each was tried once");
    }
}
