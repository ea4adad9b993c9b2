//! Shim for libFuzzer; the body is `natseq_fuzz::creds::run`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natseq_fuzz::creds::run(data));
