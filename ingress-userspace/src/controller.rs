//! What one replica does for the cluster: holds the Lease, writes status and Events.
//!
//! It reads the same [`World`](crate::app::world::World) build as the agents, from its own translation, and writes
//! nothing else: routing never waits for it.

pub mod events;
pub mod lease;
pub mod status;
