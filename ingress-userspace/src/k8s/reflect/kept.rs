//! What of each kind is kept in memory: nothing that is never read.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, NodeStatus, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::k8s::crd::{AddressPool, EdgePolicy};
use crate::k8s::{copies, members, node_lease};

/// What of an object is kept in memory.
pub(super) trait Kept:
    Clone + Debug + PartialEq + DeserializeOwned + Send + Sync + 'static + Resource<DynamicType = ()>
{
    /// Drops what is never read of this kind.
    fn trim(&mut self) {}
}

impl Kept for Ingress {}
impl Kept for IngressClass {}
impl Kept for Service {}
impl Kept for EndpointSlice {}
impl Kept for ConfigMap {
    fn trim(&mut self) {
        self.annotations_mut().retain(|key, _| key == copies::NAMESPACE || key == copies::NAME);
        self.binary_data = None;
    }
}
impl Kept for Namespace {}
/// Nodes change all the time in what nobody reads here.
impl Kept for Node {
    fn trim(&mut self) {
        const READ: [&str; 3] = [members::STATE, members::WEIGHT, node_lease::MODE];
        self.annotations_mut().retain(|key, _| READ.contains(&&**key));
        self.spec = None;
        let addresses = self.status.take().and_then(|status| status.addresses);
        self.status =
            addresses.map(|addresses| NodeStatus { addresses: Some(addresses), ..NodeStatus::default() });
    }
}
/// The controller writes their status, and nobody reads it here.
impl Kept for EdgePolicy {
    fn trim(&mut self) {
        self.status = None;
    }
}
impl Kept for AddressPool {
    fn trim(&mut self) {
        self.status = None;
    }
}

impl Kept for Secret {
    fn trim(&mut self) {
        // The last applied configuration repeats the data.
        self.annotations_mut().retain(|key, _| key == copies::NAMESPACE || key == copies::NAME);
        if let Some(data) = &mut self.data {
            for (key, value) in data {
                if !is_read(key, &value.0) {
                    value.0 = Vec::new();
                }
            }
        }
    }
}

/// Whether a part of a Secret can be a certificate, a key (one of the nodes' too), a list of users, the hash of a user's password
/// (a user may have any name), or a login. Of other parts only the name is kept.
pub(super) fn is_read(key: &str, value: &[u8]) -> bool {
    const NAMED: [&str; 6] = ["auth", "ca.crl", "ca.crt", "tls.crt", "tls.key", "tls.ocsp-staple"];
    const LOGIN: [&str; 2] = ["password", "username"];
    const LONGEST_HASH: usize = 256;
    let is_des = || {
        let text = value.trim_ascii_end();
        text.len() == 13 && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(byte))
    };
    // Realm and hash of digest authentication.
    let is_digest = || {
        let hash = value.trim_ascii_end().rsplit(|byte| *byte == b':').next();
        value.contains(&b':')
            && hash.is_some_and(|hash| hash.len() == 32 && hash.iter().all(u8::is_ascii_hexdigit))
    };
    const OF_NODES: [&str; 5] = ["changed", "key", "next", "previous", "seed"];
    const LONGEST_KEY: usize = 32;
    let is_of_nodes = || OF_NODES.contains(&key) && value.len() <= LONGEST_KEY;
    let is_hash = || value.starts_with(b"$") || value.starts_with(b"{") || is_des() || is_digest();
    NAMED.contains(&key)
        || is_of_nodes()
        || (value.len() <= LONGEST_HASH && (LOGIN.contains(&key) || is_hash()))
}
