//! What is published, subscribed, asked and ended while there is no connection.

use std::time::Duration;

use natseq::client::{ConnectOptions, ErrorKind, Event, Status, connect};
use natseq::session::{LinkError, OutboxLimits, RedialOptions};

use crate::rig::{Rig, SEED, VERSION, event, next, options, within};
use crate::support::proxy::{Cut, Proxy, Way};
use crate::support::{RealServer, server};

#[tokio::test]
async fn what_is_published_in_an_outage_arrives_in_order_behind_it() {
    let Some(mut rig) = Rig::new("published in an outage").await else {
        return;
    };
    let mut seen = rig.direct.subscribe("o").unwrap();
    rig.direct.flush().await.unwrap();
    rig.goes_down().await;
    for number in 0..1_000 {
        rig.client.publish("o", number.to_string()).await.unwrap();
    }
    rig.comes_up().await;
    for number in 0..1_000 {
        assert_eq!(next(&mut seen).await, number.to_string());
    }
    rig.client.flush().await.unwrap();
}

#[tokio::test]
async fn subscriptions_made_and_ended_in_an_outage_are_as_they_should_be_behind_it() {
    let Some(mut rig) = Rig::new("subscribed in an outage").await else {
        return;
    };
    let mut kept = rig.client.subscribe("kept").unwrap();
    let ended = rig.client.subscribe("ended").unwrap();
    let dropped = rig.client.subscribe("dropped").unwrap();
    let drained = rig.client.subscribe("drained").unwrap();
    let mut limited = rig.client.subscribe("limited").unwrap();
    rig.client.flush().await.unwrap();
    rig.goes_down().await;
    ended.unsubscribe();
    drop(dropped);
    let error = drained.drain().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    limited.unsubscribe_after(1);
    let mut new = rig.client.subscribe("new").unwrap();
    rig.comes_up().await;
    rig.client.flush().await.unwrap();

    let connection = rig.proxy.accepted() - 1;
    let said = String::from_utf8(rig.proxy.passed(connection).to_server).unwrap();
    for (line, is_there) in [
        ("SUB kept 1\r\n", true),
        ("SUB ended", false),
        ("SUB dropped", false),
        ("SUB drained", false),
        ("SUB limited 5\r\nUNSUB 5 1\r\n", true),
        ("SUB new ", true),
    ] {
        assert_eq!(said.contains(line), is_there, "{line:?} in {said:?}");
    }
    for subject in ["kept", "new", "limited", "limited"] {
        rig.direct.publish(subject, subject).await.unwrap();
    }
    assert_eq!(next(&mut kept).await, "kept");
    assert_eq!(next(&mut new).await, "new");
    assert_eq!(next(&mut limited).await, "limited");
    assert!(within("the end", limited.next()).await.is_none());
}

#[tokio::test]
async fn the_pending_buffer_is_bounded_and_publishing_waits_or_fails() {
    let options = options().outbox(OutboxLimits {
        pending_bytes_max: 10_000,
        ..OutboxLimits::default()
    });
    let Some(mut rig) = Rig::with("the pending buffer", options).await else {
        return;
    };
    let mut seen = rig.direct.subscribe("b").unwrap();
    rig.direct.flush().await.unwrap();
    rig.goes_down().await;
    let payload = vec![b'x'; 1_000];
    let mut queued = 0;
    let full = loop {
        match rig.client.try_publish("b", payload.clone()) {
            Ok(()) => queued += 1,
            Err(error) => break error.kind(),
        }
        assert!(queued < 100, "no bound");
    };
    let ErrorKind::OutboxFull {
        waiting_bytes,
        bytes_max,
    } = full
    else {
        panic!("{full:?}");
    };
    assert_eq!((queued, bytes_max), (10, 10_000));
    assert!(
        (10_000..=11_100).contains(&waiting_bytes),
        "{waiting_bytes}"
    );

    let waiting = tokio::spawn({
        let client = rig.client.clone();
        async move { client.publish("b", "the one that waited").await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    rig.comes_up().await;
    within("the publisher", waiting).await.unwrap().unwrap();
    for _ in 0..queued {
        assert_eq!(next(&mut seen).await.len(), 1_000);
    }
    assert_eq!(next(&mut seen).await, "the one that waited");
}

#[tokio::test]
async fn without_a_pending_buffer_nothing_is_kept() {
    let options = options().outbox(OutboxLimits {
        pending_bytes_max: 0,
        ..OutboxLimits::default()
    });
    let Some(mut rig) = Rig::with("no pending buffer", options).await else {
        return;
    };
    let mut seen = rig.direct.subscribe("b").unwrap();
    rig.direct.flush().await.unwrap();
    rig.client.publish("b", "before").await.unwrap();
    rig.client.flush().await.unwrap();
    rig.goes_down().await;
    let full = rig.client.try_publish("b", "meanwhile").unwrap_err();
    assert!(
        matches!(full.kind(), ErrorKind::OutboxFull { .. }),
        "{full}"
    );
    rig.comes_up().await;
    rig.client.publish("b", "after").await.unwrap();
    assert_eq!(next(&mut seen).await, "before");
    assert_eq!(next(&mut seen).await, "after");
}

#[tokio::test]
async fn flushes_are_released_when_the_connection_ends_and_fail_while_there_is_none() {
    let Some(mut rig) = Rig::new("flushes in an outage").await else {
        return;
    };
    rig.client.flush().await.unwrap();
    rig.proxy.stall(Way::ToServer);
    let flushes: Vec<_> = (0..500)
        .map(|_| {
            let client = rig.client.clone();
            tokio::spawn(async move { client.flush().await.unwrap_err().kind() })
        })
        .collect();
    tokio::task::yield_now().await;
    rig.goes_down().await;
    for flush in flushes {
        let kind = within("a flush", flush).await.unwrap();
        assert_eq!(kind, ErrorKind::Disconnected);
    }
    let error = within("a flush", rig.client.flush()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    rig.proxy.resume(Way::ToServer);
    rig.comes_up().await;
    rig.client.flush().await.unwrap();
}

/// The request is not known to have failed: another connection may still bring its answer.
#[tokio::test]
async fn a_request_made_in_an_outage_is_asked_and_answered_behind_it() {
    let Some(mut rig) = Rig::new("a request in an outage").await else {
        return;
    };
    let mut asked = rig.direct.subscribe("ask").unwrap();
    rig.direct.flush().await.unwrap();
    rig.goes_down().await;
    let asking = tokio::spawn({
        let client = rig.client.clone();
        async move { client.request("ask", "question").await }
    });
    tokio::task::yield_now().await;
    rig.comes_up().await;
    let question = within("the question", asked.next()).await.unwrap();
    let reply = String::from_utf8(question.reply().unwrap().to_vec()).unwrap();
    rig.direct.publish(reply.as_str(), "answer").await.unwrap();
    let answer = within("the answer", asking).await.unwrap().unwrap();
    assert_eq!(answer.payload(), b"answer");
}

#[tokio::test]
async fn a_request_whose_answer_was_lost_with_the_connection_times_out() {
    let options = options().request_timeout(Duration::from_millis(500));
    let Some(mut rig) = Rig::with("a lost answer", options).await else {
        return;
    };
    let mut asked = rig.direct.subscribe("ask").unwrap();
    rig.direct.flush().await.unwrap();
    let asking = tokio::spawn({
        let client = rig.client.clone();
        async move { client.request("ask", "question").await }
    });
    within("the question", asked.next()).await.unwrap();
    rig.proxy.cut(Cut::Reset);
    rig.disconnected().await;
    rig.connected().await;
    let error = within("the request", asking).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn closing_breaks_the_search_for_a_server() {
    let Some(mut rig) = Rig::with("close while redialing", slow_redial()).await else {
        return;
    };
    for is_silent in [false, true] {
        rig.proxy.hold(is_silent);
        rig.proxy.refuse(!is_silent);
        rig.proxy.cut(Cut::Reset);
        rig.disconnected().await;
        assert!(!rig.client.is_connected());
        within("the close", rig.client.close()).await;
        rig.event(|event| matches!(event, Event::Closed { reason: None, .. }))
            .await;
        for result in [
            rig.client.publish("a", "").await,
            rig.client.flush().await,
            rig.client.subscribe("a").map(drop),
            rig.client.request("a", "").await.map(drop),
        ] {
            let kind = result.unwrap_err().kind();
            assert!(
                matches!(kind, ErrorKind::Closed | ErrorKind::Disconnected),
                "{kind:?}"
            );
        }
        rig.proxy.hold(false);
        rig.proxy.refuse(false);
        rig.client = slow_redial().connect(&rig.proxy.url()).await.unwrap();
        rig.events = rig.client.events();
    }
}

#[tokio::test]
async fn draining_without_a_connection_closes_and_says_so() {
    let Some(mut rig) = Rig::with("drain while redialing", slow_redial()).await else {
        return;
    };
    let mut sub = rig.client.subscribe("d").unwrap();
    rig.works(&mut sub, "d", "before").await;
    rig.goes_down().await;
    let error = within("the drain", rig.client.drain()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(within("the end", sub.next()).await.is_none());
    rig.event(|event| matches!(event, Event::Closed { .. }))
        .await;
}

#[tokio::test]
async fn closing_and_draining_many_times_ends_once() {
    let Some(mut rig) = Rig::new("closing often").await else {
        return;
    };
    let clients: Vec<_> = (0..8).map(|_| rig.client.clone()).collect();
    let ends: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, client)| {
            tokio::spawn(async move {
                if number % 2 == 0 {
                    client.close().await;
                } else {
                    // A close may come before the drain is done.
                    let _ = client.drain().await;
                }
            })
        })
        .collect();
    for end in ends {
        within("the end", end).await.unwrap();
    }
    within("another close", rig.client.close()).await;
    let mut told = Vec::new();
    rig.client = connect(&rig.proxy.url()).await.unwrap();
    while let Some(event) = within("the end of the events", rig.events.next()).await {
        told.push(event);
    }
    let closed = told
        .iter()
        .filter(|event| matches!(event, Event::Closed { .. }));
    assert_eq!(closed.count(), 1, "{told:?}");
    assert!(
        matches!(told.last(), Some(Event::Closed { .. })),
        "{told:?}"
    );
}

#[tokio::test]
async fn closing_flushes_what_was_published() {
    let Some(rig) = Rig::new("close flushes").await else {
        return;
    };
    let mut seen = rig.direct.subscribe("c").unwrap();
    rig.direct.flush().await.unwrap();
    for number in 0..10_000 {
        rig.client.publish("c", number.to_string()).await.unwrap();
    }
    rig.client.close().await;
    for number in 0..10_000 {
        assert_eq!(next(&mut seen).await, number.to_string());
    }
}

#[tokio::test]
async fn attempts_that_are_used_up_end_the_client() {
    let options = options().redial(RedialOptions {
        pause_min: Duration::from_millis(1),
        pause_max: Duration::from_millis(1),
        attempts_max: Some(3),
    });
    let Some(mut rig) = Rig::with("attempts", options).await else {
        return;
    };
    rig.proxy.refuse(true);
    rig.proxy.cut(Cut::Close);
    rig.disconnected().await;
    let mut failed = 0;
    let reason = loop {
        match rig.event(|_| true).await {
            Event::DialFailed { .. } => failed += 1,
            Event::Closed { reason, .. } => break reason,
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(failed, 3);
    assert_eq!(reason, Some(LinkError::AttemptsUsedUp));
    let error = rig.client.publish("a", "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_first_connect_that_may_be_retried_succeeds_when_the_server_comes() {
    let Some(binary) = server("retry on first connect", VERSION) else {
        return;
    };
    let server = RealServer::start(&binary, "");
    let proxy = Proxy::start(server.address(), SEED);
    proxy.refuse(true);
    let error = options().connect(&proxy.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);

    let options = options().retry_first_connect(true);
    let client = within("connect", options.connect(&proxy.url()))
        .await
        .unwrap();
    let mut events = client.events();
    let mut sub = client.subscribe("r").unwrap();
    client
        .publish("r", "kept from the beginning")
        .await
        .unwrap();
    event(&mut events, |event| {
        matches!(event, Event::DialFailed { .. })
    })
    .await;
    assert!(!client.is_connected());
    assert_eq!(client.status(), Status::Connecting);
    proxy.refuse(false);
    event(&mut events, |event| {
        matches!(event, Event::Connected { generation: 1, .. })
    })
    .await;
    assert_eq!(next(&mut sub).await, "kept from the beginning");
}

#[tokio::test]
async fn a_server_without_room_is_dialed_until_it_has_some() {
    let Some(binary) = server("maximum connections", VERSION) else {
        return;
    };
    let server = RealServer::start(&binary, "max_connections: 1");
    let proxy = Proxy::start(server.address(), SEED);
    let only = within("a place", async {
        loop {
            // The server may not have noticed yet that whoever waited for it is gone.
            if let Ok(client) = connect(&server.url()).await {
                return client;
            }
        }
    })
    .await;
    let refused = options().connect(&proxy.url()).await.unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.contains("maximum connections exceeded"), "{source}");

    let waits = options().retry_first_connect(true);
    let client = waits.connect(&proxy.url()).await.unwrap();
    let mut events = client.events();
    event(&mut events, |event| {
        matches!(event, Event::DialFailed { .. })
    })
    .await;
    only.close().await;
    event(&mut events, |event| {
        matches!(event, Event::Connected { .. })
    })
    .await;
    client.flush().await.unwrap();
}

/// The larger messages cannot be delivered: that is told, and the others do not suffer for it.
#[tokio::test]
async fn queued_messages_that_the_next_server_finds_too_large_are_told_and_the_others_arrive() {
    let Some(mut rig) = Rig::new("a smaller maximum").await else {
        return;
    };
    let binary = server("a smaller maximum", VERSION).unwrap();
    let small = RealServer::start(&binary, "max_payload: 20000");
    let direct = connect(&small.url()).await.unwrap();
    let mut seen = direct.subscribe("p").unwrap();
    direct.flush().await.unwrap();
    rig.goes_down().await;
    for index in 0..100 {
        // Copied ones and shared ones, in the buffer between small ones.
        rig.client.publish("p", index.to_string()).await.unwrap();
        let large = vec![b'x'; 20_001 - index % 2];
        rig.client.publish("p", large).await.unwrap();
    }
    rig.proxy.lead_to(small.address());
    rig.proxy.refuse(false);
    let told = rig
        .event(|event| matches!(event, Event::PayloadTooLarge { .. }))
        .await;
    let expected = Event::PayloadTooLarge {
        discarded_messages: 50,
        max: 20_000,
    };
    assert_eq!(told, expected);
    rig.connected().await;
    for index in 0..100 {
        assert_eq!(next(&mut seen).await, index.to_string());
        if index % 2 == 1 {
            assert_eq!(next(&mut seen).await.len(), 20_000);
        }
    }
    let error = rig
        .client
        .publish("p", vec![b'x'; 20_001])
        .await
        .unwrap_err();
    let expected = ErrorKind::PayloadTooLarge {
        found: 20_001,
        max: 20_000,
    };
    assert_eq!(error.kind(), expected);
    rig.client.publish("p", "after").await.unwrap();
    assert_eq!(next(&mut seen).await, "after");
    rig.no_event("the connection stays").await;
}

/// One that does not wait behind a whole buffer of others.
#[tokio::test]
async fn a_publisher_that_waits_for_room_hears_that_its_message_became_too_large() {
    let tight = options().outbox(OutboxLimits {
        pending_bytes_max: 1,
        ..OutboxLimits::default()
    });
    let Some(mut rig) = Rig::with("a smaller maximum meanwhile", tight).await else {
        return;
    };
    let binary = server("a smaller maximum meanwhile", VERSION).unwrap();
    let small = RealServer::start(&binary, "max_payload: 1000");
    rig.goes_down().await;
    rig.client.publish("p", "first").await.unwrap();
    let client = rig.client.clone();
    let waiting = tokio::spawn(async move { client.publish("p", vec![b'x'; 1_001]).await });
    rig.proxy.lead_to(small.address());
    rig.proxy.refuse(false);
    let error = waiting.await.unwrap().unwrap_err();
    let expected = ErrorKind::PayloadTooLarge {
        found: 1_001,
        max: 1_000,
    };
    assert_eq!(error.kind(), expected);
    rig.connected().await;
}

impl Rig {
    /// Closes the port and ends the connection.
    async fn goes_down(&mut self) {
        self.proxy.refuse(true);
        self.proxy.cut(Cut::Reset);
        self.disconnected().await;
        assert!(!self.client.is_connected());
        assert_eq!(self.client.status(), Status::Reconnecting);
    }

    /// Opens the port again and waits for the connection.
    async fn comes_up(&mut self) {
        self.proxy.refuse(false);
        self.connected().await;
        assert!(self.client.is_connected());
        assert_eq!(self.client.status(), Status::Connected);
    }
}

/// Options with which the next dial is far away.
fn slow_redial() -> ConnectOptions {
    options().redial(RedialOptions {
        pause_min: Duration::from_secs(600),
        pause_max: Duration::from_secs(600),
        ..RedialOptions::default()
    })
}
