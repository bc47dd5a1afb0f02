//! What every tier uses: rigs, scripted backends, clients.

pub mod client;
pub mod cluster;
pub mod kernel;
pub mod golden;
pub mod netns;
pub mod origin;
pub mod packet;
pub mod proxy;
