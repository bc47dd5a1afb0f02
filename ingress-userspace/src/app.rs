//! The roles: which stages each runs. The only module that wires stages and spawns top-level tasks.

pub mod controller;
pub mod agent;
pub mod world;
