//! The functions that decide how fast natseq is, each with its input and its expected result.
//!
//! Two benches run them: `wall` asks how long they take, `instructions` how many instructions.
//! Every run does [`REPEATS`] messages, so that a count divided by that is what one message costs.

mod encode;
mod headers;
#[path = "../../support/messages.rs"]
mod messages;
mod parse;
mod sequence;
mod subject;

use parse::Stream;

/// Messages in one run.
pub const REPEATS: usize = 1_000;

/// Something to measure.
pub trait Function {
    /// Bytes that one run works through.
    fn bytes(&self) -> usize;

    /// Makes ready for the next run; twice is as good as once. Not measured.
    fn prepare(&mut self) {}

    /// Does it for [`REPEATS`] messages, and panics when the result is wrong.
    fn run(&mut self);
}

/// Makes a function with its input.
pub type Make = fn() -> Box<dyn Function>;

/// Every function by its name.
pub const FUNCTIONS: &[(&str, Make)] = &[
    ("parse_borrowed_msg_16", || parse::borrowed(Stream::msg(16))),
    ("parse_borrowed_msg_128", || {
        parse::borrowed(Stream::msg(128))
    }),
    ("parse_borrowed_msg_1024", || {
        parse::borrowed(Stream::msg(1_024))
    }),
    ("parse_borrowed_hmsg_16", || {
        parse::borrowed(Stream::hmsg(16))
    }),
    ("parse_borrowed_mix", || parse::borrowed(Stream::mix())),
    ("parse_owned_msg_16", || parse::owned(Stream::msg(16))),
    ("parse_owned_msg_128", || parse::owned(Stream::msg(128))),
    ("parse_owned_msg_1024", || parse::owned(Stream::msg(1_024))),
    ("parse_owned_hmsg_16", || parse::owned(Stream::hmsg(16))),
    ("parse_owned_mix", || parse::owned(Stream::mix())),
    ("parse_chunks_of_1_msg_16", || {
        parse::chunks(Stream::msg(16), 1)
    }),
    ("parse_chunks_of_64_msg_16", || {
        parse::chunks(Stream::msg(16), 64)
    }),
    ("parse_chunks_of_64_mix", || {
        parse::chunks(Stream::mix(), 64)
    }),
    ("parse_chunks_of_1448_msg_16", || {
        parse::chunks(Stream::msg(16), SEGMENT)
    }),
    ("parse_chunks_of_1448_msg_128", || {
        parse::chunks(Stream::msg(128), SEGMENT)
    }),
    ("parse_chunks_of_1448_msg_1024", || {
        parse::chunks(Stream::msg(1_024), SEGMENT)
    }),
    ("parse_chunks_of_1448_hmsg_16", || {
        parse::chunks(Stream::hmsg(16), SEGMENT)
    }),
    ("parse_chunks_of_1448_mix", || {
        parse::chunks(Stream::mix(), SEGMENT)
    }),
    ("parse_chunks_of_65536_mix", || {
        parse::chunks(Stream::mix(), 64 << 10)
    }),
    ("encode_pub_16", || encode::plain(16)),
    ("encode_pub_128", || encode::plain(128)),
    ("encode_pub_1024", || encode::plain(1_024)),
    ("encode_hpub_16", || encode::stamped(16)),
    ("encode_hpub_128", || encode::stamped(128)),
    ("encode_hpub_1024", || encode::stamped(1_024)),
    ("header_first_of_2", || headers::lookup(2, Some(0))),
    ("header_last_of_10", || headers::lookup(10, Some(9))),
    ("header_none_of_10", || headers::lookup(10, None)),
    ("stamp_16", || sequence::stamp(16, "orders.eu.7")),
    ("stamp_128", || sequence::stamp(128, "orders.eu.7")),
    ("stamp_16_chained", || sequence::stamp(16, "orders.>")),
    ("check_1_source", || sequence::check(1)),
    ("check_100_sources", || sequence::check(100)),
    ("check_10000_sources", || sequence::check(10_000)),
    ("subject_match_literal", || {
        subject::matching("orders.eu.7", "orders.eu.7", true)
    }),
    ("subject_match_star", || {
        subject::matching("orders.*.7", "orders.eu.7", true)
    }),
    ("subject_match_tail", || {
        subject::matching("orders.>", "orders.eu.7", true)
    }),
    ("subject_match_late_no", || {
        subject::matching("orders.*.8", "orders.eu.7", false)
    }),
    ("subject_is_valid", || subject::validity("orders.eu.7")),
];

/// What a TCP segment usually carries.
const SEGMENT: usize = 1_448;

/// The function of this name, run once and ready for the next.
///
/// # Panics
///
/// When there is none of this name.
#[must_use]
pub fn warmed(name: &str) -> Box<dyn Function> {
    let found = FUNCTIONS.iter().find(|(known, _)| *known == name);
    let (_, make) = found.unwrap_or_else(|| panic!("no function has the name {name}"));
    let mut function = make();
    function.prepare();
    function.run();
    function.prepare();
    function
}
