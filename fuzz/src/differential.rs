//! Any bytes, both directions: the parser and the grammar in nom say the same.

use std::fmt::Debug;

use natseq::wire::reference::{self, Verdict};
use natseq::wire::{ClientOp, Frame, HeaderBlock, ServerOp};

use crate::reading::{READERS, Reading, Speaker, parser, read_whole};

/// Reads `data` with both, in both directions, with several limits.
pub fn run(data: &[u8]) {
    for (speaker, limits) in READERS {
        for limits in [limits, limits.with_headers(false)] {
            let whole = read_whole(parser((speaker, limits)), data);
            match speaker {
                Speaker::Server => compare(
                    data,
                    &whole,
                    |rest| reference::server_op(limits, rest),
                    |frame, rest| frame.server_op(rest),
                ),
                Speaker::Client => compare(
                    data,
                    &whole,
                    |rest| reference::client_op(limits, rest),
                    |frame, rest| frame.client_op(rest),
                ),
            }
        }
    }
    compare_headers(data);
}

fn compare<'a, Op: Debug + PartialEq + HasHeaders>(
    data: &'a [u8],
    whole: &Reading,
    grammar: impl Fn(&'a [u8]) -> Verdict<Op>,
    view: impl Fn(&Frame, &'a [u8]) -> Op,
) {
    for (start, frame) in &whole.frames {
        let rest = &data[*start..];
        let (op, len) = (view(frame, rest), frame.len());
        if let Some(block) = op.headers() {
            compare_headers(block);
        }
        let found = Verdict::Complete { op, len };
        assert_eq!(found, grammar(rest), "{}", rest.escape_ascii());
    }
    let rest = &data[whole.rest_at..];
    let found = match whole.end {
        Ok(_) => Verdict::Incomplete,
        Err(error) => Verdict::Refused(error),
    };
    assert_eq!(found, grammar(rest), "{}", rest.escape_ascii());
}

fn compare_headers(raw: &[u8]) {
    let (block, expected) = (HeaderBlock::new(raw), reference::headers(raw));
    let lines: Vec<_> = block.iter().collect();
    let end = lines
        .last()
        .copied()
        .map_or(Ok(()), |line| line.map(|_| ()));
    let found = reference::Headers {
        status: block.status(),
        fields: lines.into_iter().filter_map(Result::ok).collect(),
        end,
    };
    assert_eq!(found, expected, "{}", raw.escape_ascii());
}

trait HasHeaders {
    fn headers(&self) -> Option<&[u8]>;
}

impl HasHeaders for ServerOp<'_> {
    fn headers(&self) -> Option<&[u8]> {
        match self {
            Self::Msg(message) => message.headers.map(HeaderBlock::raw),
            _ => None,
        }
    }
}

impl HasHeaders for ClientOp<'_> {
    fn headers(&self) -> Option<&[u8]> {
        match self {
            Self::Pub(message) => message.headers.map(HeaderBlock::raw),
            _ => None,
        }
    }
}
