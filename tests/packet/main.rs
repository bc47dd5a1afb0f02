//! Tier "packet": single packets through the kernel programs by `BPF_PROG_TEST_RUN`. Needs root, touches no interface.
//!
//! Each case says what a packet is, what becomes of it and which one counter goes up; packets that pass must leave byte
//! for byte as they came.

#[cfg(test)]
mod limits;
#[cfg(test)]
mod xdp;
