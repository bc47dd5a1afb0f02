//! Stage 1: what the cluster (or a folder of manifests) holds.
//!
//! [`cluster::Cluster`] is the only thing of Kubernetes that the stages behind see. It is filled by the reflectors
//! ([`reflect`]) or by a folder of manifests ([`folder`]); nothing behind it knows the difference, except that a folder
//! allows what a cluster's API server would refuse (loopback endpoints).

pub mod class;
pub mod client;
pub mod cluster;
pub mod copies;
pub mod crd;
pub mod folder;
pub mod list;
pub mod members;
pub mod node_lease;
pub mod pool_lease;
pub mod reflect;
pub mod selector;
