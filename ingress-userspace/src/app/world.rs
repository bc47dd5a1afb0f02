//! The one debounced loop of a process: sources → Cluster view → translate → [`World`].
//!
//! A change starts a short hold-off that further changes prolong, up to a maximum. A build that equals the one before is
//! not published. A Problem is logged once, when it appears.

mod settings;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::args::SourceArgs;
use crate::controller::members;
use crate::controller::sync::Work;
use crate::k8s::client::{ConnectError, connect};
use crate::k8s::cluster::{Cluster, ObjectKey};
use crate::k8s::folder::Folder;
use crate::k8s::folder::watch::Watch;
use crate::k8s::reflect::freshness::Freshness;
use crate::k8s::reflect::sources::Access;
use crate::k8s::reflect::{Pace, Reflectors, Wanted};
use crate::link::messages::ModelVersion;
use crate::model::Model;
use crate::problem::{Problem, Severity};
use crate::translate::references::{Reference, ReferenceKind};
use crate::translate::{Assignment, OurIngress, Reuse, Settings, translate_with};

pub use settings::{SettingsError, settings, wanted};

/// A change is acted on when this long nothing more came.
const HOLD_OFF: Duration = Duration::from_millis(30);
/// Changes that keep coming are acted on at least this often: the shorter, the less the last build took.
const LONGEST_HOLD_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(300)];
/// How soon to look again at a folder with a broken or unfinished file, and when that did not help many times.
const UNSETTLED: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// Looks before the second, slower pace.
const QUICK_LOOKS: u32 = 30;

/// One build of the world. Everything behind it (agent, controller) reads this and nothing of Kubernetes.
#[derive(Debug)]
pub struct World {
    /// Counts builds that differ from the one before.
    pub version: ModelVersion,
    /// What to serve.
    pub model: Arc<Model>,
    /// What is wrong, ordered.
    pub problems: Vec<Problem>,
    /// The Ingresses that are ours, for status.
    pub ingresses: Arc<[OurIngress]>,
    /// The Service whose addresses are published.
    pub published_service: Option<Arc<Service>>,
    /// The addresses of Services.
    pub assignments: Arc<[Assignment]>,
    /// What the controller copies.
    pub copies: Work,
    /// What it makes the list of nodes of.
    pub members: members::Sources,
}

/// The newest build; `None` until every source was ready once.
pub type WorldReceiver = watch::Receiver<Option<Arc<World>>>;

/// Where the Cluster view comes from.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per process")]
pub enum Source {
    /// A folder of manifests.
    Folder(Folder),
    /// An API server.
    Api(Reflectors),
}

impl Source {
    /// Whether what it says is followed; a folder always is.
    pub fn freshness(&self) -> Freshness {
        match self {
            Self::Folder(_) => Freshness::default(),
            Self::Api(reflectors) => reflectors.freshness(),
        }
    }
}

/// The source that the flags name. Reflectors start at once.
pub async fn source(args: &SourceArgs, settings: &Settings) -> Result<Source, ConnectError> {
    if let Some(root) = &args.manifests {
        return Ok(Source::Folder(Folder::new(root)));
    }
    let client = connect(args.kubeconfig.as_deref()).await?;
    let wanted = Wanted { pace: Pace { period: args.sync_period }, ..wanted(settings) };
    Ok(Source::Api(Reflectors::start(&client, &wanted)))
}

/// Starts the loop. It ends when `shutdown` is cancelled.
pub fn spawn(
    source: Source,
    settings: Settings,
    shutdown: CancellationToken,
) -> (WorldReceiver, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(None);
    let builder = Builder {
        settings,
        reuse: Reuse::default(),
        sender,
        version: 0,
        known: BTreeSet::new(),
        took: Duration::ZERO,
    };
    let task = tokio::spawn(async move {
        let follow = async {
            match source {
                Source::Folder(folder) => follow_folder(folder, builder).await,
                Source::Api(reflectors) => follow_api(&reflectors, builder).await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follow => {}
        }
    });
    (receiver, task)
}

async fn follow_folder(mut folder: Folder, mut builder: Builder) {
    let mut watch = Watch::start(folder.root());
    if let Some(error) = &watch.fallback {
        warn!(folder = %folder.root().display(), error, "no change events for this folder, it is polled");
    }
    let mut scan = folder.scan(&watch.being_written());
    builder.build_folder(&folder);
    let mut looks = 0;
    loop {
        if scan.is_unsettled {
            let [quick, slow] = UNSETTLED;
            let pace = if looks < QUICK_LOOKS { quick } else { slow };
            looks = if tokio::time::timeout(pace, watch.changed()).await.is_ok() { 0 } else { looks + 1 };
        } else {
            looks = 0;
            watch.changed().await;
        }
        let first = Instant::now();
        while first.elapsed() < builder.longest_hold_off() && watch.changed_within(HOLD_OFF).await {}
        if watch.is_stale(folder.root()) {
            watch = Watch::start(folder.root());
        }
        scan = folder.scan(&watch.being_written());
        if scan.is_changed {
            builder.build_folder(&folder);
        }
    }
}

async fn follow_api(reflectors: &Reflectors, mut builder: Builder) {
    loop {
        reflectors.changed().await;
        let first = Instant::now();
        while first.elapsed() < builder.longest_hold_off()
            && tokio::time::timeout(HOLD_OFF, reflectors.changed()).await.is_ok()
        {}
        if reflectors.is_ready() {
            builder.build_api(reflectors);
        }
    }
}

/// Turns views into published builds.
struct Builder {
    settings: Settings,
    reuse: Reuse,
    sender: watch::Sender<Option<Arc<World>>>,
    version: ModelVersion,
    /// Problems of the last build, which are in the log already.
    known: BTreeSet<Problem>,
    /// What the last build took.
    took: Duration,
}

impl Builder {
    /// A folder that was never there is reported and not published: an empty world would look like an order to serve
    /// nothing.
    fn build_folder(&mut self, folder: &Folder) {
        let cluster = folder.cluster();
        if folder.was_read() { self.build(&cluster) } else { self.log(&cluster.problems) }
    }

    fn build_api(&mut self, reflectors: &Reflectors) {
        self.build_with(&reflectors.cluster(), |cluster, references| {
            let mut work = Work::default();
            (work.secret_copies, work.config_map_copies) = reflectors.copies();
            for Reference { kind, key } in references {
                match kind {
                    ReferenceKind::Secret => {
                        work.secrets.extend(cluster.secrets.get_key_value(key).map(owned))
                    }
                    ReferenceKind::ConfigMap => {
                        work.config_maps.extend(cluster.config_maps.get_key_value(key).map(owned));
                    }
                }
            }
            work
        });
    }

    fn build(&mut self, cluster: &Cluster) {
        self.build_with(cluster, |_, _| Work::default());
    }

    /// Under changes that never stop, a fifth of the time goes into builds at most, unless one takes very long.
    fn longest_hold_off(&self) -> Duration {
        let [least, most] = LONGEST_HOLD_OFF;
        (self.took * 4).clamp(least, most)
    }

    fn build_with(
        &mut self,
        cluster: &Cluster,
        referenced: impl FnOnce(&Cluster, &BTreeSet<Reference>) -> Work,
    ) {
        let started = Instant::now();
        let translation =
            translate_with(&mut self.reuse, cluster, &self.settings, jiff::Timestamp::now().as_second());
        self.took = started.elapsed();
        self.log(&translation.problems);
        let (copies, members) = match &self.settings.access {
            Access::Copying(_) => {
                (referenced(cluster, &translation.references), member_sources(cluster, &self.settings))
            }
            _ => Default::default(),
        };
        let published_service = self.settings.published_service.as_ref();
        let published_service = published_service.and_then(|key| cluster.services.get(key)).cloned();
        let before = self.sender.borrow().clone();
        let is_same = before.as_deref().is_some_and(|before| {
            before.model == translation.model
                && before.problems == translation.problems
                && before.ingresses == translation.ingresses
                && before.published_service == published_service
                && before.assignments == translation.assignments
                && before.copies == copies
                && before.members == members
        });
        if is_same {
            debug!("nothing changed");
            return;
        }
        // Receivers compare models by address: an equal one keeps it, so that only Problems or status change.
        let model = match &before {
            Some(before) if before.model == translation.model => Arc::clone(&before.model),
            _ => translation.model,
        };
        self.version += 1;
        if before.is_some_and(|before| Arc::ptr_eq(&before.model, &model)) {
            debug!(
                version = self.version,
                problems = translation.problems.len(),
                "problems or status changed"
            );
        } else {
            info!(
                version = self.version,
                ingresses = translation.ingresses.len(),
                hosts = model.hosts.len(),
                problems = translation.problems.len(),
                took_us = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
                "model published"
            );
        }
        let world = World {
            version: self.version,
            model,
            problems: translation.problems,
            ingresses: translation.ingresses,
            published_service,
            assignments: translation.assignments,
            copies,
            members,
        };
        self.sender.send_replace(Some(Arc::new(world)));
    }

    fn log(&mut self, problems: &[Problem]) {
        for problem in problems.iter().filter(|problem| !self.known.contains(*problem)) {
            let Problem { object, code, severity, field, value, message } = problem;
            match severity {
                Severity::Note => {
                    debug!(%object, ?code, ?severity, field, value, detail = message, "problem")
                }
                _ => warn!(%object, ?code, ?severity, field, value, detail = message, "problem"),
            }
        }
        self.known = problems.iter().cloned().collect();
    }
}

fn member_sources(cluster: &Cluster, settings: &Settings) -> members::Sources {
    members::Sources {
        nodes: cluster.nodes.clone(),
        pools: cluster.address_pools.clone(),
        policies: cluster.edge_policies.clone(),
        has_key: settings.cluster_key.as_ref().is_some_and(|key| cluster.secrets.contains_key(key)),
    }
}

fn owned<T>((key, object): (&ObjectKey, &Arc<T>)) -> (ObjectKey, Arc<T>) {
    (key.clone(), Arc::clone(object))
}

#[cfg(test)]
mod tests;
