//! Tests of the table of sources: one story each.

use super::*;
use crate::sequence::story::{MILLI, Story, beat};
use crate::sequence::{Heartbeat, HeartbeatKind, Lacking, LossReason, Prior, Start};
use crate::subject::Filter;

#[test]
fn a_later_run_begins_at_one_and_the_tail_of_the_earlier_is_counted() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 2]);
    let prior = Some(Prior { epoch: 7, lead: 4 });
    story
        .heartbeat(8, HeartbeatKind::Hello, 0, "d.x", prior)
        .data_of(8, &[1, 2]);
    assert_eq!(story.told(), "epoch7 1 2 epoch8+ 1 2");
    story.prove(8, prior);
    assert_eq!(story.told(), "gap3-4");
    assert_eq!(story.request(), None, "they may be on another way to us");
    story.wait(MILLI * 36);
    assert_eq!(story.request().as_deref(), Some("3-4"));
    story.repair(0, &[3, 4]);
    assert_eq!(story.told(), "r3 r4 ended4");
    story.data_of(7, &[9]);
    assert_eq!(story.told(), "conflict7x1");
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
fn a_run_is_never_evicted_before_the_earlier_ones_of_its_source() {
    let mut story = Story::with(Delivery::Immediate, |options| options.sources_max = 2);
    // Nothing is undecided in the later: alone, it would be the one to go.
    story.hello().data(&[1, 3]).data_of(8, &[1, 2]);
    assert_eq!(story.told(), "epoch7 1 gap2-2 3 epoch8 1 2");
    story.receiver.handle_message(story.now, Some(b"b.1.1"), 1);
    assert_eq!(
        story.told(),
        "lost2-2:overflow evicted epoch1 1",
        "what was missing is told"
    );
    story.data_of(8, &[2, 3]).data(&[2]);
    assert_eq!(story.told(), "3 conflict7x1", "nothing is delivered again");
    story.wait(MILLI).data_of(8, &[5]);
    story.receiver.handle_message(story.now, Some(b"c.1.1"), 1);
    assert_eq!(story.told(), "5 evicted epoch1 1", "b is settled");
}

#[test]
fn an_idle_source_is_forgotten_with_all_its_runs() {
    let mut story = Story::with(Delivery::Immediate, |options| {
        options.sources_max = 2;
        options.idle_time = MILLI * 5_000;
    });
    story.data(&[1]).data_of(8, &[1]).told();
    story.wait(MILLI * 10).wait(MILLI * 5_000);
    assert_eq!(story.told(), "evicted evicted");
    story.data(&[9]);
    assert_eq!(story.told(), "epoch7 9", "and begins anew");
}

#[test]
fn gaps_of_all_runs_together_are_bounded() {
    let mut story = Story::with(Delivery::Immediate, |options| options.gaps_total_max = 3);
    story.hello().data(&[1, 3, 5]).told();
    let prior = None;
    story.heartbeat(8, HeartbeatKind::Hello, 0, "d.x", prior);
    story.data_of(8, &[1, 3]);
    assert_eq!(story.told(), "epoch8 1 gap2-2 3");
    story.data_of(8, &[5]);
    assert_eq!(
        story.told(),
        "gap4-4 lost2-2:overflow 5",
        "the oldest of the run that has one more"
    );
    story.repair(0, &[2]);
    story.data_of(8, &[7]);
    assert_eq!(story.told(), "r2 gap6-6 7", "a filled gap makes room");
}

#[test]
fn what_all_runs_hold_together_is_bounded() {
    let mut story = Story::with(Delivery::Ordered, |options| {
        // Three messages of eight bytes.
        options.hold_bytes_total_max = 24;
    });
    story.hello().data(&[1, 3, 4]);
    story.heartbeat(8, HeartbeatKind::Hello, 0, "d.x", None);
    story.data_of(8, &[1, 3, 4]).prove(8, None);
    assert_eq!(story.told(), "epoch7 1 gap2-2 epoch8 1 gap2-2");
    let undecided: Vec<u64> = story
        .receiver
        .statistics()
        .map(|line| line.undecided)
        .collect();
    assert_eq!(undecided, [3, 3], "nothing is given up");
    story.data_of(8, &[2]);
    assert_eq!(story.told(), "2 3", "the last was not held");
    assert_eq!(story.request().as_deref(), Some("4"), "it is asked for");
}

#[test]
fn an_end_decides_whatever_is_missing_and_hands_over_what_is_held() {
    let mut story = Story::new(Delivery::Ordered);
    story.hello().data(&[1, 3, 4]);
    assert_eq!(story.told(), "epoch7 1 gap2-2");
    story.receiver.finish(story.now);
    assert_eq!(story.told(), "lost2-2:closed 3 4");
    let line = story.line();
    assert!(
        line.is_balanced() && story.receiver.is_settled(),
        "{line:?}"
    );
    assert_eq!(line.lost_for(LossReason::Closed), 1);
    assert_eq!(story.request(), None);
    story.receiver.finish(story.now);
    assert_eq!(story.told(), "", "told once");

    let mut story = Story::new(Delivery::Ordered);
    story.data(&[1, 3]).told();
    story.receiver.finish(story.now);
    assert_eq!(story.told(), "unverified 3", "nothing proves a loss");

    let mut story = Story::new(Delivery::Ordered);
    story.receiver.handle_subscribed(story.now);
    story.wait(MILLI * 100).data(&[3, 4]);
    assert_eq!(story.told(), "epoch7", "it may begin lower");
    story.receiver.finish(story.now);
    assert_eq!(story.told(), "3 4");

    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]).beat(HeartbeatKind::End, 2).told();
    story.receiver.finish(story.now);
    assert_eq!(story.told(), "lost2-2:closed ended2");
}

#[test]
fn only_the_source_that_was_asked_tells_of_a_later_run_and_only_of_its_own() {
    let mut story = Story::with(Delivery::Immediate, |options| options.archive = true);
    story.hello().data(&[1, 3]).told();
    assert_eq!(story.request().as_deref(), Some("2"));
    let (source, archive) = (1, 1 | 1 << 15);
    let heartbeat = Heartbeat {
        kind: HeartbeatKind::Hello,
        ..beat(9)
    };
    let now = story.now;
    let mut tell = |line, stamp: &[u8]| {
        let receiver = &mut story.receiver;
        receiver.handle_wrong_epoch(now, line, stamp, &heartbeat);
        (story.told(), story.receiver.bad_stamps())
    };
    assert_eq!(tell(source, b"b.8.9"), (String::new(), 1), "another's");
    assert_eq!(tell(source, b"a.7.9"), (String::new(), 2), "the same run");
    assert_eq!(tell(source, b"a.6.9"), (String::new(), 3), "an earlier one");
    assert_eq!(tell(archive, b"a.8.9"), (String::new(), 4), "an archive");
    assert_eq!(tell(1 << 16, b"a.8.9"), (String::new(), 5), "not asked");
    assert_eq!(tell(source, b"a.8.9").0, "epoch8 gap1-9");
}

#[test]
fn a_lost_reason_has_a_word() {
    assert_eq!(LossReason::NotRetained.as_str(), "not_retained");
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
fn a_receiver_that_only_detects_asks_nothing_without_heartbeats_either() {
    let mut story = Story::new(Delivery::DetectOnly);
    story.data(&[1]);
    let reason = "Permissions Violation".to_owned();
    story.receiver.handle_refused(Lacking::Heartbeats, reason);
    for _ in 0..3 {
        story.wait(Duration::from_secs(1));
        assert_eq!(story.request(), None);
        assert!(story.receiver.poll_timeout().unwrap() > story.now);
    }
}

#[test]
fn a_run_that_answers_is_the_latest_though_an_earlier_one_was_heard_in_its_place() {
    let mut story = Story::new(Delivery::Immediate);
    story.data(&[1]).data_of(5, &[1]).wait(MILLI * 900);
    story.data(&[2]).wait(MILLI * 101).data_of(5, &[2]);
    story.prove(7, None).told();
    story.data(&[3]);
    assert_eq!(story.told(), "3");
}

#[test]
fn the_base_is_not_settled_while_nothing_may_be_asked() {
    let mut story = Story::new(Delivery::Ordered);
    story.receiver.handle_subscribed(story.now);
    story.wait(Duration::from_millis(10));
    story.receiver.handle_dropped(story.now, 3);
    story.data(&[4]).wait(Duration::from_millis(600));
    story.receiver.handle_room(story.now);
    story.wait(Duration::from_millis(1));
    assert_eq!(story.request().as_deref(), Some("?"));
    story.answer(1, 4, 1, Duration::from_millis(1));
    assert_eq!(story.told(), "epoch7 gap1-3");
}

#[test]
fn without_heartbeats_sources_are_asked_for_their_leads() {
    let mut story = Story::new(Delivery::Immediate);
    let reason = "refused".to_owned();
    story.receiver.handle_refused(Lacking::Heartbeats, reason);
    story.data(&[1]);
    assert_eq!(story.told(), "heartbeats epoch7 1");
    let mut asked = 0;
    for step in 0..40 {
        while let Some(request) = story.receiver.poll_request(story.now) {
            assert_eq!(request.kind, RequestKind::Heartbeat, "nothing is missing");
            asked += 1;
            story.answer(request.line, 1, 1, MILLI * 60_000);
        }
        assert_eq!(story.told(), "", "nor is it silent: {step}");
        story.wait(MILLI * 100);
    }
    assert!(
        (3..=5).contains(&asked),
        "{asked} questions in four seconds"
    );
    story.wait(MILLI * 1_100);
    let request = story.receiver.poll_request(story.now).unwrap();
    story.answer(request.line, 3, 1, MILLI * 60_000);
    assert_eq!(story.told(), "gap2-3");
    story.receiver.handle_disconnected(story.now);
    story.receiver.handle_connected(story.now);
    story.answer(0, 3, 1, MILLI).repair(0, &[2, 3]).told();
    while story.receiver.poll_request(story.now).is_some() {}
    story.wait(MILLI * 1_100);
    assert_eq!(story.request(), None, "they may come by themselves now");
}

#[test]
fn a_source_of_which_a_part_is_seen_is_not_silent_because_heartbeats_are_refused() {
    let mut story = Story::new(Delivery::Immediate);
    story.data(&[1]);
    story.heartbeat(7, HeartbeatKind::Beat, 3, ">", None).told();
    let reason = "refused".to_owned();
    story.receiver.handle_refused(Lacking::Heartbeats, reason);
    assert_eq!(story.told(), "heartbeats");
    let mut asked = 0;
    for _ in 0..100 {
        while let Some(request) = story.receiver.poll_request(story.now) {
            asked += 1;
            story.answer(request.line, 3, 1, MILLI * 60_000);
        }
        assert_eq!(story.told(), "", "after {asked} questions");
        story.wait(MILLI * 100);
    }
    assert!((7..=13).contains(&asked), "{asked} in ten seconds");
    story.wait(MILLI * 4_200);
    assert_eq!(story.told(), "silent", "without an answer");
}

#[test]
fn a_run_that_does_not_prove_itself_ends_no_other() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]).told();
    let forged = 1 << 52;
    let prior = Some(Prior { epoch: 7, lead: 9 });
    for seq in 2..20 {
        story.heartbeat(forged, HeartbeatKind::Hello, 0, "d.x", prior);
        story.data_of(forged, &[seq]).data(&[seq]);
        while let Some(request) = story.receiver.poll_request(story.now) {
            assert_eq!(request.epoch, forged, "the other is well");
            story.receiver.handle_no_responders(story.now, request.line);
        }
        story.wait(MILLI * 300);
    }
    let told = story.told();
    assert!(
        !told.contains("conflict") && !told.contains("ended"),
        "{told}"
    );
    assert_eq!(story.line().delivered, 19, "the source is heard as before");
    story.prove(forged, None).data(&[20]);
    assert_eq!(story.told(), "conflict7x1", "but now it has given way");
}

#[test]
fn whoever_only_detects_takes_data_and_a_heartbeat_for_proof() {
    let mut story = Story::new(Delivery::DetectOnly);
    story.hello().data(&[1]);
    for _ in 0..3 {
        story.heartbeat(8, HeartbeatKind::Hello, 0, "d.x", None);
    }
    story.data(&[2]).data_of(8, &[1]).data(&[3]);
    assert_eq!(story.told(), "epoch7 1 epoch8 2 1 3");
    story.heartbeat(8, HeartbeatKind::Beat, 1, "d.x", None);
    story.data(&[4]);
    assert_eq!(story.told(), "conflict7x1");
}

#[test]
fn a_run_that_gave_way_is_owed_its_end_and_not_what_it_sends_beside_the_later_one() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]);
    story.heartbeat(8, HeartbeatKind::Hello, 0, "d.x", None);
    story.data_of(8, &[1]).prove(8, None);
    assert_eq!(story.told(), "epoch7 1 epoch8 1");
    story.data(&[2, 3]).beat(HeartbeatKind::Beat, 3);
    story.wait(MILLI * 50);
    assert_eq!(
        (story.told().as_str(), story.request()),
        ("conflict7x1", None)
    );
    story.beat(HeartbeatKind::End, 3);
    assert_eq!(story.told(), "gap2-3", "it has ended after all");
}

#[test]
fn a_run_that_gave_way_is_followed_again_when_the_later_one_is_silent() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]);
    story.heartbeat(8, HeartbeatKind::Hello, 0, "d.x", None);
    story.data_of(8, &[1]).prove(8, None).told();
    story.data(&[2]).wait(MILLI * 999).data(&[3]);
    assert_eq!(story.told(), "conflict7x1", "it may still be there");
    story.wait(MILLI).data(&[4]).data(&[5]);
    assert_eq!(story.told(), "gap2-3 4 5");
    let mut asked = core::iter::from_fn(|| story.request());
    assert!(asked.any(|asked| asked == "2-3"));
    story.repair(0, &[2, 3]);
    assert_eq!(story.told(), "r2 r3", "what was refused is won back");
    story.heartbeat(8, HeartbeatKind::Beat, 1, "d.x", None);
    story.data(&[6]);
    assert_eq!(story.told(), "conflict7x2", "the later one is back");
    assert_eq!(story.receiver.conflicts(), 3);
}

#[test]
fn a_clock_that_was_set_back_silences_a_source_for_a_second_only() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 2]);
    assert_eq!(story.told(), "epoch7 1 2");
    // The run of 7 is gone.
    story.wait(MILLI * 500);
    story.heartbeat(5, HeartbeatKind::Hello, 0, "d.x", None);
    story.data_of(5, &[1]).wait(MILLI * 499).data_of(5, &[2]);
    assert_eq!(story.told(), "conflict5x1", "it may still be there");
    story.wait(MILLI).data_of(5, &[3]);
    assert_eq!(story.told(), "epoch5 3");
    story.heartbeat(5, HeartbeatKind::Beat, 3, "d.x", None);
    assert_eq!(story.told(), "gap1-2", "what was dropped is asked for");
    let line = story.receiver.statistics().next().unwrap();
    assert_eq!((line.epoch, line.base, line.undecided), (5, 1, 2));
    assert_eq!(story.receiver.conflicts(), 3);
}

#[test]
fn a_run_that_was_only_away_takes_its_place_again() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]).wait(MILLI * 1_001);
    story.data_of(5, &[7]);
    assert_eq!(story.told(), "epoch7 1 epoch5 7");
    story.beat(HeartbeatKind::Beat, 2).data(&[3]);
    assert_eq!(story.told(), "gap2-2 3");
    story.prove(7, None).data_of(5, &[8]);
    assert_eq!(story.told(), "conflict5x1");
}

/// Of a source of which a part is seen: its run 8 has proven itself and taken the place of 7.
fn part_of_two_runs() -> Story {
    let mut story = Story::new(Delivery::Immediate);
    story.heartbeat(7, HeartbeatKind::Hello, 0, ">", None);
    story.data(&[1]);
    story.heartbeat(8, HeartbeatKind::Hello, 0, ">", None);
    story.data_of(8, &[1]).prove_in(">", 8, None).told();
    story
}

#[test]
fn a_source_of_which_a_part_is_seen_is_asked_before_it_is_taken_for_silent() {
    let mut story = part_of_two_runs();
    story.wait(MILLI * 1_500).data(&[2]);
    assert_eq!(story.told(), "silent conflict7x1");
    story.prove_in(">", 8, None).wait(MILLI * 999).data(&[3]);
    assert_eq!(story.told(), "", "it has answered");
    story.wait(MILLI).data(&[4]);
    assert_eq!(story.told(), "conflict7x1", "it is asked again");
    assert_eq!(story.request().as_deref(), Some("?"));
    story.wait(MILLI * 999).data(&[5]).wait(MILLI).data(&[6]);
    assert_eq!(story.told(), "conflict7x2 silent 6", "and has not answered");
}

#[test]
fn a_run_that_sends_again_behind_an_earlier_one_is_asked_and_comes_back() {
    let mut story = part_of_two_runs();
    story.wait(MILLI * 1_500).data(&[2]).wait(MILLI * 1_000);
    assert_eq!(story.data(&[3]).told(), "silent conflict7x1 3");
    story.prove_in(">", 7, None);
    story.data_of(8, &[2]).wait(MILLI);
    assert_eq!(story.told(), "conflict8x1");
    story.wait(MILLI * 1_000).prove_in(">", 8, None);
    story.data_of(8, &[3]).data(&[4]);
    assert_eq!(story.told(), "3 conflict7x1");
}

#[test]
fn a_run_that_cannot_be_asked_comes_back_by_what_it_sends() {
    for scope in ["d.x", ">"] {
        let mut story = Story::new(Delivery::DetectOnly);
        story.heartbeat(8, HeartbeatKind::Hello, 0, scope, None);
        story.data_of(8, &[1]);
        story.heartbeat(8, HeartbeatKind::Beat, 1, scope, None);
        story.wait(MILLI * 60_000).data(&[1]);
        assert!(story.told().ends_with("epoch7 1"));
        story.data_of(8, &[2]).data(&[2]);
        assert_eq!(story.told(), "2 conflict7x1", "{scope}");
    }
}

#[test]
fn whoever_was_first_and_proves_nothing_cannot_keep_the_source_out() {
    let mut story = Story::new(Delivery::Immediate);
    let forged = 1 << 52;
    for seq in 1..=4 {
        story.heartbeat(forged, HeartbeatKind::Hello, 0, "d.x", None);
        story.data(&[seq]).wait(MILLI * 300);
        while let Some(request) = story.receiver.poll_request(story.now) {
            story.receiver.handle_no_responders(story.now, request.line);
        }
    }
    story.data(&[5]);
    assert_eq!(
        story.told(),
        format!("epoch{forged} conflict7x1 conflict7x3 epoch7 5")
    );
}

#[test]
fn conflicts_are_told_once_in_a_second_and_all_are_counted() {
    let mut story = Story::new(Delivery::Immediate);
    story
        .hello()
        .data(&[1])
        .data_of(8, &[1])
        .prove(8, None)
        .told();
    for seq in 2..=1_001 {
        story.data(&[seq]);
    }
    assert_eq!(story.told(), "conflict7x1");
    story.wait(MILLI * 500).beat(HeartbeatKind::Beat, 1);
    assert_eq!(story.told(), "");
    story.heartbeat(8, HeartbeatKind::Beat, 1, "d.x", None);
    story.wait(MILLI * 501);
    assert_eq!(story.told(), "conflict7x999", "nothing is forgotten");
    assert_eq!(story.receiver.conflicts(), 1_000);
}

#[test]
fn an_end_that_was_made_up_ends_with_the_next_message() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 2]).beat(HeartbeatKind::End, 2);
    assert_eq!(story.told(), "epoch7 1 2 ended2");
    assert!(story.receiver.has_ended());
    story.data(&[3]);
    assert_eq!(story.told(), "3");
    assert!(!story.receiver.has_ended());
    story.wait(MILLI * 2_000);
    assert_eq!(story.told(), "silent", "it is watched again");
}

#[test]
fn what_was_forgotten_is_not_asked_for_again() {
    for start in [Start::Live, Start::Retained] {
        let mut story = Story::with(Delivery::Immediate, |options| {
            options.sources_max = 1;
            options.start = start;
        });
        story.receiver.handle_subscribed(story.now);
        story.wait(MILLI * 10).hello().data(&[1, 2]).told();
        story.receiver.handle_message(story.now, Some(b"b.1.1"), 1);
        story.told();
        story.wait(MILLI).data(&[3]);
        assert_eq!(story.told(), "evicted epoch7 3");
        while let Some(request) = story.receiver.poll_request(story.now) {
            if request.epoch == 7 {
                story.answer(request.line, 3, 1, MILLI * 2);
            }
        }
        assert_eq!((story.told().as_str(), story.line().base), ("", 3));
    }
}

#[test]
fn epochs_that_are_made_up_shorten_nothing_that_others_are_owed() {
    for start in [Start::Live, Start::Retained] {
        let mut story = Story::with(Delivery::Immediate, |options| options.start = start);
        story.receiver.handle_subscribed(story.now);
        story.wait(MILLI * 10).data(&[1, 2]);
        for epoch in 8..100 {
            story.data_of(epoch, &[1]);
        }
        let stamp = b"b.1.4";
        story.receiver.handle_message(story.now, Some(stamp), 4);
        while let Some(request) = story.receiver.poll_request(story.now) {
            if request.source.as_str() == "b" {
                story.answer_of("b.1", request.line, 4, 1, MILLI * 5);
            }
        }
        let told = story.told();
        assert!(told.ends_with(" 4 gap1-3"), "{told}");
        // What was forgotten itself is not begun anew.
        story.data_of(9, &[7]).wait(MILLI * 1_001).data_of(9, &[8]);
        assert!(story.told().ends_with("epoch9 8"));
        while let Some(request) = story.receiver.poll_request(story.now) {
            if request.epoch == 9 {
                story.answer_of("a.9", request.line, 8, 1, MILLI * 5);
            }
        }
        assert_eq!(story.told(), "gap7-7");
    }
}

#[test]
fn epochs_that_are_made_up_hang_on_no_endless_chain_and_end_no_other() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]).told();
    for epoch in 8..500 {
        story.data_of(epoch, &[1]);
        let runs = story.receiver.statistics().count();
        assert!(runs <= 16, "{runs} runs");
    }
    let told = story.told();
    let evicted = told.split(' ').filter(|word| *word == "evicted").count();
    assert_eq!(evicted, 500 - 7 - 16);
    assert!(!told.contains("lost"), "{told}");
    story.repair(0, &[2]).data(&[4]);
    assert_eq!(story.told(), "r2 4", "the source is heard as before");
}

/// Published to this subject.
struct Letter(String);

impl Weight for Letter {
    fn weight(&self) -> usize {
        8
    }

    fn subject(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[test]
fn what_is_remembered_of_subjects_is_bounded_for_all_sources_together() {
    let mut options = ReceiverOptions::new(Filter::new("d.>").unwrap());
    options.sources_max = 20;
    let mut receiver = Receiver::new(options, 1, Duration::ZERO);
    let scope = Filter::new(">").unwrap();
    let wide = Heartbeat { scope, ..beat(0) };
    let flood = |receiver: &mut Receiver<Letter>, source: &str| {
        receiver.handle_heartbeat(MILLI, format!("{source}.1.0").as_bytes(), &wide);
        receiver.handle_timeout(MILLI);
        while let Some(request) = receiver.poll_request(MILLI) {
            let stamp = format!("{}.1.0", request.source);
            receiver.handle_heartbeat_answer(MILLI, request.line, stamp.as_bytes(), &wide);
        }
        for seq in 1..=5_000 {
            let stamp = format!("{source}.1.{seq}.0");
            let letter = Letter(format!("d.{seq}"));
            receiver.handle_message(MILLI, Some(stamp.as_bytes()), letter);
        }
        while receiver.poll_event().is_some() {}
    };
    for source in 0..20 {
        flood(&mut receiver, &format!("s{source}"));
    }
    assert_eq!(receiver.load.subjects, SUBJECTS_TOTAL_MAX);
    for source in 20..40 {
        flood(&mut receiver, &format!("s{source}"));
    }
    assert_eq!(receiver.load.subjects, SUBJECTS_TOTAL_MAX, "and given back");
}
