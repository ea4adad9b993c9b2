//! Tests of the session: dialogues with a server, told line by line.

use super::*;
use crate::session::auth::{Auth, KeyKind, KeyPair};
use crate::session::redial::SETTLED_TIME;
use crate::session::{OutboxLimits, WriteBatch};
use crate::subject::{Filter, QueueGroup, SubjectRef};
use crate::wire::encode::Publish;
use crate::wire::{Limits, Parser, Step as ParserStep};

const SECOND: Duration = Duration::from_secs(1);
/// Half of the overlap of a move.
const HALF_OVERLAP: Duration = Duration::from_millis(125);
const INFO: &[u8] = br#"{"headers":true,"max_payload":100}"#;

struct Dialogue {
    session: Session,
    outbox: Outbox,
    now: Duration,
    /// The link dialed last.
    link: u64,
}

impl Dialogue {
    fn new(servers: &str) -> Self {
        Self::with(servers, |_| {})
    }

    fn with(servers: &str, change: impl FnOnce(&mut SessionOptions)) -> Self {
        let mut options = SessionOptions::new(ServerAddr::parse_list(servers).unwrap());
        options.keeps_server_order = true;
        change(&mut options);
        let outbox = Outbox::new(OutboxLimits::default());
        Self {
            session: Session::new(options, 1, Duration::ZERO),
            outbox,
            now: Duration::ZERO,
            link: 0,
        }
    }

    /// A dialogue whose handshake is complete and told.
    fn connected(servers: &str) -> Self {
        let mut dialogue = Self::new(servers);
        dialogue.dial();
        dialogue.hear(ServerOp::Info { json: INFO });
        dialogue.hear(ServerOp::Pong);
        dialogue.actions();
        dialogue.told();
        dialogue
    }

    fn dial(&mut self) {
        assert!(self.actions().starts_with("dial "));
        self.open();
    }

    fn open(&mut self) {
        self.session
            .handle_connected(self.link, self.now, &mut self.outbox);
    }

    fn hear(&mut self, op: ServerOp<'_>) -> Heard {
        self.hear_on(self.link, op)
    }

    fn hear_on(&mut self, link: u64, op: ServerOp<'_>) -> Heard {
        self.session
            .handle_op(link, self.now, &op, &mut self.outbox)
    }

    fn lose(&mut self) {
        self.lose_link(self.link);
    }

    fn lose_link(&mut self, link: u64) {
        self.session
            .handle_disconnected(link, self.now, LinkError::Closed, &mut self.outbox);
    }

    /// Hands a message to the session; returns the payloads that it tells, at once or now.
    fn message(&mut self, link: u64, sid: u64, payload: &str) -> String {
        let told = self.session.handle_message(link, message(sid, payload));
        let mut payloads: Vec<String> = told.iter().map(payload_of).collect();
        payloads.extend(self.held());
        payloads.join(" ")
    }

    fn held(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.session.poll_message())
            .map(|message| payload_of(&message))
            .collect()
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.checked_add(time).unwrap();
        self.session.handle_timeout(self.now, &mut self.outbox);
    }

    /// Lets the overlap of a move pass; then the new server answers on link 2.
    fn overlap(&mut self) {
        self.wait(HALF_OVERLAP);
        self.wait(HALF_OVERLAP);
        assert_eq!(self.actions(), "");
        assert!(self.written().ends_with("PING\r\n"));
        self.hear_on(2, ServerOp::Pong);
    }

    fn publish(&mut self) {
        let subject = SubjectRef::new("a").unwrap();
        self.outbox
            .publish(&Publish::new(subject, b"x"), None)
            .unwrap();
    }

    fn written(&mut self) -> String {
        let mut batch = WriteBatch::default();
        if !self.outbox.take(&mut batch) {
            return String::new();
        }
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let filled = batch.fill(&mut slices);
        slices[..filled]
            .iter()
            .map(|slice| String::from_utf8_lossy(slice).into_owned())
            .collect()
    }

    fn actions(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(action) = self.session.poll_action(self.now, &mut self.outbox) {
            words.push(match action {
                Action::Dial { link, server } => {
                    self.link = link;
                    format!("dial {server}")
                }
                Action::StartTls { .. } => "tls".into(),
                Action::Authenticate { .. } => "authenticate".into(),
                Action::Send { bytes, .. } => String::from_utf8(bytes.expose().to_vec()).unwrap(),
                Action::Hang { .. } => "hang".into(),
                Action::Finish => "finish".into(),
            });
        }
        words.join("|")
    }

    fn told(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(event) = self.session.poll_event() {
            words.push(match event {
                Event::Connected { generation, .. } => format!("connected {generation}"),
                Event::Disconnected { reason, in_doubt } => {
                    format!("lost, {in_doubt} in doubt: {reason}")
                }
                Event::DialFailed { reason, .. } => format!("failed: {reason}"),
                Event::ServerError { text } => format!("said {text}"),
                Event::LameDuck => "lame duck".into(),
                Event::ServersDiscovered { servers } => format!("discovered {servers:?}"),
                Event::Moved(moved) => format!(
                    "moved {} {}, {} in doubt, {} copies",
                    moved.from, moved.to, moved.in_doubt, moved.copies
                ),
                Event::SubscriptionRefused(refusal) | Event::PublishRefused(refusal) => {
                    format!("refused {}", refusal.subject)
                }
                Event::PayloadTooLarge {
                    discarded_messages,
                    max,
                } => format!("{discarded_messages} larger than {max}"),
                Event::SlowConsumer { .. }
                | Event::SlowConsumerOver { .. }
                | Event::Draining { .. }
                | Event::Drained { .. }
                | Event::ReadingStopped { .. }
                | Event::ReadingResumed { .. } => "by the owner".into(),
                Event::Closed { reason, .. } => {
                    format!(
                        "closed{}",
                        reason
                            .map(|reason| format!(": {reason}"))
                            .unwrap_or_default()
                    )
                }
            });
        }
        words.join("|")
    }
}

fn message(sid: u64, payload: &str) -> Message {
    let text = format!("MSG a {sid} {}\r\n{payload}\r\n", payload.len());
    let mut parser = Parser::of_server(Limits::SERVER_OPS);
    match parser.next(text.as_bytes()) {
        Ok(ParserStep::Frame(frame)) => frame.message(text.into()),
        other => panic!("{other:?}"),
    }
}

fn payload_of(message: &Message) -> String {
    String::from_utf8_lossy(message.payload()).into_owned()
}

#[test]
fn the_client_introduces_itself_only_after_info() {
    let mut dialogue = Dialogue::new("h");
    assert_eq!(dialogue.actions(), "dial nats://h:4222");
    dialogue.open();
    dialogue.publish();
    assert_eq!(
        (dialogue.actions(), dialogue.written()),
        (String::new(), String::new())
    );
    dialogue.hear(ServerOp::Info { json: INFO });
    let introduction = dialogue.actions();
    assert!(introduction.starts_with("CONNECT {"), "{introduction}");
    assert!(
        introduction.contains(r#""headers":true,"no_responders":true"#),
        "{introduction}"
    );
    assert!(introduction.ends_with("}\r\nPING\r\n"), "{introduction}");
    assert_eq!(
        dialogue.written(),
        "",
        "published messages wait for the PONG"
    );
    assert_eq!(dialogue.hear(ServerOp::Pong), Heard::Connected(1));
    assert_eq!(dialogue.told(), "");
    assert_eq!(dialogue.written(), "PUB a 1\r\nx\r\nPING\r\n");
    assert_eq!(dialogue.hear(ServerOp::Pong), Heard::Pong(1));
    assert_eq!(dialogue.told(), "connected 1");
}

#[test]
fn a_server_that_cannot_leave_out_the_echo_hears_no_credentials() {
    let mut dialogue = Dialogue::with("h", |options| options.echo = false);
    dialogue.dial();
    dialogue.hear(ServerOp::Info {
        json: br#"{"server_id":"S","headers":true,"max_payload":1048576,"proto":0}"#,
    });
    let told = dialogue.told();
    let expected = "failed: server cannot leave out the echo of our own messages";
    assert!(told.starts_with(expected), "{told}");
    assert_eq!(dialogue.actions(), "hang|finish");
}

#[test]
fn nobody_is_told_that_nobody_responds_when_that_is_not_wanted() {
    let mut dialogue = Dialogue::with("h", |options| options.no_responders = false);
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    let introduction = dialogue.actions();
    let expected = r#""headers":true,"no_responders":false"#;
    assert!(introduction.contains(expected), "{introduction}");
}

#[test]
fn a_server_that_begins_with_something_else_is_left() {
    let mut dialogue = Dialogue::new("h");
    dialogue.dial();
    dialogue.hear(ServerOp::Ping);
    assert_eq!(
        dialogue.told(),
        "failed: server did not begin with INFO|closed: server did not begin with INFO"
    );
    assert_eq!(dialogue.actions(), "hang|finish");
}

#[test]
fn the_next_server_is_dialed_when_one_fails() {
    let mut dialogue = Dialogue::new("one,two");
    assert_eq!(dialogue.actions(), "dial nats://one:4222");
    dialogue.lose();
    assert_eq!(dialogue.actions(), "dial nats://two:4222");
    dialogue.lose();
    let told = dialogue.told();
    assert!(
        told.ends_with("closed: server closed the connection"),
        "{told}"
    );
}

#[test]
fn the_second_info_replaces_the_first() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.hear(ServerOp::Info {
        json: br#"{"max_payload":7,"connect_info":true}"#,
    });
    assert_eq!(dialogue.session.info().max_payload, 7);
    dialogue.hear(ServerOp::Info { json: b"{" });
    assert_eq!(
        dialogue.session.info().max_payload,
        7,
        "one that cannot be read changes nothing"
    );
    dialogue.hear(ServerOp::Info {
        json: br#"{"ldm":true}"#,
    });
    dialogue.hear(ServerOp::Info {
        json: br#"{"ldm":true}"#,
    });
    assert_eq!(dialogue.told(), "lame duck");
}

#[test]
fn subscriptions_and_waiting_messages_survive_a_lost_connection() {
    let mut dialogue = Dialogue::connected("h");
    let filter = Filter::new("a.*").unwrap();
    let sid = dialogue
        .session
        .subscribe(filter, None, 0, &mut dialogue.outbox)
        .unwrap();
    dialogue.publish();
    assert_eq!(
        dialogue.written(),
        format!("SUB a.* {sid}\r\nPUB a 1\r\nx\r\n")
    );
    dialogue.publish();
    dialogue.now += SETTLED_TIME;
    dialogue.lose();
    assert_eq!(
        dialogue.told(),
        "lost, 1 in doubt: server closed the connection"
    );
    assert_eq!(
        dialogue.actions(),
        "dial nats://h:4222",
        "the first attempt comes at once"
    );
    dialogue.open();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    assert_eq!(
        dialogue.written(),
        format!("SUB a.* {sid}\r\nPUB a 1\r\nx\r\nPING\r\n")
    );
    assert_eq!(dialogue.told(), "", "the server has read nothing yet");
    dialogue.hear(ServerOp::Pong);
    assert_eq!(dialogue.told(), "connected 2");
}

#[test]
fn a_connection_lost_before_it_was_restored_is_told_by_its_end_alone() {
    let mut dialogue = Dialogue::connected("h");
    let filter = Filter::new("a").unwrap();
    let outbox = &mut dialogue.outbox;
    dialogue.session.subscribe(filter, None, 0, outbox).unwrap();
    dialogue.wait(SETTLED_TIME);
    dialogue.lose();
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    dialogue.told();
    dialogue.lose();
    assert_eq!(
        dialogue.told(),
        "lost, 0 in doubt: server closed the connection"
    );
}

#[test]
fn attempts_after_the_first_pass_pause() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.wait(SECOND);
    dialogue.lose();
    assert_eq!(dialogue.actions(), "dial nats://h:4222");
    dialogue.lose();
    assert_eq!(dialogue.actions(), "");
    let due = dialogue.session.poll_timeout().unwrap();
    assert!(due > dialogue.now, "{due:?}");
    dialogue.now = due;
    assert_eq!(dialogue.actions(), "dial nats://h:4222");
}

#[test]
fn an_error_that_does_not_close_is_told_and_the_connection_stays() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.hear(ServerOp::Err {
        text: b"Invalid Subject",
    });
    assert_eq!(
        (dialogue.told().as_str(), dialogue.session.is_connected()),
        ("said Invalid Subject", true)
    );
    dialogue.hear(ServerOp::Err {
        text: b"Stale Connection",
    });
    dialogue.lose();
    let told = dialogue.told();
    assert!(
        told.contains("lost, 0 in doubt: server said `Stale Connection`"),
        "{told}"
    );
}

#[test]
fn the_same_refusal_twice_ends_the_session() {
    let mut dialogue = Dialogue::with("h", |options| options.retries_first_connect = true);
    for _ in 0..2 {
        dialogue.now = dialogue.session.poll_timeout().unwrap();
        dialogue.dial();
        dialogue.hear(ServerOp::Info { json: INFO });
        dialogue.hear(ServerOp::Err {
            text: b"Authorization Violation",
        });
        dialogue
            .session
            .handle_timeout(dialogue.now, &mut dialogue.outbox);
        let _ = dialogue
            .session
            .poll_action(Duration::ZERO, &mut dialogue.outbox);
    }
    let told = dialogue.told();
    assert!(
        told.ends_with("closed: server said `Authorization Violation`"),
        "{told}"
    );
}

#[test]
fn a_server_that_withholds_tls_gets_no_credentials() {
    let mut dialogue = Dialogue::new("tls://user:secret@h");
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    let actions = dialogue.actions();
    assert!(!actions.contains("CONNECT"), "{actions}");
    let told = dialogue.told();
    assert!(told.contains("the server does not offer it"), "{told}");
}

#[test]
fn with_tls_first_nothing_is_heard_or_said_before_it() {
    for server in ["nats://user:secret@h", "tls://user:secret@h"] {
        let mut dialogue = Dialogue::with(server, |options| options.is_tls_first = true);
        dialogue.dial();
        // Without the feature there is no TLS, and no server either.
        if !cfg!(feature = "tls") {
            assert!(dialogue.told().contains("no `tls` feature"));
            return;
        }
        assert_eq!(dialogue.actions(), "tls");
        dialogue.hear(ServerOp::Info { json: INFO });
        assert_eq!(dialogue.actions(), "");
        let (link, now) = (dialogue.link, dialogue.now);
        let outbox = &mut dialogue.outbox;
        dialogue.session.handle_tls_started(link, now, outbox);
        assert_eq!(dialogue.actions(), "");
        // INFO is not asked for TLS any more.
        dialogue.hear(ServerOp::Info { json: INFO });
        let actions = dialogue.actions();
        assert!(actions.starts_with("CONNECT {"), "{actions}");
        assert!(actions.contains("\"tls_required\":true"), "{actions}");
    }
}

#[test]
fn wss_is_encrypted_with_its_dial_and_ws_never_is() {
    let mut dialogue = Dialogue::with("wss://user:secret@h", |options| {
        options.is_tls_required = true;
        options.is_tls_first = true;
    });
    dialogue.dial();
    assert_eq!(dialogue.actions(), "");
    dialogue.hear(ServerOp::Info { json: INFO });
    assert!(dialogue.actions().starts_with("CONNECT {"));

    let info = br#"{"tls_required":true}"#;
    for change in [
        (|options| options.is_tls_required = true) as fn(&mut SessionOptions),
        |options| options.is_tls_first = true,
    ] {
        let mut dialogue = Dialogue::with("ws://user:secret@h", change);
        dialogue.dial();
        dialogue.hear(ServerOp::Info { json: info });
        let actions = dialogue.actions();
        assert!(!actions.contains("CONNECT"), "{actions}");
        let told = dialogue.told();
        assert!(told.contains("the server does not offer it"), "{told}");
    }
}

#[test]
fn a_handshake_has_a_deadline() {
    let mut dialogue = Dialogue::new("h");
    dialogue.dial();
    assert_eq!(dialogue.session.poll_timeout(), Some(SECOND * 5));
    dialogue.wait(SECOND * 5);
    let told = dialogue.told();
    assert!(told.contains("handshake took longer"), "{told}");
}

#[test]
fn a_late_pong_does_not_close_the_connection() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.wait(SECOND * 10);
    assert_eq!(dialogue.written(), "PING\r\n");
    dialogue.now = dialogue.now.checked_add(SECOND * 9).unwrap();
    dialogue.session.handle_bytes(dialogue.link, dialogue.now);
    assert_eq!(dialogue.hear(ServerOp::Pong), Heard::Pong(1));
    dialogue.wait(SECOND);
    assert!(dialogue.session.is_connected());
}

#[test]
fn silence_for_two_intervals_closes_the_connection() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.wait(SECOND * 10);
    dialogue.wait(SECOND * 10);
    assert_eq!(dialogue.told(), "lost, 0 in doubt: server does not answer");
    assert!(dialogue.actions().starts_with("hang|dial "));
}

#[test]
fn a_ping_is_answered_ahead_of_what_waits() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.publish();
    dialogue.hear(ServerOp::Ping);
    assert_eq!(dialogue.written(), "PONG\r\nPUB a 1\r\nx\r\n");
}

#[test]
fn a_socket_that_ends_with_the_close_does_not_stop_it() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.session.close(&mut dialogue.outbox);
    dialogue.lose();
    assert_eq!(dialogue.actions(), "hang|finish");
}

#[test]
fn closing_is_told_once_and_ends_everything() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.session.close(&mut dialogue.outbox);
    dialogue.session.close(&mut dialogue.outbox);
    assert_eq!(
        dialogue.told(),
        "lost, 0 in doubt: closed by its owner|closed"
    );
    assert_eq!(dialogue.actions(), "hang|finish");
    assert_eq!(dialogue.session.poll_timeout(), None);
}

#[test]
fn a_flood_of_pings_within_the_handshake_is_answered_within_a_bound() {
    let mut dialogue = Dialogue::new("a");
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    assert!(dialogue.actions().starts_with("CONNECT "));
    for _ in 0..1_000 {
        dialogue.hear(ServerOp::Ping);
    }
    assert_eq!(dialogue.actions().matches("PONG\r\n").count(), 16);
    dialogue.hear(ServerOp::Pong);
    assert!(dialogue.session.is_connected());
}

#[test]
fn a_server_that_talks_and_never_answers_is_asked_once() {
    let mut dialogue = Dialogue::connected("h");
    for _ in 0..5 {
        dialogue.wait(SECOND * 10);
        dialogue.session.handle_bytes(dialogue.link, dialogue.now);
        dialogue.hear(ServerOp::Ok);
    }
    assert_eq!(dialogue.written(), "PING\r\n");
    assert!(dialogue.session.is_connected());
}

const LAME_DUCK: &[u8] = br#"{"headers":true,"ldm":true}"#;

/// A dialogue on link 1 with a subscription (sid 1), whose server has said that it is about to stop;
/// the other server is being dialed on link 2.
fn leaving(change: impl FnOnce(&mut SessionOptions)) -> Dialogue {
    let mut dialogue = Dialogue::with("one,two", change);
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    let filter = Filter::new("a").unwrap();
    dialogue
        .session
        .subscribe(filter, None, 0, &mut dialogue.outbox)
        .unwrap();
    dialogue.publish();
    dialogue.written();
    dialogue.hear(ServerOp::Info { json: LAME_DUCK });
    dialogue.told();
    let actions = dialogue.actions();
    assert!(actions.ends_with("dial nats://two:4222"), "{actions}");
    assert_eq!(dialogue.link, 2);
    dialogue
}

/// The same, with both links up.
fn overlapping() -> Dialogue {
    let mut dialogue = leaving(|_| {});
    dialogue.open();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.actions();
    assert_eq!(dialogue.hear(ServerOp::Pong), Heard::Connected(2));
    assert_eq!(dialogue.actions(), "PING\r\n");
    dialogue
}

/// The same, and the old server has answered that it knows all.
fn confirmed() -> Dialogue {
    let mut dialogue = overlapping();
    dialogue.hear_on(1, ServerOp::Pong);
    assert_eq!(dialogue.actions(), "SUB a 1\r\nPING\r\n");
    dialogue
}

#[test]
fn a_session_moves_before_a_server_in_lame_duck_mode_ends() {
    let mut dialogue = overlapping();
    dialogue.publish();
    assert_eq!(
        dialogue.written(),
        "",
        "nothing before the old one confirms"
    );
    dialogue.hear_on(1, ServerOp::Pong);
    assert_eq!(dialogue.actions(), "SUB a 1\r\nPING\r\n");
    assert_eq!(dialogue.written(), "PUB a 1\r\nx\r\n");
    assert_eq!(dialogue.message(1, 1, "a"), "a", "the old link tells");
    assert_eq!(dialogue.message(2, 1, "a"), "", "the new one holds");
    assert_eq!(dialogue.message(2, 1, "b"), "");
    dialogue.hear_on(2, ServerOp::Pong);
    assert_eq!(dialogue.message(1, 1, "b"), "b");
    dialogue.overlap();
    assert_eq!(dialogue.actions(), "PING\r\n", "have you said all?");
    assert_eq!(dialogue.message(1, 1, "c"), "c");
    assert_eq!(dialogue.message(2, 1, "d"), "");
    dialogue.hear_on(1, ServerOp::Pong);
    assert_eq!(dialogue.actions(), "hang");
    assert_eq!(dialogue.held(), ["d"]);
    assert_eq!(dialogue.message(2, 1, "e"), "e");
    assert_eq!(dialogue.written(), "PING\r\n");
    dialogue.hear_on(2, ServerOp::Pong);
    assert_eq!(dialogue.message(2, 1, "c"), "", "a late copy");
    dialogue.wait(SECOND / 4);
    assert!(!dialogue.session.is_moving());
    assert_eq!(
        dialogue.told(),
        "moved nats://one:4222 nats://two:4222, 0 in doubt, 2 copies"
    );
    assert_eq!(
        dialogue.message(2, 1, "c"),
        "c",
        "a new message like an old one"
    );
}

/// At each stage of a move: what both servers said meanwhile is read before one of them is given up.
#[test]
fn a_program_that_stands_still_in_a_move_loses_nothing_and_tells_nothing_twice() {
    let standstill = SECOND * 60;
    for stage in 0..4 {
        let mut dialogue = overlapping();
        let mut told = Vec::new();
        if stage > 0 {
            dialogue.hear_on(1, ServerOp::Pong);
            assert_eq!(dialogue.actions(), "SUB a 1\r\nPING\r\n");
        }
        if stage > 1 {
            dialogue.hear_on(2, ServerOp::Pong);
        }
        if stage > 2 {
            dialogue.overlap();
            assert_eq!(dialogue.actions(), "PING\r\n");
        }
        dialogue.wait(standstill);
        let mut asked = dialogue.actions();
        assert!(!asked.contains("hang"), "{stage}: {asked}");
        // Now the sockets are read.
        told.push(dialogue.message(1, 1, "a"));
        if stage < 1 {
            dialogue.hear_on(1, ServerOp::Pong);
            asked += &dialogue.actions();
            assert_eq!(asked, "SUB a 1\r\nPING\r\n", "asked once");
        }
        told.push(dialogue.message(1, 1, "b"));
        told.push(dialogue.message(2, 1, "b"));
        if stage < 2 {
            dialogue.hear_on(2, ServerOp::Pong);
        }
        told.push(dialogue.message(2, 1, "c"));
        told.push(dialogue.message(1, 1, "c"));
        if stage < 3 {
            dialogue.overlap();
            assert_eq!(dialogue.actions(), "PING\r\n", "{stage}");
        }
        dialogue.hear_on(1, ServerOp::Pong);
        assert_eq!(dialogue.actions(), "hang", "{stage}");
        told.push(dialogue.message(2, 1, "d"));
        told.retain(|told| !told.is_empty());
        assert_eq!(told, ["a", "b", "c", "d"], "{stage}");
        dialogue.written();
        dialogue.hear_on(2, ServerOp::Pong);
        assert_eq!(
            dialogue.told(),
            "moved nats://one:4222 nats://two:4222, 0 in doubt, 2 copies",
            "{stage}"
        );
    }
}

#[test]
fn a_flush_begun_on_the_old_server_is_answered_by_it() {
    let mut dialogue = leaving(|_| {});
    assert_eq!(dialogue.outbox.ping(), Some(1));
    assert_eq!(dialogue.written(), "PING\r\n");
    assert_eq!(dialogue.outbox.ping(), Some(2));
    dialogue.open();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    assert_eq!(dialogue.hear_on(1, ServerOp::Pong), Heard::Pong(1));
    assert_eq!(dialogue.written(), "", "not yet confirmed");
    assert_eq!(dialogue.hear_on(1, ServerOp::Pong), Heard::Nothing);
    assert_eq!(dialogue.written(), "PING\r\n");
    assert_eq!(dialogue.hear_on(2, ServerOp::Pong), Heard::Nothing);
    assert_eq!(dialogue.message(2, 1, "a"), "");
    assert_eq!(dialogue.hear_on(2, ServerOp::Pong), Heard::Nothing);
    assert_eq!(dialogue.session.poll_answered(), None, "a message is held");
    dialogue.lose_link(1);
    assert!(dialogue.session.has_news());
    assert_eq!(dialogue.held(), ["a"]);
    assert_eq!(dialogue.session.poll_answered(), Some(2));
}

#[test]
fn a_maximum_is_told_behind_the_subscription_that_it_is_for() {
    let mut dialogue = confirmed();
    dialogue.hear_on(2, ServerOp::Pong);
    dialogue.lose_link(1);
    dialogue.actions();
    dialogue.written();
    dialogue.hear_on(2, ServerOp::Pong);
    let filter = Filter::new("b").unwrap();
    let outbox = &mut dialogue.outbox;
    let sid = dialogue.session.subscribe(filter, None, 0, outbox);
    dialogue.session.limit(sid.unwrap(), 3, outbox);
    dialogue.wait(SECOND / 4);
    assert_eq!(dialogue.actions(), "");
    assert_eq!(dialogue.written(), "SUB b 2\r\nUNSUB 2 3\r\n");
}

#[test]
fn an_old_server_that_dies_before_it_confirms_leaves_messages_in_doubt() {
    let mut dialogue = overlapping();
    assert_eq!(dialogue.message(1, 1, "a"), "a");
    dialogue.lose_link(1);
    assert_eq!(dialogue.actions(), "SUB a 1\r\nPING\r\n");
    assert_eq!(dialogue.message(2, 1, "a"), "");
    assert_eq!(dialogue.message(2, 1, "b"), "b");
    assert!(dialogue.session.is_connected());
    dialogue.publish();
    assert_eq!(dialogue.written(), "PING\r\nPUB a 1\r\nx\r\n");
    dialogue.hear_on(2, ServerOp::Pong);
    dialogue.hear_on(2, ServerOp::Pong);
    dialogue.wait(SECOND / 4);
    assert_eq!(
        dialogue.told(),
        "moved nats://one:4222 nats://two:4222, 1 in doubt, 1 copies"
    );
}

#[test]
fn an_old_server_that_does_not_answer_is_not_waited_for_longer_than_the_overlap() {
    let mut dialogue = overlapping();
    dialogue.wait(SECOND / 4);
    assert_eq!(dialogue.actions(), "SUB a 1\r\nPING\r\n");
    dialogue.hear_on(1, ServerOp::Pong);
    assert_eq!(dialogue.actions(), "", "they are asked for once");
}

#[test]
fn what_the_old_server_asked_is_answered_to_it() {
    let mut dialogue = leaving(|_| {});
    dialogue.hear_on(1, ServerOp::Ping);
    dialogue.open();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.actions();
    dialogue.hear(ServerOp::Pong);
    assert_eq!(dialogue.actions(), "PONG\r\nPING\r\n");
    dialogue.hear_on(1, ServerOp::Pong);
    assert_eq!(dialogue.written(), "");
}

#[test]
fn a_session_that_ends_in_a_move_closes_both_links() {
    let mut dialogue = overlapping();
    dialogue.session.close(&mut dialogue.outbox);
    assert_eq!(dialogue.actions(), "hang|hang|finish");
}

#[test]
fn a_ping_that_an_old_server_never_answered_confirms_nothing() {
    let mut dialogue = leaving(|_| {});
    assert_eq!(dialogue.outbox.ping(), Some(1));
    assert_eq!(dialogue.written(), "PING\r\n");
    dialogue.open();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    assert_eq!(dialogue.outbox.ping(), Some(2), "it waits behind the first");
    dialogue.lose_link(1);
    assert_eq!(dialogue.outbox.pings_answered(), 2, "both are given up");
    assert_eq!(dialogue.outbox.ping(), Some(3), "which serves a flush, too");
    assert_eq!(dialogue.written(), "PING\r\n");
    dialogue.hear_on(2, ServerOp::Pong);
    let heard = dialogue.hear_on(2, ServerOp::Pong);
    assert_eq!(heard, Heard::Nothing, "the move is told first");
    assert_eq!(
        dialogue.told(),
        "moved nats://one:4222 nats://two:4222, 1 in doubt, 0 copies"
    );
    assert_eq!(dialogue.session.poll_answered(), Some(3));
}

#[test]
fn a_new_server_that_dies_while_both_serve_takes_the_old_one_along() {
    let mut dialogue = confirmed();
    dialogue.publish();
    dialogue.written();
    assert_eq!(dialogue.message(2, 1, "a"), "");
    dialogue.lose_link(2);
    assert_eq!(dialogue.held(), ["a"], "nothing that came is lost");
    assert_eq!(
        dialogue.told(),
        "lost, 1 in doubt: server closed the connection"
    );
    assert!(dialogue.actions().starts_with("hang"));
    assert!(!dialogue.session.is_moving() && !dialogue.session.is_connected());
}

#[test]
fn a_move_does_not_wait_for_ever() {
    let mut dialogue = confirmed();
    dialogue.hear_on(2, ServerOp::Pong);
    dialogue.overlap();
    assert_eq!(dialogue.actions(), "PING\r\n");
    let begun = dialogue.now;
    while dialogue.actions() != "hang" {
        let due = dialogue.session.poll_timeout().unwrap();
        assert!(due > dialogue.now);
        dialogue.session.handle_bytes(2, due);
        dialogue.wait(due.checked_sub(dialogue.now).unwrap());
    }
    let taken = dialogue.now.checked_sub(begun).unwrap();
    // And the last call.
    let patience = SECOND * 5 + SECOND / 10;
    assert!(taken <= patience, "{taken:?}: the old server is silent");
    assert!(dialogue.session.is_connected());
}

#[test]
fn a_move_waits_for_an_owner_that_reads_nothing() {
    let mut dialogue = confirmed();
    dialogue.hear_on(2, ServerOp::Pong);
    dialogue.overlap();
    for _ in 0..30 {
        dialogue.session.handle_standstill(dialogue.now);
        dialogue.wait(SECOND);
    }
    assert_eq!(dialogue.actions(), "PING\r\n", "the old link stays");
    assert_eq!(dialogue.message(1, 1, "a"), "a");
    dialogue.hear_on(1, ServerOp::Pong);
    assert_eq!(dialogue.actions(), "hang");
}

#[test]
fn a_new_server_is_not_given_up_while_the_old_one_keeps_us_from_asking_it() {
    let mut dialogue = leaving(|options| options.connect_timeout = SECOND * 60);
    dialogue.open();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    dialogue.wait(SECOND);
    dialogue.hear_on(2, ServerOp::Pong);
    for _ in 0..5 {
        dialogue.wait(SECOND * 9);
    }
    assert!(dialogue.session.is_connected());
    assert_eq!(dialogue.written(), "", "its PINGs wait");
    dialogue.hear_on(1, ServerOp::Pong);
    assert_eq!(dialogue.written(), "PING\r\n", "the move's, too");
    dialogue.wait(SECOND * 9);
    dialogue.wait(SECOND * 9);
    assert!(!dialogue.session.is_connected());
}

#[test]
fn the_overlap_is_whole_however_late_the_new_server_answers() {
    let mut dialogue = confirmed();
    dialogue.wait(SECOND * 5);
    dialogue.hear_on(2, ServerOp::Pong);
    dialogue.session.handle_bytes(2, dialogue.now);
    dialogue.wait(SECOND * 15 / 100);
    dialogue.wait(SECOND * 12 / 100);
    assert_eq!(dialogue.written(), "", "the second half is whole, too");
    dialogue.wait(SECOND / 100);
    assert_eq!(dialogue.written(), "PING\r\n");
    assert_eq!(dialogue.actions(), "", "the old link still tells");
    dialogue.hear_on(2, ServerOp::Pong);
    assert_eq!(dialogue.actions(), "PING\r\n");
}

#[test]
fn a_message_like_an_earlier_one_is_told_when_the_new_server_could_not_have_had_that_one() {
    let mut dialogue = confirmed();
    dialogue.hear_on(2, ServerOp::Pong);
    assert_eq!(dialogue.message(1, 1, "tick"), "tick");
    dialogue.overlap();
    assert_eq!(dialogue.message(2, 1, "tick"), "");
    dialogue.hear_on(1, ServerOp::Pong);
    assert_eq!(dialogue.held(), ["tick"]);
    assert_eq!(dialogue.message(2, 1, "tick"), "tick");
}

#[test]
fn copies_of_what_an_old_server_told_before_its_early_end_are_known() {
    let mut dialogue = confirmed();
    assert_eq!(dialogue.message(1, 1, "a"), "a");
    dialogue.hear_on(2, ServerOp::Pong);
    dialogue.lose_link(1);
    assert_eq!(dialogue.message(2, 1, "a"), "");
    assert_eq!(dialogue.message(2, 1, "b"), "b");
}

#[test]
fn a_move_goes_on_when_the_new_link_holds_too_much_to_be_read() {
    let mut dialogue = confirmed();
    dialogue.hear_on(2, ServerOp::Pong);
    let payload = "x".repeat(1 << 20);
    for _ in 0..64 {
        assert_eq!(dialogue.message(2, 1, &payload), "");
    }
    assert!(dialogue.session.is_full(2));
    dialogue.wait(SECOND / 8);
    dialogue.wait(SECOND / 8);
    assert_eq!(dialogue.actions(), "PING\r\n", "is asked of the old one");
}

#[test]
fn a_queue_group_is_left_as_soon_as_the_new_member_is_known() {
    let mut dialogue = leaving(|_| {});
    let filter = Filter::new("q").unwrap();
    let group = QueueGroup::new("g").unwrap();
    dialogue
        .session
        .subscribe(filter, Some(group), 0, &mut dialogue.outbox)
        .unwrap();
    dialogue.written();
    dialogue.open();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.actions();
    dialogue.hear(ServerOp::Pong);
    dialogue.hear_on(1, ServerOp::Pong);
    assert_eq!(
        dialogue.actions(),
        "PING\r\n|SUB a 1\r\nSUB q g 2\r\nPING\r\n"
    );
    dialogue.hear_on(2, ServerOp::Pong);
    assert_eq!(dialogue.actions(), "UNSUB 2\r\n");
    assert_eq!(dialogue.message(2, 2, "same"), "same");
    assert_eq!(dialogue.message(1, 2, "same"), "same", "another message");
}

#[test]
fn a_maximum_is_kept_across_a_move() {
    let mut dialogue = leaving(|_| {});
    dialogue.session.limit(1, 4, &mut dialogue.outbox);
    dialogue.written();
    dialogue.open();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.actions();
    dialogue.hear(ServerOp::Pong);
    dialogue.hear_on(1, ServerOp::Pong);
    for payload in ["a", "b"] {
        assert_eq!(dialogue.message(1, 1, payload), payload);
        dialogue.session.route(1);
        assert_eq!(dialogue.message(2, 1, payload), "");
    }
    dialogue.lose_link(1);
    dialogue.actions();
    dialogue.hear_on(2, ServerOp::Pong);
    assert!(dialogue.written().ends_with("PING\r\n"));
    dialogue.hear_on(2, ServerOp::Pong);
    // The new server has sent two copies; two messages are left.
    dialogue.wait(SECOND / 4);
    assert!(dialogue.written().ends_with("UNSUB 1 4\r\n"));
}

#[test]
fn without_another_server_a_lame_duck_is_kept_to_its_end() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.hear(ServerOp::Info { json: LAME_DUCK });
    assert_eq!(
        (dialogue.told(), dialogue.actions()),
        ("lame duck".into(), String::new())
    );
    assert!(dialogue.session.poll_timeout().unwrap() > dialogue.now);
}

#[test]
fn a_lame_duck_is_left_for_a_server_that_becomes_known_later() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.hear(ServerOp::Info { json: LAME_DUCK });
    assert_eq!(dialogue.actions(), "");
    let json = br#"{"ldm":true,"connect_urls":["x:1"]}"#;
    dialogue.hear(ServerOp::Info { json });
    assert_eq!(dialogue.actions(), "dial nats://x:1");
}

#[test]
fn a_lame_duck_is_left_for_a_server_that_the_owner_names() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.hear(ServerOp::Info { json: LAME_DUCK });
    assert_eq!(dialogue.actions(), "");
    let servers = ServerAddr::parse_list("h,x").unwrap();
    dialogue.session.set_servers(servers, dialogue.now);
    assert_eq!(dialogue.actions(), "dial nats://x:4222");
}

#[test]
fn a_server_in_lame_duck_mode_is_moved_to_by_nobody_and_asked_again_after_pauses() {
    let mut dialogue = leaving(|_| {});
    for _ in 0..3 {
        dialogue.open();
        dialogue.hear(ServerOp::Info { json: LAME_DUCK });
        dialogue.actions();
        assert_eq!(dialogue.hear(ServerOp::Pong), Heard::Nothing);
        let mut actions = dialogue.actions();
        if actions == "hang" {
            dialogue.wait(SECOND);
            actions = dialogue.actions();
        }
        assert!(actions.ends_with("dial nats://two:4222"), "{actions}");
    }
    assert_eq!(dialogue.session.server().unwrap().host(), "one");
}

#[test]
fn a_subscription_too_many_is_found_when_the_new_server_refuses_it() {
    let mut dialogue = leaving(|_| {});
    for mailbox in [7, 8] {
        let filter = Filter::new("b").unwrap();
        let outbox = &mut dialogue.outbox;
        let sid = dialogue.session.subscribe(filter, None, mailbox, outbox);
        let ping = outbox.ping().unwrap();
        dialogue
            .session
            .await_confirmation(sid.unwrap(), ping, outbox);
    }
    dialogue.open();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    dialogue.hear_on(1, ServerOp::Pong);
    let text = b"maximum subscriptions exceeded";
    dialogue.hear_on(2, ServerOp::Err { text });
    let refused = dialogue.session.poll_refused();
    assert!(
        matches!(&refused, Some(Refused::Subscription { mailbox: 8, .. })),
        "{refused:?}"
    );
    dialogue.hear_on(2, ServerOp::Pong);
    dialogue.hear_on(2, ServerOp::Err { text });
    assert_eq!(dialogue.session.poll_refused().map(|_| ()), Some(()));
}

#[test]
fn servers_that_info_names_join_the_pool() {
    let mut dialogue = Dialogue::connected("h");
    let json = br#"{"connect_urls":["h:4222","x:1"]}"#;
    dialogue.hear(ServerOp::Info { json });
    assert_eq!(dialogue.told(), "discovered [nats://x:1]");
    dialogue.wait(SECOND);
    dialogue.lose();
    assert_eq!(dialogue.actions(), "dial nats://x:1");
}

#[test]
fn a_forced_reconnect_dials_at_once() {
    let mut dialogue = Dialogue::connected("one,two");
    dialogue
        .session
        .reconnect(dialogue.now, &mut dialogue.outbox);
    assert_eq!(dialogue.actions(), "hang|dial nats://two:4222");
    assert!(dialogue.told().starts_with("lost, 0 in doubt: left for"));
}

#[test]
fn a_forced_reconnect_dials_once_although_no_attempt_is_left() {
    let mut dialogue = Dialogue::with("one,two", |options| options.redial.attempts_max = Some(0));
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    dialogue.wait(SECOND);
    dialogue.actions();
    dialogue
        .session
        .reconnect(dialogue.now, &mut dialogue.outbox);
    assert_eq!(dialogue.actions(), "hang|dial nats://two:4222");
    dialogue.told();
    dialogue.lose();
    assert_eq!(dialogue.actions(), "finish");
}

#[test]
fn a_lost_connection_ends_a_session_that_may_not_dial_again() {
    let mut dialogue = Dialogue::with("h", |options| options.redial.attempts_max = Some(0));
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    dialogue.wait(SECOND);
    dialogue.actions();
    dialogue.told();
    dialogue.lose();
    assert_eq!(dialogue.actions(), "finish");
    assert!(
        dialogue
            .told()
            .ends_with("closed: all attempts to connect are used up")
    );
}

#[test]
fn the_first_connect_uses_up_no_attempt_of_an_outage_right_behind_it() {
    let mut dialogue = Dialogue::with("h", |options| options.redial.attempts_max = Some(2));
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    dialogue.actions();
    for _ in 0..2 {
        dialogue.lose();
        dialogue.now = dialogue.session.poll_timeout().unwrap();
        assert_eq!(dialogue.actions(), "dial nats://h:4222");
    }
    dialogue.lose();
    dialogue.now = dialogue.session.poll_timeout().unwrap();
    assert_eq!(dialogue.actions(), "finish");
}

#[test]
fn a_first_connect_fails_after_one_pass_whatever_may_be_dialed_later() {
    for attempts_max in [Some(0), Some(1), None] {
        let mut dialogue = Dialogue::with("a,b,c", |options| {
            options.redial.attempts_max = attempts_max;
        });
        for server in [
            "dial nats://a:4222",
            "dial nats://b:4222",
            "dial nats://c:4222",
        ] {
            assert_eq!(dialogue.actions(), server, "{attempts_max:?}");
            dialogue.lose();
        }
        assert_eq!(dialogue.actions(), "finish", "{attempts_max:?}");
    }
}

#[test]
fn the_owner_is_asked_for_credentials_with_each_fresh_nonce() {
    let mut dialogue = Dialogue::with("h", |options| options.auth = Auth::Asked);
    dialogue.dial();
    dialogue.hear(ServerOp::Info {
        json: br#"{"nonce":"abc"}"#,
    });
    let action = dialogue
        .session
        .poll_action(dialogue.now, &mut dialogue.outbox);
    assert!(
        matches!(&action, Some(Action::Authenticate { nonce: Some(nonce), .. }) if nonce == "abc"),
        "{action:?}"
    );
    let credentials = Ok(Credentials::token("t"));
    let now = dialogue.now;
    dialogue
        .session
        .handle_credentials(1, now, credentials, &mut dialogue.outbox);
    assert!(dialogue.actions().contains(r#""auth_token":"t""#));
}

#[test]
fn a_key_that_gets_no_nonce_sends_nothing_at_all() {
    let seed = KeyPair::new(KeyKind::User, &[1; 32]).seed();
    let credentials = Credentials::nkey(seed.expose()).unwrap();
    for auth in [Auth::Fixed(credentials.clone()), Auth::Asked] {
        let mut dialogue = Dialogue::with("h", |options| options.auth = auth.clone());
        dialogue.dial();
        dialogue.hear(ServerOp::Info { json: INFO });
        if matches!(auth, Auth::Asked) {
            assert_eq!(dialogue.actions(), "authenticate");
            let (now, credentials) = (dialogue.now, Ok(credentials.clone()));
            dialogue
                .session
                .handle_credentials(1, now, credentials, &mut dialogue.outbox);
        }
        assert_eq!(dialogue.actions(), "hang|finish");
        let told = dialogue.told();
        assert!(
            told.contains("server sends no nonce for a key to sign"),
            "{told}"
        );
    }
}

#[test]
fn credentials_for_a_link_that_is_gone_are_not_sent() {
    let mut dialogue = Dialogue::with("h", |options| {
        options.auth = Auth::Asked;
        options.retries_first_connect = true;
    });
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    assert_eq!(dialogue.actions(), "authenticate");
    dialogue.lose();
    dialogue.wait(SECOND);
    dialogue.dial();
    dialogue.hear(ServerOp::Info { json: INFO });
    let now = dialogue.now;
    for (link, expected) in [(1, "authenticate"), (2, "CONNECT")] {
        let credentials = Ok(Credentials::token("t"));
        dialogue
            .session
            .handle_credentials(link, now, credentials, &mut dialogue.outbox);
        assert!(dialogue.actions().starts_with(expected));
    }
}

#[test]
fn a_refusal_counts_from_the_start_after_another_failure() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.wait(SETTLED_TIME);
    dialogue.lose();
    for round in 0..5 {
        dialogue.wait(5 * SECOND);
        dialogue.dial();
        dialogue.hear(ServerOp::Info { json: INFO });
        if round % 2 == 0 {
            dialogue.hear(ServerOp::Err {
                text: b"Authorization Violation",
            });
        } else {
            dialogue.lose();
        }
        assert!(!dialogue.session.is_closed(), "round {round}");
        dialogue.actions();
    }
}

#[test]
fn a_session_that_retries_refusals_goes_on_and_pauses() {
    let mut dialogue = Dialogue::with("h", |options| {
        options.retries_refused = true;
        options.retries_first_connect = true;
    });
    let mut dials = 0;
    while dialogue.now < 10 * SECOND {
        let due = dialogue.session.poll_timeout().unwrap();
        dialogue.wait(due.saturating_sub(dialogue.now));
        dialogue.dial();
        dials += 1;
        dialogue.hear(ServerOp::Info { json: INFO });
        dialogue.hear(ServerOp::Err {
            text: b"Authorization Violation",
        });
        dialogue.actions();
    }
    assert!((10..60).contains(&dials), "{dials} dials in 10 s");
}
