//! Header blocks: a naive line splitter answers the same questions.

use natseq::wire::{HeaderBlock, HeaderError, HeaderFieldError, HeaderLines, Headers};

/// Names that are looked up; all of a long block would take long.
const NAMES_MAX: usize = 4;

/// Reads `data` as a block that arrived, and its fields as ones to publish.
pub fn run(data: &[u8]) {
    let block = HeaderBlock::new(data);
    let naive = Naive::read(data);
    let shown = data.escape_ascii();
    assert_eq!(block.raw(), data);
    let status = block
        .status()
        .map(|status| status.map(|of| (of.code, of.description)));
    assert_eq!(status, naive.status, "{shown}");
    let mut fields = Vec::new();
    let mut error = None;
    for field in block {
        assert_eq!(error, None, "a field behind an error: {shown}");
        match field {
            Ok(field) => fields.push(field),
            Err(found) => error = Some(found),
        }
    }
    assert_eq!((&fields, error), (&naive.fields, naive.error), "{shown}");
    let checked = naive.status.err().or(naive.error);
    assert_eq!(block.check().err(), checked, "{shown}");
    check_lookup(block, &naive.fields);
    check_writing(&naive.fields);
    check_lines(data);
}

/// A block as a reader of the protocol notes would read it.
struct Naive<'a> {
    status: Result<Option<(u16, &'a [u8])>, HeaderError>,
    fields: Vec<(&'a [u8], &'a [u8])>,
    error: Option<HeaderError>,
}

impl<'a> Naive<'a> {
    fn read(block: &'a [u8]) -> Self {
        let mut lines: Vec<&[u8]> = block.split(|byte| *byte == b'\n').collect();
        // What follows the last LF is no line.
        lines.pop();
        let mut lines = lines.into_iter().map(without_cr);
        let Some(first) = lines.next() else {
            return Self {
                status: Err(HeaderError::Unterminated),
                fields: Vec::new(),
                error: Some(HeaderError::Unterminated),
            };
        };
        let mut fields = Vec::new();
        let error = loop {
            match lines.next() {
                None => break Some(HeaderError::Unterminated),
                Some([]) => break None,
                Some(line) => match line.iter().position(|byte| *byte == b':') {
                    None => break Some(HeaderError::NoColon),
                    Some(0) => break Some(HeaderError::NoName),
                    Some(colon) => fields.push((&line[..colon], trimmed(&line[colon + 1..]))),
                },
            }
        };
        Self {
            status: status(first),
            fields,
            error,
        }
    }
}

fn status(line: &[u8]) -> Result<Option<(u16, &[u8])>, HeaderError> {
    if !line.starts_with(b"NATS/1.0") {
        return Err(HeaderError::Version);
    }
    let text = trimmed(&line[8..]);
    if text.is_empty() {
        return Ok(None);
    }
    let end = text.iter().position(|byte| b" \t".contains(byte));
    let (code, description) = text.split_at(end.unwrap_or(text.len()));
    if code.len() != 3 || !code.iter().all(u8::is_ascii_digit) {
        return Err(HeaderError::Status);
    }
    let code = std::str::from_utf8(code).unwrap().parse().unwrap();
    Ok(Some((code, trimmed(description))))
}

fn without_cr(line: &[u8]) -> &[u8] {
    match line {
        [before @ .., b'\r'] => before,
        line => line,
    }
}

fn trimmed(text: &[u8]) -> &[u8] {
    let is_inside = |byte: &u8| *byte != b' ' && *byte != b'\t';
    match (
        text.iter().position(is_inside),
        text.iter().rposition(is_inside),
    ) {
        (Some(first), Some(last)) => &text[first..=last],
        _ => &[],
    }
}

/// Lookup by names that occur, and by ones that perhaps do not.
fn check_lookup(block: HeaderBlock<'_>, fields: &[(&[u8], &[u8])]) {
    let names = fields.iter().map(|(name, _)| *name).take(NAMES_MAX);
    for name in names.chain([&b"No-Such-Name"[..], b"Seq"]) {
        let Ok(text) = std::str::from_utf8(name) else {
            continue;
        };
        let values = fields.iter().filter(|(other, _)| *other == name);
        let values: Vec<&[u8]> = values.map(|(_, value)| *value).collect();
        assert_eq!(block.all(text).collect::<Vec<_>>(), values, "{text}");
        assert_eq!(block.first(text), values.first().copied(), "{text}");
        assert_eq!(block.last(text), values.last().copied(), "{text}");
    }
}

fn may_be_name(name: &[u8]) -> bool {
    let may_stand = |byte: &u8| byte.is_ascii_graphic() && *byte != b':';
    !name.is_empty() && name.iter().all(may_stand)
}

fn may_be_value(value: &[u8]) -> bool {
    !value.iter().any(|byte| b"\r\n\0".contains(byte)) && trimmed(value).len() == value.len()
}

/// Fields that can be written come back; the others are refused, and nothing is smuggled.
fn check_writing(fields: &[(&[u8], &[u8])]) {
    let mut headers = Headers::new();
    let mut kept = Vec::new();
    for (name, value) in fields {
        let Ok(text) = std::str::from_utf8(name) else {
            continue;
        };
        let appended = headers.append(text, value);
        let is_good = may_be_name(name) && may_be_value(value);
        assert_eq!(appended.is_ok(), is_good, "{text:?} {appended:?}");
        if is_good {
            kept.push((*name, *value));
        }
    }
    let raw = headers.to_block();
    let back: Result<Vec<_>, _> = HeaderBlock::new(&raw).iter().collect();
    assert_eq!(back, Ok(kept.clone()), "{}", raw.escape_ascii());
    let lines = headers.lines().as_bytes();
    assert_eq!(HeaderLines::new(lines), Ok(headers.lines()));
    assert_eq!(
        lines.iter().filter(|byte| **byte == b'\n').count(),
        kept.len()
    );
    assert_eq!(
        lines.iter().filter(|byte| **byte == b'\r').count(),
        kept.len()
    );
}

/// Whatever passes for encoded lines is nothing but `Name: value` lines.
fn check_lines(data: &[u8]) {
    let lines = data.strip_prefix(b"NATS/1.0\r\n").unwrap_or(data);
    let lines = lines
        .strip_suffix(b"\r\n\r\n")
        .map_or(lines, |_| &lines[..lines.len() - 2]);
    let taken: Result<HeaderLines<'_>, HeaderFieldError> = HeaderLines::new(lines);
    let mut is_good = lines.is_empty() || lines.ends_with(b"\r\n");
    let mut parts: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').collect();
    parts.pop();
    for line in parts {
        let field = line.strip_suffix(b"\r").and_then(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], line[colon + 1..].strip_prefix(b" ")?))
        });
        is_good &= field.is_some_and(|(name, value)| may_be_name(name) && may_be_value(value));
    }
    assert_eq!(taken.is_ok(), is_good, "{} {taken:?}", lines.escape_ascii());
}
