//! What is refused: with a reason of its own type, and not again and again.

use std::time::Duration;

use natseq::ConnectOptions;
use natseq::client::ErrorKind;
use natseq::session::{Credentials, CredentialsError, Event, LinkError};
use tokio::time::{Instant, timeout};

use crate::issuer::{Issuer, creds, user_key};
use crate::rig::{connected, is_connected, prove, quick, refused, until, until_closed};
use crate::support::{Folder, PATIENCE, RealServer, servers};

#[tokio::test]
async fn wrong_credentials_of_every_kind_are_refused_as_such_and_twice_is_enough() {
    let issuer = Issuer::new();
    let (key, stranger) = (user_key(1), user_key(9));
    let nkey = format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        key.public_key()
    );
    let jwt = issuer.user(&key, None);
    let expired = issuer.user(&key, Some(-60));
    let stranger_seed = stranger.seed();
    let wrong = [
        (
            "authorization { user: u, password: p }".to_owned(),
            quick().user_and_password("u", "wrong"),
        ),
        (
            "authorization { user: u, password: p }".to_owned(),
            quick().token("p"),
        ),
        ("authorization { user: u, password: p }".to_owned(), quick()),
        (
            "authorization { token: t }".to_owned(),
            quick().token("wrong"),
        ),
        (nkey.clone(), quick().nkey(stranger_seed.expose()).unwrap()),
        (nkey, quick().user_and_password("u", "p")),
        // The key is not the one that the JWT names.
        (
            issuer.config(),
            quick().credentials(&creds(&jwt, &stranger)).unwrap(),
        ),
        (
            issuer.config(),
            quick().credentials(&creds(&expired, &key)).unwrap(),
        ),
        (issuer.config(), quick().nkey(key.seed().expose()).unwrap()),
    ];
    for binary in servers("wrong credentials") {
        for (config, options) in &wrong {
            let server = RealServer::start(&binary, config);
            let reason = refused(options.clone(), &server.url()).await;
            assert!(reason.is_auth(), "{config}: {reason:?}");
            let client = options.clone().retry_first_connect(true);
            let client = client.connect(&server.url()).await.unwrap();
            let (reason, seen) = until_closed(&mut client.events()).await;
            assert!(reason.is_auth(), "{config}: {reason:?}");
            let is_failed = |event: &&Event| matches!(event, Event::DialFailed { .. });
            assert_eq!(
                seen.iter().filter(is_failed).count(),
                2,
                "{config}: {seen:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_that_is_told_to_goes_on_after_refusals_without_a_hot_loop() {
    for binary in servers("patience") {
        let server = RealServer::start(&binary, "authorization { token: t }");
        let options = ConnectOptions::new()
            .token("later")
            .retry_first_connect(true);
        let client = options
            .retry_refused(true)
            .connect(&server.url())
            .await
            .unwrap();
        let mut events = client.events();
        let begun = Instant::now();
        for _ in 0..20 {
            match timeout(PATIENCE, events.next()).await.unwrap() {
                Some(Event::DialFailed { reason, .. }) => assert!(reason.is_auth(), "{reason:?}"),
                other => panic!("{other:?}"),
            }
        }
        // Pauses begin with 5 ms and are an eighth of the time that has passed at least.
        let taken = begun.elapsed();
        assert!(
            taken >= Duration::from_millis(40),
            "twenty dials in {taken:?}"
        );
        server.reconfigure("authorization { token: later }");
        until(&mut events, |event| is_connected(event, 1)).await;
        prove(&client).await;
    }
}

#[tokio::test]
async fn a_key_without_a_nonce_is_refused_before_anything_is_sent() {
    for binary in servers("no nonce") {
        let server = RealServer::start(&binary, "trace: true");
        let key = user_key(1);
        let options = ConnectOptions::new().nkey(key.seed().expose()).unwrap();
        let public = key.public_key();
        let signing = ConnectOptions::new().nkey_with(&public, move |_| panic!("nothing to sign"));
        for options in [options, signing.unwrap()] {
            let reason = refused(options, &server.url()).await;
            assert_eq!(
                reason,
                LinkError::Credentials(CredentialsError::NonceMissing)
            );
        }
        assert!(!server.log().contains("[CONNECT"), "{}", server.log());
    }
}

#[tokio::test]
async fn a_second_way_to_identify_is_refused_before_a_server_is_dialed() {
    let key = user_key(1);
    let jwt = Issuer::new().user(&key, None);
    let seed = key.seed();
    let options = ConnectOptions::new;
    for (options, named) in [
        (
            options().token("t").user_and_password("u", "p"),
            "token and user_and_password",
        ),
        (
            options().token("t").nkey(seed.expose()).unwrap(),
            "token and nkey",
        ),
        (
            options()
                .nkey(seed.expose())
                .unwrap()
                .jwt(jwt, |_| Ok(Vec::new()))
                .unwrap(),
            "nkey and jwt",
        ),
        (
            options()
                .token("t")
                .auth_callback(|_, _| async { Ok(Credentials::new()) }),
            "token and auth_callback",
        ),
        (
            options().token("t").credentials_file("none"),
            "token and credentials_file",
        ),
    ] {
        let error = options.connect("127.0.0.1:1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, format!("{named} exclude each other"));
    }
    // The same one again replaces what was said before.
    let error = options()
        .token("a")
        .token("b")
        .connect("127.0.0.1:1")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn a_callback_that_fails_panics_or_never_ends_is_a_failed_attempt() {
    for binary in servers("failing callbacks") {
        let server = RealServer::start(&binary, "authorization { token: t }");
        let options = quick().auth_callback(|_, _| async { Err("the vault is sealed".into()) });
        let reason = refused(options, &server.url()).await;
        assert_eq!(reason.to_string(), "no credentials: the vault is sealed");
        let options = quick().auth_callback(|_, _| async { panic!("on purpose") });
        let reason = refused(options, &server.url()).await;
        assert_eq!(reason.to_string(), "no credentials: it panicked");
        let never = quick().auth_callback(|_, _| std::future::pending());
        let never = never.connect_timeout(Duration::from_millis(200));
        assert_eq!(
            refused(never, &server.url()).await,
            LinkError::HandshakeTimeout
        );
        let issuer = Issuer::new();
        let server = RealServer::start(&binary, &issuer.config());
        let jwt = issuer.user(&user_key(1), None);
        let options = quick().jwt(jwt, |_| Ok(vec![0; 63])).unwrap();
        let reason = refused(options, &server.url()).await;
        assert_eq!(reason.to_string(), "signature of 63 bytes, allowed are 64");
    }
}

#[tokio::test]
async fn a_creds_file_that_is_not_there_is_named() {
    for binary in servers("missing creds") {
        let server = RealServer::start(&binary, &Issuer::new().config());
        let folder = Folder::new();
        let path = folder.path.join("missing.creds");
        let reason = refused(quick().credentials_file(&path), &server.url()).await;
        let told = reason.to_string();
        assert_eq!(
            told,
            format!("creds file {}: entity not found", path.display())
        );
        std::fs::write(&path, "canary").unwrap();
        let reason = refused(quick().credentials_file(&path), &server.url()).await;
        let told = reason.to_string();
        assert_eq!(told, "creds without a line that begins a USER JWT");
    }
}

#[tokio::test]
async fn a_user_that_a_reload_revokes_is_told_and_stays_out() {
    for binary in servers("revoked by a reload") {
        let both =
            "authorization { users: [ { user: a, password: p }, { user: b, password: p } ] }";
        let server = RealServer::start(&binary, both);
        let leaver = connected(quick().user_and_password("a", "p"), &server.url()).await;
        let stayer = connected(quick().user_and_password("b", "p"), &server.url()).await;
        let mut events = leaver.events();
        server.reconfigure("authorization { users: [ { user: b, password: p } ] }");
        let (reason, seen) = until_closed(&mut events).await;
        assert!(reason.is_auth(), "{seen:?}");
        let lost = seen.iter().find_map(|event| match event {
            Event::Disconnected { reason, .. } => Some(reason),
            _ => None,
        });
        // Servers may close without a word; their refusal of the next attempt says why.
        let lost = lost.unwrap();
        assert!(lost.is_auth() || *lost == LinkError::Closed, "{seen:?}");
        prove(&stayer).await;
        assert_eq!(stayer.statistics().connects, 1);
    }
}

#[tokio::test]
async fn too_many_connections_is_not_the_end() {
    for binary in servers("too many connections") {
        let server = RealServer::start(&binary, "max_connections: 2");
        let first = connected(quick(), &server.url()).await;
        let second = connected(quick(), &server.url()).await;
        let reason = refused(quick(), &server.url()).await;
        assert_eq!(
            reason,
            LinkError::Server("maximum connections exceeded".into())
        );
        // One of the two is thrown out now, and there is room for it only when the other one goes.
        let (mut events_of_first, mut events_of_second) = (first.events(), second.events());
        server.reconfigure("max_connections: 1");
        let is_lost = |event: &Event| matches!(event, Event::Disconnected { .. });
        let is_first_out = tokio::select! {
            _ = until(&mut events_of_first, is_lost) => true,
            _ = until(&mut events_of_second, is_lost) => false,
        };
        let (out, mut events, stays) = if is_first_out {
            (first, events_of_first, second)
        } else {
            (second, events_of_second, first)
        };
        for _ in 0..3 {
            until(&mut events, |event| {
                matches!(event, Event::DialFailed { reason: LinkError::Server(text), .. } if text.contains("maximum connections"))
            })
            .await;
        }
        stays.close().await;
        until(&mut events, |event| is_connected(event, 2)).await;
        prove(&out).await;
    }
}

#[tokio::test]
async fn a_user_without_any_permission_is_connected_and_hears_of_each_refusal() {
    let config = r#"authorization { users: [ { user: u, password: p,
        permissions: { publish: { deny: ">" }, subscribe: { deny: ">" } } } ] }"#;
    for binary in servers("no permissions") {
        let server = RealServer::start(&binary, config);
        let client = ConnectOptions::new().user_and_password("u", "p");
        let client = client.connect(&server.url()).await.unwrap();
        let mut events = client.events();
        client.publish("a", "x").await.unwrap();
        client.flush().await.unwrap();
        let is_told = |event: &Event| matches!(event, Event::PublishRefused(refusal) if refusal.subject == "a");
        until(&mut events, is_told).await;
        assert!(client.is_connected());
        assert_eq!(client.statistics().connects, 1);
    }
}
