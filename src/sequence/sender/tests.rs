//! Tests of the sender: what it writes, refuses and repairs.

use super::*;
use crate::sequence::budget::Rate;
use crate::sequence::claim::NoticeKind;

const BODY_MAX: usize = 1 << 20;
const MILLI: Duration = Duration::from_millis(1);

fn sender(messages_max: usize) -> Sender {
    sender_with(|options| options.retention.messages_max = messages_max)
}

fn sender_with(change: impl FnOnce(&mut SenderOptions)) -> Sender {
    let name = SourceName::new("a").unwrap();
    let mut options = SenderOptions::new(name, 7, Filter::new("d.x").unwrap());
    change(&mut options);
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
    core::iter::from_fn(|| sender.poll_reply(now, Allowance::default()))
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
    assert_eq!(replies.len(), 256 + 1);
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
fn a_number_that_was_just_sent_to_a_receiver_is_not_sent_to_it_again() {
    let mut sender = sender(9);
    for _ in 0..6 {
        send(&mut sender, MILLI).unwrap();
    }
    let mut numbers = |now, to: &[u8], request: &[u8]| {
        sender.handle_request(now, Some(to), request);
        let of = |reply: &(Option<u16>, String)| {
            let stamp = reply.1.split("\r\n").next().unwrap().to_owned();
            reply.0.is_none().then_some(stamp)
        };
        let told = replies(&mut sender, now);
        told.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(numbers(MILLI, b"_INBOX.r.1", b"2-4").len(), 3);
    let others = numbers(MILLI * 5, b"_INBOX.r.2", b"1-6");
    assert_eq!(others, ["Seq: a.7.1", "Seq: a.7.5", "Seq: a.7.6"]);
    assert_eq!(
        numbers(MILLI * 9, b"_INBOX.q.1", b"1-6").len(),
        6,
        "another"
    );
    assert_eq!(numbers(MILLI * 30, b"_INBOX.r.3", b"1-6").len(), 6, "later");
}

#[test]
fn what_waits_to_be_sent_to_a_receiver_is_not_queued_again() {
    let mut sender = sender(9);
    for _ in 0..6 {
        send(&mut sender, MILLI).unwrap();
    }
    for request in [&b"1-3"[..], b"2-4", b"?", b"?", b"5", b"6"] {
        sender.handle_request(MILLI, Some(b"_INBOX.r"), request);
    }
    let told = replies(&mut sender, MILLI);
    let repaired = told
        .iter()
        .filter(|(_, lines)| lines.contains("Seq-Subject"));
    assert_eq!(repaired.count(), 5, "{told:?}");
    let statuses: Vec<_> = told.iter().filter_map(|reply| reply.0).collect();
    assert_eq!(statuses, [204, 204, 204, 429], "of one at most four wait");
}

#[test]
fn an_answer_beyond_the_budget_is_cut_and_says_when_to_come_back() {
    let mut sender = sender_with(|options| {
        options.repairs.requester = Rate {
            bytes_per_second: 1_000,
            burst_bytes: 200,
        };
    });
    for _ in 0..9 {
        send(&mut sender, MILLI).unwrap();
    }
    sender.handle_request(MILLI, Some(b"_INBOX.r.1"), b"1-9");
    let told = replies(&mut sender, MILLI);
    let (status, end) = told.last().unwrap();
    assert!((2..9).contains(&told.len()), "{told:?}");
    assert_eq!(*status, Some(204));
    assert!(end.contains("Seq-More: 1\r\nSeq-Retry: "), "{end}");

    // The same requester under another token, and then another requester.
    sender.handle_request(MILLI * 2, Some(b"_INBOX.r.2"), b"1-9");
    let slow = replies(&mut sender, MILLI * 2);
    assert_eq!((slow.len(), slow[0].0), (1, Some(429)));
    assert!(slow[0].1.contains("Seq-Retry: "), "{slow:?}");
    sender.handle_request(MILLI * 2, Some(b"_INBOX.q.1"), b"1-9");
    assert!(replies(&mut sender, MILLI * 2).len() > 1);

    // The client's budget counts for everybody.
    let due = MILLI * 700;
    let allowance = Allowance {
        due,
        ..Allowance::default()
    };
    sender.handle_request(MILLI * 3, Some(b"_INBOX.p"), b"1");
    let reply = sender.poll_reply(MILLI * 3, allowance).unwrap();
    assert_eq!(reply.status, Some(ReplyStatus::SlowDown));
    assert!(text(&reply.lines).ends_with("Seq-Retry: 697\r\n"));
    let allowance = Allowance {
        due: due * 2,
        ..allowance
    };
    sender.handle_request(MILLI * 3, Some(b"_INBOX.p"), b"1");
    assert_eq!(sender.poll_reply(MILLI * 3, allowance), None);
}

#[test]
fn what_the_server_no_longer_takes_is_gone() {
    let mut sender = sender(9);
    let large = [0; 500];
    for payload in [&b"1"[..], &large, b"3"] {
        let message = message(payload);
        sender
            .stamp(MILLI, &message, BODY_MAX, &mut Vec::new())
            .unwrap();
    }
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"1-3");
    let small = Allowance {
        body_bytes_max: 200,
        ..Allowance::default()
    };
    let told: Vec<_> = core::iter::from_fn(|| sender.poll_reply(MILLI, small)).collect();
    assert_eq!(told.len(), 3);
    let end = text(&told[2].lines);
    assert!(end.ends_with("Seq-Gone: 2\r\n"), "{end}");
}

#[test]
fn the_longest_list_of_what_is_gone_can_be_read() {
    let mut sender = sender(1_000);
    for _ in 0..600 {
        send(&mut sender, MILLI).unwrap();
    }
    let request: Vec<_> = (1..=64).map(|n| (n * 9, n * 9)).collect();
    let ranges = request.iter().map(|(from, to)| format!("{from}-{to}"));
    let request = ranges.collect::<Vec<_>>().join(",");
    sender.handle_request(MILLI, Some(b"_INBOX.r"), request.as_bytes());
    let nothing = Allowance {
        body_bytes_max: 0,
        ..Allowance::default()
    };
    let end = sender.poll_reply(MILLI, nothing).unwrap();
    let lines = text(&end.lines);
    let gone = lines.split("Seq-Gone: ").nth(1).unwrap().trim_end();
    let end = crate::sequence::RepairEnd::read(404, |name| (name == "Seq-Gone").then_some(gone));
    assert_eq!(end.unwrap().gone.numbers(), 64);
}

#[test]
fn each_message_names_the_one_before_it_on_its_subject_and_so_does_its_repair() {
    let mut sender = sender_with(|options| options.scope = Filter::new("d.*").unwrap());
    let mut told = String::new();
    for subject in ["d.x", "d.y", "d.x"] {
        let mut line = Vec::new();
        let message = Outgoing {
            subject,
            ..message(b"x")
        };
        sender.stamp(MILLI, &message, BODY_MAX, &mut line).unwrap();
        told.push_str(&text(&line));
    }
    assert_eq!(told, "Seq: a.7.1.0\r\nSeq: a.7.2.0\r\nSeq: a.7.3.1\r\n");
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"3");
    let repaired = "Seq: a.7.3.1\r\nSeq-Subject: d.x\r\n";
    assert_eq!(replies(&mut sender, MILLI)[0].1, repaired);
}

#[test]
fn a_request_for_an_earlier_run_is_told_of_the_later() {
    let mut sender = sender(9);
    send(&mut sender, MILLI).unwrap();
    for epoch in [6, 7, 8] {
        sender.handle_stray_request(epoch, Some(b"_INBOX.r"));
    }
    let reply = sender.poll_reply(MILLI, Allowance::default()).unwrap();
    assert_eq!(reply.status, Some(ReplyStatus::WrongEpoch));
    assert_eq!(text(&reply.lines), "Seq: a.7.1\r\n");
    assert!(
        matches!(reply.body, ReplyBody::Heartbeat(hello) if hello.kind == HeartbeatKind::Hello)
    );
    assert_eq!(
        replies(&mut sender, MILLI),
        [],
        "a later run answers for itself"
    );
}

fn claim_of(epoch: u64, nonce: u64) -> NameNotice {
    NameNotice {
        kind: NoticeKind::Claim,
        epoch,
        nonce,
        lead: 0,
    }
}

#[test]
fn a_higher_claim_fences_the_source_which_says_so_and_repairs_for_the_linger() {
    let mut sender = sender_with(|options| options.nonce = Some(1));
    let _ = sender.poll_heartbeat(MILLI);
    assert_eq!(sender.poll_claim(MILLI), Some(claim_of(7, 1)));
    send(&mut sender, MILLI).unwrap();
    sender.handle_notice(MILLI, Some(b"_INBOX.c"), &claim_of(9, 2));
    let answer = sender.poll_reply(MILLI, Allowance::default()).unwrap();
    let fenced = NameNotice {
        kind: NoticeKind::Fenced,
        lead: 1,
        ..claim_of(7, 1)
    };
    assert_eq!(answer.body, ReplyBody::Notice(fenced));
    assert_eq!(send(&mut sender, MILLI), Err(SendError::Fenced { by: 9 }));
    let beat = sender.poll_heartbeat(MILLI).unwrap();
    assert_eq!((beat.kind, beat.lead), (HeartbeatKind::Fenced { by: 9 }, 1));
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"1");
    assert_eq!(replies(&mut sender, MILLI).len(), 2);
    while let Some(due) = sender
        .poll_timeout()
        .filter(|_| !sender.is_finished(MILLI * 9_000))
    {
        let _ = sender.poll_heartbeat(due);
    }
    assert_eq!(sender.poll_claim(MILLI * 99_000), None, "it holds nothing");
}

#[test]
fn a_holder_answers_questions_and_lower_claims_and_insists_after_a_reconnect() {
    let mut sender = sender_with(|options| options.nonce = Some(1));
    let _ = sender.poll_claim(MILLI);
    assert_eq!(sender.poll_claim(MILLI), None);
    let ask = NameNotice {
        kind: NoticeKind::Ask,
        ..claim_of(9, 2)
    };
    for (notice, insists) in [(ask, false), (claim_of(6, 2), true)] {
        sender.handle_notice(MILLI, Some(b"_INBOX.c"), &notice);
        let answer = sender.poll_reply(MILLI, Allowance::default()).unwrap();
        let owner = NameNotice {
            kind: NoticeKind::Owner,
            ..claim_of(7, 1)
        };
        assert_eq!(answer.body, ReplyBody::Notice(owner));
        assert_eq!(sender.poll_claim(MILLI).is_some(), insists);
    }
    sender.handle_notice(MILLI, Some(b"_INBOX.c"), &claim_of(7, 1));
    assert_eq!(replies(&mut sender, MILLI), [], "its own word");
    sender.handle_disconnected();
    assert_eq!(sender.poll_claim(MILLI * 99_000), None);
    sender.handle_connected(MILLI);
    assert_eq!(sender.poll_claim(MILLI), Some(claim_of(7, 1)));
    assert!(send(&mut sender, MILLI).is_ok());
}

#[test]
fn the_next_run_says_where_this_one_has_ended() {
    let mut before = sender(9);
    for _ in 0..3 {
        send(&mut before, MILLI).unwrap();
    }
    before.close(MILLI);
    let mut after = Sender::new(before.successor(8), 1, MILLI);
    assert_eq!(send(&mut before, MILLI), Err(SendError::Closed));
    after.handle_connected(MILLI);
    let hello = after.poll_heartbeat(MILLI).unwrap();
    assert_eq!(hello.prior, Some(Prior { epoch: 7, lead: 3 }));
    assert_eq!((after.epoch(), send(&mut after, MILLI)), (8, Ok(1)));
    before.handle_request(MILLI, Some(b"_INBOX.r"), b"2");
    assert_eq!(replies(&mut before, MILLI).len(), 2, "it still repairs");
}

#[test]
fn a_question_is_answered_with_a_heartbeat() {
    let mut sender = sender(9);
    send(&mut sender, MILLI).unwrap();
    sender.handle_request(MILLI, Some(b"_INBOX.r"), b"?");
    let reply = sender.poll_reply(MILLI, Allowance::default()).unwrap();
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

/// Longer than it lingers: who hears of the end then may still ask.
#[test]
fn a_source_that_ended_in_a_long_outage_says_so_and_repairs_after_it() {
    let mut sender = sender(9);
    send(&mut sender, MILLI).unwrap();
    sender.handle_disconnected();
    sender.close(MILLI);
    let long = MILLI * 30_000;
    assert!(!sender.is_finished(long) && !sender.has_announced_end());
    assert!(sender.poll_timeout().unwrap() > long);
    sender.handle_connected(long);
    let end = sender.poll_heartbeat(long).unwrap();
    assert_eq!((end.kind, end.lead), (HeartbeatKind::End, 1));
    assert!(sender.has_announced_end());
    sender.handle_request(long + MILLI * 1_900, Some(b"_INBOX.r"), b"1");
    assert_eq!(replies(&mut sender, long + MILLI * 1_900).len(), 2);
    while let Some(due) = sender
        .poll_timeout()
        .filter(|due| !sender.is_finished(*due))
    {
        let _ = sender.poll_heartbeat(due);
        assert!(due < long + MILLI * 4_000);
    }
}

#[test]
fn a_source_that_ended_without_a_connection_does_not_wait_for_one_for_ever() {
    let mut sender = sender(9);
    sender.handle_disconnected();
    sender.close(MILLI);
    let due = sender.poll_timeout().unwrap();
    assert_eq!(due, MILLI * 60_001);
    assert!(sender.is_finished(due) && !sender.has_announced_end());
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
