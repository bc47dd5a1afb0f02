//! What is carried without being read: listeners for TCP and UDP, and server names that are passed through.

use std::sync::Arc;

use crate::compile::pools::Pools;
use crate::model::Model;
use crate::model::host::HostPattern;
use crate::model::listener::{ListenerName, ListenerProtocol};
use crate::snapshot::streams::{Passthrough, StreamTarget};

/// Where a listener sends, if it reads nothing.
pub(super) fn target(protocol: &ListenerProtocol, pools: &Pools) -> Option<Arc<StreamTarget>> {
    match protocol {
        ListenerProtocol::Http | ListenerProtocol::Https { .. } => None,
        ListenerProtocol::Tcp(route) | ListenerProtocol::Udp(route) => Some(Arc::new(StreamTarget {
            backend: pools.cell(&route.backend),
            accepts_proxy_protocol: route.accepts_proxy_protocol,
            sends_proxy_protocol: route.sends_proxy_protocol,
        })),
    }
}

/// The server names of a listener that are passed through.
pub(super) fn passthrough(model: &Model, listener: &ListenerName, pools: &Pools) -> Passthrough {
    let mut table = Passthrough::default();
    for host in model.hosts.iter().filter(|host| host.listeners.contains(listener)) {
        match (&host.pattern, &host.passthrough) {
            (HostPattern::Exact(name), Some(backend)) => {
                table.exact.insert(name.as_str().into(), pools.cell(backend));
            }
            (HostPattern::Wildcard(suffix), Some(backend)) => {
                table.wildcard.insert(suffix.as_str().into(), pools.cell(backend));
            }
            (HostPattern::Exact(name), None) => table.terminated.push(name.as_str().into()),
            (HostPattern::Wildcard(_), None) | (HostPattern::Any, _) => {}
        }
    }
    // Only a wildcard covers names that are served here.
    table
        .terminated
        .retain(|name| name.split_once('.').is_some_and(|(_, suffix)| table.wildcard.contains_key(suffix)));
    table
}
