//! `natseq fuzz`: generated sessions against real servers, and hostile ones against the client.
//!
//! More by hand: `natseq fuzz --server URL --sessions 1000000 --seed 7`.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use natseq::client::ConnectOptions;
use natseq::session::RedialOptions;
use serde_json::Value;
use support::program::Program;
use support::{Folder, PATIENCE, RealServer, servers};

/// Sessions against the newest server; the others get a part of them.
const SESSIONS: u64 = 2_000;
const SESSIONS_OLDER: u64 = 300;

fn fuzz(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natseq"));
    let findings = folder.path.join("findings");
    command.args(["fuzz", "--json", "--findings"]).arg(findings);
    command.env_remove("NATS_URL").args(arguments);
    command
}

/// Runs to the end; returns whether it was clean, and the records.
fn records(folder: &Folder, arguments: &[&str]) -> (bool, Vec<Value>) {
    let finished = Program::start(&mut fuzz(folder, arguments), None).finish(PATIENCE * 5);
    let read = |line: &String| serde_json::from_str(line).unwrap();
    let records = finished.output.iter().map(read).collect::<Vec<_>>();
    assert!(!records.is_empty(), "{:?}", finished.errors);
    (finished.status.success(), records)
}

#[test]
fn the_broker_and_every_real_server_give_the_same_answers() {
    let binaries = servers("differential");
    let newest = binaries.last().map(|binary| binary.version);
    for binary in &binaries {
        let server = RealServer::start(binary, "");
        let is_newest = Some(server.version()) == newest;
        let sessions = if is_newest { SESSIONS } else { SESSIONS_OLDER };
        let folder = Folder::new();
        let count = sessions.to_string();
        let arguments = [
            "--server",
            &server.url(),
            "--seed",
            "1",
            "--sessions",
            &count,
        ];
        let (is_clean, records) = records(&folder, &arguments);
        // A finding is a ready test case: its input and both answers.
        assert!(is_clean, "{}: {records:#?}", server.version());
        let summary = records.last().unwrap();
        assert_eq!(summary["server_version"], server.version());
        assert_eq!(summary["sessions"], sessions);
        let agreed = summary["agreed"].as_u64().unwrap();
        assert!(agreed * 100 >= sessions * 99, "{summary}");
        let mutations = summary["mutations"].as_object().unwrap();
        assert_eq!(mutations.len(), 21, "{summary}");
    }
}

/// A server that greets, answers PING, and nothing else; it stops after `connections`.
fn careless_server(connections: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            let mut stream = stream.unwrap();
            thread::spawn(move || answer_pings(&mut stream));
        }
    });
    address
}

fn answer_pings(stream: &mut TcpStream) {
    let info = b"INFO {\"version\":\"2.15.1\",\"max_payload\":1048576} \r\n";
    let mut heard = Vec::new();
    let mut chunk = [0; 4_096];
    let mut is_open = stream.write_all(info).is_ok();
    while is_open {
        let count = stream.read(&mut chunk).unwrap_or(0);
        heard.extend_from_slice(&chunk[..count]);
        while let Some(at) = heard.windows(6).position(|window| window == b"PING\r\n") {
            heard.drain(..at + 6);
            is_open = stream.write_all(b"PONG\r\n").is_ok();
        }
        is_open &= count > 0;
    }
}

#[test]
fn a_difference_is_made_small_and_can_be_replayed() {
    let folder = Folder::new();
    let server = careless_server(usize::MAX).to_string();
    let quick = ["--patience", "200ms", "--server", &server];
    let (is_clean, records) = records(&folder, &[&quick[..], &["--sessions", "3"]].concat());
    assert!(!is_clean);
    let finding = &records[0];
    assert_eq!(finding["event"], "finding", "{finding}");
    assert_ne!(finding["expected"], finding["found"], "{finding}");
    assert!(finding["input"].as_str().unwrap().len() < 200, "{finding}");
    let file = finding["file"].as_str().unwrap();
    let (is_clean, again) = self::records(&folder, &[&quick[..], &["--replay", file]].concat());
    assert!(!is_clean);
    assert_eq!(again[0]["expected"], finding["expected"]);
    assert_eq!(again[0]["found"], finding["found"]);
}

#[test]
fn a_server_that_is_gone_is_a_finding_and_the_end() {
    let folder = Folder::new();
    // One connection to look at INFO, and one session.
    let server = careless_server(2).to_string();
    let arguments = [
        "--patience",
        "200ms",
        "--server",
        &server,
        "--sessions",
        "500",
    ];
    let (is_clean, records) = records(&folder, &arguments);
    assert!(!is_clean);
    let finding = &records[records.len() - 2];
    assert_eq!(finding["kind"], "gone", "{finding}");
    assert!(records.last().unwrap()["sessions"].as_u64().unwrap() < 500);
}

#[test]
fn only_a_server_on_this_machine_is_fuzzed_without_leave() {
    let folder = Folder::new();
    // An address of the documentation, which nobody has.
    let mut command = fuzz(&folder, &["--server", "192.0.2.1:4222"]);
    let finished = Program::start(&mut command, None).finish(PATIENCE);
    assert!(!finished.status.success());
    let errors = finished.errors.join("\n");
    assert!(errors.contains("--i-own-this-server"), "{errors}");
    assert!(finished.output.is_empty());
}

#[test]
fn a_file_that_is_no_finding_is_named_before_anything_is_done() {
    let folder = Folder::new();
    let file = folder.path.join("broken.json");
    std::fs::write(&file, "{").unwrap();
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--replay",
        file.to_str().unwrap(),
    ];
    let finished = Program::start(&mut fuzz(&folder, &arguments), None).finish(PATIENCE);
    assert!(!finished.status.success() && finished.output.is_empty());
    let errors = finished.errors.join("\n");
    assert!(
        errors.contains("broken.json") && !errors.contains("Listening"),
        "{errors}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_server_gets_nothing_but_the_protocol_out_of_the_client() {
    const CONNECTIONS: u64 = 100;
    let folder = Folder::new();
    let count = CONNECTIONS.to_string();
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--patience",
        "300ms",
        "--sessions",
        &count,
    ];
    let program = Program::start(&mut fuzz(&folder, &arguments), None);
    let line = program.wait_for_error("Listening on ");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let address = address.clone();
        connections.push(tokio::spawn(async move {
            let redial = RedialOptions {
                attempts_max: Some(1),
                ..RedialOptions::default()
            };
            let options = ConnectOptions::new()
                .connect_timeout(Duration::from_secs(2))
                .redial(redial);
            let Ok(client) = options.connect(&address).await else {
                return;
            };
            // The server may be gone already, and no second attempt is allowed.
            let Ok(mut subscription) = client.subscribe("a.>") else {
                return;
            };
            let _ = client.publish("a.b", "x").await;
            let reading = async { while subscription.next().await.is_some() {} };
            // The server stops when it has seen enough; a client that waits on is not stuck.
            let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
            client.close().await;
        }));
    }
    for connection in connections {
        // A panic in the client's task would show here or in what follows.
        tokio::time::timeout(PATIENCE, connection)
            .await
            .unwrap()
            .unwrap();
    }
    let finished = program.finish(PATIENCE);
    let summary: Value = serde_json::from_str(finished.output.last().unwrap()).unwrap();
    assert_eq!(summary["sessions"], CONNECTIONS, "{:?}", finished.output);
    assert_eq!(summary["findings"], 0, "{:?}", finished.output);
    assert!(finished.status.success());
}
