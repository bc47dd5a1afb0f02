//! How the node serves: the best mode that works, with one message for each step down.

use std::collections::BTreeSet;

use tracing::{debug, error, info, warn};

use super::settings::AgentSettings;
use super::steering::Peers;
use crate::args::ModeArg;
use crate::bpf::attach::{AttachError, Hook, Wish};
use crate::bpf::interfaces::{Interface, interfaces, node_addresses};
use crate::bpf::kernel::{self, Kernel, PrepareError};
use crate::bpf::maps::MapsError;
use crate::bpf::netlink::NetlinkError;
use crate::bpf::probe::{Bpffs, Missing, probe};
use crate::bpf::sync::Synced;
use crate::bpf::{cleanup, report, slots};
use crate::compile::maps::announce::announce;
use crate::compile::maps::{NodeAddresses, compile_on, pause};
use crate::error_chain::chain;
use crate::model::Model;

/// Why the kernel half does not run.
#[derive(Debug, thiserror::Error)]
enum StepDown {
    #[error(
        "--http-port 0 or --https-port 0 asks for any free port, which only userspace mode can give; name the ports"
    )]
    AnyPort,
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Maps(#[from] MapsError),
    #[error(transparent)]
    Interfaces(#[from] NetlinkError),
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// How the node serves.
#[derive(Default)]
pub(super) struct Started {
    /// `None` in `userspace` mode.
    pub(super) kernel: Option<Kernel>,
    /// Why there is none although there should be.
    pub(super) step_down: Option<String>,
    /// The node serves by the kernel half of another agent, which stays in place.
    pub(super) is_beside: bool,
}

/// Puts the kernel half in place, or says why the node serves without although it should; the service comes up in any case.
pub(super) async fn start(settings: &AgentSettings, model: &Model, peers: &mut Peers) -> Started {
    let hook = match settings.mode {
        ModeArg::Auto => None,
        ModeArg::XdpNative => Some(Hook::XdpNative),
        ModeArg::XdpGeneric => Some(Hook::XdpGeneric),
        ModeArg::Tc => Some(Hook::Tc),
        ModeArg::Userspace => {
            // Asked for by name: whoever loaded it, it is not wanted any more.
            if settings.serves_the_node() && is_running(settings).await.unwrap_or(false) {
                warn!(
                    "another agent serves this node by the kernel half, which --mode userspace removes; end that agent"
                );
            }
            remove_left_overs(settings).await;
            return Started::default();
        }
    };
    let wish = Wish { hook, without_tcx: settings.without_tcx };
    // Asked before the attempt, which gives a sign of life itself.
    let is_running = is_running(settings).await;
    match attempt(settings, model, wish, peers).await {
        Ok(kernel) => Started { kernel: Some(kernel), ..Started::default() },
        Err(reason) => {
            // What was asked for by name and cannot be had needs a human; a step of `auto` is worth knowing.
            if settings.mode == ModeArg::Auto {
                warn!(reason = %chain(&reason), "stepping down to userspace mode");
            } else {
                error!(reason = %chain(&reason), "stepping down to userspace mode");
            }
            let is_elsewhere = matches!(&reason, StepDown::Prepare(reason) if reason.is_elsewhere());
            let is_beside = settings.serves_the_node() && !is_elsewhere && is_in_use(is_running);
            if !is_beside {
                remove_left_overs(settings).await;
            }
            Started { kernel: None, step_down: Some(chain(&reason)), is_beside }
        }
    }
}

async fn attempt(
    settings: &AgentSettings,
    model: &Model,
    wish: Wish,
    peers: &mut Peers,
) -> Result<Kernel, StepDown> {
    if settings.has_any_port {
        return Err(StepDown::AnyPort);
    }
    if probe(&settings.bpffs)? == Bpffs::Mounted {
        info!(path = %settings.bpffs.display(), "no bpffs was mounted, mounted one");
    }
    let mut prepared = kernel::prepare(&settings.bpffs, &model.listeners)?;
    // Asked under the lock of the pins, so that no other process of ours changes programs in between.
    let all = interfaces().await?;
    let chosen = choose(settings, &all)?;
    prepared.slots().drop_dead(slots::listening::is_listening);
    let is_paused = prepared.slots().serving().is_empty();
    let own = node_addresses(&all);
    // A proxy of an earlier agent serves the node's addresses, and goes on doing so.
    let served = if is_paused { Vec::new() } else { settings.served(&own) };
    let node = NodeAddresses { served: &served, all: &own };
    let mut compiled = compile_on(model, node, prepared.contents(), &[]);
    if is_paused {
        pause(&mut compiled.contents);
    }
    let contents = prepared.contents().clone();
    peers.follow(model, &settings.node, prepared.maps(), &contents)?;
    peers.look_at_ways().await;
    peers.enter(model, &mut compiled.contents);
    peers.apply(prepared.maps())?;
    // Nothing yet, and the stack does not answer in our place.
    announce(&mut compiled.contents, model, &BTreeSet::new());
    log_synced(&prepared.fill(compiled.contents)?);
    Ok(prepared.attach(&chosen, wish).await?)
}

/// The interfaces that are named, else those that carry the node's addresses.
pub(super) fn choose(settings: &AgentSettings, all: &[Interface]) -> Result<Vec<Interface>, AttachError> {
    if settings.interfaces.is_empty() {
        return Ok(all.iter().filter(|interface| interface.is_of_node()).cloned().collect());
    }
    let wanted: BTreeSet<&String> = settings.interfaces.iter().collect();
    let present: Vec<Interface> =
        all.iter().filter(|interface| wanted.contains(&interface.name)).cloned().collect();
    match wanted.first() {
        Some(name) if present.is_empty() => Err(AttachError::UnknownInterface((*name).clone())),
        _ => Ok(present),
    }
}

/// Interfaces that are named and not there; they are served once they are.
fn missing(settings: &AgentSettings, all: &[String]) -> Vec<String> {
    settings.interfaces.iter().filter(|name| !all.contains(name)).cloned().collect()
}

/// Whether another agent serves by the kernel half: the old pod of a rolling update, which this one may never replace. A
/// process that may not even ask takes it to be so. Connections whose sockets are gone fall through to the ports of this mode.
fn is_in_use(is_running: Result<bool, report::ReportError>) -> bool {
    match is_running {
        Ok(false) => return false,
        Ok(true) => warn!(
            "another agent serves this node; its kernel half stays, and `portcullis cleanup` removes it once that agent ended"
        ),
        Err(error) => warn!(
            error = %chain(&error),
            "cannot see whether another agent uses the kernel half; it stays, and `portcullis cleanup` removes it"
        ),
    }
    true
}

/// Whether an agent gave a sign of life lately.
pub(super) async fn is_running(settings: &AgentSettings) -> Result<bool, report::ReportError> {
    report::is_agent_running(&settings.bpffs).await
}

/// Programs of an earlier process would go on enforcing lists that nobody keeps current.
async fn remove_left_overs(settings: &AgentSettings) {
    if !settings.serves_the_node() || kernel::is_elsewhere(&settings.bpffs) {
        return;
    }
    let mut removed = Vec::new();
    let outcome = cleanup::remove_pins(&settings.bpffs, &mut removed).await;
    if !removed.is_empty() {
        info!(removed = removed.len(), "kernel half of an earlier process removed");
    }
    if let Err(error) = outcome {
        warn!(error = %chain(&error), "the kernel half of an earlier process may still be attached");
    }
}

/// What is served less well than `--mode` asks for: why there is no kernel half, or the interfaces that are slower or take nothing.
pub(super) fn degraded(
    settings: &AgentSettings,
    kernel: Option<&Kernel>,
    step_down: Option<&str>,
) -> Vec<String> {
    let without = step_down.map(|reason| format!("stepped down to userspace mode: {reason}"));
    let Some(kernel) = kernel else { return without.into_iter().collect() };
    let mut known = kernel.refused();
    known.extend(kernel.attached().into_iter().map(|interface| interface.name));
    // All may be gone that were there at the start.
    let none = (known.is_empty() && settings.interfaces.is_empty()).then(|| {
        "no interface carries an address of this node, so nothing reaches it; it is served once one does; bring one up, or name \
         one by --interface, as it must be done for those that are made in software"
            .to_owned()
    });
    let missing = missing(settings, &known).into_iter().map(|name| {
        format!("interface {name} does not exist, and is served once it does; correct --interface")
    });
    without.into_iter().chain(kernel.degraded()).chain(none).chain(missing).collect()
}

/// The mode of the node: the slowest of its interfaces.
pub(super) fn mode_name(kernel: Option<&Kernel>) -> &'static str {
    let slowest = kernel.and_then(|kernel| kernel.attached().iter().map(|interface| interface.hook).max());
    slowest.map_or("userspace", Hook::name)
}

/// Says what came of writing the maps.
pub(super) fn log_synced(synced: &Synced) {
    if synced.put + synced.removed > 0 {
        debug!(put = synced.put, removed = synced.removed, "kernel maps changed");
    }
    for (map, entries, error) in &synced.refused {
        error!(map, entries, error = %chain(error), "the kernel refused entries, they are not enforced");
    }
}
