//! Tier "datapath": the real `portcullis` binary on a node in a network namespace, with XDP on its veth. Needs root.
//!
//! Each test has its own namespaces, BPF file system and manifests. Asserted is what a client sees, and the counters.

#[cfg(test)]
mod announce;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bans;
#[cfg(test)]
mod cleanup;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod flood;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod layouts;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod maps;
#[cfg(test)]
mod modes;
#[cfg(test)]
mod reported;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod seeing;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod steering;
#[cfg(test)]
mod takeover;
#[cfg(test)]
mod traffic;
