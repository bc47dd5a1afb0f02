//! An upgrade to another map layout that died: this process, which served before it, puts the kernel half in place again.

use tracing::{error, warn};

use super::steering::Peers;
use super::{Agent, start};
use crate::bpf::kernel::Standing;
use crate::error_chain::chain;

impl Agent {
    /// A sign of life, and what follows from who else gives one. Whether an agent is gone that had taken over from this one.
    pub(super) async fn heartbeat(&mut self) -> bool {
        let Some(kernel) = &mut self.kernel else { return false };
        let before = kernel.standing();
        match kernel.heartbeat() {
            Ok(Standing::Abandoned) => {
                self.retake().await;
                true
            }
            Ok(Standing::Owner) => before == Standing::Superseded,
            Ok(Standing::Superseded | Standing::Removed) => false,
            Err(error) => {
                error!(error = %chain(&error), "heartbeat failed");
                false
            }
        }
    }

    async fn retake(&mut self) {
        warn!(
            "the agent that took over with other kernel maps is gone, this one puts its own in place again"
        );
        let mut peers = Peers::default();
        let started = start::start(&self.settings, &self.model, &mut peers).await;
        let start::Started { kernel, step_down, .. } = started;
        let Some(mut kernel) = kernel else {
            error!(
                reason = step_down.as_deref().unwrap_or_default(),
                "the kernel half could not be put in place again"
            );
            return;
        };
        if let Some(before) = self.kernel.take() {
            // The sockets of this process's proxies moved to the new maps and back, and kept their slots.
            kernel.slots.succeed(before.slots);
        }
        self.kernel = Some(kernel);
        self.peers = peers;
        self.step_down = step_down;
        self.serve_by_newest();
        self.apply_routes().await;
    }
}
