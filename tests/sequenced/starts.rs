//! Who joins late gets what the source still retains, if that is wanted, and else what comes.

use natseq::client::connect;
use natseq::sequence::{Delivery, RetentionLimits, RetentionOverflow, Start};
use tokio::time::timeout;

use crate::account::{Account, LINGER_MAX, hear, publish, source};
use crate::support::{RealServer, servers};

/// Of the messages that were sent the last hundred are retained when the receivers come; then there are fifty more. A fifth of
/// everything is lost on the way.
#[tokio::test]
async fn a_late_receiver_gets_what_is_retained_where_that_is_wanted() {
    let cases = [
        (Start::Retained, Delivery::Immediate, FORGOTTEN + 1),
        (Start::Retained, Delivery::Ordered, FORGOTTEN + 1),
        (Start::Live, Delivery::Immediate, BEFORE + 1),
        (Start::Live, Delivery::Ordered, BEFORE + 1),
        // Whoever only detects asks for nothing that was.
        (Start::Retained, Delivery::DetectOnly, BEFORE + 1),
    ];
    let config = r#"mappings = { "d.x": [ { destination: "d.x", weight: 80% } ] }"#;
    for binary in servers("what is retained") {
        let server = RealServer::start(&binary, config);
        let publishing = connect(&server.url()).await.unwrap();
        let builder = source(&publishing, "d.x", "early").retention(RetentionLimits {
            messages_max: RETAINED,
            ..RetentionLimits::default()
        });
        let builder = builder.overflow(RetentionOverflow::Evict);
        let publisher = builder.start().unwrap();
        publish(&publisher, "d.x", 1..=BEFORE).await;
        publishing.flush().await.unwrap();

        let receiving = connect(&server.url()).await.unwrap();
        let mut subs = Vec::new();
        for (start, delivery, base) in cases {
            let builder = receiving.sequenced_subscriber("d.x").unwrap();
            let builder = builder.delivery(delivery);
            let builder = builder.options(|options| options.start = start);
            subs.push((builder.start().unwrap(), delivery, base));
        }
        receiving.flush().await.unwrap();
        let mut accounts: Vec<_> = subs.iter().map(|_| Account::default()).collect();
        // What is forgotten while they ask for it would be lost.
        for ((sub, delivery, base), account) in subs.iter_mut().zip(&mut accounts) {
            let has_retained = *base <= BEFORE && *delivery != Delivery::DetectOnly;
            let due = if has_retained { BEFORE + 1 - *base } else { 0 };
            hear(sub, account, |account| account.decided() == due).await;
        }
        publish(&publisher, "d.x", BEFORE + 1..=BEFORE + AFTER).await;
        let closing = tokio::spawn(publisher.close());
        for ((sub, delivery, base), account) in subs.iter_mut().zip(&mut accounts) {
            let what = format!("{delivery:?} from {base} on {}", binary.version);
            hear(sub, account, |account| account.ended() == 1).await;
            let lines: Vec<_> = sub.statistics().collect();
            let sum = account.sum();
            // With the first heartbeat or message it is known where the live ones begin.
            let first = lines[0].base;
            if *base <= BEFORE {
                assert_eq!(first, *base, "{lines:?}, {what}");
            } else {
                assert!((*base..*base + 20).contains(&first), "{lines:?}, {what}");
            }
            assert_eq!(account.decided(), BEFORE + AFTER + 1 - first, "{what}");
            let is_checked_only = *delivery == Delivery::DetectOnly;
            assert!(sum.lost == 0 || is_checked_only, "{sum:?}, {what}");
            let is_ordered = sum.out_of_order == 0;
            assert!(is_ordered || *delivery != Delivery::Ordered, "{what}");
        }
        timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        publishing.close().await;
        receiving.close().await;
    }
}

/// What the source keeps.
const RETAINED: usize = 100;
/// Messages before anybody listens, those of them that are forgotten by then, and messages after.
const BEFORE: u64 = 150;
const FORGOTTEN: u64 = BEFORE - RETAINED as u64;
const AFTER: u64 = 50;
