//! Holds the parser against the grammar of `wire::reference`: same verdicts, fields and lengths.
//!
//! The mutated inputs are decided by a seed, which is printed with every difference. Replay it
//! with `NATSEQ_REFERENCE_SEED=<seed>`; `NATSEQ_REFERENCE_INPUTS=<count>` compares more.
#![cfg(feature = "reference")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic"
)]

use natseq::jitter::Jitter;
use natseq::wire::reference::{self, Verdict};
use natseq::wire::{ClientOp, FrameError, HeaderBlock, Limits, Parser, ServerOp, Step};

/// Mutated inputs of each direction unless the environment says otherwise.
const INPUTS: u64 = 100_000;

/// Mutated header blocks.
const BLOCKS: u64 = 50_000;

/// Differences that are printed; after that many it is clear that something is wrong.
const DIFFERENCES_MAX: usize = 10;

/// A line and a payload that hand-written inputs can overstep.
const SMALL: Limits = Limits::CLIENT_OPS
    .with_line_bytes_max(16)
    .with_payload_bytes_max(12);

const TINY: Limits = Limits::CLIENT_OPS
    .with_line_bytes_max(0)
    .with_payload_bytes_max(0);

const LIMITS: &[Limits] = &[Limits::SERVER_OPS, SMALL, TINY];

#[test]
fn parser_and_grammar_agree_on_every_prefix() {
    let mut differences = Differences::default();
    for input in SERVER_INPUTS.iter().chain(CLIENT_INPUTS).copied() {
        for limits in LIMITS {
            for end in 0..=input.len() {
                differences.add(compare_server(*limits, &input[..end]));
                differences.add(compare_client(*limits, &input[..end]));
            }
        }
    }
    differences.none("written by hand");
}

#[test]
fn parser_and_grammar_agree_byte_by_byte() {
    let mut differences = Differences::default();
    for input in SERVER_INPUTS.iter().chain(CLIENT_INPUTS).copied() {
        for limits in LIMITS {
            differences.add(feed(Parser::of_server(*limits), input, |bytes| {
                Outcome::of(reference::server_op(*limits, bytes))
            }));
            differences.add(feed(Parser::of_client(*limits), input, |bytes| {
                Outcome::of(reference::client_op(*limits, bytes))
            }));
        }
    }
    differences.none("written by hand");
}

#[test]
fn parser_and_grammar_agree_on_mutated_inputs() {
    let seed = number("NATSEQ_REFERENCE_SEED", 0x5e9);
    println!("seed {seed}");
    let mut jitter = Jitter::new(seed);
    let mut differences = Differences::default();
    let mut tally = Tally::default();
    for _ in 0..number("NATSEQ_REFERENCE_INPUTS", INPUTS) {
        let limits = pick(&mut jitter, LIMITS);
        let said = mutated(&mut jitter, SERVER_INPUTS);
        differences.add(compare_server(limits, &said));
        tally.add(&reference::server_op(limits, &said));
        let said = mutated(&mut jitter, CLIENT_INPUTS);
        differences.add(compare_client(limits, &said));
        tally.add(&reference::client_op(limits, &said));
    }
    differences.none(&format!("seed {seed}"));
    tally.nothing_is_rare();
}

#[test]
fn header_blocks_are_read_alike() {
    let seed = number("NATSEQ_REFERENCE_SEED", 0x5e9);
    println!("seed {seed}");
    let mut jitter = Jitter::new(seed);
    let mut differences = Differences::default();
    for block in HEADER_BLOCKS {
        for end in 0..=block.len() {
            differences.add(compare_headers(&block[..end]));
        }
    }
    for _ in 0..BLOCKS {
        differences.add(compare_headers(&mutated(&mut jitter, HEADER_BLOCKS)));
    }
    differences.none(&format!("seed {seed}"));
}

/// Every frame of `input`, then what ends it.
fn compare_server(limits: Limits, mut input: &[u8]) -> Option<String> {
    loop {
        let wanted = reference::server_op(limits, input);
        let found = match Parser::of_server(limits).next(input) {
            Ok(Step::Frame(frame)) => Verdict::Complete {
                op: frame.server_op(input),
                len: frame.len(),
            },
            Ok(Step::More { .. }) => Verdict::Incomplete,
            Err(error) => Verdict::Refused(error),
        };
        if found != wanted {
            return Some(difference("server", limits, input, &found, &wanted));
        }
        let Verdict::Complete { op, len } = wanted else {
            return None;
        };
        if let ServerOp::Msg(view) = op
            && let Some(block) = view.headers
            && let Some(difference) = compare_headers(block.raw())
        {
            return Some(difference);
        }
        input = &input[len..];
    }
}

/// The same for the other direction.
fn compare_client(limits: Limits, mut input: &[u8]) -> Option<String> {
    loop {
        let wanted = reference::client_op(limits, input);
        let found = match Parser::of_client(limits).next(input) {
            Ok(Step::Frame(frame)) => Verdict::Complete {
                op: frame.client_op(input),
                len: frame.len(),
            },
            Ok(Step::More { .. }) => Verdict::Incomplete,
            Err(error) => Verdict::Refused(error),
        };
        if found != wanted {
            return Some(difference("client", limits, input, &found, &wanted));
        }
        let Verdict::Complete { op, len } = wanted else {
            return None;
        };
        if let ClientOp::Pub(view) = op
            && let Some(block) = view.headers
            && let Some(difference) = compare_headers(block.raw())
        {
            return Some(difference);
        }
        input = &input[len..];
    }
}

fn compare_headers(raw: &[u8]) -> Option<String> {
    let (block, wanted) = (HeaderBlock::new(raw), reference::headers(raw));
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
    let check = wanted.status.map(|_| ()).and(wanted.end);
    let is_same = found == wanted && block.check() == check;
    (!is_same).then(|| {
        let raw = raw.escape_ascii();
        format!("headers {raw}\n  parser  {found:?}\n  grammar {wanted:?}")
    })
}

/// Feeds one parser byte by byte; it must say what the grammar says of all bytes so far, and when
/// it asks for more bytes, fewer must not do.
fn feed(mut parser: Parser, input: &[u8], wanted: impl Fn(&[u8]) -> Outcome) -> Option<String> {
    let (mut begin, mut complete_from) = (0, 0);
    for end in 0..=input.len() {
        let bytes = &input[begin..end];
        let step = parser.next(bytes);
        let found = match step {
            Ok(Step::Frame(frame)) => Outcome::Complete(frame.len()),
            Ok(Step::More { .. }) => Outcome::Incomplete,
            Err(error) => Outcome::Refused(error),
        };
        let wanted = wanted(bytes);
        let is_early = matches!(wanted, Outcome::Complete(_)) && end < complete_from;
        if found != wanted || is_early {
            let (limits, bytes) = (parser.limits(), bytes.escape_ascii());
            return Some(format!(
                "{limits:?}, byte by byte: {bytes}\n  parser  {found:?}\n  grammar {wanted:?}, \
                 byte {end}, the parser asked for {complete_from}"
            ));
        }
        match step {
            Ok(Step::Frame(frame)) => begin += frame.len(),
            Ok(Step::More { bytes }) => complete_from = end + bytes,
            Err(_) => return None,
        }
    }
    None
}

/// A verdict without its operation.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Complete(usize),
    Incomplete,
    Refused(FrameError),
}

impl Outcome {
    fn of<Op>(verdict: Verdict<Op>) -> Self {
        match verdict {
            Verdict::Complete { len, .. } => Self::Complete(len),
            Verdict::Incomplete => Self::Incomplete,
            Verdict::Refused(error) => Self::Refused(error),
        }
    }
}

fn difference<Op: std::fmt::Debug>(
    side: &str,
    limits: Limits,
    input: &[u8],
    found: &Verdict<Op>,
    wanted: &Verdict<Op>,
) -> String {
    let (line, payload) = (limits.line_bytes_max, limits.payload_bytes_max);
    let input = input.escape_ascii();
    format!("{side}, limits {line}/{payload}: {input}\n  parser  {found:?}\n  grammar {wanted:?}")
}

/// The first differences, each once.
#[derive(Default)]
struct Differences {
    texts: Vec<String>,
    count: usize,
}

impl Differences {
    fn add(&mut self, difference: Option<String>) {
        let Some(text) = difference else { return };
        self.count += 1;
        if self.texts.len() < DIFFERENCES_MAX && !self.texts.contains(&text) {
            self.texts.push(text);
        }
    }

    fn none(&self, origin: &str) {
        let (count, texts) = (self.count, self.texts.join("\n"));
        assert_eq!(count, 0, "{count} differences ({origin}):\n{texts}");
    }
}

/// What the grammar said of the first frames: mutations that are all refused show little.
#[derive(Debug, Default)]
struct Tally {
    complete: u64,
    incomplete: u64,
    refused: [u64; 7],
}

impl Tally {
    fn add<Op>(&mut self, verdict: &Verdict<Op>) {
        let Verdict::Refused(error) = verdict else {
            let is_complete = matches!(verdict, Verdict::Complete { .. });
            self.complete += u64::from(is_complete);
            self.incomplete += u64::from(!is_complete);
            return;
        };
        self.refused[match error {
            FrameError::UnknownOp => 0,
            FrameError::LineTooLong { .. } => 1,
            FrameError::ArgumentCount => 2,
            FrameError::BadSize => 3,
            FrameError::HeaderLargerThanTotal => 4,
            FrameError::PayloadTooLong { .. } => 5,
            FrameError::PayloadTerminator => 6,
            FrameError::HeadersRefused | _ => panic!("{error:?} is not counted"),
        }] += 1;
    }

    fn nothing_is_rare(&self) {
        let sum = self.complete + self.incomplete + self.refused.iter().sum::<u64>();
        let least = self
            .refused
            .iter()
            .chain([&self.complete, &self.incomplete]);
        let least = *least.min().unwrap();
        assert!(
            least * 500 > sum,
            "a verdict comes too rarely to be tested: {self:?}"
        );
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn pick<T: Copy>(jitter: &mut Jitter, among: &[T]) -> T {
    among[usize::try_from(jitter.below(among.len() as u64)).unwrap()]
}

/// An input with one to four mutations, sometimes with another behind it.
fn mutated(jitter: &mut Jitter, among: &[&[u8]]) -> Vec<u8> {
    let mut bytes = pick(jitter, among).to_vec();
    if jitter.hits(0.2) {
        bytes.extend_from_slice(pick(jitter, among));
    }
    for _ in 0..=jitter.below(4) {
        mutate(jitter, &mut bytes, among);
    }
    bytes
}

fn mutate(jitter: &mut Jitter, bytes: &mut Vec<u8>, among: &[&[u8]]) {
    let mut below = |bound: usize| usize::try_from(jitter.below(bound as u64)).unwrap();
    let begin = below(bytes.len() + 1);
    let end = (begin + below(12)).min(bytes.len());
    let piece = PIECES[below(PIECES.len())];
    match below(10) {
        // One bit.
        0 if begin < bytes.len() => bytes[begin] ^= 1 << below(8),
        // One byte of those that mean something.
        1 if begin < bytes.len() => bytes[begin] = piece[0],
        2 | 3 => drop(bytes.splice(begin..begin, piece.iter().copied())),
        4 => drop(bytes.drain(begin..end)),
        // A field, or a part of one, twice.
        5 => {
            let copy = bytes[begin..end].to_vec();
            drop(bytes.splice(begin..begin, copy));
        }
        6 => bytes.truncate(begin),
        // Another line end.
        7 => {
            let lines: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
            if !lines.is_empty() {
                let line = lines[below(lines.len())];
                let end = [&b"\n"[..], b"\r", b"\r\r\n", b"x\n", b" \r\n", b"\n\r"][below(6)];
                let begin = line - usize::from(line > 0 && bytes[line - 1] == b'\r');
                drop(bytes.splice(begin..=line, end.iter().copied()));
            }
        }
        // Another size.
        8 => {
            let digits: Vec<_> = (0..bytes.len())
                .filter(|at| bytes[*at].is_ascii_digit())
                .collect();
            if !digits.is_empty() {
                let digit = digits[below(digits.len())];
                let size = SIZES[below(SIZES.len())];
                drop(bytes.splice(digit..=digit, size.bytes()));
            }
        }
        // The beginning of one, the end of another.
        _ => {
            let other = among[below(among.len())];
            bytes.truncate(begin);
            bytes.extend_from_slice(&other[below(other.len() + 1)..]);
        }
    }
}

/// What mutations put in.
const PIECES: &[&[u8]] = &[
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\xff",
    b":",
    b"'",
    b"+",
    b"-",
    b"0",
    b"9",
    b"a",
    b"PING\r\n",
    b"NATS/1.0",
    b"   ",
    b"\r\n\r\n",
    b"aaaaaaaaaaaaaaaaa",
    b"                 ",
];

const SIZES: &[&str] = &[
    "",
    "0",
    "1",
    "2",
    "3",
    "5",
    "12",
    "13",
    "16",
    "17",
    "000000005",
    "0000000005",
    "67108864",
    "67108865",
    "999999999",
    "1000000000",
    "4294967296",
    "18446744073709551616",
    "+5",
    "-1",
    "0x2",
    "5.0",
    "2 5",
    "5 2",
];

/// What servers say, and what they should not.
const SERVER_INPUTS: &[&[u8]] = &[
    b"INFO {\"server_id\":\"a\",\"max_payload\":1048576} \r\n",
    b"INFO{}\r\n",
    b"info \t {} \t\n",
    b"INFO\r\n",
    b"INFO \r\n",
    b"INFO {}\r\r\n",
    b"INFO {a\rb}\r\n",
    b"INFO not json\n",
    b"MSG a 1 0\r\n\r\n",
    b"MSG greet.joe 1 5\r\nhello\r\nPING\r\n",
    b"mSg a 1 b 2\nhi\r\n",
    b"MSG \t a \t 1  2 \t\r\nhi\r\n",
    b"MSG _INBOX.x.2 1  2\r\nhi\r\n",
    b"MSG a\rb 1\r c 2\r\nhi\r\n",
    b"MSG a abc-\xff! 2\r\nhi\r\n",
    b"MSG \x0b\x0c\0\x7f 1 2\r\nhi\r\n",
    b"MSG a 1 0000002\r\nhi\r\n",
    b"MSG a 1 000000002\r\nhi\r\n",
    b"MSG a 1 0000000002\r\nhi\r\n",
    b"MSG a 1 2\r\nhi\n",
    b"MSG a 1 2\r\nhix\r\n",
    b"MSG a 1 2\r\nhi\rx",
    b"MSG a 1 2\r\r\nhi\r\n",
    b"MSG a 1 2\rx\nhi\r\n",
    b"MSG a 1 12\r\nhello, world\r\n",
    b"MSG a 1 13\r\nhello, world!\r\n",
    b"MSG aaaaaaa 11111 5\r\nhello\r\n",
    b"MSG aaaaaaa 111111 5\r\nhello\r\n",
    b"MSG aaaaaaa 111111 5\nhello\r\n",
    b"MSG a\r\n",
    b"MSG a 1\r\n",
    b"MSG a 1 b c 2\r\nhi\r\n",
    b"MSG \r\n",
    b"MSG \n",
    b"MSG \nfoo 1 2\r\nhi\r\n",
    b"MSG \t\n 1 2\nhi\r\n",
    b"MSG \n\r\n",
    b"MSG \n\n",
    b"HMSG \n\nfoo 1 0 2\r\nhi\r\n",
    b"INFO\n{}\r\n",
    b"-ERR \n",
    b"MSG\r\n",
    b"MSGa 1 2\r\nhi\r\n",
    b"MSG a 1 -1\r\n",
    b"MSG a 1 x\r\n",
    b"MSG a 1 999999999\r\nhi",
    b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    b"hmsg a 1 b 12 14\nNATS/1.0\r\n\r\nhi\r\n",
    b"HMSG a 1 22 27\r\nNATS/1.0\r\nA: b\r\n\r\n\r\nhello\r\n",
    b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
    b"HMSG a 1 0 2\r\nhi\r\n",
    b"HMSG a 1 2 2\r\nhi\r\n",
    b"HMSG a 1 3 2\r\nhi\r\n",
    b"HMSG a 1 3 5\r\nhello\r\n",
    b"HMSG a 1 0 0\r\n\r\n",
    b"HMSG a 1 x 13\r\n",
    b"HMSG a 1 99 13\r\n",
    b"HMSG a 1 3 13\r\n",
    b"HMSG a 1 3 x\r\n",
    b"HMSG a 1 2\r\nhi\r\n",
    b"HMSG a 1 b c 2 2\r\nhi\r\n",
    b"HMSG a 1  0003 0000005 \r\nhello\r\n",
    b"-ERR 'Unknown Protocol Operation'\r\n",
    b"-ERR 'Permissions Violation for Subscription to \"it's\" using queue \"q\"'\r\n",
    b"-ERR\r\n",
    b"-ERR\n",
    b"-ERR \r\n",
    b"-ERR'x'\r\n",
    b"-ERR '\r\n",
    b"-ERR ''\r\n",
    b"-ERR ' x '  \t\r\n",
    b"-err x\n",
    b"-ERR x'\r\n",
    b"+OK\r\n",
    b"+ok\n",
    b"+OK and more\r\n",
    b"PING\r\n",
    b"ping\n",
    b"PINGxyz 1 2\r\n",
    b"PONG \r \t\r\n",
    b"PONG\r\r\n",
    b"PONG\r\n",
    b"PONGPONG\r\n",
    b"PING aaaaaaaaaaa\r\n",
    b"PING aaaaaaaaaaaa\r\n",
    b"PING aaaaaaaaaaaa\n",
    b"PONG\r\nINFO {\"server_id\":\"a\",\"connect_info\":true} \r\n",
    b"PUB a 2\r\nhi\r\n",
    b"\r\n",
    b"\n",
    b" PING\r\n",
    b"PIX",
    b"-E",
    b"-OK",
    b"x",
];

/// What clients say, and what they should not.
const CLIENT_INPUTS: &[&[u8]] = &[
    b"CONNECT {\"verbose\":false}\r\n",
    b"connect\t{}\n",
    b"CONNECT{}\r\n",
    b"CONNECT  {}  \t\r\n",
    b"CONNECT\r\n",
    b"CONNECT\n",
    b"CONNECT \r\n",
    b"CONNECT  \n",
    b"CONNECT {}\r\r\n",
    b"CONNECT {\r}\n",
    b"PUB a 2\r\nhi\r\n",
    b"pUb a b 2\nhi\r\n",
    b"PUB\t\ta\t 2 \r\nhi\r\n",
    b"PUB a 0\r\n\r\n",
    b"PUB a 2\r\nhi\n",
    b"PUB a 2\r\nhello\r\n",
    b"PUB a 5\r\nhello\r\n",
    b"PUB a 5\r\nhello\n",
    b"PUB fo\ro 2\r\nhi\r\n",
    b"PUB fo\ro 11\nh\r\n",
    b"PUB fo\r 11\nh\r\n",
    b"PUB fo \r 2\r\nhi\r\n",
    b"PUB \rfo 2\r\nhi\r\n",
    b"PUB \rfo 2\nhi\r\n",
    b"PUB fo 2\r\r\nhi\r\n",
    b"PUB fo 2\r \nhi\r\n",
    b"PUB fo 2 \r\nhi\r\n",
    b"PUB fo 2\rx\nhi\r\n",
    b"PUB foo.* 2\r\nhi\r\n",
    b"PUB a..b 2\r\nhi\r\n",
    b"PUB \x0b\xff 2\r\nhi\r\n",
    b"PUB a 000000005\r\nhello\r\n",
    b"PUB a 0000000005\r\nhello\r\n",
    b"PUB a +2\r\nhi\r\n",
    b"PUB a 0x2\r\nhi\r\n",
    b"PUB a 999999999\r\n",
    b"PUB a 12\r\nhello, world\r\n",
    b"PUB a 13\r\nhello, world!\r\n",
    b"PUB a\r\n",
    b"PUB a b c 2\r\nhi\r\n",
    b"PUB\r\n",
    b"PUB \r\n",
    b"PUB \n",
    b"PUB \nfoo 2\r\nhi\r\n",
    b"PUB \n\n",
    b"PUB \n\rfoo 22\nhi\r\n",
    b"HPUB \nfoo 0 2\r\nhi\r\n",
    b"SUB \nfoo 1\r\n",
    b"SUB \n\rfoo 1\nx\n",
    b"UNSUB \n1\n",
    b"CONNECT\n{}\r\n",
    b"CONNECT \n\r\n",
    b"INFO \n{} \n",
    b"-ERR \nx\r\n",
    b"PING\n\n",
    b"PUB \r\r\n",
    b"PUB \ra\n",
    b"PUBa 2\r\nhi\r\n",
    b"PUB aaaaaaaaaaaaaa 2\r\nhi\r\n",
    b"PUB aaaaaaaaaaaaaaa 2\r\nhi\r\n",
    b"PUB aaaaaaaaaaaaaaa 2\nhi\r\n",
    b"PUB aa\raaaaaaaaaaa 22\nhi\r\n",
    b"PUB aa\raaaaaaaaaaaa 22\nhi\r\n",
    b"PUB                 a 2\r\nhi\r\n",
    b"PUB                  a 2\r\nhi\r\n",
    b"HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    b"hpub a b 12 14\nNATS/1.0\r\n\r\nhi\r\n",
    b"HPUB a 0022 00027\r\nNATS/1.0\r\nA: b\r\n\r\n\r\nhello\r\n",
    b"HPUB a 3 5\r\nhello\r\n",
    b"HPUB a 0 2\r\nhi\r\n",
    b"HPUB a 2 2\r\nhi\r\n",
    b"HPUB a 3 2\r\nhi\r\n",
    b"HPUB a 2\r\nhi\r\n",
    b"HPUB a b c 2 2\r\nhi\r\n",
    b"HPUB a 0 13\r\n",
    b"HPUB a 14 13\r\n",
    b"HPUB\r\n",
    b"SUB a 1\r\n",
    b"sub a q 1\n",
    b"SUB \t a \t 1  \r\n",
    b"SUB a\r1\r\n",
    b"SUB a\r1\n",
    b"SUB a\r12\n",
    b"SUB \ra 1\r\n",
    b"SUB \ra 1\n",
    b"SUB a 1 2 3\r\n",
    b"SUB a\r\n",
    b"SUB \r\n",
    b"SUB \n",
    b"SUB\r\n",
    b"SUB a abc-\xff!\r\n",
    b"SUB >.a..\0 0\r\n",
    b"SUB aaaaaaaaaaaaaa 1\r\n",
    b"SUB aaaaaaaaaaaaaaa 1\r\n",
    b"UNSUB 1\r\n",
    b"unsub 1 5\n",
    b"UNSUB 1 0000000000\r\n",
    b"UNSUB 1 -1\r\n",
    b"UNSUB 1\r5\r\n",
    b"UNSUB 1\r55\n",
    b"UNSUB \r\n",
    b"UNSUB \n",
    b"UNSUB\r\n",
    b"UNSUB 1 2 3\r\n",
    b"INFO {\"a\":1}\r\n",
    b"INFO{}\n",
    b"INFO\r\n",
    b"INFO \r\n",
    b"-ERR 'x'\r\n",
    b"-ERR\r\n",
    b"-ERR\n",
    b"-ERR \r\n",
    b"-ERR \n",
    b"-ERRx\r\n",
    b"-err\t'\r'\r\n",
    b"+OK\r\n",
    b"+OKx\n",
    b"PING\r\n",
    b"PINGxyz 1 2\r\n",
    b"PING\rx\n",
    b"PONG\r\n",
    b"ponG\n",
    b"PING aaaaaaaaaaa\r\n",
    b"PING aaaaaaaaaaaa\r\n",
    b"CONNECT {}\r\nPING\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nUNSUB 1\r\n",
    b"MSG a 1 2\r\nhi\r\n",
    b"HMSG a 1 0 2\r\nhi\r\n",
    b"RS+ a b\r\n",
    b"A+ a\r\n",
    b"LS+ a b\r\n",
    b"\r\n",
    b" PING\r\n",
    b"C",
    b"UN",
    b"-",
];

/// Header blocks, and what is none.
const HEADER_BLOCKS: &[&[u8]] = &[
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0 503\r\nNats-Subject: a.b\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 8\r\nNats-Last-Stream: 9\r\n\r\n",
    b"NATS/1.0 404   No Messages \r\n\r\n",
    b"NATS/1.0\t409\tConsumer Deleted\t\r\n\r\n",
    b"NATS/1.0503\r\n\r\n",
    b"NATS/1.0 503x\r\n\r\n",
    b"NATS/1.0 50\r\n\r\n",
    b"NATS/1.0 abc\r\n\r\n",
    b"NATS/1.0 99999\r\n\r\n",
    b"NATS/1.0 999 \r\n\r\n",
    b"NATS/1.0  \r\n\r\n",
    b"NATS/1.0 000\r\n\r\n",
    b"NATS/2.0\r\n\r\n",
    b"nats/1.0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"NATS/1.0\nA: b\n\n",
    b"NATS/1.0\r\nA:  b  \r\nB:\r\nC:   \r\n\r\n",
    b"NATS/1.0\r\nA:\tb\t \r\na: c\r\nA: d\r\n\r\n",
    b"NATS/1.0\r\nA: b: c\r\nD ::\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n  c\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n  c:d\r\n\r\n",
    b"NATS/1.0\r\n: b\r\n\r\n",
    b"NATS/1.0\r\nA b\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n",
    b"NATS/1.0\r\nA: b",
    b"NATS/1.0",
    b"NATS/1.0\r\nA: b\r\n\r\nmore\r\n",
    b"NATS/1.0\r\nA B: c\r\n\xff: \xfe\r\n\r\n",
    b"NATS/1.0\r\nA: b\rc\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\r\n\r\n",
    b"NATS/1.0\r\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n\r\r\n",
    b"NATS/1.0\r\nA\r: b\r\n\r\n",
    b"hello",
    b"\n",
    b"\r\n\r\n",
];
