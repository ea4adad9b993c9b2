//! One session to send: where its bytes come from, and how they are made to end.

use std::error::Error;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::jitter::Jitter;
use crate::wire::arbitrary::{ClientSession, Frames, NearlyValid, ServerSession};
use crate::wire::{Limits, OpKind, Parser, Step};

/// Bytes of entropy for one session.
const ENTROPY_BYTES: usize = 2_048;

/// One session in this many is left as it is.
const VALID_EVERY: u64 = 4;

/// Behind everything else, so that a server which goes on shows it.
const LAST_WORD: &[u8] = b"PING\r\n";

/// The bytes of a session, and how to make them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) mutations: Vec<String>,
    /// Pieces that can be left out one by one.
    pub(super) pieces: Vec<Vec<u8>>,
}

impl Case {
    /// What a client says.
    pub(super) fn of_client(seed: u64) -> Result<Self, arbitrary::Error> {
        Self::generate::<ClientSession>(seed)
    }

    /// What a server says.
    pub(super) fn of_server(seed: u64) -> Result<Self, arbitrary::Error> {
        Self::generate::<ServerSession>(seed)
    }

    fn generate<S>(seed: u64) -> Result<Self, arbitrary::Error>
    where
        S: Frames + for<'a> Arbitrary<'a>,
    {
        let mut jitter = Jitter::new(seed);
        let is_valid = jitter.below(VALID_EVERY) == 0;
        let mut entropy = Vec::with_capacity(ENTROPY_BYTES);
        while entropy.len() < ENTROPY_BYTES {
            entropy.extend_from_slice(&jitter.next_u64().to_le_bytes());
        }
        let mut entropy = Unstructured::new(&entropy);
        if is_valid {
            return Ok(Self {
                seed,
                mutations: Vec::new(),
                pieces: S::arbitrary(&mut entropy)?.frames(),
            });
        }
        let damaged = NearlyValid::<S>::arbitrary(&mut entropy)?;
        let names = damaged.mutations.iter();
        Ok(Self {
            seed,
            mutations: names.map(|mutation| mutation.name().to_owned()).collect(),
            pieces: damaged.frames,
        })
    }

    /// Reads the file of a finding.
    pub(super) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let name = path.display();
        let text = std::fs::read(path).map_err(|error| format!("cannot read `{name}`: {error}"))?;
        let file: File =
            serde_json::from_slice(&text).map_err(|error| format!("`{name}`: {error}"))?;
        let pieces = file
            .pieces_base64
            .iter()
            .map(|piece| STANDARD.decode(piece));
        let pieces: Result<Vec<_>, _> = pieces.collect();
        Ok(Self {
            seed: file.seed,
            mutations: file.mutations,
            pieces: pieces.map_err(|error| format!("`{name}`: {error}"))?,
        })
    }

    /// Writes the file of a finding.
    pub(super) fn write(&self, path: &Path) -> std::io::Result<()> {
        let file = File {
            seed: self.seed,
            mutations: self.mutations.clone(),
            input: self.bytes().escape_ascii().to_string(),
            pieces_base64: self
                .pieces
                .iter()
                .map(|piece| STANDARD.encode(piece))
                .collect(),
        };
        let mut text = serde_json::to_vec_pretty(&file)?;
        text.push(b'\n');
        std::fs::write(path, text)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    seed: u64,
    mutations: Vec<String>,
    /// For people.
    input: String,
    pieces_base64: Vec<String>,
}

/// A session's bytes made to end at the end of an operation, with a PING behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) bytes: Vec<u8>,
    /// PONGs that show that everything was read.
    pub(super) pongs: usize,
    /// Whether a CR lies inside a control line.
    pub(super) has_inner_cr: bool,
}

impl Ended {
    /// Completes `bytes`, as servers with `limits` read them.
    pub(super) fn new(bytes: &[u8], limits: Limits) -> Self {
        let mut ended = Self {
            bytes: bytes.to_vec(),
            pongs: 1,
            has_inner_cr: false,
        };
        let mut parser = Parser::of_client(limits);
        let mut taken = 0_usize;
        while let Some(rest) = ended.bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match parser.next(rest) {
                Ok(Step::Frame(frame)) => {
                    let line = rest.get(..frame.line_len().saturating_sub(2));
                    ended.has_inner_cr |= line.is_some_and(|line| line.contains(&b'\r'));
                    ended.pongs = ended
                        .pongs
                        .saturating_add(usize::from(frame.kind() == OpKind::Ping));
                    taken = taken.saturating_add(frame.len());
                }
                Ok(Step::More { bytes }) => {
                    let payload = bytes.saturating_sub(2);
                    ended
                        .bytes
                        .resize(ended.bytes.len().saturating_add(payload), b'x');
                    let end: &[u8] = if bytes == 1 { b"\n" } else { b"\r\n" };
                    ended.bytes.extend_from_slice(end);
                }
                Err(_) => {
                    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    ended.has_inner_cr |= line.contains(&b'\r');
                    break;
                }
            }
        }
        ended.bytes.extend_from_slice(LAST_WORD);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_open_is_completed() {
        let cases: [(&[u8], &[u8], usize); 6] = [
            (b"", b"PING\r\n", 1),
            (b"PING\r\nPI", b"PING\r\nPI\nPING\r\n", 2),
            (b"SUB a", b"SUB a\nPING\r\n", 1),
            (b"PUB a 5\r\nhe", b"PUB a 5\r\nhexxx\r\nPING\r\n", 1),
            (b"PUB a 2\r\nhi", b"PUB a 2\r\nhi\r\nPING\r\n", 1),
            (b"PUB a 2\r\nhi\r", b"PUB a 2\r\nhi\r\nPING\r\n", 1),
        ];
        for (bytes, completed, pongs) in cases {
            let ended = Ended::new(bytes, Limits::CLIENT_OPS);
            assert_eq!(
                ended.bytes.escape_ascii().to_string(),
                completed.escape_ascii().to_string()
            );
            assert_eq!(ended.pongs, pongs, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_cr_counts_inside_a_line_and_not_at_its_end() {
        let has_inner_cr = |bytes: &[u8]| Ended::new(bytes, Limits::CLIENT_OPS).has_inner_cr;
        for bytes in [
            b"PUB fo\ro 0\r\n\r\n".as_slice(),
            b"PUB fo\ro x\r\n",
            b"B\rE\r\n",
        ] {
            assert!(has_inner_cr(bytes), "{}", bytes.escape_ascii());
        }
        for bytes in [
            b"PUB foo 0\r\n\r\n".as_slice(),
            b"BYE\r\nSUB a 1\r\n",
            b"PUB a 1\r\n\r\r\n",
        ] {
            assert!(!has_inner_cr(bytes), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_session() {
        let one = Case::of_client(5).unwrap();
        assert_eq!(one, Case::of_client(5).unwrap());
        assert_ne!(one, Case::of_client(6).unwrap());
    }
}
