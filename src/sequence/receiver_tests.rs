//! Tests of the receiver: one story each.

#![expect(clippy::arithmetic_side_effects, reason = "test arithmetic")]

use super::*;
use crate::sequence::{HeartbeatKind, LossReason, Origin};

const MILLI: Duration = Duration::from_millis(1);

impl Weight for u64 {
    fn weight(&self) -> usize {
        8
    }
}

struct Story {
    receiver: Receiver<u64>,
    now: Duration,
}

impl Story {
    fn new(delivery: Delivery) -> Self {
        Self::with(delivery, |_| {})
    }

    fn with(delivery: Delivery, change: impl FnOnce(&mut ReceiverOptions)) -> Self {
        let mut options = ReceiverOptions::new(Filter::new("d.>").unwrap());
        options.delivery = delivery;
        change(&mut options);
        Self {
            receiver: Receiver::new(options, 1, Duration::ZERO),
            now: MILLI,
        }
    }

    fn data(&mut self, seqs: &[u64]) -> &mut Self {
        self.data_of(7, seqs)
    }

    fn data_of(&mut self, epoch: u64, seqs: &[u64]) -> &mut Self {
        for seq in seqs {
            let stamp = format!("a.{epoch}.{seq}");
            self.receiver
                .handle_message(self.now, Some(stamp.as_bytes()), *seq);
        }
        self
    }

    fn beat(&mut self, kind: HeartbeatKind, lead: u64) -> &mut Self {
        self.heartbeat(7, kind, lead, "d.x", None)
    }

    fn heartbeat(
        &mut self,
        epoch: u64,
        kind: HeartbeatKind,
        lead: u64,
        scope: &str,
        prior: Option<Prior>,
    ) -> &mut Self {
        let scope = Filter::new(scope).unwrap();
        let next = MILLI * 40;
        let heartbeat = Heartbeat {
            kind,
            scope,
            lead,
            trail: 1,
            next,
            generation: 1,
            prior,
        };
        let stamp = format!("a.{epoch}.{lead}");
        self.receiver
            .handle_heartbeat(self.now, stamp.as_bytes(), &heartbeat);
        self
    }

    /// A heartbeat over the source's second connection.
    fn beat_again(&mut self, lead: u64) -> &mut Self {
        let heartbeat = Heartbeat {
            kind: HeartbeatKind::Hello,
            scope: Filter::new("d.x").unwrap(),
            lead,
            trail: 1,
            next: MILLI * 40,
            generation: 2,
            prior: None,
        };
        let stamp = format!("a.7.{lead}");
        self.receiver
            .handle_heartbeat(self.now, stamp.as_bytes(), &heartbeat);
        self
    }

    fn hello(&mut self) -> &mut Self {
        self.beat(HeartbeatKind::Hello, 0)
    }

    fn repair(&mut self, line: u64, seqs: &[u64]) -> &mut Self {
        for seq in seqs {
            let stamp = format!("a.7.{seq}");
            self.receiver
                .handle_repair(self.now, line, stamp.as_bytes(), *seq);
        }
        self
    }

    fn end(&mut self, line: u64, gone: &str) -> &mut Self {
        let gone = Some(gone.as_bytes()).filter(|gone| !gone.is_empty());
        let end = RepairEnd::parse(gone, None, None).unwrap();
        self.receiver.handle_repair_end(self.now, line, &end);
        self
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.receiver.handle_timeout(self.now);
        self
    }

    fn request(&mut self) -> Option<String> {
        let request = self.receiver.poll_request(self.now)?;
        Some(String::from_utf8(request.kind.to_payload()).unwrap())
    }

    /// Events as words: `1` delivered, `r2` repaired, `gap3-4`, `lost5-6:why`, others by name.
    fn told(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(event) = self.receiver.poll_event() {
            words.push(match event {
                Event::Message {
                    message,
                    origin:
                        Origin {
                            seq, is_repaired, ..
                        },
                } => {
                    assert_eq!(message, seq);
                    format!("{}{seq}", if is_repaired { "r" } else { "" })
                }
                Event::Unsequenced { .. } => "unsequenced".into(),
                Event::Gap { from, to, .. } => format!("gap{from}-{to}"),
                Event::Lost {
                    from, to, reason, ..
                } => format!("lost{from}-{to}:{}", reason.as_str()),
                Event::EpochStarted {
                    epoch,
                    is_tail_known,
                    ..
                } => {
                    format!("epoch{epoch}{}", if is_tail_known { "+" } else { "" })
                }
                Event::SourceSilent { .. } => "silent".into(),
                Event::SourceEnded { last_seq, .. } => format!("ended{last_seq}"),
                Event::Conflict { epoch, .. } => format!("conflict{epoch}"),
                Event::SourceEvicted { .. } => "evicted".into(),
            });
        }
        words.join(" ")
    }

    fn line(&self) -> LineStatistics {
        self.receiver.statistics().next().unwrap()
    }
}

#[test]
fn a_gap_is_asked_for_at_once_and_won_back() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 2, 5]);
    assert_eq!(story.told(), "epoch7 1 2 gap3-4 5");
    assert_eq!(story.request().as_deref(), Some("3-4"));
    assert_eq!(
        story.request(),
        None,
        "a request is asked once while its answer is awaited"
    );
    story.repair(0, &[3, 4]).end(0, "");
    assert_eq!(story.told(), "r3 r4");
    assert_eq!((story.line().repaired, story.line().undecided), (2, 0));
}

#[test]
fn a_heartbeat_reveals_a_lost_tail_and_a_lost_beginning() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[2]).beat(HeartbeatKind::Beat, 4);
    assert_eq!(story.told(), "epoch7 gap1-1 2 gap3-4");
    assert_eq!(story.request().as_deref(), Some("1,3-4"));
}

#[test]
fn order_is_kept_by_holding_what_comes_early() {
    let mut story = Story::new(Delivery::Ordered);
    story.hello().data(&[1, 3, 4, 6]);
    assert_eq!(story.told(), "epoch7 1 gap2-2 gap5-5");
    let _ = story.request();
    story.repair(0, &[2]);
    assert_eq!(story.told(), "r2 3 4");
    story.end(0, "5");
    assert_eq!(story.told(), "lost5-5:not_retained 6");
}

#[test]
fn what_the_hold_cannot_take_is_asked_for_again_and_nothing_is_lost() {
    let mut story = Story::with(Delivery::Ordered, |options| options.hold_messages_max = 2);
    story.hello().data(&[2, 3, 4, 5, 6]);
    assert_eq!(story.told(), "epoch7 gap1-1");
    assert_eq!(
        story.request().as_deref(),
        Some("1,4-6"),
        "a full hold asks on"
    );
    story.repair(0, &[1]);
    assert_eq!(story.told(), "r1 2 3");
    story.repair(0, &[4, 5, 6]);
    assert_eq!(story.told(), "r4 r5 r6");
}

#[test]
fn requests_are_repeated_without_a_limit_while_the_source_lives() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]);
    let _ = story.told();
    for round in 0..200 {
        assert!(story.request().is_some(), "round {round}");
        story.wait(MILLI * 200);
        if round % 20 == 19 {
            let next = story.line().highest + 2;
            story.data(&[next]).repair(0, &[next - 1]);
        }
    }
    assert_eq!(story.line().lost, 0);
}

#[test]
fn a_gap_that_nothing_is_won_back_from_is_lost_in_time() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]).wait(MILLI * 5_001);
    assert_eq!(story.told(), "epoch7 1 gap2-2 3 lost2-2:timeout silent");
    story.repair(0, &[2]);
    assert_eq!((story.told().as_str(), story.line().duplicates), ("", 1));
}

#[test]
fn time_without_a_connection_does_not_count() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]);
    story.receiver.handle_disconnected(story.now);
    story.wait(MILLI * 60_000);
    assert_eq!(story.request(), None);
    story.receiver.handle_connected(story.now);
    assert_eq!(story.request(), None, "not all receivers ask at once");
    story.wait(SCATTER_TIME);
    assert_eq!(story.told(), "epoch7 1 gap2-2 3");
    assert_eq!(story.request().as_deref(), Some("?"));
    assert_eq!(story.request().as_deref(), Some("2"));
}

#[test]
fn a_receiver_that_only_detects_reports_and_never_asks() {
    let mut story = Story::new(Delivery::DetectOnly);
    story.hello().data(&[1, 4]).wait(Duration::ZERO);
    assert_eq!(story.told(), "epoch7 1 gap2-3 4 lost2-3:missing");
    assert_eq!(story.request(), None);
}

#[test]
fn duplicates_are_dropped_and_counted() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 1, 2, 1, 2]);
    assert_eq!(story.told(), "epoch7 1 2");
    assert_eq!(story.line().duplicates, 3);
}

#[test]
fn a_late_joiner_owes_itself_nothing_from_before() {
    let mut story = Story::new(Delivery::Immediate);
    story.data(&[40, 41]).beat(HeartbeatKind::Beat, 41);
    assert_eq!(story.told(), "epoch7 40 41");
    assert_eq!(story.line().base, 40);
    let mut story = Story::new(Delivery::Immediate);
    story.beat(HeartbeatKind::Beat, 41).data(&[42]);
    assert_eq!(
        (story.told().as_str(), story.line().base),
        ("epoch7 42", 42)
    );
}

#[test]
fn gaps_are_no_news_before_the_scope_is_known_or_beyond_it() {
    let mut story = Story::new(Delivery::Immediate);
    story.data(&[1, 3]);
    assert_eq!(story.told(), "epoch7 1 3");
    assert_eq!(story.request().as_deref(), Some("?"));
    assert_eq!(story.request(), None);
    story.heartbeat(7, HeartbeatKind::Beat, 3, "d.x", None);
    assert_eq!(story.told(), "gap2-2");
    assert_eq!(story.request().as_deref(), Some("2"));

    let mut story = Story::new(Delivery::Immediate);
    story
        .data(&[1, 3])
        .heartbeat(7, HeartbeatKind::Beat, 9, ">", None)
        .data(&[20]);
    assert_eq!(story.told(), "epoch7 1 3 20");
    assert_eq!((story.line().lost, story.request()), (0, None));
    assert!(story.line().unverifiable > 0);
}

#[test]
fn a_member_of_a_group_gets_late_numbers_and_no_copies() {
    let mut story = Story::with(Delivery::Immediate, |options| options.is_shared = true);
    story
        .hello()
        .data(&[2, 9, 5, 9, 5, 300, 299, 10])
        .beat(HeartbeatKind::Beat, 400);
    assert_eq!(story.told(), "epoch7 2 9 5 300 299");
    assert_eq!((story.line().duplicates, story.request()), (3, None));
}

#[test]
fn what_the_source_no_longer_has_may_be_late_after_a_reconnect() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 4]);
    story.receiver.handle_disconnected(story.now);
    story.receiver.handle_connected(story.now);
    story.wait(SCATTER_TIME);
    assert_eq!(story.request().as_deref(), Some("?"));
    assert_eq!(story.request().as_deref(), Some("2-3"));
    story.end(0, "2-3").data(&[3]);
    assert_eq!(story.told(), "epoch7 1 gap2-3 4 3");
    story.wait(MILLI * 50);
    assert_eq!(story.told(), "lost2-2:not_retained");
}

#[test]
fn a_later_run_begins_at_one_and_the_tail_of_the_earlier_is_counted() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 2]);
    let prior = Some(Prior { epoch: 7, lead: 4 });
    story
        .heartbeat(8, HeartbeatKind::Hello, 0, "d.x", prior)
        .data_of(8, &[1, 2]);
    assert_eq!(story.told(), "epoch7 1 2 gap3-4 epoch8+ 1 2");
    assert_eq!(story.request().as_deref(), Some("3-4"));
    story.repair(0, &[3, 4]);
    assert_eq!(story.told(), "r3 r4 ended4");
    story.data_of(7, &[9]);
    assert_eq!(story.told(), "conflict7");
}

#[test]
fn a_source_that_ended_and_answers_no_more_has_lost_its_gaps() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]).beat(HeartbeatKind::End, 3);
    assert_eq!(story.told(), "epoch7 1 gap2-3");
    for _ in 0..20 {
        assert!(story.request().is_some());
        story.receiver.handle_no_responders(story.now, 0);
        story.wait(MILLI * 251);
    }
    assert_eq!(story.told(), "lost2-3:source_gone ended3");
    assert!(story.receiver.has_ended());
    story.data(&[1]).beat(HeartbeatKind::End, 3);
    assert!(story.receiver.has_ended(), "late copies change nothing");
    story.data_of(8, &[1]);
    assert!(!story.receiver.has_ended(), "there are events to take");
}

#[test]
fn a_live_source_between_two_connections_is_not_given_up() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]);
    let _ = story.told();
    for _ in 0..4 {
        assert!(story.request().is_some());
        story.receiver.handle_no_responders(story.now, 0);
        story.wait(MILLI * 250);
    }
    story.repair(0, &[2]);
    assert_eq!(story.told(), "r2");
}

#[test]
fn malformed_stamps_are_delivered_and_counted() {
    let mut story = Story::new(Delivery::Immediate);
    story.receiver.handle_message(story.now, None, 1);
    story.receiver.handle_message(story.now, Some(b"x"), 1);
    story.receiver.handle_message(story.now, Some(b"a.7.0"), 1);
    assert_eq!(story.told(), "unsequenced unsequenced unsequenced");
    assert_eq!(
        (story.receiver.unsequenced(), story.receiver.bad_stamps()),
        (1, 2)
    );
}

#[test]
fn a_forged_lead_is_not_believed_before_the_source_repeats_it() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]).beat(HeartbeatKind::Beat, 1 << 40);
    assert_eq!(story.told(), "epoch7 1");
    assert_eq!(story.request().as_deref(), Some("?"));
}

#[test]
fn tables_stay_within_their_bounds_and_say_so() {
    let mut story = Story::with(Delivery::Immediate, |options| {
        options.sources_max = 2;
        options.gaps_max = 2;
    });
    story.hello().data(&[1, 3, 5, 7]);
    assert_eq!(
        story.told(),
        "epoch7 1 gap2-2 3 gap4-4 5 gap6-6 lost2-2:overflow 7"
    );
    for source in ["b", "c"] {
        let stamp = format!("{source}.1.1");
        story
            .receiver
            .handle_message(story.now, Some(stamp.as_bytes()), 1);
    }
    assert!(story.told().contains("evicted"));
    assert_eq!(story.receiver.statistics().count(), 2);
}

#[test]
fn a_lost_reason_has_a_word() {
    assert_eq!(LossReason::NotRetained.as_str(), "not_retained");
}

#[test]
fn a_source_on_a_new_connection_is_given_time_for_its_late_bytes() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]).beat_again(3);
    assert_eq!(story.told(), "epoch7 1 gap2-3");
    assert_eq!(story.request(), None, "they may be on their way");
    story.data(&[2]);
    assert_eq!(story.told(), "2");
    story.wait(MILLI * 35);
    assert_eq!(story.request().as_deref(), Some("3"));
    story.end(0, "3").wait(MILLI * 10);
    assert_eq!(story.told(), "");
    story.data(&[3]);
    assert_eq!(story.told(), "3", "later than gone, and in time");
    story.data(&[5]).wait(MILLI * 35);
    let _ = story.request();
    story.end(0, "4").wait(MILLI * 51);
    assert_eq!(story.told(), "gap4-4 5 lost4-4:not_retained");
}

#[test]
fn a_member_of_a_group_keeps_the_account_and_the_order() {
    let mut story = Story::with(Delivery::Immediate, |options| options.is_shared = true);
    story.data(&[3, 9]).beat(HeartbeatKind::Beat, 12);
    story.data(&[5, 11, 5, 1, 12]).wait(MILLI * 9_000);
    assert_eq!(story.told(), "epoch7 3 9 5 11 1 12 silent");
    let line = story.line();
    assert_eq!((line.base, line.highest), (1, 12));
    assert_eq!(
        (line.delivered, line.unverifiable, line.duplicates),
        (6, 6, 1)
    );

    let mut story = Story::with(Delivery::Ordered, |options| options.is_shared = true);
    story.data(&[3, 9, 5, 10]);
    assert_eq!(story.told(), "epoch7 3 9 10", "too late for the order");
}

#[test]
fn a_gap_that_falls_apart_stays_within_the_bound() {
    let mut story = Story::with(Delivery::Immediate, |options| options.gaps_max = 2);
    story.hello().data(&[1, 10]);
    let _ = story.told();
    story.repair(0, &[3, 5, 7]);
    assert_eq!(
        story.told(),
        "r3 r5 lost2-2:overflow r7 lost4-4:overflow",
        "the oldest are given up"
    );
}

#[test]
fn a_long_stall_behind_a_full_hold_is_one_gap() {
    let mut story = Story::with(Delivery::Ordered, |options| {
        options.hold_messages_max = 1;
        options.gaps_max = 2;
    });
    story.hello();
    for seq in 2..50 {
        story.wait(MILLI).data(&[seq]);
    }
    assert_eq!(story.told(), "epoch7 gap1-1");
    story.wait(MILLI * 30);
    assert_eq!(story.request().as_deref(), Some("1,3-49"));
    story.repair(0, &(1..50).collect::<Vec<_>>());
    assert_eq!((story.line().delivered, story.line().lost), (49, 0));
}

#[test]
fn only_a_source_that_promised_to_be_heard_is_called_silent() {
    let mut story = Story::new(Delivery::Immediate);
    story.data(&[1]).wait(MILLI * 60_000);
    assert_eq!(story.told(), "epoch7 1");
    story.hello().wait(MILLI * 2_000);
    assert_eq!(story.told(), "silent");
}

#[test]
fn many_sources_are_not_all_asked_at_the_moment_of_a_reconnect() {
    let mut story = Story::new(Delivery::Immediate);
    for source in 0..100 {
        let stamp = format!("s{source}.1.1");
        let receiver = &mut story.receiver;
        receiver.handle_message(story.now, Some(stamp.as_bytes()), 1);
    }
    while story.request().is_some() {}
    story.receiver.handle_disconnected(story.now);
    story.receiver.handle_connected(story.now);
    let mut asked = Vec::new();
    for _ in 0..110 {
        story.wait(MILLI);
        asked.push(core::iter::from_fn(|| story.request()).count());
    }
    assert_eq!(asked.iter().sum::<usize>(), 100);
    assert!(asked.iter().all(|count| *count < 15), "{asked:?}");
}

#[test]
fn what_comes_out_of_a_buffer_without_a_connection_waits_no_longer_for_it() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]);
    story.receiver.handle_disconnected(story.now);
    story.wait(MILLI * 9_000).data(&[3]);
    story.wait(MILLI * 1_000);
    story.receiver.handle_connected(story.now);
    story.wait(SCATTER_TIME);
    assert_eq!(story.request().as_deref(), Some("?"));
    assert_eq!(story.request().as_deref(), Some("2"));
    story.wait(MILLI * 4_000);
    assert_eq!(story.told(), "epoch7 1 gap2-2 3 silent");
    story.wait(MILLI * 1_000);
    assert_eq!(story.told(), "lost2-2:timeout");
}

#[test]
fn an_answer_to_nothing_asked_leaves_no_timer_in_the_past() {
    let mut story = Story::new(Delivery::Immediate);
    story.data(&[1, 3, 5]);
    story.receiver.handle_disconnected(story.now);
    story.receiver.handle_connected(story.now);
    story.end(0, "2").wait(MILLI * 60);
    story.end(0, "4").wait(MILLI);
    while story.request().is_some() {}
    let due = story.receiver.poll_timeout();
    assert!(due.is_some_and(|due| due > story.now), "{due:?}");
}

#[test]
fn while_numbers_are_missing_their_scope_is_asked_for_without_pause() {
    let mut story = Story::new(Delivery::Immediate);
    story.data(&[1]);
    assert_eq!(story.request().as_deref(), Some("?"));
    story.data(&[3]);
    for _ in 0..20 {
        story.wait(MILLI * 200);
        assert_eq!(story.request().as_deref(), Some("?"), "{:?}", story.now);
        story.receiver.handle_no_responders(story.now, 0);
    }
    story.beat(HeartbeatKind::Beat, 3);
    assert_eq!(story.request().as_deref(), Some("2"));
}
