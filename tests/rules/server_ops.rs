//! What servers say of themselves, and how they end.

use natseq::wire::{Limits, Parser, ServerOp, Step, Violation};

use crate::conversation::{CONNECT, Conversation, Party, everyone};
use crate::support::{RealServer, servers, wait_until};

#[test]
fn a_shutdown_says_nothing() {
    for binary in servers("shutdown") {
        let party = Party::of(RealServer::start(&binary, ""));
        let mut conversation = Conversation::begin(&party, CONNECT);
        conversation.say("PING\r\n");
        conversation.hear("PONG\r\n");
        party.server().signal("TERM");
        conversation.hear_the_end("PONG\r\n");
    }
}

#[test]
fn a_lame_duck_announces_itself_in_an_info() {
    for binary in servers("lame duck") {
        let config = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"10s\"";
        let party = Party::of(RealServer::start(&binary, config));
        let mut conversation = Conversation::begin(&party, CONNECT);
        conversation.say("PING\r\n");
        conversation.hear("PONG\r\n");
        party.server().signal("USR2");
        let is_told = |heard: &[u8]| heard.escape_ascii().to_string().contains("ldm\\\":true");
        while !is_told(&conversation.heard) {
            assert!(conversation.read(), "{} does not say so", party.name);
        }
        conversation.hear("PONG\r\n");
    }
}

#[test]
fn who_does_not_read_is_dropped_without_a_word() {
    for binary in servers("slow consumer") {
        let config = "max_pending: 2MB\nwrite_deadline: \"1s\"";
        let party = Party::of(RealServer::start(&binary, config));
        let mut slow = Conversation::begin(&party, CONNECT);
        slow.say("SUB a 1\r\nPING\r\n");
        slow.hear("PONG\r\n");
        let mut fast = Conversation::begin(&party, CONNECT);
        let message = format!("PUB a 1000000\r\n{}\r\n", "x".repeat(1_000_000));
        for _ in 0..40 {
            fast.say(&message);
        }
        wait_until("the end of patience", || {
            party.server().log().contains("Slow Consumer")
        });
        while slow.read() {}
        assert!(slow.is_over, "{}", party.name);
        let has_error = slow.heard.windows(4).any(|bytes| bytes == b"-ERR");
        assert!(!has_error, "{}", party.name);
    }
}

#[test]
fn the_second_info_follows_the_first_pong_from_2_12_on() {
    for party in everyone("second INFO") {
        let mut conversation = Conversation::begin(&party, CONNECT);
        conversation.say("PING\r\n");
        conversation.hear("PONG\r\n");
        conversation.say("PING\r\n");
        conversation.hear("PONG\r\nPONG\r\n");
        let heard = String::from_utf8_lossy(&conversation.heard).into_owned();
        let infos = heard.matches("INFO {").count();
        let is_second = !party.is_real() || party.is_at_least(2, 12);
        assert_eq!(infos, if is_second { 2 } else { 1 }, "{}", party.name);
        assert!(heard.starts_with("INFO {"), "{}", party.name);
        assert!(heard.contains("} \r\n"), "a blank ends the JSON: {heard}");
        if is_second {
            assert!(heard.contains("PONG\r\nINFO {"), "{}: {heard}", party.name);
        }
    }
}

#[test]
fn nobody_to_respond_is_a_503_with_the_subject_from_2_12_on() {
    for party in everyone("no responders") {
        let is_named = !party.is_real() || party.is_at_least(2, 12);
        let output = if is_named {
            "HMSG r.1 7 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n"
        } else {
            "HMSG r.1 7 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
        };
        party.stays("SUB r.* 7\r\nPUB nobody r.1 1\r\nx\r\n", output);
    }
}

#[test]
fn a_violation_names_its_subject_in_gos_quoting_and_the_connection_stays() {
    let config = "authorization { users: [ { user: joe, password: secret, \
                  permissions: { publish: { deny: \"no.>\" }, subscribe: { deny: \"no.>\" } } } ] }";
    for binary in servers("permissions") {
        let party = Party::of(RealServer::start(&binary, config));
        let connect = "CONNECT {\"verbose\":false,\"pedantic\":false,\
                       \"user\":\"joe\",\"pass\":\"secret\"}\r\n";
        let input = b"PUB no.\x01\"'\\\xff 0\r\n\r\nSUB no.x 1\r\nSUB no.> q 2\r\n";
        let output = br#"-ERR 'Permissions Violation for Publish to "no.\x01\"'\\\xff"'
-ERR 'Permissions Violation for Subscription to "no.x"'
-ERR 'Permissions Violation for Subscription to "no.>" using queue "q"'
"#;
        let output = String::from_utf8_lossy(output).replace('\n', "\r\n");
        party.talk(connect, input, &output, false);
        let subject = |text: &[u8]| Violation::parse(text).map(|found| found.subject);
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        let Ok(Step::Frame(frame)) = parser.next(output.as_bytes()) else {
            panic!("not a frame: {output}")
        };
        let ServerOp::Err { text } = frame.server_op(output.as_bytes()) else {
            panic!("no -ERR: {output}")
        };
        assert_eq!(subject(text).as_deref(), Some(&b"no.\x01\"'\\\xff"[..]));
    }
}

#[test]
fn a_port_for_other_servers_refuses_a_client() {
    for binary in servers("wrong port") {
        let server = RealServer::start(&binary, "cluster { name: c, listen: \"127.0.0.1:-1\" }");
        let log = server.log();
        let port = log
            .lines()
            .find_map(|line| line.split("route connections on 127.0.0.1:").nth(1));
        let mut party = Party::of(server);
        party
            .address
            .set_port(port.expect("a port for routes").trim().parse().unwrap());
        let output = "-ERR 'attempted to connect to route port'\r\n";
        let input = "CONNECT {\"lang\":\"rust\",\"verbose\":false}\r\n";
        party.without_connect(input, Some(output));
    }
}
