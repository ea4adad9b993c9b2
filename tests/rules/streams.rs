//! What servers with streams make of headers and requests.

use natseq::wire::StatusKind;

use crate::conversation::{CONNECT, Conversation, Party};
use crate::support::{Folder, RealServer, servers};

#[test]
fn statuses_mean_what_their_kinds_say() {
    use StatusKind as Kind;
    for (party, _folder) in with_streams("statuses") {
        let consumer = "{\"stream_name\":\"S\",\
                        \"config\":{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}}";
        let subject = "$JS.API.CONSUMER.DURABLE.CREATE.S.C";
        Conversation::begin(&party, CONNECT).asks(subject, consumer, b"}\r\n");
        let pull = "$JS.API.CONSUMER.MSG.NEXT.S.C";
        let get = "$JS.API.DIRECT.GET.S";
        for (subject, body, kind) in [
            (pull, "{\"batch\":1,\"no_wait\":true}", Kind::NoMessages),
            (
                pull,
                "{\"batch\":1,\"expires\":1000000}",
                Kind::RequestTimeout,
            ),
            (
                pull,
                "{\"batch\":1,\"expires\":900000000,\"idle_heartbeat\":100000000}",
                Kind::IdleHeartbeat,
            ),
            (
                pull,
                "{\"batch\":1,\"expires\":1000000,\"idle_heartbeat\":1000000000}",
                Kind::BadRequest,
            ),
            (get, "{\"seq\":5}", Kind::MessageNotFound),
            (get, "", Kind::EmptyRequest),
            (get, "{\"seq\"", Kind::MalformedRequest),
            (get, "{\"multi_last\":[\"x\"]}", Kind::NoResults),
        ] {
            if kind == Kind::NoResults && !party.is_at_least(2, 11) {
                continue;
            }
            let mut conversation = Conversation::begin(&party, CONNECT);
            conversation.asks(subject, body, b"\r\n\r\n\r\n");
            assert_eq!(conversation.status(), kind, "{} {body}", party.name);
        }
        // The first heartbeat shows that the request waits.
        let mut waiting = Conversation::begin(&party, CONNECT);
        let body = "{\"batch\":1,\"expires\":9000000000,\"idle_heartbeat\":500000000}";
        waiting.asks(pull, body, b"\r\n\r\n\r\n");
        assert_eq!(waiting.status(), Kind::IdleHeartbeat, "{}", party.name);
        let mut other = Conversation::begin(&party, CONNECT);
        other.asks("$JS.API.CONSUMER.DELETE.S.C", "", b"}\r\n");
        waiting.heard.clear();
        let is_whole = |heard: &[u8]| heard.windows(6).any(|end| end == b"\r\n\r\n\r\n");
        while !is_whole(&waiting.heard) {
            assert!(waiting.read(), "{} tells no end", party.name);
        }
        assert_eq!(waiting.status(), Kind::ConsumerDeleted, "{}", party.name);
    }
}

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
        let json = "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"allow_direct\":true}";
        let mut conversation = Conversation::begin(&party, CONNECT);
        conversation.asks("$JS.API.STREAM.CREATE.S", json, b"}\r\n");
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
