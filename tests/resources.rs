//! Memory and time against a hostile peer: nobody makes us hold what they merely declare, or look at a byte twice.
//!
//! Memory is the resident set's high-water mark above what was resident before, after a warm-up with a small part of the
//! same, in a process for each scenario. Time is this thread's processor time for some input and for twice as much of it.
//! `cargo test --test resources -- --nocapture` shows the table.
#![cfg(all(feature = "client", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a test may panic, and this one shows a table"
)]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use natseq::client::{ConnectOptions, Event};
use natseq::session::LinkError;
use natseq::wire::handshake::INFO_VALUES_MAX;
use natseq::wire::{FrameError, Limits, Parser, Step};
use tokio::time::timeout;

/// What each scenario may take: 1 MiB, and what the kernel's own counting is unsure of is within it.
const RISE_KIB_MAX: u64 = 1_024;

/// Twice the input takes twice the time; four times would be quadratic.
const RATIO_MAX: f64 = 3.0;

/// Measurements of which the shortest counts.
const REPETITIONS: usize = 5;

/// How soon a silent server is given up, twice.
const PING_INTERVAL: Duration = Duration::from_millis(400);

/// Everything here takes less, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

const LINE_BYTES_MAX: usize = Limits::SERVER_OPS.line_bytes_max;
const PAYLOAD_BYTES_MAX: usize = Limits::SERVER_OPS.payload_bytes_max;

#[test]
fn a_hostile_peer_takes_neither_memory_nor_quadratic_time() {
    if let Ok(name) = env::var(SCENARIO) {
        let scenarios = scenarios();
        let scenario = scenarios.iter().find(|scenario| scenario.name == name);
        return scenario.unwrap().measure();
    }
    println!("\n{:<58} {:>8}  how it ends", "scenario", "rise KiB");
    for scenario in scenarios() {
        let (row, rise) = scenario.in_a_process_of_its_own();
        println!("{row}");
        assert!(rise <= RISE_KIB_MAX, "{}: {rise} KiB", scenario.name);
    }
    println!(
        "\n{:<58} {:>8}",
        "one byte a call, twice as many of them", "times"
    );
    parsing_is_linear();
}

fn scenarios() -> Vec<Scenario> {
    let mut scenarios = declared_sizes();
    scenarios.extend(endless_lines());
    scenarios.extend(one_byte_reads());
    scenarios.extend(floods());
    scenarios.extend(large_infos());
    scenarios
}

/// A size is believed only as far as bytes arrive.
fn declared_sizes() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for size in [60_000_000, 999_999_999] {
        for word in ["MSG a 1", "HMSG a 1 12"] {
            let name = format!("{word} {size}, then 1 KiB and silence");
            scenarios.push(Scenario::new(name, move || {
                let bytes = [format!("{word} {size}\r\n").into_bytes(), vec![b'x'; 1_024]].concat();
                let reason = if size <= PAYLOAD_BYTES_MAX {
                    // It waits for the bytes; a server that sends none is given up as any silent one.
                    LinkError::Stale
                } else {
                    LinkError::Frame(FrameError::PayloadTooLong {
                        found: size,
                        max: PAYLOAD_BYTES_MAX,
                    })
                };
                Box::new(move |_| ends_with(&reason, PING_INTERVAL, &repeated(&bytes, b"", 0)))
            }));
        }
    }
    scenarios
}

fn endless_lines() -> Vec<Scenario> {
    let lines = [
        ("MSG ", b'x'),
        ("HMSG ", b' '),
        ("INFO ", b'x'),
        ("INFO {\"server_id\":\"", b'x'),
        ("-ERR ", b'x'),
        ("PING", b'x'),
        ("+OK", b'\r'),
    ];
    lines
        .into_iter()
        .map(|(word, filling)| {
            let shown = char::from(filling).escape_debug();
            Scenario::new(format!("`{word}` and 64 MiB of `{shown}`"), move || {
                let chunk = vec![filling; 64 << 10];
                Box::new(move |scale| {
                    let script = repeated(word.as_bytes(), &chunk, 1_024 * scale / FULL);
                    ends_with(&line_too_long(), PATIENCE, &script)
                })
            })
        })
        .collect()
}

fn one_byte_reads() -> Vec<Scenario> {
    let parser = Scenario::new("10,000,000 reads of one byte, parser alone", || {
        let stream = mixed_stream();
        let rounds = 10_000_000 / stream.len() + 1;
        Box::new(move |scale| {
            let rounds = rounds * scale / FULL + 1;
            let count = || fed_bytewise(&stream, Limits::SERVER_OPS);
            let frames: usize = (0..rounds).map(|_| count()).sum();
            format!("{frames} frames")
        })
    });
    let client = Scenario::new("200,000 writes of one byte, client", || {
        let stream = mixed_stream();
        Box::new(move |scale| {
            let count = 200_000 * scale / FULL;
            // The last frame is complete, so that another can follow.
            let rounds = count.div_ceil(stream.len());
            goes_on(&|peer: &mut TcpStream| {
                for byte in (0..rounds).flat_map(|_| &stream) {
                    peer.write_all(&[*byte]).unwrap();
                }
            })
        })
    });
    vec![parser, client]
}

fn floods() -> Vec<Scenario> {
    let floods: [(&str, &[u8]); 6] = [
        (
            "1,000,000 INFO",
            b"INFO {\"server_id\":\"NDHX\",\"headers\":true,\"max_payload\":1048576} \r\n",
        ),
        ("1,000,000 broken INFO", b"INFO {\"a\":[}\r\n"),
        ("1,000,000 +OK", b"+OK\r\n"),
        (
            "1,000,000 messages for nobody",
            b"MSG a.b 77 12\r\nMSG a.b 77 1\r\n",
        ),
        ("1,000,000 PING, and the PONGs not read", b"PING\r\n"),
        (
            "1,000,000 -ERR, and the events not read",
            b"-ERR 'Invalid Subject'\r\n",
        ),
    ];
    let mut scenarios: Vec<_> = floods
        .into_iter()
        .map(|(name, line)| {
            Scenario::new(name, move || {
                let chunk = line.repeat(100);
                Box::new(move |scale| goes_on(&repeated(b"", &chunk, 10_000 * scale / FULL)))
            })
        })
        .collect();
    scenarios.push(Scenario::new(
        "2,000 -ERR of 60,000 bytes, not read",
        || {
            let line = ["-ERR '", &"x".repeat(60_000), "'\r\n"]
                .concat()
                .into_bytes();
            Box::new(move |scale| goes_on(&repeated(b"", &line, 2_000 * scale / FULL)))
        },
    ));
    // Each of them waits in another read buffer, and must not keep it.
    scenarios.push(Scenario::new(
        "400 small messages, not read, among 100 MB for nobody",
        || {
            let mut chunk = b"MSG x 77 9978\r\n".to_vec();
            chunk.resize(chunk.len() + 9_978, b'x');
            chunk.extend_from_slice(b"\r\n");
            let mut chunk = chunk.repeat(25);
            chunk.extend_from_slice(b"MSG b 2 5\r\nhello\r\n");
            Box::new(move |scale| goes_on(&repeated(b"", &chunk, 400 * scale / FULL)))
        },
    ));
    scenarios
}

fn large_infos() -> Vec<Scenario> {
    let flood = Scenario::new("200,000 connect_urls in one INFO", || {
        let info = listing("connect_urls", "\"10.20.30.40:4222\"", 200_000);
        Box::new(move |_| ends_with(&line_too_long(), PATIENCE, &repeated(&info, b"", 0)))
    });
    let fitting = [
        ("connect_urls", "\"\""),
        ("unknown", "0"),
        ("unknown", "{}"),
    ];
    let fitting = fitting.into_iter().flat_map(|(field, element)| {
        // As many as the bytes allow, and as many as are read.
        let count = (LINE_BYTES_MAX - 40) / (element.len() + 1);
        [(field, element, count), (field, element, INFO_VALUES_MAX)]
    });
    let fitting = fitting.map(|(field, element, count)| {
        let name = format!("one INFO with {count} `{element}` in {field}");
        Scenario::new(name, move || {
            let small = listing(field, element, count / FULL);
            let whole = listing(field, element, count);
            Box::new(move |scale| {
                let info = if scale == FULL { &whole } else { &small };
                goes_on(&repeated(info, b"", 0))
            })
        })
    });
    [flood].into_iter().chain(fitting).collect()
}

/// An INFO with so many elements in a field.
fn listing(field: &str, element: &str, count: usize) -> Vec<u8> {
    let mut info = format!("INFO {{\"{field}\":[{element}").into_bytes();
    for _ in 1..count {
        info.push(b',');
        info.extend_from_slice(element.as_bytes());
    }
    info.extend_from_slice(b"]}\r\n");
    info
}

const fn line_too_long() -> LinkError {
    LinkError::Frame(FrameError::LineTooLong {
        max: LINE_BYTES_MAX,
    })
}

/// Feeds each kind of frame one byte a call, and twice as many bytes.
fn parsing_is_linear() {
    let limits = Limits::SERVER_OPS
        .with_line_bytes_max(1 << 30)
        .with_payload_bytes_max(1 << 30);
    type Make = fn(usize) -> Vec<u8>;
    let kinds: [(&str, Make); 7] = [
        ("one long line", |len| {
            ["INFO ", &"x".repeat(len)].concat().into_bytes()
        }),
        ("one line of blanks", |len| {
            ["MSG", &" ".repeat(len)].concat().into_bytes()
        }),
        ("one line of CR", |len| {
            ["-ERR ", &"\r".repeat(len)].concat().into_bytes()
        }),
        ("junk behind PING", |len| {
            ["PING", &"x".repeat(len)].concat().into_bytes()
        }),
        ("one payload", |len| {
            format!("MSG a 1 {len}\r\n{}", "\n".repeat(len)).into_bytes()
        }),
        ("one header block", |len| {
            format!("HMSG a 1 {len} {len}\r\n{}", "\r\n".repeat(len / 2)).into_bytes()
        }),
        ("small frames", |len| {
            "MSG a 1 2\r\nhi\r\nPING\r\n".repeat(len / 21).into_bytes()
        }),
    ];
    for (name, make) in kinds {
        let once = make(400_000);
        let twice = make(800_000);
        let shortest = |stream: &[u8]| {
            let times = (0..REPETITIONS).map(|_| {
                let begun = cpu_nanoseconds();
                fed_bytewise(stream, limits);
                cpu_nanoseconds() - begun
            });
            times.min().unwrap()
        };
        let ratio = shortest(&twice) as f64 / shortest(&once) as f64;
        println!("{name:<58} {ratio:>8.2}");
        assert!(
            ratio < RATIO_MAX,
            "{name}: twice as much takes {ratio:.2} times as long"
        );
    }
}

/// Lets a parser look again after each byte; returns how many frames it found.
fn fed_bytewise(stream: &[u8], limits: Limits) -> usize {
    let mut parser = Parser::of_server(limits);
    let mut frames = 0;
    let mut start = 0;
    for end in 1..=stream.len() {
        while let Step::Frame(frame) = parser.next(&stream[start..end]).unwrap() {
            start += frame.len();
            frames += 1;
            if start == end {
                break;
            }
        }
    }
    frames
}

/// Frames of every kind, some of them long.
fn mixed_stream() -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..200 {
        stream.extend_from_slice(b"MSG x 77 5\r\nhello\r\nPING\r\n+OK\r\n");
        stream.extend_from_slice(b"HMSG x 77 r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n");
    }
    stream.extend_from_slice(b"MSG x 77 50000\r\n");
    stream.resize(stream.len() + 50_000, b'\n');
    stream.extend_from_slice(
        format!("\r\nINFO {{\"cluster\":\"{}\"}}\r\n", "c".repeat(60_000)).as_bytes(),
    );
    stream.extend_from_slice(format!("MSG {} 77 0\r\n\r\n", "s".repeat(40_000)).as_bytes());
    stream
}

/// Something that a hostile peer does, measured in a process of its own: what one scenario has freed, the next would
/// use again unseen.
struct Scenario {
    name: String,
    prepare: Box<dyn Fn() -> Run>,
}

/// Runs so many hundredths of a scenario, and says how it ended.
type Run = Box<dyn Fn(usize) -> String>;

/// The whole of a scenario.
const FULL: usize = 100;

/// Names the scenario that a process is for.
const SCENARIO: &str = "NATSEQ_RESOURCES_SCENARIO";

/// What the row of a measured scenario begins with.
const ROW: &str = "measured: ";

impl Scenario {
    fn new(name: impl Into<String>, prepare: impl Fn() -> Run + 'static) -> Self {
        Self {
            name: name.into(),
            prepare: Box::new(prepare),
        }
    }

    /// The row of the table, and how many KiB the resident set rose.
    fn in_a_process_of_its_own(&self) -> (String, u64) {
        let output = Command::new(env::current_exe().unwrap())
            .arg("--nocapture")
            .env(SCENARIO, &self.name)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let row = text.lines().find_map(|line| line.split_once(ROW));
        let (rise, outcome) = row
            .and_then(|(_, row)| row.split_once(' '))
            .unwrap_or_else(|| panic!("{}: {text}{}", self.name, output.stderr.escape_ascii()));
        let row = format!("{:<58} {rise:>8}  {outcome}", self.name);
        (row, rise.parse().unwrap())
    }

    /// Runs it, first a hundredth of it so that code and runtime are there.
    fn measure(&self) {
        let run = (self.prepare)();
        run(1);
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status_kib("VmRSS:");
        let outcome = run(FULL);
        let rise = status_kib("VmHWM:").saturating_sub(before);
        println!("{ROW}{rise} {outcome}");
    }
}

fn status_kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Processor time of this thread.
fn cpu_nanoseconds() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// What the hostile server says after an honest greeting. It holds nothing itself: its bytes are there before.
type Script<'a> = &'a (dyn Fn(&mut TcpStream) + Sync);

fn repeated<'a>(
    first: &'a [u8],
    chunk: &'a [u8],
    count: usize,
) -> impl Fn(&mut TcpStream) + Sync + 'a {
    move |stream| {
        // A client that has hung up does not hear the rest.
        let mut result = stream.write_all(first);
        for _ in 0..count {
            result = result.and_then(|()| stream.write_all(chunk));
        }
    }
}

/// Ends when the client does, for `reason`, and comes back.
fn ends_with(reason: &LinkError, ping_interval: Duration, script: Script<'_>) -> String {
    converse(Some(reason), ping_interval, script);
    reason.to_string()
}

/// Goes on as if nothing had been said.
fn goes_on(script: Script<'_>) -> String {
    converse(None, PATIENCE, script);
    "goes on".to_owned()
}

fn converse(reason: Option<&LinkError>, ping_interval: Duration, script: Script<'_>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = greeted(&listener);
            heard(&mut stream, b"SUB a 1\r\nSUB b 2\r\n");
            script(&mut stream);
            if reason.is_some() {
                heard(&mut stream, b"");
                stream = greeted(&listener);
                // Behind what it restores the client asks whether all of it was taken.
                heard(&mut stream, b"SUB a 1\r\nSUB b 2\r\nPING\r\n");
                stream.write_all(b"PONG\r\n").unwrap();
            }
            stream.write_all(b"MSG a 1 4\r\ndone\r\n").unwrap();
            heard(&mut stream, b"done\r\n");
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _ending = Ending(&address);
        runtime.block_on(async {
            timeout(PATIENCE, listened(&address, reason, ping_interval))
                .await
                .expect("it does not stall");
        });
    });
}

/// Lets a server that still waits for a connection come to its end when the test fails.
struct Ending<'a>(&'a str);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            for _ in 0..2 {
                let _ = TcpStream::connect(self.0);
            }
        }
    }
}

/// The client's part: it hears `done` at the end, behind everything else, and says it.
async fn listened(address: &str, reason: Option<&LinkError>, ping_interval: Duration) {
    let options = ConnectOptions::new().ping_interval(ping_interval);
    let client = options.connect(address).await.unwrap();
    let mut events = client.events();
    let mut subscription = client.subscribe("a").unwrap();
    let _unread = client.subscribe("b").unwrap();
    if let Some(reason) = reason {
        let event = events.next().await.unwrap();
        let Event::Disconnected { reason: found, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(found, *reason);
    }
    let message = subscription.next().await.unwrap();
    assert_eq!(message.payload(), b"done");
    let connects = 1 + u64::from(reason.is_some());
    assert_eq!(client.statistics().connects, connects);
    client.publish("up", "done").await.unwrap();
    // The server hangs up once it has heard it.
    while client.is_connected() {
        tokio::task::yield_now().await;
    }
}

fn greeted(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .write_all(b"INFO {\"headers\":true,\"max_payload\":1048576} \r\n")
        .unwrap();
    heard(&mut stream, b"PING\r\n");
    stream.write_all(b"PONG\r\n").unwrap();
    stream
}

/// Reads until something ends with `end`, or with an empty one until the client hangs up; keeps nothing.
fn heard(stream: &mut TcpStream, end: &[u8]) {
    let mut buffer = [0; 4_096];
    let mut kept = 0;
    while let Ok(count) = stream.read(&mut buffer[kept..]) {
        if count == 0 {
            break;
        }
        let len = kept + count;
        if !end.is_empty() && buffer[..len].ends_with(end) {
            break;
        }
        kept = len.min(end.len());
        buffer.copy_within(len - kept..len, 0);
    }
}
