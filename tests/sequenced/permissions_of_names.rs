//! What permissions who claims a name needs, and who asks an archive or is one: no more than the chapter says.

use std::time::Duration;

use natseq::client::{Client, Error, ErrorKind, Event, SequencedPublisher, connect};
use natseq::jetstream::{Archive, ArchiveOptions};
use natseq::sequence::{NamePolicy, RetentionLimits, RetentionOverflow};
use tokio::time::timeout;

use crate::account::{Account, LINGER_MAX, hear, publish, refusals, source};
use crate::support::proxy::{Cut, Proxy};
use crate::support::{Folder, PATIENCE, RealServer, servers};

/// Two senders, a receiver that asks archives, an archive, and somebody who may do everything.
const USERS: &str = r#"
authorization {
    users: [
        { user: "pricing", password: "p", permissions: {
            publish: ["orders.eu.>", "_SEQ.HB.orders.eu.>", "_SEQ.NM.pricing-a"]
            subscribe: ["_SEQ.RX.pricing-a.*", "_SEQ.NM.pricing-a", "_INBOX.>"]
            allow_responses: { max: 10000, expires: "10s" }
        } }
        { user: "billing", password: "p", permissions: {
            publish: ["orders.us.>", "_SEQ.HB.orders.us.>", "_SEQ.NM.billing-a"]
            subscribe: ["_SEQ.RX.billing-a.*", "_SEQ.NM.billing-a", "_INBOX.>"]
            allow_responses: { max: 10000, expires: "10s" }
        } }
        { user: "audit", password: "p", permissions: {
            publish: ["_SEQ.RX.>", "_SEQ.AR.>"]
            subscribe: ["orders.>", "_SEQ.HB.orders.>", "_INBOX.>"]
        } }
        { user: "archive", password: "p", permissions: {
            publish: ["$JS.API.>"]
            subscribe: ["_SEQ.AR.>", "_INBOX.>"]
            allow_responses: { max: 10000, expires: "10s" }
        } }
        { user: "admin", password: "p" }
    ]
}
"#;

#[tokio::test]
async fn a_name_is_claimed_and_given_up_with_the_permissions_for_that_name_alone() {
    for binary in servers("permission to claim") {
        let what = binary.version;
        let server = RealServer::start(&binary, USERS);
        let audit = connect(&server.url_as("audit:p")).await.unwrap();
        let mut sub = audit
            .sequenced_subscriber("orders.>")
            .unwrap()
            .start()
            .unwrap();
        audit.flush().await.unwrap();
        let pricing = [
            connect(&server.url_as("pricing:p")).await.unwrap(),
            connect(&server.url_as("pricing:p")).await.unwrap(),
        ];
        let mut events = [pricing[0].events(), pricing[1].events()];
        let first = claim(&pricing[0], NamePolicy::Refuse).await.unwrap();
        publish(&first, "orders.eu.y", 1..=10).await;
        let in_use = claim(&pricing[1], NamePolicy::Refuse).await.unwrap_err();
        let epoch = first.epoch();
        assert_eq!(in_use.kind(), ErrorKind::NameInUse { epoch }, "{what}");

        // Who may not speak of the name can neither take it nor hear of it.
        let billing = connect(&server.url_as("billing:p")).await.unwrap();
        let refused = claim(&billing, NamePolicy::Takeover).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{what}");
        let forged = format!(
            r#"{{"v":1,"k":"claim","epoch":{},"nonce":"00000000000000ff"}}"#,
            epoch + 1_000_000
        );
        billing.publish("_SEQ.NM.pricing-a", forged).await.unwrap();
        billing.flush().await.unwrap();
        assert_eq!(first.fenced_by(), None, "{what}");
        publish(&first, "orders.eu.y", 11..=20).await;

        let second = claim(&pricing[1], NamePolicy::Takeover).await.unwrap();
        assert_eq!(first.fenced_by(), Some(second.epoch()), "{what}");
        publish(&second, "orders.eu.y", 1..=20).await;
        let mut account = Account::default();
        hear(&mut sub, &mut account, |account| account.decided() == 40).await;
        account.assert_whole(20);
        assert_eq!(account.sum().lost, 0, "{what}");
        drop((first, second));
        for (client, events) in pricing.into_iter().zip(&mut events) {
            client.close().await;
            assert_eq!(
                refusals(events, |refusal| refusal.text).await,
                [""; 0],
                "{what}"
            );
        }
        billing.close().await;
        audit.close().await;
    }
}

/// A receiver was away, the source retains a message, and an archive has them all.
#[tokio::test]
async fn an_archive_serves_and_is_asked_with_the_permissions_for_that_alone() {
    for binary in servers("permission to archive") {
        let what = binary.version;
        let folder = Folder::new();
        let storage = folder.path.display();
        let config = format!("jetstream {{ store_dir: \"{storage}\" }}\n{USERS}");
        let server = RealServer::start(&binary, &config);
        let admin = connect(&server.url_as("admin:p")).await.unwrap();
        let created = admin.request("$JS.API.STREAM.CREATE.S", STREAM).await;
        let created = String::from_utf8_lossy(created.unwrap().payload()).into_owned();
        assert!(!created.contains("\"error\""), "{created}");

        let archiving = connect(&server.url_as("archive:p")).await.unwrap();
        let archive = ArchiveOptions::new("S");
        let mut archive = Archive::start(&archiving, archive).await.unwrap();
        let serving = tokio::spawn(async move {
            archive.run().await;
            archive.statistics()
        });
        let proxy = Proxy::start(server.address(), 1);
        let url = proxy.url().replace("//", "//audit:p@");
        let audit = connect(&url).await.unwrap();
        let mut events = [archiving.events(), audit.events()];
        let builder = audit.sequenced_subscriber("orders.>").unwrap();
        let mut sub = builder.archive(true).start().unwrap();
        audit.flush().await.unwrap();
        let pricing = connect(&server.url_as("pricing:p")).await.unwrap();
        let builder = source(&pricing, "orders.eu.>", "pricing-a");
        let builder = builder.overflow(RetentionOverflow::Evict).retention(SHORT);
        let publisher = builder.start().unwrap();
        let mut account = Account::default();
        publish(&publisher, "orders.eu.y", 1..=1).await;
        hear(&mut sub, &mut account, |account| account.decided() == 1).await;
        let mut links = audit.events();
        proxy.refuse(true);
        proxy.cut(Cut::Reset);
        publish(&publisher, "orders.eu.y", 2..=500).await;
        pricing.flush().await.unwrap();
        proxy.refuse(false);
        let connected = |event: &Event| matches!(event, Event::Connected { .. });
        while !connected(&timeout(PATIENCE, links.next()).await.unwrap().unwrap()) {}
        let closing = tokio::spawn(publisher.close());
        hear(&mut sub, &mut account, |account| account.ended() == 1).await;
        account.assert_whole(500);
        let sum = account.sum();
        assert_eq!((sum.lost, sum.repaired), (0, 499), "{sum:?}, {what}");
        timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        audit.close().await;
        archiving.close().await;
        let statistics = serving.await.unwrap();
        assert_eq!(statistics.repairs, 498, "{statistics:?}, {what}");
        for events in &mut events {
            assert_eq!(
                refusals(events, |refusal| refusal.text).await,
                [""; 0],
                "{what}"
            );
        }
        pricing.close().await;
        admin.close().await;
    }
}

async fn claim(client: &Client, policy: NamePolicy) -> Result<SequencedPublisher, Error> {
    source(client, "orders.eu.>", "pricing-a")
        .claim(policy)
        .await
}

const STREAM: &str =
    r#"{"name":"S","subjects":["orders.>"],"storage":"memory","allow_direct":true}"#;

const SHORT: RetentionLimits = RetentionLimits {
    messages_max: 1,
    bytes_max: 1 << 20,
    age_max: Duration::from_secs(60),
};
