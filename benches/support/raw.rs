//! Raw blocking sockets that do the minimum: the bound for a whole client.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::null_server::BURST;
use super::support::thread_cpu;

const READ_BYTES: usize = 256 << 10;
const WRITE_BYTES: usize = 256 << 10;

fn connect(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    let mut buffer = [0; 4_096];
    let _ = stream.read(&mut buffer).expect("INFO");
    stream
        .write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")
        .expect("CONNECT");
    let _ = stream.read(&mut buffer).expect("PONG");
    stream
}

/// Cuts every message's fields and acknowledges each burst.
pub(crate) fn receive(port: u16, messages: u64) -> (u64, Duration) {
    let mut stream = connect(port);
    let begun = thread_cpu();
    stream.write_all(b"SUB bench 1\r\n").expect("SUB");
    let mut buffer = vec![0; 2 * READ_BYTES];
    let mut held = 0;
    let mut taken = 0_u64;
    while taken < messages {
        held += stream
            .read(&mut buffer[held..held + READ_BYTES])
            .expect("messages");
        let before = taken / BURST;
        let mut at = 0;
        while let Some(end) = memchr::memchr(b'\n', &buffer[at..held]) {
            let mut words = buffer[at..at + end - 1].split(|byte| *byte == b' ');
            black_box((words.next(), words.next(), words.next()));
            let size = words.next_back().unwrap_or_default();
            let size = size
                .iter()
                .fold(0, |size, digit| size * 10 + usize::from(digit - b'0'));
            let next = at + end + 1 + size + 2;
            if next > held {
                break;
            }
            black_box(&buffer[next - 2 - size..next - 2]);
            at = next;
            taken += 1;
        }
        buffer.copy_within(at..held, 0);
        held -= at;
        for _ in before..taken / BURST {
            stream.write_all(b"PUB ack 0\r\n\r\n").expect("ack");
        }
    }
    (messages, thread_cpu().saturating_sub(begun))
}

/// Encodes every message and writes in large gathers.
pub(crate) fn publish(port: u16, bytes: usize, messages: u64) -> (u64, Duration) {
    let mut stream = connect(port);
    let payload = vec![b'x'; bytes];
    let size = bytes.to_string();
    let begun = thread_cpu();
    let mut out = Vec::with_capacity(WRITE_BYTES + bytes + 64);
    for _ in 0..messages {
        let pieces: [&[u8]; 7] = [
            b"PUB ",
            black_box(&b"bench"[..]),
            b" ",
            size.as_bytes(),
            b"\r\n",
            &payload,
            b"\r\n",
        ];
        for piece in pieces {
            out.extend_from_slice(piece);
        }
        if out.len() >= WRITE_BYTES {
            stream.write_all(&out).expect("write");
            out.clear();
        }
    }
    out.extend_from_slice(b"PING\r\n");
    stream.write_all(&out).expect("write");
    let mut answer = [0; 64];
    let _ = stream.read(&mut answer).expect("PONG");
    (messages, thread_cpu().saturating_sub(begun))
}
