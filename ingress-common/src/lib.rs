//! What both halves share: packet identity, map layouts, the decisions about packets and connections, and the bucket arithmetic.
//!
//! `no_std`, no allocation, no IO, no clock. The kernel program inlines these functions; the host runs the same ones in
//! unit and property tests, and the proxy runs them at accept where no kernel program can. A change of a type in
//! [`maps`] bumps [`maps::LAYOUT_VERSION`], which names the directory of the pins.
#![cfg_attr(not(test), no_std)]

pub mod announce;
pub mod bucket;
pub mod choice;
pub mod decide;
pub mod event;
pub mod flow;
pub mod maps;
#[cfg(feature = "user")]
pub mod pod;
pub mod prefilter;
pub mod source;
pub mod steer;
pub mod tunnel;
pub mod verdict;
