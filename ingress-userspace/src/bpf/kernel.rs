//! The kernel half of this node as one process holds it: load, fill, attach, keep current.
//!
//! `meta` says who may write. Each start takes the next epoch; a process that finds a newer epoch than its own leaves
//! the maps alone and goes on serving what it has, until the newer one has been silent for ten seconds.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use ingress_common::maps::{LAYOUT_VERSION, Meta};
use tracing::{info, warn};

use super::attach::{self, AttachError, AttachedInterface, Attachments, Hook, Wish};
use super::carry;
pub use super::clock::now_ns;
use super::ifaces::{fill_ifaces, steers};
use super::interfaces::Interface;
use super::load::{self, LoadError, Loaded};
use super::maps::{Maps, MapsError};
use super::pins::Pins;
use super::slots::Slots;
use super::slots::listening::is_listening;
use super::slots::migration::Migration;
use super::sync::{self, Synced};
use crate::compile::maps::MapContents;
use crate::error_chain::chain;
use crate::model::listener::Listener;

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
    /// Number of the map `meta`.
    meta_id: u32,
    contents: MapContents,
    attachments: Attachments,
    standing: Standing,
    /// The kernel refused entries of the contents.
    is_incomplete: bool,
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
    /// A newer process with maps of its own did, and is gone: the kernel half must be put in place again.
    Abandoned,
    /// The pins are gone: somebody ran `portcullis cleanup`.
    Removed,
}

/// Why the kernel half could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The pins cannot be locked.
    #[error("cannot lock the pins")]
    Lock(#[source] std::io::Error),
    /// The pins cannot be read or written.
    #[error("pins of maps")]
    Pins(#[source] std::io::Error),
    /// Loading.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The pins are not this node's.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

impl PrepareError {
    /// Whether the pins serve another network namespace.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Attach(AttachError::OtherNamespace { .. }))
    }
}

/// Why the interfaces could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The pins cannot be locked.
    #[error("cannot lock the pins")]
    Lock(#[source] std::io::Error),
    /// Programs.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
}

/// Whether what is pinned serves another network namespace.
pub fn is_elsewhere(bpffs: &Path) -> bool {
    matches!(attach::check_namespace(&Pins::new(bpffs)), Err(AttachError::OtherNamespace { .. }))
}

/// Loads the kernel half and takes the next epoch. What is pinned goes on working meanwhile.
pub fn prepare(bpffs: &Path, listeners: &[Listener]) -> Result<Prepared, PrepareError> {
    let pins = Pins::new(bpffs);
    let lock = pins.lock().map_err(PrepareError::Lock)?;
    attach::check_namespace(&pins)?;
    let earlier = carry::earlier(&pins).map_err(PrepareError::Pins)?;
    if earlier.is_some() {
        // What stands in our folder beside maps that are in use is a left-over of an attempt that failed.
        pins.clear_maps().map_err(PrepareError::Pins)?;
    }
    let mut loaded = load::load(&pins, earlier.as_deref())?;
    if let Some(folder) = &earlier {
        carry::carry(folder, &pins);
    }
    let migration = Migration::of(&loaded.programs);
    let slots = Slots::adopt(&loaded.maps, listeners, migration)?;
    let contents = read_contents(&loaded.maps)?;
    let of_others = carry::other_head(&pins, now_ns()).map_or(0, |head| head.epoch);
    let epoch = read_meta(&loaded.maps)?.epoch.max(of_others) + 1;
    write_meta(&mut loaded.maps, epoch)?;
    Ok(Prepared { pins, loaded, epoch, contents, slots, lock })
}

impl Prepared {
    /// What the maps hold from an earlier process: numbers of addresses and limits are kept.
    pub fn contents(&self) -> &MapContents {
        &self.contents
    }

    /// The maps, for what is not in the contents.
    pub fn maps(&mut self) -> &mut Maps {
        &mut self.loaded.maps
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

    /// Puts the programs in place. On failure nothing of ours stays attached.
    pub async fn attach(self, interfaces: &[Interface], wish: Wish) -> Result<Kernel, AttachError> {
        let Self { pins, loaded, epoch, contents, slots, lock } = self;
        let Loaded { mut maps, programs } = loaded;
        if let Err(error) = fill_ifaces(&mut maps, interfaces, |_| true) {
            warn!(error = %chain(&error), "map of interfaces cannot be filled");
        }
        let steers = steers(&maps).unwrap_or(false);
        let outcome = async {
            let mut attachments = Attachments::begin(pins.clone(), programs, wish)?;
            attachments.follow(interfaces, steers).await?;
            if attachments.attached().is_empty() { Err(attachments.failure()) } else { Ok(attachments) }
        };
        match outcome.await {
            Ok(attachments) => {
                carry::remove_others(&pins);
                drop(lock);
                let meta_id = carry::head(&pins.map("meta"), now_ns()).map_or(0, |head| head.map);
                Ok(Kernel {
                    pins,
                    maps,
                    epoch,
                    meta_id,
                    contents,
                    attachments,
                    standing: Standing::Owner,
                    is_incomplete: false,
                    slots,
                })
            }
            Err(error) => {
                // A half that is in place would drop or steer packets that nobody looks after.
                if !matches!(error, AttachError::OtherNamespace { .. }) {
                    attach::detach_all(&pins).await;
                }
                Err(error)
            }
        }
    }
}

impl Kernel {
    /// The interfaces with programs.
    pub fn attached(&self) -> Vec<AttachedInterface> {
        self.attachments.attached()
    }

    /// The interfaces that take none.
    pub fn refused(&self) -> Vec<String> {
        self.attachments.refused()
    }

    /// Which interfaces are served less well than was asked for, and why.
    pub fn degraded(&self) -> Vec<String> {
        self.attachments.degraded()
    }

    /// Serves these interfaces: those that came get programs, those that went leave nothing. Whether anything changed.
    /// Does nothing while another process owns the kernel half.
    pub async fn follow(&mut self, interfaces: &[Interface]) -> Result<bool, FollowError> {
        if self.check_standing()? != Standing::Owner {
            return Ok(false);
        }
        // Whoever has it takes over or removes; what remains to be done is seen at the next look.
        let Some(_lock) = self.pins.try_lock().map_err(FollowError::Lock)? else { return Ok(false) };
        let steers = steers(&self.maps)?;
        let is_changed = self.attachments.follow(interfaces, steers).await?;
        let attached = self.attachments.attached();
        let is_native = |interface: &Interface| {
            attached.iter().any(|it| it.name == interface.name && it.hook == Hook::XdpNative)
        };
        fill_ifaces(&mut self.maps, interfaces, is_native)?;
        Ok(is_changed)
    }

    /// What the maps hold.
    pub fn contents(&self) -> &MapContents {
        &self.contents
    }

    /// Whether the kernel refused entries: they are missing.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Whether this process may write.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The maps, for handing over sockets.
    pub fn maps_and_slots(&mut self) -> (&mut Maps, &mut Slots) {
        (&mut self.maps, &mut self.slots)
    }

    /// The maps and what they hold, for reading.
    pub fn maps_and_contents(&self) -> (&Maps, &MapContents) {
        (&self.maps, &self.contents)
    }

    /// The maps, for writing what is not in the contents; `None` while another process owns them.
    pub fn owned_maps(&mut self) -> Option<&mut Maps> {
        (self.standing == Standing::Owner).then_some(&mut self.maps)
    }

    /// Brings the maps to the desired state. Does nothing while another process owns them.
    pub fn apply(&mut self, contents: MapContents) -> Result<Synced, MapsError> {
        let mut synced = Synced::default();
        if self.check_standing()? == Standing::Owner {
            // Who is let in shall find a socket: sockets come before the end of a pause and before new addresses, and go
            // after them.
            let grows = self.contents.listen.keys().all(|key| contents.listen.contains_key(key));
            if grows {
                synced.merge(self.slots.publish(&mut self.maps, &contents.listen)?);
            }
            // What the kernel refused is tried again: there may be room by now.
            if contents != self.contents || self.is_incomplete {
                let changed = sync::apply(&mut self.maps, &contents)?;
                self.is_incomplete = !changed.refused.is_empty();
                synced.merge(changed);
            }
            if !grows {
                synced.merge(self.slots.publish(&mut self.maps, &contents.listen)?);
            }
        }
        self.contents = contents;
        Ok(synced)
    }

    /// A sign of life. A process that was superseded takes over again when the newer one is silent.
    pub fn heartbeat(&mut self) -> Result<Standing, MapsError> {
        let before = self.standing;
        if self.check_standing()? == Standing::Superseded {
            let newer = carry::head(&self.pins.map("meta"), now_ns());
            if let Some(newer) = newer
                && !newer.is_alive
                && self.owns(newer)
            {
                self.epoch = newer.epoch + 1;
                self.standing = Standing::Owner;
                write_meta(&mut self.maps, self.epoch)?;
                info!(epoch = self.epoch, "newer agent is gone, this one writes again");
                sync::forget(&mut self.maps);
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
            Standing::Superseded | Standing::Abandoned | Standing::Removed => {}
        }
        Ok(self.standing)
    }

    /// The last word of a process that ends in order: an older one beside it need not wait for its silence.
    pub fn resign(&mut self) -> Result<(), MapsError> {
        if self.check_standing()? == Standing::Owner {
            write_meta_with(&mut self.maps, self.epoch, Meta::ENDED)?;
        }
        Ok(())
    }

    fn check_standing(&mut self) -> Result<Standing, MapsError> {
        let now = now_ns();
        let pinned = carry::head(&self.pins.map("meta"), now);
        self.standing = match pinned.filter(|head| self.owns(*head)) {
            Some(head) if head.epoch > self.epoch => Standing::Superseded,
            Some(_) => Standing::Owner,
            // Other maps are in place of ours: of another layout, or of ours again after one.
            None => match pinned.or_else(|| carry::other_head(&self.pins, now)) {
                Some(other) if other.is_alive => Standing::Superseded,
                Some(_) => Standing::Abandoned,
                None => Standing::Removed,
            },
        };
        Ok(self.standing)
    }

    /// Whether a pinned `meta` is the one that this process holds.
    fn owns(&self, head: carry::Head) -> bool {
        head.map == self.meta_id
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
    write_meta_with(maps, epoch, 0)
}

fn write_meta_with(maps: &mut Maps, epoch: u64, flags: u32) -> Result<(), MapsError> {
    let mut build = [0; 16];
    for (to, from) in build.iter_mut().zip(env!("CARGO_PKG_VERSION").bytes()) {
        *to = from;
    }
    let secret = match read_meta(maps)?.secret {
        // Nobody may know which sources share a slot; what is charged already is looked for by the same key.
        0 => RandomState::new().hash_one(now_ns()).max(1),
        secret => secret,
    };
    let meta = Meta { layout: LAYOUT_VERSION, flags, epoch, heartbeat_ns: now_ns(), secret, build };
    maps.meta.set(0, meta, 0).map_err(MapsError::of("meta"))
}
