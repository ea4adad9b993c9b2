//! The program without a server, and with the one that it brings itself.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

mod support;

use std::process::Command;
use std::time::Duration;

use natseq::client::Publication;
use natseq::sequence::SourceName;
use natseq::wire::Headers;
use serde_json::Value;
use support::program::{Program, READY};
use support::proxy::{Cut, Proxy};
use support::{Folder, PATIENCE, RealServer, server};
use tokio::time::timeout;

fn natseq(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natseq"));
    command.env_remove("NATS_URL").args(arguments);
    command
}

/// A broker of its own; its address is the last word that it prints.
fn serve(arguments: &[&str]) -> (Program, String) {
    let mut command = natseq(&["serve", "--listen", "127.0.0.1:0"]);
    let program = Program::start(command.args(arguments), None);
    let line = program.wait_for_output("Listening on ");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    (program, address)
}

#[test]
fn bad_input_is_named_with_what_is_allowed() {
    let cases: [(&[&str], &[&str]); 9] = [
        (&["pub", "a..b", "x"], &["a..b", "empty token"]),
        (&["pub", "a b", "x"], &["a b"]),
        (&["pub", "a.*", "x"], &["a.*"]),
        (&["sub", "a.>.b"], &["a.>.b"]),
        (
            &["pub", "a", "x", "-s", "http://h"],
            &["http", "nats, tls, ws and wss"],
        ),
        (
            &["pub", "a", "x", "-s", "h:99999"],
            &["99999", "1 to 65535"],
        ),
        (
            &["pub", "a", "x", "--sequenced", "--source", "a.b"],
            &["a.b", "letters, digits"],
        ),
        (&["demo", "--drop", "1.5"], &["1.5", "0 to 1"]),
        (&["pub", "a", "x", "--timeout", "soon"], &["soon", "5s"]),
    ];
    for (arguments, words) in cases {
        let finished = Program::start(&mut natseq(arguments), None).finish(PATIENCE);
        assert!(!finished.status.success(), "{arguments:?}");
        let errors = finished.errors.join("\n");
        for word in words {
            assert!(errors.contains(word), "{arguments:?}: {errors}");
        }
        assert!(
            finished.output.is_empty(),
            "{arguments:?}: {:?}",
            finished.output
        );
    }
}

#[test]
fn a_password_in_the_url_is_not_repeated() {
    let url = "nats://me:canary@127.0.0.1:1";
    let finished =
        Program::start(&mut natseq(&["pub", "a", "x", "-s", url]), None).finish(PATIENCE);
    assert!(!finished.status.success());
    assert!(
        !finished.errors.join("\n").contains("canary"),
        "{:?}",
        finished.errors
    );
}

#[test]
fn a_flag_that_says_who_we_are_goes_before_the_environment() {
    let (_broker, address) = serve(&["--require-user", "u", "--require-password", "p"]);
    let finish = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = natseq(&["pub", "a", "x", "-s", &address]);
        for name in [
            "NATS_USER",
            "NATS_PASSWORD",
            "NATS_TOKEN",
            "NATS_CREDS",
            "NATS_NKEY",
            "NATS_JWT",
            "NATS_SEED",
        ] {
            command.env_remove(name);
        }
        command.args(arguments).envs(variables.iter().copied());
        Program::start(&mut command, None).finish(PATIENCE)
    };
    let user = ["--user", "u", "--password", "p"];
    let others = [
        ("NATS_TOKEN", "other"),
        ("NATS_CREDS", "none"),
        ("NATS_USER", "other"),
    ];
    assert!(finish(&user, &others).status.success());
    assert!(
        finish(&user[..2], &[("NATS_PASSWORD", "p"), ("NATS_TOKEN", "t")])
            .status
            .success()
    );
    assert!(
        finish(&[], &[("NATS_USER", "u"), ("NATS_PASSWORD", "p")])
            .status
            .success()
    );
    for (arguments, variables, told) in [
        (
            &["--token", "canary"][..],
            &[("NATS_USER", "u"), ("NATS_PASSWORD", "p")][..],
            "Authorization Violation",
        ),
        (
            &["--creds", "none"][..],
            &[][..],
            "creds file none: entity not found",
        ),
        (&["--nkey", "none"][..], &[][..], "nkey file none"),
        (
            &["--user", "u", "--token", "canary"][..],
            &[][..],
            "--user and --token exclude each other",
        ),
        (
            &[][..],
            &[("NATS_TOKEN", "canary"), ("NATS_CREDS", "x")][..],
            "NATS_TOKEN and NATS_CREDS exclude",
        ),
    ] {
        let finished = finish(arguments, variables);
        let errors = finished.errors.join("\n");
        assert!(
            !finished.status.success() && errors.contains(told),
            "{arguments:?}: {errors}"
        );
        assert!(!errors.contains("canary"), "{errors}");
    }
}

#[test]
fn certificates_are_named_by_flags() {
    let Some(binary) = server("certificates by flags", "2.15.1") else {
        return;
    };
    let folder = Folder::new();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path.join("own.pem"), folder.path.join("own.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {certificate:?}, verify: true }}"
    );
    let server = RealServer::start(&binary, &tls);
    let url = server.url();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let all = [
        "--tlsca",
        certificate,
        "--tlscert",
        certificate,
        "--tlskey",
        key,
    ];
    // Without our own certificate the server does not take us; without its own we do not take it.
    for (given, is_taken) in [
        (&all[..], true),
        (&all[..2], false),
        (&all[2..], false),
        (&[], false),
    ] {
        let mut command = natseq(&["pub", "a", "x", "-s", &url]);
        let finished = Program::start(command.args(given), None).finish(PATIENCE);
        assert_eq!(
            finished.status.success(),
            is_taken,
            "{given:?}: {:?}",
            finished.errors
        );
    }
    // A server that speaks first is not waited for.
    let mut command = natseq(&["pub", "a", "x", "-s", &url, "--tlsfirst", "--timeout", "1s"]);
    let finished = Program::start(command.args(all), None).finish(PATIENCE);
    assert!(!finished.status.success(), "{:?}", finished.errors);
}

#[test]
fn both_programs_meet_at_the_broker_and_nothing_is_missing() {
    let faults = ["--drop", "0.1", "--duplicate", "0.05", "--seed", "3"];
    for carrier in ["header", "token", "payload"] {
        let (_broker, address) = serve(&faults);
        let common = ["--json", "--carrier", carrier, "-s", &address];
        let arguments = ["sub", "d.>", "--sequenced=ordered", "--until-eos"];
        let sub = Program::start(natseq(&arguments).args(common), None);
        sub.wait_for_error(READY);
        let arguments = [
            "pub",
            "d.x",
            "body {{Count}}",
            "--sequenced",
            "--count",
            "2000",
        ];
        Program::start(natseq(&arguments).args(common), None).succeed();
        let events: Vec<Value> = sub
            .succeed()
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let bodies = events.iter().filter(|event| event["event"] == "message");
        for (index, message) in bodies.enumerate() {
            assert_eq!(
                (&message["payload"], &message["subject"]),
                (&format!("body {}", index + 1).into(), &"d.x".into()),
                "{carrier}: {message}"
            );
        }
        let summary = events.last().unwrap();
        assert_eq!(
            (&summary["delivered"], &summary["lost"]),
            (&2000.into(), &0.into()),
            "{carrier}: {summary}"
        );
        let repaired = summary["repaired"].as_u64().unwrap();
        assert!(repaired > 0, "{carrier}: {summary}");
    }
}

#[test]
fn bare_numbers_are_published_and_what_is_missing_between_them_is_named() {
    let (_broker, address) = serve(&[]);
    let bare = ["--sequenced", "--carrier", "bare", "-s", &address];
    let sub = |count| {
        let arguments = ["sub", "updates.*", "--json", "--count", count];
        let sub = Program::start(natseq(&arguments).args(bare), None);
        sub.wait_for_error(READY);
        sub
    };
    let (whole, holed) = (sub("3"), sub("6"));
    let arguments = ["pub", "updates", "x", "--count", "3"];
    Program::start(natseq(&arguments).args(bare), None).succeed();
    for subject in ["updates.7", "updates.8", "updates.1"] {
        Program::start(&mut natseq(&["pub", subject, "x", "-s", &address]), None).succeed();
    }
    assert_eq!(whole.succeed().len(), 4, "three messages and the summary");
    let finished = holed.finish(PATIENCE);
    assert_eq!(finished.status.code(), Some(1), "{:?}", finished.errors);
    let told: Vec<&String> = finished
        .output
        .iter()
        .filter(|line| !line.contains(r#""event":"message""#))
        .collect();
    assert_eq!(
        told[..2],
        [
            r#"{"event":"missing","subject":"updates.7","from":4,"to":6}"#,
            r#"{"event":"behind","subject":"updates.1","highest":8}"#
        ]
    );
    let lines =
        r#""lines":[{"subject":"updates","first":1,"last":1,"received":6,"missing":3,"behind":1}]"#;
    assert!(told[2].contains(lines), "{told:?}");
    for wrong in [
        &["sub", "updates.*", "--until-eos"][..],
        &["sub", "updates.*", "--sequenced=ordered"],
        &["pub", "updates", "x", "--source", "a"],
    ] {
        let mut command = natseq(wrong);
        let has_mode = wrong.contains(&"--sequenced=ordered");
        let program = Program::start(command.args(&bare[usize::from(has_mode)..]), None);
        assert!(!program.finish(PATIENCE).status.success(), "{wrong:?}");
    }
}

#[test]
fn a_receiver_that_only_detects_fails_when_something_is_lost() {
    let (_broker, address) = serve(&["--drop", "0.2", "--seed", "1"]);
    let arguments = [
        "sub",
        "d.x",
        "--sequenced=detect",
        "--json",
        "--until-eos",
        "-s",
        &address,
    ];
    let sub = Program::start(&mut natseq(&arguments), None);
    sub.wait_for_error(READY);
    let arguments = [
        "pub",
        "d.x",
        "x",
        "--sequenced",
        "--count",
        "500",
        "-s",
        &address,
    ];
    Program::start(&mut natseq(&arguments), None).succeed();
    let finished = sub.finish(PATIENCE);
    assert_eq!(finished.status.code(), Some(1), "{:?}", finished.errors);
    let lost = finished
        .output
        .iter()
        .filter(|line| line.contains(r#""event":"lost""#));
    assert!(
        lost.clone()
            .all(|line| line.contains(r#""reason":"missing""#))
    );
    assert!(lost.count() > 0);
}

/// Five messages were sent when the programs come, and five follow.
#[tokio::test]
async fn a_late_program_gets_what_is_retained_if_it_is_told_to() {
    let (_broker, address) = serve(&[]);
    let client = natseq::client::connect(&address).await.unwrap();
    let publisher = client.sequenced_publisher("d.x").unwrap();
    let publisher = publisher.start().unwrap();
    for number in 1..=5 {
        let seq = publisher.publish("d.x", format!("body {number}")).await;
        assert_eq!(seq.unwrap(), number);
    }
    client.flush().await.unwrap();
    let common = ["--until-eos", "--json", "-s", &address];
    let subs = ["live", "retained"].map(|start| {
        let arguments = ["sub", "d.x", "--sequenced=ordered", "--start", start];
        let sub = Program::start(natseq(&arguments).args(common), None);
        sub.wait_for_error(READY);
        sub
    });
    for number in 6..=10 {
        let seq = publisher.publish("d.x", format!("body {number}")).await;
        assert_eq!(seq.unwrap(), number);
    }
    publisher.close().await;
    for (sub, first) in subs.into_iter().zip([6, 1]) {
        let told = sub.succeed();
        let bodies = told.iter().filter(|line| line.contains("\"body "));
        let due = (first..=10).map(|number| format!("\"body {number}\""));
        let due: Vec<String> = due.collect();
        assert_eq!(bodies.clone().count(), due.len(), "{told:?}");
        for (line, body) in bodies.zip(due) {
            assert!(line.contains(&body), "{line}, not {body}");
        }
    }
    client.close().await;
    for wrong in [
        &["--sequenced=detect"][..],
        &["--sequenced", "--queue", "q"],
        &["--sequenced", "--carrier", "bare"],
        &[],
    ] {
        let arguments = ["sub", "d.x", "--start", "retained", "-s", &address];
        let program = Program::start(natseq(&arguments).args(wrong), None);
        assert!(!program.finish(PATIENCE).status.success(), "{wrong:?}");
    }
}

/// That a run had no beginning which is owed is learned from two answers of a server, and is no event.
#[tokio::test]
async fn the_end_of_all_sources_is_noticed_although_nothing_is_told() {
    let (_broker, address) = serve(&[]);
    let arguments = ["sub", "d.x", "--sequenced", "--until-eos", "--stats", "-s"];
    let sub = Program::start(natseq(&arguments).arg(&address), None);
    sub.wait_for_error(READY);
    let client = natseq::client::connect(&address).await.unwrap();
    let mut headers = Headers::new();
    headers.append("Seq", "a.7.5").unwrap();
    let publication = Publication::new("d.x", "x").unwrap();
    client.send(publication.headers(&headers)).await.unwrap();
    // A later run ends the earlier one, whose beginning is still being asked for.
    let publisher = client.sequenced_publisher("d.x").unwrap();
    let publisher = publisher.source(SourceName::new("a").unwrap());
    publisher.start().unwrap().close().await;
    client.flush().await.unwrap();
    let finished = sub.finish(PATIENCE);
    assert!(finished.status.success(), "{finished:?}");
    let told = finished.errors.join("\n");
    let figures = "1 expected = 1 delivered + 0 lost + 0 undecided + 0 unverifiable";
    assert!(told.contains(figures), "{told}");
    client.close().await;
}

#[test]
fn a_subscription_that_is_refused_fails() {
    let Some(binary) = server("a refused subscription", "2.15.1") else {
        return;
    };
    let users = r#"authorization { users: [ { user: "u", password: "p", permissions: { subscribe: "a" } } ] }"#;
    let server = RealServer::start(&binary, users);
    let url = server.url_as("u:p");
    for how in [&["sub", "b"][..], &["sub", "b", "--sequenced"]] {
        let program = Program::start(natseq(how).args(["-s", &url]), None);
        let finished = program.finish(PATIENCE);
        assert!(!finished.status.success(), "{finished:?}");
        let told = finished.errors.join("\n");
        assert!(told.contains("Permissions Violation"), "{told}");
    }
}

#[test]
fn a_replayed_case_is_told_by_its_own_seed() {
    let (_broker, address) = serve(&[]);
    let folder = Folder::new();
    let file = folder.path.join("case.json");
    let case = r#"{"seed":77,"mutations":[],"input":"","pieces_base64":["UElORw0K"]}"#;
    std::fs::write(&file, case).unwrap();
    let mut command = natseq(&["fuzz", "--json", "-s", &address, "--replay"]);
    let records = Program::start(command.arg(&file), None).succeed();
    let summary: Value = serde_json::from_str(records.last().unwrap()).unwrap();
    assert_eq!(summary["seed"], 77, "{summary}");
}

/// The receiver is away while the rest is published; the publisher is killed before it comes back.
#[tokio::test]
async fn what_a_killed_publisher_had_sent_comes_from_the_archive() {
    let Some(binary) = server("a killed publisher", "2.15.1") else {
        return;
    };
    let folder = Folder::new();
    let store = folder.path.display();
    let config = format!("jetstream {{ store_dir: \"{store}\" }}");
    let server = RealServer::start(&binary, &config);
    let client = natseq::client::connect(&server.url()).await.unwrap();
    let stream = r#"{"name":"S","subjects":["d.>"],"storage":"memory","allow_direct":true}"#;
    let ask = async |subject: &str, request: &'static str| {
        let answer = client.request(subject, request).await.unwrap();
        serde_json::from_slice::<Value>(answer.payload()).unwrap()
    };
    let created = ask("$JS.API.STREAM.CREATE.S", stream).await;
    assert!(created["error"].is_null(), "{created}");
    let url = server.url();
    let archive = Program::start(&mut natseq(&["archive", "S", "-s", &url]), None);
    archive.wait_for_error("Archive of stream");
    let proxy = Proxy::start(server.address(), 1);
    let arguments = [
        "sub",
        "d.x",
        "--sequenced",
        "--archive",
        "--json",
        "--count",
        "101",
    ];
    let sub = Program::start(natseq(&arguments).args(["-s", &proxy.url()]), None);
    sub.wait_for_error(READY);
    let arguments = [
        "pub",
        "d.x",
        "body {{Count}}",
        "--sequenced",
        "--count",
        "101",
    ];
    let pace = ["--sleep", "10ms", "-s", &url];
    let publisher = Program::start(natseq(&arguments).args(pace), None);
    sub.wait_for_output(r#""seq":1,"#);
    proxy.refuse(true);
    proxy.cut(Cut::Reset);
    let stored = async {
        while ask("$JS.API.STREAM.INFO.S", "").await["state"]["messages"] != 101 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, stored).await.unwrap();
    drop(publisher);
    proxy.refuse(false);
    let told = sub.succeed();
    let summary: Value = serde_json::from_str(told.last().unwrap()).unwrap();
    assert_eq!(
        (&summary["delivered"], &summary["lost"]),
        (&101.into(), &0.into()),
        "{summary}"
    );
    assert!(summary["repaired"].as_u64().unwrap() > 20, "{summary}");
    client.close().await;
}
