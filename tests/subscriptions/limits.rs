//! What may wait for a subscriber, what happens beyond, and how exactly it is counted.

use std::time::Duration;

use natseq::client::{ConnectOptions, Event, Events, Overflow, Subscription, connect};

use crate::support::{RealServer, VERSIONS};
use crate::{next, publish_numbers, started, text, until, wait_for, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sleeping_subscriber_misses_is_counted_exactly_and_others_miss_nothing() {
    for server in started("sleeping subscriber", "") {
        let is_newest = server.version() == VERSIONS[3];
        let messages = if is_newest { 1_000_000 } else { 100_000 };
        sleep_through(&server, messages).await;
    }
}

#[tokio::test]
async fn a_batch_holds_what_waits_in_order_and_no_more_than_was_asked_for() {
    for server in started("batches", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut sub = client.subscribe("b").unwrap();
        publish_numbers(&client, "b", 10).await;
        let mut batch = Vec::new();
        assert_eq!(sub.next_batch(&mut batch, 0).await, 0);
        for (asked, expected) in [(3, 3), (1, 1), (100, 6)] {
            let count = within(sub.next_batch(&mut batch, asked)).await;
            assert_eq!(count, expected, "{}", server.version());
        }
        let numbers: Vec<_> = batch.iter().map(text).collect();
        let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(numbers, expected, "{}", server.version());
        sub.unsubscribe();
        assert_eq!(within(sub.next_batch(&mut batch, 1)).await, 0);
    }
}

/// One subscriber sleeps, another of the same connection takes everything.
async fn sleep_through(server: &RealServer, messages: u64) {
    let client = connect(&server.url()).await.unwrap();
    let mut events = client.events();
    let sleeping = client.subscription("many").messages_max(1_000);
    let sleeping = sleeping.confirmed().await.unwrap();
    let awake = client.subscription("many").messages_max(usize::MAX);
    let mut awake = awake.bytes_max(usize::MAX).confirmed().await.unwrap();
    let publisher = connect(&server.url()).await.unwrap();
    let publishing = tokio::spawn(async move {
        for _ in 0..messages {
            publisher
                .publish("many", b"0123456789abcdef")
                .await
                .unwrap();
        }
        publisher.close().await;
    });
    let mut batch = Vec::new();
    let mut heard = 0;
    while heard < messages {
        heard += within(awake.next_batch(&mut batch, 4_096)).await as u64;
        batch.clear();
    }
    publishing.await.unwrap();
    assert_eq!(awake.statistics().dropped, 0, "{}", server.version());
    client.flush().await.unwrap();

    let counts = sleeping.statistics();
    assert_eq!(counts.accepted, 1_000, "{}", server.version());
    assert_eq!(
        counts.accepted + counts.dropped,
        messages,
        "{}",
        server.version()
    );
    let dropped = messages - 1_000;
    assert_eq!(client.statistics().dropped_messages, dropped);
    drop(sleeping);
    // Nothing was said between the beginning and the end.
    let begun = slow(&mut events).await;
    assert!(matches!(
        begun,
        Event::SlowConsumer {
            dropped_before: 0,
            sid: 1,
            ..
        }
    ));
    let over = slow(&mut events).await;
    let Event::SlowConsumerOver {
        filter,
        dropped: counted,
        ..
    } = over
    else {
        panic!("{over:?} on {}", server.version());
    };
    assert_eq!(filter, "many", "{}", server.version());
    assert_eq!(counted, dropped, "{}", server.version());
    println!(
        "{} of {messages} dropped on {}",
        counts.dropped,
        server.version()
    );
    client.close().await;
}

#[tokio::test]
async fn each_episode_is_told_once_with_its_own_count() {
    for server in started("episodes", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut sub = client
            .subscription("few")
            .messages_max(4)
            .subscribe()
            .unwrap();
        for (episode, count) in [10, 25].into_iter().enumerate() {
            publish_numbers(&client, "few", count).await;
            let dropped_now = count as u64 - 4;
            let expected_before = if episode == 0 { 0 } else { 6 };
            let begun = slow(&mut events).await;
            let expected = Event::SlowConsumer {
                filter: "few".into(),
                sid: 1,
                dropped_before: expected_before,
            };
            assert_eq!(begun, expected, "{}", server.version());
            for number in 0..4 {
                assert_eq!(text(&next(&mut sub).await), number.to_string());
            }
            // The last one taken ends it: no other message has to come.
            let over = slow(&mut events).await;
            let Event::SlowConsumerOver { dropped, .. } = over else {
                panic!("{over:?} on {}", server.version());
            };
            assert_eq!(dropped, dropped_now, "{}", server.version());
        }
        // A message that finds half of the room free ends it as well.
        publish_numbers(&client, "few", 5).await;
        for _ in 0..3 {
            next(&mut sub).await;
        }
        publish_numbers(&client, "few", 1).await;
        slow(&mut events).await;
        let over = slow(&mut events).await;
        assert!(
            matches!(over, Event::SlowConsumerOver { dropped: 1, .. }),
            "{over:?} on {}",
            server.version()
        );
        for _ in 0..2 {
            next(&mut sub).await;
        }
        let counts = sub.statistics();
        assert_eq!((counts.delivered, counts.dropped), (13, 28));
        assert_eq!((counts.waiting, counts.waiting_max), (0, 4));
        client.close().await;
    }
}

#[tokio::test]
async fn what_is_in_hand_counts_as_waiting() {
    for server in started("in hand", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut sub = client
            .subscription("h")
            .messages_max(10)
            .subscribe()
            .unwrap();
        publish_numbers(&client, "h", 10).await;
        // All ten are out of the mailbox now, and nine not yet returned.
        assert_eq!(text(&next(&mut sub).await), "0");
        let counts = sub.statistics();
        assert_eq!(
            (counts.delivered, counts.waiting),
            (1, 9),
            "{}",
            server.version()
        );
        publish_numbers(&client, "h", 10).await;
        let counts = sub.statistics();
        assert_eq!(
            (counts.waiting, counts.dropped),
            (10, 9),
            "{}",
            server.version()
        );
        assert_eq!(
            counts.accepted,
            counts.delivered + 10,
            "{}",
            server.version()
        );
        client.close().await;
    }
}

#[tokio::test]
async fn bytes_are_limited_as_messages_are() {
    for server in started("byte limit", "") {
        let client = connect(&server.url()).await.unwrap();
        let sub = client
            .subscription("b")
            .bytes_max(10_000)
            .subscribe()
            .unwrap();
        for _ in 0..20 {
            client.publish("b", vec![b'x'; 1_000]).await.unwrap();
        }
        client.flush().await.unwrap();
        let counts = sub.statistics();
        // `MSG b 1 1000`, the payload and two line ends: 1,016 bytes each.
        assert_eq!(
            (counts.accepted, counts.dropped),
            (9, 11),
            "{}",
            server.version()
        );
        assert_eq!(counts.waiting_bytes, 9 * 1_016, "{}", server.version());
        assert_eq!(counts.waiting_bytes_max, 9 * 1_016, "{}", server.version());
        assert_eq!(counts.dropped_bytes, 11 * 1_016, "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn counts_go_on_across_a_reconnect() {
    for mut server in started("counts across reconnects", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut sub = client.subscribe("c").unwrap();
        publish_numbers(&client, "c", 3).await;
        next(&mut sub).await;
        server.restart();
        crate::disconnected(&mut events).await;
        crate::connected(&mut events).await;
        publish_numbers(&client, "c", 2).await;
        until("five", || sub.statistics().accepted == 5).await;
        assert_eq!(sub.statistics().delivered, 1, "{}", server.version());
        let all = client.statistics();
        assert_eq!(
            (all.received_messages, all.received_bytes, all.connects),
            (5, 5, 2)
        );
        assert_eq!((all.subscriptions, all.unrouted_messages), (1, 0));
        client.close().await;
    }
}

async fn slow(events: &mut Events) -> Event {
    wait_for(events, |event| {
        matches!(
            event,
            Event::SlowConsumer { .. } | Event::SlowConsumerOver { .. }
        )
    })
    .await
}

#[tokio::test]
async fn a_subscription_that_shall_lose_nothing_holds_the_connection_back() {
    for server in started("reading stopped", "") {
        let options = ConnectOptions::new().ping_interval(Duration::from_millis(400));
        let client = options.connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let careful = client.subscription("all").messages_max(100);
        let careful = careful.overflow(Overflow::StopReading);
        let mut careful = careful.confirmed().await.unwrap();
        let mut other = client.subscribe_confirmed("other").await.unwrap();
        let publisher = connect(&server.url()).await.unwrap();
        publish_numbers(&publisher, "all", 10_000).await;
        publish_numbers(&publisher, "other", 1).await;
        let stopped = wait_for(&mut events, is_reading).await;
        let expected = Event::ReadingStopped {
            filter: "all".into(),
            sid: 1,
        };
        assert_eq!(stopped, expected, "{}", server.version());

        // Longer than a silent server is given, which is 800 ms: here we do not listen.
        let silence = Duration::from_millis(1_200);
        tokio::time::sleep(silence).await;
        assert_eq!(careful.statistics().waiting, 100, "{}", server.version());
        assert_eq!(other.statistics().accepted, 0, "it waits behind");
        for number in 0..10_000 {
            assert_eq!(text(&next(&mut careful).await), number.to_string());
            let waiting = careful.statistics().waiting_max;
            assert!(waiting <= 100, "{waiting} on {}", server.version());
        }
        assert_eq!(text(&next(&mut other).await), "0", "{}", server.version());
        let resumed = wait_for(&mut events, is_reading).await;
        let Event::ReadingResumed { held } = resumed else {
            panic!("{resumed:?} on {}", server.version());
        };
        assert!(held >= silence, "{held:?}");
        let counts = careful.statistics();
        assert_eq!((counts.delivered, counts.dropped), (10_000, 0));
        assert_eq!(client.statistics().connects, 1, "{}", server.version());
        publisher.close().await;
        client.close().await;
    }
}

#[tokio::test]
async fn a_subscription_that_is_given_up_lets_the_connection_go_on() {
    for server in started("reading stopped for nobody", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut other = client.subscribe_confirmed("other").await.unwrap();
        let publisher = connect(&server.url()).await.unwrap();
        let ways: [fn(Subscription) -> Option<Subscription>; 2] = [
            |sub| {
                drop(sub);
                None
            },
            |sub| {
                sub.unsubscribe();
                Some(sub)
            },
        ];
        for give_up in ways {
            let mut events = client.events();
            let careful = client.subscription("all").messages_max(10);
            let careful = careful.overflow(Overflow::StopReading);
            let careful = careful.confirmed().await.unwrap();
            publish_numbers(&publisher, "all", 100).await;
            publish_numbers(&publisher, "other", 1).await;
            wait_for(&mut events, is_reading).await;
            let _kept = give_up(careful);
            assert_eq!(text(&next(&mut other).await), "0", "{}", server.version());
        }
        publisher.close().await;
        client.close().await;
    }
}

const fn is_reading(event: &Event) -> bool {
    matches!(
        event,
        Event::ReadingStopped { .. } | Event::ReadingResumed { .. }
    )
}
