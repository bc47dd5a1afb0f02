//! Puts the programs in place: SK_LOOKUP on the network namespace, and on each interface the best that it takes: XDP in
//! the driver, XDP in the network stack, TC; beside it the program for what leaves.
//!
//! A link that an earlier process pinned gets the new program in one step and is never detached; only where there is
//! none is one made. A foreign XDP program is never replaced, and at TC ours goes behind those of others. An interface
//! that takes nothing is told of and keeps no other one from being served. Interfaces come and go: [`Attachments::follow`].

mod explain;
mod sk_lookup;
mod tc;
mod xdp;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use tracing::{info, warn};

use super::clsact::{self, Direction};
use super::interfaces::Interface;
use super::load::{LoadError, Programs};
use super::pins::{self, PinnedLink, Pins};
use super::syscall::{self, LinkPlace};
use crate::error_chain::chain;
use explain::Obstacle;
pub(super) use sk_lookup::check_namespace;
use tc::Means;

/// Where the packets of an interface are met, from the best to the slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the network stack.
    XdpGeneric,
    /// TC, behind the allocation of the kernel's packet.
    Tc,
}

impl Hook {
    /// As in `--mode`, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

/// How the programs shall be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The best hook that is wanted; the next ones are taken where it cannot be had, since the service comes up in any
    /// case. `None`: the best there is.
    pub hook: Option<Hook>,
    /// Filters of clsact also where the kernel has TCX, as on kernels before 6.6.
    pub without_tcx: bool,
}

impl Wish {
    /// What is tried, in order.
    fn hooks(self) -> &'static [Hook] {
        match self.hook {
            None | Some(Hook::XdpNative) => &[Hook::XdpNative, Hook::XdpGeneric, Hook::Tc],
            Some(Hook::XdpGeneric) => &[Hook::XdpGeneric, Hook::Tc],
            Some(Hook::Tc) => &[Hook::Tc],
        }
    }

    /// Whether a link that an earlier process attached here is good enough.
    fn keeps(self, running: Hook) -> bool {
        self.hook.is_none_or(|hook| hook == running)
    }
}

/// One interface with programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedInterface {
    /// Which.
    pub name: String,
    /// How.
    pub hook: Hook,
}

/// Why the programs are not in place.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Nowhere to attach to.
    #[error(
        "no interface carries an address of this node; those that are made in software, such as bridges, are not chosen by \
         themselves: name one by --interface"
    )]
    NoInterface,
    /// None of the interfaces that were named is there.
    #[error("interface {0} does not exist; correct --interface")]
    UnknownInterface(String),
    /// No interface takes a program.
    #[error("no interface takes a program: {0}")]
    Refused(String),
    /// SK_LOOKUP was refused.
    #[error("the kernel takes no SK_LOOKUP program; it needs CONFIG_INET and CAP_NET_ADMIN")]
    SkLookup(#[source] io::Error),
    /// The pins belong to another network namespace.
    #[error(
        "the pins in {home} belong to another network namespace; give this one its own BPF file system by --bpffs"
    )]
    OtherNamespace {
        /// The folder.
        home: PathBuf,
    },
    /// The pins cannot be read or written.
    #[error("pins in {home}")]
    Pins {
        /// The folder.
        home: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// How one interface is served.
#[derive(Debug)]
struct Served {
    /// As it was when it was last dealt with.
    interface: Interface,
    hook: Option<Hook>,
    ingress: Option<Means>,
    egress: Option<Means>,
    /// What better hooks said, and what was refused beside.
    obstacles: Vec<Obstacle>,
}

/// The programs, and the interfaces they are attached to.
#[derive(Debug)]
pub struct Attachments {
    pins: Pins,
    programs: Programs,
    wish: Wish,
    /// Whether packets are sent on to other nodes.
    steers: bool,
    served: BTreeMap<u32, Served>,
}

impl Attachments {
    /// Attaches SK_LOOKUP, or gives the link that is there its new program: packets that the others admit must find a
    /// socket, so it comes before them.
    pub(super) fn begin(pins: Pins, programs: Programs, wish: Wish) -> Result<Self, AttachError> {
        sk_lookup::attach(&pins, programs.sk_lookup.as_fd())?;
        Ok(Self { pins, programs, wish, steers: false, served: BTreeMap::new() })
    }

    /// Serves these interfaces and no others; whether anything changed. What is as it should be is not touched. `steers` says
    /// whether packets are sent on to other nodes.
    pub async fn follow(&mut self, wanted: &[Interface], steers: bool) -> Result<bool, AttachError> {
        self.steers = steers;
        let home = self.pins.home().to_owned();
        let of_pins = |source| AttachError::Pins { home: home.clone(), source };
        let ours = self.pins.pinned_links().map_err(of_pins)?;
        let mut is_changed = false;
        for interface in wanted {
            if self.is_sound(interface, &ours).await {
                continue;
            }
            let served = self.serve(interface, &ours).await;
            let before = self.served.insert(interface.index, served);
            is_changed |= self.tell(interface.index, before.as_ref());
        }
        let is_wanted = |index: u32| wanted.iter().any(|interface| interface.index == index);
        for link in ours {
            let (LinkPlace::Xdp(index) | LinkPlace::Tcx(index, _)) = link.info.place else { continue };
            // One that was detached by somebody has given its pin away when its interface was served again.
            if !index.is_some_and(is_wanted) && !is_replaced(&link) {
                remove(&link).map_err(of_pins)?;
                is_changed = true;
            }
        }
        for (index, _) in self.pins.clsact_marks().map_err(of_pins)? {
            if !is_wanted(index) {
                for direction in Direction::ALL {
                    tc::remove_filter(&self.pins, index, direction).await;
                }
            }
        }
        let known = self.served.len();
        self.served.retain(|index, _| is_wanted(*index));
        Ok(is_changed || self.served.len() != known)
    }

    /// The interfaces with programs.
    pub fn attached(&self) -> Vec<AttachedInterface> {
        let attached = self.served.values().filter_map(|served| {
            Some(AttachedInterface { name: served.interface.name.clone(), hook: served.hook? })
        });
        attached.collect()
    }

    /// The interfaces that take no program.
    pub fn refused(&self) -> Vec<String> {
        let refused = self.served.values().filter(|served| served.hook.is_none());
        refused.map(|served| served.interface.name.clone()).collect()
    }

    /// Which interfaces are served less well than was asked for, and why.
    pub fn degraded(&self) -> Vec<String> {
        self.served.values().flat_map(|served| explain::degraded(served, self.wish)).collect()
    }

    /// Why no interface is served.
    pub(super) fn failure(&self) -> AttachError {
        if self.served.is_empty() {
            AttachError::NoInterface
        } else {
            AttachError::Refused(self.degraded().join("; "))
        }
    }

    /// Whether an interface is served as well as it can be, as far as can be seen without trying.
    async fn is_sound(&self, interface: &Interface, ours: &[PinnedLink]) -> bool {
        let Some(served) = self.served.get(&interface.index) else { return false };
        let has_link = |place: LinkPlace| ours.iter().any(|link| link.info.place == place);
        let way_in = match served.hook {
            Some(Hook::XdpNative) if self.is_mute(interface) => false,
            Some(Hook::XdpNative | Hook::XdpGeneric) => has_link(LinkPlace::Xdp(Some(interface.index))),
            // What stood in the way of XDP may be gone.
            Some(Hook::Tc) => {
                interface.xdp.map(|xdp| xdp.program) == served.interface.xdp.map(|xdp| xdp.program)
                    && tc::is_there(served.ingress, interface.index, Direction::In, ours).await
            }
            None => served.interface == *interface,
        };
        way_in
            && (served.egress.is_none()
                || tc::is_there(served.egress, interface.index, Direction::Out, ours).await)
    }

    async fn serve(&self, interface: &Interface, ours: &[PinnedLink]) -> Served {
        let mut served = Served {
            interface: interface.clone(),
            hook: None,
            ingress: None,
            egress: None,
            obstacles: Vec::new(),
        };
        let mut wish = self.wish;
        if self.is_mute(interface) && wish.hooks().contains(&Hook::XdpNative) {
            wish.hook = Some(Hook::XdpGeneric);
            served.obstacles.push(Obstacle::Mute);
        }
        for hook in wish.hooks() {
            let outcome = match hook {
                Hook::XdpNative | Hook::XdpGeneric => self.serve_by_xdp(interface, (*hook, wish), ours),
                Hook::Tc => self.serve_by_tc(interface, Direction::In, ours).await.map(|ingress| {
                    served.ingress = Some(ingress);
                    Hook::Tc
                }),
            };
            match outcome {
                Ok(hook) => {
                    served.hook = Some(hook);
                    break;
                }
                Err(obstacle) => served.obstacles.push(obstacle),
            }
        }
        // Both ways in for a moment are better than none, and a limit may be charged twice meanwhile.
        match served.hook {
            Some(Hook::XdpNative | Hook::XdpGeneric) => {
                tc::remove_link(&self.pins, interface.index, Direction::In);
                tc::remove_filter(&self.pins, interface.index, Direction::In).await;
            }
            Some(Hook::Tc) => xdp::remove(interface.index, ours),
            None => return served,
        }
        match self.serve_by_tc(interface, Direction::Out, ours).await {
            Ok(egress) => served.egress = Some(egress),
            Err(obstacle) => served.obstacles.push(obstacle),
        }
        served
    }

    /// Whether XDP in the driver cannot do what it is for here.
    fn is_mute(&self, interface: &Interface) -> bool {
        self.steers && interface.nature.is_mute
    }

    fn serve_by_xdp(
        &self,
        interface: &Interface,
        how: (Hook, Wish),
        ours: &[PinnedLink],
    ) -> Result<Hook, Obstacle> {
        let program = loaded(&self.programs.xdp)?;
        Ok(xdp::attach(&self.pins, program, interface, how, ours)?)
    }

    async fn serve_by_tc(
        &self,
        interface: &Interface,
        direction: Direction,
        ours: &[PinnedLink],
    ) -> Result<Means, Obstacle> {
        let program = match direction {
            Direction::In => loaded(&self.programs.tc_in)?,
            Direction::Out => loaded(&self.programs.tc_out)?,
        };
        let place = tc::Place { interface: interface.index, direction };
        Ok(tc::attach(&self.pins, program, place, self.wish.without_tcx, ours).await?)
    }

    /// One line for each step down; whether there is anything new.
    fn tell(&self, index: u32, before: Option<&Served>) -> bool {
        let Some(served) = self.served.get(&index) else { return false };
        let interface = served.interface.name.as_str();
        let reason = explain::reason(&served.obstacles);
        let is_new = before
            .is_none_or(|before| before.hook != served.hook || explain::reason(&before.obstacles) != reason);
        if !is_new {
            return false;
        }
        let is_asked_for = |hook: Hook| self.wish.hook == Some(hook);
        match served.hook {
            None => {
                warn!(
                    interface,
                    reason, "no program on this interface, limits do not hold there and lists at accept only"
                )
            }
            Some(Hook::XdpGeneric) if !is_asked_for(Hook::XdpGeneric) && !reason.is_empty() => warn!(
                interface,
                reason, "no xdp-native on this interface, stepping down to xdp-generic, which is slower"
            ),
            Some(Hook::Tc) if !is_asked_for(Hook::Tc) => {
                warn!(interface, reason, "no XDP on this interface, stepping down to tc, which is slower");
            }
            Some(hook) => {
                info!(interface, hook = hook.name(), "programs in place");
                if served.egress.is_none() {
                    warn!(
                        interface,
                        reason, "what leaves by this interface is neither counted nor corrected"
                    );
                }
            }
        }
        true
    }
}

fn loaded(program: &Result<OwnedFd, LoadError>) -> Result<BorrowedFd<'_>, Obstacle> {
    match program {
        Ok(program) => Ok(program.as_fd()),
        Err(error) => Err(Obstacle::NotLoaded(chain(error))),
    }
}

/// Detaches every link and filter of ours in this BPF file system.
pub async fn detach_all(pins: &Pins) {
    for link in pins.pinned_links().unwrap_or_default() {
        match pins::remove_link(&link.path) {
            Ok(()) => info!(link = link.info.id, pin = %link.path.display(), "link detached"),
            Err(error) => {
                warn!(link = link.info.id, pin = %link.path.display(), %error, "link cannot be detached")
            }
        }
    }
    for (index, _) in pins.clsact_marks().unwrap_or_default() {
        for direction in Direction::ALL {
            tc::remove_filter(pins, index, direction).await;
        }
    }
}

/// Whether the pin leads to another link by now.
fn is_replaced(link: &PinnedLink) -> bool {
    let now = syscall::open_pin(&link.path).and_then(|fd| syscall::link_info(fd.as_fd()));
    now.is_ok_and(|now| now.id != link.info.id)
}

/// A link of an interface that is no longer served, or that is gone.
fn remove(link: &PinnedLink) -> io::Result<()> {
    match pins::remove_link(&link.path).or_else(|_| std::fs::remove_file(&link.path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    info!(link = link.info.id, "link of an interface that is no longer served removed");
    Ok(())
}

/// The filters of an interface, for `portcullis status`.
pub(super) async fn filter_program(index: u32, direction: Direction) -> Option<u32> {
    clsact::ours(index, direction).await.ok().flatten().map(|filter| filter.program)
}
