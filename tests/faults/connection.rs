//! Connections that are cut, chopped, stalled and swallowed.

use std::io;
use std::time::{Duration, Instant};

use natseq::client::{Client, Publication};
use natseq::session::LinkError;
use natseq::wire::Headers;

use crate::rig::{Rig, SEED, binaries, next, options, until, within};
use crate::support::proxy::{Cut, Pace, Proxy, Way};

/// Messages in one connection of the tests that cut it at every byte.
const MESSAGES: usize = 5;

#[tokio::test]
async fn a_connection_cut_at_every_byte_of_the_server_delivers_only_whole_messages() {
    let Some(mut rig) = Rig::new("cut at every byte of the server").await else {
        return;
    };
    let mut sub = rig.client.subscribe("cut").unwrap();
    let frames = frames("MSG cut 1");
    for cut in 0..=frames.len() {
        let how = if cut % 2 == 0 { Cut::Reset } else { Cut::Close };
        let context = format!("{how:?} at {cut}");
        rig.client.flush().await.unwrap();
        let connection = rig.proxy.accepted() - 1;
        rig.proxy.cut_after(Way::ToClient, cut as u64, how);
        let begun = rig.proxy.passed(connection).to_client.len();
        for number in 0..MESSAGES {
            rig.direct.publish("cut", payload(number)).await.unwrap();
        }
        rig.disconnected().await;
        let passed = rig.proxy.passed(connection).to_client.split_off(begun);
        assert_eq!(passed.len(), cut, "{context}");
        let whole = whole_frames(&passed);
        rig.connected().await;
        rig.client.flush().await.unwrap();
        for number in 0..whole {
            assert_eq!(next(&mut sub).await, payload(number), "{context}");
        }
        rig.works(&mut sub, "cut", "whole again\n").await;
    }
}

#[tokio::test]
async fn a_connection_cut_at_every_byte_of_the_client_gives_the_server_only_whole_messages() {
    let Some(mut rig) = Rig::new("cut at every byte of the client").await else {
        return;
    };
    let mut seen = rig.direct.subscribe("cut").unwrap();
    rig.direct.flush().await.unwrap();
    let frames = frames("PUB cut");
    for cut in 0..=frames.len() {
        let context = format!("cut at {cut}");
        rig.client.flush().await.unwrap();
        let connection = rig.proxy.accepted() - 1;
        rig.proxy.cut_after(Way::ToServer, cut as u64, Cut::Close);
        let begun = rig.proxy.passed(connection).to_server.len();
        for number in 0..MESSAGES {
            rig.client.publish("cut", payload(number)).await.unwrap();
        }
        let (_, in_doubt) = rig.disconnected().await;
        let in_doubt = usize::try_from(in_doubt).unwrap();
        let passed = rig.proxy.passed(connection).to_server.split_off(begun);
        assert_eq!(passed.len(), cut, "{context}");
        let arrived = whole_frames(&passed);
        rig.connected().await;
        rig.client.publish("cut", "last").await.unwrap();
        // Of those in doubt some have arrived; those that were not written come now.
        assert!(arrived <= in_doubt, "{context}: {arrived} of {in_doubt}");
        for number in (0..arrived).chain(in_doubt..MESSAGES) {
            assert_eq!(next(&mut seen).await, payload(number), "{context}");
        }
        assert_eq!(next(&mut seen).await, "last", "{context}");
    }
}

#[tokio::test]
async fn a_reset_and_an_orderly_end_keep_their_reasons() {
    let Some(mut rig) = Rig::new("reasons").await else {
        return;
    };
    rig.proxy.cut(Cut::Reset);
    let (reason, in_doubt) = rig.disconnected().await;
    let LinkError::Io { kind, .. } = reason else {
        panic!("{reason:?}");
    };
    assert_eq!((kind, in_doubt), (io::ErrorKind::ConnectionReset, 0));
    rig.connected().await;
    rig.proxy.cut(Cut::Close);
    assert_eq!(rig.disconnected().await, (LinkError::Closed, 0));
    rig.connected().await;
    rig.client.flush().await.unwrap();
}

/// What the client tells does not depend on the pieces in which it comes and goes.
#[tokio::test]
async fn one_byte_at_a_time_means_the_same_as_all_at_once() {
    for binary in binaries("one byte at a time") {
        let mut told = Vec::new();
        for pace in [
            Pace::default(),
            Pace {
                chunk_bytes_max: 1,
                ..Pace::default()
            },
            Pace {
                chunk_bytes_max: 7,
                is_random: true,
                ..Pace::default()
            },
        ] {
            let rig = Rig::on(&binary, "", options()).await;
            rig.proxy.pace(Way::ToServer, pace);
            rig.proxy.pace(Way::ToClient, pace);
            told.push((conversation(&rig.client).await, rig.proxy.accepted()));
            rig.client.close().await;
        }
        let context = format!("{} with seed {SEED}", binary.version);
        assert_eq!(told[0].1, 1, "{context}");
        assert_eq!(told[1], told[0], "{context}");
        assert_eq!(told[2], told[0], "{context}");
    }
}

#[tokio::test]
async fn garbage_from_the_server_ends_the_connection_and_the_next_one_works() {
    let Some(mut rig) = Rig::new("garbage").await else {
        return;
    };
    let mut sub = rig.client.subscribe("g").unwrap();
    for garbage in [
        "MSG g 1 5\r\nhello!!",
        "\0\0\0\0",
        "MSG g 1 -1\r\n",
        "HTTP/1.1 400\r\n",
    ] {
        rig.works(&mut sub, "g", "before").await;
        rig.proxy.inject(Way::ToClient, garbage.as_bytes());
        let (reason, _) = rig.disconnected().await;
        assert!(
            matches!(reason, LinkError::Frame(_)),
            "{garbage:?}: {reason:?}"
        );
        rig.connected().await;
        rig.works(&mut sub, "g", "after").await;
    }
}

/// Garbage from us would end the connection from the server's side, with its words as the reason.
#[tokio::test]
async fn what_a_server_says_before_it_closes_is_the_reason() {
    let Some(mut rig) = Rig::new("the server's last words").await else {
        return;
    };
    rig.client.flush().await.unwrap();
    rig.proxy.inject(Way::ToServer, b"NONSENSE\r\n");
    let (reason, _) = rig.disconnected().await;
    let expected = LinkError::Server("Unknown Protocol Operation".to_owned());
    assert_eq!(reason, expected);
    rig.connected().await;
    rig.client.flush().await.unwrap();
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_what_was_lost_in_it_is_in_doubt() {
    let interval = Duration::from_millis(200);
    let options = options().ping_interval(interval);
    let Some(mut rig) = Rig::with("half-open", options).await else {
        return;
    };
    let mut seen = rig.direct.subscribe("h").unwrap();
    rig.direct.flush().await.unwrap();
    rig.client.publish("h", "confirmed").await.unwrap();
    rig.client.flush().await.unwrap();
    assert_eq!(next(&mut seen).await, "confirmed");
    rig.proxy.cut(Cut::Swallow);
    let begun = now();
    for _ in 0..7 {
        rig.client.publish("h", "lost").await.unwrap();
    }
    assert_eq!(rig.disconnected().await, (LinkError::Stale, 7));
    assert!(begun.elapsed() >= interval, "{:?}", begun.elapsed());
    rig.connected().await;
    rig.client.publish("h", "after").await.unwrap();
    assert_eq!(next(&mut seen).await, "after");
}

#[tokio::test]
async fn an_idle_half_open_connection_is_noticed_without_a_word_of_ours() {
    let options = options().ping_interval(Duration::from_millis(100));
    let Some(mut rig) = Rig::with("idle half-open", options).await else {
        return;
    };
    rig.proxy.cut(Cut::Swallow);
    assert_eq!(rig.disconnected().await, (LinkError::Stale, 0));
    rig.connected().await;
    rig.client.flush().await.unwrap();
}

/// Each direction by itself, and both.
#[tokio::test]
async fn a_stall_that_passes_loses_nothing_and_one_that_does_not_is_noticed() {
    let options = options().ping_interval(Duration::from_millis(500));
    let Some(mut rig) = Rig::with("stalls", options).await else {
        return;
    };
    let mut sub = rig.client.subscribe("s").unwrap();
    for ways in [
        &[Way::ToServer][..],
        &[Way::ToClient],
        &[Way::ToServer, Way::ToClient],
    ] {
        rig.works(&mut sub, "s", "before").await;
        let accepted = rig.proxy.accepted();
        ways.iter().for_each(|way| rig.proxy.stall(*way));
        for _ in 0..10 {
            rig.client.publish("s", "held up").await.unwrap();
        }
        // Time for a message that nothing holds up.
        let unhindered = tokio::time::timeout(Duration::from_millis(50), sub.next()).await;
        assert!(unhindered.is_err(), "{ways:?}: {unhindered:?}");
        ways.iter().for_each(|way| rig.proxy.resume(*way));
        for _ in 0..10 {
            assert_eq!(next(&mut sub).await, "held up", "{ways:?}");
        }
        assert_eq!(rig.proxy.accepted(), accepted, "{ways:?}");

        ways.iter().for_each(|way| rig.proxy.stall(*way));
        let (reason, _) = rig.disconnected().await;
        assert_eq!(reason, LinkError::Stale, "{ways:?}");
        ways.iter().for_each(|way| rig.proxy.resume(*way));
        rig.connected().await;
        rig.client.flush().await.unwrap();
    }
}

/// A slow line is no dead one: the PONG that is under way counts as soon as its first byte is there.
#[tokio::test]
async fn a_slow_line_is_not_given_up() {
    let options = options().ping_interval(Duration::from_millis(400));
    let Some(rig) = Rig::with("a slow line", options).await else {
        return;
    };
    let mut sub = rig.client.subscribe("slow").unwrap();
    rig.client.flush().await.unwrap();
    rig.proxy.pace(
        Way::ToClient,
        Pace {
            chunk_bytes_max: 1,
            delay: Duration::from_millis(20),
            ..Pace::default()
        },
    );
    // About two seconds for the line.
    rig.works(&mut sub, "slow", &"x".repeat(80)).await;
    assert_eq!(rig.proxy.accepted(), 1);
    assert!(rig.client.is_connected());
}

#[tokio::test]
async fn a_proxy_counts_refuses_and_hands_on_to_another_server() {
    let Some(mut rig) = Rig::new("the proxy itself").await else {
        return;
    };
    let binary = binaries("the proxy itself").pop().unwrap();
    let other = crate::support::RealServer::start(&binary, "");
    rig.proxy.refuse(true);
    rig.proxy.cut(Cut::Close);
    rig.disconnected().await;
    rig.event(|event| {
        matches!(event, natseq::client::Event::DialFailed { reason: LinkError::Io { kind, .. }, .. }
            if *kind == io::ErrorKind::ConnectionRefused)
    })
    .await;
    assert_eq!(
        (rig.proxy.accepted(), rig.client.is_connected()),
        (1, false)
    );
    rig.proxy.lead_to(other.address());
    rig.proxy.refuse(false);
    rig.connected().await;
    assert_eq!(rig.proxy.accepted(), 2);
    let port = i64::from(other.address().port());
    assert_eq!(rig.client.server_info().port, port);
    let proxy: &Proxy = &rig.proxy;
    until("the first connection to be gone", || proxy.live() == 1).await;
    rig.client.flush().await.unwrap();
    assert!(proxy.bytes(Way::ToServer) > 0 && proxy.bytes(Way::ToClient) > 0);
}

/// Everything that a conversation tells.
async fn conversation(client: &Client) -> Vec<String> {
    let mut told = Vec::new();
    let mut sub = client.subscribe("c.>").unwrap();
    let mut asked = client.subscribe("ask").unwrap();
    let mut headers = Headers::new();
    headers.append("Number", "1").unwrap();
    for size in [0, 1, 2, 100, 3_000] {
        let body = vec![b'x'; size];
        client.publish("c.plain", body.clone()).await.unwrap();
        let publication = Publication::new("c.headers", body).unwrap();
        let publication = publication.reply("r").unwrap().headers(&headers);
        client.send(publication).await.unwrap();
    }
    for _ in 0..10 {
        let message = within("a message", sub.next()).await.unwrap();
        told.push(format!("{message:?}"));
    }
    let answering = async {
        let question = within("a question", asked.next()).await.unwrap();
        let reply = String::from_utf8(question.reply().unwrap().to_vec()).unwrap();
        client.publish(reply.as_str(), "answer").await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.request("ask", "question"), answering);
    told.push(format!("{:?}", answer.unwrap().payload()));
    let nobody = client.request("nobody", "").await.unwrap_err();
    told.push(nobody.to_string());
    client.flush().await.unwrap();
    told
}

/// What a connection carries in the tests that cut it.
fn frames(head: &str) -> String {
    (0..MESSAGES)
        .map(|number| {
            let payload = payload(number);
            format!("{head} {}\r\n{payload}\r\n", payload.len())
        })
        .collect()
}

/// How many of them there are to their last byte.
fn whole_frames(bytes: &[u8]) -> usize {
    bytes.windows(6).filter(|end| end == b"end\n\r\n").count()
}

fn payload(number: usize) -> String {
    format!("message {number} to the end\n")
}

#[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
fn now() -> Instant {
    Instant::now()
}
