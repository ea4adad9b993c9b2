//! How much a client may say, and how long it may wait.

use std::time::Duration;

use crate::conversation::{CONNECT, Conversation, Party, everyone};
use crate::support::{RealServer, servers, wait_until};

#[test]
fn a_control_line_is_measured_by_its_arguments() {
    let long = "maximum control line exceeded";
    for party in everyone("control line") {
        let subject = "a".repeat(4_094);
        let fits = format!("PUB {subject} 0\r\n\r\n  ");
        party.stays(fits.trim_end_matches(' '), "");
        party.closes(
            format!("PUB a{subject} 0\r\n"),
            format!("-ERR '{long}'\r\n"),
        );
        let unfinished = format!("SUB {}", "a".repeat(4_097));
        party.closes(&unfinished, format!("-ERR '{long}'\r\n"));
        let connect = format!("CONNECT {{\"name\":\"{subject}\"}}\r\n");
        party.closes(&connect, format!("-ERR '{long}'\r\n"));
    }
}

#[test]
fn headers_and_payload_together_are_bounded_at_the_control_line() {
    for party in everyone("payload limit") {
        for input in [
            "PUB a 1048577\r\n",
            "HPUB a 12 1048577\r\n",
            "PUB a 999999999\r\n",
        ] {
            party.closes(input, "-ERR 'Maximum Payload Violation'\r\n");
        }
        let input = format!("PUB a 1048576\r\n{}\r\n", "x".repeat(1_048_576));
        party.stays(&input, "");
    }
}

#[test]
fn a_size_is_one_to_nine_digits() {
    for party in everyone("sizes") {
        let input = "SUB a 1\r\nPUB a 000000002\r\nhi\r\n";
        party.stays(input, "MSG a 1 000000002\r\nhi\r\n");
        for size in ["0000000002", "+2", "-1", "0x2", "2.0", "x"] {
            party.closes(format!("PUB a {size}\r\nhi\r\n"), "");
            party.closes(format!("HPUB a {size} 2\r\nhi\r\n"), "");
        }
    }
}

#[test]
fn subscriptions_beyond_the_maximum_are_refused_and_the_connection_stays() {
    for server in servers("maximum of subscriptions") {
        let party = Party::of(RealServer::start(
            &server,
            "max_subscriptions: 2\nmax_sub_tokens: 2",
        ));
        let refused = "-ERR 'maximum subscriptions exceeded'\r\n";
        party.stays("SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n", refused);
        let refused =
            "-ERR 'Permissions Violation for Subscription to \"a.b.c\", too many tokens'\r\n";
        party.stays("SUB a.b.c 1\r\n", refused);
    }
}

#[test]
fn the_first_ping_of_a_server_follows_connect() {
    let mut begun: Vec<_> = servers("first PING")
        .iter()
        .map(|binary| {
            let party = Party::of(RealServer::start(binary, ""));
            let mut silent = Conversation::begin(&party, "");
            silent.say("PING\r\n");
            let other = Conversation::begin(&party, CONNECT);
            (party, silent, other)
        })
        .collect();
    for (party, silent, other) in &mut begun {
        while !other.heard.ends_with(b"\r\nPING\r\n") {
            assert!(other.read(), "{} does not ping", party.name);
        }
        // Begun earlier, and still not pinged.
        let moment = Duration::from_millis(1);
        silent.stream.set_read_timeout(Some(moment)).unwrap();
        while silent.read() {}
        assert!(silent.heard.ends_with(b"} \r\nPONG\r\n"), "{}", party.name);
    }
}

#[test]
fn unanswered_pings_end_the_connection() {
    for server in servers("stale connection") {
        let config = "ping_interval: \"300ms\"\nping_max: 1";
        let party = Party::of(RealServer::start(&server, config));
        party.closes("", "-ERR 'Stale Connection'\r\n");
    }
}

#[test]
fn a_server_waits_a_time_for_credentials() {
    for server in servers("authorization timeout") {
        let config = "authorization { user: joe, password: secret, timeout: 1 }";
        let party = Party::of(RealServer::start(&server, config));
        party.without_connect("", Some("-ERR 'Authentication Timeout'\r\n"));
        party.closes("PING\r\n", "-ERR 'Authorization Violation'\r\n");
        party.without_connect("PING\r\n", Some("-ERR 'Authorization Violation'\r\n"));
    }
}

#[test]
fn connections_beyond_the_maximum_get_info_and_an_error() {
    for server in servers("maximum of connections") {
        let party = Party::of(RealServer::start(&server, "max_connections: 1"));
        // The place is free once the server has noticed that whoever looked for it is gone.
        let mut first = None;
        wait_until("the only place", || {
            let mut conversation = Conversation::begin(&party, CONNECT);
            conversation.say("PING\r\n");
            while conversation.answers().is_empty() && conversation.read() {}
            let is_in = conversation.answers() == b"PONG\r\n";
            first = is_in.then_some(conversation);
            is_in
        });
        party.without_connect("", Some("-ERR 'maximum connections exceeded'\r\n"));
    }
}
