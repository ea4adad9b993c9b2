//! Shim for libFuzzer; the body is `natseq_fuzz::sequence::run`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natseq_fuzz::sequence::run(data));
