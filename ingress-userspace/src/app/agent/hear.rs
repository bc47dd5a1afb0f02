//! What proxies say, and what comes of it.

use std::sync::Arc;

use tracing::{debug, error, info, warn};

use super::{Agent, Proxy};
use crate::error_chain::chain;
use crate::link::messages::{ToAgent, ToProxy};
use crate::link::{AgentEnd, FromProxy};

/// Refused parts of one report that are logged.
const MOST_REFUSED: usize = 100;

impl Agent {
    pub(super) async fn hear(&mut self, event: FromProxy, link: &AgentEnd) {
        match event {
            FromProxy::Joined(id) => {
                self.proxies.insert(id, Proxy::default());
                link.send(id, ToProxy::Listen(self.listen_plan()));
                link.send(id, ToProxy::Model { version: self.version, model: Arc::clone(&self.model) });
            }
            FromProxy::Said(id, ToAgent::Hello(hello)) => {
                info!(proxy = %id, pid = hello.pid, workers = hello.workers, build = hello.build, "proxy joined");
                if hello.build != env!("CARGO_PKG_VERSION") {
                    warn!(proxy = %id, proxy_build = hello.build, agent_build = env!("CARGO_PKG_VERSION"),
                        "agent and proxy are of different releases");
                }
                self.proxies.entry(id).or_default().pid = hello.pid;
            }
            FromProxy::Said(id, ToAgent::Sockets(sockets)) => {
                let pid = self.proxies.get(&id).map_or(0, |proxy| proxy.pid);
                if let Some(kernel) = &mut self.kernel {
                    let count = sockets.len();
                    let (maps, slots) = kernel.maps_and_slots();
                    let refused = match slots.take(maps, id, pid, sockets) {
                        Ok(()) => {
                            debug!(proxy = %id, count, "sockets taken over");
                            None
                        }
                        Err(error) => {
                            error!(proxy = %id, error = %chain(&error), "sockets refused");
                            Some(format!(
                                "the sockets of the proxy with pid {pid} are refused: {}",
                                chain(&error)
                            ))
                        }
                    };
                    self.proxies.entry(id).or_default().refused = refused;
                }
                self.serve_by_newest();
            }
            FromProxy::Said(id, ToAgent::Report(report)) => {
                for part in report.refused.iter().take(MOST_REFUSED) {
                    warn!(proxy = %id, version = report.version, part, "proxy could not compile a part, it answers 503");
                }
                if let Some(kernel) = &mut self.kernel {
                    kernel.slots.mark_ready(id);
                }
                self.serve_by_newest();
            }
            FromProxy::Said(id, ToAgent::Loads(open)) => {
                if let Some(kernel) = &mut self.kernel {
                    let (maps, slots) = kernel.maps_and_slots();
                    if let Err(error) = slots.publish_loads(maps, id, &open) {
                        debug!(proxy = %id, error = %chain(&error), "loads not published");
                    }
                }
            }
            FromProxy::Said(id, ToAgent::Draining) => {
                info!(proxy = %id, "proxy drains");
                if let Some(kernel) = &mut self.kernel {
                    kernel.slots.mark_draining(id);
                }
                self.serve_by_newest();
            }
            FromProxy::Said(id, ToAgent::Closing) => {
                if let Some(kernel) = &mut self.kernel {
                    kernel.slots.mark_closed(id);
                }
                // To another proxy or, if there is none, to nobody: VIPs are paused, and clients try again.
                self.serve_by_newest();
                link.send(id, ToProxy::Close);
            }
            FromProxy::Left(id) => {
                info!(proxy = %id, "proxy left");
                self.proxies.remove(&id);
                if let Some(kernel) = &mut self.kernel {
                    kernel.slots.forget(id);
                }
                self.serve_by_newest();
            }
        }
    }
}
