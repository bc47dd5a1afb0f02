//! What every tier uses: rigs, scripted backends, clients.

pub mod cluster;
pub mod netns;
pub mod packet;
