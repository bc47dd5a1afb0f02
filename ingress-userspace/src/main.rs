//! The `portcullis` binary: parse arguments, start logging, run the command, report its exit code.
#![forbid(unsafe_code)]

fn main() {}
