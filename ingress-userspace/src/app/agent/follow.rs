//! The node's interfaces and addresses as they come and go: programs where they belong, and the addresses that are
//! served.

use tracing::{info, warn};

use super::{Agent, start};
use crate::bpf::interfaces::{Interface, interfaces, node_addresses};
use crate::bpf::monitor::Monitor;
use crate::error_chain::chain;

/// Word of changes. Without it they are noticed at the next regular look.
pub(super) fn monitor() -> Option<Monitor> {
    Monitor::new()
        .inspect_err(|error| warn!(error = %chain(error), "changes of interfaces are noticed late"))
        .ok()
}

/// Waits for a change.
pub(super) async fn changed(monitor: &mut Option<Monitor>) {
    match monitor {
        Some(monitor) => monitor.changed().await,
        None => std::future::pending().await,
    }
}

impl Agent {
    /// Reads the node's interfaces and brings the programs in line; whether its addresses changed.
    pub(super) async fn look_at_interfaces(&mut self) -> bool {
        if self.kernel.is_none() {
            return false;
        }
        match interfaces().await {
            Ok(found) => {
                self.follow(&found).await;
                let addresses = node_addresses(&found);
                let is_new = addresses != self.addresses;
                self.addresses = addresses;
                is_new
            }
            Err(error) => {
                warn!(error = %chain(&error), "the node's interfaces could not be read");
                false
            }
        }
    }

    /// Whether the agent whose kernel half this one left alone still runs.
    pub(super) async fn look_beside(&mut self) {
        if !self.is_beside {
            return;
        }
        // Who may not even ask takes it to be so.
        self.is_beside = start::is_running(&self.settings).await.unwrap_or(true);
        if !self.is_beside {
            warn!(
                "the agent whose kernel half served this node has ended, the node serves in userspace mode only; \
                 `portcullis cleanup` removes what it left"
            );
            self.publish_state();
        }
    }

    async fn follow(&mut self, found: &[Interface]) {
        let Some(kernel) = &mut self.kernel else { return };
        // Interfaces that were named and are gone may come back.
        let wanted = start::choose(&self.settings, found).unwrap_or_default();
        match kernel.follow(&wanted).await {
            Ok(false) => {}
            Ok(true) => {
                info!(mode = self.mode(), "interfaces changed");
                self.publish_state();
            }
            Err(error) => warn!(error = %chain(&error), "programs could not follow the interfaces"),
        }
        self.links = wanted;
        self.tell_neighbours();
    }
}
