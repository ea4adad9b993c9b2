//! Naive second answers: writers of operations, and rules told once more from the protocol notes.

use natseq::wire::encode::EncodeError;
use natseq::wire::{ClientOp, HeaderBlock, ServerOp};

/// Writes what a server says in the form that servers write.
pub(crate) fn server_op(op: &ServerOp<'_>) -> Vec<u8> {
    match op {
        ServerOp::Info { json } => [b"INFO ", *json, b" \r\n"].concat(),
        ServerOp::Ping => b"PING\r\n".to_vec(),
        ServerOp::Pong => b"PONG\r\n".to_vec(),
        ServerOp::Ok => b"+OK\r\n".to_vec(),
        ServerOp::Err { text } => [b"-ERR '", *text, b"'\r\n"].concat(),
        ServerOp::Msg(message) => {
            let words = [Some(message.subject), Some(message.sid), message.reply];
            let words: Vec<&[u8]> = words.into_iter().flatten().collect();
            with_body(
                "MSG",
                &words,
                message.headers.map(HeaderBlock::raw),
                message.payload,
            )
        }
    }
}

/// Writes what a client says in the form that clients write.
pub(crate) fn client_op(op: &ClientOp<'_>) -> Vec<u8> {
    match op {
        ClientOp::Connect { json } => [b"CONNECT ", *json, b"\r\n"].concat(),
        ClientOp::Info { json } => [b"INFO ", *json, b"\r\n"].concat(),
        // A line feed belongs to the text only as the first byte of all.
        ClientOp::Err { text } if text.starts_with(b"\n") => [b"-ERR ", *text, b"\r\n"].concat(),
        ClientOp::Err { text } => [b"-ERR '", *text, b"'\r\n"].concat(),
        ClientOp::Ping => b"PING\r\n".to_vec(),
        ClientOp::Pong => b"PONG\r\n".to_vec(),
        ClientOp::Ok => b"+OK\r\n".to_vec(),
        ClientOp::Sub {
            subject,
            queue_group,
            sid,
        } => {
            let words = [Some(*subject), *queue_group, Some(*sid)];
            line("SUB", &words.into_iter().flatten().collect::<Vec<_>>())
        }
        ClientOp::Unsub { sid, max } => {
            let words = [Some(*sid), *max];
            line("UNSUB", &words.into_iter().flatten().collect::<Vec<_>>())
        }
        ClientOp::Pub(message) => {
            let words = [Some(message.subject), message.reply];
            let words: Vec<&[u8]> = words.into_iter().flatten().collect();
            {
                let block = message.headers.map(HeaderBlock::raw);
                let is_headed = block.is_some() || !message.header_digits.is_empty();
                let headers = is_headed.then(|| block.unwrap_or_default());
                with_body("PUB", &words, headers, message.payload)
            }
        }
    }
}

fn line(word: &str, arguments: &[&[u8]]) -> Vec<u8> {
    let mut line = word.as_bytes().to_vec();
    for argument in arguments {
        line.push(b' ');
        line.extend_from_slice(argument);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// `headers` is `None` for the operation without a header size.
fn with_body(word: &str, words: &[&[u8]], headers: Option<&[u8]>, payload: &[u8]) -> Vec<u8> {
    let total = (headers.map_or(0, <[u8]>::len) + payload.len()).to_string();
    let header = headers.map(|block| block.len().to_string());
    let mut arguments = words.to_vec();
    arguments.extend(header.as_ref().map(String::as_bytes));
    arguments.push(total.as_bytes());
    let word = [if headers.is_some() { "H" } else { "" }, word].concat();
    let mut frame = line(&word, &arguments);
    frame.extend_from_slice(headers.unwrap_or_default());
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b"\r\n");
    frame
}

/// Whether the bytes can be an argument: not empty, no blank, no line feed.
pub(crate) fn is_word(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !bytes.iter().any(|byte| b" \t\n".contains(byte))
}

/// Whether the bytes can be the first argument, whose first byte may be a line feed.
pub(crate) fn is_first_word(bytes: &[u8]) -> bool {
    bytes == b"\n" || is_word(bytes.strip_prefix(b"\n").unwrap_or(bytes))
}

/// Whether the bytes can be one JSON text: not empty, no line feed behind the first byte.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !bytes[1..].contains(&b'\n')
}

/// Reads a size as servers do: one to nine digits.
pub(crate) fn size(digits: &[u8]) -> Option<usize> {
    let is_size = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_size)?;
    text.parse().ok()
}

/// Holds the crate's writer of operations against the naive one. It may refuse only what holds an
/// odd byte in its control line, and then appends nothing.
pub(crate) fn check_writer(
    refusal: Option<EncodeError>,
    out: &[u8],
    promised: usize,
    line: &[u8],
    expected: &[u8],
) {
    if let Some(refusal) = refusal {
        let is_odd = line.iter().any(|byte| b"\r\n\0".contains(byte));
        assert!(
            is_odd && out.is_empty(),
            "{refusal}: {}",
            expected.escape_ascii()
        );
        return;
    }
    assert_eq!(out, expected, "{}", out.escape_ascii());
    assert_eq!(promised, out.len(), "{}", out.escape_ascii());
}
