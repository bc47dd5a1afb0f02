//! What becomes of connections that wait in a listening socket that closes: the program moves them to a socket of the
//! proxy that serves.
//!
//! The program belongs to a SO_REUSEPORT group and lives as long as one of its sockets, without any pin. Each hand-over
//! attaches it anew, so that the group runs the program of the newest agent.

use std::os::fd::{AsFd, OwnedFd};

use tracing::{info, warn};

use crate::bpf::load::Programs;
use crate::bpf::syscall;

/// The kernel's own way to move them, to any socket of the group; off by default.
const SYSCTL: &str = "/proc/sys/net/ipv4/tcp_migrate_req";

/// The program, if the kernel takes it.
#[derive(Debug, Default)]
pub struct Migration(Option<OwnedFd>);

impl Migration {
    /// Keeps the program. A kernel that refused it loses nothing else: that is said, with what helps instead.
    pub(in crate::bpf) fn of(programs: &Programs) -> Self {
        let refusal: &dyn std::fmt::Display = match &programs.migration {
            Ok(program) => match program.try_clone() {
                Ok(program) => return Self(Some(program)),
                Err(error) => &error.to_string(),
            },
            Err(error) => error,
        };
        if has_sysctl() {
            info!(error = %refusal, "the kernel moves waiting connections by net.ipv4.tcp_migrate_req");
        } else {
            warn!(
                error = %refusal,
                "connections that a proxy has not accepted when it ends will be reset; set net.ipv4.tcp_migrate_req to 1"
            );
        }
        Self(None)
    }

    /// Attaches the program to the group of a listening socket.
    pub(super) fn cover(&self, socket: &OwnedFd, listener: &str) {
        let Some(program) = &self.0 else { return };
        if let Err(error) = syscall::attach_to_group(socket.as_fd(), program.as_fd()) {
            warn!(
                listener, %error,
                "connections that wait when a proxy ends cannot be moved to the next; set net.ipv4.tcp_migrate_req to 1"
            );
        }
    }
}

fn has_sysctl() -> bool {
    std::fs::read_to_string(SYSCTL).is_ok_and(|value| value.trim() == "1")
}
