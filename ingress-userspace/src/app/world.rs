//! The one debounced loop of a process: sources → Cluster view → translate → [`World`].
//!
//! A change starts a short hold-off that further changes prolong, up to a maximum. A build that equals the one before is
//! not published. A Problem is logged once, when it appears.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::args::{PortArgs, RuleArgs, SourceArgs};
use crate::controller::sync::Work;
use crate::k8s::class::ClassRules;
use crate::k8s::client::{ConnectError, connect};
use crate::k8s::cluster::{Cluster, ObjectKey};
use crate::k8s::folder::Folder;
use crate::k8s::folder::watch::Watch;
use crate::k8s::reflect::freshness::Freshness;
use crate::k8s::reflect::sources::Access;
use crate::k8s::reflect::{Pace, Reflectors, Wanted};
use crate::k8s::selector::Selector;
use crate::link::messages::ModelVersion;
use crate::model::Model;
use crate::problem::{Problem, Severity};
use crate::translate::references::{Reference, ReferenceKind};
use crate::translate::{OurIngress, Reuse, Settings, translate_with};

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
    /// What the controller copies.
    pub copies: Work,
}

/// The newest build; `None` until every source was ready once.
pub type WorldReceiver = watch::Receiver<Option<Arc<World>>>;

/// A flag whose value cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The name of an object.
    #[error("--{flag} {value}: write namespace/name")]
    Object {
        /// Which.
        flag: &'static str,
        /// As given.
        value: String,
    },
    /// `--watch-namespace-selector`.
    #[error("--watch-namespace-selector {value}: {reason}")]
    Selector {
        /// As given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What translation needs of the flags.
pub fn settings(rules: &RuleArgs, ports: &PortArgs) -> Result<Settings, SettingsError> {
    let object = |flag, value: &Option<String>| match value {
        None => Ok(None),
        Some(text) => match ObjectKey::parse(text) {
            Some(key) => Ok(Some(key)),
            None => Err(SettingsError::Object { flag, value: text.clone() }),
        },
    };
    Ok(Settings {
        classes: ClassRules {
            controllers: rules.controller_class.clone(),
            name: rules.ingress_class.clone(),
            by_name: rules.ingress_class_by_name,
            with_classless: rules.watch_ingress_without_class,
        },
        annotations_prefix: rules.annotations_prefix.clone(),
        namespace_selector: selector(rules)?,
        is_catch_all_disabled: rules.disable_catch_all,
        watch_namespace: rules.watch_namespace.clone().filter(|namespace| !namespace.is_empty()),
        access: Access::Originals,
        secret_namespaces: Vec::new(),
        config_map: object("configmap", &rules.configmap)?,
        default_backend: object("default-backend-service", &rules.default_backend_service)?,
        published_service: None,
        default_certificate: object("default-ssl-certificate", &rules.default_ssl_certificate)?,
        is_serving: true,
        http_port: ports.http_port,
        https_port: ports.https_port,
        healthz_port: Settings::default().healthz_port,
        tcp_services: object("tcp-services-configmap", &rules.tcp_services_configmap)?,
        udp_services: object("udp-services-configmap", &rules.udp_services_configmap)?,
        enable_external_names: !rules.disable_svc_external_name,
        enable_ssl_passthrough: rules.enable_ssl_passthrough,
        zone: zone(rules),
    })
}

/// The zone whose endpoints are preferred.
fn zone(rules: &RuleArgs) -> Option<String> {
    let zone = rules.node_zone.clone().filter(|zone| !zone.is_empty());
    if rules.enable_topology_aware_routing && zone.is_none() {
        warn!(
            "--enable-topology-aware-routing needs --node-zone (NODE_ZONE), endpoints of all zones are used"
        );
    }
    zone.filter(|_| rules.enable_topology_aware_routing)
}

fn selector(rules: &RuleArgs) -> Result<Option<Selector>, SettingsError> {
    let Some(text) = rules.watch_namespace_selector.as_ref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match Selector::parse(text) {
        Ok(selector) => Ok(Some(selector)),
        Err(reason) => Err(SettingsError::Selector { value: text.clone(), reason }),
    }
}

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

/// What of a cluster must be watched.
pub fn wanted(settings: &Settings) -> Wanted {
    Wanted {
        namespace: settings.watch_namespace.clone(),
        config_maps: {
            let named = [&settings.config_map, &settings.tcp_services, &settings.udp_services];
            let named: BTreeSet<&ObjectKey> = named.into_iter().flatten().collect();
            named.into_iter().cloned().collect()
        },
        access: settings.access.clone(),
        secret_namespaces: settings.secret_namespaces.clone(),
        secrets: settings.default_certificate.iter().cloned().collect(),
        services: settings.default_backend.iter().chain(&settings.published_service).cloned().collect(),
        namespaces: settings.namespace_selector.is_some(),
        pace: Pace::default(),
    }
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
        let copies = match &self.settings.access {
            Access::Copying(_) => referenced(cluster, &translation.references),
            _ => Work::default(),
        };
        let published_service = self.settings.published_service.as_ref();
        let published_service = published_service.and_then(|key| cluster.services.get(key)).cloned();
        let before = self.sender.borrow().clone();
        let is_same = before.as_deref().is_some_and(|before| {
            before.model == translation.model
                && before.problems == translation.problems
                && before.ingresses == translation.ingresses
                && before.published_service == published_service
                && before.copies == copies
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
            copies,
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

fn owned<T>((key, object): (&ObjectKey, &Arc<T>)) -> (ObjectKey, Arc<T>) {
    (key.clone(), Arc::clone(object))
}

#[cfg(test)]
mod tests;
