//! A server that says generated sessions to whoever connects.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use crate::wire::{FrameError, Limits, OpKind, Parser, Step};

use super::FuzzArgs;
use super::case::Case;
use super::report::{Outcome, Record, SessionRecord, Summary, finish, print};

/// Room made for each socket read.
const READ_BYTES: usize = 16 << 10;

/// Connections that may wait for their record to be printed.
const RECORDS_MAX: usize = 64;

/// Clients that are talked to at a time; others wait.
const CONNECTIONS_MAX: usize = 256;

/// How long no connection is accepted after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A client that writes more than this in one session is not listened to any longer.
const HEARD_BYTES_MAX: usize = 64 << 20;

pub(super) async fn run(args: &FuzzArgs, address: &str) -> Result<ExitCode, Box<dyn Error>> {
    let replayed = args.replay.as_deref().map(Case::read).transpose()?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen at `{address}`: {error}"))?;
    // Standard output is for records alone.
    writeln!(std::io::stderr(), "Listening on {}", listener.local_addr()?)?;
    let (told, mut records) = mpsc::channel(RECORDS_MAX);
    let patience = args.patience;
    let mut summary = Summary::new(replayed.as_ref().map_or(args.seed, |case| case.seed));
    let (first_seed, count) = (args.seed, args.sessions.unwrap_or(u64::MAX));
    let accepting = tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        for index in 0..count {
            let case = match &replayed {
                Some(case) => Ok(case.clone()),
                None => Case::of_server(first_seed.wrapping_add(index)),
            };
            let (Ok(case), Ok(place)) = (case, Arc::clone(&places).acquire_owned().await) else {
                break;
            };
            let stream = loop {
                match listener.accept().await {
                    Ok((stream, _)) => break stream,
                    // Nothing says when the process has a file descriptor again.
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                }
            };
            let told = told.clone();
            tokio::spawn(async move {
                let record = Conversation::new(stream, patience).hold(&case).await;
                drop(place);
                // Nobody waits for records any more when the run was interrupted.
                let _ = told.send((case, record)).await;
            });
        }
    });
    let mut out = std::io::stdout();
    loop {
        let (case, record) = tokio::select! {
            record = records.recv() => match record {
                Some(record) => record,
                None => break,
            },
            _ = crate::cli::interrupted() => break,
        };
        summary.count(&case.mutations);
        // Damage may make a client wait for what never comes; what is valid may not.
        let is_stuck = case.mutations.is_empty() && record.end == "silent";
        if record.violation.is_some() || is_stuck {
            summary.note(&Outcome::Differs);
            std::fs::create_dir_all(&args.findings)?;
            case.write(&args.findings.join(format!("server-{}.json", case.seed)))?;
        } else {
            summary.note(&Outcome::Agreed);
        }
        print(&mut out, &Record::Session(record), args.json)?;
    }
    accepting.abort();
    finish(&mut out, summary, args.json)
}

/// One client's connection.
struct Conversation {
    stream: TcpStream,
    parser: Parser,
    buffer: BytesMut,
    patience: Duration,
    heard: BTreeMap<&'static str, u64>,
    heard_bytes: usize,
    violation: Option<FrameError>,
}

/// What the client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Op(OpKind),
    Closed,
    Nothing,
}

impl Conversation {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        Self {
            stream,
            parser: Parser::of_client(Limits::CLIENT_OPS.with_line_bytes_max(1 << 20)),
            buffer: BytesMut::new(),
            patience,
            heard: BTreeMap::new(),
            heard_bytes: 0,
            violation: None,
        }
    }

    /// Says the first piece as greeting, the second when the client pings, then the others, and
    /// asks whether the client still answers.
    async fn hold(mut self, case: &Case) -> SessionRecord {
        let mut said = 0_usize;
        let mut end = "closed";
        let mut pieces = case.pieces.iter();
        let greeting = pieces.next().map(Vec::as_slice).unwrap_or_default();
        said = said.saturating_add(greeting.len());
        if self.say(greeting).await && self.wait_for(OpKind::Ping).await == Heard::Op(OpKind::Ping)
        {
            let mut is_there = true;
            for piece in pieces {
                is_there = self.say(piece).await;
                if !is_there {
                    break;
                }
                said = said.saturating_add(piece.len());
            }
            if is_there && self.say(b"PING\r\n").await {
                end = match self.wait_for(OpKind::Pong).await {
                    Heard::Op(_) => "answered",
                    Heard::Closed => "closed",
                    Heard::Nothing => "silent",
                };
            }
        }
        SessionRecord {
            seed: case.seed,
            mutations: case.mutations.clone(),
            said,
            heard: self.heard,
            end,
            violation: self.violation.map(FrameError::name),
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> bool {
        let Some(deadline) = Instant::now().checked_add(self.patience) else {
            return false;
        };
        let writing = timeout_at(deadline, self.stream.write_all(bytes));
        matches!(writing.await, Ok(Ok(())))
    }

    /// Listens until an operation of that kind, the close, or the end of patience.
    async fn wait_for(&mut self, wanted: OpKind) -> Heard {
        let Some(deadline) = Instant::now().checked_add(self.patience) else {
            return Heard::Nothing;
        };
        loop {
            match self.parser.next(&self.buffer) {
                Ok(Step::Frame(frame)) => {
                    let count = self.heard.entry(frame.kind().name()).or_default();
                    *count = count.saturating_add(1);
                    self.buffer.advance(frame.len());
                    if frame.kind() == wanted {
                        return Heard::Op(wanted);
                    }
                    continue;
                }
                Ok(Step::More { .. }) => {}
                Err(error) => {
                    self.violation = Some(error);
                    return Heard::Closed;
                }
            }
            self.buffer.reserve(READ_BYTES);
            match timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(count @ 1..)) => {
                    self.heard_bytes = self.heard_bytes.saturating_add(count);
                    if self.heard_bytes > HEARD_BYTES_MAX {
                        return Heard::Nothing;
                    }
                }
                Ok(Ok(0) | Err(_)) => return Heard::Closed,
                Err(_) => return Heard::Nothing,
            }
        }
    }
}
