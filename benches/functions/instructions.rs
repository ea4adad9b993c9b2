//! How many instructions each function takes, counted by valgrind.
//!
//! `benches/functions/gate` runs it and compares the counts with the committed ones.

#![allow(missing_docs, reason = "the macros write public items without docs")]

use gungraun::prelude::*;
use natseq_functions::{Function, warmed};

#[library_benchmark(setup = warmed)]
#[bench::parse_borrowed_msg_16("parse_borrowed_msg_16")]
#[bench::parse_borrowed_msg_128("parse_borrowed_msg_128")]
#[bench::parse_borrowed_msg_1024("parse_borrowed_msg_1024")]
#[bench::parse_borrowed_hmsg_16("parse_borrowed_hmsg_16")]
#[bench::parse_borrowed_mix("parse_borrowed_mix")]
#[bench::parse_owned_msg_16("parse_owned_msg_16")]
#[bench::parse_owned_msg_128("parse_owned_msg_128")]
#[bench::parse_owned_msg_1024("parse_owned_msg_1024")]
#[bench::parse_owned_hmsg_16("parse_owned_hmsg_16")]
#[bench::parse_owned_mix("parse_owned_mix")]
#[bench::parse_chunks_of_1_msg_16("parse_chunks_of_1_msg_16")]
#[bench::parse_chunks_of_64_msg_16("parse_chunks_of_64_msg_16")]
#[bench::parse_chunks_of_64_mix("parse_chunks_of_64_mix")]
#[bench::parse_chunks_of_1448_msg_16("parse_chunks_of_1448_msg_16")]
#[bench::parse_chunks_of_1448_msg_128("parse_chunks_of_1448_msg_128")]
#[bench::parse_chunks_of_1448_msg_1024("parse_chunks_of_1448_msg_1024")]
#[bench::parse_chunks_of_1448_hmsg_16("parse_chunks_of_1448_hmsg_16")]
#[bench::parse_chunks_of_1448_mix("parse_chunks_of_1448_mix")]
#[bench::parse_chunks_of_65536_mix("parse_chunks_of_65536_mix")]
#[bench::encode_pub_16("encode_pub_16")]
#[bench::encode_pub_128("encode_pub_128")]
#[bench::encode_pub_1024("encode_pub_1024")]
#[bench::encode_hpub_16("encode_hpub_16")]
#[bench::encode_hpub_128("encode_hpub_128")]
#[bench::encode_hpub_1024("encode_hpub_1024")]
#[bench::header_first_of_2("header_first_of_2")]
#[bench::header_last_of_10("header_last_of_10")]
#[bench::header_none_of_10("header_none_of_10")]
#[bench::stamp_16("stamp_16")]
#[bench::stamp_128("stamp_128")]
#[bench::stamp_16_chained("stamp_16_chained")]
#[bench::check_1_source("check_1_source")]
#[bench::check_100_sources("check_100_sources")]
#[bench::check_10000_sources("check_10000_sources")]
#[bench::subject_match_literal("subject_match_literal")]
#[bench::subject_match_star("subject_match_star")]
#[bench::subject_match_tail("subject_match_tail")]
#[bench::subject_match_late_no("subject_match_late_no")]
#[bench::subject_is_valid("subject_is_valid")]
fn count(mut function: Box<dyn Function>) -> Box<dyn Function> {
    function.run();
    // What it holds is freed outside.
    function
}

library_benchmark_group!(name = functions, benchmarks = count);

main!(library_benchmark_groups = functions);
