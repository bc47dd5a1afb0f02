//! TC on one interface and direction: a pinned link of TCX, or a filter of clsact where the kernel has none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tracing::{debug, warn};

use crate::bpf::clsact::{self, Direction};
use crate::bpf::netlink::NetlinkError;
use crate::bpf::pins::{self, PinnedLink, Pins};
use crate::bpf::syscall::{self, LinkPlace, Target};
use crate::error_chain::chain;

/// By what a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// A link, on kernels from 6.6 on.
    Tcx,
    /// A filter of the qdisc clsact.
    Clsact,
}

/// An interface and a direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) interface: u32,
    pub(super) direction: Direction,
}

/// Why TC takes no program.
#[derive(Debug, thiserror::Error)]
pub(super) enum TcError {
    /// Neither a link nor a filter.
    #[error("TC takes no program ({direction}): {tcx}, and by clsact: {}", chain(clsact))]
    Refused {
        /// Which way.
        direction: &'static str,
        /// What the kernel said of a link.
        tcx: io::Error,
        /// What it said of a filter.
        clsact: NetlinkError,
    },
    /// The pins cannot be read or written.
    #[error("pins of links at TC: {0}")]
    Pins(io::Error),
}

/// Attaches behind what is there, or takes over what an earlier process attached.
pub(super) async fn attach(
    pins: &Pins,
    program: BorrowedFd<'_>,
    at: Place,
    without_tcx: bool,
    ours: &[PinnedLink],
) -> Result<Means, TcError> {
    let Place { interface, direction } = at;
    let tcx = if without_tcx {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    } else {
        attach_link(pins, program, at, ours)?
    };
    match tcx {
        Ok(()) => {
            remove_filter(pins, interface, direction).await;
            Ok(Means::Tcx)
        }
        Err(tcx) => {
            let refused = |clsact| TcError::Refused { direction: direction.name(), tcx, clsact };
            let is_made = clsact::attach(interface, direction, program).await.map_err(refused)?;
            pins.mark_clsact(interface, is_made).map_err(TcError::Pins)?;
            remove_link(pins, interface, direction);
            Ok(Means::Clsact)
        }
    }
}

/// The inner error is the kernel's refusal, which clsact may make up for.
fn attach_link(
    pins: &Pins,
    program: BorrowedFd<'_>,
    Place { interface, direction }: Place,
    ours: &[PinnedLink],
) -> Result<io::Result<()>, TcError> {
    let path = pins.tcx(interface, direction);
    if path.exists() {
        let place = LinkPlace::Tcx(Some(interface), direction);
        if ours.iter().any(|link| link.path == path && link.info.place == place) {
            let link = syscall::open_pin(&path).map_err(TcError::Pins)?;
            let updated = syscall::link_update(link.as_fd(), program);
            debug!(interface, direction = direction.name(), "link at TC taken over");
            return Ok(updated);
        }
        // Detached by somebody, or of an interface that had this index before.
        std::fs::remove_file(&path).map_err(TcError::Pins)?;
    }
    match syscall::link_create(program, Target::Tcx(interface, direction)) {
        Ok(link) => syscall::pin(link.as_fd(), &path).map(Ok).map_err(TcError::Pins),
        Err(error) => Ok(Err(error)),
    }
}

/// Whether the program is where it was attached.
pub(super) async fn is_there(
    by: Option<Means>,
    interface: u32,
    direction: Direction,
    ours: &[PinnedLink],
) -> bool {
    match by {
        Some(Means::Tcx) => {
            ours.iter().any(|link| link.info.place == LinkPlace::Tcx(Some(interface), direction))
        }
        // When it cannot be asked, nothing can be attached either.
        Some(Means::Clsact) => {
            clsact::ours(interface, direction).await.map_or(true, |filter| filter.is_some())
        }
        None => false,
    }
}

/// Detaches our link, if there is one.
pub(super) fn remove_link(pins: &Pins, interface: u32, direction: Direction) {
    let path = pins.tcx(interface, direction);
    if !path.exists() {
        return;
    }
    if let Err(error) = pins::remove_link(&path).or_else(|_| std::fs::remove_file(&path)) {
        warn!(interface, direction = direction.name(), %error, "link at TC cannot be detached");
    }
}

/// Removes our filter, if there is one, and the qdisc once it is empty and was made by us.
pub(super) async fn remove_filter(pins: &Pins, interface: u32, direction: Direction) {
    let marks = pins.clsact_marks().unwrap_or_default();
    let Some((_, is_made)) = marks.into_iter().find(|(marked, _)| *marked == interface) else { return };
    let outcome = async {
        clsact::detach(interface, direction).await?;
        let other = match direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        if clsact::ours(interface, other).await?.is_some() {
            return Ok(false);
        }
        if is_made {
            clsact::remove_empty_qdisc(interface).await?;
        }
        Ok::<_, NetlinkError>(true)
    };
    match outcome.await {
        Ok(false) => return,
        Ok(true) => {}
        // With the interface its filters went.
        Err(error) if error.is_absent() => {}
        Err(error) => {
            warn!(interface, direction = direction.name(), error = %chain(&error), "filter cannot be removed");
            return;
        }
    }
    if let Err(error) = pins.unmark_clsact(interface) {
        warn!(interface, %error, "the note of a filter cannot be removed");
    }
}
