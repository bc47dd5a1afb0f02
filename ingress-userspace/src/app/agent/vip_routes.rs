//! VIPs are local addresses of the node: the kernel delivers a packet to a socket only then.

use std::collections::BTreeSet;

use ipnet::IpNet;
use tracing::{error, info, warn};

use super::Agent;
use crate::bpf::kernel::Standing;
use crate::bpf::routes::{self, Removable};
use crate::compile::maps::{MapContents, compile};
use crate::error_chain::chain;

impl Agent {
    /// VIPs are local addresses, whichever half takes their connections.
    pub(super) async fn apply_routes(&mut self) {
        let desired = match &self.kernel {
            Some(kernel) if kernel.standing() != Standing::Owner => return,
            Some(kernel) => routes::desired(kernel.contents()),
            None if !self.settings.serves_the_node() => return,
            None => routes::desired(&compile(&self.model, &[], &MapContents::default()).contents),
        };
        let removable = match self.kernel {
            Some(_) => Removable::Marked,
            None => Removable::Only(&self.added_routes),
        };
        let changes = match routes::apply(&desired, removable).await {
            Ok(changes) => changes,
            Err(error) => {
                error!(error = %chain(&error), "local routes of VIPs could not be read");
                return;
            }
        };
        if !changes.added.is_empty() || !changes.removed.is_empty() {
            info!(added = ?changes.added, removed = ?changes.removed, "local routes of VIPs changed");
        }
        self.added_routes.extend(&changes.added);
        let refused: BTreeSet<IpNet> = changes.refused.iter().map(|(prefix, _)| *prefix).collect();
        if let Some((_, error)) = changes.refused.first()
            && refused != self.refused_routes
        {
            let fix = if error.is_denied() {
                "run with CAP_NET_ADMIN, or run `ip route add local VIP dev lo` yourself"
            } else {
                "correct the block of the AddressPool"
            };
            warn!(routes = ?refused, error = %chain(error), fix, "VIPs are not reachable on this node");
        }
        self.refused_routes = refused;
    }

    /// Without a kernel half nothing outlives the process, the routes to its sockets neither.
    pub(super) async fn take_routes_back(&self) {
        if self.settings.serves_the_node()
            && let Err(error) = routes::apply(&BTreeSet::new(), Removable::Only(&self.added_routes)).await
        {
            warn!(error = %chain(&error), "local routes of VIPs are left behind; `portcullis cleanup` removes them");
        }
    }
}
