//! The model → the kernel maps.

use std::sync::Arc;

use tracing::error;

use super::Agent;
use super::start::log_synced;
use crate::compile::maps::announce::announce;
use crate::compile::maps::owners::ListOwners;
use crate::compile::maps::{Compiled, NodeAddresses, compile_on, pause};
use crate::compile::unmet::Unmet;
use crate::error_chain::chain;

impl Agent {
    /// Brings the kernel maps to the state of the model and the proxies.
    pub(super) fn apply(&mut self) {
        // What had no room beside what goes finds it at the second attempt.
        if self.apply_once() && !self.refused.is_empty() {
            self.apply_once();
        }
        self.log_unmet();
        self.tell_neighbours();
    }

    /// Whether entries went.
    fn apply_once(&mut self) -> bool {
        let addresses = self.settings.served(&self.addresses);
        let Some(kernel) = &mut self.kernel else { return false };
        let is_paused = kernel.slots.serving().is_empty();
        let served = if is_paused { Vec::new() } else { addresses };
        let former = self.with_all_lists.as_ref().map(|model| model.edge.policies.as_slice());
        let node = NodeAddresses { served: &served, all: &self.addresses };
        let Compiled { mut contents, refused, has_all_lists, scopes } =
            compile_on(&self.model, node, kernel.contents(), former.unwrap_or_default());
        if has_all_lists {
            self.with_all_lists = Some(Arc::clone(&self.model));
        }
        if is_paused {
            pause(&mut contents);
        }
        self.peers.enter(&self.model, &mut contents);
        announce(&mut contents, &self.model, &self.announcers.announced());
        self.refused = refused;
        self.owners = ListOwners { model: Arc::clone(&self.model), scopes };
        let steered = match kernel.owned_maps() {
            Some(maps) => self.peers.apply(maps),
            None => Ok(()),
        };
        match steered.and_then(|()| kernel.apply(contents)) {
            Ok(synced) => {
                log_synced(&synced);
                let sentences = synced.sentences();
                self.refused.extend(sentences.map(|sentence| Unmet { policy: None, sentence }));
                self.failing_maps = None;
                synced.removed > 0
            }
            Err(error) => {
                error!(error = %chain(&error), "kernel maps could not be brought up to date, the last state stays");
                self.failing_maps = Some(format!("kernel maps: {}", chain(&error)));
                false
            }
        }
    }
}
