//! The cheapest peer that speaks the protocol: delivers prepared bursts, swallows what is published.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Messages that are sent before the receiver must have taken earlier ones.
pub(crate) const BURST: u64 = 4_096;

/// Bursts that may be on their way.
const WINDOW: u64 = 4;

const READ_BYTES: usize = 1 << 20;

/// Serves until it is killed. Arguments: payload bytes, messages for each subscriber.
pub(crate) fn serve() {
    let mut arguments = std::env::args()
        .skip(2)
        .map(|text| text.parse::<u64>().expect("a number"));
    let bytes = arguments.next().expect("payload bytes") as usize;
    let messages = arguments.next().expect("messages");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    println!("{}", listener.local_addr().expect("its address").port());
    for stream in listener.incoming() {
        let stream = stream.expect("a connection");
        std::thread::spawn(move || {
            // The client leaves when it has seen enough.
            let _ = converse(stream, bytes, messages);
        });
    }
}

fn converse(mut stream: TcpStream, bytes: usize, messages: u64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"INFO {\"headers\":true,\"max_payload\":1048576,\"proto\":1} \r\n")?;
    let mut message = format!("MSG bench 1 {bytes}\r\n").into_bytes();
    message.extend(std::iter::repeat_n(b'x', bytes));
    message.extend_from_slice(b"\r\n");
    let burst = message.repeat(BURST as usize);
    let mut buffer = vec![0; READ_BYTES];
    let mut acknowledged = 0;
    let mut sent = 0;
    let mut is_subscribed = false;
    loop {
        let count = stream.read(&mut buffer)?;
        let read = &buffer[..count];
        if count == 0 {
            return Ok(());
        }
        if read.ends_with(b"PING\r\n") {
            stream.write_all(b"PONG\r\n")?;
        }
        if !is_subscribed && memchr::memmem::find(read, b"SUB bench ").is_some() {
            is_subscribed = true;
        }
        if !is_subscribed {
            continue;
        }
        acknowledged += memchr::memmem::find_iter(read, b"PUB ack 0").count() as u64;
        while sent < messages && sent / BURST < acknowledged + WINDOW {
            let left = (messages - sent).min(BURST);
            stream.write_all(&burst[..message.len() * left as usize])?;
            sent += left;
        }
    }
}
