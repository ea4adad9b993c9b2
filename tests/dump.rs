//! `natseq dump`: what it prints of good and bad bytes, whichever way they come.
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

use serde_json::{Value, json};
use support::PATIENCE;
use support::program::Program;

const SERVER: &[u8] = b"INFO {\"server_id\":\"x\"} \r\nMSG a.b 1  5\r\nhello\r\n\
    HMSG a sid r 25 28\r\nNATS/1.0 404 No\r\nA: b\r\n\r\n\xff\xfe\n\r\n-ERR 'Stale Connection'\r\n\
    HMSG a 1 5 5\r\nhello\r\nping junk\n+OK\r\n";
const CLIENT: &[u8] = b"CONNECT{\"headers\":true}\r\nsub a.>  q 7\r\nSUB a.* 8\r\nUNSUB 7 5\r\n\
    PUB a 0\r\n\r\nHPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPING\r\n";

fn dump(from: &str, arguments: &[&str], input: &[u8]) -> (bool, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natseq"));
    command.args(["dump", "--from", from]).args(arguments);
    let finished = Program::start(&mut command, Some(input)).finish(PATIENCE);
    assert!(finished.errors.is_empty(), "{:?}", finished.errors);
    (finished.status.success(), finished.output)
}

fn objects(lines: &[String]) -> Vec<Value> {
    let read = |line: &String| serde_json::from_str(line).unwrap();
    lines.iter().map(read).collect()
}

#[test]
fn every_operation_of_a_server_is_one_object() {
    let (is_well, lines) = dump("server", &["--json"], SERVER);
    let objects = objects(&lines);
    assert!(is_well, "{lines:?}");
    let message = json!({
        "offset": 25, "length": 21, "op": "MSG", "subject": "a.b", "sid": "1", "reply": null,
        "header_bytes": 0, "payload_bytes": 5, "payload": "hello",
    });
    assert_eq!(objects[1], message);
    assert!(lines[1].starts_with("{\"offset\":25,\"length\":21,\"op\":\"MSG\",\"subject\""));
    let headers = json!({
        "offset": 46, "length": 50, "op": "HMSG", "subject": "a", "sid": "sid", "reply": "r",
        "header_bytes": 25, "payload_bytes": 3, "payload": {"base64": "//4K"},
        "status": {"code": 404, "description": "No"}, "headers": [["A", "b"]],
    });
    assert_eq!(objects[2], headers);
    assert_eq!(objects[3]["text"], "Stale Connection");
    let broken = &objects[4];
    assert_eq!(
        (&broken["op"], &broken["payload"]),
        (&json!("HMSG"), &json!(""))
    );
    let error = broken["header_error"].as_str().unwrap();
    assert_eq!(error, "header block does not end with a blank line");
    let ops: Vec<_> = objects
        .iter()
        .map(|object| object["op"].as_str().unwrap())
        .collect();
    assert_eq!(ops, ["INFO", "MSG", "HMSG", "-ERR", "HMSG", "PING", "+OK"]);
    let lengths = objects
        .iter()
        .map(|object| object["length"].as_u64().unwrap());
    assert_eq!(lengths.sum::<u64>(), SERVER.len() as u64);
}

#[test]
fn every_operation_of_a_client_is_one_object() {
    let (is_well, lines) = dump("client", &["--json"], CLIENT);
    let objects = objects(&lines);
    assert!(is_well, "{lines:?}");
    assert_eq!(objects[0]["json"], "{\"headers\":true}");
    let sub = json!({
        "offset": 25, "length": 14, "op": "SUB", "subject": "a.>", "queue": "q", "sid": "7",
    });
    assert_eq!(objects[1], sub);
    assert_eq!(
        (&objects[3]["sid"], &objects[3]["max"]),
        (&json!("7"), &json!("5"))
    );
    assert_eq!(
        (&objects[4]["payload"], &objects[4]["reply"]),
        (&json!(""), &Value::Null)
    );
    let publish = &objects[5];
    assert_eq!(
        (&publish["op"], &publish["header_bytes"]),
        (&json!("HPUB"), &json!(12))
    );
    assert_eq!(
        (&publish["payload_bytes"], &publish["reply"]),
        (&json!(2), &json!("r"))
    );
}

#[test]
fn the_output_does_not_depend_on_how_the_bytes_come() {
    for (from, input) in [
        ("server", SERVER),
        ("client", CLIENT),
        ("client", b"PUB a 3\r\nab\r\n"),
    ] {
        for json in [&["--json"][..], &[]] {
            let whole = dump(from, json, input);
            for split in ["1", "2", "7", "100000"] {
                let arguments = [json, &["--split", split]].concat();
                assert_eq!(
                    dump(from, &arguments, input),
                    whole,
                    "{from} --split {split}"
                );
            }
        }
    }
}

#[test]
fn the_first_error_is_the_last_line() {
    let cases: [(&str, &[u8], u64, &str); 16] = [
        ("server", b"PING\r\nPUB a 1\r\n", 6, "unknown_op"),
        ("server", b"PING\r\n\r\n", 6, "unknown_op"),
        ("server", b"MSG a 1 5\r\nhel", 0, "truncated"),
        ("server", b"PING\r\nPON", 6, "truncated"),
        ("server", b"PONG", 0, "truncated"),
        ("server", b"MSG a 1\r\n", 0, "argument_count"),
        ("server", b"MSG a 1 2\r\nhelp\r\n", 0, "payload_terminator"),
        ("server", b"INFO\r\n", 0, "argument_count"),
        ("server", b"INFO {\r\n", 0, "bad_json"),
        ("client", b"CONNECT \r\n", 0, "argument_count"),
        ("client", b"CONNECT {}x\r\n", 0, "bad_json"),
        (
            "client",
            b"CONNECT {\"protocol\":9}\r\n",
            0,
            "connect_refused",
        ),
        ("client", b"PUB a +1\r\n", 0, "bad_size"),
        ("client", b"HPUB a 3 2\r\n", 0, "header_larger_than_total"),
        ("client", b"PUB a 1048577\r\n", 0, "payload_too_long"),
        ("client", b"MSG a 1 1\r\nx\r\n", 0, "unknown_op"),
    ];
    for (from, input, offset, kind) in cases {
        let shown = input.escape_ascii();
        let (is_well, lines) = dump(from, &["--json"], input);
        let last = objects(&lines).pop().unwrap();
        assert!(!is_well, "{shown}");
        assert_eq!(
            (&last["offset"], &last["error"]),
            (&json!(offset), &json!(kind)),
            "{shown}"
        );
        assert!(
            last["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{shown}"
        );
    }
    let line = [b"SUB ".as_slice(), &vec![b'a'; 5_000], b" 1\r\n"].concat();
    assert!(dump("client", &["--json"], &line).1[0].contains("line_too_long"));
    assert!(dump("client", &["--max-control-line", "6000"], &line).0);
}

#[test]
fn what_servers_refuse_and_go_on_is_an_error_and_not_the_end() {
    let (is_well, lines) = dump("client", &["--json"], b"SUB a..b 1\r\nPING\r\n");
    assert!(!is_well);
    assert!(lines[0].starts_with("{\"offset\":0,\"error\":\"invalid_subject\",\"message\":"));
    assert_eq!(objects(&lines)[1]["op"], "PING");
}

#[test]
fn each_operation_is_judged_by_itself() {
    let input = b"CONNECT {}\r\nHPUB a 0 0\r\n\r\nPUB a.* 0\r\n\r\nUNSUB 9 x\r\n";
    let (is_well, lines) = dump("client", &[], input);
    assert!(is_well && lines.len() == 4, "{lines:?}");
}

#[test]
fn people_get_one_line_for_each_operation() {
    let (is_well, lines) = dump("server", &[], SERVER);
    assert!(is_well && lines.len() == 7, "{lines:?}");
    assert_eq!(
        lines[1].trim_start(),
        "25     21 MSG a.b sid 1 5 bytes: hello"
    );
    assert!(
        lines[2].ends_with("HMSG a sid sid reply r status 404 No [A: b] 3 bytes: \\xff\\xfe\\n")
    );
    assert!(lines[4].contains("(headers: header block does not end with a blank line)"));
    assert_eq!(dump("server", &[], b""), (true, Vec::new()));
}

#[test]
fn a_file_is_read_and_a_missing_one_is_named() {
    let folder = std::env::temp_dir().join(format!("natseq-dump-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("transcript");
    std::fs::write(&file, SERVER).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(
        dump("server", &["--json", path], b""),
        dump("server", &["--json"], SERVER)
    );
    std::fs::remove_dir_all(&folder).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_natseq"));
    command.args(["dump", "--from", "server", path]);
    let finished = Program::start(&mut command, None).finish(PATIENCE);
    assert!(!finished.status.success());
    assert!(
        finished.errors.join("\n").contains("transcript"),
        "{:?}",
        finished.errors
    );
}
