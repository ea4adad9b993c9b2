//! How bytes are read that a client may say: names, blanks, line ends.

use crate::conversation::{UNKNOWN_OP, everyone};

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
