//! What an agent of another map layout left: found, and taken over as far as the shapes agree.
//!
//! Order of an upgrade, and of a downgrade: fill the new maps and sockets, swap SK_LOOKUP, swap XDP and TC, remove the
//! old maps. What is filled from the model anyhow is not carried, except for where its numbers name other things.

mod raw;
mod sockets;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use ingress_common::maps::Meta;
use ingress_common::maps::table::MAPS;
use tracing::{info, warn};

use super::maps::{self, MapsError};
use super::pins::Pins;
use super::syscall;
pub(super) use sockets::{OLD_SOCKETS, PROGRAM, move_sockets};

/// State that only the kernel has, what counters and buckets are numbered by, and what steers until the model is applied.
/// Not among them: lists (the model has them), the gate and global rates (worth a second), and keys.
const CARRIED: &[&str] = &[
    "vips",
    "acl_hits",
    "limits",
    "buckets",
    "bans",
    "stats",
    "egress",
    "node_stats",
    "node_seen",
    "lk_stats",
    "nodes",
    "peers",
    "cluster",
    "pools",
    "listen",
    "slots",
    "assigned",
    "groups",
];

/// The part of `meta` that every layout has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the map.
    pub(super) map: u32,
    /// As in [`Meta`].
    pub(super) layout: u32,
    /// As in [`Meta`].
    pub(super) epoch: u64,
    /// Whether the agent gave a sign of life lately and has not said that it ends.
    pub(super) is_alive: bool,
}

/// The folder of the maps that the programs in place use, when it is not that of our layout.
pub(super) fn earlier(pins: &Pins) -> io::Result<Option<PathBuf>> {
    let others: Vec<PathBuf> = pins.layouts()?.into_iter().filter(|folder| *folder != pins.maps()).collect();
    let in_use = maps_in_use(pins);
    let is_in_use = |folder: &PathBuf| {
        MapInfo::from_pin(folder.join("listen")).is_ok_and(|map| in_use.contains(&map.id()))
    };
    if let Some(folder) = others.iter().find(|folder| is_in_use(folder)) {
        return Ok(Some(folder.clone()));
    }
    if pins.map("meta").exists() {
        return Ok(None);
    }
    Ok(others.into_iter().rev().find(|folder| folder.join("meta").exists()))
}

/// The maps of the program at SK_LOOKUP; none when there is none.
fn maps_in_use(pins: &Pins) -> Vec<u32> {
    let link = syscall::open_pin(&pins.sk_lookup()).and_then(|link| syscall::link_info(link.as_fd()));
    let Ok(link) = link else { return Vec::new() };
    let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == link.program);
    program.and_then(|program| program.map_ids().ok().flatten()).unwrap_or_default()
}

/// The head of the newest `meta` that is pinned in a layout other than ours.
pub(super) fn other_head(pins: &Pins, now_ns: u64) -> Option<Head> {
    let folders = pins.layouts().ok()?.into_iter().filter(|folder| *folder != pins.maps());
    folders.filter_map(|folder| head(&folder.join("meta"), now_ns)).max_by_key(|head| head.epoch)
}

/// The head of a pinned `meta`, whatever its layout.
pub(super) fn head(path: &Path, now_ns: u64) -> Option<Head> {
    const LEN: usize = 24;
    let info = MapInfo::from_pin(path).ok()?;
    let map = syscall::open_pin(path).ok()?;
    let mut value = vec![0; usize::try_from(info.value_size()).ok()?.max(LEN)];
    syscall::map_lookup(map.as_fd(), &0_u32.to_ne_bytes(), &mut value).ok()?;
    let word = |at: usize| Some(u32::from_ne_bytes(value.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(value.get(at..at + 8)?.try_into().ok()?));
    let meta = Meta {
        layout: word(0)?,
        flags: word(4)?,
        epoch: long(8)?,
        heartbeat_ns: long(16)?,
        ..Meta::default()
    };
    Some(Head {
        map: info.id(),
        layout: meta.layout,
        epoch: meta.epoch,
        is_alive: meta.flags & Meta::ENDED == 0 && meta.is_alive(now_ns),
    })
}

/// Copies the maps that have the same shape in both layouts. One that has not starts empty, with a message.
pub(super) fn carry(from: &Path, pins: &Pins) {
    let mut entries = 0;
    for spec in MAPS.iter().filter(|spec| CARRIED.contains(&spec.name)) {
        let old = from.join(spec.name);
        match maps::check_entry(&old, spec) {
            Ok(()) => {}
            Err(MapsError::Missing { .. }) => continue,
            Err(error) => {
                warn!(map = spec.name, %error, "map of another layout is not taken over, ours starts empty");
                continue;
            }
        }
        match raw::copy(&old, &pins.map(spec.name), spec.kind) {
            Ok(copied) => entries += copied,
            Err(error) => {
                warn!(map = spec.name, %error, "map of another layout is taken over in part only");
            }
        }
    }
    info!(from = %from.display(), entries, "maps of another layout taken over");
}

/// Maps of other versions, once no program uses them any more.
pub(super) fn remove_others(pins: &Pins) {
    for folder in pins.layouts().unwrap_or_default() {
        if folder == pins.maps() {
            continue;
        }
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => info!(folder = %folder.display(), "maps of another version removed"),
            Err(error) => {
                warn!(folder = %folder.display(), %error, "maps of another version cannot be removed")
            }
        }
    }
}
