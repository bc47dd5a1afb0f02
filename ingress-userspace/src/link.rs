//! The link between agent and proxy: the model one way; reports and listening sockets the other.
//!
//! `messages` is the contract. It is carried by channels when both live in one process, or by the unix socket of the
//! pod. Neither side knows which.

pub mod messages;
