//! Credentials that run out while they are in use: told as such, and replaced where there are new ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use natseq::session::{Credentials, Event, LinkError};
use natseq::wire::ServerError;

use crate::issuer::{Issuer, creds, user_key};
use crate::rig::{connected, is_connected, prove, quick, until, until_closed};
use crate::support::{Folder, RealServer, servers};

/// Seconds for which the first JWT is good.
const SHORT: i64 = 2;

fn has_expired(reason: &LinkError) -> bool {
    let LinkError::Server(text) = reason else {
        return false;
    };
    ServerError::new(text.as_bytes()) == ServerError::UserExpired
}

fn is_told(seen: &[Event]) -> bool {
    seen.iter()
        .any(|event| matches!(event, Event::Disconnected { reason, .. } if has_expired(reason)))
}

#[tokio::test]
async fn a_callback_renews_a_jwt_that_has_expired() {
    for binary in servers("renewal by a callback") {
        let issuer = Issuer::new();
        let server = RealServer::start(&binary, &issuer.config());
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let options = quick().auth_callback(move |_, _| {
            let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
            let key = user_key(5);
            let jwt = issuer.user(&key, is_first.then_some(SHORT));
            async move { Ok(Credentials::jwt(jwt, key.seed().expose())?) }
        });
        let client = connected(options, &server.url()).await;
        let seen = until(&mut client.events(), |event| is_connected(event, 2)).await;
        assert!(is_told(&seen), "{seen:?}");
        prove(&client).await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn a_renewed_creds_file_is_used_when_the_old_jwt_has_expired() {
    for binary in servers("renewal of a file") {
        let issuer = Issuer::new();
        let server = RealServer::start(&binary, &issuer.config());
        let folder = Folder::new();
        let path = folder.path.join("user.creds");
        let key = user_key(6);
        std::fs::write(&path, creds(&issuer.user(&key, Some(SHORT)), &key)).unwrap();
        let client = connected(quick().credentials_file(&path), &server.url()).await;
        let mut events = client.events();
        std::fs::write(&path, creds(&issuer.user(&key, None), &key)).unwrap();
        let seen = until(&mut events, |event| is_connected(event, 2)).await;
        assert!(is_told(&seen), "{seen:?}");
        prove(&client).await;
    }
}

#[tokio::test]
async fn a_jwt_that_nobody_renews_ends_the_client_after_two_refusals() {
    for binary in servers("no renewal") {
        let issuer = Issuer::new();
        let server = RealServer::start(&binary, &issuer.config());
        let key = user_key(7);
        let text = creds(&issuer.user(&key, Some(SHORT)), &key);
        let client = connected(quick().credentials(&text).unwrap(), &server.url()).await;
        let (reason, seen) = until_closed(&mut client.events()).await;
        assert!(reason.is_auth() && is_told(&seen), "{seen:?}");
        let is_failed = |event: &&Event| matches!(event, Event::DialFailed { .. });
        let failed = seen.iter().filter(is_failed).count();
        assert!((1..=2).contains(&failed), "{seen:?}");
    }
}
