//! Turns an HTTP connection into a WebSocket (RFC 6455, section 4).

use std::fmt::Write as _;

use bytes::{Buf, BytesMut};
use data_encoding::BASE64;
use sha1_smol::Sha1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::session::{LinkError, ServerAddr};

use super::super::dialer::BoxedTransport;
use super::deflate::Inflater;
use super::{WebSocket, WebSocketOptions, fault};

/// The longest answer to the request, without what follows it.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Headers of an answer.
const ANSWER_HEADERS_MAX: usize = 64;

/// What we offer: no message depends on an earlier one, in either direction.
const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What a request says besides host, path, key and the user's headers.
const OWN_BYTES_MAX: usize = 512;

/// Appended to the key before it is hashed (RFC 6455, section 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the server agreed to.
struct Agreed {
    inflater: Option<Inflater>,
}

/// Asks for a WebSocket on `stream` and checks the answer.
pub(in super::super) async fn open(
    mut stream: BoxedTransport,
    server: &ServerAddr,
    options: &WebSocketOptions,
) -> Result<BoxedTransport, LinkError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| fault(error.to_string()))?;
    let key = BASE64.encode(&nonce);
    stream
        .write_all(request(server, &key, options).as_bytes())
        .await?;
    stream.flush().await?;
    let mut bytes = BytesMut::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(LinkError::Closed);
        }
        if let Some((agreed, len)) = answer(&bytes, &key, options).map_err(fault)? {
            bytes.advance(len);
            return Ok(Box::new(WebSocket::new(stream, bytes, agreed.inflater)));
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            let text = format!("answer to the request exceeds {ANSWER_BYTES_MAX} bytes");
            return Err(fault(text).into());
        }
    }
}

/// The request, which may hold secrets: it is wiped, and made in one buffer, since one that grows
/// leaves its content behind.
fn request(server: &ServerAddr, key: &str, options: &WebSocketOptions) -> Zeroizing<String> {
    let host = server.host();
    let (open, close) = if host.contains(':') {
        ("[", "]")
    } else {
        ("", "")
    };
    let headers = options.headers.iter();
    let header_bytes = headers
        .map(|(name, value)| name.len().saturating_add(value.expose().len()))
        .fold(0_usize, |sum, len| {
            sum.saturating_add(len).saturating_add(": \r\n".len())
        });
    let bytes = [server.path().len(), host.len(), key.len(), header_bytes];
    let bytes_max = bytes.into_iter().fold(OWN_BYTES_MAX, usize::saturating_add);
    let mut text = Zeroizing::new(String::with_capacity(bytes_max));
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "GET {} HTTP/1.1\r\nHost: {open}{host}{close}:{}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
        server.path(),
        server.port(),
    );
    if options.is_compressed {
        let _ = write!(text, "Sec-WebSocket-Extensions: {OFFER}\r\n");
    }
    for (name, value) in &options.headers {
        let _ = write!(text, "{name}: {}\r\n", value.expose());
    }
    text.push_str("\r\n");
    debug_assert!(text.len() <= bytes_max, "it has grown");
    text
}

/// Reads the server's answer; `None` when it is not whole. Returns its length as well.
fn answer(
    bytes: &[u8],
    key: &str,
    options: &WebSocketOptions,
) -> Result<Option<(Agreed, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("answer is not HTTP: {error}")),
    };
    let code = response.code.unwrap_or_default();
    if code != SWITCHING_PROTOCOLS {
        let reason = response.reason.unwrap_or_default().escape_debug();
        return Err(format!(
            "server answered `{code} {reason}`, expected {SWITCHING_PROTOCOLS}"
        ));
    }
    let values = |name: &'static str| {
        response
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    };
    let has_word = |name: &'static str, word: &str| {
        values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    if !has_word("Upgrade", "websocket") || !has_word("Connection", "upgrade") {
        return Err("answer does not upgrade the connection".to_owned());
    }
    let accepted = BASE64.encode(&Sha1::from([key, KEY_SUFFIX].concat()).digest().bytes());
    let mut keys = values("Sec-WebSocket-Accept");
    if keys.next() != Some(accepted.as_bytes()) || keys.next().is_some() {
        return Err("answer is not for our request".to_owned());
    }
    if values("Sec-WebSocket-Protocol").next().is_some() {
        return Err("server chose a subprotocol that was not offered".to_owned());
    }
    let mut inflater = None;
    for extension in values("Sec-WebSocket-Extensions") {
        if !options.is_compressed || inflater.is_some() {
            return Err("server chose an extension that was not offered".to_owned());
        }
        inflater = Some(agreed(extension)?);
    }
    Ok(Some((Agreed { inflater }, len)))
}

const SWITCHING_PROTOCOLS: u16 = 101;

/// Reads the parameters under which the server compresses.
fn agreed(extension: &[u8]) -> Result<Inflater, String> {
    let told = || {
        let found = extension.escape_ascii().to_string();
        let found = found.get(..EXTENSION_TOLD_MAX).unwrap_or(&found);
        format!("server chose an extension that was not offered: `{found}`")
    };
    let mut parts = extension
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii);
    if parts.next() != Some(b"permessage-deflate") {
        return Err(told());
    }
    let mut forgets = false;
    for part in parts {
        match part {
            b"server_no_context_takeover" => forgets = true,
            // Each message of ours is deflated by itself in any case.
            b"client_no_context_takeover" => {}
            // Every window that a server may choose is within that of the inflater.
            part if part.starts_with(b"server_max_window_bits=") => {}
            _ => return Err(told()),
        }
    }
    Ok(Inflater::new(forgets))
}

const EXTENSION_TOLD_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    fn answered(text: &str, is_compressed: bool) -> Result<Option<bool>, String> {
        let options = WebSocketOptions {
            is_compressed,
            ..WebSocketOptions::default()
        };
        let found = answer(text.as_bytes(), KEY, &options)?;
        Ok(found.map(|(agreed, len)| {
            assert_eq!(len, text.len());
            agreed.inflater.is_some()
        }))
    }

    #[test]
    fn the_answer_of_the_standard_is_taken_whole_and_not_in_part() {
        let whole = format!("{ANSWER}\r\n");
        assert_eq!(answered(&whole, false), Ok(Some(false)));
        for cut in 0..whole.len() {
            assert_eq!(
                answered(whole.get(..cut).unwrap(), false),
                Ok(None),
                "{cut}"
            );
        }
    }

    #[test]
    fn compression_is_used_when_both_agree() {
        let compressed = |parameters: &str| {
            format!("{ANSWER}Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n\r\n")
        };
        for parameters in [
            "",
            "; server_no_context_takeover; client_no_context_takeover",
            ";server_max_window_bits=10",
        ] {
            assert_eq!(answered(&compressed(parameters), true), Ok(Some(true)));
        }
        assert_eq!(answered(&format!("{ANSWER}\r\n"), true), Ok(Some(false)));
        for (text, is_offered) in [
            (compressed(""), false),
            (compressed("; client_max_window_bits=9"), true),
            (compressed("").replace("deflate", "zip"), true),
        ] {
            let error = answered(&text, is_offered).unwrap_err();
            assert!(error.contains("not offered"), "{error}");
        }
    }

    #[test]
    fn an_answer_that_is_none_is_refused_and_says_why() {
        for (from, to, expected) in [
            (
                "101 Switching Protocols",
                "403 Forbidden",
                "server answered `403 Forbidden`, expected 101",
            ),
            (
                "keep-alive, Upgrade",
                "close",
                "answer does not upgrade the connection",
            ),
            (
                "Upgrade: websocket",
                "Upgrade: h2c",
                "answer does not upgrade the connection",
            ),
            ("s3pP", "AAAA", "answer is not for our request"),
            (
                "HTTP/1.1",
                "INFO {}",
                "answer is not HTTP: invalid HTTP version",
            ),
            (
                "Upgrade: websocket",
                "Upgrade: websocket\r\nSec-WebSocket-Protocol: mqtt",
                "server chose a subprotocol that was not offered",
            ),
        ] {
            let text = format!("{}\r\n", ANSWER.replace(from, to));
            assert_eq!(answered(&text, false), Err(expected.to_owned()));
        }
    }

    #[test]
    fn the_request_names_host_path_and_the_users_headers() {
        let options = WebSocketOptions {
            headers: vec![("X-Key".to_owned(), "one two".into())],
            is_compressed: true,
            ..WebSocketOptions::default()
        };
        let text = request(&"ws://[::1]:8080/a?b=c".parse().unwrap(), KEY, &options);
        let text = text.as_str();
        assert!(
            text.starts_with("GET /a?b=c HTTP/1.1\r\nHost: [::1]:8080\r\n"),
            "{text}"
        );
        assert!(text.ends_with("X-Key: one two\r\n\r\n"), "{text}");
        assert!(text.contains(OFFER), "{text}");
    }
}
