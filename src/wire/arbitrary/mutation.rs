//! Damage with a name, and sessions that have taken some.

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::wire::Limits;

use super::draft::Draft;
use super::session::Frames;

/// One way in which an operation is not quite what it should be. Some leave it valid: readers
/// tolerate a lot, and must all tolerate the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutation {
    /// Letters of the name change their case.
    NameCase,
    /// A letter of the name is another byte.
    UnknownName,
    /// A blank or an empty line precedes the name.
    LeadingBytes,
    /// Nothing separates name and arguments.
    NoSeparator,
    /// Other separators: several, tabs, other white space.
    OddSeparator,
    /// An argument is missing.
    MissingArgument,
    /// There is one argument more.
    ExtraArgument,
    /// A byte that is no letter inside an argument: NUL, control, above 0x7f.
    OddByte,
    /// A CR inside an argument.
    CrInside,
    /// An argument is so long that the line is at a limit, or over it: 4,096 bytes for what clients
    /// say, 65,536 for what servers say.
    LongLine,
    /// The line ends with something else than CR LF.
    LineEnd,
    /// The declared size is off by a few bytes.
    LyingSize,
    /// The declared size is not one to nine digits, or far too large.
    OddSize,
    /// Zeros precede the declared size.
    LeadingZeros,
    /// The declared header size is off, 0, or larger than the total.
    LyingHeaderSize,
    /// The header block is damaged, its size is true.
    HeaderDamage,
    /// The body ends with something else than CR LF.
    BodyEnd,
    /// JSON is damaged.
    JsonDamage,
    /// A byte anywhere is another one.
    AnyByte,
    /// The operation is said twice.
    Repeated,
    /// The operation ends early.
    Cut,
}

/// Every mutation, each as likely as the others.
const ALL: [Mutation; 21] = [
    Mutation::NameCase,
    Mutation::UnknownName,
    Mutation::LeadingBytes,
    Mutation::NoSeparator,
    Mutation::OddSeparator,
    Mutation::MissingArgument,
    Mutation::ExtraArgument,
    Mutation::OddByte,
    Mutation::CrInside,
    Mutation::LongLine,
    Mutation::LineEnd,
    Mutation::LyingSize,
    Mutation::OddSize,
    Mutation::LeadingZeros,
    Mutation::LyingHeaderSize,
    Mutation::HeaderDamage,
    Mutation::BodyEnd,
    Mutation::JsonDamage,
    Mutation::AnyByte,
    Mutation::Repeated,
    Mutation::Cut,
];

/// Mutations of one session at most.
const MUTATIONS_MAX: u8 = 3;

/// The bytes of a valid session in which some operations were damaged.
///
/// A mutation that finds nothing to damage (the header size of a PING) leaves its operation alone
/// and is not named.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearlyValid<S> {
    /// The session before the damage.
    pub session: S,
    /// What was done to it.
    pub mutations: Vec<Mutation>,
    /// What came out, operation by operation.
    pub frames: Vec<Vec<u8>>,
}

impl<'a, S: Frames + Arbitrary<'a>> Arbitrary<'a> for NearlyValid<S> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let session = S::arbitrary(u)?;
        let mut frames = session.frames();
        let mut mutations = Vec::new();
        for _ in 0..u.int_in_range(1..=MUTATIONS_MAX)? {
            let index = u.choose_index(frames.len())?;
            let mutation = Mutation::arbitrary(u)?;
            if let Some(frame) = frames.get_mut(index) {
                let damaged = mutation.apply(frame, u)?;
                if damaged != *frame {
                    *frame = damaged;
                    mutations.push(mutation);
                }
            }
        }
        Ok(Self {
            session,
            mutations,
            frames,
        })
    }
}

impl<'a> Arbitrary<'a> for Mutation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        u.choose(&ALL).copied()
    }
}

impl<S> NearlyValid<S> {
    /// All bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.frames.concat()
    }
}

impl Mutation {
    /// A stable name without blanks.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NameCase => "name_case",
            Self::UnknownName => "unknown_name",
            Self::LeadingBytes => "leading_bytes",
            Self::NoSeparator => "no_separator",
            Self::OddSeparator => "odd_separator",
            Self::MissingArgument => "missing_argument",
            Self::ExtraArgument => "extra_argument",
            Self::OddByte => "odd_byte",
            Self::CrInside => "cr_inside",
            Self::LongLine => "long_line",
            Self::LineEnd => "line_end",
            Self::LyingSize => "lying_size",
            Self::OddSize => "odd_size",
            Self::LeadingZeros => "leading_zeros",
            Self::LyingHeaderSize => "lying_header_size",
            Self::HeaderDamage => "header_damage",
            Self::BodyEnd => "body_end",
            Self::JsonDamage => "json_damage",
            Self::AnyByte => "any_byte",
            Self::Repeated => "repeated",
            Self::Cut => "cut",
        }
    }

    /// Damages one operation; `frame` are its bytes in their plainest form.
    ///
    /// # Errors
    ///
    /// Only what [`Unstructured`] reports.
    pub fn apply(self, frame: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        match self {
            Self::AnyByte => return replace_byte(frame, u),
            Self::Repeated => return Ok([frame, frame].concat()),
            Self::Cut => {
                let len = u.choose_index(frame.len().max(1))?;
                return Ok(frame.get(..len).unwrap_or_default().to_vec());
            }
            Self::NameCase
            | Self::UnknownName
            | Self::LeadingBytes
            | Self::NoSeparator
            | Self::OddSeparator
            | Self::MissingArgument
            | Self::ExtraArgument
            | Self::OddByte
            | Self::CrInside
            | Self::LongLine
            | Self::LineEnd
            | Self::LyingSize
            | Self::OddSize
            | Self::LeadingZeros
            | Self::LyingHeaderSize
            | Self::HeaderDamage
            | Self::BodyEnd
            | Self::JsonDamage => {}
        }
        let mut draft = Draft::new(frame);
        self.damage(&mut draft, u)?;
        Ok(draft.to_bytes())
    }

    fn damage(self, draft: &mut Draft, u: &mut Unstructured<'_>) -> Result<()> {
        match self {
            Self::NameCase => {
                for byte in &mut draft.name {
                    if u.arbitrary()? {
                        byte.make_ascii_lowercase();
                    }
                }
            }
            Self::UnknownName => draft.name = replace_byte(&draft.name, u)?,
            Self::LeadingBytes => {
                draft.lead = one_of(u, &[b" ", b"\r\n", b"\n", b"\t", b"\0", b"\xef\xbb\xbf"])?;
            }
            Self::NoSeparator => draft.separator.clear(),
            Self::OddSeparator => {
                draft.separator = one_of(
                    u,
                    &[
                        b"  ", b"\t", b" \t ", b"\x0b", b"\x0c", b"\xa0", b"\r", b",", b"\0",
                    ],
                )?;
            }
            Self::MissingArgument => {
                if !draft.arguments.is_empty() {
                    let index = u.choose_index(draft.arguments.len())?;
                    draft.arguments.remove(index);
                }
            }
            Self::ExtraArgument => {
                let index = u.int_in_range(0..=draft.arguments.len())?;
                let argument = one_of(u, &[b"a", b"7", b"", b"*", b"{}"])?;
                draft.arguments.insert(index, argument);
            }
            Self::OddByte => {
                let byte = one_of(
                    u,
                    &[
                        b"\0", b"\n", b"\x01", b"\x0b", b"\x7f", b"\x80", b"\xff", b"\"",
                    ],
                )?;
                insert_into_argument(draft, &byte, u)?;
            }
            Self::CrInside => insert_into_argument(draft, b"\r", u)?,
            Self::LongLine => lengthen(draft, u)?,
            Self::LineEnd => {
                draft.line_end = one_of(
                    u,
                    &[b"\n", b"\r", b"", b"\r\r\n", b"\n\r", b" \r\n", b"\r\n\r\n"],
                )?;
            }
            Self::LyingSize => {
                let by = u.int_in_range(-3..=3_i32)?;
                if let Some(digits) = draft.size() {
                    shift(digits, by);
                }
            }
            Self::OddSize => {
                let text = one_of(u, ODD_SIZES)?;
                let is_header = u.ratio(1_u8, 3)?;
                let header = if is_header { draft.header_size() } else { None };
                if let Some(digits) = header {
                    *digits = text;
                } else if let Some(digits) = draft.size() {
                    *digits = text;
                }
            }
            Self::LeadingZeros => {
                let zeros = usize::from(u.int_in_range(1..=9_u8)?);
                if let Some(digits) = draft.size() {
                    digits.splice(0..0, std::iter::repeat_n(b'0', zeros));
                }
            }
            Self::LyingHeaderSize => {
                let by = u.int_in_range(-12..=12_i32)?;
                if let Some(digits) = draft.header_size() {
                    shift(digits, by);
                }
            }
            Self::HeaderDamage => {
                if draft.has_headers() {
                    let headers = damage_headers(draft.headers(), u)?;
                    draft.replace_headers(&headers);
                }
            }
            Self::BodyEnd => {
                if draft.has_body() {
                    draft.body_end = one_of(
                        u,
                        &[b"\n", b"\r", b"", b"\n\r", b"xx", b"\r\r\n", b"\r\n\r\n"],
                    )?;
                }
            }
            Self::JsonDamage => {
                if matches!(draft.name.as_slice(), b"CONNECT" | b"INFO")
                    && let Some(json) = draft.arguments.first_mut()
                {
                    *json = damage_json(json, u)?;
                }
            }
            Self::AnyByte | Self::Repeated | Self::Cut => {}
        }
        Ok(())
    }
}

const ODD_SIZES: &[&[u8]] = &[
    b"",
    b"-1",
    b"+2",
    b"0x2",
    b"2.0",
    b"1e1",
    b" ",
    b"two",
    b"1048576",
    b"1048577",
    b"999999999",
    b"1000000000",
    b"2147483648",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551617",
];

/// Ways in which a header block is damaged: each takes the block apart at its lines.
fn damage_headers(block: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let text = |pieces: &[&[u8]]| pieces.concat();
    Ok(match u.int_in_range(0..=11_u8)? {
        0 => Vec::new(),
        1 => block.strip_suffix(b"\r\n").unwrap_or(block).to_vec(),
        2 => block
            .iter()
            .copied()
            .filter(|byte| *byte != b'\r')
            .collect(),
        3 => text(&[block, b"more: than\r\n"]),
        4 => text(&[b"NATS/2.0\r\n\r\n"]),
        5 => text(&[b"NATS/1.0 50\r\nA: b\r\n\r\n"]),
        6 => text(&[b"NATS/1.0\r\nA: b\r\n  folded\r\n\r\n"]),
        7 => text(&[b"NATS/1.0\r\nno colon\r\n\r\n"]),
        8 => text(&[b"NATS/1.0\r\n: no name\r\n\r\n"]),
        9 => text(&[b"NATS/1.0\r\nA b:\xff\0\r\n\r\n"]),
        10 => text(&[b"NATS/1.0\r\nA: b\rc\r\n\r\n"]),
        _ => replace_byte(block, u)?,
    })
}

fn damage_json(json: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    Ok(match u.int_in_range(0..=7_u8)? {
        0 => Vec::new(),
        1 => b"null".to_vec(),
        2 => b"[]".to_vec(),
        3 => json.strip_suffix(b"}").unwrap_or(json).to_vec(),
        4 => [json, b"}"].concat(),
        5 => b"{}".to_vec(),
        6 => [b"{\"verbose\":\"yes\"", json.get(1..).unwrap_or_default()].concat(),
        _ => replace_byte(json, u)?,
    })
}

fn one_of(u: &mut Unstructured<'_>, choices: &[&[u8]]) -> Result<Vec<u8>> {
    u.choose(choices).map(|choice| choice.to_vec())
}

fn replace_byte(bytes: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    if !bytes.is_empty() {
        let index = u.choose_index(bytes.len())?;
        let byte = u.arbitrary()?;
        if let Some(place) = bytes.get_mut(index) {
            *place = byte;
        }
    }
    Ok(bytes)
}

fn insert_into_argument(draft: &mut Draft, byte: &[u8], u: &mut Unstructured<'_>) -> Result<()> {
    if draft.arguments.is_empty() {
        return Ok(());
    }
    let index = u.choose_index(draft.arguments.len())?;
    if let Some(argument) = draft.arguments.get_mut(index) {
        let at = u.int_in_range(0..=argument.len())?;
        argument.splice(at..at, byte.iter().copied());
    }
    Ok(())
}

/// Makes the arguments about as long as a server's default allows.
fn lengthen(draft: &mut Draft, u: &mut Unstructured<'_>) -> Result<()> {
    let is_servers = matches!(draft.name.as_slice(), b"MSG" | b"HMSG" | b"INFO" | b"-ERR");
    let limits = if is_servers {
        Limits::SERVER_OPS
    } else {
        Limits::CLIENT_OPS
    };
    let by = u.int_in_range(-2..=2_i8)?;
    let wanted = limits.line_bytes_max.saturating_add_signed(isize::from(by));
    let is_json = matches!(draft.name.as_slice(), b"CONNECT" | b"INFO");
    let words: usize = draft.arguments.iter().map(Vec::len).sum();
    let blanks = draft.arguments.len().saturating_sub(1);
    let missing = wanted.saturating_sub(words.saturating_add(blanks));
    if let Some(argument) = draft.arguments.first_mut() {
        let filler = if is_json { b' ' } else { b'l' };
        let at = usize::from(is_json).min(argument.len());
        argument.splice(at..at, std::iter::repeat_n(filler, missing));
    }
    Ok(())
}

/// Adds `by` to a number in digits; below zero it gets a sign.
fn shift(digits: &mut Vec<u8>, by: i32) {
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse::<i64>().ok());
    if let Some(number) = number {
        *digits = number
            .saturating_add(i64::from(by))
            .to_string()
            .into_bytes();
    }
}
