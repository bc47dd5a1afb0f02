//! The role `controller`: one replica of several writes status and Events. Nothing waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::world::{World, WorldReceiver};
use crate::args::publish::PublishArgs;
use crate::args::webhook::WebhookCertificateArgs;
use crate::controller::addresses;
use crate::controller::data_plane::DataPlane;
use crate::controller::edge_status;
use crate::controller::events::{self, Notice};
use crate::controller::lease::{self, LeaseSettings};
use crate::controller::members::Maker;
use crate::controller::node_annotations;
use crate::controller::status::{self, StatusSettings};
use crate::controller::sync::Copier;
use crate::controller::webhook_certificate::{Keeper, WebhookSettings};
use crate::k8s::cluster::ObjectKey;
use crate::telemetry::metrics::{DEGRADED_NODES, Registry, Samples};

/// How often nodes, pods and the published Service are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often the data plane of few nodes is looked at that serve pools.
const LOOK_SOON: Duration = Duration::from_secs(2);
/// What is few.
const FEW_NODES: usize = 50;
/// How soon to try again when a copy could not be written.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How soon to go on when Events are left over.
const NEXT_ROUND: Duration = Duration::from_millis(250);

/// What the role needs to know.
#[derive(Clone, Debug)]
pub struct ControllerSettings {
    /// Which Lease elects the writer.
    pub lease: LeaseSettings,
    /// What to publish; `None`: status is left alone.
    pub status: Option<StatusSettings>,
    /// Labels of the data plane's pods; empty: this process is the data plane.
    pub pods_selector: String,
    /// Where figures are shown; `None`: nowhere.
    pub registry: Option<Arc<Registry>>,
    /// Where copies of referenced objects are kept, and the Leases of nodes; `None`: nowhere.
    pub copies: Option<String>,
    /// The webhook whose certificate is kept.
    pub webhook: Option<WebhookSettings>,
    /// The mode of each node is written to its Node.
    pub annotates_nodes: bool,
}

/// A flag whose value cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("--publish-service {0}: write namespace/name")]
pub struct SettingsError(String);

/// The Service whose addresses are published.
pub fn published_service(args: &PublishArgs) -> Result<Option<ObjectKey>, SettingsError> {
    let Some(text) = &args.publish_service else { return Ok(None) };
    ObjectKey::parse(text).map(Some).ok_or_else(|| SettingsError(text.clone()))
}

/// As ingress-nginx reads `--publish-status-address`: several with commas between them. The flag may be repeated, too.
fn addresses(given: &[String]) -> Vec<String> {
    let each = given.iter().flat_map(|text| text.split(',')).map(str::trim);
    each.filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

impl ControllerSettings {
    /// What the flags say. Without `--publish-pods` this process is the data plane itself, on the node `node_name`.
    pub fn new(args: &PublishArgs, node_name: &str) -> Self {
        let status = StatusSettings {
            fixed: addresses(&args.publish_status_address),
            of_service: args.publish_service.is_some(),
            pools: args.publish_address_pool.clone(),
            pods_namespace: args.election_namespace.clone(),
            pods_selector: args.publish_pods.clone().unwrap_or_default(),
            node_name: node_name.to_owned(),
            prefers_internal: args.report_node_internal_ip_address,
        };
        let lease = LeaseSettings {
            namespace: args.election_namespace.clone(),
            name: args.election_id.clone(),
            identity: args.identity.clone().unwrap_or_else(default_identity),
        };
        let pods_selector = status.pods_selector.clone();
        let status = args.update_status.then_some(status);
        Self {
            lease,
            status,
            pods_selector,
            registry: None,
            copies: None,
            webhook: None,
            annotates_nodes: args.annotate_nodes,
        }
    }
}

/// The webhook whose certificate the flags name.
pub fn webhook_settings(args: &WebhookCertificateArgs, publish: &PublishArgs) -> Option<WebhookSettings> {
    Some(WebhookSettings {
        configuration: args.webhook_configuration.clone()?,
        service: args.webhook_service.clone()?,
        secret: args.webhook_certificate_secret.clone()?,
        namespace: publish.election_namespace.clone(),
    })
}

fn default_identity() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}-{}", std::process::id())
}

/// Runs until `shutdown`.
pub async fn run(
    settings: ControllerSettings,
    client: Client,
    mut world: WorldReceiver,
    shutdown: CancellationToken,
) {
    let (leads, mut is_leader) = watch::channel(false);
    let election = tokio::spawn(lease::run(client.clone(), settings.lease.clone(), leads, shutdown.clone()));
    let data_plane = DataPlane::new(
        client.clone(),
        &settings.lease.namespace,
        &settings.pods_selector,
        settings.copies.clone(),
    );
    if let Some(registry) = &settings.registry {
        let count = data_plane.count();
        registry.register_collector(move |samples: &mut Samples| {
            samples.add(&DEGRADED_NODES, &[], count.load(Ordering::Relaxed) as f64);
        });
    }
    let mut writer = Writer {
        data_plane,
        degraded: Vec::new(),
        looked: None,
        node_annotations: (settings.annotates_nodes && settings.copies.is_some())
            .then(|| node_annotations::Publisher::new(client.clone())),
        maker: settings.copies.clone().map(Maker::new),
        copier: settings.copies.map(|namespace| Copier::new(client.clone(), namespace)),
        webhook: settings.webhook.map(|webhook| Keeper::new(client.clone(), webhook)),
        events: events::Publisher::new(client.clone(), settings.lease.identity),
        addresses: settings.status.is_some().then(|| addresses::Publisher::new(client.clone())),
        edge_status: settings.status.is_some().then(|| edge_status::Publisher::new(client.clone())),
        status: settings.status.map(|settings| status::Publisher::new(client, settings)),
    };
    loop {
        let build = world.borrow_and_update().clone();
        let mut wait = LOOK_AGAIN;
        let leads = *is_leader.borrow_and_update();
        match build.filter(|_| leads) {
            // What is under way when the Lease is lost is given up: another replica writes soon.
            Some(build) => tokio::select! {
                next = writer.round(&build) => wait = next,
                _ = is_leader.wait_for(|leads| !leads) => continue,
                () = shutdown.cancelled() => break,
            },
            None => writer.data_plane.pause(),
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = world.changed() => if changed.is_err() { break },
            // The sender lives as long as the election, which ends with `shutdown`.
            _ = is_leader.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    let _ = election.await;
}

/// What the holder of the Lease writes.
struct Writer {
    data_plane: DataPlane,
    degraded: Vec<Notice>,
    /// When the data plane was looked at.
    looked: Option<Instant>,
    node_annotations: Option<node_annotations::Publisher>,
    maker: Option<Maker>,
    copier: Option<Copier>,
    webhook: Option<Keeper>,
    events: events::Publisher,
    addresses: Option<addresses::Publisher>,
    edge_status: Option<edge_status::Publisher>,
    status: Option<status::Publisher>,
}

impl Writer {
    /// Brings everything to what this build says; when to go on if nothing changes.
    async fn round(&mut self, build: &World) -> Duration {
        let mut wait = LOOK_AGAIN;
        let patience = look_again(build);
        wait = wait.min(patience);
        if self.looked.is_none_or(|at| at.elapsed() >= patience) {
            self.degraded = self.data_plane.look().await;
            self.looked = Some(Instant::now());
        }
        // Agents wait for copies; nobody waits for the rest.
        let mut copies = build.copies.clone();
        let mut of_nodes = Vec::new();
        if let Some(maker) = &mut self.maker {
            let serving = self.data_plane.serving();
            of_nodes = maker.add(&build.members, serving, &mut copies, Timestamp::now());
        }
        if let Some(copier) = &mut self.copier
            && !copier.sync(&copies).await
        {
            wait = TRY_AGAIN;
        }
        if let Some(webhook) = &mut self.webhook {
            webhook.keep().await;
        }
        // Clients wait for addresses.
        let of_services = match &mut self.addresses {
            Some(addresses) => addresses.publish(&build.assignments).await,
            None => Vec::new(),
        };
        let refused = self.copier.iter().flat_map(Copier::refused);
        let notices = self
            .degraded
            .iter()
            .cloned()
            .chain(refused)
            .chain(of_nodes)
            .chain(of_services)
            .chain(self.data_plane.nodes().notices(&build.members.policies))
            .chain(notices(build));
        if self.events.publish(notices).await {
            wait = NEXT_ROUND;
        }
        if let Some(nodes) = &mut self.node_annotations
            && let Some(modes) = self.data_plane.modes()
        {
            nodes.publish(&build.members.nodes, modes).await;
        }
        if let Some(status) = &mut self.edge_status {
            let (edge, assignments) = (&build.model.edge, &*build.assignments);
            status
                .publish(&build.members, (edge, assignments), &build.problems, self.data_plane.nodes())
                .await;
        }
        if let Some(status) = &mut self.status
            && status.publish(&build.model.edge, build.published_service.as_deref(), &build.ingresses).await
        {
            wait = Duration::ZERO;
        }
        wait
    }
}

/// How often the data plane is looked at: more often where nodes join pools, unless they are very many.
fn look_again(build: &World) -> Duration {
    let members = &build.members;
    let is_small = members.nodes.len() <= FEW_NODES && !members.pools.is_empty();
    if is_small { LOOK_SOON } else { LOOK_AGAIN }
}

fn notices(build: &World) -> impl Iterator<Item = Notice> + '_ {
    let synced = build.ingresses.iter().map(|ingress| Notice::sync(&ingress.object));
    synced.chain(build.problems.iter().map(Notice::problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_addresses_are_published_with_commas_or_by_repeating_the_flag() {
        let given = ["198.18.0.1, lb.example.test,".to_owned(), "2001:db8::1".to_owned()];
        assert_eq!(addresses(&given), ["198.18.0.1", "lb.example.test", "2001:db8::1"]);
        assert!(addresses(&[String::new()]).is_empty(), "an empty flag names nothing");
    }
}
