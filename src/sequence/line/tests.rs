//! Tests of one run of one source: one story each.

use core::time::Duration;

use super::SCATTER_TIME;
use crate::sequence::story::{MILLI, Story};
use crate::sequence::{Cause, Delivery, Event, HeartbeatKind, LossReason, Receiver};

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
fn what_comes_and_finds_no_room_is_not_lost_with_the_number_that_it_waits_for() {
    let mut story = Story::with(Delivery::Ordered, |options| options.hold_messages_max = 1);
    story.hello().data(&[3]);
    assert_eq!(story.request().as_deref(), Some("1-2"));
    story.wait(MILLI * 900);
    for _ in 0..4 {
        story.repair(0, &[2]);
        story.wait(MILLI * 900);
    }
    assert_eq!(story.told(), "epoch7 gap1-2");
    let mut told = String::new();
    for _ in 0..150 {
        let _ = story.request();
        story.wait(MILLI * 10);
        told += &story.told();
    }
    assert_eq!(told, "lost1-1:timeoutsilent", "2 waits anew");
    story.repair(0, &[2]);
    assert_eq!(story.told(), "r2 3");
}

#[test]
fn what_comes_and_finds_no_room_costs_no_other_gap() {
    let mut story = Story::with(Delivery::Ordered, |options| {
        options.hold_messages_max = 1;
        options.gaps_max = 2;
    });
    story.hello().data(&[10]);
    assert_eq!(story.request().as_deref(), Some("1-9"));
    story.repair(0, &[3, 5, 7]);
    assert_eq!(story.told(), "epoch7 gap1-9");
    story.repair(0, &(1..10).collect::<Vec<_>>());
    assert_eq!((story.line().delivered, story.line().lost), (10, 0));
}

#[test]
fn time_in_which_nobody_asked_does_not_age_a_gap() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]);
    let _ = (story.told(), story.request());
    for _ in 0..10 {
        story.wait(MILLI * 400);
        story.now += MILLI * 60_000;
        story.receiver.handle_pause(story.now, MILLI * 60_000);
    }
    story.wait(MILLI * 900);
    assert_eq!(story.told(), "silent");
    assert_eq!(story.request().as_deref(), Some("2"));
    story.wait(MILLI * 200);
    assert_eq!(story.told(), "lost2-2:timeout");
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
fn a_long_outage_in_the_middle_of_a_repair_loses_nothing() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 9]);
    for seq in 2..6 {
        story.wait(MILLI * 4_000).repair(0, &[seq]);
    }
    story.receiver.handle_disconnected(story.now);
    story.wait(MILLI * 60_000);
    story.receiver.handle_connected(story.now);
    story.wait(MILLI * 4_000).repair(0, &[6, 7, 8]);
    assert_eq!((story.line().delivered, story.line().lost), (9, 0));
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
    assert_eq!(story.told(), "epoch7 1 3 partial 20");
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
fn a_forged_lead_is_not_believed_before_the_source_repeats_it() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]).beat(HeartbeatKind::Beat, 1 << 40);
    assert_eq!(story.told(), "epoch7 1");
    assert_eq!(story.request().as_deref(), Some("?"));
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

/// The causes of all gaps and losses that were told.
fn causes(receiver: &mut Receiver<u64>) -> Vec<&'static str> {
    let events = core::iter::from_fn(|| receiver.poll_event());
    let mut causes = Vec::new();
    for event in events {
        if let Event::Gap { cause, .. } | Event::Lost { cause, .. } = event {
            causes.push(cause.as_str());
        }
    }
    causes
}

#[test]
fn what_was_dropped_here_is_asked_for_when_there_is_room() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 2]);
    story.receiver.handle_dropped(story.now, 3);
    story.data(&[6]);
    assert_eq!(causes(&mut story.receiver), ["dropped_here"]);
    assert_eq!(
        (story.request(), story.receiver.poll_timeout()),
        (None, None)
    );
    story.wait(MILLI * 60_000);
    assert_eq!(story.told(), "", "nothing is given up meanwhile");
    story.receiver.handle_room(story.now);
    assert_eq!(story.request().as_deref(), Some("3-5"));
    story.data(&[7, 9]);
    assert_eq!(causes(&mut story.receiver), ["unknown"], "that was another");
    story.repair(0, &[3, 4]).end(0, "5");
    assert_eq!(story.told(), "r3 r4 lost5-5:not_retained");
    let line = story.line();
    assert_eq!(line.lost_by(Cause::DroppedHere), 1);
    assert_eq!(line.lost_for(LossReason::NotRetained), 1);
    assert_eq!((line.gaps, line.first_loss), (2, Some(story.now)));
    assert_eq!(story.receiver.dropped(), 3);
}

#[test]
fn a_drop_between_two_that_came_explains_nothing_later() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]);
    story.receiver.handle_dropped(story.now, 1);
    story.receiver.handle_room(story.now);
    story.beat(HeartbeatKind::Beat, 1).data(&[3]);
    assert_eq!(causes(&mut story.receiver), ["unknown"]);
    story.receiver.handle_dropped(story.now, 1);
    story.receiver.handle_room(story.now);
    story.repair(0, &[2]).data_of(8, &[2]);
    assert_eq!(causes(&mut story.receiver), Vec::<&str>::new());
    story.heartbeat(8, HeartbeatKind::Hello, 0, "d.x", None);
    assert_eq!(
        causes(&mut story.receiver),
        ["dropped_here"],
        "of a new run"
    );
}

#[test]
fn a_connection_that_was_away_is_the_cause_of_what_is_missing_after_it() {
    let mut story = Story::new(Delivery::DetectOnly);
    story.hello().data(&[1]);
    story.receiver.handle_disconnected(story.now);
    story.receiver.handle_connected(story.now);
    story.data(&[4, 6]).wait(MILLI * 100);
    assert_eq!(
        causes(&mut story.receiver),
        [
            "connection_window",
            "unknown",
            "connection_window",
            "unknown"
        ]
    );
    assert_eq!(story.line().lost_by(Cause::ConnectionWindow), 2);
}

#[test]
fn a_source_that_moved_tells_what_went_missing_with_its_connection() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]).beat_again(3).data(&[5]);
    assert_eq!(
        causes(&mut story.receiver),
        ["source_connection", "unknown"]
    );
}

#[test]
fn late_messages_and_repairs_are_counted_apart() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 4, 2, 2]).wait(MILLI * 3);
    assert_eq!(story.request().as_deref(), Some("3"));
    story.repair(0, &[3]);
    let line = story.line();
    assert_eq!((line.late, line.repaired, line.duplicates), (1, 1, 1));
    let took = line.repair_p50.unwrap();
    assert!(took > MILLI * 3 && took < MILLI * 4, "{took:?}");
    assert_eq!(line.repair_p99, line.repair_p50);
    assert_eq!((line.expected(), line.is_balanced()), (4, true));
}

#[test]
fn a_first_heartbeat_that_was_made_up_does_not_silence_a_source() {
    let announced = 1 << 40;
    for delivery in [Delivery::Immediate, Delivery::Ordered, Delivery::DetectOnly] {
        let mut story = Story::new(delivery);
        story.beat(HeartbeatKind::Beat, announced).data(&[4, 5]);
        assert_eq!(story.told(), "epoch7 4 5", "{delivery:?}");
    }
    let mut story = Story::with(Delivery::Immediate, |options| options.is_shared = true);
    story.beat(HeartbeatKind::Beat, announced).data(&[4, 5]);
    assert_eq!(story.told(), "epoch7 4 5");
    let mut story = Story::new(Delivery::Immediate);
    story.heartbeat(7, HeartbeatKind::Beat, announced, ">", None);
    story.chained(4, 1).chained(7, 5);
    assert_eq!(story.told(), "epoch7 partial 4 gap5-5 7");
    assert!(story.line().is_balanced());
    let mut story = Story::new(Delivery::Immediate);
    story.beat(HeartbeatKind::Beat, announced);
    story.answer(1, 3, 1, MILLI * 60_000).data(&[4]);
    assert_eq!(story.told(), "epoch7 4");
    assert_eq!((story.line().base, story.line().is_balanced()), (4, true));
}
