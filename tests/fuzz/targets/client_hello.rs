//! The first bytes of a TLS connection, for the server name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ingress_tests::fuzz::client_hello(data));
