//! Shim for libFuzzer; the body is `natseq_fuzz::differential::run`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natseq_fuzz::differential::run(data));
