//! An archive answers from a stream what a source no longer has, or had when it died.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use natseq::client::{Client, Event as ClientEvent, Publication, connect};
use natseq::jetstream::{Archive, ArchiveError, ArchiveOptions};
use natseq::sequence::{Carrier, Ranges, Rate, RetentionLimits, RetentionOverflow, Stamp};
use natseq::wire::{Headers, Message};
use tokio::time::{Instant, sleep, timeout};

use crate::account::{Account, LINGER_MAX, hear, publish, source};
use crate::support::proxy::{Cut, Proxy};
use crate::support::{Folder, PATIENCE, RealServer, ServerBinary, servers};

/// The stream lacks a fifth; the rest is given out again as it was published, and what it lacks is said to be gone.
#[tokio::test]
async fn an_archive_gives_out_what_the_stream_captured() {
    for binary in servers("an archive") {
        let (server, _folder) = lossy(&binary);
        let client = connect(&server.url()).await.unwrap();
        create_stream(&client, true).await;
        let builder = source(&client, "d.*", "dead").overflow(RetentionOverflow::Evict);
        let retention = RetentionLimits {
            messages_max: 1,
            ..RetentionLimits::default()
        };
        let publisher = builder.retention(retention).start().unwrap();
        let mut headers = Headers::new();
        headers.append("Colour", "blue, or not").unwrap();
        for number in 1..=COUNT {
            let publication = Publication::new(subject(number), format!("body {number}")).unwrap();
            publisher.send(publication.headers(&headers)).await.unwrap();
        }
        client.flush().await.unwrap();
        let asked = format!("_SEQ.AR.dead.{}", publisher.epoch());
        let mut archive = Archive::start(&client, ArchiveOptions::new("S"))
            .await
            .unwrap();
        let serving = tokio::spawn(async move {
            archive.run().await;
            archive.statistics()
        });

        let mut found: BTreeMap<u64, Message> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        while (found.len() + gone.len()) as u64 != COUNT {
            let missing = (1..=COUNT).filter(|seq| !found.contains_key(seq) && !gone.contains(seq));
            let mut ranges = Ranges::new();
            missing.for_each(|seq| ranges.push(seq, seq));
            let ranges: Vec<String> = ranges
                .iter()
                .take(64)
                .map(|(a, b)| format!("{a}-{b}"))
                .collect();
            for message in ask(&client, &asked, &ranges.join(",")).await {
                let block = message.headers().unwrap();
                let seq = Stamp::parse(block.first("Seq").unwrap()).unwrap().seq;
                if message.status().is_none() {
                    assert!(found.insert(seq, message).is_none(), "{seq} twice");
                    continue;
                }
                if let Some(text) = block.first("Seq-Gone") {
                    for (from, to) in Ranges::parse(text).unwrap().iter() {
                        gone.extend(from..=to);
                    }
                }
            }
        }
        let share = gone.len() as f64 / COUNT as f64;
        assert!((0.1..0.3).contains(&share), "{share} on {}", binary.version);
        for (seq, message) in &found {
            let block = message.headers().unwrap();
            assert_eq!(message.payload(), format!("body {seq}").as_bytes());
            assert_eq!(block.first("Seq-Subject"), Some(subject(*seq).as_bytes()));
            assert_eq!(block.first("Colour"), Some(&b"blue, or not"[..]));
            let names = block.iter().map(|field| field.unwrap().0.to_vec());
            assert_eq!(names.count(), 3, "{message:?}");
        }

        // What may be on its way, what is no request, and a place that is not for answers.
        let end = ask(&client, &asked, &format!("{}", COUNT + 1)).await;
        assert_eq!((end.len(), status(&end[0])), (1, 204));
        assert_eq!(end[0].headers().unwrap().first("Seq-Gone"), None);
        let end = ask(&client, "_SEQ.AR.nobody.1", "1-2").await;
        assert_eq!((end.len(), status(&end[0])), (1, 404));
        let mut elsewhere = client.subscribe("elsewhere").unwrap();
        for request in ["1-", "1-2"] {
            let publication = Publication::new(&asked, request).unwrap();
            client
                .send(publication.reply("elsewhere").unwrap())
                .await
                .unwrap();
        }
        // Behind an answer: there is one archive, and it takes one request after the other.
        ask(&client, &asked, "1").await;
        elsewhere.unsubscribe();
        assert!(elsewhere.next().await.is_none(), "{}", binary.version);
        drop(publisher);
        client.close().await;
        let statistics = serving.await.unwrap();
        assert_eq!(statistics.indexed, found.len() as u64, "{statistics:?}");
        assert_eq!(statistics.refused_requests, 2, "{statistics:?}");
        assert_eq!(statistics.restarts, 1, "{statistics:?}");
    }
}

/// What a receiver has missed is with the archive alone: the source retains ten messages, or died.
#[tokio::test]
async fn a_receiver_wins_back_from_an_archive_what_its_source_cannot_send() {
    for binary in servers("asked of an archive") {
        for (carrier, dies) in [
            (Carrier::Header, false),
            (Carrier::Header, true),
            (Carrier::Token, true),
        ] {
            let what = format!("{carrier:?}, dies: {dies}, on {}", binary.version);
            let (server, _folder) = lossy(&binary);
            let client = connect(&server.url()).await.unwrap();
            create_stream(&client, true).await;
            let archive = ArchiveOptions::new("S");
            let mut archive = Archive::start(&client, archive).await.unwrap();
            let serving = tokio::spawn(async move {
                archive.run().await;
                archive.statistics()
            });
            let proxy = Proxy::start(server.address(), 1);
            let receiving = connect(&proxy.url()).await.unwrap();
            let builder = receiving.sequenced_subscriber("d.*").unwrap();
            let mut sub = builder.carrier(carrier).archive(true).start().unwrap();
            receiving.flush().await.unwrap();
            let way_out = Proxy::start(server.address(), 1);
            let publishing = connect(&way_out.url()).await.unwrap();
            let builder = source(&publishing, "d.*", "dead").carrier(carrier);
            let builder = builder.overflow(RetentionOverflow::Evict);
            let publisher = builder.retention(SHORT).start().unwrap();
            let mut account = Account::default();
            publish(&publisher, "d.y", 1..=1).await;
            hear(&mut sub, &mut account, |account| account.decided() == 1).await;
            // A hundred are missed while the receiver is away, and then nobody tells of them.
            let mut events = receiving.events();
            proxy.refuse(true);
            proxy.cut(Cut::Reset);
            publish(&publisher, "d.y", 2..=101).await;
            publishing.flush().await.unwrap();
            if dies {
                way_out.refuse(true);
                way_out.cut(Cut::Reset);
            }
            proxy.refuse(false);
            while !matches!(
                timeout(PATIENCE, events.next()).await.unwrap().unwrap(),
                ClientEvent::Connected { .. }
            ) {}
            hear(&mut sub, &mut account, |account| account.decided() == 101).await;
            account.assert_whole(101);
            let sum = account.sum();
            assert_eq!((sum.lost, sum.repaired), (0, 100), "{sum:?}, {what}");
            drop(publisher);
            receiving.close().await;
            client.close().await;
            let statistics = serving.await.unwrap();
            // One to learn that there are any, where the source does not tell.
            let from_archive = if dies { 101 } else { 90 };
            assert_eq!(statistics.repairs, from_archive, "{statistics:?}, {what}");
        }
    }
}

/// Nobody serves an archive: what is missing is lost all the same, and nobody waits for long.
#[tokio::test]
async fn without_an_archive_what_was_forgotten_is_lost_in_half_a_second() {
    for binary in servers("no archive there") {
        let (server, _folder) = lossy(&binary);
        let client = connect(&server.url()).await.unwrap();
        let builder = client.sequenced_subscriber("d.x").unwrap();
        let mut sub = builder.archive(true).start().unwrap();
        client.flush().await.unwrap();
        let builder = source(&client, "d.x", "short");
        let builder = builder.overflow(RetentionOverflow::Evict);
        let publisher = builder.retention(SHORT).start().unwrap();
        publish(&publisher, "d.x", 1..=1_000).await;
        let closing = tokio::spawn(publisher.close());
        let mut account = Account::default();
        let began = Instant::now();
        hear(&mut sub, &mut account, |account| account.ended() == 1).await;
        account.assert_whole(1_000);
        let took = began.elapsed();
        assert!(
            took < Duration::from_secs(4),
            "{took:?} on {}",
            binary.version
        );
        let sum = account.sum();
        assert!(sum.lost > 100, "{sum:?} on {}", binary.version);
        timeout(LINGER_MAX, closing).await.unwrap().unwrap();
        client.close().await;
    }
}

/// A requester gets so many bytes at once, and is told when to ask for more.
#[tokio::test]
async fn an_archive_sends_no_more_than_its_budget() {
    for binary in servers("an archive's budget") {
        let (server, _folder) = lossy(&binary);
        let client = connect(&server.url()).await.unwrap();
        create_stream(&client, true).await;
        let publisher = source(&client, "d.*", "dead").start().unwrap();
        let filler = "x".repeat(1_000);
        for _ in 0..100 {
            publisher.publish("d.y", filler.clone()).await.unwrap();
        }
        let asked = format!("_SEQ.AR.dead.{}", publisher.epoch());
        let mut options = ArchiveOptions::new("S");
        options.repairs.requester = Rate {
            bytes_per_second: 20_000,
            burst_bytes: 10_000,
        };
        let mut archive = Archive::start(&client, options).await.unwrap();
        let serving = tokio::spawn(async move {
            archive.run().await;
            archive.statistics()
        });
        let began = Instant::now();
        let inbox = client.new_inbox().unwrap();
        let (mut messages, mut delays) = (0_u64, 0);
        while messages < 60 {
            let from = messages + 1;
            for message in ask_as(&client, &inbox, &asked, &format!("{from}-100")).await {
                if message.status().is_none() {
                    messages += 1;
                    continue;
                }
                let retry = message.headers().unwrap().first("Seq-Retry");
                if let Some(retry) = retry {
                    delays += 1;
                    let millis = String::from_utf8_lossy(retry).parse().unwrap();
                    sleep(Duration::from_millis(millis)).await;
                }
            }
        }
        let took = began.elapsed();
        // 60,000 bytes, of which 10,000 at once and a message more than that.
        assert!(
            took > Duration::from_millis(2_400),
            "{took:?} on {}",
            binary.version
        );
        assert!(delays > 1, "{delays} on {}", binary.version);
        drop(publisher);
        client.close().await;
        let statistics = serving.await.unwrap();
        assert_eq!(statistics.delayed_requests, delays, "{statistics:?}");
    }
}

/// However deep one message overdraws it: the next is not sent.
#[tokio::test]
async fn an_archive_stops_in_the_middle_of_an_answer_that_exceeds_its_budget() {
    for binary in servers("an archive's overdraft") {
        let (server, _folder) = lossy(&binary);
        let client = connect(&server.url()).await.unwrap();
        create_stream(&client, true).await;
        let publisher = source(&client, "d.*", "dead").start().unwrap();
        let filler = "x".repeat(6_000);
        for _ in 0..20 {
            publisher.publish("d.y", filler.clone()).await.unwrap();
        }
        let epoch = publisher.epoch();
        // What goes beyond 10,000 bytes is overdrawn by half a second, or by two.
        for (bytes_per_second, is_said) in [(5_000, true), (1_000, false)] {
            let what = format!("{bytes_per_second} on {}", binary.version);
            let mut options = ArchiveOptions::new("S");
            options.repairs.requester = Rate {
                bytes_per_second,
                burst_bytes: 10_000,
            };
            let mut archive = Archive::start(&client, options).await.unwrap();
            while archive.statistics().indexed < 20 {
                let _ = timeout(Duration::from_millis(10), archive.run()).await;
            }
            let serving = tokio::spawn(async move { archive.run().await });
            let inbox = client.new_inbox().unwrap();
            let mut answers = client.subscribe(&inbox).unwrap();
            let asked = format!("_SEQ.AR.dead.{epoch}");
            let request = Publication::new(&asked, "1-20").unwrap();
            client.send(request.reply(&inbox).unwrap()).await.unwrap();
            for _ in 0..2 {
                let repair = timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
                assert_eq!(repair.status(), None, "{what}");
            }
            let wait = if is_said { PATIENCE } else { SILENCE };
            let end = timeout(wait, answers.next()).await.ok().flatten();
            let code = end.map(|end| status(&end));
            assert_eq!(code, is_said.then_some(204), "{what}");
            serving.abort();
            assert!(serving.await.is_err(), "{what}");
        }
        client.close().await;
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_an_archive_is_refused() {
    for binary in servers("no archive") {
        let (server, _folder) = lossy(&binary);
        let client = connect(&server.url()).await.unwrap();
        let error = Archive::start(&client, ArchiveOptions::new("S"))
            .await
            .unwrap_err();
        assert!(
            matches!(error, ArchiveError::Refused { code: 10_059, .. }),
            "{error:?}"
        );
        create_stream(&client, false).await;
        let error = Archive::start(&client, ArchiveOptions::new("S"))
            .await
            .unwrap_err();
        assert!(matches!(error, ArchiveError::NoDirectGet), "{error:?}");
        client.close().await;
    }
}

/// Only the last comes for sure: behind it, what the stream lacks is gone.
const fn subject(number: u64) -> &'static str {
    if number == COUNT { "d.y" } else { "d.x" }
}

/// All answers to one request; the end is the last.
pub(crate) async fn ask(client: &Client, subject: &str, ranges: &str) -> Vec<Message> {
    let inbox = client.new_inbox().unwrap();
    ask_as(client, &inbox, subject, ranges).await
}

/// The same of a requester, who is known by its inbox.
async fn ask_as(client: &Client, inbox: &str, subject: &str, ranges: &str) -> Vec<Message> {
    let mut answers = client.subscribe(inbox).unwrap();
    let publication = Publication::new(subject, ranges.to_owned()).unwrap();
    client
        .send(publication.reply(inbox).unwrap())
        .await
        .unwrap();
    let mut messages = Vec::new();
    loop {
        let message = timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
        let is_end = message.status().is_some();
        messages.push(message);
        if is_end {
            return messages;
        }
    }
}

pub(crate) fn status(message: &Message) -> u16 {
    message.status().unwrap().code
}

pub(crate) async fn create_stream(client: &Client, allow_direct: bool) {
    let config = format!(
        "{{\"name\":\"S\",\"subjects\":[\"d.>\"],\"storage\":\"memory\",\"allow_direct\":{allow_direct}}}"
    );
    let created = client
        .request("$JS.API.STREAM.CREATE.S", config)
        .await
        .unwrap();
    let text = String::from_utf8_lossy(created.payload()).into_owned();
    assert!(!text.contains("\"error\""), "{text}");
}

pub(crate) fn lossy(binary: &ServerBinary) -> (RealServer, Folder) {
    let folder = Folder::new();
    let config = format!(
        "jetstream {{ store_dir: \"{}\" }}\nmappings = {{ \"d.x\": [ {{ destination: \"d.x\", weight: 80% }} ] }}",
        folder.path.display()
    );
    (RealServer::start(binary, &config), folder)
}

const COUNT: u64 = 2_000;

/// Nothing more comes after this.
const SILENCE: Duration = Duration::from_millis(300);

const SHORT: RetentionLimits = RetentionLimits {
    messages_max: 10,
    bytes_max: 1 << 20,
    age_max: Duration::from_secs(60),
};
