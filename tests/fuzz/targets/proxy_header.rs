//! PROXY headers of both versions.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ingress_tests::fuzz::proxy_header(data));
