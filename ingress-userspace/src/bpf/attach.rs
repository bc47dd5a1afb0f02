//! Puts the programs in place: SK_LOOKUP on the network namespace, XDP on the interfaces.
//!
//! A link that an earlier process pinned gets the new program in one step and is never detached; only where there is
//! none is one made. A foreign XDP program is never replaced. It is all or nothing: lists and limits that hold on one
//! interface only would be none, so one interface without XDP sends the node to `userspace` mode.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use aya::programs::ProgramError;
use tracing::{debug, info, warn};

use super::interfaces::{Interface, XdpMode};
use super::load::{self, Loaded};
use super::pins::{self, Pins};
use super::syscall::{self, LinkInfo, LinkPlace, Target};

/// Which XDP mode is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpWish {
    /// Native, else generic.
    Best,
    /// This one. Native steps down to generic, too, since the service comes up in any case.
    Named(XdpMode),
}

impl XdpWish {
    /// What is tried, in order.
    fn modes(self) -> &'static [XdpMode] {
        match self {
            Self::Best | Self::Named(XdpMode::Native) => &[XdpMode::Native, XdpMode::Generic],
            Self::Named(XdpMode::Generic) => &[XdpMode::Generic],
        }
    }

    /// Whether a link that an earlier process attached in this mode is good enough.
    fn keeps(self, running: XdpMode) -> bool {
        match self {
            Self::Best => true,
            Self::Named(mode) => mode == running,
        }
    }
}

/// One attached interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedInterface {
    /// Which.
    pub name: String,
    /// How.
    pub mode: XdpMode,
}

/// Why the programs are not in place.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Nowhere to attach to.
    #[error("no interface carries an address of this node; name one by --interface")]
    NoInterface,
    /// An interface was named that is not there.
    #[error("interface {0} does not exist; correct --interface")]
    UnknownInterface(String),
    /// Someone else's program.
    #[error(
        "interface {interface} runs a foreign XDP program (id {program}), which is left alone; remove it \
         (`ip link set dev {interface} xdp off`, or `bpftool link detach` where a link holds it) or name other interfaces by --interface"
    )]
    Foreign {
        /// Where.
        interface: String,
        /// Its number, as `bpftool prog` prints it.
        program: u32,
    },
    /// The kernel refused every mode.
    #[error("interface {interface} takes no XDP program ({mode})")]
    Refused {
        /// Where.
        interface: String,
        /// The last mode that was tried.
        mode: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
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
    /// The object has no such program.
    #[error("the kernel half has no program `{0}`; build it again with `cargo xtask build-ebpf`")]
    NoProgram(&'static str),
    /// A program has no descriptor.
    #[error("a program is not loaded")]
    NotLoaded(#[from] ProgramError),
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

/// Attaches, or takes over what is attached. On failure nothing of ours stays attached.
pub fn attach(
    pins: &Pins,
    loaded: Loaded,
    interfaces: &[Interface],
    wish: XdpWish,
) -> Result<(super::maps::Maps, Vec<AttachedInterface>), AttachError> {
    let Loaded { maps, programs } = loaded;
    let outcome = attach_programs(pins, &programs, interfaces, wish);
    match outcome {
        Ok(attached) => Ok((maps, attached)),
        Err(error) => {
            // A half that is in place would drop or steer packets that nobody looks after.
            if !matches!(error, AttachError::OtherNamespace { .. }) {
                detach_all(pins);
            }
            Err(error)
        }
    }
}

/// Detaches every link of ours in this BPF file system.
pub fn detach_all(pins: &Pins) {
    for link in pins.pinned_links().unwrap_or_default() {
        match pins::remove_link(&link.path) {
            Ok(()) => info!(link = link.info.id, pin = %link.path.display(), "link detached"),
            Err(error) => {
                warn!(link = link.info.id, pin = %link.path.display(), %error, "link cannot be detached")
            }
        }
    }
}

fn attach_programs(
    pins: &Pins,
    programs: &aya::Ebpf,
    interfaces: &[Interface],
    wish: XdpWish,
) -> Result<Vec<AttachedInterface>, AttachError> {
    let pins_error = |source| AttachError::Pins { home: pins.home().to_owned(), source };
    if interfaces.is_empty() {
        return Err(AttachError::NoInterface);
    }
    let program = |name| programs.program(name).ok_or(AttachError::NoProgram(name));
    let xdp = program(load::XDP)?.fd()?.as_fd();
    let sk_lookup = program(load::SK_LOOKUP)?.fd()?.as_fd();

    // SK_LOOKUP first: packets that XDP admits must find a socket.
    attach_sk_lookup(pins, sk_lookup)?;
    let ours = pins.pinned_links().map_err(pins_error)?;
    let mut attached = Vec::new();
    for interface in interfaces {
        let mode = attach_xdp(pins, xdp, interface, wish, &ours)?;
        attached.push(AttachedInterface { name: interface.name.clone(), mode });
    }
    // Links of interfaces that are no longer wanted, or that are gone.
    for link in ours {
        if let LinkPlace::Xdp(index) = link.info.place
            && !index.is_some_and(|index| interfaces.iter().any(|interface| interface.index == index))
        {
            pins::remove_link(&link.path)
                .or_else(|_| std::fs::remove_file(&link.path))
                .map_err(pins_error)?;
            info!(link = link.info.id, "link of an interface that is no longer served removed");
        }
    }
    Ok(attached)
}

fn attach_sk_lookup(pins: &Pins, program: BorrowedFd<'_>) -> Result<(), AttachError> {
    let pins_error = |source| AttachError::Pins { home: pins.home().to_owned(), source };
    let namespace = std::fs::File::open("/proc/self/ns/net").map_err(pins_error)?;
    let inode = namespace.metadata().map_err(pins_error)?.ino();
    let path = pins.sk_lookup();
    if path.exists() {
        let link = syscall::open_pin(&path).map_err(pins_error)?;
        match syscall::link_info(link.as_fd()).map_err(pins_error)?.place {
            LinkPlace::SkLookup(Some(other)) if u64::from(other) != inode => {
                return Err(AttachError::OtherNamespace { home: pins.home().to_owned() });
            }
            LinkPlace::SkLookup(Some(_)) => {
                return syscall::link_update(link.as_fd(), program).map_err(AttachError::SkLookup);
            }
            // The namespace of an earlier run is gone; the link is a shell.
            _ => std::fs::remove_file(&path).map_err(pins_error)?,
        }
    }
    let link =
        syscall::link_create(program, Target::SkLookup(namespace.as_fd())).map_err(AttachError::SkLookup)?;
    syscall::pin(link.as_fd(), &path).map_err(pins_error)
}

fn attach_xdp(
    pins: &Pins,
    program: BorrowedFd<'_>,
    interface: &Interface,
    wish: XdpWish,
    ours: &[pins::PinnedLink],
) -> Result<XdpMode, AttachError> {
    let pins_error = |source| AttachError::Pins { home: pins.home().to_owned(), source };
    let path = pins.xdp(interface.index);
    let present = ours.iter().find(|link| link.info.place == LinkPlace::Xdp(Some(interface.index)));
    if let Some(foreign) = foreign_program(interface, present.map(|link| &link.info)) {
        return Err(AttachError::Foreign { interface: interface.name.clone(), program: foreign });
    }
    if let (Some(present), Some(running)) = (present, interface.xdp) {
        if wish.keeps(running.mode) {
            let link = syscall::open_pin(&present.path).map_err(pins_error)?;
            syscall::link_update(link.as_fd(), program).map_err(|source| AttachError::Refused {
                interface: interface.name.clone(),
                mode: running.mode.name(),
                source,
            })?;
            debug!(interface = interface.name, link = present.info.id, "link taken over");
            return Ok(running.mode);
        }
        // A link cannot change its mode; this one was asked for by a flag, which is worth the gap.
        pins::remove_link(&present.path).map_err(pins_error)?;
    } else if path.exists() {
        // Of an interface that had this index before.
        std::fs::remove_file(&path).map_err(pins_error)?;
    }
    let mut refusal = None;
    for mode in wish.modes() {
        let target = match mode {
            XdpMode::Native => Target::XdpNative(interface.index),
            XdpMode::Generic => Target::XdpGeneric(interface.index),
        };
        match syscall::link_create(program, target) {
            Ok(link) => {
                syscall::pin(link.as_fd(), &path).map_err(pins_error)?;
                if let Some((_, error)) = refusal {
                    warn!(
                        interface = interface.name,
                        %error,
                        "no xdp-native on this interface (driver, MTU or offload settings), stepping down to \
                         xdp-generic, which is slower"
                    );
                }
                return Ok(*mode);
            }
            Err(error) => refusal = Some((*mode, error)),
        }
    }
    match refusal {
        Some((mode, source)) => {
            Err(AttachError::Refused { interface: interface.name.clone(), mode: mode.name(), source })
        }
        None => Err(AttachError::NoInterface),
    }
}

/// The program that runs on an interface and is not behind our link.
fn foreign_program(interface: &Interface, ours: Option<&LinkInfo>) -> Option<u32> {
    let running = interface.xdp?.program;
    (ours.map(|link| link.program) != Some(running)).then_some(running)
}
