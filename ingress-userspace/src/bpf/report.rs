//! What is in place on this node, read from the pins alone: works without a running agent.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::counters::{self, PacketCount};
use super::interfaces::interfaces;
use super::kernel::now_ns;
use super::maps::{Maps, MapsError};
use super::netlink::NetlinkError;
use super::pins::Pins;
use super::probe::is_bpffs;
use super::syscall::LinkPlace;
use super::{dump, sync};

/// An agent whose last sign of life is older than this is not running.
const SILENT: Duration = Duration::from_secs(10);

/// The state of a node.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The mode of the node: that of its slowest interface, `userspace` without a kernel half.
    pub mode: &'static str,
    /// Each interface with an XDP link of ours.
    pub interfaces: Vec<InterfaceReport>,
    /// The SK_LOOKUP link.
    pub sk_lookup: Option<LinkReport>,
    /// Who wrote the maps.
    pub agent: Option<AgentReport>,
    /// Served (address, port) pairs that lead to sockets.
    pub listening: usize,
    /// Connections handed to sockets, and those that found none.
    pub lookups: LookupReport,
    /// Packets by address and reason.
    pub counters: Vec<PacketCount>,
}

/// An interface with XDP.
#[derive(Debug, Serialize)]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// `xdp-native` or `xdp-generic`.
    pub mode: &'static str,
    /// The link.
    #[serde(flatten)]
    pub link: LinkReport,
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

/// Reads the state of this node; `None` when there is no kernel half.
pub async fn read(bpffs: &Path) -> Result<Option<Report>, ReportError> {
    let pins = Pins::new(bpffs);
    if !is_bpffs(bpffs) || !pins.map("meta").exists() {
        return Ok(None);
    }
    let maps = Maps::open(&pins)?;
    let known = interfaces().await?;
    let mut attached = Vec::new();
    let mut sk_lookup = None;
    let mut slowest = None;
    for link in pins.pinned_links().map_err(ReportError::Pins)? {
        let report = LinkReport { link_id: link.info.id, program_id: link.info.program };
        match link.info.place {
            LinkPlace::SkLookup(Some(_)) => sk_lookup = Some(report),
            LinkPlace::Xdp(Some(index)) => {
                let Some(interface) = known.iter().find(|interface| interface.index == index) else {
                    continue;
                };
                let Some(running) = interface.xdp else { continue };
                slowest = slowest.max(Some(running.mode));
                let name = interface.name.clone();
                attached.push(InterfaceReport { name, mode: running.mode.name(), link: report });
            }
            _ => {}
        }
    }
    let meta = maps.meta.get(&0, 0).map_err(MapsError::of("meta"))?;
    let age = Duration::from_nanos(now_ns().saturating_sub(meta.heartbeat_ns));
    let has_ended = meta.heartbeat_ns == 0;
    let lookups = counters::lookups(&maps)?;
    Ok(Some(Report {
        mode: slowest.map_or("userspace", super::interfaces::XdpMode::name),
        interfaces: attached,
        sk_lookup,
        agent: Some(AgentReport {
            build: dump::build(&meta.build),
            layout: meta.layout,
            epoch: meta.epoch,
            heartbeat_age_seconds: (!has_ended).then_some(age.as_millis() as f64 / 1000.0),
            is_running: !has_ended && age < SILENT,
        }),
        listening: sync::read_hash(&maps.listen, "listen")?.len(),
        lookups: LookupReport {
            handed_over: lookups.lookups,
            missed: lookups.misses,
            refused: lookups.errors,
        },
        counters: counters::packets(&maps)?,
    }))
}
