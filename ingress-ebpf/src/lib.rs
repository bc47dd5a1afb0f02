//! Empty, so that cargo can build the workspace on the host. The programs are in `main.rs`, built by
//! `cargo xtask build-ebpf`.
#![no_std]
