//! What the operations of a client bring about.

use crate::conversation::{
    CONNECT, Conversation, NO_HEADERS, PEDANTIC, UNKNOWN_OP, VERBOSE, everyone,
};

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
        let forgets = party.is_at_least(2, 14) || party.version == Some("2.12.8");
        let is_kept = party.is_real() && !forgets;
        party.stays(&input, if is_kept { "MSG a 1 0\r\n\r\n" } else { "" });
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
