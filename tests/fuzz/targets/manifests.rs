//! Any text as a file of manifests.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ingress_tests::fuzz::manifests(data));
