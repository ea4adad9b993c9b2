//! Naive second answers: writers of operations, and rules told once more from the protocol notes.

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
            with_body("MSG", "HMSG", &words, message.headers, message.payload)
        }
    }
}

/// Writes what a client says in the form that clients write.
pub(crate) fn client_op(op: &ClientOp<'_>) -> Vec<u8> {
    match op {
        ClientOp::Connect { json } => [b"CONNECT ", *json, b"\r\n"].concat(),
        ClientOp::Info { json } => [b"INFO ", *json, b"\r\n"].concat(),
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
            with_body("PUB", "HPUB", &words, message.headers, message.payload)
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

fn with_body(
    plain: &str,
    headed: &str,
    words: &[&[u8]],
    headers: Option<HeaderBlock<'_>>,
    payload: &[u8],
) -> Vec<u8> {
    let block = headers.map(HeaderBlock::raw);
    let total = (block.map_or(0, <[u8]>::len) + payload.len()).to_string();
    let mut arguments = words.to_vec();
    let header = block.map(|block| block.len().to_string());
    if let Some(header) = &header {
        arguments.push(header.as_bytes());
    }
    arguments.push(total.as_bytes());
    let mut frame = line(if block.is_some() { headed } else { plain }, &arguments);
    frame.extend_from_slice(block.unwrap_or_default());
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b"\r\n");
    frame
}

/// Whether the bytes can be one argument: not empty, no blank, no line feed.
pub(crate) fn is_word(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !bytes.iter().any(|byte| b" \t\n".contains(byte))
}

/// Reads a size as servers do: one to nine digits.
pub(crate) fn size(digits: &[u8]) -> Option<usize> {
    let is_size = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_size)?;
    text.parse().ok()
}
