//! The rules of the protocol, one test each, typed into real servers and into the embedded broker.
//!
//! Each has a heading in `protocol-notes.md`. What a server of one version does otherwise is said
//! where it is asked.
#![cfg(feature = "broker")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions};
use support::{Folder, RealServer, servers, wait_until};
use tokio::runtime::{Builder, Runtime};

/// Every answer comes within this time on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\
                       \"no_responders\":true,\"protocol\":1}\r\n";
const VERBOSE: &str = "CONNECT {\"verbose\":true,\"pedantic\":false}\r\n";
const PEDANTIC: &str = "CONNECT {\"verbose\":false,\"pedantic\":true}\r\n";
const NO_HEADERS: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":false}\r\n";
const UNKNOWN_OP: &str = "-ERR 'Unknown Protocol Operation'\r\n";

// What a client may say

#[test]
fn op_names_are_read_in_any_case() {
    for party in everyone("op names") {
        party.stays("sUb foo 1\r\npUb foo 2\r\nhi\r\n", "MSG foo 1 2\r\nhi\r\n");
        party.stays("pInG\r\nuNsUb 1\r\npOnG\r\n", "PONG\r\n");
    }
}

#[test]
fn nothing_may_stand_before_an_op() {
    for party in everyone("before an op") {
        for input in [" PING\r\n", "\r\n", "\n", "\tPING\r\n", "\0"] {
            party.closes(input, UNKNOWN_OP);
        }
    }
}

#[test]
fn a_client_may_not_say_what_servers_and_routes_say() {
    for party in everyone("other sides' ops") {
        for input in [
            "MSG a 1 0\r\n",
            "HMSG a 1 0 0\r\n",
            "RS+ a b\r\n",
            "A+ a\r\n",
            "LS+ a\r\n",
        ] {
            party.closes(input, UNKNOWN_OP);
        }
    }
}

#[test]
fn a_blank_must_stand_behind_most_names_and_none_behind_connect() {
    for party in everyone("blanks behind a name") {
        for input in [
            "PUBa 0\r\n",
            "HPUBa",
            "SUB\r\n",
            "UNSUB\r\n",
            "-ERR\r\n",
            "PUB\n",
        ] {
            party.closes(input, UNKNOWN_OP);
        }
        party.stays("CONNECT{\"verbose\":false}\r\n", "");
        party.stays("CONNECT \t {\"verbose\":false} \t\r\n", "");
        party.stays("INFO{}\r\n", "");
    }
}

#[test]
fn any_run_of_blanks_separates_fields() {
    for party in everyone("blanks between fields") {
        let input = "SUB \t foo \t 1  \r\nPUB\t\tfoo\t 2 \r\nhi\r\n";
        party.stays(input, "MSG foo 1 2\r\nhi\r\n");
    }
}

#[test]
fn every_byte_that_is_no_blank_belongs_to_a_field() {
    for party in everyone("bytes of a field") {
        let subject = b"a\x0b\x0c\0\x7f\x80\xff";
        let input = [b"SUB > 1\r\nPUB ", &subject[..], b" 0\r\n\r\n"].concat();
        let output = [b"MSG ", &subject[..], b" 1 0\r\n\r\n"].concat();
        party.stays(&input, &output);
    }
}

#[test]
fn a_line_feed_alone_ends_a_control_line() {
    for party in everyone("line ends") {
        let input = "SUB foo 1\nPUB foo 2\nhi\r\nPING\nUNSUB 1\nPUB foo 0\n\r\n";
        party.stays(input, "MSG foo 1 2\r\nhi\r\nPONG\r\n");
    }
}

#[test]
fn a_payload_ends_with_cr_lf_exactly() {
    for party in everyone("payload ends") {
        for input in [
            "PUB a 2\r\nhi\n",
            "PUB a 2\r\nhello\r\n",
            "PUB a 2\r\nhi\rx",
        ] {
            party.closes(input, UNKNOWN_OP);
        }
    }
}

#[test]
fn ops_before_a_wrong_payload_still_take_effect() {
    for party in everyone("ops before an error") {
        let input = "SUB foo 1\r\nPUB foo 1\r\nx\r\nPING\r\nPUB foo 5\r\nhi\r\nPING\r\n";
        party.closes(input, format!("MSG foo 1 1\r\nx\r\nPONG\r\n{UNKNOWN_OP}"));
    }
}

#[test]
fn a_line_feed_in_front_of_the_arguments_does_not_end_the_line() {
    for party in everyone("the first byte") {
        party.stays("SUB \nfoo 1\r\nPUB foo 0\r\n\r\n", "MSG foo 1 0\r\n\r\n");
        party.stays("UNSUB \n1\r\n", "");
        party.stays("CONNECT\n{\"verbose\":false}\r\n", "");
        if party.is_real() {
            let input = "SUB > 1\r\nPUB \nfoo 2\r\nhi\r\n";
            party.stays(input, "MSG \nfoo 1 2\r\nhi\r\n");
        }
    }
}

#[test]
fn what_stands_behind_ping_pong_and_ok_is_ignored() {
    for party in everyone("junk") {
        let long = "x".repeat(10_000);
        let input = format!("PINGxyz 1 2\r\nPONG {long}\r\n+OK{long}\nPING\rx\n");
        party.stays(&input, "PONG\r\nPONG\r\n");
    }
}

#[test]
fn what_a_server_may_say_is_ignored_from_a_client_except_an_error() {
    for party in everyone("a server's ops") {
        party.stays("+OK\r\nINFO {\"a\":1}\r\n", "");
        party.closes("INFO {\r\n", "");
        party.closes("-ERR 'x'\r\n", "");
    }
}

// Limits

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

// Client ops

#[test]
fn a_wrong_number_of_arguments_closes_without_a_word() {
    for party in everyone("argument counts") {
        for input in [
            "PUB a\r\n",
            "PUB a b c 0\r\n",
            "PUB \r\n",
            "HPUB a 0\r\n",
            "HPUB a b c 0 0\r\n",
            "SUB a\r\n",
            "SUB a b c d\r\n",
            "SUB \r\n",
            "UNSUB \r\n",
            "UNSUB 1 2 3\r\n",
        ] {
            party.closes(input, "");
        }
    }
}

#[test]
fn the_line_end_behind_a_payload_is_there_for_size_zero_too() {
    for party in everyone("empty payload") {
        party.stays("SUB a 1\r\nPUB a 0\r\n\r\n", "MSG a 1 0\r\n\r\n");
        party.closes("PUB a 0\r\nPING\r\n", UNKNOWN_OP);
    }
}

#[test]
fn a_sid_is_any_bytes_and_comes_back_as_it_was() {
    for party in everyone("sids") {
        let input = b"SUB a abc-\xff!\r\nPUB a 0\r\n\r\n";
        party.stays(&input[..], &b"MSG a abc-\xff! 0\r\n\r\n"[..]);
    }
}

#[test]
fn a_second_sub_with_a_live_sid_is_ignored() {
    for party in everyone("second SUB") {
        let input = "SUB a 1\r\nSUB b 1\r\nPUB b 0\r\n\r\nPUB a 0\r\n\r\n";
        party.stays(input, "MSG a 1 0\r\n\r\n");
    }
}

#[test]
fn an_invalid_filter_is_refused_and_the_connection_stays() {
    for party in everyone("filters") {
        for filter in ["a..b", ".a", "a.", "a.>.b", ">.a"] {
            party.stays(format!("SUB {filter} 1\r\n"), "-ERR 'Invalid Subject'\r\n");
        }
        let input =
            "SUB fo* 1\r\nSUB foo.b>r 2\r\nPUB fo* 0\r\n\r\nPUB foo.b>r 0\r\n\r\nPUB foo 0\r\n\r\n";
        party.stays(input, "MSG fo* 1 0\r\n\r\nMSG foo.b>r 2 0\r\n\r\n");
    }
}

#[test]
fn published_subjects_are_not_checked() {
    for party in everyone("published subjects") {
        let input = "SUB foo.* 1\r\nPUB foo.* 1\r\nx\r\nPUB foo.> 0\r\n\r\n";
        party.stays(input, "MSG foo.* 1 1\r\nx\r\nMSG foo.> 1 0\r\n\r\n");
        let input = "SUB > 1\r\nPUB a..b 0\r\n\r\nPUB .a 0\r\n\r\nPUB a. 0\r\n\r\n";
        party.stays(input, "");
    }
}

#[test]
fn a_pedantic_connection_hears_of_an_odd_subject_that_is_still_published() {
    let refused = "-ERR 'Invalid Publish Subject'\r\n";
    for party in everyone("pedantic") {
        let input = "SUB > 1\r\nPUB a.* 0\r\n\r\nPUB a..b 0\r\n\r\nPUB a* 0\r\n\r\n";
        let output = format!("{refused}MSG a.* 1 0\r\n\r\n{refused}MSG a* 1 0\r\n\r\n");
        party.talk(PEDANTIC, input, &output, false);
    }
}

#[test]
fn a_maximum_counts_from_the_sub() {
    let publish = "PUB a 0\r\n\r\n";
    let message = "MSG a 1 0\r\n\r\n";
    for party in everyone("UNSUB with a maximum") {
        let input = format!("SUB a 1\r\n{publish}UNSUB 1 2\r\n{publish}{publish}");
        party.stays(&input, message.repeat(2));
        for max in ["1", "0", "x", "-1", "1000000000"] {
            let input = format!("SUB a 1\r\n{publish}UNSUB 1 {max}\r\n{publish}");
            party.stays(&input, message);
        }
    }
}

#[test]
fn unsub_of_an_unknown_sid_says_nothing() {
    for party in everyone("unknown sid") {
        party.stays("UNSUB 99\r\n", "");
    }
}

#[test]
fn headers_need_consent_and_a_size_within_the_total() {
    for party in everyone("HPUB") {
        party.talk(NO_HEADERS, "HPUB a 0 0\r\n\r\n", "", true);
        party.closes("HPUB a 3 2\r\nhi\r\n", "");
        party.stays("SUB a 1\r\nHPUB a 0 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n");
        party.stays("SUB a 1\r\nHPUB a 2 2\r\nhi\r\n", "HMSG a 1 2 2\r\nhi\r\n");
    }
}

#[test]
fn header_blocks_are_passed_on_unread() {
    for party in everyone("header blocks") {
        let input = "SUB a 1\r\nHPUB a 3 5\r\nhello\r\n";
        party.stays(input, "HMSG a 1 3 5\r\nhello\r\n");
    }
}

#[test]
fn size_digits_are_repeated() {
    for party in everyone("size digits") {
        let input = "SUB a 1\r\nPUB a 0000002\r\nhi\r\nHPUB a 003 00005\r\nhello\r\n";
        party.stays(
            input,
            "MSG a 1 0000002\r\nhi\r\nHMSG a 1 003 00005\r\nhello\r\n",
        );
    }
}

#[test]
fn a_receiver_without_headers_gets_the_payload_alone() {
    for party in everyone("receiver without headers") {
        let mut receiver = Conversation::begin(&party, NO_HEADERS);
        receiver.say("SUB a 1\r\nPING\r\n");
        receiver.hear("PONG\r\n");
        party.stays("HPUB a 12 0014\r\nNATS/1.0\r\n\r\nhi\r\n", "");
        receiver.hear("PONG\r\nMSG a 1 2\r\nhi\r\n");
    }
}

#[test]
fn reserved_subjects_are_refused_and_the_connection_stays() {
    for party in everyone("reserved subjects") {
        // The embedded broker has no such subjects of its own.
        if !party.is_real() {
            continue;
        }
        let input =
            "PUB _GR_.x 0\r\n\r\nPUB a _R_.x 0\r\n\r\nPUB a $JS.ACK.x 0\r\n\r\nSUB a _sys_ 1\r\n";
        let violation = "-ERR 'Permissions Violation for";
        let output = format!(
            "{violation} Publish to \"_GR_.x\"'\r\n\
             {violation} Publish with Reply of \"_R_.x\"'\r\n\
             {violation} Publish with Reply of \"$JS.ACK.x\"'\r\n\
             {violation} Subscription to \"a\" using queue \"_sys_\"'\r\n"
        );
        party.stays(input, &output);
        if party.is_at_least(2, 11) {
            let output = format!("{violation} Publish to \"$NRG.x\"'\r\n");
            party.stays("PUB $NRG.x 0\r\n\r\n", &output);
        }
    }
}

#[test]
fn without_connect_a_connection_is_verbose_and_pedantic_and_echoes() {
    for party in everyone("defaults") {
        let input = "SUB > 1\r\nPUB a.* 1\r\nx\r\nPING\r\n";
        let output = "+OK\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\nMSG a.* 1 1\r\nx\r\nPONG\r\n";
        party.without_connect(input, None).hear(output);
        party.without_connect("HPUB a 0 0\r\n\r\n", Some(""));
    }
}

#[test]
fn a_verbose_connection_hears_ok_for_what_is_no_ping() {
    for party in everyone("verbose") {
        let input = "SUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1\r\nUNSUB 1\r\nPONG\r\nSUB a..b 2\r\n";
        let output =
            "+OK\r\n+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n+OK\r\n+OK\r\n-ERR 'Invalid Subject'\r\n";
        party.talk(VERBOSE, input, output, false);
    }
}

#[test]
fn a_second_connect_ends_the_subscriptions_of_newer_servers() {
    for party in everyone("second CONNECT") {
        let input = format!("SUB a 1\r\n{CONNECT}PUB a 0\r\n\r\n");
        let is_kept = party.is_real() && !party.is_at_least(2, 14);
        // Late patch releases of 2.11 and 2.12 do as 2.14 does.
        if party.version != Some("2.12.8") {
            party.stays(&input, if is_kept { "MSG a 1 0\r\n\r\n" } else { "" });
        }
    }
}

#[test]
fn a_connect_that_fails_closes() {
    for party in everyone("bad CONNECT") {
        for json in ["", " ", " {", " {}x", " []", " 1"] {
            let input = format!("CONNECT{json}\r\n");
            party.without_connect(&input, Some(""));
        }
        for (json, text) in [
            ("{\"protocol\":2}", "invalid client protocol"),
            (
                "{\"no_responders\":true}",
                "no responders requires headers support",
            ),
            ("{\"account\":\"a\"}", "Authorization Violation"),
        ] {
            let input = format!("CONNECT {json}\r\n");
            party.without_connect(&input, Some(&format!("-ERR '{text}'\r\n")));
        }
    }
}

// What servers say

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
        let config = "max_pending: 2MB\nwrite_deadline: \"60s\"";
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

// Streams

#[test]
fn an_empty_reply_is_two_blanks_from_an_old_server() {
    for (party, _folder) in with_streams("two blanks") {
        let output = match party.version {
            Some("2.9.10") => "MSG r 1  23\r\n{\"stream\":\"S\", \"seq\":1}\r\n",
            _ if party.is_at_least(2, 12) => "MSG r 1 22\r\n{\"stream\":\"S\",\"seq\":1}\r\n",
            _ => "MSG r 1 23\r\n{\"stream\":\"S\", \"seq\":1}\r\n",
        };
        let mut conversation = Conversation::begin(&party, CONNECT);
        conversation.say("SUB r 1\r\nPUB s.a r 1\r\nx\r\n");
        conversation.hear(output);
    }
}

#[test]
fn a_stream_takes_at_most_65535_bytes_of_headers() {
    for (party, _folder) in with_streams("header length") {
        let error = "{\"error\":{\"code\":400,\"err_code\":10097,";
        assert!(stored(&party, &"x".repeat(65_518)).starts_with("{\"stream\":\"S\""));
        assert!(stored(&party, &"x".repeat(65_519)).starts_with(error));
    }
}

#[test]
fn a_server_finds_its_headers_in_their_case_only_and_keeps_blanks_behind_a_value() {
    for (party, _folder) in with_streams("header lookup") {
        let is_stored = |value: &str| stored(&party, value).starts_with("{\"stream\"");
        assert!(!is_stored("1\r\nNats-Expected-Last-Sequence: 7"));
        assert!(!is_stored("1\r\nNats-Expected-Last-Sequence:7"));
        assert!(is_stored("1\r\nnats-expected-last-sequence: 7"));
        assert!(is_stored("1\r\nX: Nats-Expected-Last-Sequence: 7"));
        assert!(!is_stored("1\r\nNats-Expected-Last-Sequence: 2 "));
        assert!(!is_stored("1\r\nNats-Expected-Last-Sequence:\t2"));
        assert!(is_stored("1\r\nNats-Expected-Last-Sequence: 2"));
    }
}

/// Every real server with streams, and one of them, `S`, for the subjects `s.*`.
fn with_streams(rule: &str) -> Vec<(Party, Folder)> {
    let start = |binary: &_| {
        let folder = Folder::new();
        let config = format!("jetstream {{ store_dir: \"{}\" }}", folder.path.display());
        let party = Party::of(RealServer::start(binary, &config));
        let json = "{\"name\":\"S\",\"subjects\":[\"s.*\"]}";
        let mut conversation = Conversation::begin(&party, CONNECT);
        conversation.say(format!(
            "SUB r 1\r\nPUB $JS.API.STREAM.CREATE.S r {}\r\n{json}\r\n",
            json.len()
        ));
        while !conversation.answers().ends_with(b"}\r\n") {
            assert!(conversation.read(), "{} makes no stream", party.name);
        }
        (party, folder)
    };
    servers(rule).iter().map(start).collect()
}

/// What the stream says to a message with the header `A`: its acknowledgement.
fn stored(party: &Party, value: &str) -> String {
    let block = format!("NATS/1.0\r\nA: {value}\r\n\r\n");
    let len = block.len();
    let mut conversation = Conversation::begin(party, CONNECT);
    conversation.say(format!("SUB r 1\r\nHPUB s.a r {len} {len}\r\n{block}\r\n"));
    while !conversation.answers().ends_with(b"}\r\n") {
        assert!(conversation.read(), "{} does not answer", party.name);
    }
    let answer = String::from_utf8(conversation.answers()).unwrap();
    answer.lines().nth(1).unwrap_or_default().to_owned()
}

/// Somebody who reads what clients say.
struct Party {
    name: String,
    address: SocketAddr,
    version: Option<&'static str>,
    server: Option<RealServer>,
    _broker: Option<(Runtime, Broker)>,
}

impl Party {
    fn of(server: RealServer) -> Self {
        Self {
            name: format!("nats-server {}", server.version()),
            address: server.address(),
            version: Some(server.version()),
            server: Some(server),
            _broker: None,
        }
    }

    fn broker() -> Self {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let listening = Broker::listen("127.0.0.1:0", BrokerOptions::default());
        let broker = runtime.block_on(listening).unwrap();
        Self {
            name: "the embedded broker".to_owned(),
            address: broker.local_addr().unwrap(),
            version: None,
            server: None,
            _broker: Some((runtime, broker)),
        }
    }

    const fn server(&self) -> &RealServer {
        self.server.as_ref().expect("a real server")
    }

    const fn is_real(&self) -> bool {
        self.version.is_some()
    }

    fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.unwrap_or_default().split('.');
        let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        (next(), next()) >= (major, minor)
    }

    /// Behind an ordinary CONNECT, `input` is answered with exactly `output`.
    fn stays(&self, input: impl AsRef<[u8]>, output: impl AsRef<[u8]>) {
        self.talk(CONNECT, input, output, false);
    }

    /// The same, and then the connection is closed.
    fn closes(&self, input: impl AsRef<[u8]>, output: impl AsRef<[u8]>) {
        self.talk(CONNECT, input, output, true);
    }

    fn talk(
        &self,
        connect: &str,
        input: impl AsRef<[u8]>,
        output: impl AsRef<[u8]>,
        is_closed: bool,
    ) {
        let mut conversation = Conversation::begin(self, connect);
        conversation.say(&input);
        let mut output = output.as_ref().to_vec();
        if is_closed {
            conversation.hear_the_end(output);
        } else {
            conversation.say("PING\r\n");
            output.extend_from_slice(b"PONG\r\n");
            conversation.hear(output);
        }
    }

    /// Says `input` alone, and hears the last words where there are some.
    fn without_connect(&self, input: &str, last_words: Option<&str>) -> Conversation {
        let mut conversation = Conversation::begin(self, "");
        conversation.say(input);
        if let Some(words) = last_words {
            conversation.hear_the_end(words);
        }
        conversation
    }
}

/// One connection, and what was said on it.
struct Conversation {
    stream: TcpStream,
    with: String,
    said: Vec<u8>,
    heard: Vec<u8>,
    is_over: bool,
}

impl Conversation {
    fn begin(party: &Party, connect: &str) -> Self {
        let stream = TcpStream::connect(party.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut conversation = Self {
            stream,
            with: party.name.clone(),
            said: Vec::new(),
            heard: Vec::new(),
            is_over: false,
        };
        // INFO is there before anything is said, so that an early close cannot take it along.
        while !conversation.heard.ends_with(b"\r\n") {
            assert!(conversation.read(), "no INFO from {}", party.name);
        }
        if !connect.is_empty() {
            conversation.say(connect);
        }
        conversation
    }

    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.said.extend_from_slice(bytes.as_ref());
        // The other side may have closed before it heard everything.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// All that was said up to now, INFO and PING apart, is `output`.
    fn hear(&mut self, output: impl AsRef<[u8]>) {
        let output = output.as_ref();
        while self.answers().len() < output.len() && self.read() {}
        self.compare(output);
        assert!(!self.is_over, "{} closed after {}", self.with, self.said());
    }

    /// The same, and then the connection is closed.
    fn hear_the_end(&mut self, output: impl AsRef<[u8]>) {
        while self.read() {}
        self.compare(output.as_ref());
        assert!(self.is_over, "{} stays after {}", self.with, self.said());
    }

    fn compare(&self, output: &[u8]) {
        let (found, wanted) = (self.answers(), output.escape_ascii().to_string());
        let found = found.escape_ascii().to_string();
        assert_eq!(found, wanted, "{} answers {}", self.with, self.said());
    }

    fn read(&mut self) -> bool {
        let mut bytes = [0; 4_096];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.is_over = true,
            Ok(count) => {
                self.heard.extend_from_slice(&bytes[..count]);
                return true;
            }
            Err(error) => self.is_over = error.kind() == ErrorKind::ConnectionReset,
        }
        false
    }

    fn answers(&self) -> Vec<u8> {
        let lines = self.heard.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.starts_with(b"INFO {") && *line != b"PING\r\n");
        lines.flatten().copied().collect()
    }

    fn said(&self) -> String {
        let end = self.said.len().min(400);
        self.said[..end].escape_ascii().to_string()
    }
}

/// The embedded broker, and the real servers of all versions that are there.
fn everyone(rule: &str) -> Vec<Party> {
    let mut parties = vec![Party::broker()];
    for server in servers(rule) {
        parties.push(Party::of(RealServer::start(&server, "")));
    }
    parties
}
