//! Request targets and their normal form.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ingress_tests::fuzz::paths(data));
