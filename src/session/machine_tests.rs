//! Tests of the session: dialogues with a server, told line by line.

use super::*;
use crate::session::redial::SETTLED_TIME;
use crate::session::{OutboxLimits, WriteBatch};
use crate::subject::SubjectRef;
use crate::wire::encode::Publish;

const SECOND: Duration = Duration::from_secs(1);
const INFO: &[u8] = br#"{"headers":true,"max_payload":100}"#;

struct Dialogue {
    session: Session,
    outbox: Outbox,
    now: Duration,
}

impl Dialogue {
    fn new(servers: &str) -> Self {
        Self::with(servers, |_| {})
    }

    fn with(servers: &str, change: impl FnOnce(&mut SessionOptions)) -> Self {
        let mut options = SessionOptions::new(ServerAddr::parse_list(servers).unwrap());
        change(&mut options);
        let outbox = Outbox::new(OutboxLimits::default());
        Self {
            session: Session::new(options, 1, Duration::ZERO),
            outbox,
            now: Duration::ZERO,
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
        self.session.handle_connected(self.now);
    }

    fn hear(&mut self, op: ServerOp<'_>) -> Heard {
        self.session.handle_op(self.now, &op, &mut self.outbox)
    }

    fn lose(&mut self) {
        self.session
            .handle_disconnected(self.now, LinkError::Closed, &mut self.outbox);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.checked_add(time).unwrap();
        self.session.handle_timeout(self.now, &mut self.outbox);
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
                Action::Dial(server) => format!("dial {server}"),
                Action::StartTls(_) => "tls".into(),
                Action::Send(bytes) => String::from_utf8(bytes).unwrap(),
                Action::Hang => "hang".into(),
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
                Event::SubscriptionRefused(refusal) | Event::PublishRefused(refusal) => {
                    format!("refused {}", refusal.subject)
                }
                Event::SlowConsumer { .. }
                | Event::SlowConsumerOver { .. }
                | Event::Draining { .. }
                | Event::Drained { .. }
                | Event::ReadingStopped { .. }
                | Event::ReadingResumed { .. } => "by the owner".into(),
                Event::Closed { reason } => {
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

#[test]
fn the_client_introduces_itself_only_after_info() {
    let mut dialogue = Dialogue::new("h");
    assert_eq!(dialogue.actions(), "dial nats://h:4222");
    dialogue.session.handle_connected(Duration::ZERO);
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
    assert_eq!(dialogue.told(), "connected 1");
    assert_eq!(dialogue.written(), "PUB a 1\r\nx\r\n");
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
    dialogue.session.handle_connected(dialogue.now);
    dialogue.hear(ServerOp::Info { json: INFO });
    dialogue.hear(ServerOp::Pong);
    assert_eq!(dialogue.told(), "connected 2");
    assert_eq!(
        dialogue.written(),
        format!("SUB a.* {sid}\r\nPUB a 1\r\nx\r\n")
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
    dialogue.session.handle_bytes(dialogue.now);
    assert_eq!(dialogue.hear(ServerOp::Pong), Heard::Pong(1));
    dialogue.wait(SECOND);
    assert!(dialogue.session.is_connected());
}

#[test]
fn silence_for_two_intervals_closes_the_connection() {
    let mut dialogue = Dialogue::connected("h");
    dialogue.wait(SECOND * 10);
    dialogue.wait(SECOND * 10);
    assert_eq!(
        dialogue.told(),
        "lost, 0 in doubt: nothing came from the server for two ping intervals"
    );
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
        dialogue.session.handle_bytes(dialogue.now);
        dialogue.hear(ServerOp::Ok);
    }
    assert_eq!(dialogue.written(), "PING\r\n");
    assert!(dialogue.session.is_connected());
}
