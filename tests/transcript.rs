//! Types the conversation at the top of `protocol-notes.md` into a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use support::{PATIENCE, RealServer, server};

/// Stands for bytes that differ from run to run.
const LEFT_OUT: char = '…';

#[test]
fn the_conversation_in_the_notes_is_what_a_real_server_says() {
    let Some(binary) = server("transcript", "2.15.1") else {
        return;
    };
    let server = RealServer::start(&binary, "");
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = BufReader::new(socket.try_clone().unwrap());

    let lines = conversation();
    assert!(lines.len() > 40, "the conversation is not found");
    for line in &lines {
        match line.split_at_checked(2) {
            Some(("C:", text)) => {
                let typed = format!("{}\r\n", text.trim_start());
                socket.write_all(typed.as_bytes()).unwrap();
            }
            Some(("S:", pattern)) => {
                let said = next_line(&mut heard, &mut socket);
                let pattern = pattern.trim_start();
                assert!(matches(pattern, &said), "{line}\nreally: {said:?}");
            }
            _ => panic!("neither typed nor said: {line}"),
        }
    }
    assert_eq!(next_line(&mut heard, &mut socket), "", "the server closes");
}

/// The lines of the first example in the notes, without the command.
fn conversation() -> Vec<&'static str> {
    let notes = include_str!("../protocol-notes.md");
    let example = notes.split("```text\n").nth(1).unwrap_or_default();
    let example = example.split("```").next().unwrap_or_default();
    let lines = example.lines();
    lines.filter(|line| !line.starts_with('$')).collect()
}

/// What the server says next, without CR LF; empty at the end. Its own PINGs are answered.
fn next_line(heard: &mut impl BufRead, socket: &mut TcpStream) -> String {
    loop {
        let mut line = String::new();
        heard.read_line(&mut line).unwrap();
        if line != "PING\r\n" {
            assert!(line.is_empty() || line.ends_with("\r\n"), "{line:?}");
            return line.trim_end_matches("\r\n").to_owned();
        }
        socket.write_all(b"PONG\r\n").unwrap();
    }
}

/// Whether `said` is `pattern` with something for what is left out.
fn matches(pattern: &str, said: &str) -> bool {
    let mut parts = pattern.split(LEFT_OUT);
    let Some(mut rest) = parts.next().and_then(|first| said.strip_prefix(first)) else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else {
            return false;
        };
        is_open = part.is_empty();
        rest = behind;
    }
    is_open || rest.is_empty()
}
