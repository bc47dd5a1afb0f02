//! The kernel half of this node as one process holds it: load, fill, attach, keep current.
//!
//! `meta` says who may write. Each start takes the next epoch; a process that finds a newer epoch than its own leaves
//! the maps alone and goes on serving what it has, until the newer one has been silent for ten seconds.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use ingress_common::maps::{LAYOUT_VERSION, Meta};
use rustix::time::{ClockId, clock_gettime};
use tracing::{info, warn};

use super::attach::{self, AttachError, AttachedInterface, XdpWish};
use super::interfaces::Interface;
use super::load::{self, LoadError, Loaded};
use super::maps::{Maps, MapsError};
use super::pins::Pins;
use super::slots::{Slots, is_listening};
use super::sync::{self, Synced};
use crate::compile::maps::MapContents;
use crate::model::listener::Listener;

/// A writer that has been silent for this long is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// The loaded kernel half, not attached yet. Holds the lock of the pins.
#[derive(Debug)]
pub struct Prepared {
    pins: Pins,
    loaded: Loaded,
    epoch: u64,
    contents: MapContents,
    slots: Slots,
    lock: File,
}

/// The kernel half in place.
#[derive(Debug)]
pub struct Kernel {
    pins: Pins,
    maps: Maps,
    epoch: u64,
    contents: MapContents,
    attached: Vec<AttachedInterface>,
    standing: Standing,
    /// Which sockets serve.
    pub slots: Slots,
}

/// Whether this process may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Owner,
    /// A newer process does.
    Superseded,
    /// The pins are gone: somebody ran `portcullis cleanup`.
    Removed,
}

/// Why the kernel half could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The pins cannot be locked.
    #[error("cannot lock the pins")]
    Lock(#[source] std::io::Error),
    /// Loading.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
}

/// Loads the kernel half and takes the next epoch. What is pinned goes on working meanwhile.
pub fn prepare(bpffs: &Path, listeners: &[Listener]) -> Result<Prepared, PrepareError> {
    let pins = Pins::new(bpffs);
    let lock = pins.lock().map_err(PrepareError::Lock)?;
    let mut loaded = load::load(&pins)?;
    let slots = Slots::adopt(&loaded.maps, listeners)?;
    let contents = read_contents(&loaded.maps)?;
    let epoch = read_meta(&loaded.maps)?.epoch + 1;
    write_meta(&mut loaded.maps, epoch)?;
    Ok(Prepared { pins, loaded, epoch, contents, slots, lock })
}

impl Prepared {
    /// What the maps hold from an earlier process: numbers of addresses and limits are kept.
    pub fn contents(&self) -> &MapContents {
        &self.contents
    }

    /// Which sockets serve from an earlier process.
    pub fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }

    /// Fills the maps.
    pub fn fill(&mut self, contents: MapContents) -> Result<Synced, MapsError> {
        self.slots.drop_dead(is_listening);
        let mut synced = sync::apply(&mut self.loaded.maps, &contents)?;
        synced.merge(self.slots.publish(&mut self.loaded.maps, &contents.listen)?);
        self.contents = contents;
        Ok(synced)
    }

    /// Puts the programs in place.
    pub fn attach(self, interfaces: &[Interface], wish: XdpWish) -> Result<Kernel, AttachError> {
        let Self { pins, loaded, epoch, contents, slots, lock } = self;
        let (maps, attached) = attach::attach(&pins, loaded, interfaces, wish)?;
        remove_other_layouts(&pins);
        drop(lock);
        Ok(Kernel { pins, maps, epoch, contents, attached, standing: Standing::Owner, slots })
    }
}

impl Kernel {
    /// The interfaces and how XDP runs on each.
    pub fn attached(&self) -> &[AttachedInterface] {
        &self.attached
    }

    /// What the maps hold.
    pub fn contents(&self) -> &MapContents {
        &self.contents
    }

    /// Whether this process may write.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The maps, for handing over sockets.
    pub fn maps_and_slots(&mut self) -> (&mut Maps, &mut Slots) {
        (&mut self.maps, &mut self.slots)
    }

    /// Brings the maps to the desired state. Does nothing while another process owns them.
    pub fn apply(&mut self, contents: MapContents) -> Result<Synced, MapsError> {
        let mut synced = Synced::default();
        if self.check_standing()? == Standing::Owner {
            if contents != self.contents {
                synced = sync::apply(&mut self.maps, &contents)?;
            }
            synced.merge(self.slots.publish(&mut self.maps, &contents.listen)?);
        }
        self.contents = contents;
        Ok(synced)
    }

    /// A sign of life. A process that was superseded takes over again when the newer one is silent.
    pub fn heartbeat(&mut self) -> Result<Standing, MapsError> {
        let before = self.standing;
        if self.check_standing()? == Standing::Superseded {
            let newer = read_meta(&self.maps)?;
            let silent = Duration::from_nanos(now_ns().saturating_sub(newer.heartbeat_ns));
            if silent >= SILENCE {
                self.epoch = newer.epoch + 1;
                self.standing = Standing::Owner;
                write_meta(&mut self.maps, self.epoch)?;
                info!(epoch = self.epoch, "newer agent is gone, this one writes again");
                sync::apply(&mut self.maps, &self.contents)?;
                self.slots.publish(&mut self.maps, &self.contents.listen)?;
            }
        }
        match self.standing {
            Standing::Owner => write_meta(&mut self.maps, self.epoch)?,
            Standing::Superseded if before == Standing::Owner => {
                warn!(epoch = self.epoch, "a newer agent has taken over, this one goes on without writing");
            }
            Standing::Removed if before != Standing::Removed => warn!(
                home = %self.pins.home().display(),
                "the kernel half was removed (`portcullis cleanup`); restart this process to attach it again"
            ),
            Standing::Superseded | Standing::Removed => {}
        }
        Ok(self.standing)
    }

    /// The last word of a process that ends in order: an older one beside it need not wait for its silence.
    pub fn resign(&mut self) -> Result<(), MapsError> {
        if self.check_standing()? == Standing::Owner {
            write_meta_at(&mut self.maps, self.epoch, 0)?;
        }
        Ok(())
    }

    fn check_standing(&mut self) -> Result<Standing, MapsError> {
        if !self.pins.map("meta").exists() {
            self.standing = Standing::Removed;
        } else if self.standing == Standing::Owner && read_meta(&self.maps)?.epoch > self.epoch {
            self.standing = Standing::Superseded;
        }
        Ok(self.standing)
    }
}

/// What an earlier process left in the maps. The listeners behind `listen` are not in the kernel; they follow.
fn read_contents(maps: &Maps) -> Result<MapContents, MapsError> {
    Ok(MapContents {
        vips: sync::read_hash(&maps.vips, "vips")?,
        acl4: sync::read_trie(&maps.acl4, "acl4")?,
        acl6: sync::read_trie(&maps.acl6, "acl6")?,
        limits: sync::read_array(&maps.limits, "limits")?,
        listen: BTreeMap::new(),
    })
}

fn read_meta(maps: &Maps) -> Result<Meta, MapsError> {
    maps.meta.get(&0, 0).map_err(MapsError::of("meta"))
}

fn write_meta(maps: &mut Maps, epoch: u64) -> Result<(), MapsError> {
    write_meta_at(maps, epoch, now_ns())
}

fn write_meta_at(maps: &mut Maps, epoch: u64, heartbeat_ns: u64) -> Result<(), MapsError> {
    let mut build = [0; 16];
    for (to, from) in build.iter_mut().zip(env!("CARGO_PKG_VERSION").bytes()) {
        *to = from;
    }
    let meta = Meta { layout: LAYOUT_VERSION, pad: 0, epoch, heartbeat_ns, build };
    maps.meta.set(0, meta, 0).map_err(MapsError::of("meta"))
}

/// The clock of the kernel programs.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Monotonic time is never negative.
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Maps of other versions, once no program uses them any more.
fn remove_other_layouts(pins: &Pins) {
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
