//! The kinds of header blocks, subjects and replies, and how one of each is made.

use natseq::jitter::Jitter;

use crate::message::Fate;

/// A kind of header block and how to make one.
pub(crate) type Block = (&'static str, fn(&mut Jitter) -> Vec<u8>);

pub(crate) const BLOCKS: &[Block] = &[
    ("well-formed", |jitter| good_block(jitter)),
    ("LF-only line ends", |jitter| {
        replaced(&good_block(jitter), b"\r\n", b"\n")
    }),
    ("bare CR", |jitter| {
        replaced(&good_block(jitter), b"\r\n", b"\r")
    }),
    ("mixed line ends", |jitter| {
        let mut block = b"NATS/1.0".to_vec();
        for _ in 0..=jitter.below(5) {
            block.extend_from_slice(pick(
                jitter,
                &[b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\n\n"],
            ));
            block.extend_from_slice(pick(jitter, &[b"A: b", b"C:d", b"E", b": f", b""]));
        }
        block
    }),
    ("NUL", |jitter| spoiled(&good_block(jitter), &[0], jitter)),
    ("CR inside", |jitter| {
        spoiled(&good_block(jitter), b"\r", jitter)
    }),
    ("folded line", |jitter| {
        with_line(jitter, &[b" folded", b"\tfolded", b"  folded: line"])
    }),
    ("second blank line", |jitter| {
        let mut block = good_block(jitter);
        block.extend_from_slice(pick(
            jitter,
            &[b"\r\n", b"A: b\r\n\r\n", b"NATS/1.0\r\n\r\n", b"x"],
        ));
        block
    }),
    ("no blank line", |jitter| {
        let block = good_block(jitter);
        block[..block.len() - 2].to_vec()
    }),
    ("cut short", |jitter| {
        let block = good_block(jitter);
        let len = index(jitter, block.len());
        block[..len].to_vec()
    }),
    ("missing colon", |jitter| {
        with_line(jitter, &[b"Name value", b"Name", b"-"])
    }),
    ("empty name", |jitter| {
        with_line(jitter, &[b": value", b":", b"::"])
    }),
    ("blank in the name", |jitter| {
        with_line(jitter, &[b"A b: c", b"A : c", b" A: c", b"A\t: c"])
    }),
    ("not UTF-8", |jitter| {
        with_line(
            jitter,
            &[
                b"A: \xff\xfe",
                b"\xc3\x28: b",
                b"\x80: \x80",
                b"A: \xed\xa0\x80",
            ],
        )
    }),
    ("wrong version", |jitter| {
        let version: &[u8] = pick(
            jitter,
            &[
                b"NATS/2.0",
                b"nats/1.0",
                b"NATS/1.1",
                b"NATS/1.",
                b"HTTP/1.1",
                b" NATS/1.0",
                b"NATS/1.00",
                b"",
            ],
        );
        replaced(&good_block(jitter), b"NATS/1.0", version)
    }),
    ("status", |jitter| {
        let huge = vec![b'5'; 1 + index(jitter, 4_000)];
        let status = pick(
            jitter,
            &[
                b"",
                b"5",
                b"50",
                b"503",
                b"5035",
                b"abc",
                b"-50",
                b"5 03",
                b"503\t",
                b"000",
                b"\xff\xff\xff",
                b"503 No Responders",
                b"404   ",
                &huge,
            ],
        );
        let blank: &[u8] = pick(jitter, &[b" ", b"", b"  ", b"\t"]);
        [b"NATS/1.0", blank, status, b"\r\n\r\n"].concat()
    }),
    ("size 0", |_| Vec::new()),
    ("many fields", |jitter| {
        let mut block = b"NATS/1.0\r\n".to_vec();
        for _ in 0..index(jitter, 200) {
            block.extend_from_slice(b"A: b\r\n");
        }
        block.extend_from_slice(b"\r\n");
        block
    }),
    ("any bytes", |jitter| {
        let len = 1 + index(jitter, 80);
        (0..len).map(|_| byte(jitter)).collect()
    }),
];

fn good_block(jitter: &mut Jitter) -> Vec<u8> {
    let mut block = b"NATS/1.0\r\n".to_vec();
    for _ in 0..jitter.below(4) {
        block.extend_from_slice(pick(
            jitter,
            &[b"A: b\r\n", b"Trace:  x y \r\n", b"a:\r\n", b"Key: a:b\r\n"],
        ));
    }
    block.extend_from_slice(b"\r\n");
    block
}

/// A good block with one of `lines` among its fields.
fn with_line(jitter: &mut Jitter, lines: &[&[u8]]) -> Vec<u8> {
    let mut block = b"NATS/1.0\r\nFirst: 1\r\n".to_vec();
    block.extend_from_slice(pick(jitter, lines));
    block.extend_from_slice(b"\r\nLast: 2\r\n\r\n");
    block
}

fn spoiled(block: &[u8], with: &[u8], jitter: &mut Jitter) -> Vec<u8> {
    let (before, after) = block.split_at(index(jitter, block.len() + 1));
    [before, with, after].concat()
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut rest = text;
    let mut result = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(from) {
            result.extend_from_slice(to);
            rest = after;
        } else {
            result.push(*first);
            rest = after;
        }
    }
    result
}

pub(crate) fn odd_subject(number: usize, jitter: &mut Jitter) -> (&'static str, Vec<u8>, Fate) {
    let mut fate = Fate::Delivered;
    let (kind, subject) = match jitter.below(10) {
        0 | 1 => ("plain subject", format!("p.{number}").into_bytes()),
        2 => (
            "control bytes in the subject",
            odd_tokens(jitter, 3, control),
        ),
        3 => ("high bytes in the subject", odd_tokens(jitter, 3, high)),
        4 => {
            let subjects: &[&[u8]] = &[
                b"p.*", b"*", b">", b"p.>", b"p.>.x", b"*.*", b"p*", b"p>x.y",
            ];
            ("wildcards in the subject", pick(jitter, subjects).to_vec())
        }
        5 => {
            fate = Fate::MatchesNothing;
            let subjects: &[&[u8]] = &[b"p..x", b".p", b"p.", b".", b"..", b".*", b">.", b"\0."];
            (
                "empty token in the subject",
                pick(jitter, subjects).to_vec(),
            )
        }
        6 => ("subject of one byte", vec![letter(jitter)]),
        7 if jitter.below(4) == 0 => {
            let mut subject = odd_tokens(jitter, 3_000, letter);
            subject.resize(3_000, b'x');
            ("subject of 3000 bytes", subject)
        }
        7 => {
            let tokens = vec!["t"; 1 + index(jitter, 200)];
            ("subject of many tokens", tokens.join(".").into_bytes())
        }
        8 => {
            let subjects: &[&[u8]] = &[
                b"MSG",
                b"PING",
                b"+OK",
                b"1",
                b"-1",
                b"p.\\r\\n",
                b"p.'\"`",
                b"{}",
            ];
            ("subject like an operation", pick(jitter, subjects).to_vec())
        }
        _ => ("any bytes in the subject", odd_tokens(jitter, 20, letter)),
    };
    (kind, subject, fate)
}

pub(crate) fn odd_reply(jitter: &mut Jitter) -> Option<Vec<u8>> {
    match jitter.below(10) {
        0..4 => None,
        4 => Some(b"_INBOX.a.1".to_vec()),
        5 => Some(odd_tokens(jitter, 4, control)),
        6 => Some(odd_tokens(jitter, 4, high)),
        7 => Some(odd_tokens(jitter, 100, letter)),
        // Nobody looks at a reply subject: empty tokens and wildcards pass.
        8 => Some(pick(jitter, &[b"r..s", b".", b"r.", b".r", b"*", b">", b"r.>.s"]).to_vec()),
        _ => Some(
            pick(
                jitter,
                &[b"0", b"12", b"+1", b"PUB", b"\0", b"\x7f", b"\xff"],
            )
            .to_vec(),
        ),
    }
}

/// Between one and `tokens_max` tokens, none empty.
fn odd_tokens(jitter: &mut Jitter, bytes_max: usize, one: fn(&mut Jitter) -> u8) -> Vec<u8> {
    let mut subject = vec![one(jitter)];
    for _ in 0..index(jitter, bytes_max) {
        if subject.len() + 1 < bytes_max && jitter.below(4) == 0 {
            subject.push(b'.');
        }
        subject.push(one(jitter));
    }
    subject.truncate(bytes_max);
    if subject.last() == Some(&b'.') {
        subject.pop();
    }
    subject
}

/// A byte that can stand in a subject, but a dot.
fn letter(jitter: &mut Jitter) -> u8 {
    loop {
        let byte = byte(jitter);
        if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'.') {
            return byte;
        }
    }
}

fn control(jitter: &mut Jitter) -> u8 {
    let bytes = b"\0\x01\x07\x08\x0b\x0c\x0e\x1b\x1f\x7fc*";
    bytes[index(jitter, bytes.len())]
}

fn high(jitter: &mut Jitter) -> u8 {
    0x80 | byte(jitter)
}

fn byte(jitter: &mut Jitter) -> u8 {
    jitter.next_u64().to_le_bytes()[0]
}

/// Begins with its number, so that a loss is noticed; whatever follows is any bytes.
pub(crate) fn payload(number: usize, jitter: &mut Jitter) -> Vec<u8> {
    if jitter.below(10) == 0 {
        // The header block is all there is.
        return Vec::new();
    }
    let mut payload = format!("{number} ").into_bytes();
    for _ in 0..jitter.below(4) {
        payload.extend_from_slice(pick(
            jitter,
            &[
                b"\r\n",
                b"\0",
                b"PING\r\n",
                b"\xff",
                b"MSG a 1 1\r\n",
                b"-ERR 'x'\r\n",
            ],
        ));
    }
    payload
}

fn pick<'a>(jitter: &mut Jitter, from: &[&'a [u8]]) -> &'a [u8] {
    from[index(jitter, from.len())]
}

/// A number below `bound`.
pub(crate) fn index(jitter: &mut Jitter, bound: usize) -> usize {
    usize::try_from(jitter.below(u64::try_from(bound).unwrap())).unwrap()
}
