//! What every tier uses: rigs, scripted backends, clients.

pub mod bpffs;
pub mod client;
pub mod cluster;
pub mod fleet;
pub mod fuzz;
pub mod golden;
pub mod http;
pub mod kernel;
pub mod manifests;
pub mod neighbour;
pub mod netns;
pub mod node;
pub mod origin;
pub mod packet;
mod patience;
pub mod proxy;
pub mod redis;
pub mod reference;
pub mod release;
pub mod responder;
pub mod secure;
pub mod tunnel;
