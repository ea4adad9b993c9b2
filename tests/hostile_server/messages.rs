//! Messages that are whole, and strange.

use natseq::client::ErrorKind;
use tokio::time::timeout;

use crate::Rig;
use crate::script::PATIENCE;

/// Delivered raw, and the connection stays.
#[tokio::test]
async fn a_malformed_header_block_is_delivered_as_it_is() {
    let mut rig = Rig::new().await;
    let blocks: &[&[u8]] = &[
        b"x",
        b"\r\n",
        b"\n",
        b"\0",
        b"NATS/1.0",
        b"NATS/1.0\r\n",
        b"NATS/1.0\n\n",
        b"NATS/1.0\r\r",
        b"nats/1.0\r\n\r\n",
        b"NATS/2.0\r\nA: b\r\n\r\n",
        b"NATS/1.0\r\nA\r\n\r\n",
        b"NATS/1.0\r\n: b\r\n\r\n",
        b"NATS/1.0\r\nA: b\r\n folded\r\n\r\n",
        b"NATS/1.0\r\n\r\n\r\n",
        b"NATS/1.0\r\nA: b\r\n\r\nC: d\r\n\r\n",
        b"NATS/1.0\r\n\xff\xfe: \x80\r\n\r\n",
        b"NATS/1.0\r\nA: b\0c\r\n\r\n",
        b"PING\r\nPING\r\n",
    ];
    for block in blocks {
        for payload in [&b""[..], b"payload"] {
            let total = block.len() + payload.len();
            let line = format!("HMSG a 1 {} {total}\r\n", block.len());
            rig.peer
                .say(&[line.as_bytes(), block, payload, b"\r\n"].concat())
                .await;
            let context = block.escape_ascii().to_string();
            let message = rig.message(&context).await;
            let headers = message.headers().unwrap();
            assert_eq!(headers.raw(), *block, "{context}");
            assert_eq!(message.payload(), payload, "{context}");
            let is_bad = headers.status().is_err() || headers.iter().any(|field| field.is_err());
            assert_eq!(headers.check().is_err(), is_bad, "{context}");
        }
    }
    rig.works("after malformed blocks").await;
    rig.no_event("after malformed blocks").await;
}

#[tokio::test]
async fn a_status_of_any_length_is_delivered_and_only_three_digits_are_one() {
    let mut rig = Rig::new().await;
    for text in statuses() {
        for after in ["", " ", " No Responders"] {
            let block = format!("NATS/1.0 {text}{after}\r\n\r\n");
            let line = format!("HMSG a 1 {} {}\r\n", block.len(), block.len());
            rig.peer.say(format!("{line}{block}\r\n").as_bytes()).await;
            let message = rig.message(&block).await;
            let status = message.status().map(|status| status.code);
            assert_eq!(status, code(&text), "{block}");
            assert_eq!(message.headers().unwrap().raw(), block.as_bytes());
        }
    }
    rig.works("after statuses").await;
}

/// A status that is none must neither answer for a server nor leave the request without an answer.
#[tokio::test]
async fn only_a_real_503_says_that_nobody_responds() {
    let mut rig = Rig::new().await;
    for text in statuses() {
        let client = rig.client.clone();
        let request = tokio::spawn(async move { client.request("q", "?").await });
        let mut line = rig.peer.hear_line().await;
        if line.starts_with(b"SUB ") {
            assert!(line.ends_with(b".* 2\r\n"), "{}", line.escape_ascii());
            line = rig.peer.hear_line().await;
        }
        assert_eq!(rig.peer.hear_line().await, b"?\r\n");
        let line = String::from_utf8(line).unwrap();
        let reply = line.split(' ').nth(2).unwrap();
        let block = format!("NATS/1.0 {text}\r\n\r\n");
        let answer = format!(
            "HMSG {reply} 2 {} {}\r\n{block}\r\n",
            block.len(),
            block.len()
        );
        rig.peer.say(answer.as_bytes()).await;
        let answer = timeout(PATIENCE, request).await.unwrap().unwrap();
        if code(&text) == Some(503) {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::NoResponders);
        } else {
            assert_eq!(answer.unwrap().headers().unwrap().raw(), block.as_bytes());
        }
    }
    rig.works("after requests").await;
}

fn statuses() -> Vec<String> {
    let mut statuses: Vec<_> = (0..20).map(|len| "5".repeat(len)).collect();
    statuses.push("1".repeat(5_000));
    let others = [
        "503",
        "abc",
        "-50",
        "5 0",
        "\u{0665}\u{0660}\u{0663}",
        "50x",
        "+503",
        "0",
        "000",
        "999",
    ];
    statuses.extend(others.map(str::to_owned));
    statuses
}

/// Naively: three digits and nothing that belongs to them.
fn code(text: &str) -> Option<u16> {
    let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_code.then(|| text.parse().unwrap())
}

#[tokio::test]
async fn messages_for_sids_that_nobody_has_are_dropped() {
    let mut rig = Rig::new().await;
    let sids: &[&str] = &[
        "0",
        "2",
        "9",
        "4294967296",
        "4294967297",
        "18446744073709551615",
        "18446744073709551616",
        "-1",
        "+1",
        "1.0",
        "x",
        "\u{0661}",
        "99999999999999999999999999",
        "1x",
        "\0",
    ];
    for sid in sids {
        rig.survives(format!("MSG a {sid} 5\r\nstray\r\n").as_bytes())
            .await;
        rig.survives(format!("HMSG a {sid} r 12 12\r\nNATS/1.0\r\n\r\n\r\n").as_bytes())
            .await;
    }
}

/// What a server may do: blanks, letters of either case, a bare LF, junk behind PING.
#[tokio::test]
async fn what_servers_are_free_to_write_is_read() {
    let mut rig = Rig::new().await;
    for bytes in [
        "MSG a 1  2\r\nhi\r\n",
        "msg\ta\t1\t2\nhi\r\n",
        "MsG   a 1 2 \t \r\nhi\r\n",
        "MSG a 1 000000002\r\nhi\r\n",
    ] {
        rig.peer.say(bytes.as_bytes()).await;
        let message = rig.message(bytes).await;
        assert_eq!(message.payload(), b"hi", "{bytes}");
        rig.works(bytes).await;
    }
    let pings: &[&[u8]] = &[
        b"PING\r\n",
        b"ping\n",
        b"PINGxyz 1 2\r\n",
        b"PING \0\xff\r\n",
    ];
    for bytes in pings {
        assert_eq!(rig.survives(bytes).await, 1, "{}", bytes.escape_ascii());
    }
    let others: &[&[u8]] = &[
        b"+OK\r\n",
        b"+ok junk\n",
        b"PONG\r\n",
        b"PONGPONG\r\n",
        b"INFO {}\n",
    ];
    for bytes in others {
        assert_eq!(rig.survives(bytes).await, 0, "{}", bytes.escape_ascii());
    }
}
