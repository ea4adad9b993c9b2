//! Subscriptions that end: by being dropped, by their count, with the runtime.

use natseq::broker::{Broker, BrokerOptions};
use natseq::client::{ErrorKind, Status, connect};

use crate::{connected, disconnected, next, next_or_end, publish_numbers, started, text, until};

#[tokio::test]
async fn dropping_a_subscription_ends_the_servers_interest() {
    for server in started("unsubscribe by drop", "") {
        let client = connect(&server.url()).await.unwrap();
        let sub = client.subscribe_confirmed("here").await.unwrap();
        drop(sub);
        let nobody = client.request("here", "").await.unwrap_err();
        assert_eq!(
            nobody.kind(),
            ErrorKind::NoResponders,
            "{}",
            server.version()
        );
        assert_eq!(client.statistics().subscriptions, 1, "the inbox is left");
        client.close().await;
    }
}

#[tokio::test]
async fn a_subscription_that_has_had_its_number_is_not_restored() {
    for mut server in started("number reached before a reconnect", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut done = client
            .subscription("n")
            .delivered_max(2)
            .subscribe()
            .unwrap();
        let mut open = client
            .subscription("n")
            .delivered_max(5)
            .subscribe()
            .unwrap();
        publish_numbers(&client, "n", 3).await;
        server.restart();
        disconnected(&mut events).await;
        connected(&mut events).await;
        publish_numbers(&client, "n", 3).await;
        for expected in ["0", "1"] {
            assert_eq!(
                text(&next(&mut done).await),
                expected,
                "{}",
                server.version()
            );
        }
        assert!(
            next_or_end(&mut done).await.is_none(),
            "{}",
            server.version()
        );
        for expected in ["0", "1", "2", "0", "1"] {
            assert_eq!(
                text(&next(&mut open).await),
                expected,
                "{}",
                server.version()
            );
        }
        assert!(
            next_or_end(&mut open).await.is_none(),
            "{}",
            server.version()
        );
        assert_eq!(client.statistics().subscriptions, 0, "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn a_subscription_for_no_message_has_ended() {
    for server in started("number zero", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut none = client
            .subscription("n")
            .delivered_max(0)
            .subscribe()
            .unwrap();
        assert!(
            next_or_end(&mut none).await.is_none(),
            "{}",
            server.version()
        );
        client.close().await;
    }
}

#[tokio::test]
async fn a_line_that_servers_do_not_read_stays_here() {
    for server in started("long filters", "") {
        let client = connect(&server.url()).await.unwrap();
        let long = "x".repeat(5_000);
        let refused = client.subscribe(&long).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::LineTooLong { .. }));
        let refused = client.queue_subscribe("a", &long).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::LineTooLong { .. }));
        client.flush().await.unwrap();
        assert_eq!(client.statistics().connects, 1, "{}", server.version());
        client.close().await;
    }
}

#[test]
fn handles_can_be_dropped_outside_a_runtime_and_after_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (broker, client) = runtime.block_on(async {
        let broker = Broker::listen("127.0.0.1:0", BrokerOptions::default()).await;
        let broker = broker.unwrap();
        let address = broker.local_addr().unwrap().to_string();
        (broker, connect(&address).await.unwrap())
    });
    let sub = client.subscribe("a").unwrap();
    let other = client.subscribe("b").unwrap();
    let events = client.events();
    let requester = client.requester("c").unwrap();
    let replies = runtime.block_on(requester.request_many("")).unwrap();
    drop(sub);
    drop(replies);
    assert_eq!(client.pending_requests(), 0);
    assert_eq!(client.status(), Status::Connected);
    runtime.shutdown_background();
    drop(other);
    drop(requester);
    drop(events);
    drop(client.clone());
    drop(client);
    drop(broker);
}

#[test]
fn nobody_waits_for_a_runtime_that_is_gone() {
    let first = tokio::runtime::Runtime::new().unwrap();
    let second = tokio::runtime::Runtime::new().unwrap();
    let (_broker, address) = second.block_on(async {
        let broker = Broker::listen("127.0.0.1:0", BrokerOptions::default()).await;
        let broker = broker.unwrap();
        let address = broker.local_addr().unwrap().to_string();
        (broker, address)
    });
    let client = first.block_on(connect(&address)).unwrap();
    let mut sub = client.subscribe("a").unwrap();
    let _silent = client.subscribe("silent").unwrap();
    let request = second.spawn({
        let client = client.clone();
        async move { client.request("silent", "").await }
    });
    let publishing = second.spawn({
        let client = client.clone();
        async move { while client.publish("a", vec![0; 1_000]).await.is_ok() {} }
    });
    second.block_on(async {
        until("the request waits", || client.pending_requests() == 1).await;
        first.shutdown_background();
        crate::within(async { while sub.next().await.is_some() {} }).await;
        let ended = crate::within(request).await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::Closed);
        crate::within(publishing).await.unwrap();
        assert_eq!(client.status(), Status::Closed);
        let refused = client.subscribe("late").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
        assert!(crate::within(client.flush()).await.is_err());
        assert!(crate::within(client.drain()).await.is_err());
        crate::within(client.close()).await;
    });
}

#[tokio::test]
async fn a_mailbox_that_was_abandoned_holds_nothing() {
    let broker = Broker::listen("127.0.0.1:0", BrokerOptions::default()).await;
    let broker = broker.unwrap();
    let client = connect(&broker.local_addr().unwrap().to_string())
        .await
        .unwrap();
    for _ in 0..100 {
        let sub = client.subscribe("a").unwrap();
        publish_numbers(&client, "a", 10).await;
        assert_eq!(sub.statistics().waiting, 10);
    }
    client.flush().await.unwrap();
    until("nothing", || client.statistics().subscriptions == 0).await;
    client.close().await;
}
