//! Each kind of credentials is taken, by each version.

use std::sync::{Arc, Mutex};

use natseq::ConnectOptions;
use natseq::session::Credentials;

use crate::issuer::{Issuer, creds, user_key};
use crate::rig::{connected, is_connected, prove, quick, until};
use crate::support::{Folder, RealServer, servers};

#[tokio::test]
async fn user_and_password_are_taken_from_options_and_url() {
    for binary in servers("user and password") {
        let config = r#"authorization { user: "u", password: "p@ss word" }"#;
        let server = RealServer::start(&binary, config);
        let options = ConnectOptions::new().user_and_password("u", "p@ss word");
        connected(options, &server.url()).await;
        let url = server.url_as("u:p%40ss%20word");
        connected(ConnectOptions::new(), &url).await;
        // Those in the URL go first.
        connected(ConnectOptions::new().user_and_password("u", "wrong"), &url).await;
    }
}

#[tokio::test]
async fn a_token_is_taken_from_options_and_url() {
    for binary in servers("token") {
        let server = RealServer::start(&binary, r#"authorization { token: "t0ken" }"#);
        connected(ConnectOptions::new().token("t0ken"), &server.url()).await;
        connected(ConnectOptions::new(), &server.url_as("t0ken")).await;
    }
}

#[tokio::test]
async fn a_key_is_taken_by_its_seed_and_by_a_function_that_signs() {
    for binary in servers("nkey") {
        let key = user_key(1);
        let config = format!(
            "authorization {{ users: [ {{ nkey: {} }} ] }}",
            key.public_key()
        );
        let server = RealServer::start(&binary, &config);
        let options = ConnectOptions::new().nkey(key.seed().expose()).unwrap();
        connected(options, &server.url()).await;
        let public = key.public_key();
        let options = ConnectOptions::new()
            .nkey_with(&public, move |nonce| Ok(key.sign(nonce).to_vec()))
            .unwrap();
        connected(options, &server.url()).await;
    }
}

#[tokio::test]
async fn a_jwt_is_taken_in_every_form_in_which_users_have_it() {
    let issuer = Issuer::new();
    let key = user_key(2);
    let jwt = issuer.user(&key, None);
    let folder = Folder::new();
    let path = folder.path.join("user.creds");
    std::fs::write(&path, creds(&jwt, &key).replace('\n', "\r\n")).unwrap();
    let bearer = serde_json::json!({ "bearer_token": true });
    let bearer = issuer.user_with(&key, None, bearer);
    for binary in servers("jwt") {
        let server = RealServer::start(&binary, &issuer.config());
        let seed = key.seed();
        let signer = key.clone();
        let options = ConnectOptions::new;
        for options in [
            options().jwt(jwt.as_str(), move |nonce| Ok(signer.sign(nonce).to_vec())),
            options().jwt_and_seed(jwt.as_str(), seed.expose()),
            options().credentials(&creds(&jwt, &key)),
            Ok(options().credentials_file(&path)),
        ] {
            connected(options.unwrap(), &server.url()).await;
        }
        let bearer = bearer.clone();
        let options = options().auth_callback(move |_, _| {
            let credentials = Credentials::bearer(bearer.as_str());
            async { Ok(credentials?) }
        });
        connected(options, &server.url()).await;
    }
}

#[tokio::test]
async fn a_jwt_does_no_harm_to_a_server_that_asks_for_nothing() {
    let key = user_key(2);
    let jwt = Issuer::new().user(&key, None);
    for binary in servers("open server") {
        let server = RealServer::start(&binary, "");
        let options = ConnectOptions::new().credentials(&creds(&jwt, &key));
        connected(options.unwrap(), &server.url()).await;
    }
}

#[tokio::test]
async fn a_long_jwt_needs_room_in_the_line() {
    let issuer = Issuer::new();
    let key = user_key(3);
    let tags: Vec<String> = (0..400).map(|number| format!("tag-{number:08}")).collect();
    let jwt = issuer.user_with(&key, None, serde_json::json!({ "tags": tags }));
    assert!(jwt.len() > 6_000, "{} bytes", jwt.len());
    for binary in servers("long jwt") {
        let config = format!("max_control_line: 65536\n{}", issuer.config());
        let server = RealServer::start(&binary, &config);
        let options = ConnectOptions::new()
            .credentials(&creds(&jwt, &key))
            .unwrap();
        let reason = crate::rig::refused(options.clone(), &server.url()).await;
        let told = reason.to_string();
        assert!(
            told.ends_with("exceeds the 4096 bytes of line_bytes_max"),
            "{told}"
        );
        connected(options.line_bytes_max(65_536), &server.url()).await;
    }
}

#[tokio::test]
async fn a_callback_is_asked_at_each_attempt_with_a_fresh_nonce() {
    for binary in servers("callback") {
        let key = user_key(4);
        let config = format!(
            "authorization {{ users: [ {{ nkey: {} }} ] }}",
            key.public_key()
        );
        let mut server = RealServer::start(&binary, &config);
        let nonces = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&nonces);
        let port = server.address().port();
        let options = quick().auth_callback(move |server, nonce| {
            assert_eq!(server.port(), port);
            let nonce = nonce.unwrap();
            heard.lock().unwrap().push(nonce.clone());
            let key = key.clone();
            async move {
                // It may take its time.
                tokio::task::yield_now().await;
                let signature = key.sign(nonce.as_bytes());
                Ok(Credentials::nkey_signed(&key.public_key(), &signature)?)
            }
        });
        let client = connected(options, &server.url()).await;
        let mut events = client.events();
        server.restart();
        until(&mut events, |event| is_connected(event, 2)).await;
        prove(&client).await;
        let nonces = nonces.lock().unwrap();
        assert_eq!(nonces.len(), 2, "{nonces:?}");
        assert_ne!(nonces[0], nonces[1]);
    }
}
