//! The plain client against real nats-servers of every pinned version.
#![cfg(feature = "client")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a surprise here fails the test"
)]

mod support;
#[path = "support/waiting.rs"]
mod waiting;

use std::collections::BTreeSet;

use natseq::client::{Client, ConnectOptions, ErrorKind, Event, Publication, connect};
use natseq::wire::Headers;
use support::{PATIENCE, RealServer, servers};
use waiting::{hears_numbers_and_the_end, next, next_or_end, started, text, wait_for};

#[tokio::test]
async fn a_wildcard_subscription_receives_what_it_matches_and_nothing_else() {
    for server in started("wildcards", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut one = client.subscribe("orders.*.new").unwrap();
        let mut tail = client.subscribe("orders.>").unwrap();
        for subject in [
            "orders.eu.new",
            "orders.eu.old",
            "orders",
            "orders.us.new",
            "other.eu.new",
        ] {
            client.publish(subject, subject).await.unwrap();
        }
        client.flush().await.unwrap();

        for expected in ["orders.eu.new", "orders.us.new"] {
            assert_eq!(
                text(&next(&mut one).await),
                expected,
                "{}",
                server.version()
            );
        }
        for expected in ["orders.eu.new", "orders.eu.old", "orders.us.new"] {
            let message = next(&mut tail).await;
            assert_eq!(
                message.subject_str().unwrap(),
                expected,
                "{}",
                server.version()
            );
        }
        assert_eq!(one.statistics().waiting, 0, "{}", server.version());
        assert_eq!(tail.statistics().waiting, 0, "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn headers_reply_and_every_byte_of_the_payload_arrive() {
    for server in started("headers", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut sub = client.subscribe("h").unwrap();
        let mut headers = Headers::new();
        headers.append("Trace-Id", "a:b c").unwrap();
        headers.append("Tag", "one").unwrap();
        headers.append("Tag", "two").unwrap();
        let body: Vec<u8> = (0..=255).chain(*b"\r\nPING\r\n").collect();
        let publication = Publication::new("h", body.as_slice()).unwrap();
        client
            .send(publication.reply("answers.here").unwrap().headers(&headers))
            .await
            .unwrap();

        let message = next(&mut sub).await;
        assert_eq!(message.payload(), body, "{}", server.version());
        assert_eq!(
            message.reply(),
            Some(&b"answers.here"[..]),
            "{}",
            server.version()
        );
        let block = message.headers().unwrap();
        assert_eq!(
            block.first("Trace-Id"),
            Some(&b"a:b c"[..]),
            "{}",
            server.version()
        );
        let tags: Vec<_> = block.all("Tag").collect();
        assert_eq!(tags, [b"one", b"two"], "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn payloads_up_to_the_servers_limit_arrive_and_larger_ones_stay_here() {
    for server in started("large payloads", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut sub = client.subscribe("large").unwrap();
        let max = 1_048_576;
        for size in [0, 1, 65_536, max - 1, max] {
            client.publish("large", vec![b'x'; size]).await.unwrap();
            assert_eq!(
                next(&mut sub).await.payload().len(),
                size,
                "{}",
                server.version()
            );
        }
        let refused = client
            .publish("large", vec![b'x'; max + 1])
            .await
            .unwrap_err();
        let expected = ErrorKind::PayloadTooLarge {
            found: max + 1,
            max,
        };
        assert_eq!(refused.kind(), expected, "{}", server.version());
        client.flush().await.unwrap();
        assert!(client.is_connected(), "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn requests_are_answered_each_by_its_own_reply() {
    for server in started("requests", "") {
        let client = connect(&server.url()).await.unwrap();
        let responder = connect(&server.url()).await.unwrap();
        let mut asked = responder.subscribe("double").unwrap();
        responder.flush().await.unwrap();
        let answering = responder.clone();
        let service = tokio::spawn(async move {
            while let Some(message) = asked.next().await {
                let reply = std::str::from_utf8(message.reply().unwrap())
                    .unwrap()
                    .to_owned();
                let number: u64 = text(&message).parse().unwrap();
                answering
                    .publish(reply.as_str(), (number * 2).to_string())
                    .await
                    .unwrap();
            }
        });
        let mut requests = Vec::new();
        for number in 0..50_u64 {
            let client = client.clone();
            requests.push(tokio::spawn(async move {
                let answer = client.request("double", number.to_string()).await.unwrap();
                (number, text(&answer).parse::<u64>().unwrap())
            }));
        }
        for request in requests {
            let (number, answer) = request.await.unwrap();
            assert_eq!(answer, number * 2, "{}", server.version());
        }
        service.abort();
        responder.close().await;
        client.close().await;
    }
}

#[tokio::test]
async fn a_request_that_nobody_serves_fails_at_once() {
    for server in started("no responders", "") {
        let options = ConnectOptions::new().request_timeout(PATIENCE);
        let client = options.connect(&server.url()).await.unwrap();
        let request = client.request("nobody.home", "hello");
        let refused = tokio::time::timeout(PATIENCE / 2, request)
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::NoResponders,
            "{}",
            server.version()
        );
        client.close().await;
    }
}

#[tokio::test]
async fn members_of_a_queue_group_share_the_messages() {
    for server in started("queue groups", "") {
        let client = connect(&server.url()).await.unwrap();
        let members: Vec<_> = (0..3)
            .map(|_| client.queue_subscribe("jobs", "workers").unwrap())
            .collect();
        let mut watcher = client.subscribe("jobs").unwrap();
        client.flush().await.unwrap();
        for number in 0..300 {
            client.publish("jobs", number.to_string()).await.unwrap();
        }
        for number in 0..300 {
            assert_eq!(
                text(&next(&mut watcher).await),
                number.to_string(),
                "{}",
                server.version()
            );
        }
        // The watcher has all, so a round trip later the members have all as well.
        client.flush().await.unwrap();
        let mut seen = BTreeSet::new();
        for mut member in members {
            member.drain().await.unwrap();
            let mut share = 0;
            while let Some(message) = member.next().await {
                assert!(seen.insert(text(&message)), "{}", server.version());
                share += 1;
            }
            assert!(
                (1..300).contains(&share),
                "{share} of 300 on {}",
                server.version()
            );
        }
        assert_eq!(seen.len(), 300, "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn a_limited_subscription_delivers_its_number_and_ends() {
    for server in started("auto-unsubscribe", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut sub = client.subscribe("few").unwrap();
        sub.unsubscribe_after(3);
        for number in 0..10 {
            client.publish("few", number.to_string()).await.unwrap();
        }
        client.flush().await.unwrap();
        hears_numbers_and_the_end(&mut sub, 3, server.version()).await;
        client.close().await;
    }
}

#[tokio::test]
async fn subscriptions_come_back_after_the_server_was_killed_and_restarted() {
    for mut server in started("reconnect", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut plain = client.subscribe("r.*").unwrap();
        let mut grouped = client.queue_subscribe("q", "g").unwrap();
        let mut limited = client.subscribe("l").unwrap();
        limited.unsubscribe_after(2);
        client.publish("l", "first").await.unwrap();
        assert_eq!(
            text(&next(&mut limited).await),
            "first",
            "{}",
            server.version()
        );

        server.kill();
        wait_for(&mut events, |event| {
            matches!(event, Event::Disconnected { .. })
        })
        .await;
        client.publish("r.meanwhile", "kept").await.unwrap();
        server.restart();
        let connected = wait_for(&mut events, |event| {
            matches!(event, Event::Connected { .. })
        })
        .await;
        assert!(
            matches!(connected, Event::Connected { generation: 2, .. }),
            "{connected:?} on {}",
            server.version()
        );

        assert_eq!(
            text(&next(&mut plain).await),
            "kept",
            "{}",
            server.version()
        );
        client.publish("r.after", "plain").await.unwrap();
        client.publish("q", "grouped").await.unwrap();
        client.publish("l", "second").await.unwrap();
        client.publish("l", "third").await.unwrap();
        assert_eq!(
            text(&next(&mut plain).await),
            "plain",
            "{}",
            server.version()
        );
        assert_eq!(
            text(&next(&mut grouped).await),
            "grouped",
            "{}",
            server.version()
        );
        assert_eq!(
            text(&next(&mut limited).await),
            "second",
            "{}",
            server.version()
        );
        assert!(
            next_or_end(&mut limited).await.is_none(),
            "{}",
            server.version()
        );
        client.request("nobody", "").await.unwrap_err();
        assert_eq!(client.statistics().connects, 2, "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn the_other_server_takes_over_when_one_is_killed() {
    for binary in servers("failover") {
        let mut first = RealServer::start(&binary, "");
        let second = RealServer::start(&binary, "");
        let client = connect(&format!("{},{}", first.url(), second.url()))
            .await
            .unwrap();
        let mut events = client.events();
        let mut sub = client.subscribe("f").unwrap();
        client.flush().await.unwrap();
        let port = client.server_info().port;
        let (dead, alive) = if i64::from(first.address().port()) == port {
            first.kill();
            (first, second)
        } else {
            let mut second = second;
            second.kill();
            (second, first)
        };
        wait_for(&mut events, |event| {
            matches!(event, Event::Connected { .. })
        })
        .await;
        let other = connect(&alive.url()).await.unwrap();
        client.flush().await.unwrap();
        other.publish("f", "still here").await.unwrap();
        assert_eq!(
            text(&next(&mut sub).await),
            "still here",
            "{}",
            dead.version()
        );
        other.close().await;
        client.close().await;
    }
}

#[tokio::test]
async fn user_and_password_open_the_door_from_options_and_from_the_url() {
    let config = r#"authorization { user: "ada", password: "se:cret@1" }"#;
    for server in started("user and password", config) {
        let by_options = ConnectOptions::new().user_and_password("ada", "se:cret@1");
        round_trip(by_options.connect(&server.url()).await.unwrap()).await;
        round_trip(connect(&server.url_as("ada:se%3Acret%401")).await.unwrap()).await;
        for url in [server.url(), server.url_as("ada:wrong")] {
            let refused = connect(&url).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Connect, "{}", server.version());
            assert!(
                !format!("{refused} {refused:?}").contains("wrong"),
                "{}",
                server.version()
            );
        }
    }
}

#[tokio::test]
async fn a_token_opens_the_door_from_options_and_from_the_url() {
    for server in started("token", r#"authorization { token: "s3cret" }"#) {
        round_trip(
            ConnectOptions::new()
                .token("s3cret")
                .connect(&server.url())
                .await
                .unwrap(),
        )
        .await;
        round_trip(connect(&server.url_as("s3cret")).await.unwrap()).await;
        let refused = connect(&server.url_as("other")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Connect, "{}", server.version());
    }
}

#[tokio::test]
async fn a_refused_subscription_is_an_event_and_the_connection_stays() {
    let config = r#"authorization { users: [
        { user: "ada", password: "x", permissions: { subscribe: { deny: "secret.>" } } }
    ] }"#;
    for server in started("permissions", config) {
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        let mut events = client.events();
        let mut refused = client.subscribe("secret.plans").unwrap();
        client.flush().await.unwrap();
        let event = wait_for(&mut events, |event| {
            matches!(event, Event::SubscriptionRefused(_))
        })
        .await;
        let Event::SubscriptionRefused(refusal) = event else {
            unreachable!()
        };
        assert_eq!(refusal.subject, "secret.plans", "{}", server.version());
        assert_eq!(refused.refusal(), Some(refusal), "{}", server.version());
        let none = next_or_end(&mut refused).await;
        assert!(none.is_none(), "{}", server.version());
        round_trip(client).await;
    }
}

#[tokio::test]
async fn draining_delivers_what_had_arrived_and_then_ends() {
    for server in started("drain", "") {
        let client = connect(&server.url()).await.unwrap();
        let publisher = connect(&server.url()).await.unwrap();
        let mut sub = client.subscribe("d").unwrap();
        client.flush().await.unwrap();
        for number in 0..1000 {
            publisher.publish("d", number.to_string()).await.unwrap();
        }
        publisher.flush().await.unwrap();
        let draining = tokio::spawn({
            let client = client.clone();
            async move { client.drain().await }
        });
        let mut count = 0;
        while let Some(message) = next_or_end(&mut sub).await {
            assert_eq!(text(&message), count.to_string(), "{}", server.version());
            count += 1;
        }
        assert_eq!(count, 1000, "{}", server.version());
        draining.await.unwrap().unwrap();
        let refused = client.publish("d", "late").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed, "{}", server.version());
        publisher.close().await;
    }
}

#[tokio::test]
async fn a_hundred_thousand_messages_arrive_in_order() {
    for server in started("many messages", "") {
        let client = connect(&server.url()).await.unwrap();
        let publisher = connect(&server.url()).await.unwrap();
        let mut sub = client.subscribe("many").unwrap();
        client.flush().await.unwrap();
        let publishing = tokio::spawn(async move {
            for number in 0..100_000_u32 {
                publisher.publish("many", number.to_string()).await.unwrap();
            }
            publisher.close().await;
        });
        for number in 0..100_000_u32 {
            assert_eq!(
                text(&next(&mut sub).await),
                number.to_string(),
                "{}",
                server.version()
            );
        }
        publishing.await.unwrap();
        client.close().await;
    }
}

/// Proves that `client` can talk to itself through its server, and closes it.
async fn round_trip(client: Client) {
    let mut sub = client.subscribe("round.trip").unwrap();
    client.publish("round.trip", "there").await.unwrap();
    assert_eq!(text(&next(&mut sub).await), "there");
    client.close().await;
}
