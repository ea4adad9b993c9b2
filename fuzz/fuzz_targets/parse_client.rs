//! Shim for libFuzzer; the body is `natseq_fuzz::parse_client::run`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natseq_fuzz::parse_client::run(data));
