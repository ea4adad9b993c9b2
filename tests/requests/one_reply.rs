//! Requests with one answer: their options, and how they fail.

use std::time::Duration;

use natseq::client::{ConnectOptions, ErrorKind, Event, RefusalKind, connect};
use natseq::subject::Subject;
use natseq::wire::Headers;

use crate::{serve, started, text, wait_for, within};

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_request_carries_headers_and_its_answer_comes_to_the_inbox_that_was_chosen() {
    for server in started("request options", "") {
        let client = connect(&server.url()).await.unwrap();
        let asked = client.subscribe_confirmed("ask").await.unwrap();
        let service = serve(&client, asked, |question| {
            let trace = question.headers().and_then(|block| block.first("Trace"));
            let trace = String::from_utf8_lossy(trace.unwrap_or_default()).into_owned();
            let reply = String::from_utf8_lossy(question.reply().unwrap()).into_owned();
            vec![format!("{trace} {reply}")]
        });
        let mut headers = Headers::new();
        headers.append("Trace", "7").unwrap();
        let ask = client.requester("ask").unwrap().headers(headers);
        for (ask, dots) in [(ask.clone(), 2), (ask.own_inbox(), 1)] {
            let answer = ask.request("").await.unwrap();
            let subject = answer.subject_str().unwrap().to_owned();
            assert_eq!(
                text(&answer),
                format!("7 {subject}"),
                "{}",
                server.version()
            );
            assert_eq!(subject.matches('.').count(), dots, "{}", server.version());
        }
        assert_eq!(client.pending_requests(), 0, "{}", server.version());
        // The service and the shared inbox: the own one is gone.
        assert_eq!(client.statistics().subscriptions, 2, "{}", server.version());
        service.abort();
        client.close().await;
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_request_that_was_not_answered() {
    for server in started("unanswered requests", "") {
        let client = connect(&server.url()).await.unwrap();
        let _silent = client.subscribe_confirmed("silent").await.unwrap();
        let ask = client.requester("silent").unwrap().timeout(SHORT);
        for ask in [ask.clone(), ask.own_inbox()] {
            let late = ask.request("").await.unwrap_err();
            assert_eq!(late.kind(), ErrorKind::Timeout, "{}", server.version());
        }
        let dropped = tokio::time::timeout(SHORT, client.request("silent", "")).await;
        assert!(dropped.is_err(), "{}", server.version());
        assert_eq!(client.pending_requests(), 0, "{}", server.version());
        assert_eq!(client.statistics().subscriptions, 2, "{}", server.version());
        client.close().await;
    }
}

#[tokio::test]
async fn a_request_that_the_server_refuses_fails_at_once() {
    let config = r#"authorization { users: [ { user: "ada", password: "x", permissions: {
        publish: { deny: "secret.>" } } } ] }"#;
    for server in started("refused request", config) {
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        let _silent = client.subscribe_confirmed("silent").await.unwrap();
        let other = tokio::spawn({
            let ask = client.requester("silent").unwrap().timeout(SHORT * 4);
            async move { ask.request("").await }
        });
        let ask = client.requester("secret.x").unwrap();
        for ask in [ask.clone(), ask.own_inbox()] {
            let refused = within(ask.request("")).await.unwrap_err();
            assert_eq!(
                refused.kind(),
                ErrorKind::PermissionDenied,
                "{}",
                server.version()
            );
            let refusal = refused.refusal().unwrap();
            assert_eq!(refusal.kind, RefusalKind::Publish, "{}", server.version());
            assert_eq!(refusal.subject, "secret.x", "{}", server.version());
        }
        let other = other.await.unwrap().unwrap_err();
        assert_eq!(
            other.kind(),
            ErrorKind::Timeout,
            "it was another one's refusal"
        );
        client.close().await;
    }
}

#[tokio::test]
async fn a_request_whose_inbox_the_server_refuses_fails_at_once_and_another_prefix_works() {
    let config = r#"authorization { users: [ { user: "ada", password: "x", permissions: {
        subscribe: { deny: "_INBOX.>" } } } ] }"#;
    for server in started("refused inbox", config) {
        let client = connect(&server.url_as("ada:x")).await.unwrap();
        for _ in 0..2 {
            let asked = client.subscribe_confirmed("ask").await.unwrap();
            let refused = within(client.request("ask", "")).await.unwrap_err();
            assert_eq!(
                refused.kind(),
                ErrorKind::PermissionDenied,
                "{}",
                server.version()
            );
            drop(asked);
            let own = client.requester("ask").unwrap().own_inbox();
            let refused = within(own.request("")).await.unwrap_err();
            assert_eq!(
                refused.kind(),
                ErrorKind::PermissionDenied,
                "{}",
                server.version()
            );
        }
        client.close().await;

        let prefix = Subject::new("answers.ada").unwrap();
        let options = ConnectOptions::new().inbox_prefix(prefix);
        let client = options.connect(&server.url_as("ada:x")).await.unwrap();
        let asked = client.subscribe_confirmed("ask").await.unwrap();
        let service = serve(&client, asked, |_| vec!["yes".into()]);
        let answer = client.request("ask", "").await.unwrap();
        assert!(answer.subject().starts_with(b"answers.ada."), "{answer:?}");
        service.abort();
        client.close().await;
    }
}

#[test]
fn an_inbox_prefix_is_a_literal_subject() {
    for bad in ["", "a.*", ">", "a.", ".a", "a b", "a..b", "a\r\nPUB b 0"] {
        assert!(Subject::new(bad).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_request_waits_over_a_reconnect_unless_it_shall_not() {
    for mut server in started("requests over a reconnect", "") {
        let client = connect(&server.url()).await.unwrap();
        let mut events = client.events();
        let asked = client.subscribe_confirmed("ask").await.unwrap();
        let silent = client.subscribe_confirmed("silent").await.unwrap();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.request("silent", "").await }
        });
        let failing = tokio::spawn({
            let ask = client.requester("silent").unwrap().fail_at_disconnect(true);
            async move { ask.request("").await }
        });
        let mut silent = silent;
        let question = within(silent.next()).await.unwrap();
        within(silent.next()).await.unwrap();
        server.kill();
        let failed = within(failing).await.unwrap().unwrap_err();
        assert_eq!(
            failed.kind(),
            ErrorKind::Disconnected,
            "{}",
            server.version()
        );
        wait_for(&mut events, |event| {
            matches!(event, Event::Disconnected { .. })
        })
        .await;
        let ask = client.requester("ask").unwrap().fail_at_disconnect(true);
        let failed = within(ask.request("")).await.unwrap_err();
        assert_eq!(
            failed.kind(),
            ErrorKind::Disconnected,
            "{}",
            server.version()
        );
        assert_eq!(client.pending_requests(), 1, "{}", server.version());

        let service = serve(&client, asked, |_| vec!["later".into()]);
        let begun_without = tokio::spawn({
            let client = client.clone();
            async move { client.request("ask", "").await }
        });
        server.restart();
        let reply = std::str::from_utf8(question.reply().unwrap()).unwrap();
        client.publish(reply, "after all").await.unwrap();
        // One of the two was asked first, which is the one that is answered.
        let answer = within(waiting).await.unwrap();
        assert!(answer.is_ok_and(|answer| text(&answer) == "after all"));
        let answer = within(begun_without).await.unwrap().unwrap();
        assert_eq!(text(&answer), "later", "{}", server.version());
        service.abort();
        client.close().await;
    }
}
