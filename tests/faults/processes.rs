//! Servers and clients whose process is killed, stopped and continued.

use std::collections::BTreeSet;
use std::env;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use natseq::client::{Client, connect};
use natseq::session::LinkError;
use tokio::time::timeout;

use crate::rig::{Rig, VERSION, binaries, next, options, until, within};
use crate::support::{RealServer, server};

/// A server that is stopped keeps its sockets and says nothing, as a machine does that hangs.
#[tokio::test]
async fn a_stopped_server_is_noticed_and_a_continued_one_works_again() {
    for binary in binaries("a stopped server") {
        let options = options()
            .ping_interval(Duration::from_millis(300))
            .connect_timeout(Duration::from_millis(500));
        let mut rig = Rig::on(&binary, "", options).await;
        let mut sub = rig.client.subscribe("stop").unwrap();
        rig.works(&mut sub, "stop", "before").await;
        rig.server.signal("STOP");
        rig.client.publish("stop", "held").await.unwrap();
        let (reason, in_doubt) = rig.disconnected().await;
        assert_eq!(
            (reason, in_doubt),
            (LinkError::Stale, 2),
            "{}",
            binary.version
        );
        // While it is stopped its port takes connections, which hear nothing.
        rig.dial_failed(|reason| *reason == LinkError::HandshakeTimeout)
            .await;
        rig.server.signal("CONT");
        rig.connected().await;
        rig.client.publish("stop", "after").await.unwrap();
        let mut heard = next(&mut sub).await;
        if heard == "held" {
            // It was in doubt, and the server has read it when it went on.
            heard = next(&mut sub).await;
        }
        assert_eq!(heard, "after", "{}", binary.version);
    }
}

#[tokio::test]
async fn a_server_stopped_for_less_than_an_interval_costs_nothing() {
    for binary in binaries("a short stop") {
        let mut rig = Rig::on(&binary, "", options()).await;
        let mut sub = rig.client.subscribe("stop").unwrap();
        rig.works(&mut sub, "stop", "before").await;
        rig.server.signal("STOP");
        for number in 0..100 {
            rig.client
                .publish("stop", number.to_string())
                .await
                .unwrap();
        }
        rig.server.signal("CONT");
        for number in 0..100 {
            assert_eq!(
                next(&mut sub).await,
                number.to_string(),
                "{}",
                binary.version
            );
        }
        assert_eq!(rig.client.statistics().connects, 1, "{}", binary.version);
        rig.no_event("stopped and continued").await;
    }
}

/// Every publish that returned `Ok` has arrived or is in doubt, and nothing arrives twice.
#[tokio::test]
async fn a_server_killed_under_load_leaves_every_message_arrived_or_in_doubt() {
    for binary in binaries("killed under load") {
        let mut rig = Rig::on(&binary, "", options()).await;
        let mut sub = rig.client.subscribe("load").unwrap();
        rig.client.flush().await.unwrap();
        for round in 0..5 {
            let context = format!("round {round} on {}", binary.version);
            let publishing = tokio::spawn({
                let client = rig.client.clone();
                async move {
                    for number in 0..30_000 {
                        let text = number.to_string();
                        client.publish("load", text).await.unwrap();
                        if number % 1_000 == 0 {
                            // Without a connection there is nothing to confirm.
                            let _ = client.flush().await;
                        }
                    }
                }
            });
            // Somewhere in the middle, every time elsewhere.
            let begun = rig.client.statistics().published_messages;
            let client = rig.client.clone();
            until("some messages", move || {
                client.statistics().published_messages > begun + 2_500 * (round + 1)
            })
            .await;
            rig.server.kill();
            let (_, in_doubt) = rig.disconnected().await;
            rig.server.restart();
            rig.connected().await;
            publishing.await.unwrap();
            rig.client.publish("load", "end").await.unwrap();
            let mut seen = BTreeSet::new();
            loop {
                let text = next(&mut sub).await;
                if text == "end" {
                    break;
                }
                assert!(
                    seen.insert(text.parse::<u64>().unwrap()),
                    "{text} twice: {context}"
                );
            }
            assert!(in_doubt <= 1_001, "{in_doubt} in doubt: {context}");
            let lost = 30_000 - seen.len() as u64;
            assert!(
                lost <= in_doubt,
                "{lost} lost, {in_doubt} in doubt: {context}"
            );
        }
    }
}

/// The server gives it up meanwhile; awake again, it notices and comes back.
#[tokio::test]
async fn a_stopped_client_comes_back_with_its_subscriptions() {
    if let Ok(url) = env::var(SLEEPER) {
        return answering(&url).await;
    }
    let Some(binary) = server("a stopped client", VERSION) else {
        return;
    };
    let server = RealServer::start(&binary, "ping_interval: \"200ms\"\nping_max: 1");
    let client = connect(&server.url()).await.unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "processes::a_stopped_client_comes_back_with_its_subscriptions",
        ])
        .env(SLEEPER, server.url())
        .stdout(Stdio::null())
        .spawn();
    let child = Killed(child.unwrap());
    let id = child.0.id().to_string();
    let signal = |name: &str| {
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.unwrap().success(), "kill -s {name}");
    };
    within("the first answer", answered(&client, true)).await;
    signal("STOP");
    within("the server to give it up", answered(&client, false)).await;
    signal("CONT");
    within("an answer again", answered(&client, true)).await;
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody is there to answer, or nobody.
async fn answered(client: &Client, is_wanted: bool) {
    loop {
        let answer = timeout(Duration::from_millis(300), client.request("sleeper", "")).await;
        match answer {
            Ok(answer) if answer.is_ok() == is_wanted => return,
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(_) => {}
        }
    }
}

/// The child's part.
async fn answering(url: &str) {
    let client = options().connect(url).await.unwrap();
    let mut asked = client.subscribe("sleeper").unwrap();
    while let Some(question) = asked.next().await {
        let reply = std::str::from_utf8(question.reply().unwrap())
            .unwrap()
            .to_owned();
        client.publish(reply.as_str(), "awake").await.unwrap();
    }
}

/// Tells a process that it is the client that is stopped, and where its server is.
const SLEEPER: &str = "NATSEQ_FAULTS_SLEEPER";
