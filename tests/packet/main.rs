//! Tier "packet": single packets through the XDP and TC programs by `BPF_PROG_TEST_RUN`, single connections through the SK_LOOKUP
//! program in a namespace of their own. Needs root, touches no interface.
//!
//! Each case says what a packet is, what becomes of it and which one counter goes up; packets that pass must leave byte
//! for byte as they came.

#[cfg(test)]
mod announce;
#[cfg(test)]
mod bans;
#[cfg(test)]
mod cookie;
#[cfg(test)]
mod echo;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod object;
#[cfg(test)]
mod sk_lookup;
#[cfg(test)]
mod steering;
#[cfg(test)]
mod tc;
#[cfg(test)]
mod xdp;
