//! What is in place on this node, read from the pins alone: works without a running agent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ingress_common::maps::Meta;
use serde::Serialize;

use super::attach::{Hook, filter_program};
use super::carry;
use super::clock::now_ns;
use super::clsact::Direction;
use super::counters::{self, Node, PacketCount};
use super::hits::{self, Caught};
use super::interfaces::{Interface, XdpMode, interfaces};
use super::maps::{Maps, MapsError};
use super::netlink::NetlinkError;
use super::pins::{PinnedLink, Pins};
use super::probe::is_bpffs;
use super::sockets::{self, PortReport};
use super::syn_cookies::{self, SynCookies};
use super::syscall::LinkPlace;
use super::{dump, sync};
use crate::compile::maps::owners::ListOwners;

/// The state of a node.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The mode of the node: that of its slowest interface, `userspace` without a kernel half.
    pub mode: &'static str,
    /// Each interface with a program of ours on the way in.
    pub interfaces: Vec<InterfaceReport>,
    /// The SK_LOOKUP link.
    pub sk_lookup: Option<LinkReport>,
    /// Who wrote the maps.
    pub agent: Option<AgentReport>,
    /// Served (address, port) pairs that lead to sockets.
    pub listening: usize,
    /// Connections handed to sockets, and those that found none.
    pub lookups: LookupReport,
    /// Who listens, by port.
    pub sockets: Vec<PortReport>,
    /// The other nodes of the pools.
    pub nodes: Vec<Node>,
    /// Limits in force, in words.
    pub limits: Vec<String>,
    /// Entries of deny lists that dropped most, three at most. Their policies are not known here.
    pub denied_most: Vec<Caught>,
    /// Drops that were told of in `portcullis drops`, and those that were not.
    pub drops_told: (u64, u64),
    /// What the kernel says of SYN cookies.
    pub syn_cookies: SynCookies,
    /// Packets by address and reason.
    pub counters: Vec<PacketCount>,
}

/// An interface with programs.
#[derive(Debug, Serialize)]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// `xdp-native`, `xdp-generic` or `tc`.
    pub mode: &'static str,
    /// Number of the link; `None`: a filter, which has none.
    pub link_id: Option<u32>,
    /// Number of the program.
    pub program_id: u32,
    /// What counts and corrects what leaves; `None`: nothing.
    pub egress: Option<EgressReport>,
}

/// The program for what leaves.
#[derive(Debug, Serialize)]
pub struct EgressReport {
    /// `tcx` or `clsact`.
    pub by: &'static str,
    /// Number of the link; `None`: a filter, which has none.
    pub link_id: Option<u32>,
    /// Number of the program.
    pub program_id: u32,
}

/// A link, by the numbers that bpftool prints.
#[derive(Debug, Serialize)]
pub struct LinkReport {
    /// Of the link.
    pub link_id: u32,
    /// Of the program.
    pub program_id: u32,
}

/// The agent that wrote the maps.
#[derive(Debug, Serialize)]
pub struct AgentReport {
    /// Its version.
    pub build: String,
    /// Version of the map layout.
    pub layout: u32,
    /// Counts starts of agents.
    pub epoch: u64,
    /// Seconds since its last sign of life; `None`: it ended in order.
    pub heartbeat_age_seconds: Option<f64>,
    /// Whether that is recent.
    pub is_running: bool,
}

/// What SK_LOOKUP did.
#[derive(Debug, Default, Serialize)]
pub struct LookupReport {
    /// Handed to a socket.
    pub handed_over: u64,
    /// No socket in the range.
    pub missed: u64,
    /// The kernel refused the socket.
    pub refused: u64,
    /// Moved to another socket when theirs closed.
    pub moved: u64,
}

/// Why the state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Interfaces.
    #[error(transparent)]
    Interfaces(#[from] NetlinkError),
    /// Pins.
    #[error("cannot read the pins")]
    Pins(#[source] std::io::Error),
}

/// Whether an agent, of whichever layout, gave a sign of life lately.
pub async fn is_agent_running(bpffs: &Path) -> Result<bool, ReportError> {
    let of_ours = read(bpffs).await?.and_then(|report| report.agent).is_some_and(|agent| agent.is_running);
    Ok(of_ours || carry::other_head(&Pins::new(bpffs), now_ns()).is_some_and(|head| head.is_alive))
}

/// The map layout of another version that serves this node in place of ours.
pub fn other_layout(bpffs: &Path) -> Option<u32> {
    let pins = Pins::new(bpffs);
    if !is_bpffs(bpffs) || pins.map("meta").exists() {
        return None;
    }
    carry::other_head(&pins, now_ns()).map(|head| head.layout)
}

/// Reads the state of this node; `None` when there is no kernel half.
pub async fn read(bpffs: &Path) -> Result<Option<Report>, ReportError> {
    let pins = Pins::new(bpffs);
    if !is_bpffs(bpffs) || !pins.map("meta").exists() {
        return Ok(None);
    }
    let maps = Maps::open(&pins)?;
    let known = interfaces().await?;
    let links = pins.pinned_links().map_err(ReportError::Pins)?;
    let sk_lookup = links.iter().find(|link| matches!(link.info.place, LinkPlace::SkLookup(Some(_))));
    let sk_lookup = sk_lookup.map(|link| LinkReport { link_id: link.info.id, program_id: link.info.program });
    let marks = pins.clsact_marks().map_err(ReportError::Pins)?;
    let mut attached = Vec::new();
    let mut slowest = None;
    for interface in &known {
        let has_filters = marks.iter().any(|(index, _)| *index == interface.index);
        if let Some((hook, report)) = interface_report(interface, &links, has_filters).await {
            slowest = slowest.max(Some(hook));
            attached.push(report);
        }
    }
    let meta = maps.meta.get(&0, 0).map_err(MapsError::of("meta"))?;
    let now = now_ns();
    let age = Duration::from_nanos(now.saturating_sub(meta.heartbeat_ns));
    let has_ended = meta.flags & Meta::ENDED != 0;
    let lookups = counters::lookups(&maps)?;
    Ok(Some(Report {
        mode: slowest.map_or("userspace", Hook::name),
        interfaces: attached,
        sk_lookup,
        agent: Some(AgentReport {
            build: dump::build(&meta.build),
            layout: meta.layout,
            epoch: meta.epoch,
            heartbeat_age_seconds: (!has_ended).then_some(age.as_millis() as f64 / 1000.0),
            is_running: !has_ended && meta.is_alive(now),
        }),
        listening: sync::read_hash(&maps.listen, "listen")?.len(),
        lookups: LookupReport {
            handed_over: lookups.lookups,
            missed: lookups.misses,
            refused: lookups.errors,
            moved: lookups.moved,
        },
        sockets: sockets::read(&maps)?,
        nodes: counters::nodes(&maps)?,
        limits: limits(&maps)?,
        denied_most: hits::caught(&maps, &ListOwners::default())?.into_iter().take(3).collect(),
        drops_told: counters::drops_told(&maps)?,
        syn_cookies: syn_cookies::read(),
        counters: counters::packets(&maps)?,
    }))
}

/// Each limit once: addresses under the same policy have rows of their own for it.
fn limits(maps: &Maps) -> Result<Vec<String>, MapsError> {
    let rows = sync::read_array(&maps.limits, "limits")?;
    let named: BTreeMap<_, _> = rows
        .values()
        .map(|limit| ((limit.bucket, limit.kind, limit.per), dump::limit_in_words(limit)))
        .collect();
    Ok(named.into_values().collect())
}

async fn interface_report(
    interface: &Interface,
    links: &[PinnedLink],
    has_filters: bool,
) -> Option<(Hook, InterfaceReport)> {
    let link = |place| links.iter().find(|link| link.info.place == place).map(|link| link.info);
    let index = interface.index;
    let filter = async |direction| {
        if has_filters { filter_program(index, direction).await.map(|program| (None, program)) } else { None }
    };
    let xdp = link(LinkPlace::Xdp(Some(index))).zip(interface.xdp);
    let (hook, (link_id, program_id)) = match xdp {
        Some((link, running)) => {
            let hook = match running.mode {
                XdpMode::Native => Hook::XdpNative,
                XdpMode::Generic => Hook::XdpGeneric,
            };
            (hook, (Some(link.id), link.program))
        }
        None => match link(LinkPlace::Tcx(Some(index), Direction::In)) {
            Some(link) => (Hook::Tc, (Some(link.id), link.program)),
            None => (Hook::Tc, filter(Direction::In).await?),
        },
    };
    let egress = match link(LinkPlace::Tcx(Some(index), Direction::Out)) {
        Some(link) => Some(EgressReport { by: "tcx", link_id: Some(link.id), program_id: link.program }),
        None => filter(Direction::Out).await.map(|(link_id, program_id)| EgressReport {
            by: "clsact",
            link_id,
            program_id,
        }),
    };
    let name = interface.name.clone();
    Some((hook, InterfaceReport { name, mode: hook.name(), link_id, program_id, egress }))
}
