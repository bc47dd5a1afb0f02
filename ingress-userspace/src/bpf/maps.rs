//! The pinned maps, opened and typed.
//!
//! The kernel hands out any map under a name that is pinned, whatever its shape; each is compared with the table in
//! `ingress_common` first, because reading a map by a wrong layout would be silent nonsense.

use std::path::{Path, PathBuf};

use aya::maps::{
    Array, ArrayOfMaps, HashMap, LpmTrie, Map, MapData, MapError, MapInfo, MapType, PerCpuArray,
    PerCpuHashMap, Queue, SockMap,
};
use ingress_common::event::EventRate;
use ingress_common::flow::Addr;
use ingress_common::maps::table::{MAPS, MapKind, MapSpec};
use ingress_common::maps::{
    AclVal, Ban, BanAsk, Bucket, Cluster, Count, GroupKey, GroupVal, IfaceVal, Limit, ListenVal, LookupCount,
    Meta, NodeSeen, NodeVal, SlotVal, Strikes, VipKey, VipVal, WorkerLoad,
};
use ingress_common::source::{Acl4Key, Acl6Key, HitKey, SrcKey};

use super::pins::Pins;
use super::sync::Known;

/// Every map, for reading and writing.
#[expect(missing_docs, reason = "`ingress_common::maps::table` says what each map is")]
pub struct Maps {
    pub meta: Array<MapData, Meta>,
    pub vips: HashMap<MapData, VipKey, VipVal>,
    pub acl4: LpmTrie<MapData, Acl4Key, AclVal>,
    pub acl6: LpmTrie<MapData, Acl6Key, AclVal>,
    pub acl4_bits: MapData,
    pub acl6_bits: MapData,
    pub acl_hits: PerCpuHashMap<MapData, HitKey, Count>,
    pub limits: Array<MapData, Limit>,
    pub gate: MapData,
    pub globals: Array<MapData, u64>,
    pub buckets: HashMap<MapData, SrcKey, Bucket>,
    pub bans: HashMap<MapData, SrcKey, Ban>,
    pub strikes: HashMap<MapData, SrcKey, Strikes>,
    pub ban_asks: Queue<MapData, BanAsk>,
    pub stats: PerCpuArray<MapData, Count>,
    pub cluster: Array<MapData, Cluster>,
    pub pools: ArrayOfMaps<MapData, Array<MapData, u64>>,
    pub nodes: Array<MapData, NodeVal>,
    pub node_seen: Array<MapData, NodeSeen>,
    pub peers: HashMap<MapData, Addr, u32>,
    pub node_stats: PerCpuArray<MapData, Count>,
    pub ifaces: HashMap<MapData, u32, IfaceVal>,
    pub egress: PerCpuHashMap<MapData, SrcKey, Count>,
    pub listen: HashMap<MapData, VipKey, ListenVal>,
    /// Where a socket listened a moment ago.
    pub listen_seen: Array<MapData, u64>,
    pub slots: Array<MapData, SlotVal>,
    pub socks: SockMap<MapData>,
    pub assigned: Array<MapData, WorkerLoad>,
    pub groups: HashMap<MapData, GroupKey, GroupVal>,
    pub lk_stats: PerCpuArray<MapData, LookupCount>,
    pub event_rate: PerCpuArray<MapData, EventRate>,
    pub(super) known: Option<Known>,
}

/// Why a map cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// Not there.
    #[error(
        "no map at {path}: no agent has run here with this version, or --bpffs names another file system"
    )]
    Missing {
        /// Its pin.
        path: PathBuf,
    },
    /// There, but of another shape.
    #[error("map {path} has another shape ({found}, expected {expected}); run `portcullis cleanup`")]
    Shape {
        /// Its pin.
        path: PathBuf,
        /// Type, key, value, entries.
        found: String,
        /// The same of the table.
        expected: String,
    },
    /// The kernel refused.
    #[error("map {name}")]
    Kernel {
        /// Which.
        name: String,
        /// What aya says.
        #[source]
        source: MapError,
    },
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl MapsError {
    /// Says which map it was.
    pub(super) fn of(name: &str) -> impl FnOnce(MapError) -> Self {
        let name = name.to_owned();
        move |source| Self::Kernel { name, source }
    }
}

impl Maps {
    /// Opens the maps of an installation.
    pub fn open(pins: &Pins) -> Result<Self, MapsError> {
        Ok(Self {
            meta: open(pins, "meta")?,
            vips: open(pins, "vips")?,
            acl4: open(pins, "acl4")?,
            acl6: open(pins, "acl6")?,
            acl4_bits: open_data(pins, "acl4_bits")?,
            acl6_bits: open_data(pins, "acl6_bits")?,
            acl_hits: open(pins, "acl_hits")?,
            limits: open(pins, "limits")?,
            gate: open_data(pins, "gate")?,
            globals: open(pins, "globals")?,
            buckets: open(pins, "buckets")?,
            bans: open(pins, "bans")?,
            strikes: open(pins, "strikes")?,
            ban_asks: open(pins, "ban_asks")?,
            stats: open(pins, "stats")?,
            cluster: open(pins, "cluster")?,
            pools: open(pins, "pools")?,
            nodes: open(pins, "nodes")?,
            node_seen: open(pins, "node_seen")?,
            peers: open(pins, "peers")?,
            node_stats: open(pins, "node_stats")?,
            ifaces: open(pins, "ifaces")?,
            egress: open(pins, "egress")?,
            listen: open(pins, "listen")?,
            listen_seen: open(pins, "listen_seen")?,
            slots: open(pins, "slots")?,
            socks: open(pins, "socks")?,
            assigned: open(pins, "assigned")?,
            groups: open(pins, "groups")?,
            lk_stats: open(pins, "lk_stats")?,
            event_rate: open(pins, "event_rate")?,
            known: None,
        })
    }
}

/// Opens one map.
pub(super) fn open<T: TryFrom<Map, Error = MapError>>(pins: &Pins, name: &str) -> Result<T, MapsError> {
    Map::from_map_data(open_data(pins, name)?).and_then(T::try_from).map_err(MapsError::of(name))
}

fn open_data(pins: &Pins, name: &str) -> Result<MapData, MapsError> {
    let path = pins.map(name);
    if let Some(spec) = MAPS.iter().find(|spec| spec.name == name) {
        check(&path, spec)?;
    }
    MapData::from_pin(&path).map_err(MapsError::of(name))
}

/// Whether entries of a pinned map have the shape that the table says, however many there are.
pub(super) fn check_entry(path: &Path, spec: &MapSpec) -> Result<(), MapsError> {
    let entries = MapInfo::from_pin(path).map(|info| info.max_entries()).unwrap_or(spec.entries);
    check(path, &MapSpec { entries, ..*spec })
}

/// Compares a pinned map with the table.
pub(super) fn check(path: &Path, spec: &MapSpec) -> Result<(), MapsError> {
    if !path.exists() {
        return Err(MapsError::Missing { path: path.to_owned() });
    }
    let info = MapInfo::from_pin(path).map_err(MapsError::of(spec.name))?;
    let map_type = info.map_type().map_err(MapsError::of(spec.name))?;
    let found = (map_type, info.key_size(), info.value_size(), info.max_entries());
    let expected = (kernel_type(spec.kind), spec.key.size, value_size(spec), spec.entries);
    if found == expected {
        return Ok(());
    }
    Err(MapsError::Shape {
        path: path.to_owned(),
        found: format!("{found:?}"),
        expected: format!("{expected:?}"),
    })
}

/// The kernel knows nothing of what the records of a ring buffer hold.
fn value_size(spec: &MapSpec) -> u32 {
    if matches!(spec.kind, MapKind::RingBuf) { 0 } else { spec.value.size }
}

fn kernel_type(kind: MapKind) -> MapType {
    match kind {
        MapKind::Array => MapType::Array,
        MapKind::PerCpuArray => MapType::PerCpuArray,
        MapKind::Hash => MapType::Hash,
        MapKind::LruHash => MapType::LruHash,
        MapKind::LruPerCpuHash => MapType::LruPerCpuHash,
        MapKind::LpmTrie => MapType::LpmTrie,
        MapKind::SockMap => MapType::SockMap,
        MapKind::ArrayOfMaps => MapType::ArrayOfMaps,
        MapKind::RingBuf => MapType::RingBuf,
        MapKind::Queue => MapType::Queue,
    }
}

/// Whether the kernel says that an entry does not exist.
pub(super) fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound | MapError::ElementNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}

/// Whether the kernel says that a map has no room for another entry.
pub(super) fn is_full(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else { return false };
    matches!(error.io_error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC))
}
