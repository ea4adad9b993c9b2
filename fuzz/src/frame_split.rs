//! A stream and where it is cut, both chosen by the fuzzer.
//!
//! Input: a byte for reader and number of cuts, the cuts (lengths of pieces, used in a circle), and
//! the stream.

use crate::input::Input;
use crate::reading::{READERS, check_pieces, parser, read, read_whole};

/// Cuts that an input can name.
const CUTS_MAX: u8 = 63;

/// Parses the stream at once and cut as the input says.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let reader = READERS[usize::from(input.byte() % 4)];
    let cuts = input.bytes(CUTS_MAX);
    let stream = input.rest();
    let whole = read_whole(parser(reader), stream);
    let pieces = || cuts.iter().map(|cut| usize::from(*cut)).cycle();
    let (mut one, mut other) = (pieces(), pieces());
    let cut = read(parser(reader), stream, |_| one.next().unwrap_or(1));
    assert_eq!(cut, whole, "cut {cuts:?}, {reader:?}");
    check_pieces(parser(reader), stream, &whole, || other.next().unwrap_or(1));
}
