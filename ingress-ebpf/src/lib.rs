//! Empty on the host, so that other crates can depend on this one for rebuilds. The programs are in `main.rs`.
#![no_std]
