//! Backends that are a name of DNS: their endpoints are looked up here, and put into their cells.
//!
//! One task per backend, on the control runtime, never on a worker. It asks the resolver of the system, which knows search
//! domains and `/etc/hosts` and keeps no times to live: so it asks every few seconds, as ingress-nginx does. A lookup that fails
//! leaves the last addresses in place. An address that may not be asked is left out, whatever its name was when it was written
//! down: a name can be pointed elsewhere at any time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::backend::{BackendCell, Endpoint, EndpointSet};
use crate::model::backend::{BackendId, ExternalName};
use crate::model::global::Subrequests;
use crate::snapshot::buckets::now;

/// Between two lookups, and after one that failed.
const AGAIN: Duration = Duration::from_secs(5);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// A lookup takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A backend whose endpoints are looked up.
#[derive(Clone, Debug)]
pub struct Named {
    /// Which.
    pub id: BackendId,
    /// What is looked up.
    pub name: ExternalName,
    /// Where its endpoints go.
    pub cell: Arc<BackendCell>,
}

/// The tasks of all such backends.
#[derive(Debug, Default)]
pub struct Resolver {
    tasks: HashMap<BackendId, Task>,
    rules: Subrequests,
}

#[derive(Debug)]
struct Task {
    name: ExternalName,
    cell: Arc<BackendCell>,
    _handle: AbortOnDropHandle<()>,
}

impl Resolver {
    /// Looks these up from now on, and no others. Must be called on a tokio runtime.
    pub fn update(&mut self, wanted: Vec<Named>, rules: &Subrequests) {
        if self.rules != *rules {
            self.tasks.clear();
            self.rules = rules.clone();
        }
        let mut before = std::mem::take(&mut self.tasks);
        for Named { id, name, cell } in wanted {
            let known = before.remove(&id).filter(|task| task.name == name && Arc::ptr_eq(&task.cell, &cell));
            let task = known.unwrap_or_else(|| {
                let following = follow(name.clone(), Arc::clone(&cell), rules.clone());
                let handle = AbortOnDropHandle::new(tokio::spawn(following));
                Task { name, cell, _handle: handle }
            });
            self.tasks.insert(id, task);
        }
    }
}

/// Keeps the endpoints of one backend current.
async fn follow(name: ExternalName, cell: Arc<BackendCell>, rules: Subrequests) {
    // Of what an earlier task found under other rules, only what may be asked stays.
    let held = cell.endpoints.pin().usable.iter().map(|endpoint| endpoint.address).collect();
    put(&cell, split(held, &rules).0);
    let mut said = String::new();
    loop {
        let ExternalName { host, port } = &name;
        let found = match timeout(PATIENCE, lookup_host((host.as_str(), *port))).await {
            Ok(Ok(found)) => Ok(found.collect::<Vec<_>>()),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        };
        let (trouble, pause) = match found {
            Ok(found) => {
                let (allowed, refused) = split(found, &rules);
                put(&cell, allowed);
                let text = if refused.is_empty() {
                    String::new()
                } else {
                    format!("{refused:?} may not be asked, as long as allow-local-urls is not true")
                };
                (text, AGAIN)
            }
            Err(error) => (error.to_string(), AFTER_FAILURE),
        };
        if trouble != said {
            if trouble.is_empty() {
                info!(backend = cell.name, host, "name found");
            } else {
                warn!(backend = cell.name, host, trouble, "name not found, or not usable");
            }
            said = trouble;
        }
        sleep(pause).await;
    }
}

/// The addresses that may be asked, in order, and those that may not.
fn split(found: Vec<SocketAddr>, rules: &Subrequests) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let forbids = |address: &SocketAddr| rules.forbids(address.ip()) || is_of_this_host(rules, address.ip());
    let wanted = found.into_iter().filter(|address| address.is_ipv4() || !rules.is_ipv4_only);
    let (mut refused, mut allowed): (Vec<_>, Vec<_>) = wanted.partition(forbids);
    for list in [&mut refused, &mut allowed] {
        list.sort();
        list.dedup();
    }
    (allowed, refused)
}

/// Whether an address may not be asked because it is one of this host: only such can be bound. The answer is that of the
/// moment, whatever addresses the node gets or loses.
pub(super) fn is_of_this_host(rules: &Subrequests, address: IpAddr) -> bool {
    rules.forbids_local && UdpSocket::bind((address.to_canonical(), 0)).is_ok()
}

/// Endpoints that were known keep what was measured of them.
fn put(cell: &BackendCell, addresses: Vec<SocketAddr>) {
    let before = cell.endpoints.pin();
    let since = if before.usable.is_empty() { 0 } else { now() };
    let endpoint = |address: SocketAddr| {
        let known = before.usable.iter().find(|known| known.address == address);
        known.map_or_else(|| Arc::new(Endpoint::new(address, since)), Arc::clone)
    };
    let usable = addresses.into_iter().map(endpoint).collect();
    cell.replace(EndpointSet { usable, is_missing: false });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn local_addresses_are_left_out_where_they_are_forbidden() {
        let found = parse(&[
            "198.18.0.9:80",
            "127.0.0.1:80",
            "[::1]:80",
            "169.254.169.254:80",
            "[fe80::1]:80",
            "198.18.0.1:80",
            "0.0.0.0:80",
        ]);
        let api_servers = vec!["198.18.0.1".parse().unwrap()];
        let rules = Subrequests { forbids_local: true, api_servers, is_ipv4_only: false };
        let (allowed, refused) = split(found.clone(), &rules);
        assert_eq!((allowed, refused.len()), (parse(&["198.18.0.9:80"]), 6));
        let rules = Subrequests { is_ipv4_only: true, ..Subrequests::default() };
        assert!(split(found.clone(), &rules).0.iter().all(SocketAddr::is_ipv4));
        let (allowed, refused) = split(found, &Subrequests::default());
        assert_eq!((allowed.len(), refused.len()), (7, 0));
    }

    #[test]
    fn known_endpoints_stay_the_same_ones() {
        let cell = BackendCell::new("b".into(), EndpointSet::default());
        put(&cell, parse(&["198.18.0.1:80", "198.18.0.2:80"]));
        let first = Arc::clone(&cell.endpoints.pin().usable[1]);
        put(&cell, parse(&["198.18.0.2:80", "198.18.0.3:80"]));
        let now = cell.endpoints.pin();
        assert!(Arc::ptr_eq(&now.usable[0], &first) && now.usable.len() == 2);
    }

    #[tokio::test]
    async fn a_name_of_the_system_is_found() {
        let cell = Arc::new(BackendCell::new("b".into(), EndpointSet::default()));
        let name = ExternalName { host: "localhost".into(), port: 8080 };
        let id = BackendId { namespace: "n".into(), service: "s".into(), port: "80".into() };
        let mut resolver = Resolver::default();
        let named = Named { id, name, cell: Arc::clone(&cell) };
        resolver.update(vec![named], &Subrequests::default());
        while cell.endpoints.pin().usable.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        let found = cell.endpoints.pin().usable[0].address;
        assert!(found.ip().is_loopback() && found.port() == 8080, "{found}");
        resolver.update(Vec::new(), &Subrequests::default());
        assert!(resolver.tasks.is_empty());
    }
}
