//! Greetings that are cut, withheld or no greetings.

use std::time::Duration;

use natseq::client::{ConnectOptions, ErrorKind, connect};
use natseq::session::LinkError;
use tokio::time::Instant;

use crate::rig::{Rig, SEED, VERSION, next, options, within};
use crate::support::proxy::{Cut, Proxy, Way};
use crate::support::{RealServer, server};

/// Beyond it the test would fail anyway; short enough to wait for it some times.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// Every byte of INFO and PONG, and of CONNECT and PING.
#[tokio::test]
async fn a_greeting_cut_at_every_byte_is_begun_anew() {
    let Some(mut rig) = Rig::new("a greeting cut at every byte").await else {
        return;
    };
    let mut sub = rig.client.subscribe("g").unwrap();
    rig.client.flush().await.unwrap();
    let greeting = rig.proxy.passed(0);
    let said = greeting
        .to_client
        .windows(6)
        .position(|end| end == b"PONG\r\n");
    let heard = greeting
        .to_server
        .windows(6)
        .position(|end| end == b"PING\r\n");
    for (way, bytes) in [
        (Way::ToClient, said.unwrap() + 5),
        (Way::ToServer, heard.unwrap() + 5),
    ] {
        for cut in 0..=bytes {
            let how = if cut % 2 == 0 { Cut::Reset } else { Cut::Close };
            rig.proxy.cut_next(way, cut as u64, how);
            rig.proxy.cut(Cut::Reset);
            rig.disconnected().await;
            rig.dial_failed(|_| true).await;
            rig.connected().await;
        }
        rig.works(&mut sub, "g", "still").await;
    }
}

#[tokio::test]
async fn a_port_that_takes_connections_and_says_nothing_is_given_up_in_time() {
    let Some(binary) = server("a silent port", VERSION) else {
        return;
    };
    let server = RealServer::start(&binary, "");
    let proxy = Proxy::start(server.address(), SEED);
    proxy.hold(true);
    assert_eq!(
        refused(&proxy).await,
        LinkError::HandshakeTimeout.to_string()
    );
    proxy.hold(false);
    connect(&proxy.url()).await.unwrap().flush().await.unwrap();
}

/// INFO has come, the PONG does not.
#[tokio::test]
async fn a_server_that_withholds_its_pong_is_given_up_in_time() {
    let Some(rig) = Rig::new("no PONG").await else {
        return;
    };
    let said = rig.proxy.passed(0).to_client;
    let info = said.windows(6).position(|end| end == b"PONG\r\n").unwrap();
    for way in [Way::ToClient, Way::ToServer] {
        let bytes = if way == Way::ToClient { info } else { 20 };
        rig.proxy.cut_next(way, bytes as u64, Cut::Swallow);
        let said = refused(&rig.proxy).await;
        assert_eq!(said, LinkError::HandshakeTimeout.to_string(), "{way:?}");
    }
    rig.client.flush().await.unwrap();
}

#[tokio::test]
async fn a_closed_port_fails_at_once_with_the_systems_reason() {
    let Some(rig) = Rig::new("a closed port").await else {
        return;
    };
    rig.proxy.refuse(true);
    let said = refused(&rig.proxy).await;
    assert!(said.contains("refused"), "{said}");
}

/// A bad first server does not keep the client from the good one, whatever is bad about it.
#[tokio::test]
async fn the_next_server_is_taken_when_the_first_is_closed_silent_or_no_server() {
    let Some(rig) = Rig::new("the first server is bad").await else {
        return;
    };
    let bad = Proxy::start(rig.server.address(), SEED);
    let both = format!("{},{}", bad.url(), rig.proxy.url());
    for spoil in ["closed", "silent", "reset", "garbage"] {
        bad.refuse(spoil == "closed");
        bad.hold(spoil == "silent");
        match spoil {
            "reset" => bad.cut_next(Way::ToClient, 0, Cut::Reset),
            "garbage" => bad.inject(Way::ToClient, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            _ => {}
        }
        let options = options().connect_timeout(CONNECT_TIMEOUT);
        let client = within(spoil, options.connect(&both)).await.unwrap();
        let mut sub = client.subscribe("w").unwrap();
        client.publish("w", spoil).await.unwrap();
        assert_eq!(next(&mut sub).await, spoil);
        client.close().await;
    }
}

/// A connection that is accepted and lost again at once, many times, neither spins nor ends the client.
#[tokio::test]
async fn a_server_that_accepts_and_drops_is_not_dialed_without_a_pause() {
    let Some(binary) = server("accepts and drops", VERSION) else {
        return;
    };
    let server = RealServer::start(&binary, "");
    let proxy = Proxy::start(server.address(), SEED);
    let client = connect(&proxy.url()).await.unwrap();
    proxy.lead_to(Proxy::start(server.address(), SEED).address());
    // That one is gone already, so that each connection is reset.
    proxy.cut(Cut::Reset);
    let begun = Instant::now();
    within("twenty dials", async {
        while proxy.accepted() <= 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // Pauses begin with 5 ms and are an eighth of the time that has passed at least.
    let taken = begun.elapsed();
    assert!(
        taken >= Duration::from_millis(40),
        "twenty dials in {taken:?}"
    );
    proxy.lead_to(server.address());
    within("the connection", async {
        while client.flush().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// What a client that may not retry says of this server.
async fn refused(proxy: &Proxy) -> String {
    let options = ConnectOptions::new().connect_timeout(CONNECT_TIMEOUT);
    let error = within("the refusal", options.connect(&proxy.url()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    std::error::Error::source(&error).unwrap().to_string()
}
