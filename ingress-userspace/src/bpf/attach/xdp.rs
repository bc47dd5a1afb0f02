//! XDP on one interface, by a pinned link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tracing::{debug, warn};

use super::{Hook, Wish};
use crate::bpf::interfaces::{Interface, XdpMode};
use crate::bpf::pins::{self, PinnedLink, Pins};
use crate::bpf::syscall::{self, LinkInfo, LinkPlace, Target};

/// Why an interface takes no XDP program of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum XdpError {
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
    /// The kernel refused.
    #[error("interface {interface} takes no XDP program ({hook}): {source}")]
    Refused {
        /// Where.
        interface: String,
        /// How.
        hook: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The pins cannot be read or written.
    #[error("pins of XDP links: {0}")]
    Pins(io::Error),
}

/// Attaches at this hook, or takes over what an earlier process attached; at which hook it is then.
pub(super) fn attach(
    pins: &Pins,
    program: BorrowedFd<'_>,
    interface: &Interface,
    (hook, wish): (Hook, Wish),
    ours: &[PinnedLink],
) -> Result<Hook, XdpError> {
    let path = pins.xdp(interface.index);
    let refused = |hook: Hook| {
        let interface = interface.name.clone();
        move |source| XdpError::Refused { interface, hook: hook.name(), source }
    };
    let present = present(interface.index, ours);
    if let Some(foreign) = foreign_program(interface, present.map(|link| &link.info)) {
        return Err(XdpError::Foreign { interface: interface.name.clone(), program: foreign });
    }
    if path.exists() {
        let is_alive = present.zip(interface.xdp);
        let running = is_alive.map(|(_, running)| match running.mode {
            XdpMode::Native => Hook::XdpNative,
            XdpMode::Generic => Hook::XdpGeneric,
        });
        match running {
            Some(running) if wish.keeps(running) => {
                let link = syscall::open_pin(&path).map_err(XdpError::Pins)?;
                syscall::link_update(link.as_fd(), program).map_err(refused(running))?;
                debug!(interface = interface.name, hook = running.name(), "link taken over");
                return Ok(running);
            }
            // A link cannot change its mode; this one was asked for by a flag, which is worth the gap.
            Some(_) => pins::remove_link(&path).map_err(XdpError::Pins)?,
            // Detached by somebody, or of an interface that had this index before.
            None => std::fs::remove_file(&path).map_err(XdpError::Pins)?,
        }
    }
    let target = match hook {
        Hook::XdpNative => Target::XdpNative(interface.index),
        Hook::XdpGeneric | Hook::Tc => Target::XdpGeneric(interface.index),
    };
    let link = syscall::link_create(program, target).map_err(refused(hook))?;
    syscall::pin(link.as_fd(), &path).map_err(XdpError::Pins)?;
    Ok(hook)
}

/// Detaches our link of an interface, if there is one.
pub(super) fn remove(interface: u32, ours: &[PinnedLink]) {
    let Some(link) = present(interface, ours) else { return };
    if let Err(error) = pins::remove_link(&link.path) {
        warn!(interface, %error, "XDP link cannot be detached");
    }
}

fn present(interface: u32, ours: &[PinnedLink]) -> Option<&PinnedLink> {
    ours.iter().find(|link| link.info.place == LinkPlace::Xdp(Some(interface)))
}

/// The program that runs on an interface and is not behind our link.
fn foreign_program(interface: &Interface, ours: Option<&LinkInfo>) -> Option<u32> {
    let running = interface.xdp?.program;
    (ours.map(|link| link.program) != Some(running)).then_some(running)
}
