//! What every tier uses: rigs, scripted backends, clients.

pub mod netns;
pub mod packet;
