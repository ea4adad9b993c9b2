//! Five secrets go through connects that succeed and connects that fail, and show nowhere.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use natseq::ConnectOptions;
use natseq::client::Events;
use natseq::session::{Auth, Credentials, ServerAddr, Session, SessionOptions, UrlCredentials};
use natseq::wire::handshake::{Connect, ServerInfo};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

use crate::issuer::{Issuer, creds, user_key};
use crate::rig::{prove, quick, until_closed};
use crate::support::{Folder, RealServer, servers};

/// Everything that was shown.
#[derive(Debug, Clone, Default)]
struct Shown(Arc<Mutex<String>>);

impl Shown {
    fn add(&self, what: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{what:?}\n{what:#?}").unwrap();
    }

    fn error(&self, error: &dyn std::error::Error) {
        self.add(&error);
        let mut cause = Some(error);
        while let Some(error) = cause {
            writeln!(self.0.lock().unwrap(), "{error}").unwrap();
            cause = error.source();
        }
    }

    fn events(&self, events: &[natseq::session::Event]) {
        for event in events {
            self.add(event);
        }
    }
}

/// Takes down every span and event of every level.
struct Recorder(Shown);

struct Words<'a>(&'a Shown);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Words(&self.0));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Words(&self.0));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Words(&self.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

const PASSWORD: &str = "canary-password-5c1f";
const TOKEN: &str = "canary-token-9d2e";
const USERINFO: &str = "canary-userinfo-77ab";

#[tokio::test]
async fn five_secrets_show_neither_in_debug_nor_in_logs_nor_in_errors() {
    let shown = Shown::default();
    tracing::subscriber::set_global_default(Recorder(shown.clone())).unwrap();
    let issuer = Issuer::new();
    let (key, stranger) = (user_key(42), user_key(43));
    let jwt = issuer.user(&key, None);
    let seed = key.seed();
    let folder = Folder::new();
    let path = folder.path.join("user.creds");
    std::fs::write(&path, creds(&jwt, &key)).unwrap();
    show_types(&shown, &jwt, seed.expose());

    let users = |user: &str, password: &str| {
        format!("authorization {{ user: \"{user}\", password: \"{password}\" }}")
    };
    let nkey = |public: &str| format!("authorization {{ users: [ {{ nkey: {public} }} ] }}");
    for binary in servers("canaries") {
        let url = format!("{USERINFO}:{PASSWORD}");
        let options = ConnectOptions::new;
        let creds_text = creds(&jwt, &key);
        let attempts = [
            (
                users("u", PASSWORD),
                users("u", "other"),
                quick().user_and_password("u", PASSWORD),
                "",
            ),
            (
                users(USERINFO, PASSWORD),
                users("u", "other"),
                options(),
                url.as_str(),
            ),
            (
                format!("authorization {{ token: \"{TOKEN}\" }}"),
                "authorization { token: other }".to_owned(),
                options().token(TOKEN),
                "",
            ),
            (
                format!("authorization {{ token: \"{USERINFO}\" }}"),
                "authorization { token: other }".to_owned(),
                options(),
                USERINFO,
            ),
            (
                nkey(&key.public_key()),
                nkey(&stranger.public_key()),
                options().nkey(seed.expose()).unwrap(),
                "",
            ),
            (
                issuer.config(),
                users("u", "other"),
                options().credentials(&creds_text).unwrap(),
                "",
            ),
            (
                issuer.config(),
                users("u", "other"),
                options().credentials_file(&path),
                "",
            ),
        ];
        for (right, wrong, options, userinfo) in attempts {
            shown.add(&options);
            let url = |server: &RealServer| match userinfo {
                "" => server.url(),
                userinfo => server.url_as(userinfo),
            };
            let mut server = RealServer::start(&binary, &right);
            let client = options.clone().retry_first_connect(true);
            let client = client.connect(&url(&server)).await.unwrap();
            let mut events: Events = client.events();
            prove(&client).await;
            shown.add(&client);
            shown.add(&client.server_info());
            shown.add(&client.statistics());
            server.kill();
            let broken = RealServer::start(&binary, &wrong);
            let error = options.clone().connect(&url(&broken)).await.unwrap_err();
            shown.error(&error);
            // The first one's client comes back to a server that knows it no more.
            server.restart_with(&wrong);
            let (reason, seen) = until_closed(&mut events).await;
            assert!(reason.is_auth(), "{seen:?}");
            shown.events(&seen);
            shown.error(&reason);
            shown.add(&client);
        }
    }
    for text in [
        format!("nats://h:{PASSWORD}"),
        format!("{PASSWORD}://h"),
        format!("{USERINFO}@h:{TOKEN}"),
    ] {
        shown.error(&text.parse::<ServerAddr>().unwrap_err());
    }
    for broken in [
        creds(&jwt, &key).replace('.', ":"),
        creds(&jwt, &key).replace(seed.expose(), &seed.expose().replace('S', "")),
    ] {
        shown.error(&ConnectOptions::new().credentials(&broken).unwrap_err());
    }
    let text = shown.0.lock().unwrap();
    for recorded in ["Authorization Violation", "event=DialFailed"] {
        assert!(text.contains(recorded), "{recorded} was not recorded");
    }
    let bytes = |text: &str| format!("{:?}", text.as_bytes()).replace(['[', ']'], "");
    for canary in [PASSWORD, TOKEN, seed.expose(), jwt.as_str(), USERINFO] {
        let found = text.find(canary).or_else(|| text.find(&bytes(canary)));
        if let Some(at) = found {
            let from = at.saturating_sub(200);
            let around = String::from_utf8_lossy(&text.as_bytes()[from..at]);
            panic!("{canary} shows behind: {around}");
        }
    }
}

/// What holds secrets without a connection.
fn show_types(shown: &Shown, jwt: &str, seed: &str) {
    let info = ServerInfo::parse(br#"{"nonce":"abc"}"#).unwrap();
    for credentials in [
        Credentials::user_and_password(USERINFO, PASSWORD),
        Credentials::token(TOKEN),
        Credentials::nkey(seed).unwrap(),
        Credentials::jwt(jwt, seed).unwrap(),
    ] {
        shown.add(&credentials);
        let mut connect = Connect::new();
        credentials.introduce(&mut connect, &info).unwrap();
        shown.add(&connect);
        let mut options = SessionOptions::new(ServerAddr::parse_list("h").unwrap());
        options.auth = Auth::Fixed(credentials);
        shown.add(&options);
        shown.add(&Session::new(options, 1, std::time::Duration::ZERO));
    }
    let addr: ServerAddr = format!("{USERINFO}:{PASSWORD}@h").parse().unwrap();
    shown.add(&addr);
    shown.add(&natseq::session::Secret::new(PASSWORD));
    shown.add(&addr.credentials());
    shown.add(&UrlCredentials::Token(TOKEN.into()));
}
