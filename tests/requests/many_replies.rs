//! Requests with many replies, and how they end.

use std::time::{Duration, Instant};

use natseq::client::{
    ConnectOptions, ErrorKind, Event, MailboxLimits, Replies, RepliesEnd, connect,
};

use crate::{serve, started, text, wait_for, within};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn replies_end_by_count_sentinel_silence_or_time() {
    for server in started("many replies", "") {
        let client = connect(&server.url()).await.unwrap();
        let asked = client.subscribe_confirmed("count").await.unwrap();
        let service = serve(&client, asked, |question| {
            let count: u32 = text(question).parse().unwrap();
            let replies = (0..count).map(|number| number.to_string());
            replies.chain([String::new()]).collect()
        });
        let ask = client.requester("count").unwrap().timeout(LONG);
        for ask in [ask.clone(), ask.own_inbox()] {
            let mut replies = ask.clone().replies_max(3).request_many("5").await.unwrap();
            assert_eq!(
                all(&mut replies).await,
                ["0", "1", "2"],
                "{}",
                server.version()
            );
            assert_eq!(replies.end(), Some(&RepliesEnd::Count));

            let mut replies = ask.clone().until_empty().request_many("5").await.unwrap();
            assert_eq!(all(&mut replies).await, ["0", "1", "2", "3", "4"]);
            assert_eq!(replies.end(), Some(&RepliesEnd::Sentinel));

            let is_two = ask.clone().sentinel(|reply| reply.payload() == b"2");
            let mut replies = is_two.request_many("5").await.unwrap();
            assert_eq!(all(&mut replies).await, ["0", "1"], "{}", server.version());

            let stall = Duration::from_millis(300);
            let mut replies = ask.clone().stall(stall).request_many("2").await.unwrap();
            let begun = Instant::now();
            assert_eq!(
                all(&mut replies).await,
                ["0", "1", ""],
                "{}",
                server.version()
            );
            assert_eq!(replies.end(), Some(&RepliesEnd::Stall));
            assert!(begun.elapsed() >= stall && begun.elapsed() < LONG);

            let brief = ask.timeout(Duration::from_millis(300));
            let mut replies = brief.request_many("1").await.unwrap();
            assert_eq!(all(&mut replies).await, ["0", ""], "{}", server.version());
            assert_eq!(replies.end(), Some(&RepliesEnd::Timeout));
        }
        assert_eq!(client.pending_requests(), 0, "{}", server.version());
        assert_eq!(client.statistics().subscriptions, 2, "{}", server.version());
        service.abort();
        client.close().await;
    }
}

#[tokio::test]
async fn several_responders_answer_one_request() {
    for server in started("several responders", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut services = Vec::new();
        for name in ["a", "b", "c"] {
            let asked = client.subscribe_confirmed("who").await.unwrap();
            services.push(serve(&client, asked, |_| vec![name.to_owned()]));
        }
        let ask = client
            .requester("who")
            .unwrap()
            .timeout(LONG)
            .replies_max(3);
        let mut names = all(&mut ask.request_many("").await.unwrap()).await;
        names.sort();
        assert_eq!(names, ["a", "b", "c"], "{}", server.version());
        services.iter().for_each(|service| service.abort());
        client.close().await;
    }
}

#[tokio::test]
async fn many_replies_of_nobody_end_at_once() {
    let config = r#"authorization { users: [ { user: "ada", password: "x", permissions: {
        publish: { deny: "secret.>" } } } ] }"#;
    for server in started("replies of nobody", config) {
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        let ask = client.requester("nobody").unwrap().timeout(LONG);
        let mut replies = ask.request_many("").await.unwrap();
        assert!(all(&mut replies).await.is_empty(), "{}", server.version());
        assert_eq!(replies.end(), Some(&RepliesEnd::NoResponders));

        let ask = client.requester("secret.x").unwrap().timeout(LONG);
        for ask in [ask.clone(), ask.clone().own_inbox()] {
            let mut replies = ask.request_many("").await.unwrap();
            assert!(all(&mut replies).await.is_empty(), "{}", server.version());
            let Some(RepliesEnd::Refused(refusal)) = replies.end() else {
                panic!("{:?} on {}", replies.end(), server.version());
            };
            assert_eq!(refusal.subject, "secret.x", "{}", server.version());
        }
        client.close().await;
        let closed = ask.request_many("").await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed, "{}", server.version());
    }
}

#[tokio::test]
async fn replies_that_nobody_wants_any_more_are_forgotten() {
    for server in started("dropped replies", "") {
        let client = connect(&server.url()).await.unwrap();
        let asked = client.subscribe_confirmed("three").await.unwrap();
        let service = serve(&client, asked, |_| vec!["x".into(); 3]);
        let ask = client.requester("three").unwrap().timeout(LONG);
        let mut replies = ask.request_many("").await.unwrap();
        within(replies.next()).await.unwrap();
        assert_eq!(client.pending_requests(), 1, "{}", server.version());
        drop(replies);
        assert_eq!(client.pending_requests(), 0, "{}", server.version());
        service.abort();
        client.close().await;
    }
}

#[tokio::test]
async fn replies_beyond_the_limit_are_dropped_and_counted() {
    for server in started("too many replies", "") {
        let limits = MailboxLimits {
            messages_max: 4,
            ..MailboxLimits::default()
        };
        let options = ConnectOptions::new().mailbox(limits);
        let client = options.connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let responder = connect(&server.url()).await.unwrap();
        let asked = responder.subscribe_confirmed("ten").await.unwrap();
        let ten = |_: &_| (0..10).map(|number| number.to_string()).collect();
        let service = serve(&responder, asked, ten);
        let ask = client.requester("ten").unwrap().timeout(LONG);
        let mut replies = ask.replies_max(4).request_many("").await.unwrap();
        within(async {
            while replies.statistics().accepted + replies.statistics().dropped < 10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(all(&mut replies).await, ["0", "1", "2", "3"]);
        assert_eq!(replies.statistics().dropped, 6, "{}", server.version());
        assert_eq!(client.statistics().dropped_messages, 6);
        let begun = wait_for(&mut events, |event| {
            matches!(event, Event::SlowConsumer { .. })
        });
        begun.await;
        let over = wait_for(&mut events, |event| {
            matches!(event, Event::SlowConsumerOver { dropped: 6, .. })
        });
        over.await;
        service.abort();
        responder.close().await;
        client.close().await;
    }
}

async fn all(replies: &mut Replies) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(reply) = within(replies.next()).await {
        texts.push(text(&reply));
    }
    texts
}
