//! A list of operations against the session's state machine, with a model of an honest server.
//!
//! Input: a byte for options, a seed, and then operations of one byte with one or two more.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::session::{LinkError, ServerAddr, SessionOptions};
use natseq::wire::ServerOp;

use crate::conversation::{Conversation, Socket, Subscription};
use crate::input::Input;

const OPERATIONS_MAX: usize = 400;
const MILLI: Duration = Duration::from_millis(1);

const SERVERS: [&str; 4] = [
    "a",
    "a,b",
    "tls://a,nats://user:secret@b",
    "token@a:1,b:2,tls://c",
];

const INFOS: [&[u8]; 8] = [
    br#"{"headers":true,"max_payload":1048576}"#,
    br#"{"headers":false,"max_payload":100}"#,
    br#"{"headers":true,"tls_required":true}"#,
    br#"{"headers":true,"tls_available":true}"#,
    br#"{"ldm":true}"#,
    br#"{"connect_urls":["x:1","y:2"],"max_payload":-1}"#,
    b"{}",
    b"{",
];

const ERRORS: [&[u8]; 6] = [
    b"Authorization Violation",
    b"Stale Connection",
    b"Invalid Subject",
    b"Permissions Violation for Subscription to \"a\"",
    b"maximum connections exceeded",
    b"",
];

const FILTERS: [&str; 4] = ["a", "a.*", "b.>", "*.c"];

/// Plays the operations, with a socket that takes everything and with one that takes few.
pub fn run(data: &[u8]) {
    let whole = play_all(data, usize::MAX);
    let few = 1 + data.len() % 7;
    let cut = play_all(data, few);
    let (cut, whole) = (cut.escape_ascii(), whole.escape_ascii());
    assert!(
        cut.clone().eq(whole.clone()),
        "it depends on the socket:\n{cut}\n{whole}"
    );
}

/// Returns what was written and told.
fn play_all(data: &[u8], write_bytes_max: usize) -> Vec<u8> {
    let mut input = Input::new(data);
    let flags = input.byte();
    let mut options =
        SessionOptions::new(ServerAddr::parse_list(SERVERS[usize::from(flags & 3)]).unwrap());
    options.retries_first_connect = flags & 4 != 0;
    options.is_tls_required = flags & 8 != 0;
    options.redial.attempts_max = (flags & 16 != 0).then_some(5);
    let mut conversation = Conversation::new(options, u64::from(input.byte()), true);
    conversation.write_bytes_max = write_bytes_max;
    conversation.rest();
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        play(&mut conversation, &mut input);
        conversation.rest();
    }
    conversation.check_tables();
    conversation.rest();
    conversation.transcript
}

fn play(with: &mut Conversation, input: &mut Input<'_>) {
    let is_open = with.socket == Socket::Open;
    match input.byte() % 24 {
        0 => with.opened(),
        1 => with.lose(LinkError::Closed),
        2 => with.wait(MILLI * u32::from(input.byte()) * 40),
        3 => with.wait_until_due(Duration::from_secs(10)),
        4 if is_open => {
            with.say(&ServerOp::Info {
                json: INFOS[usize::from(input.byte()) % INFOS.len()],
            });
        }
        5 | 6 if is_open => with.answer(),
        7 if is_open => {
            with.say(&ServerOp::Ping);
        }
        8 if is_open => {
            let text = ERRORS[usize::from(input.byte()) % ERRORS.len()];
            with.say(&ServerOp::Err { text });
        }
        9 if is_open => {
            with.say(&ServerOp::Ok);
        }
        10 | 11 if is_open => {
            let sid = choose(&with.server.table, input);
            with.deliver(sid);
        }
        12 => with.write(usize::from(input.byte())),
        13 => with.write(usize::MAX),
        14 | 15 => {
            let choice = usize::from(input.byte());
            let group = (choice & 4 != 0).then_some("q");
            with.subscribe(FILTERS[choice % 4], group);
        }
        16 => {
            let sid = choose(&with.live, input);
            with.unsubscribe(sid);
        }
        17 => {
            let sid = choose(&with.live, input);
            let max = input.byte();
            let max = if max == 255 {
                5_000_000_000
            } else {
                u64::from(max % 8)
            };
            with.limit(sid, max);
        }
        18 => {
            let sid = choose(&with.live, input);
            with.drain(sid);
        }
        19 => {
            let sid = choose(&with.live, input);
            with.forget(sid);
        }
        20 => with.publish(input.byte() & 1 != 0),
        21 => with.flush(),
        22 => with.check_tables(),
        23 => match input.byte() {
            0..4 => with.close(),
            4..40 => with.drain_all(),
            // A whole handshake, so that short inputs get far.
            _ => greet(with),
        },
        _ => {}
    }
}

/// Opens the socket and completes the handshake, if the session goes along.
fn greet(with: &mut Conversation) {
    with.opened();
    with.rest();
    if with.socket == Socket::Open {
        with.say(&ServerOp::Info { json: INFOS[0] });
        with.rest();
        with.answer();
    }
}

/// One of the keys, or one that is none.
fn choose(table: &BTreeMap<u64, Subscription>, input: &mut Input<'_>) -> u64 {
    let index = usize::from(input.byte());
    let key = match table.len() {
        0 => None,
        len => table.keys().nth(index % len),
    };
    key.filter(|_| index < 255).copied().unwrap_or(index as u64)
}
