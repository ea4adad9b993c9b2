//! Tests of what is asked, and what answers are taken for: one story each.

use core::time::Duration;
use std::collections::VecDeque;

use super::{Line, is_of_archive};
use crate::sequence::SourceName;
use crate::sequence::story::{MILLI, Story};
use crate::sequence::{Delivery, HeartbeatKind, Prior};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn numbers_of_requests_begin_anew_after_32_767_and_never_look_like_an_archive_s() {
    let name = SourceName::new("a").unwrap();
    let mut line = Line::<u64>::new(name, 7, 1, Duration::ZERO);
    let mut now = Duration::ZERO;
    for asked in 0..70_000_u32 {
        now += SECOND * 5;
        let number = line.take_question(now).unwrap();
        assert_eq!(u32::from(number), asked % 32_767 + 1);
        assert!(!is_of_archive(number));
        assert_eq!(line.known_before(number), Some(0));
    }
}

#[test]
fn what_the_source_never_sent_is_not_lost() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1]).beat(HeartbeatKind::Beat, 1_000);
    assert_eq!(story.told(), "epoch7 1 gap2-1000");
    story.data(&[2]);
    assert_eq!(story.request().as_deref(), Some("3-1000"));
    story.end_with(1, 204, &[("Seq", "a.7.4")]);
    assert_eq!(story.told(), "2 unsent5-1000");
    assert_eq!((story.line().highest, story.line().undecided), (4, 2));
    story.data(&[5]);
    assert_eq!(story.told(), "5", "its numbers go on from there");
}

#[test]
fn a_made_up_message_costs_no_loss_before_it() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 90]);
    assert_eq!(story.request().as_deref(), Some("2-89"));
    story.end_with(1, 204, &[("Seq", "a.7.1")]);
    assert_eq!(story.told(), "epoch7 1 gap2-89 90 unsent2-90");
    story.wait(SECOND * 6);
    let line = story.line();
    assert_eq!((line.lost, line.unverifiable, line.withdrawn), (0, 0, 1));
}

#[test]
fn the_late_end_of_an_earlier_request_ends_no_later_one() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]);
    assert_eq!(story.request().as_deref(), Some("2"));
    story.wait(MILLI * 100).data(&[9]);
    assert_eq!(story.request().as_deref(), Some("2,4-8"));
    story.end_with(1, 204, &[("Seq", "a.7.3")]);
    assert_eq!(story.told(), "epoch7 1 gap2-2 3 gap4-8 9");
    assert_eq!(story.request(), None, "the later one is under way");
}

#[test]
fn a_source_that_says_not_now_is_not_pressed() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]);
    for (number, pause) in [(1, 80), (2, 100), (3, 200), (4, 400), (5, 400)] {
        assert_eq!(story.request().as_deref(), Some("2"));
        story.end_with(number, 429, &[("Seq-Retry", "80")]);
        story.wait(MILLI * (pause * 3 / 4 - 1));
        assert_eq!(story.request(), None);
        story.wait(MILLI * (pause / 2 + 2));
    }
    assert_eq!(story.line().lost, 0);
}

#[test]
fn the_time_in_which_we_were_busy_makes_no_answer_slow() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]);
    assert_eq!(story.request().as_deref(), Some("2"));
    story.pause(MILLI * 900);
    assert_eq!(story.request(), None, "its answer may wait for us");
    story.end(0, "");
    story.wait(MILLI * 45);
    assert_eq!(story.request().as_deref(), Some("2"));
    story.wait(MILLI * 55);
    assert_eq!(story.request().as_deref(), Some("2"), "asked again soon");
}

#[test]
fn a_path_slower_than_we_are_patient_is_learned_and_leaves_time_for_many_attempts() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]);
    let mut attempts = 0;
    for _ in 0..25 {
        attempts += u32::from(story.request().is_some());
        story.wait(MILLI * 10);
    }
    assert!(attempts > 5, "only {attempts} while nothing is known");
    story.end_with(1, 204, &[]);
    attempts = 0;
    while !story.told().contains("lost2-2:timeout") {
        attempts += u32::from(story.request().is_some());
        story.wait(MILLI * 10);
    }
    assert!((8..16).contains(&attempts), "{attempts} attempts");
}

#[test]
fn a_question_that_is_refused_waits_too() {
    let mut story = Story::new(Delivery::Immediate);
    story.data(&[1, 3]);
    assert_eq!(story.request().as_deref(), Some("?"));
    story.end_with(1, 429, &[("Seq-Retry", "900")]);
    story.wait(MILLI * 899);
    assert_eq!(story.request(), None);
    story.wait(MILLI);
    assert_eq!(story.request().as_deref(), Some("?"));
}

#[test]
fn a_run_that_a_later_one_disowns_has_lost_its_gaps_when_it_is_quiet() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]).told();
    let began = story.now;
    let mut refusals = 0;
    let told = loop {
        while let Some(asked) = story.request() {
            if asked == "2" {
                refusals += 1;
                story.wrong_epoch(8).wrong_epoch(8);
            }
        }
        match story.told() {
            told if told.contains("lost") => break told,
            told => assert!(["", "epoch8", "silent"].contains(&told.as_str()), "{told}"),
        }
        story.wait(MILLI * 5);
    };
    assert_eq!(told, "lost2-2:source_gone");
    let took = story.now - began;
    assert!((SECOND * 2..SECOND * 3).contains(&took), "{took:?}");
    assert!((4..12).contains(&refusals), "{refusals}");
}

#[test]
fn a_path_slower_than_we_are_patient_keeps_no_disowned_run_alive() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]).told();
    let (mut answers, mut requests) = (VecDeque::new(), 0);
    let told = loop {
        while let Some(asked) = story.request() {
            if asked == "2" {
                requests += 1;
                answers.push_back((story.now + MILLI * 80, story.asked));
            }
        }
        while let Some((_, asked)) =
            answers.pop_front_if(|answer: &mut (Duration, u64)| answer.0 <= story.now)
        {
            let latest = core::mem::replace(&mut story.asked, asked);
            story.wrong_epoch(8).asked = latest;
        }
        let told = story.told();
        if told.contains("lost") {
            break told;
        }
        story.wait(MILLI * 5);
    };
    assert_eq!(told, "lost2-2:source_gone");
    assert!(requests < 40, "{requests}");
}

/// The later run's word is the faster one every time, and twice the only one.
#[test]
fn a_run_that_lingers_beside_a_later_one_is_asked_on() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 30]).told();
    for number in 2..30 {
        while story.request().as_deref() != Some(&*format!("{number}-29")) && number < 29 {
            story.wait(MILLI);
        }
        story.wrong_epoch(8);
        story.wait(MILLI * 300);
        while story.request().is_some() {}
        story.wrong_epoch(8).repair(0, &[number]).wait(MILLI * 300);
        let told = story.told().replace("epoch8 ", "");
        assert_eq!(told, format!("r{number}"));
    }
}

#[test]
fn what_comes_without_the_heartbeat_of_a_later_run_ends_nothing() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 3]).told();
    for _ in 0..100 {
        while story.request().is_some() {}
        let asked = story.asked();
        story.end_with(asked, 409, &[("Seq", "a.8.0")]);
        story.wait(MILLI * 40);
    }
    assert_eq!(story.told(), "silent", "it is asked for until the timeout");
}

#[test]
fn nothing_of_it_is_retained_even_where_no_list_says_so() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 4]);
    assert_eq!(story.request().as_deref(), Some("2-3"));
    story.end_with(1, 404, &[]);
    assert_eq!(story.told(), "epoch7 1 gap2-3 4 lost2-3:not_retained");
}

#[test]
fn what_would_change_everything_is_asked_of_the_source() {
    let mut story = Story::new(Delivery::Immediate);
    story.hello().data(&[1, 2]);
    story.heartbeat(7, HeartbeatKind::Beat, 2, ">", None);
    assert_eq!(story.request().as_deref(), Some("?"));
    story.beat(HeartbeatKind::End, 1);
    story.data(&[4]);
    assert_eq!(story.told(), "epoch7 1 2 gap3-3 4", "neither is believed");
    let prior = Some(Prior {
        epoch: 7,
        lead: 1 << 50,
    });
    story.heartbeat(8, HeartbeatKind::Hello, 0, "d.x", prior);
    assert_eq!(story.told(), "epoch8", "nor is this");
}
