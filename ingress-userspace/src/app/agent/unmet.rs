//! What the node does not do although somebody asked for it: for readiness, status, metrics and the Lease of the node.

use tracing::warn;

use super::{Agent, start};
use crate::bpf::syn_cookies;
use crate::compile::unmet::{Unmet, without_kernel};

/// Lines that are kept; the log has all of them.
const MOST: usize = 50;

impl Agent {
    /// One line for each thing that is served less well than was asked for.
    pub(super) fn degraded(&self) -> Vec<String> {
        let mut lines = start::degraded(&self.settings, self.kernel.as_ref(), self.step_down.as_deref());
        lines.extend(self.unmet().into_iter().map(|unmet| unmet.sentence));
        if self.kernel.is_some() {
            lines.extend(self.peers.refused().iter().cloned());
            lines.extend(self.proxies.values().filter_map(|proxy| proxy.refused.clone()));
        }
        let left = lines.len().saturating_sub(MOST);
        lines.truncate(MOST);
        lines.extend((left > 0).then(|| format!("and {left} more, which the log of the agent names")));
        lines
    }

    /// The EdgePolicies that are not enforced as a whole, by name.
    pub(super) fn unenforced(&self) -> Vec<String> {
        self.unmet().into_iter().filter_map(|unmet| unmet.policy).collect()
    }

    /// Each thing once, in the log.
    pub(super) fn log_unmet(&mut self) {
        let unmet = self.unmet();
        for Unmet { sentence, .. } in unmet.iter().filter(|unmet| !self.told.contains(&unmet.sentence)) {
            warn!(sentence, "not enforced on this node");
        }
        self.told = unmet.into_iter().map(|unmet| unmet.sentence).collect();
    }

    /// What has no room in the kernel half or is left undone without one, and what the kernel's settings do not permit. Where only the node itself is
    /// served, nobody is kept out.
    fn unmet(&self) -> Vec<Unmet> {
        if !self.settings.serves_the_node() {
            return Vec::new();
        }
        let edge = &self.model.edge;
        let mut unmet = if self.kernel.is_some() { self.refused.clone() } else { without_kernel(edge) };
        let cookies = syn_cookies::unmet(&edge.policies).into_iter();
        unmet.extend(cookies.map(|sentence| Unmet { policy: None, sentence }));
        unmet
    }
}
