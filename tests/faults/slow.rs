//! Peers that do not read: a server that takes nothing, a client that is too slow, a subscriber that sleeps.

use std::time::Duration;

use natseq::client::{Event, MailboxLimits, connect};
use natseq::session::OutboxLimits;

use crate::rig::{Rig, VERSION, next, options, until, within};
use crate::support::proxy::{Pace, Way};
use crate::support::server;

/// What the kernel holds between the client and a proxy that does not read, and the proxy holds itself.
const SOCKETS_BYTES_MAX: usize = 16 << 20;

#[tokio::test]
async fn publishing_waits_for_a_server_that_does_not_read_and_goes_on_when_it_does() {
    let limits = OutboxLimits {
        connected_bytes_max: 100_000,
        ..OutboxLimits::default()
    };
    let Some(rig) = Rig::with("a server that does not read", options().outbox(limits)).await else {
        return;
    };
    let mut seen = rig.direct.subscribe("s").unwrap();
    rig.direct.flush().await.unwrap();
    rig.proxy.stall(Way::ToServer);
    let payload = 10_000;
    let count = 2 * SOCKETS_BYTES_MAX / payload;
    let publishing = tokio::spawn({
        let client = rig.client.clone();
        async move {
            for _ in 0..count {
                client.publish("s", vec![b'x'; payload]).await.unwrap();
            }
        }
    });
    let client = rig.client.clone();
    until("the outbox to be full", || {
        client.try_publish("full", "").is_err()
    })
    .await;
    let mut before = 0;
    // Full is what stays full: whatever the sockets still take, they take in this time.
    within("the sockets to be full", async {
        loop {
            let published = rig.client.statistics().published_messages;
            if published == before {
                return;
            }
            before = published;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(!publishing.is_finished());
    let bytes = usize::try_from(before).unwrap() * payload;
    assert!(bytes <= SOCKETS_BYTES_MAX, "{bytes} bytes are held");
    assert!(rig.client.is_connected());

    rig.proxy.resume(Way::ToServer);
    for _ in 0..count {
        assert_eq!(next(&mut seen).await.len(), payload);
    }
    within("the publisher", publishing).await.unwrap();
    rig.client.flush().await.unwrap();
    assert_eq!(rig.proxy.accepted(), 1);
}

/// The answers overtake what waits to be published.
#[tokio::test]
async fn a_ping_is_answered_in_the_middle_of_a_flood_over_a_slow_line() {
    let Some(rig) = Rig::new("a flood over a slow line").await else {
        return;
    };
    let pace = Pace {
        chunk_bytes_max: 16 << 10,
        delay: Duration::from_millis(5),
        ..Pace::default()
    };
    rig.proxy.pace(Way::ToServer, pace);
    let flood = tokio::spawn({
        let client = rig.client.clone();
        async move {
            loop {
                client.publish("flood", vec![b'x'; 1_000]).await.unwrap();
            }
        }
    });
    let mut read = 0;
    for _ in 0..5 {
        rig.proxy.inject(Way::ToClient, b"PING\r\n");
        within("a PONG", async {
            loop {
                let said = rig.proxy.passed(0).to_server.split_off(read);
                if let Some(at) = said.windows(6).position(|op| op == b"PONG\r\n") {
                    read += at + 6;
                    return;
                }
                read += said.len().saturating_sub(5);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert!(!flood.is_finished());
    }
    flood.abort();
    rig.proxy.pace(Way::ToServer, Pace::default());
    within("a flush", rig.client.flush()).await.unwrap();
    assert_eq!(rig.proxy.accepted(), 1);
}

/// The subscriber that sleeps costs its own messages only, and every one of them is counted.
#[tokio::test]
async fn a_sleeping_subscriber_loses_its_newest_messages_and_knows_how_many() {
    let limits = MailboxLimits {
        messages_max: 100,
        ..MailboxLimits::default()
    };
    let Some(mut rig) = Rig::with("a sleeping subscriber", options().mailbox(limits)).await else {
        return;
    };
    let mut sleeping = rig.client.subscribe("f").unwrap();
    let mut awake = rig.client.subscribe("f").unwrap();
    rig.client.flush().await.unwrap();
    let sent = 10_000;
    let mut heard = 0;
    for number in 0..sent {
        rig.direct.publish("f", number.to_string()).await.unwrap();
        if number % 50 == 49 {
            for _ in 0..50 {
                assert_eq!(next(&mut awake).await, heard.to_string());
                heard += 1;
            }
        }
    }
    rig.event(|event| matches!(event, Event::SlowConsumer { filter, dropped_before: 0, .. } if filter == "f"))
        .await;
    rig.no_event("one episode").await;
    let statistics = sleeping.statistics();
    assert_eq!((statistics.accepted, statistics.dropped), (100, 9_900));
    for number in 0..100 {
        assert_eq!(next(&mut sleeping).await, number.to_string());
    }
    // Awake again, it gets what comes.
    rig.direct.publish("f", "new").await.unwrap();
    assert_eq!(next(&mut sleeping).await, "new");
    assert_eq!(awake.statistics().dropped, 0);
}

#[tokio::test]
async fn a_server_that_drops_us_for_not_reading_has_us_back() {
    let Some(binary) = server("dropped for not reading", VERSION) else {
        return;
    };
    let config = "max_pending: 200000\nmax_payload: 10000\nwrite_deadline: \"1s\"";
    let mut rig = Rig::on(&binary, config, options()).await;
    let mut sub = rig.client.subscribe("slow").unwrap();
    rig.client.flush().await.unwrap();
    rig.proxy.stall(Way::ToClient);
    let flooding = connect(&rig.server.url()).await.unwrap();
    let server = &rig.server;
    within("the server to give up", async {
        while !server.log().contains("Slow Consumer") {
            for _ in 0..1_000 {
                flooding.publish("slow", vec![b'x'; 10_000]).await.unwrap();
            }
            flooding.flush().await.unwrap();
        }
    })
    .await;
    rig.proxy.resume(Way::ToClient);
    rig.disconnected().await;
    rig.connected().await;
    rig.client.flush().await.unwrap();
    flooding.publish("slow", "behind it").await.unwrap();
    within("the last message", async {
        while next(&mut sub).await != "behind it" {}
    })
    .await;
}
