//! The pinned maps, opened and typed.
//!
//! The kernel hands out any map under a name that is pinned, whatever its shape; each is compared with the table in
//! `ingress_common` first, because reading a map by a wrong layout would be silent nonsense.

use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, MapInfo, MapType, PerCpuArray, SockMap};
use ingress_common::maps::table::{MAPS, MapKind, MapSpec};
use ingress_common::maps::{
    AclVal, Bucket, Count, Limit, ListenVal, LookupCount, Meta, SlotVal, VipKey, VipVal,
};
use ingress_common::source::{Acl4Key, Acl6Key, SrcKey};

use super::pins::Pins;

/// Every map, for reading and writing.
#[expect(missing_docs, reason = "`ingress_common::maps::table` says what each map is")]
pub struct Maps {
    pub meta: Array<MapData, Meta>,
    pub vips: HashMap<MapData, VipKey, VipVal>,
    pub acl4: LpmTrie<MapData, Acl4Key, AclVal>,
    pub acl6: LpmTrie<MapData, Acl6Key, AclVal>,
    pub limits: Array<MapData, Limit>,
    pub buckets: HashMap<MapData, SrcKey, Bucket>,
    pub stats: PerCpuArray<MapData, Count>,
    pub listen: HashMap<MapData, VipKey, ListenVal>,
    pub slots: Array<MapData, SlotVal>,
    pub socks: SockMap<MapData>,
    pub lk_stats: PerCpuArray<MapData, LookupCount>,
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
            limits: open(pins, "limits")?,
            buckets: open(pins, "buckets")?,
            stats: open(pins, "stats")?,
            listen: open(pins, "listen")?,
            slots: open(pins, "slots")?,
            socks: open(pins, "socks")?,
            lk_stats: open(pins, "lk_stats")?,
        })
    }
}

fn open<T: TryFrom<Map, Error = MapError>>(pins: &Pins, name: &str) -> Result<T, MapsError> {
    let path = pins.map(name);
    if let Some(spec) = MAPS.iter().find(|spec| spec.name == name) {
        check(&path, spec)?;
    }
    let data = MapData::from_pin(&path).map_err(MapsError::of(name))?;
    Map::from_map_data(data).and_then(T::try_from).map_err(MapsError::of(name))
}

/// Compares a pinned map with the table.
pub(super) fn check(path: &Path, spec: &MapSpec) -> Result<(), MapsError> {
    if !path.exists() {
        return Err(MapsError::Missing { path: path.to_owned() });
    }
    let info = MapInfo::from_pin(path).map_err(MapsError::of(spec.name))?;
    let map_type = info.map_type().map_err(MapsError::of(spec.name))?;
    let found = (map_type, info.key_size(), info.value_size(), info.max_entries());
    let expected = (kernel_type(spec.kind), spec.key.size, spec.value.size, spec.entries);
    if found == expected {
        return Ok(());
    }
    Err(MapsError::Shape {
        path: path.to_owned(),
        found: format!("{found:?}"),
        expected: format!("{expected:?}"),
    })
}

fn kernel_type(kind: MapKind) -> MapType {
    match kind {
        MapKind::Array => MapType::Array,
        MapKind::PerCpuArray => MapType::PerCpuArray,
        MapKind::Hash => MapType::Hash,
        MapKind::LruHash => MapType::LruHash,
        MapKind::LpmTrie => MapType::LpmTrie,
        MapKind::SockMap => MapType::SockMap,
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
