//! Readers that are too slow: what a server or our own mailbox drops for them is won back.

use natseq::client::{ConnectOptions, MailboxLimits, connect};
use natseq::sequence::{Delivery, Rate, RepairLimits};
use tokio::time::timeout;

use crate::account::{Account, LINGER_MAX, hear, publish, source};
use crate::support::proxy::{Proxy, Way};
use crate::support::{RealServer, servers};

/// A server that may not slow publishers down drops silently for a reader that has stopped reading: the connection
/// stays, and there is no error. Where that option is unknown the server ends the connection instead.
#[tokio::test]
async fn what_a_server_drops_for_a_slow_reader_is_won_back() {
    for binary in servers("dropped for a slow reader") {
        let is_silent = !matches!(binary.version, "2.9.10" | "2.10.26");
        let option = if is_silent {
            "no_fast_producer_stall: true"
        } else {
            ""
        };
        let config = format!("{option}\nmax_pending: 4MB\nwrite_deadline: \"60s\"");
        let server = RealServer::start(&binary, &config);
        let proxy = Proxy::start(server.address(), 1);
        let receiving = connect(&proxy.url()).await.unwrap();
        let mut sub = receiving
            .sequenced_subscriber("d.x")
            .unwrap()
            .start()
            .unwrap();
        receiving.flush().await.unwrap();
        let publishing = connect(&server.url()).await.unwrap();
        let publisher = source(&publishing, "d.x", "test").repairs(FAST);
        let publisher = publisher.start().unwrap();
        let mut account = Account::default();
        publish(&publisher, "d.x", 1..=1).await;
        hear(&mut sub, &mut account, |account| account.decided() == 1).await;

        proxy.stall(Way::ToClient);
        let filler = "x".repeat(2_000);
        for number in 2..=COUNT {
            let payload = format!("{filler} {number}");
            publisher.publish("d.x", payload).await.unwrap();
        }
        publishing.flush().await.unwrap();
        proxy.resume(Way::ToClient);
        let closing = tokio::spawn(publisher.close());
        hear(&mut sub, &mut account, |account| account.ended() == 1).await;
        account.assert_whole(COUNT);
        let sum = account.sum();
        assert_eq!(sum.lost, 0, "{sum:?} on {}", binary.version);
        assert!(sum.repaired > 0, "{sum:?} on {}", binary.version);
        if is_silent {
            assert_eq!(proxy.accepted(), 1, "{}", binary.version);
        }
        timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        receiving.close().await;
        publishing.close().await;
    }
}

/// The mailbox holds a twentieth of what is sent while nobody takes anything from it.
#[tokio::test]
async fn what_our_own_mailbox_drops_is_won_back_when_there_is_room() {
    for binary in servers("dropped here") {
        for delivery in [Delivery::Immediate, Delivery::Ordered] {
            let server = RealServer::start(&binary, "");
            let limits = MailboxLimits {
                messages_max: 100,
                ..MailboxLimits::default()
            };
            let options = ConnectOptions::new().mailbox(limits);
            let receiving = options.connect(&server.url()).await.unwrap();
            let builder = receiving.sequenced_subscriber("d.x").unwrap();
            let mut sub = builder.delivery(delivery).start().unwrap();
            receiving.flush().await.unwrap();
            let publishing = connect(&server.url()).await.unwrap();
            let publisher = source(&publishing, "d.x", "test").start().unwrap();
            publish(&publisher, "d.x", 1..=2_000).await;
            publishing.flush().await.unwrap();
            // One flush more, and everything has passed the driver.
            receiving.flush().await.unwrap();
            let dropped = sub.mailbox().dropped;
            assert!(dropped > 1_000, "{:?}", sub.mailbox());
            let closing = tokio::spawn(publisher.close());
            let mut account = Account::default();
            hear(&mut sub, &mut account, |account| account.ended() == 1).await;
            account.assert_whole(2_000);
            let sum = account.sum();
            assert_eq!(sum.lost, 0, "{sum:?} on {}", binary.version);
            // Repairs find no room either, so they are asked for only once there is some.
            let what = format!("{dropped} dropped, {sum:?} on {}", binary.version);
            assert!(account.dropped_here * 10 >= dropped * 9, "{what}");
            assert_eq!(account.dropped_here, sum.gaps, "{what}");
            timeout(LINGER_MAX, closing).await.unwrap().unwrap();
            receiving.close().await;
            publishing.close().await;
        }
    }
}

/// Most of it is sent again, which by default takes a second for each MiB.
const FAST: RepairLimits = RepairLimits {
    request_messages_max: 256,
    request_bytes_max: 1 << 20,
    requester: RATE,
    source: RATE,
};
const RATE: Rate = Rate {
    bytes_per_second: 64 << 20,
    burst_bytes: 16 << 20,
};

/// 40 MB: more than the server and all sockets on the way hold.
const COUNT: u64 = 20_000;
