//! The grammar of the NATS client protocol, both directions, written to be read.
//!
//! A second reading of the protocol beside [`Parser`](super::Parser): in parser combinators, from
//! the rules of `protocol-notes.md` alone, without a thought for speed. Tests and fuzzers hold the
//! two against each other; where they differ, one of them is wrong. It keeps no state: every call
//! reads `input` from its beginning.
//!
//! ```text
//! server-op = "INFO" *blank json end                      ; op names in any case
//!           / "MSG"  1*blank subject sid [reply] size end body
//!           / "HMSG" 1*blank subject sid [reply] size size end body
//!           / "-ERR" (1*blank / &CR / &LF) text end       ; & looks ahead
//!           / ("+OK" / "PING" / "PONG") junk [CR] LF
//!
//! client-op = "CONNECT" *blank json end
//!           / "PUB"   1*blank subject [reply] size end body
//!           / "HPUB"  1*blank subject [reply] size size end body
//!           / "SUB"   1*blank subject [queue] sid end
//!           / "UNSUB" 1*blank sid [max] end
//!           / "INFO" *blank json end
//!           / "-ERR" 1*blank text end
//!           / ("+OK" / "PING" / "PONG") junk [CR] LF
//!
//! blank = SP / HT
//! field = 1*(any byte but blank, LF)                      ; subject, sid, reply, queue, max
//! size  = 1*9DIGIT
//! json  = 1*(any byte but LF)                             ; unread
//! text  = *(any byte but LF)                              ; one pair of single quotes falls off
//! junk  = *(any byte but LF)                              ; thrown away
//! end   = [CR] LF                                         ; from a server; see below
//! body  = <as many bytes as the last size says> CR LF
//! ```
//!
//! Fields are separated by any run of blanks, which may also trail. The first byte behind the blanks
//! belongs to the arguments *whatever it is*, also when it is LF: so both parties read, except that a
//! client ends a server's INFO and -ERR there. Blanks, CRs and LFs at the end of json and text are
//! not part of them. A size in front of another is that of the header block, with
//! which the body begins; [`headers`] has the block's grammar.
//!
//! **The end of a line** is where the two parties differ. A client drops a CR directly before LF;
//! every other CR is an ordinary byte. nats-server drops *the byte before LF*, whatever it is, from
//! arguments in which a CR comes after their first byte: with CR LF that is the CR. In SUB and
//! UNSUB the CRs that remain, and an LF in front, separate fields like blanks.
//!
//! **Limits.** Arguments, from the first byte that is no blank to the line end, have at most
//! [`line_bytes_max`](Limits::line_bytes_max) bytes, as servers count it; so has, which is ours, the
//! run of blanks in front of them, and junk from a server. Junk from a client has at most
//! [`payload_bytes_max`](Limits::payload_bytes_max) bytes, and so has a body. All these hold as soon
//! as the bytes are there: an unfinished line is too long when no line end can make it short enough.
//!
//! **Refusals** come in this order: unknown op, line too long, argument count, bad size, headers
//! larger than the total, payload too long, payload terminator.

mod client;
mod fields;
mod headers;
mod lexical;
mod server;

pub use headers::{Headers, headers};

use nom::Parser as _;

use self::lexical::{Read, Refusal};
use super::{ClientOp, FrameError, Limits, ServerOp};

/// What the grammar says of the bytes at the beginning of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the grammar knows no other verdict"
)]
pub enum Verdict<Op> {
    /// They are an operation.
    Complete {
        /// The operation.
        op: Op,
        /// How many bytes it has, line ends and body included.
        len: usize,
    },
    /// They may become an operation, or be refused: that depends on what follows.
    Incomplete,
    /// They are no operation, whatever follows.
    Refused(FrameError),
}

/// Reads what a server says, as a client reads it.
///
/// ```
/// use natseq::wire::reference::{Verdict, server_op};
/// use natseq::wire::{FrameError, Limits, ServerOp};
///
/// let limits = Limits::SERVER_OPS;
/// let Verdict::Complete { op, len } = server_op(limits, b"MSG news 1 \t 5\r\nhello\r\nPING\r\n")
/// else {
///     panic!("the message is complete")
/// };
/// let ServerOp::Msg(message) = op else { panic!("it is a message") };
/// assert_eq!((message.subject, message.payload, len), (&b"news"[..], &b"hello"[..], 23));
///
/// assert_eq!(server_op(limits, b"MSG news 1 5\r\nhel"), Verdict::Incomplete);
/// assert_eq!(server_op(limits, b"MSG news 1 +5\r\n"), Verdict::Refused(FrameError::BadSize));
/// assert_eq!(server_op(limits, b"PUB"), Verdict::Refused(FrameError::UnknownOp));
/// ```
#[must_use]
pub fn server_op(limits: Limits, input: &[u8]) -> Verdict<ServerOp<'_>> {
    verdict(input, server::op(limits).parse(input))
}

/// Reads what a client says, as nats-server reads it.
///
/// ```
/// use natseq::wire::reference::{Verdict, client_op};
/// use natseq::wire::{ClientOp, Limits};
///
/// let op = ClientOp::Sub { subject: b"news", queue_group: None, sid: b"1" };
/// let verdict = client_op(Limits::CLIENT_OPS, b"sub news 1\n");
/// assert_eq!(verdict, Verdict::Complete { op, len: 11 });
/// ```
#[must_use]
pub fn client_op(limits: Limits, input: &[u8]) -> Verdict<ClientOp<'_>> {
    verdict(input, client::op(limits).parse(input))
}

fn verdict<'a, Op>(input: &'a [u8], read: Read<'a, Op>) -> Verdict<Op> {
    match read {
        Ok((rest, op)) => Verdict::Complete {
            op,
            len: input.len().saturating_sub(rest.len()),
        },
        Err(nom::Err::Incomplete(_)) => Verdict::Incomplete,
        Err(nom::Err::Error(Refusal(error)) | nom::Err::Failure(Refusal(error))) => {
            Verdict::Refused(error)
        }
    }
}
