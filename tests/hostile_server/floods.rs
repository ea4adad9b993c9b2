//! Servers that do not stop talking.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use natseq::client::{ConnectOptions, Event};
use natseq::session::LinkError;
use tokio::time::timeout;

use crate::Rig;
use crate::script::{INFO, PATIENCE};

#[tokio::test]
async fn a_flood_of_pings_is_answered_to_the_last() {
    let mut rig = Rig::new().await;
    assert_eq!(rig.survives(&b"PING\r\n".repeat(100_000)).await, 100_000);
}

#[tokio::test]
async fn floods_of_what_needs_no_answer_pass_without_a_trace() {
    let mut rig = Rig::new().await;
    let info =
        b"INFO {\"server_id\":\"S\",\"headers\":true,\"connect_urls\":[\"a:1\",\"b:2\"]} \r\n";
    rig.peer.say(info).await;
    let event = rig.event("the first INFO with URLs").await;
    assert!(
        matches!(event, Event::ServersDiscovered { .. }),
        "{event:?}"
    );
    for (bytes, count) in [
        (&b"+OK\r\n"[..], 100_000),
        (b"PONG\r\n", 100_000),
        (info, 5_000),
        (b"INFO {\r\n", 20_000),
        (b"MSG x 77 5\r\nstray\r\n", 50_000),
    ] {
        assert_eq!(rig.survives(&bytes.repeat(count)).await, 0);
    }
}

/// Whoever reads events too slowly is told how many it missed; the connection does not wait for it.
#[tokio::test]
async fn a_flood_of_errors_is_reported_within_bounds() {
    let mut rig = Rig::new().await;
    let count = 20_000;
    rig.peer
        .say(&b"-ERR 'Invalid Subject'\r\n".repeat(count))
        .await;
    rig.works("after errors").await;
    let mut heard = 0;
    while let Ok(event) = timeout(Duration::ZERO, rig.events.next()).await {
        assert!(
            matches!(event, Some(Event::ServerError { .. })),
            "{event:?}"
        );
        heard += 1;
    }
    let missed = usize::try_from(rig.events.missed()).unwrap();
    assert_eq!(heard + missed, count);
    assert!(missed > 0, "the bound was met");
    rig.closes(&LinkError::Closed, "after errors").await;
    rig.comes_back("after errors").await;
}

/// A server that says PING for ever instead of PONG, from a thread of its own so that nothing slows it.
#[tokio::test]
async fn a_flood_within_the_greeting_neither_delays_its_end_nor_others() {
    for flood in [
        &b"PING\r\n"[..],
        b"+OK\r\n",
        b"-ERR 'x'\r\n",
        b"INFO {}\r\n",
    ] {
        let context = flood.escape_ascii().to_string();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let flooding = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(INFO).unwrap();
            let bytes = flood.repeat(10_000);
            while stream.write_all(&bytes).is_ok() {}
            // What the client said meanwhile is bounded.
            let mut heard = 0;
            let mut buffer = vec![0; 65_536];
            while let Ok(count) = stream.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                heard += count;
            }
            heard
        });
        let has_connected = Arc::new(AtomicBool::new(false));
        let ticking = tokio::spawn({
            let has_connected = Arc::clone(&has_connected);
            async move {
                let mut ticks = 0;
                while !has_connected.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                    ticks += 1;
                }
                ticks
            }
        });
        let options = ConnectOptions::new().connect_timeout(Duration::from_millis(500));
        let connected = timeout(PATIENCE / 3, options.connect(&address.to_string())).await;
        has_connected.store(true, Ordering::Relaxed);
        let error = connected.expect("the timeout comes").unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        let reason = source.downcast_ref::<LinkError>();
        assert_eq!(reason, Some(&LinkError::HandshakeTimeout), "{context}");
        let ticks = timeout(PATIENCE, ticking).await.unwrap().unwrap();
        assert!(ticks > 5, "others had {ticks} turns, {context}");
        let heard = flooding.join().unwrap();
        assert!(heard < 10_000, "{heard} bytes of answers, {context}");
    }
}
