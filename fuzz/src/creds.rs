//! Texts of `.creds` files: a naive reader finds the same JWT and key, and no error tells what it read.

use natseq::session::{Credentials, KeyPair};
use natseq::wire::handshake::{Connect, ServerInfo};

/// What the server gives to be signed.
const NONCE: &str = "ro1hdMMENSSQ_A8";

/// Every text that an error may have, without its digits.
const TOLD: &[&str] = &[
    "creds of  bytes exceed  bytes",
    "creds without a line that begins a USER JWT",
    "JWT of  lines in creds, allowed is one",
    "JWT is not three baseurl words with dots between",
    "creds without a seed behind the JWT",
    "seed of  lines in creds, allowed is one",
    "seed in creds: key of  characters, allowed are ",
    "seed in creds: character  of a key is not one of A to Z and  to ",
    "seed in creds: check sum of a key is wrong",
    "seed in creds: key is no seed, seeds begin with S",
    "seed in creds: key is of another kind than is needed here",
];

/// Reads the text as credentials.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let expected = naive(text);
    let credentials = match Credentials::creds(text) {
        Ok(credentials) => credentials,
        Err(error) => {
            assert_eq!(expected, None, "{text:?}: {error}");
            let told: String = error.to_string();
            let told: String = told.chars().filter(|c| !c.is_ascii_digit()).collect();
            return assert!(TOLD.contains(&told.as_str()), "{text:?}: {error}");
        }
    };
    let Some((jwt, key)) = expected else {
        panic!("{text:?}: taken");
    };
    let info = ServerInfo::parse(format!("{{\"nonce\":\"{NONCE}\"}}").as_bytes()).unwrap();
    let mut connect = Connect::new();
    credentials.introduce(&mut connect, &info).unwrap();
    assert_eq!(connect.jwt.as_deref(), Some(jwt), "{text:?}");
    let public = KeyPair::new(natseq::session::KeyKind::User, &key);
    let signed = Credentials::jwt_signed(jwt, &public.sign(NONCE.as_bytes())).unwrap();
    let mut expected = Connect::new();
    signed.introduce(&mut expected, &info).unwrap();
    assert_eq!(connect, expected, "{text:?}");
    assert_eq!(format!("{credentials:?}"), "Credentials{jwt, key}");
}

/// The JWT and the 32 bytes of the key, by position in a list of lines.
fn naive(text: &str) -> Option<(&str, [u8; 32])> {
    if text.len() > 65_536 {
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.split('\n').map(str::trim).collect();
    let is_mark = |at: usize| {
        let bytes = lines[at].as_bytes();
        bytes.len() >= 3 && bytes[..3] == *b"---" && bytes[bytes.len() - 3..] == *b"---"
    };
    let begins = |at: usize| {
        let inner = lines[at].trim_matches('-').trim();
        inner.strip_prefix("BEGIN ").filter(|_| is_mark(at))
    };
    let is_jwt = |at: &usize| begins(*at).is_some_and(|label| label.trim().ends_with("USER JWT"));
    let one_word = |begin: usize| {
        let end = (begin + 1..lines.len()).find(|at| is_mark(*at));
        let end = end.unwrap_or(lines.len());
        let words: Vec<&str> = lines[begin + 1..end]
            .iter()
            .copied()
            .filter(|line| !line.is_empty())
            .collect();
        (words.len() == 1).then(|| (words[0], end))
    };
    let (jwt, end) = one_word((0..lines.len()).find(is_jwt)?)?;
    let parts: Vec<&str> = jwt.split('.').collect();
    let known = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.";
    if parts.len() != 3 || parts.contains(&"") || !jwt.chars().all(|c| known.contains(c)) {
        return None;
    }
    // The mark that ends the JWT begins nothing else.
    let begin = (end + 1..lines.len()).find(|at| begins(*at).is_some())?;
    let (seed, _) = one_word(begin)?;
    Some((jwt, naive_seed(seed)?))
}

/// Base32 by bits, the check sum by polynomial division.
fn naive_seed(seed: &str) -> Option<[u8; 32]> {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bits = Vec::new();
    for letter in seed.chars() {
        let value = letters.find(letter)?;
        bits.extend((0..5).rev().map(|bit| value >> bit & 1 == 1));
    }
    if bits.len() != 290 || bits[288] || bits[289] {
        return None;
    }
    let bytes: Vec<u8> = bits[..288]
        .chunks(8)
        .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit)))
        .collect();
    let mut rest = bits[..272].to_vec();
    rest.extend([false; 16]);
    for at in 0..272 {
        if rest[at] {
            for power in [0, 4, 11, 16] {
                // 0x11021 has its bits at 16, 12, 5 and 0.
                rest[at + power] ^= true;
            }
        }
    }
    let sum = rest[272..]
        .iter()
        .fold(0_u16, |sum, bit| sum << 1 | u16::from(*bit));
    if bytes[34..] != sum.to_le_bytes() || bytes[0] != 18 << 3 | 20 >> 2 || bytes[1] != 0 {
        return None;
    }
    bytes[2..34].try_into().ok()
}
