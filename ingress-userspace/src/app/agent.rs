//! The role `agent`: the world → kernel maps, programs, routes; the model → every connected proxy; their sockets → slots.
//!
//! It decides once, at the first world, how the node serves: by the kernel half or, where that cannot run, in
//! `userspace` mode, each step down with one message. From then on nothing here waits for anything but the next event.
//! While the API server is away it begins with the last model, which an earlier process of the same pod kept.

pub mod announcers;
mod apply;
mod bans;
mod crier;
pub mod drops;
mod figures;
mod follow;
mod hear;
pub mod hits;
mod ipip;
pub mod last_model;
mod pools;
pub mod report;
mod retake;
pub mod settings;
mod start;
pub mod state;
mod steering;
mod unmet;
mod vip_routes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::Stale;
use crate::app::world::WorldReceiver;
use crate::bpf::interfaces::Interface;
use crate::bpf::kernel::Kernel;
use crate::bpf::slots::listening::is_listening;
use crate::compile::maps::owners::ListOwners;
use crate::compile::unmet::Unmet;
use crate::error_chain::chain;
use crate::link::messages::{GroupPort, ListenPlan, ModelVersion, ToProxy};
use crate::link::{AgentEnd, ProxyId};
use crate::model::Model;
use announcers::Announcers;
use crier::Crier;
use last_model::{Keeper, Kept, LastModel};
use settings::AgentSettings;
use state::{AgentState, addresses, entries};
use steering::Peers;

/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Heartbeats between two looks at the node's interfaces when no change was told of.
const LOOK_AT_INTERFACES: u32 = 10;
/// Heartbeats between two notes that the last model is current.
const CONFIRM: u32 = 30;

/// Runs the role until `shutdown`. What is in the kernel stays: lists and limits are enforced until the next agent.
pub async fn run(
    mut settings: AgentSettings,
    mut world: WorldReceiver,
    mut link: AgentEnd,
    state: watch::Sender<AgentState>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let first = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        first = last_model::first(&mut world, settings.last_model.as_ref()) => first,
    };
    // The source of worlds has ended, as at shutdown.
    let Some(Kept { version, model, current_at }) = first else { return Ok(()) };
    settings.follow(&model.global);
    let announcers = Announcers::start(settings.agreement.clone(), &settings.node);
    let mut peers = Peers::default();
    let start::Started { kernel, step_down, is_beside } = start::start(&settings, &model, &mut peers).await;
    let keeper = settings.last_model.clone().map(LastModel::start);
    let mut agent = Agent {
        settings,
        kernel,
        step_down,
        is_beside,
        model: Arc::clone(&model),
        proxies: BTreeMap::new(),
        addresses: BTreeSet::new(),
        version: 0,
        keeper,
        stale: None,
        state,
        failing_maps: None,
        refused: Vec::new(),
        with_all_lists: None,
        has_changes: false,
        told: BTreeSet::new(),
        peers,
        refused_routes: BTreeSet::new(),
        added_routes: BTreeSet::new(),
        announcers,
        crier: Crier::start(),
        links: Vec::new(),
        bans: bans::Tally::default(),
        owners: ListOwners::default(),
    };
    let mut monitor = follow::monitor();
    agent.look_at_interfaces().await;
    if current_at == 0 {
        agent.take_world(version, &model, &link).await;
    } else {
        agent.stale = Some(Stale { since: current_at, is_kept: true });
        agent.take_model(version, &model, &link).await;
    }
    info!(mode = agent.mode(), interfaces = ?agent.state.borrow().interfaces, "data plane is up");
    #[cfg(feature = "debug-log")]
    let _log = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(crate::bpf::debug_log::forward()));

    let mut tick = tokio::time::interval(HEARTBEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks: u32 = 0;
    let mut probe = tokio::time::interval(steering::PROBE);
    probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = world.changed() => {
                if changed.is_err() {
                    break;
                }
                let newest = world.borrow_and_update().clone();
                if let Some(newest) = newest {
                    agent.take_world(newest.version, &newest.model, &link).await;
                }
            }
            event = link.next() => match event {
                Some(event) => agent.hear(event, &link).await,
                None => break,
            },
            () = follow::changed(&mut monitor) => agent.has_changes = true,
            () = agent.announcers.changed() => agent.serve_by_newest(),
            _ = probe.tick() => agent.probe().await,
            _ = tick.tick() => {
                ticks = ticks.wrapping_add(1);
                agent.beat(ticks, &link).await;
            }
        }
    }
    agent.leave().await;
    Ok(())
}

/// What the agent knows of a connected proxy.
#[derive(Debug, Default)]
struct Proxy {
    pid: u32,
    /// Why it cannot serve.
    refused: Option<String>,
}

struct Agent {
    settings: AgentSettings,
    /// `None` in `userspace` mode.
    kernel: Option<Kernel>,
    /// Why there is none although there should be.
    step_down: Option<String>,
    /// The node serves by the kernel half of another agent.
    is_beside: bool,
    model: Arc<Model>,
    proxies: BTreeMap<ProxyId, Proxy>,
    /// The node's own addresses.
    addresses: BTreeSet<IpAddr>,
    version: ModelVersion,
    /// Writes the last model.
    keeper: Option<Keeper>,
    /// The model may not be current.
    stale: Option<Stale>,
    state: watch::Sender<AgentState>,
    failing_maps: Option<String>,
    /// Parts of the model that the kernel half does not serve or enforce.
    refused: Vec<Unmet>,
    /// The newest model whose lists all had room in the kernel.
    with_all_lists: Option<Arc<Model>>,
    /// Interfaces or addresses changed since they were last looked at.
    has_changes: bool,
    /// What is not enforced, as far as it was said.
    told: BTreeSet<String>,
    /// The nodes of the pools.
    peers: Peers,
    /// Said already.
    refused_routes: BTreeSet<IpNet>,
    /// Routes that this process made.
    added_routes: BTreeSet<IpNet>,
    /// Which pools this node announces.
    announcers: Announcers,
    /// Tells neighbours of them.
    crier: Crier,
    /// The interfaces that carry the node's addresses.
    links: Vec<Interface>,
    /// Whom it banned.
    bans: bans::Tally,
    /// Whose the entries of the lists are.
    owners: ListOwners,
}

impl Agent {
    fn mode(&self) -> &'static str {
        start::mode_name(self.kernel.as_ref())
    }

    /// A new build of the world, also to be kept.
    async fn take_world(&mut self, version: ModelVersion, model: &Arc<Model>, link: &AgentEnd) {
        if self.stale.is_some_and(|stale| stale.is_kept) {
            info!(version, "the API server was reached, its state replaces the last model");
            self.stale = None;
        }
        if let Some(keeper) = &self.keeper {
            keeper.keep(version, model);
        }
        self.take_model(version, model, link).await;
    }

    /// A model: to the kernel and to the proxies.
    async fn take_model(&mut self, version: ModelVersion, model: &Arc<Model>, link: &AgentEnd) {
        self.model = Arc::clone(model);
        self.announcers.follow(model);
        let bound = self.settings.bind_plan();
        self.settings.follow(&self.model.global);
        if self.kernel.is_none() && self.settings.bind_plan() != bound {
            link.broadcast(&ToProxy::Listen(self.listen_plan()));
        }
        self.follow_nodes().await;
        self.apply();
        self.apply_routes().await;
        link.broadcast(&ToProxy::Model { version, model: Arc::clone(&self.model) });
        self.version = version;
        self.publish_state();
    }

    /// Where a proxy that joins now binds.
    fn listen_plan(&self) -> ListenPlan {
        match &self.kernel {
            None => ListenPlan::Ports { addresses: self.settings.bind_plan() },
            Some(kernel) => {
                let ports = kernel.slots.group_ports();
                let port = |listener: &str| ports.get(listener).copied().unwrap_or(0);
                let listeners = self.model.listeners.iter().map(|listener| listener.name.0.clone());
                ListenPlan::Handover {
                    group_ports: listeners
                        .map(|name| GroupPort { port: port(&name), listener: name })
                        .collect(),
                }
            }
        }
    }

    /// After a change among the proxies: new connections go to the right one, and the node's own addresses are served
    /// exactly while there is one (SK_LOOKUP goes before every other listener on them).
    fn serve_by_newest(&mut self) {
        if let Some(kernel) = &mut self.kernel {
            kernel.slots.drop_dead(is_listening);
        }
        self.apply();
        self.publish_state();
    }

    async fn beat(&mut self, ticks: u32, link: &AgentEnd) {
        self.look_at_bans();
        self.look_at_freshness(ticks.is_multiple_of(CONFIRM));
        if self.heartbeat().await {
            link.listen_again();
        }
        if let Some(kernel) = &mut self.kernel {
            // A proxy that was killed leaves sockets that are closed; who else listens on the node shall be heard.
            if !kernel.slots.has_serving_proxy() && !kernel.slots.serving().is_empty() {
                self.serve_by_newest();
            }
        }
        let is_due = ticks.is_multiple_of(LOOK_AT_INTERFACES);
        if (std::mem::take(&mut self.has_changes) || is_due) && self.look_at_interfaces().await {
            self.serve_by_newest();
        }
        if is_due {
            // What the kernel refused may have room or memory by now.
            if self.failing_maps.is_some() || self.kernel.as_ref().is_some_and(Kernel::is_incomplete) {
                self.serve_by_newest();
            }
            self.look_beside().await;
            // Someone may have flushed them.
            self.apply_routes().await;
        }
    }

    /// Notes whether the world is followed and, now and then, that what is kept of it is current.
    fn look_at_freshness(&mut self, confirms: bool) {
        if self.stale.is_some_and(|stale| stale.is_kept) {
            return;
        }
        let lost = self.settings.freshness.stale_for();
        let lost = lost.map(|age| last_model::now().saturating_sub_unsigned(age.as_secs()));
        let stale = lost.map(|since| self.stale.unwrap_or(Stale { since, is_kept: false }));
        if self.stale != stale {
            self.stale = stale;
            self.publish_state();
        }
        if confirms
            && stale.is_none()
            && let Some(keeper) = &self.keeper
        {
            keeper.confirm();
        }
    }

    fn publish_state(&self) {
        let entries = self.kernel.as_ref().map(|kernel| entries(kernel.contents())).unwrap_or_default();
        let attached = self.kernel.as_ref().map(Kernel::attached).unwrap_or_default();
        let refused = self.kernel.as_ref().map(Kernel::refused).unwrap_or_default();
        let attached = attached.into_iter().map(|interface| (interface.name, interface.hook.name()));
        let has_proxy = match &self.kernel {
            Some(kernel) => kernel.slots.has_serving_proxy(),
            None => !self.proxies.is_empty(),
        };
        let now = AgentState {
            mode: self.mode(),
            is_beside: self.is_beside,
            interfaces: attached.chain(refused.into_iter().map(|name| (name, "userspace"))).collect(),
            version: self.version,
            has_proxy,
            failing: self.failing_maps.iter().cloned().collect(),
            degraded: self.degraded(),
            unenforced: self.unenforced(),
            stale: self.stale,
            nodes: self.peers.view(),
            pools: self.pools(),
            tables: self.peers.fingerprints(),
            announced: self.announcers.announced(),
            addresses: self.kernel.as_ref().map(|kernel| addresses(kernel.contents())),
            entries,
            bans: self.bans.clone(),
            owners: self.owners.clone(),
        };
        self.state.send_if_modified(|state| {
            let is_new = *state != now;
            *state = now;
            is_new
        });
    }

    /// The end of this process, not of the kernel half. Only what points at sockets that are closed is taken back, so
    /// that another ingress on the node's own addresses is heard again.
    async fn leave(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.end().await;
        }
        let Some(kernel) = &mut self.kernel else {
            self.take_routes_back().await;
            return;
        };
        for id in self.proxies.keys().copied().collect::<Vec<_>>() {
            kernel.slots.forget(id);
        }
        self.serve_by_newest();
        if let Some(kernel) = &mut self.kernel
            && let Err(error) = kernel.resign()
        {
            warn!(error = %chain(&error), "the end of this agent could not be noted");
        }
        info!(
            "agent ends; the kernel goes on enforcing lists and limits (`portcullis cleanup` removes them)"
        );
    }
}

#[cfg(test)]
mod tests;
