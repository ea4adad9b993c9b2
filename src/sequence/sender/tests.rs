//! Tests of the sender: what it writes, refuses and repairs.

use super::answering::REPLY_MESSAGES_MAX;
use super::*;

const BODY_MAX: usize = 1 << 20;
const MILLI: Duration = Duration::from_millis(1);

fn sender(messages_max: usize) -> Sender {
    let name = SourceName::new("a").unwrap();
    let mut options = SenderOptions::new(name, 7, Filter::new("d.*").unwrap());
    options.retention.messages_max = messages_max;
    let mut sender = Sender::new(options, 1, Duration::ZERO);
    sender.handle_connected(Duration::ZERO);
    sender
}

fn message(payload: &[u8]) -> Outgoing<'_> {
    Outgoing {
        subject: "d.x",
        reply: None,
        headers: b"",
        payload,
    }
}

fn send(sender: &mut Sender, now: Duration) -> Result<u64, SendError> {
    sender.stamp(now, &message(b"x"), BODY_MAX, &mut Vec::new())
}

fn text(lines: &[u8]) -> String {
    String::from_utf8(lines.to_vec()).unwrap()
}

fn replies(sender: &mut Sender, now: Duration) -> Vec<(Option<u16>, String)> {
    core::iter::from_fn(|| sender.poll_reply(now))
        .map(|reply| (reply.status.map(ReplyStatus::code), text(&reply.lines)))
        .collect()
}

#[test]
fn numbers_rise_by_one_and_stand_in_the_stamp() {
    let mut sender = sender(9);
    let mut line = Vec::new();
    assert_eq!(
        sender.stamp(MILLI, &message(b"x"), BODY_MAX, &mut line),
        Ok(1)
    );
    assert_eq!(line, b"Seq: a.7.1\r\n");
    assert_eq!(send(&mut sender, MILLI), Ok(2));
}

#[test]
fn a_refused_message_takes_no_number() {
    let mut sender = sender(9);
    let outside = Outgoing {
        subject: "e.x",
        ..message(b"x")
    };
    let mut line = Vec::new();
    assert_eq!(
        sender.stamp(MILLI, &outside, BODY_MAX, &mut line),
        Err(SendError::OutOfScope)
    );
    let large = vec![0; 100];
    let refused = sender.stamp(MILLI, &message(&large), 150, &mut line);
    assert!(matches!(refused, Err(SendError::TooLarge { max: 150, .. })));
    assert!(line.is_empty());
    assert_eq!(send(&mut sender, MILLI), Ok(1));
    sender.close(MILLI);
    assert_eq!(send(&mut sender, MILLI), Err(SendError::Closed));
    assert_eq!(sender.lead(), 1);
}

#[test]
fn the_source_says_hello_before_its_first_message() {
    let mut sender = sender(9);
    let hello = sender.poll_heartbeat(Duration::ZERO).unwrap();
    assert_eq!(
        (hello.kind, hello.lead, hello.trail),
        (HeartbeatKind::Hello, 0, 1)
    );
    assert_eq!(sender.poll_heartbeat(Duration::ZERO), None);
}

#[test]
fn a_heartbeat_names_the_last_number_and_none_is_made_without_a_connection() {
    let mut sender = sender(9);
    let _ = sender.poll_heartbeat(Duration::ZERO);
    send(&mut sender, MILLI).unwrap();
    assert_eq!(sender.poll_heartbeat(MILLI), None);
    let due = sender.poll_timeout().unwrap();
    let beat = sender.poll_heartbeat(due).unwrap();
    assert_eq!((beat.kind, beat.lead), (HeartbeatKind::Beat, 1));
    sender.handle_disconnected();
    assert_eq!(sender.poll_heartbeat(due * 100), None);
    sender.handle_connected(due);
    let hello = sender.poll_heartbeat(due).unwrap();
    assert_eq!((hello.kind, hello.generation), (HeartbeatKind::Hello, 2));
}

#[test]
fn retained_numbers_are_sent_again_and_the_end_says_what_is_gone() {
    let mut sender = sender(2);
    for _ in 0..4 {
        send(&mut sender, MILLI).unwrap();
    }
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"1,3-9");
    let replies = replies(&mut sender, MILLI);
    assert_eq!(
        replies[0],
        (None, "Seq: a.7.3\r\nSeq-Subject: d.x\r\n".into())
    );
    assert_eq!(replies[1].1, "Seq: a.7.4\r\nSeq-Subject: d.x\r\n");
    let end = "Seq: a.7.4\r\nSeq-Trail: 3\r\nSeq-Gone: 1\r\n";
    assert_eq!(replies[2..], [(Some(204), end.to_owned())]);
}

#[test]
fn only_what_is_no_longer_retained_is_gone() {
    let mut sender = sender(2);
    for _ in 0..4 {
        send(&mut sender, MILLI).unwrap();
    }
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"1-4");
    let both = replies(&mut sender, MILLI);
    let stamps = both
        .iter()
        .map(|reply| reply.1.split("\r\n").next().unwrap());
    assert_eq!(
        stamps.collect::<Vec<_>>(),
        ["Seq: a.7.3", "Seq: a.7.4", "Seq: a.7.4"]
    );
    assert!(both[2].1.ends_with("Seq-Gone: 1-2\r\n"), "{both:?}");
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"1-2");
    let none = replies(&mut sender, MILLI);
    assert_eq!((none.len(), none[0].0), (1, Some(404)));
}

#[test]
fn a_long_reply_is_cut_and_says_so() {
    let mut sender = sender(1_000);
    for _ in 0..600 {
        send(&mut sender, MILLI).unwrap();
    }
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"1-600");
    let replies = replies(&mut sender, MILLI);
    assert_eq!(replies.len(), REPLY_MESSAGES_MAX + 1);
    assert!(replies.last().unwrap().1.contains("Seq-More: 1"));
    assert!(!replies.last().unwrap().1.contains("Seq-Gone"));
}

#[test]
fn replies_go_only_where_they_are_allowed() {
    let mut sender = sender(9);
    send(&mut sender, MILLI).unwrap();
    let long = [&b"_INBOX."[..], &[b'a'; 130]].concat();
    for reply in [&b"orders.x"[..], b"_INBOX.*", b"_INBOX.a b", &long] {
        sender.handle_request(MILLI, Some(reply), b"1");
    }
    sender.handle_request(MILLI, None, b"1");
    assert_eq!(replies(&mut sender, MILLI), []);
    assert_eq!(sender.statistics().refused_requests, 5);
}

#[test]
fn a_malformed_request_is_told_so_and_a_repeated_one_is_swallowed() {
    let mut sender = sender(9);
    send(&mut sender, MILLI).unwrap();
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"x");
    assert_eq!(replies(&mut sender, MILLI)[0].0, Some(400));
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"1");
    sender.handle_request(MILLI * 2, Some(b"_INBOX.r"), b"1");
    assert_eq!(replies(&mut sender, MILLI).len(), 2);
    sender.handle_request(MILLI * 20, Some(b"_INBOX.r"), b"1");
    assert_eq!(replies(&mut sender, MILLI).len(), 2);
}

#[test]
fn a_request_that_is_repeated_on_the_next_connection_is_answered() {
    let mut sender = sender(9);
    send(&mut sender, MILLI).unwrap();
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"1");
    sender.handle_disconnected();
    sender.handle_connected(MILLI);
    sender.handle_request(MILLI * 2, Some(b"_INBOX.r"), b"1");
    assert_eq!(replies(&mut sender, MILLI * 2).len(), 2);
}

#[test]
fn a_question_is_answered_with_a_heartbeat() {
    let mut sender = sender(9);
    send(&mut sender, MILLI).unwrap();
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"?");
    let reply = sender.poll_reply(MILLI).unwrap();
    let ReplyBody::Heartbeat(heartbeat) = reply.body else {
        panic!("no heartbeat")
    };
    assert_eq!(heartbeat.lead, 1);
}

#[test]
fn a_source_that_ended_without_a_connection_says_so_on_the_next() {
    let mut sender = sender(9);
    sender.handle_disconnected();
    sender.close(MILLI);
    assert_eq!(sender.poll_heartbeat(MILLI), None);
    sender.handle_connected(MILLI * 2);
    let end = sender.poll_heartbeat(MILLI * 2).unwrap();
    assert_eq!(end.kind, HeartbeatKind::End);
}

#[test]
fn answers_that_wait_for_room_at_the_end_of_the_linger_need_no_timer() {
    let mut sender = sender(9);
    send(&mut sender, MILLI).unwrap();
    sender.close(MILLI);
    sender.handle_request(MILLI * 2, Some(b"_INBOX.r"), b"1");
    let mut rounds = 0;
    while let Some(due) = sender.poll_timeout() {
        let _ = sender.poll_heartbeat(due);
        rounds += 1;
        assert!(rounds < 100, "a timer in the past");
    }
    assert!(!sender.is_finished(MILLI * 9_000), "the answer is owed");
    assert_eq!(replies(&mut sender, MILLI * 9_000).len(), 2);
    assert!(sender.is_finished(MILLI * 9_000));
}

#[test]
fn the_end_is_said_through_the_linger_and_requests_prolong_the_linger() {
    let mut sender = sender(9);
    let _ = sender.poll_heartbeat(Duration::ZERO);
    send(&mut sender, MILLI).unwrap();
    sender.close(MILLI);
    let mut ends = 0;
    let mut now = MILLI;
    while now < MILLI * 80 {
        ends += usize::from(sender.poll_heartbeat(now).is_some());
        now += MILLI;
    }
    assert_eq!(ends, 3);
    assert!(!sender.is_finished(MILLI * 2_000));
    sender.handle_request(MILLI * 1_500, Some(b"_INBOX.r"), b"1");
    assert_eq!(replies(&mut sender, MILLI * 1_500).len(), 2);
    assert!(!sender.is_finished(MILLI * 3_000));
    assert!(sender.is_finished(MILLI * 3_600));
    sender.handle_request(MILLI * 900_000, Some(b"_INBOX.r"), b"1");
    let _ = replies(&mut sender, MILLI);
    assert!(
        sender.is_finished(MILLI * 900_000),
        "the linger has a bound"
    );
}
