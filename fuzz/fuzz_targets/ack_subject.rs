//! Shim for libFuzzer; the body is `natseq_fuzz::ack_subject::run`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natseq_fuzz::ack_subject::run(data));
