//! When a client is gone, so are its secrets: this process's own memory is searched for them.
#![cfg(target_os = "linux")]

use std::fs::{File, read_to_string};
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use natseq::ConnectOptions;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::issuer::{Issuer, creds, user_key};
use crate::rig::connected;
use crate::support::{RealServer, server};

/// What the searched text differs from itself by, so that the search does not find itself.
const MASK: u8 = 0x5a;

/// A text that is not in the program's file, and how its end looks behind the mask. The allocator writes over the
/// beginning of what is freed, so the text is long.
fn secret(begin: &str, seed: u64) -> (Zeroizing<String>, Vec<u8>) {
    let mut jitter = natseq::jitter::Jitter::new(seed);
    let mut text = Zeroizing::new(String::with_capacity(256));
    text.push_str(begin);
    for _ in 0..200 {
        text.push(char::from(b'a' + u8::try_from(jitter.below(26)).unwrap()));
    }
    let end = &text.as_bytes()[text.len() - 64..];
    let masked = end.iter().map(|byte| byte ^ MASK).collect();
    (text, masked)
}

/// Counts the places where a masked text stands unmasked in writable memory.
fn found(masked: &[u8]) -> usize {
    let needle: Zeroizing<Vec<u8>> =
        Zeroizing::new(masked.iter().map(|byte| byte ^ MASK).collect());
    let own = u64::try_from(needle.as_ptr().addr()).unwrap();
    let maps = read_to_string("/proc/self/maps").unwrap();
    let mut memory = File::open("/proc/self/mem").unwrap();
    let mut bytes = Vec::new();
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (from, to) = (number(from), number(to));
        // What was copied before is written over, so that no mapping shows it again.
        bytes.fill(0);
        bytes.resize(usize::try_from(to - from).unwrap(), 0);
        // A mapping may end while it is read.
        if memory.seek(SeekFrom::Start(from)).is_err() || memory.read_exact(&mut bytes).is_err() {
            continue;
        }
        // One mapping may hold the text that is looked for and, behind it, this copy of itself.
        let begin = u64::try_from(bytes.as_ptr().addr()).unwrap();
        let copied = begin..begin + (to - from);
        count += memchr::memmem::find_iter(&bytes, &*needle)
            .map(|at| from + u64::try_from(at).unwrap())
            .filter(|at| *at != own && !copied.contains(at))
            .count();
    }
    bytes.fill(0);
    count
}

#[tokio::test]
async fn nothing_of_a_secret_stays_in_memory_behind_its_client() {
    let Some(binary) = server("memory", "2.15.1") else {
        return;
    };
    let (kept, masked) = secret("kept-", 0x00c0_ffee_1234);
    assert!(found(&masked) > 0, "the search finds what is there");
    drop(kept);
    assert_eq!(found(&masked), 0, "the search finds nothing that was wiped");

    // What is refused was written as well, and is in no configuration that this test holds.
    let server = RealServer::start(&binary, "authorization { token: other }");
    let (token, masked) = secret("token-", 0x0bad_cafe_5678);
    let options = ConnectOptions::new().token(&token);
    let refused = options.connect(&server.url()).await;
    assert!(refused.is_err());
    drop((token, refused));
    until_gone(&masked, "a refused token").await;

    let server = RealServer::start(&binary, "");
    let (password, masked) = secret("password-", 0x0dad_beef_9abc);
    let options = ConnectOptions::new().user_and_password("u", &password);
    let client = connected(options, &server.url()).await;
    drop(password);
    assert!(found(&masked) > 0, "it is needed for the next connection");
    client.close().await;
    drop(client);
    until_gone(&masked, "a password").await;

    let (userinfo, masked) = secret("userinfo-", 0x0a1b_2c3d_4e5f);
    let url = Zeroizing::new(server.url_as(&userinfo));
    let client = connected(ConnectOptions::new(), &url).await;
    drop((url, userinfo));
    client.close().await;
    drop(client);
    until_gone(&masked, "a token in the URL").await;

    #[cfg(feature = "websocket")]
    {
        let port = crate::support::free_port();
        let config = format!("websocket {{ listen: \"127.0.0.1:{port}\", no_tls: true }}");
        let _server = RealServer::start(&binary, &config);
        let (value, masked) = secret("header-", 0x0f1e_2d3c_4b5a);
        let options = ConnectOptions::new().websocket_header("X-Key", value.as_str());
        let client = connected(options.unwrap(), &format!("ws://127.0.0.1:{port}")).await;
        drop(value);
        assert!(found(&masked) > 0, "it is needed for the next connection");
        client.close().await;
        drop(client);
        until_gone(&masked, "a header of the WebSocket request").await;
    }

    let issuer = Issuer::new();
    let server = RealServer::start(&binary, &issuer.config());
    let key = user_key(77);
    let seed = key.seed();
    let masked: Vec<u8> = seed.expose().bytes().map(|byte| byte ^ MASK).collect();
    let text = Zeroizing::new(creds(&issuer.user(&key, None), &key));
    let options = ConnectOptions::new().credentials(&text).unwrap();
    let client = connected(options, &server.url()).await;
    drop((text, key, seed));
    client.close().await;
    drop(client);
    until_gone(&masked, "the seed of a key").await;
}

/// Waits for the driver's task, which ends by itself.
async fn until_gone(masked: &[u8], what: &str) {
    let is_gone = async {
        while found(masked) > 0 {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(10);
    assert!(
        timeout(patience, is_gone).await.is_ok(),
        "{what} is still there"
    );
}
