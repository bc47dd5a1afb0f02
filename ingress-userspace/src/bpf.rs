//! Stage 6: desired kernel state → the kernel. The only module that knows aya.
//!
//! `probe` says what is missing; `load` opens or makes the maps and loads the programs; `attach` puts them in place,
//! taking over what an earlier process pinned without a gap; `sync` and `slots` keep contents and sockets current;
//! `counters` reads what the kernel counted. `interfaces` and `routes` speak rtnetlink. Nothing here is detached when a
//! process ends: lists and limits stay enforced until the next one takes over, or `portcullis cleanup` runs.

pub mod announce;
pub mod attach;
pub mod bans;
mod carry;
pub mod cleanup;
pub mod clock;
pub mod clsact;
pub mod counters;
#[cfg(feature = "debug-log")]
pub mod debug_log;
pub mod dump;
pub mod events;
pub mod hits;
pub mod hops;
mod ifaces;
pub mod interfaces;
pub mod kernel;
pub mod load;
pub mod maps;
pub mod monitor;
pub mod netlink;
pub mod object;
pub mod pins;
pub mod probe;
pub mod report;
pub mod routes;
pub mod slots;
pub mod sockets;
pub mod steering;
pub mod syn_cookies;
pub mod sync;
pub mod syscall;
mod words;
