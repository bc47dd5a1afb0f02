//! The roles: which stages each runs. The only module that wires stages and spawns top-level tasks.

pub mod agent;
pub mod controller;
pub mod proxy;
pub mod roles;
pub mod shutdown;
pub mod world;
