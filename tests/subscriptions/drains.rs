//! Ending in good order: what is under way arrives, what was published is written, and it is told.

use std::time::Duration;

use natseq::client::{ConnectOptions, DrainStage, ErrorKind, Event, Status, connect};

use crate::{
    connected, disconnected, hears_numbers_and_the_end, next, next_or_end, publish_numbers,
    started, text, until, wait_for, within,
};

#[tokio::test]
async fn a_drained_subscription_is_over_when_its_last_message_is_taken() {
    for server in started("drained subscription", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut sub = client.subscribe("d").unwrap();
        publish_numbers(&client, "d", 3).await;
        let short = sub.drained(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(short.kind(), ErrorKind::Timeout, "{}", server.version());
        let done = tokio::spawn(sub.drained(crate::support::PATIENCE));
        sub.drain().await.unwrap();
        client.publish("d", "late").await.unwrap();
        for number in 0..3 {
            assert!(!done.is_finished(), "{}", server.version());
            assert_eq!(text(&next(&mut sub).await), number.to_string());
        }
        // Without another look at the subscription.
        done.await.unwrap().unwrap();
        assert!(
            next_or_end(&mut sub).await.is_none(),
            "{}",
            server.version()
        );
        client.close().await;
    }
}

#[tokio::test]
async fn a_subscription_that_drains_is_not_restored() {
    for mut server in started("drain and reconnect", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let sub = client.subscribe("d").unwrap();
        client.flush().await.unwrap();
        server.kill();
        disconnected(&mut events).await;
        let lost = sub.drain().await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Disconnected, "{}", server.version());
        server.restart();
        connected(&mut events).await;
        let nobody = client.request("d", "").await.unwrap_err();
        assert_eq!(
            nobody.kind(),
            ErrorKind::NoResponders,
            "{}",
            server.version()
        );
        client.close().await;
    }
}

/// A drain asks the server to stop at once; what stood before is no more than the number that was asked for.
#[tokio::test]
async fn a_drain_gives_a_limited_subscription_its_number_and_no_more() {
    for server in started("drain of limited subscriptions", "") {
        let client = connect(&server.url()).await.unwrap();
        let limited = |max| client.subscription("d").delivered_max(max).subscribe();
        let mut done = limited(10).unwrap();
        let mut undone = limited(100).unwrap();
        publish_numbers(&client, "d", 50).await;
        let mut events = client.events();
        let draining = tokio::spawn({
            let client = client.clone();
            async move { client.drain().await }
        });
        for (sub, expected) in [(&mut done, 10), (&mut undone, 50)] {
            for number in 0..expected {
                assert!(!draining.is_finished(), "{}", server.version());
                assert_eq!(text(&next(sub).await), number.to_string());
            }
            assert!(next_or_end(sub).await.is_none(), "{}", server.version());
        }
        within(draining).await.unwrap().unwrap();
        let end = wait_for(&mut events, |event| matches!(event, Event::Drained { .. })).await;
        let expected = Event::Drained {
            discarded_messages: 0,
            untaken_messages: 0,
        };
        assert_eq!(end, expected, "{}", server.version());
    }
}

#[tokio::test]
async fn a_drain_waits_for_what_is_in_hand_and_then_says_so() {
    for server in started("drain with a batch in hand", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut sub = client.subscribe("d").unwrap();
        publish_numbers(&client, "d", 3).await;
        next(&mut sub).await;
        let draining = tokio::spawn({
            let client = client.clone();
            async move { client.drain().await }
        });
        let stage = DrainStage::Subscriptions;
        assert_eq!(
            wait_for(&mut events, is_drain).await,
            Event::Draining { stage }
        );
        until("the state", || {
            client.status() == Status::DrainingSubscriptions
        })
        .await;
        let refused = client.subscribe("late").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed, "{}", server.version());
        client.publish("other", "still possible").await.unwrap();
        assert_eq!(text(&next(&mut sub).await), "1", "{}", server.version());
        assert!(!draining.is_finished(), "{}", server.version());
        assert_eq!(text(&next(&mut sub).await), "2", "{}", server.version());
        within(draining).await.unwrap().unwrap();
        let stage = DrainStage::Publishing;
        assert_eq!(
            wait_for(&mut events, is_drain).await,
            Event::Draining { stage }
        );
        let drained = Event::Drained {
            discarded_messages: 0,
            untaken_messages: 0,
        };
        assert_eq!(wait_for(&mut events, is_drain).await, drained);
        within(async {
            while !matches!(
                events.next().await,
                Some(Event::Closed { reason: None, .. })
            ) {}
        })
        .await;
        assert_eq!(client.status(), Status::Closed, "{}", server.version());
        assert!(client.drain().await.is_ok(), "{}", server.version());
    }
}

#[tokio::test]
async fn a_drain_that_takes_too_long_says_what_was_not_taken() {
    for server in started("drain timeout", "") {
        let options = ConnectOptions::new().drain_timeout(Duration::from_millis(50));
        let client = options.connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut sub = client.subscribe("d").unwrap();
        publish_numbers(&client, "d", 3).await;
        let late = client.drain().await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{}", server.version());
        let drained = wait_for(&mut events, |event| matches!(event, Event::Drained { .. })).await;
        let expected = Event::Drained {
            discarded_messages: 0,
            untaken_messages: 3,
        };
        assert_eq!(drained, expected, "{}", server.version());
        hears_numbers_and_the_end(&mut sub, 3, server.version()).await;
    }
}

#[tokio::test]
async fn a_drain_without_a_connection_ends_at_once_and_says_what_is_lost() {
    for mut server in started("drain without a connection", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut sub = client.subscribe("d").unwrap();
        publish_numbers(&client, "d", 2).await;
        server.kill();
        disconnected(&mut events).await;
        for _ in 0..5 {
            client.publish("d", "never written").await.unwrap();
        }
        let lost = within(client.drain()).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Disconnected, "{}", server.version());
        let source = std::error::Error::source(&lost).unwrap().to_string();
        assert_eq!(source, "5 published messages were discarded");
        let drained = wait_for(&mut events, |event| matches!(event, Event::Drained { .. })).await;
        let expected = Event::Drained {
            discarded_messages: 5,
            untaken_messages: 0,
        };
        assert_eq!(drained, expected, "{}", server.version());
        hears_numbers_and_the_end(&mut sub, 2, server.version()).await;
    }
}

#[tokio::test]
async fn repairs_and_answers_go_on_while_others_drain() {
    for server in started("what drains last", "") {
        let client = connect(&server.url()).await.unwrap();
        let other = connect(&server.url()).await.unwrap();
        let mut slow = client.subscribe("slow").unwrap();
        let mut service = other.subscribe_confirmed("service").await.unwrap();
        let publisher = client
            .sequenced_publisher("seq.x")
            .unwrap()
            .start()
            .unwrap();
        publish_numbers(&client, "slow", 1).await;
        let asking = tokio::spawn({
            let client = client.clone();
            async move { client.request("service", "").await }
        });
        let question = next(&mut service).await;
        let draining = tokio::spawn({
            let client = client.clone();
            async move { client.drain().await }
        });
        until("it drains", || {
            client.status() == Status::DrainingSubscriptions
        })
        .await;
        other.flush().await.unwrap();
        // The source still answers those who miss something.
        let repairs = format!("_SEQ.RX.{}.{}", publisher.source(), publisher.epoch());
        let answer = other.request(repairs.as_str(), "?").await.unwrap();
        assert!(answer.headers().is_some(), "{}", server.version());
        assert_eq!(text(&next(&mut slow).await), "0", "{}", server.version());
        until("the mailbox is over", || {
            client.statistics().subscriptions > 0
        })
        .await;
        assert!(!draining.is_finished(), "{}", server.version());
        let reply = std::str::from_utf8(question.reply().unwrap()).unwrap();
        other.publish(reply, "answer").await.unwrap();
        let answer = within(asking).await.unwrap().unwrap();
        assert_eq!(text(&answer), "answer", "{}", server.version());
        within(draining).await.unwrap().unwrap();
        other.close().await;
    }
}

const fn is_drain(event: &Event) -> bool {
    matches!(event, Event::Draining { .. } | Event::Drained { .. })
}
