//! What a server refuses or withdraws comes back to the subscription, the call or the event it concerns.

use natseq::client::{Client, ConnectOptions, ErrorKind, Event, RefusalKind, connect};

use crate::{connected, disconnected, next, next_or_end, started, text, until, wait_for};

const CONFIG: &str = r#"authorization { users: [ { user: "ada", password: "x", permissions: {
    subscribe: { deny: ["secret.>", "jobs evil"] }, publish: { deny: ["secret.>"] }
} } ] }"#;

#[tokio::test]
async fn a_refused_subscription_ends_and_is_not_asked_for_again() {
    for mut server in started("refused subscription", CONFIG) {
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        let mut events = client.events();
        let mut kept = client.subscribe("open").unwrap();
        let mut refused = client.subscribe("secret.*").unwrap();
        assert!(
            next_or_end(&mut refused).await.is_none(),
            "{}",
            server.version()
        );
        let refusal = refused.refusal().unwrap();
        assert_eq!(
            refusal.kind,
            RefusalKind::Subscription,
            "{}",
            server.version()
        );
        assert_eq!(
            (refusal.subject.as_str(), refusal.sid),
            ("secret.*", Some(2))
        );
        let event = wait_for(&mut events, is_refusal).await;
        assert_eq!(
            event,
            Event::SubscriptionRefused(refusal),
            "{}",
            server.version()
        );
        assert_eq!(client.statistics().subscriptions, 1, "{}", server.version());

        server.restart();
        disconnected(&mut events).await;
        connected(&mut events).await;
        client.publish("open", "still here").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(text(&next(&mut kept).await), "still here");
        client.close().await;
        let last = |event: &Event| is_refusal(event) || matches!(event, Event::Closed { .. });
        let event = wait_for(&mut events, last).await;
        assert!(!is_refusal(&event), "{event:?} on {}", server.version());
    }
}

#[tokio::test]
async fn a_refused_subscription_is_asked_for_again_where_that_is_wanted() {
    for mut server in started("restored refusal", CONFIG) {
        let options = ConnectOptions::new().restore_refused(true);
        let client = options.connect(&server.url_as("ada:x")).await.unwrap();
        let mut events = client.events();
        let refused = client.subscribe("secret.*").unwrap();
        wait_for(&mut events, is_refusal).await;
        server.restart();
        wait_for(&mut events, is_refusal).await;
        assert_eq!(client.statistics().connects, 2, "{}", server.version());
        assert!(refused.refusal().is_some(), "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn a_refusal_concerns_the_queue_group_that_was_refused() {
    for server in started("refused queue group", CONFIG) {
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        let mut plain = client.subscribe("jobs").unwrap();
        let mut evil = client.queue_subscribe("jobs", "evil").unwrap();
        let mut good = client.queue_subscribe("jobs", "good").unwrap();
        assert!(
            next_or_end(&mut evil).await.is_none(),
            "{}",
            server.version()
        );
        let refusal = evil.refusal().unwrap();
        assert_eq!(refusal.queue_group.as_deref(), Some("evil"));
        client.publish("jobs", "one").await.unwrap();
        assert_eq!(text(&next(&mut plain).await), "one", "{}", server.version());
        assert_eq!(text(&next(&mut good).await), "one", "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn a_confirmed_subscription_is_there_or_says_why_not() {
    for server in started("confirmed subscription", CONFIG) {
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        let other = connect(&server.url_as("ada:x")).await.unwrap();
        let mut taken = client.subscribe_confirmed("open").await.unwrap();
        other.publish("open", "heard").await.unwrap();
        assert_eq!(
            text(&next(&mut taken).await),
            "heard",
            "{}",
            server.version()
        );
        let refused = client.subscribe_confirmed("secret.a").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert_eq!(refused.refusal().unwrap().subject, "secret.a");
        let group = client.subscription("jobs").queue_group("evil");
        let refused = group.confirmed().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert_eq!(client.statistics().subscriptions, 1, "{}", server.version());
        other.close().await;
        client.close().await;
        let closed = client.subscribe_confirmed("open").await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed, "{}", server.version());
    }
}

#[tokio::test]
async fn too_many_subscriptions_fail_the_call_that_was_one_too_many() {
    for server in started("too many subscriptions", "max_subscriptions: 3") {
        let client = connect(&server.url()).await.unwrap();
        let _plain = client.subscribe("a").unwrap();
        let calls = ["b", "c", "d", "e"].map(|filter| client.subscription(filter).confirmed());
        let mut taken = Vec::new();
        let mut refused = Vec::new();
        for call in calls.map(tokio::spawn) {
            match call.await.unwrap() {
                Ok(sub) => taken.push(sub),
                Err(error) => refused.push(error),
            }
        }
        assert_eq!((taken.len(), refused.len()), (2, 2), "{}", server.version());
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::TooManySubscriptions);
        }
        // Those that were taken receive, which those that were not cannot disturb.
        for (index, sub) in taken.iter_mut().enumerate() {
            client.publish(["b", "c"][index], "there").await.unwrap();
            assert_eq!(text(&next(sub).await), "there", "{}", server.version());
        }
        client.close().await;
    }
}

#[tokio::test]
async fn a_subscription_that_the_server_withdraws_ends() {
    let open = r#"authorization { users: [ { user: "ada", password: "x" } ] }"#;
    for server in started("withdrawn subscription", open) {
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        let mut events = client.events();
        let mut kept = client.subscribe_confirmed("open").await.unwrap();
        let mut first = client.subscribe_confirmed("secret.a").await.unwrap();
        let mut second = client.subscribe_confirmed("secret.a").await.unwrap();
        server.reconfigure(CONFIG);
        for sub in [&mut first, &mut second] {
            assert!(next_or_end(sub).await.is_none(), "{}", server.version());
            assert_eq!(sub.refusal().unwrap().subject, "secret.a");
        }
        wait_for(&mut events, is_refusal).await;
        assert_eq!(client.statistics().subscriptions, 1, "{}", server.version());
        client.publish("open", "still here").await.unwrap();
        assert_eq!(text(&next(&mut kept).await), "still here");
        client.close().await;
    }
}

#[tokio::test]
async fn a_refused_message_is_an_event_with_its_subject() {
    for server in started("refused message", CONFIG) {
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        let mut events = client.events();
        client.publish("secret.plan", "x").await.unwrap();
        let event = wait_for(&mut events, |event| {
            matches!(event, Event::PublishRefused(_))
        })
        .await;
        let Event::PublishRefused(refusal) = event else {
            unreachable!()
        };
        assert_eq!(refusal.kind, RefusalKind::Publish, "{}", server.version());
        assert_eq!(refusal.subject, "secret.plan", "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn a_sequenced_subscriber_whose_subjects_are_refused_ends() {
    for server in started("refused sequenced subscriber", CONFIG) {
        let client: Client = connect(&server.url_as("ada:x")).await.unwrap();
        let builder = client.sequenced_subscriber("secret.*").unwrap();
        let mut subscriber = builder.start().unwrap();
        let end = crate::within(subscriber.next()).await;
        assert!(end.is_none(), "{end:?} on {}", server.version());
        until("none is left", || client.statistics().subscriptions == 0).await;
        client.close().await;
    }
}

const fn is_refusal(event: &Event) -> bool {
    matches!(event, Event::SubscriptionRefused(_))
}

#[tokio::test]
async fn a_source_that_may_not_hear_requests_still_says_that_it_is_there() {
    let config = r#"authorization { users: [ { user: "bob", password: "x" }
        { user: "ada", password: "x", permissions: { subscribe: { deny: "_SEQ.RX.>" } } } ] }"#;
    for server in started("deaf source", config) {
        let listener = connect(&server.url_as("bob:x")).await.unwrap();
        let mut heartbeats = listener.subscribe_confirmed("_SEQ.HB.>").await.unwrap();
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        let mut events = client.events();
        let publisher = client.sequenced_publisher("deaf").unwrap().start().unwrap();
        wait_for(&mut events, is_refusal).await;
        publisher.publish("deaf", "x").await.unwrap();
        client.flush().await.unwrap();
        // The first say hello; one that knows the message comes later.
        while !String::from_utf8_lossy(next(&mut heartbeats).await.headers().unwrap().raw())
            .contains(".1\r\n")
        {}
        let closed = crate::within(publisher.close()).await;
        assert_eq!(closed.prior.lead, 1, "{}", server.version());
        client.close().await;
        listener.close().await;
    }
}
