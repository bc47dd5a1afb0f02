//! `cargo xtask`: set-up, build, demo, tests and generated pages.
#![forbid(unsafe_code)]

fn main() {}
