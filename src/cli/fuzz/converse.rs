//! Sends a session to a server and listens to what it answers.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, timeout_at};

use crate::wire::handshake::ServerInfo;
use crate::wire::{Limits, OpKind, Parser, ServerOp, Step};

use super::case::Ended;

/// Room made for each socket read.
const READ_BYTES: usize = 16 << 10;

/// Bytes of one answer at most.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What a server says to a session; what differs between two well-behaved servers is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Operations but INFO and PING. Deliveries in a row are ordered by subscription.
    pub(super) frames: Vec<Vec<u8>>,
    /// What is no operation.
    pub(super) rest: Vec<u8>,
    pub(super) end: End,
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The server answers the last PING.
    Open,
    /// The server closes the connection.
    Closed,
    /// The server does neither in time.
    Silent,
    /// The server says more than any session can bring about.
    Endless,
}

impl Answer {
    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.frames.concat().as_slice(), &self.rest].concat()
    }

    /// Without refused publish subjects that repeat the one before them.
    pub(super) fn told_once(&self) -> Self {
        let refusal = b"-ERR 'Invalid Publish Subject'";
        let mut once = self.clone();
        once.frames
            .dedup_by(|later, earlier| later == earlier && later.starts_with(refusal));
        once
    }
}

impl End {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Endless => "endless",
        }
    }
}

/// Reads the INFO that a server begins with; `None` when it does not come in time.
pub(super) async fn read_info<S: AsyncRead + Unpin>(
    stream: &mut S,
    patience: Duration,
) -> Option<ServerInfo> {
    let deadline = Instant::now().checked_add(patience)?;
    let mut line = Vec::new();
    let reading = async {
        // Byte by byte: what follows belongs to the session.
        loop {
            let byte = stream.read_u8().await.ok()?;
            line.push(byte);
            if byte == b'\n' {
                return Some(());
            }
            if line.len() > Limits::SERVER_OPS.line_bytes_max {
                return None;
            }
        }
    };
    timeout_at(deadline, reading).await.ok()??;
    let mut parser = Parser::of_server(Limits::SERVER_OPS);
    match parser.next(&line) {
        Ok(Step::Frame(frame)) => match frame.server_op(&line) {
            ServerOp::Info { json } => ServerInfo::parse(json).ok(),
            ServerOp::Msg(_) | ServerOp::Ping | ServerOp::Pong | ServerOp::Ok => None,
            ServerOp::Err { .. } => None,
        },
        Ok(Step::More { .. }) | Err(_) => None,
    }
}

/// Sends the session and collects the answer, behind INFO.
pub(super) async fn converse<S: AsyncRead + AsyncWrite>(
    stream: S,
    session: &Ended,
    patience: Duration,
) -> Answer {
    let (mut reader, mut writer) = split(stream);
    let writing = async {
        // The server may close before everything is sent.
        let _ = writer.write_all(&session.bytes).await;
        let _ = writer.flush().await;
    };
    let listening = listen(&mut reader, session.pongs, patience);
    let ((), mut answer) = tokio::join!(writing, listening);
    order_deliveries(&mut answer.frames);
    answer
}

async fn listen<S: AsyncRead + Unpin>(stream: &mut S, pongs: usize, patience: Duration) -> Answer {
    let mut answer = Answer {
        frames: Vec::new(),
        rest: Vec::new(),
        end: End::Silent,
    };
    let mut parser = Parser::of_server(Limits::SERVER_OPS);
    let mut buffer = BytesMut::new();
    let mut pongs_left = pongs;
    let mut heard = 0_usize;
    let deadline = Instant::now().checked_add(patience);
    loop {
        loop {
            match parser.next(&buffer) {
                Ok(Step::Frame(frame)) => {
                    let bytes = buffer.split_to(frame.len());
                    if frame.kind() == OpKind::Pong {
                        pongs_left = pongs_left.saturating_sub(1);
                    }
                    if !matches!(frame.kind(), OpKind::Info | OpKind::Ping) {
                        answer.frames.push(bytes.to_vec());
                    }
                }
                Ok(Step::More { .. }) => break,
                Err(_) => {
                    answer.rest.extend_from_slice(&buffer);
                    buffer.clear();
                    break;
                }
            }
        }
        if pongs_left == 0 {
            answer.end = End::Open;
            return answer;
        }
        buffer.reserve(READ_BYTES);
        let reading = stream.read_buf(&mut buffer);
        let count = match deadline {
            Some(deadline) => match timeout_at(deadline, reading).await {
                Ok(count) => count,
                Err(_) => break,
            },
            None => reading.await,
        };
        let Ok(count @ 1..) = count else {
            answer.end = End::Closed;
            break;
        };
        heard = heard.saturating_add(count);
        if heard > ANSWER_BYTES_MAX {
            answer.end = End::Endless;
            break;
        }
        // A server that never pauses does not outlast the patience either.
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            break;
        }
    }
    answer.rest.extend_from_slice(buffer.chunk());
    answer
}

/// In which order several subscriptions get one message is a server's free choice.
fn order_deliveries(frames: &mut [Vec<u8>]) {
    let mut parser = Parser::of_server(Limits::SERVER_OPS);
    let mut sid = |frame: &[u8]| match parser.next(frame) {
        Ok(Step::Frame(found)) => match found.server_op(frame) {
            ServerOp::Msg(message) => Some(message.sid.to_vec()),
            ServerOp::Info { .. } | ServerOp::Ping | ServerOp::Pong => None,
            ServerOp::Ok | ServerOp::Err { .. } => None,
        },
        Ok(Step::More { .. }) | Err(_) => None,
    };
    let sids: Vec<_> = frames.iter().map(|frame| sid(frame)).collect();
    let mut start = 0_usize;
    for run in sids.chunk_by(|one, other| one.is_some() == other.is_some()) {
        let end = start.saturating_add(run.len());
        if run.first().is_some_and(Option::is_some)
            && let Some(frames) = frames.get_mut(start..end)
        {
            frames.sort_by_cached_key(|frame| sid(frame));
        }
        start = end;
    }
}
