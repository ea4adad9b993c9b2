//! The client over WebSocket: real servers, and a scripted one that lies.
#![cfg(feature = "websocket")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code: a surprise here fails the test"
)]

mod support;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use natseq::client::{
    Client, ConnectOptions, ErrorKind, Event, Events, Publication, Subscription, TlsOptions,
};
use natseq::session::{LinkError, RedialOptions};
use natseq::wire::{Headers, Message};
use sha1_smol::Sha1;
use support::certificates::Authority;
use support::proxy::{Proxy, Way};
use support::{Folder, PATIENCE, RealServer, ServerBinary, free_port, servers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A payload that becomes much smaller, and one that does not.
const LARGE: usize = 900_000;

#[tokio::test]
async fn messages_of_every_size_pass_with_and_without_compression() {
    for binary in servers("WebSocket") {
        let (server, address) = started(&binary, "no_tls: true");
        for (is_compressed, seed) in [(false, 1), (true, 2)] {
            let proxy = Proxy::start(address, seed);
            let url = format!("ws://{}", proxy.address());
            let options = ConnectOptions::new().websocket_compression(is_compressed);
            let client = options.connect(&url).await.unwrap();
            let mut sub = client.subscribe("w.>").unwrap();
            let before = [Way::ToServer, Way::ToClient].map(|way| proxy.bytes(way));
            for len in [0, 1, 124, 125, 126, 4_096, 65_535, 65_536, LARGE] {
                exchange(&client, &mut sub, &vec![b'x'; len], server.version()).await;
            }
            // Both ways the same messages passed, most of whose bytes say nothing.
            for (way, before) in [Way::ToServer, Way::ToClient].into_iter().zip(before) {
                let passed = proxy.bytes(way) - before;
                assert_eq!(
                    passed < 100_000,
                    is_compressed,
                    "{} {way:?}: {passed} bytes",
                    server.version()
                );
            }
            let mut noise = natseq::jitter::Jitter::new(seed);
            let noise: Vec<u8> = (0..LARGE)
                .map(|_| noise.next_u64().to_le_bytes()[0])
                .collect();
            exchange(&client, &mut sub, &noise, server.version()).await;
            client.close().await;
        }
    }
}

#[tokio::test]
async fn many_small_messages_keep_their_order_and_their_headers() {
    for binary in servers("WebSocket messages") {
        let (server, address) = started(&binary, "no_tls: true");
        let options = ConnectOptions::new().websocket_compression(true);
        let client = options.connect(&format!("ws://{address}")).await.unwrap();
        let mut sub = client.subscribe("n").unwrap();
        let mut headers = Headers::new();
        headers.append("Kind", "small").unwrap();
        for number in 0..20_000 {
            let text = number.to_string();
            let publication = Publication::new("n", text.as_str()).unwrap();
            client.send(publication.headers(&headers)).await.unwrap();
        }
        for number in 0..20_000 {
            let message = next(&mut sub).await;
            assert_eq!(message.payload(), number.to_string().as_bytes());
            assert_eq!(
                message.headers().unwrap().first("Kind"),
                Some(&b"small"[..])
            );
        }
        assert!(client.server_info().headers, "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn a_compressed_write_larger_than_max_payload_is_taken() {
    for binary in servers("WebSocket max_payload") {
        let (server, address) = started_with(&binary, "no_tls: true", "max_payload: 2048");
        let options = ConnectOptions::new().websocket_compression(true);
        let client = options.connect(&format!("ws://{address}")).await.unwrap();
        let mut events = client.events();
        let mut sub = client.subscribe("w.>").unwrap();
        let payload = vec![b'x'; 2_048];
        for _ in 0..100 {
            client.publish("w.a", payload.as_slice()).await.unwrap();
        }
        for _ in 0..100 {
            assert_eq!(
                next(&mut sub).await.payload(),
                payload,
                "{}",
                server.version()
            );
        }
        client.flush().await.unwrap();
        no_event(&mut events).await;
        client.close().await;
    }
}

#[tokio::test]
async fn after_a_restart_the_subscription_is_there_again() {
    for binary in servers("WebSocket reconnect") {
        let (mut server, address) = started(&binary, "no_tls: true");
        let options = ConnectOptions::new().redial(quick());
        let client = options.connect(&format!("ws://{address}")).await.unwrap();
        let mut events = client.events();
        let mut sub = client.subscribe("w.>").unwrap();
        exchange(&client, &mut sub, b"before", server.version()).await;
        server.restart();
        connected(&mut events).await;
        exchange(&client, &mut sub, b"after", server.version()).await;
        client.close().await;
    }
}

/// The handshake of wss comes before INFO, so nothing is to be upgraded after it.
#[tokio::test]
async fn wss_is_tls_from_the_first_byte_and_checks_the_certificate() {
    for binary in servers("wss") {
        let authority = Authority::new();
        let folder = Folder::new();
        let identity = authority.issue(&["localhost", "127.0.0.1"]);
        let (certificate, key) = identity.write(&folder.path, "server");
        let config = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
        let (server, address) = started(&binary, &config);
        let proxy = Proxy::start(address, 3);
        proxy.record();
        let url = format!("wss://me:hunter2@localhost:{}", proxy.address().port());
        let tls = TlsOptions::new()
            .native_roots(false)
            .root_certificates(&authority.pem);
        let options = ConnectOptions::new().redial(quick()).tls(tls);
        for is_compressed in [false, true] {
            let options = options.clone().websocket_compression(is_compressed);
            let client = options.connect(&url).await.unwrap();
            let mut sub = client.subscribe("w.>").unwrap();
            exchange(&client, &mut sub, &[b's'; 70_000], server.version()).await;
            client.close().await;
        }
        let stranger = TlsOptions::new()
            .native_roots(false)
            .root_certificates(Authority::new().pem);
        let error = options
            .clone()
            .tls(stranger)
            .connect(&url)
            .await
            .unwrap_err();
        assert!(told(&error).contains("no trusted authority"), "{error:?}");
        for connection in 0..3 {
            let passed = proxy.passed(connection).to_server;
            assert!(!contains(&passed, b"hunter2") && !contains(&passed, b"GET "));
        }

        // A plain ws connection offers no TLS, and a client that insists on it says nothing.
        let (plain, address) = started(&binary, "no_tls: true");
        let proxy = Proxy::start(address, 4);
        proxy.record();
        let url = format!("ws://me:hunter2@{}", proxy.address());
        let error = options.connect(&url).await.unwrap_err();
        assert!(
            told(&error).contains("does not offer it"),
            "{}: {error:?}",
            plain.version()
        );
        assert!(!contains(&proxy.passed(0).to_server, b"hunter2"));
    }
}

#[tokio::test]
async fn the_users_headers_reach_the_server_and_never_debug_output() {
    let listener = listen().await;
    let options = ConnectOptions::new()
        .websocket_header("Authorization", "Bearer s3cret")
        .unwrap()
        .websocket_header("X-Tenant", "blue")
        .unwrap();
    assert!(!format!("{options:?}").contains("s3cret"));
    let url = format!("ws://{}/edge/nats", listener.local_addr().unwrap());
    let (client, mut peer) = tokio::join!(options.connect(&url), Peer::accept(&listener, false));
    for expected in [
        "GET /edge/nats HTTP/1.1\r\n",
        "\r\nAuthorization: Bearer s3cret\r\n",
        "\r\nX-Tenant: blue\r\n",
    ] {
        assert!(peer.request.contains(expected), "{}", peer.request);
    }
    assert!(!peer.request.contains("Extensions"), "{}", peer.request);
    let client = client.unwrap();
    client.publish("up", "x").await.unwrap();
    assert_eq!(peer.hear(13).await, b"PUB up 1\r\nx\r\n");
}

#[tokio::test]
async fn headers_are_asked_for_at_each_attempt() {
    let listener = listen().await;
    let asked = AtomicUsize::new(0);
    let options = ConnectOptions::new()
        .redial(quick())
        .websocket_headers_with(move |server| {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                if number == 1 {
                    return Err("no token today".into());
                }
                let name = if number == 2 { "A B" } else { "Authorization" };
                let value = format!("{number} for {}", server.host());
                Ok(vec![(name.to_owned(), value.into())])
            }
        });
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (client, peer) = tokio::join!(options.connect(&url), Peer::accept(&listener, false));
    let client = client.unwrap();
    let mut events = client.events();
    let expected = "\r\nAuthorization: 0 for 127.0.0.1\r\n";
    assert!(peer.request.contains(expected), "{}", peer.request);
    drop(peer);
    let peer = Peer::accept(&listener, false).await;
    let expected = "\r\nAuthorization: 3 for 127.0.0.1\r\n";
    assert!(peer.request.contains(expected), "{}", peer.request);
    let mut failed = Vec::new();
    while failed.len() < 2 {
        let event = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        if let Event::DialFailed { reason, .. } = event {
            failed.push(reason.to_string());
        }
    }
    let expected = [
        "WebSocket: no token today",
        "WebSocket: header `A B` cannot stand in a request",
    ];
    assert_eq!(failed, expected);
}

#[test]
fn a_header_that_cannot_stand_in_a_request_is_refused() {
    for (name, value) in [
        ("", "x"),
        ("A B", "x"),
        ("A:", "x"),
        ("A", "x\r\nB: y"),
        ("A", "x\ny"),
        ("A\r\n", "x"),
        ("host", "elsewhere"),
        ("Sec-WebSocket-Key", "x"),
    ] {
        let error = ConnectOptions::new()
            .websocket_header(name, value)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Header, "{name:?} {value:?}");
    }
}

#[tokio::test]
async fn control_frames_between_data_frames_and_single_bytes_change_nothing() {
    let listener = listen().await;
    let (client, mut peer) = scripted(&listener, ConnectOptions::new()).await;
    let mut sub = client.subscribe("a").unwrap();
    assert_eq!(peer.hear(9).await, b"SUB a 1\r\n");
    let frames = [
        frame(0x02, b"MSG a 1 1"),
        frame(0x89, b"are you there"),
        frame(0x00, b"1\r\nhel"),
        frame(0x8a, b"unasked"),
        frame(0x00, b""),
        frame(0x00, b"lo"),
        frame(0x80, b" world\r\nMSG a 1 2\r\nxy\r\n"),
    ]
    .concat();
    for bytewise in [false, true] {
        if bytewise {
            for byte in &frames {
                peer.say(&[*byte]).await;
                tokio::task::yield_now().await;
            }
        } else {
            peer.say(&frames).await;
        }
        assert_eq!(next(&mut sub).await.payload(), b"hello world");
        assert_eq!(next(&mut sub).await.payload(), b"xy");
        assert_eq!(peer.pong().await, b"are you there");
    }
    client.publish("up", "x").await.unwrap();
    assert_eq!(peer.hear(13).await, b"PUB up 1\r\nx\r\n");
}

#[tokio::test]
async fn a_close_is_answered_and_its_reason_told() {
    for (payload, expected) in [
        (&b""[..], LinkError::Closed),
        (b"\x03\xe8", LinkError::Closed),
        (
            b"\x03\xf1too large",
            LinkError::Io {
                kind: std::io::ErrorKind::ConnectionAborted,
                text: "server closed the WebSocket with code 1009: `too large`".to_owned(),
            },
        ),
    ] {
        let listener = listen().await;
        let (client, mut peer) = scripted(&listener, ConnectOptions::new()).await;
        let mut events = client.events();
        peer.say(&frame(0x88, payload)).await;
        assert_eq!(disconnected(&mut events).await, expected);
        assert_eq!(peer.frame().await.0, 8);
    }
}

#[tokio::test]
async fn a_frame_that_no_server_may_send_ends_the_connection_with_a_reason() {
    for (bytes, expected) in [
        (
            vec![0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0],
            "frame length 18374686479671623680 exceeds",
        ),
        (vec![0x82, 0x81, 1, 2, 3, 4, 5], "masked frame"),
        (frame(0x81, b"PING\r\n"), "text message"),
        (frame(0x80, b"PING\r\n"), "continues no message"),
        (
            [frame(0x02, b"P"), frame(0x82, b"ING\r\n")].concat(),
            "continues no message",
        ),
        (frame(0xc2, b"PING\r\n"), "not agreed on"),
        (frame(0xa2, b"PING\r\n"), "reserved bit"),
        (frame(0x85, b"PING\r\n"), "unknown kind 5"),
        (frame(0x09, b""), "control frame in pieces"),
        (frame(0x89, &[0; 126]), "control frame length 126 exceeds"),
    ] {
        let listener = listen().await;
        let (client, mut peer) = scripted(&listener, ConnectOptions::new()).await;
        let mut events = client.events();
        peer.say(&bytes).await;
        let reason = disconnected(&mut events).await.to_string();
        assert!(
            reason.contains(expected),
            "{reason}: {}",
            bytes.escape_ascii()
        );
    }
}

#[tokio::test]
async fn a_frame_that_declares_much_and_brings_little_takes_no_memory() {
    let listener = listen().await;
    let (client, mut peer) = scripted(&listener, ConnectOptions::new()).await;
    let mut sub = client.subscribe("a").unwrap();
    assert_eq!(peer.hear(9).await, b"SUB a 1\r\n");
    let before = memory("VmRSS");
    // 512 GiB, of which some bytes come.
    peer.say(&[0x82, 127, 0, 0, 0, 0x80, 0, 0, 0, 0]).await;
    peer.say(b"MSG a 1 2\r\nhi\r\n").await;
    assert_eq!(next(&mut sub).await.payload(), b"hi");
    let grown = memory("VmRSS").saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes");
}

#[tokio::test]
async fn a_compression_bomb_is_given_up_long_before_it_fills_the_memory() {
    // One MiB of zeros that needs nothing before it, a thousand times.
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 1 << 20]).unwrap();
    encoder.flush().unwrap();
    let piece = encoder.get_ref().clone();
    assert!(piece.len() < 2_048, "{}", piece.len());
    let bomb = piece.repeat(1_024);

    let listener = listen().await;
    let options = ConnectOptions::new().websocket_compression(true);
    let (client, mut peer) = scripted(&listener, options).await;
    let mut events = client.events();
    let before = memory("VmRSS");
    peer.say(&frame(0xc2, &bomb)).await;
    let reason = disconnected(&mut events).await;
    assert!(matches!(reason, LinkError::Frame(_)), "{reason:?}");
    let grown = memory("VmHWM").saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes");

    // What the same ratio may hold in earnest: lines that mean nothing are read and dropped.
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let words = b"+OK\r\n".repeat(1 << 20);
    encoder.write_all(&words).unwrap();
    encoder.flush().unwrap();
    let (mut peer, ()) = tokio::join!(Peer::accept(&listener, true), connected(&mut events));
    let mut sub = client.subscribe("a").unwrap();
    assert_eq!(peer.hear(9).await, b"SUB a 1\r\n");
    peer.say(&frame(0xc2, encoder.get_ref())).await;
    peer.say(&frame(0x82, b"MSG a 1 2\r\nhi\r\n")).await;
    assert_eq!(next(&mut sub).await.payload(), b"hi");
    let grown = memory("VmHWM").saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes");
}

#[tokio::test]
async fn a_server_that_refuses_the_request_is_told_in_its_words() {
    for (answer, expected) in [
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n",
            "server answered `403 Forbidden`, expected 101",
        ),
        ("INFO {}\r\n", "answer is not HTTP"),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "answer does not upgrade the connection",
        ),
    ] {
        let listener = listen().await;
        let url = format!("ws://me:hunter2@{}", listener.local_addr().unwrap());
        let connecting = ConnectOptions::new().connect(&url);
        let refusing = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            assert!(!request.contains("hunter2"), "{request}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        };
        let (result, _stream) = tokio::join!(connecting, refusing);
        let error = result.unwrap_err();
        assert!(told(&error).contains(expected), "{error:?}");
    }
    // An answer without an end is given up at its bound.
    let listener = listen().await;
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let connecting = ConnectOptions::new().connect(&url);
    let refusing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let long = format!("HTTP/1.1 101 OK\r\nX: {}", "y".repeat(40_000));
        let _ = stream.write_all(long.as_bytes()).await;
        stream
    };
    let (result, _stream) = tokio::join!(connecting, refusing);
    let error = result.unwrap_err();
    assert!(told(&error).contains("exceeds 16384 bytes"), "{error:?}");
}

/// Growth of the whole test process, in which other tests run meanwhile.
const BOUND: u64 = 96 << 20;

/// A server that listens for `ws` and `wss` with this configuration, and where.
fn started(binary: &ServerBinary, websocket: &str) -> (RealServer, SocketAddr) {
    started_with(binary, websocket, "")
}

fn started_with(binary: &ServerBinary, websocket: &str, more: &str) -> (RealServer, SocketAddr) {
    let port = free_port();
    let config = format!(
        "websocket {{ listen: \"127.0.0.1:{port}\", compression: true, {websocket} }}\n{more}"
    );
    let server = RealServer::start(binary, &config);
    (server, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

async fn exchange(client: &Client, sub: &mut Subscription, payload: &[u8], context: &str) {
    client.publish("w.a", payload).await.unwrap();
    let message = next(sub).await;
    assert!(
        message.payload() == payload,
        "{context}: {} bytes",
        payload.len()
    );
}

async fn next(sub: &mut Subscription) -> Message {
    timeout(PATIENCE, sub.next()).await.unwrap().unwrap()
}

async fn event(events: &mut Events) -> Event {
    timeout(PATIENCE, events.next()).await.unwrap().unwrap()
}

async fn connected(events: &mut Events) {
    while !matches!(event(events).await, Event::Connected { .. }) {}
}

async fn disconnected(events: &mut Events) -> LinkError {
    loop {
        if let Event::Disconnected { reason, .. } = event(events).await {
            return reason;
        }
    }
}

async fn no_event(events: &mut Events) {
    let event = timeout(Duration::ZERO, events.next()).await;
    assert!(event.is_err(), "{event:?}");
}

fn quick() -> RedialOptions {
    RedialOptions {
        pause_min: Duration::from_millis(1),
        pause_max: Duration::from_millis(20),
        ..RedialOptions::default()
    }
}

fn told(error: &natseq::Error) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|found| found == word)
}

/// A figure of this process, in bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let figure: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    figure << 10
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
    }
    String::from_utf8(request).unwrap()
}

/// A client, and the scripted server that it is connected to.
async fn scripted(listener: &TcpListener, options: ConnectOptions) -> (Client, Peer) {
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let options = options.ping_interval(PATIENCE * 2).redial(quick());
    let is_compressed = format!("{options:?}").contains("is_compressed: true");
    let (client, peer) = tokio::join!(options.connect(&url), Peer::accept(listener, is_compressed));
    (client.unwrap(), peer)
}

/// The server's end of a WebSocket.
struct Peer {
    stream: TcpStream,
    request: String,
    heard: Vec<u8>,
}

impl Peer {
    /// Takes the next connection through both handshakes.
    async fn accept(listener: &TcpListener, is_compressed: bool) -> Self {
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        let request = read_request(&mut stream).await;
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let key = [key.unwrap(), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
        let accept = data_encoding::BASE64.encode(&Sha1::from(key).digest().bytes());
        let extension = if is_compressed {
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
        } else {
            ""
        };
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{extension}\r\n"
        )
        .into_bytes();
        // The first frame may follow in the same segment.
        answer.extend(frame(
            0x82,
            b"INFO {\"headers\":true,\"max_payload\":1048576,\"proto\":1}\r\n",
        ));
        stream.write_all(&answer).await.unwrap();
        let mut peer = Self {
            stream,
            request,
            heard: Vec::new(),
        };
        while !peer.heard.ends_with(b"PING\r\n") {
            peer.hear_frame().await;
        }
        peer.heard.clear();
        peer.say(&frame(0x82, b"PONG\r\n")).await;
        peer
    }

    async fn say(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    /// The next `len` bytes that the client says, in however many frames.
    async fn hear(&mut self, len: usize) -> Vec<u8> {
        while self.heard.len() < len {
            self.hear_frame().await;
        }
        self.heard.drain(..len).collect()
    }

    async fn hear_frame(&mut self) {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, 2);
        self.heard.extend(payload);
    }

    async fn pong(&mut self) -> Vec<u8> {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, 10);
        payload
    }

    /// The next frame, unmasked.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        timeout(PATIENCE, async {
            let first = self.stream.read_u8().await.unwrap();
            let second = self.stream.read_u8().await.unwrap();
            assert!(
                first & 0xb0 == 0x80 && second & 0x80 == 0x80,
                "{first:x} {second:x}"
            );
            let len = match second & 0x7f {
                126 => usize::from(self.stream.read_u16().await.unwrap()),
                127 => usize::try_from(self.stream.read_u64().await.unwrap()).unwrap(),
                len => usize::from(len),
            };
            let mut mask = [0; 4];
            self.stream.read_exact(&mut mask).await.unwrap();
            let mut payload = vec![0; len];
            self.stream.read_exact(&mut payload).await.unwrap();
            for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= key;
            }
            if first & 0x40 != 0 {
                let mut decoder = flate2::write::DeflateDecoder::new(Vec::new());
                decoder.write_all(&payload).unwrap();
                decoder.write_all(&[0, 0, 0xff, 0xff]).unwrap();
                decoder.flush().unwrap();
                payload = decoder.get_ref().clone();
            }
            (first & 0x0f, payload)
        })
        .await
        .unwrap()
    }
}

/// A server's frame; `first` holds the bits and the kind.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(u8::try_from(len).unwrap()),
        len @ 126..=65_535 => {
            bytes.push(126);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}
