//! Coming back in ways that are not the usual one: forced, again and again, to other servers, with a verbose one.

use std::time::Duration;

use natseq::client::{ConnectOptions, ErrorKind, Event, Status, connect};
use natseq::session::{LinkError, RedialOptions};
use tokio::time::{Instant, timeout};

use crate::rig::{Rig, SEED, VERSION, binaries, event, next, options, until, within};
use crate::support::proxy::{BOTH, Cut, Pace, Proxy, Way};
use crate::support::{RealServer, server};

/// `+OK` comes within the handshake and behind each line that restores a subscription.
#[tokio::test]
async fn a_verbose_client_comes_back_with_its_subscriptions() {
    for binary in binaries("verbose and lost") {
        let mut rig = Rig::on(&binary, "", options().verbose(true)).await;
        let mut subs: Vec<_> = (0..10)
            .map(|number| rig.client.subscribe(&format!("v.{number}")).unwrap())
            .collect();
        rig.client.flush().await.unwrap();
        for round in 0..3 {
            rig.proxy.cut(Cut::Reset);
            rig.disconnected().await;
            rig.connected().await;
            for (number, sub) in subs.iter_mut().enumerate() {
                let subject = format!("v.{number}");
                rig.works(sub, &subject, &format!("{round}")).await;
            }
        }
        let heard = rig.proxy.passed(3).to_client;
        let oks = heard.windows(3).filter(|word| word == b"+OK").count();
        assert!(oks >= subs.len(), "{oks}");
        rig.no_event("nothing of it is an error").await;
    }
}

#[tokio::test]
async fn forced_reconnects_in_a_row_are_one_and_later_ones_are_others() {
    let Some(mut rig) = Rig::new("forced often").await else {
        return;
    };
    let mut sub = rig.client.subscribe("f").unwrap();
    rig.client.flush().await.unwrap();
    for round in 1..=5 {
        rig.client.flush().await.unwrap();
        for _ in 0..3 {
            rig.client.reconnect();
        }
        let (reason, in_doubt) = rig.disconnected().await;
        assert_eq!((reason, in_doubt), (LinkError::Forced, 0));
        rig.connected().await;
        rig.works(&mut sub, "f", &round.to_string()).await;
        assert_eq!(rig.client.statistics().connects, round + 1);
        assert_eq!(rig.proxy.accepted() as u64, round + 1);
    }
    rig.no_event("three calls in a row are one reconnect").await;
}

#[tokio::test]
async fn a_forced_reconnect_does_not_wait_for_the_end_of_a_pause() {
    let slow = options().redial_delay(|_| Duration::from_secs(600));
    let Some(mut rig) = Rig::with("forced in a pause", slow).await else {
        return;
    };
    rig.proxy.refuse(true);
    rig.proxy.cut(Cut::Reset);
    rig.disconnected().await;
    for _ in 0..3 {
        rig.client.reconnect();
        rig.dial_failed(|reason| matches!(reason, LinkError::Io { .. }))
            .await;
    }
    rig.proxy.refuse(false);
    let is_end =
        |event: &Event| matches!(event, Event::Connected { .. } | Event::DialFailed { .. });
    loop {
        rig.client.reconnect();
        // A dial that was under way may still fail.
        if matches!(rig.event(is_end).await, Event::Connected { .. }) {
            break;
        }
    }
}

/// Who wants no reconnects may still want one.
#[tokio::test]
async fn a_forced_reconnect_is_made_although_a_lost_connection_is_the_end() {
    let once = options().redial(RedialOptions {
        attempts_max: Some(0),
        ..RedialOptions::default()
    });
    let Some(mut rig) = Rig::with("forced and once", once).await else {
        return;
    };
    let mut sub = rig.client.subscribe("f").unwrap();
    for word in ["first", "second"] {
        rig.client.reconnect();
        rig.connected().await;
        rig.works(&mut sub, "f", word).await;
    }
    rig.proxy.cut(Cut::Reset);
    let end = rig
        .event(|event| matches!(event, Event::Closed { .. }))
        .await;
    assert_eq!(
        end,
        Event::Closed {
            reason: Some(LinkError::AttemptsUsedUp),
            discarded_messages: 0
        }
    );
}

#[tokio::test]
async fn other_servers_are_dialed_once_they_take_the_place_of_the_first() {
    let Some(mut rig) = Rig::new("other servers").await else {
        return;
    };
    let other = Proxy::start(rig.server.address(), SEED);
    let mut sub = rig.client.subscribe("s").unwrap();
    rig.client.set_servers(&other.url()).unwrap();
    rig.works(&mut sub, "s", "it stays").await;
    assert_eq!(other.accepted(), 0);
    rig.proxy.cut(Cut::Reset);
    rig.connected().await;
    rig.works(&mut sub, "s", "it went").await;
    assert_eq!((rig.proxy.accepted(), other.accepted()), (1, 1));
    let server = rig.client.server().unwrap();
    assert_eq!(server.port(), other.address().port());
    let error = rig.client.set_servers("nats://a b").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerAddr);
    assert_eq!(rig.client.servers(), [server], "as before");
}

/// Larger and smaller, with the server that is dialed in it and without.
#[tokio::test]
async fn the_servers_may_change_while_one_is_looked_for() {
    let Some(mut rig) = Rig::new("changing servers").await else {
        return;
    };
    let dead: Vec<_> = (0..4)
        .map(|_| Proxy::start(rig.server.address(), SEED))
        .collect();
    for proxy in &dead {
        proxy.refuse(true);
    }
    let mut sub = rig.client.subscribe("c").unwrap();
    rig.client.flush().await.unwrap();
    for round in 0..10 {
        rig.proxy.refuse(true);
        rig.proxy.cut(Cut::Reset);
        rig.disconnected().await;
        for size in [4, 1, 3, 0, 2] {
            let mut urls: Vec<_> = dead[..size].iter().map(Proxy::url).collect();
            if size % 2 == 0 {
                urls.push(rig.proxy.url());
            }
            rig.client.set_servers(&urls.join(",")).unwrap();
            assert_eq!(rig.client.servers().len(), urls.len());
            rig.dial_failed(|_| true).await;
        }
        rig.proxy.refuse(false);
        rig.connected().await;
        rig.works(&mut sub, "c", &round.to_string()).await;
    }
}

/// Two servers that come and go in turn: each time the other is found, and nothing that was confirmed is
/// lost, nor is anything dialed in a circle.
#[tokio::test]
async fn servers_that_flap_are_found_each_time_and_not_dialed_in_a_circle() {
    let Some(binary) = server("flapping", VERSION) else {
        return;
    };
    let server = RealServer::start(&binary, "");
    let proxies = [(); 2].map(|()| Proxy::start(server.address(), SEED));
    let urls = proxies.iter().map(Proxy::url).collect::<Vec<_>>().join(",");
    let direct = connect(&server.url()).await.unwrap();
    let mut arriving = direct.subscribe("flap").unwrap();
    direct.flush().await.unwrap();
    let client = ConnectOptions::new().connect(&urls).await.unwrap();
    let mut events = client.events();
    let mut sub = client.subscribe("flap").unwrap();
    client.flush().await.unwrap();
    let begun = Instant::now();
    let flaps = 15_u32;
    for number in 0..flaps {
        let port = client.server().unwrap().port();
        let (here, there) = if proxies[0].address().port() == port {
            (&proxies[0], &proxies[1])
        } else {
            (&proxies[1], &proxies[0])
        };
        there.refuse(false);
        here.refuse(true);
        here.cut(if number % 2 == 0 {
            Cut::Reset
        } else {
            Cut::Close
        });
        event(&mut events, |event| {
            matches!(event, Event::Connected { .. })
        })
        .await;
        let word = number.to_string();
        client.publish("flap", word.clone()).await.unwrap();
        within("the flush", client.flush()).await.unwrap();
        assert_eq!(next(&mut sub).await, word);
        assert_eq!(next(&mut arriving).await, word);
    }
    let accepted: usize = proxies.iter().map(Proxy::accepted).sum();
    assert_eq!(accepted, 1 + flaps as usize, "one connection each");
    // A connection that does not last is replaced behind a pause.
    assert!(begun.elapsed() >= Duration::from_millis(5) * (flaps - 1) / 2);
}

/// It asked the server to end, and that did not arrive: the next one is not asked at all.
#[tokio::test]
async fn a_subscription_that_drained_when_the_connection_was_lost_is_not_asked_for_again() {
    let Some(mut rig) = Rig::new("drained and lost").await else {
        return;
    };
    let mut drained = rig.client.subscribe("drained").unwrap();
    let mut kept = rig.client.subscribe("kept").unwrap();
    for word in ["first", "second"] {
        rig.client.publish("drained", word).await.unwrap();
    }
    rig.client.flush().await.unwrap();
    rig.proxy.stall(Way::ToServer);
    let done = tokio::spawn(drained.drained(crate::support::PATIENCE));
    {
        let ends = drained.drain();
        tokio::pin!(ends);
        // The server hears nothing of it.
        assert!(timeout(Duration::ZERO, &mut ends).await.is_err());
        rig.proxy.cut(Cut::Reset);
        assert_eq!(ends.await.unwrap_err().kind(), ErrorKind::Disconnected);
    }
    rig.proxy.resume(Way::ToServer);
    rig.connected().await;
    rig.works(&mut kept, "kept", "goes on").await;
    rig.client.publish("drained", "late").await.unwrap();
    rig.client.flush().await.unwrap();
    // What had come is delivered, and nothing else.
    for word in ["first", "second"] {
        assert_eq!(next(&mut drained).await, word);
    }
    assert!(within("the end", drained.next()).await.is_none());
    done.await.unwrap().unwrap();
    let said = rig.proxy.passed(1).to_server;
    let asks = |subject: &[u8]| said.windows(subject.len()).any(|word| word == subject);
    assert!(
        asks(b"SUB kept ") && !asks(b"SUB drained "),
        "{}",
        said.escape_ascii()
    );
    until("the end of the subscription", || {
        rig.client.statistics().subscriptions == 1
    })
    .await;
}

#[tokio::test]
async fn the_state_is_told_at_each_stage() {
    let Some(mut rig) = Rig::new("states").await else {
        return;
    };
    assert_eq!(rig.client.status(), Status::Connected);
    assert_eq!(rig.client.last_error(), None);
    rig.proxy.refuse(true);
    rig.proxy.cut(Cut::Reset);
    rig.disconnected().await;
    assert_eq!(rig.client.status(), Status::Reconnecting);
    rig.proxy.refuse(false);
    rig.connected().await;
    assert_eq!(rig.client.status(), Status::Connected);
    assert!(rig.client.last_error().is_some());
    let mut sub = rig.client.subscribe("s").unwrap();
    rig.works(&mut sub, "s", "here").await;
    rig.client.publish("s", "waits").await.unwrap();
    rig.client.flush().await.unwrap();
    let draining = tokio::spawn({
        let client = rig.client.clone();
        async move { client.drain().await }
    });
    until("the drain", || {
        rig.client.status() == Status::DrainingSubscriptions
    })
    .await;
    assert_eq!(next(&mut sub).await, "waits");
    within("the drain", draining).await.unwrap().unwrap();
    assert_eq!(rig.client.status(), Status::Closed);
}

#[tokio::test]
async fn a_round_trip_takes_as_long_as_the_line_holds_it_back() {
    let Some(rig) = Rig::new("round trips").await else {
        return;
    };
    let short = rig.client.round_trip().await.unwrap();
    let delay = Duration::from_millis(40);
    for way in BOTH {
        let pace = Pace {
            delay,
            ..Pace::default()
        };
        rig.proxy.pace(way, pace);
    }
    let begun = Instant::now();
    let long = rig.client.round_trip().await.unwrap();
    assert!(long >= delay * 2 && long > short, "{short:?} {long:?}");
    assert!(long <= begun.elapsed(), "{long:?}");
}
