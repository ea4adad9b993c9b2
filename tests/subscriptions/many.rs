//! A hundred thousand subscriptions on one connection.

use natseq::client::{Client, Subscription, connect};

use crate::support::PATIENCE;
use crate::{connected, disconnected, next, started, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_subscriptions_live_on_one_connection_and_come_back() {
    for mut server in started("many subscriptions", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let mut subs = subscribe_to_many(&client, 100_000);
        client.flush().await.unwrap();
        hear_some(&client, &mut subs).await;
        server.restart();
        disconnected(&mut events).await;
        connected(&mut events).await;
        client.flush().await.unwrap();
        hear_some(&client, &mut subs).await;
        assert_eq!(client.statistics().connects, 2, "{}", server.version());
        drop(subs);
        assert_eq!(client.statistics().subscriptions, 0, "{}", server.version());
        client.flush().await.unwrap();
        client.close().await;
    }
}

fn subscribe_to_many(client: &Client, count: usize) -> Vec<Subscription> {
    let subscribe = |number| client.subscribe(&format!("many.{number}")).unwrap();
    (0..count).map(subscribe).collect()
}

/// Hears one message on each of a hundred of them.
async fn hear_some(client: &Client, subs: &mut [Subscription]) {
    let step = subs.len() / 100;
    for index in (0..subs.len()).step_by(step) {
        let subject = format!("many.{index}");
        client
            .publish(subject.as_str(), subject.as_str())
            .await
            .unwrap();
        let heard = tokio::time::timeout(PATIENCE, next(&mut subs[index])).await;
        assert_eq!(text(&heard.unwrap()), subject);
    }
}
