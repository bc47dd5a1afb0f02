//! What every tier uses: rigs, scripted backends, clients.

pub mod cluster;
pub mod kernel;
pub mod netns;
pub mod packet;
