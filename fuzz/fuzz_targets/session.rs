//! Shim for libFuzzer; the body is `natseq_fuzz::session::run`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natseq_fuzz::session::run(data));
