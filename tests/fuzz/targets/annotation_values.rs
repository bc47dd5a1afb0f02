//! Any values of any annotations.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ingress_tests::fuzz::annotation_values(data));
