//! A WebSocket as a byte stream.
//!
//! NATS does not care where a frame or a message ends, so nothing is collected: payload is passed
//! on as it arrives, inflated a buffer at a time, and what is written becomes one message for each
//! write. Memory is bounded by two buffers, whatever lengths and ratios a server chooses.

mod deflate;
mod frame;
mod handshake;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::session::{Secret, ServerAddr};
use crate::wire::handshake::ServerInfo;

use super::dialer::BoxedTransport;
use deflate::{Deflater, Inflater};
use frame::{CONTROL_BYTES_MAX, FrameHeader, Opcode};
pub(super) use handshake::open;

/// Room made for each socket read.
const READ_BYTES: usize = 64 << 10;

/// The largest payload of a frame that is written.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Shorter writes are not compressed: they would hardly become smaller.
const COMPRESSED_BYTES_MIN: usize = 64;

/// How much of a first line is looked at for INFO.
const FIRST_LINE_BYTES_MAX: usize = 64 << 10;

/// Inflated at a time.
const INFLATE_BYTES: usize = 16 << 10;

/// Frames after which other tasks have their turn: a server can send them faster than they are read.
const FRAMES_MAX: u32 = 1_024;

/// What the user says about WebSocket connections.
#[derive(Clone, Default)]
pub(in super::super) struct WebSocketOptions {
    /// Valid names and values, added to the request.
    headers: Vec<(String, Secret)>,
    /// Whom to ask for more of them, at each attempt.
    pub(in super::super) ask: Option<Arc<AskHeaders>>,
    pub(super) is_compressed: bool,
}

type AskHeaders = dyn Fn(ServerAddr) -> AskedHeaders + Send + Sync;

/// Names and values on their way.
pub(in super::super) type AskedHeaders = Pin<
    Box<dyn Future<Output = Result<Vec<(String, Secret)>, Box<dyn Error + Send + Sync>>> + Send>,
>;

impl WebSocketOptions {
    /// What holds for one attempt, with the headers that were asked for.
    pub(super) async fn of_attempt(&self, server: &ServerAddr) -> io::Result<Self> {
        let mut options = self.clone();
        if let Some(ask) = &self.ask {
            let asked = ask(server.clone()).await;
            for (name, value) in asked.map_err(|error| fault(error.to_string()))? {
                if !options.add_header(&name, value) {
                    let name = name.escape_debug();
                    return Err(fault(format!("header `{name}` cannot stand in a request")));
                }
            }
        }
        Ok(options)
    }

    /// Adds a header to the request. Returns false when it cannot stand there.
    pub(in super::super) fn add_header(&mut self, name: &str, value: Secret) -> bool {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_ours = OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own));
        let is_valid = !name.is_empty()
            && name.bytes().all(is_token)
            && !is_ours
            && value
                .expose()
                .chars()
                .all(|letter| letter == '\t' || !letter.is_control());
        if is_valid {
            self.headers.push((name.to_owned(), value));
        }
        is_valid
    }
}

/// Headers that the handshake says itself.
const OWN_HEADERS: [&str; 7] = [
    "Host",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
];

impl fmt::Debug for WebSocketOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        out.debug_struct("WebSocketOptions")
            .field("headers", &names)
            .field("asks", &self.ask.is_some())
            .field("is_compressed", &self.is_compressed)
            .finish()
    }
}

/// A byte stream within a WebSocket. Reading and writing must be polled by the same task.
pub(super) struct WebSocket {
    stream: BoxedTransport,
    /// Bytes that were read and not looked at.
    inbound: BytesMut,
    /// The message under way; `None` between messages.
    message: Option<Message>,
    inflater: Option<Inflater>,
    /// Whole frames, less what the socket took of the first.
    outbound: BytesMut,
    deflater: Option<Deflater>,
    scratch: Vec<u8>,
    /// Answers the last PING; earlier ones need none (RFC 6455, section 5.5.3).
    pong: Option<BytesMut>,
    masks: Masks,
    /// What was read of the first line; `None` once it is whole.
    first_line: Option<Vec<u8>>,
    /// The most that one compressed message may hold.
    deflated_bytes_max: usize,
    has_said_close: bool,
    has_heard_close: bool,
}

/// A message whose payload is being passed on.
#[derive(Debug, Clone, Copy)]
struct Message {
    is_compressed: bool,
    /// Whether the frame under way is the last one.
    is_ending: bool,
    /// Payload of the frame under way that was not passed on.
    left: u64,
}

/// What became of the bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// The reader has some.
    Payload,
    /// They were taken, and the reader has none yet.
    Input,
    /// More of them are needed, or another frame.
    Nothing,
}

impl WebSocket {
    /// Takes over after the handshake; `inbound` is what came behind it.
    fn new(stream: BoxedTransport, inbound: BytesMut, inflater: Option<Inflater>) -> Self {
        Self {
            stream,
            inbound,
            message: None,
            deflater: inflater.is_some().then(Deflater::new),
            inflater,
            outbound: BytesMut::new(),
            scratch: Vec::new(),
            pong: None,
            masks: Masks::default(),
            first_line: Some(Vec::new()),
            deflated_bytes_max: WRITE_BYTES_MAX,
            has_said_close: false,
            has_heard_close: false,
        }
    }

    /// Passes payload on, as much as one step gives.
    fn pass_on(&mut self, out: &mut ReadBuf<'_>) -> io::Result<Passed> {
        let Some(message) = &mut self.message else {
            return Ok(Passed::Nothing);
        };
        let len = usize::try_from(message.left)
            .unwrap_or(usize::MAX)
            .min(self.inbound.len());
        let input = self.inbound.get(..len).unwrap_or_default();
        let inflater = self.inflater.as_mut().filter(|_| message.is_compressed);
        let Some(inflater) = inflater else {
            let given = input.len().min(out.remaining());
            out.put_slice(input.get(..given).unwrap_or_default());
            self.inbound.advance(given);
            message.left = message.left.saturating_sub(given as u64);
            if message.left == 0 && message.is_ending {
                self.message = None;
            }
            return Ok(if given > 0 {
                Passed::Payload
            } else {
                Passed::Nothing
            });
        };
        let room = out.remaining().min(INFLATE_BYTES);
        let space = out.initialize_unfilled_to(room);
        if !input.is_empty() || inflater.may_hold_more() {
            let progress = inflater.inflate(input, space).map_err(fault)?;
            out.advance(progress.given);
            self.inbound.advance(progress.taken);
            message.left = message.left.saturating_sub(progress.taken as u64);
            // What was taken may give something only with what follows.
            return Ok(if progress.given > 0 {
                Passed::Payload
            } else {
                Passed::Input
            });
        }
        if message.left > 0 || !message.is_ending {
            return Ok(Passed::Nothing);
        }
        let given = inflater.finish(space).map_err(fault)?;
        out.advance(given);
        if given > 0 {
            return Ok(Passed::Payload);
        }
        self.message = None;
        Ok(Passed::Nothing)
    }

    /// Looks into the server's INFO: servers refuse a message that becomes larger than a payload may
    /// be, whatever it holds.
    fn look_for_info(&mut self, bytes: &[u8]) {
        let Some(line) = &mut self.first_line else {
            return;
        };
        line.extend_from_slice(bytes);
        let end = memchr::memchr(b'\n', line);
        let json = end.and_then(|end| line.get(..end)?.strip_prefix(b"INFO "));
        let info = json.and_then(|json| ServerInfo::parse(json).ok());
        let bytes_max = info.and_then(|info| usize::try_from(info.max_payload).ok());
        if let Some(bytes_max) = bytes_max {
            self.deflated_bytes_max = bytes_max.clamp(1, WRITE_BYTES_MAX);
        }
        if end.is_some() || line.len() > FIRST_LINE_BYTES_MAX {
            self.first_line = None;
        }
    }

    /// Takes a frame's header, or a whole control frame, off `inbound`. Returns false when it is
    /// not there yet.
    fn take_frame(&mut self) -> io::Result<bool> {
        if self.message.is_some_and(|message| message.left > 0) {
            return Ok(false);
        }
        let Some(header) = FrameHeader::read(&self.inbound).map_err(fault)? else {
            return Ok(false);
        };
        if header.opcode.is_control() {
            let payload_len = usize::try_from(header.payload_len).unwrap_or(CONTROL_BYTES_MAX);
            if self.inbound.len() < header.len.saturating_add(payload_len) {
                return Ok(false);
            }
            self.inbound.advance(header.len);
            let payload = self.inbound.split_to(payload_len);
            self.handle_control(header.opcode, payload)?;
            return Ok(true);
        }
        let is_compressed = match (header.opcode, self.message) {
            (Opcode::Continuation, Some(message)) if !header.is_compressed => message.is_compressed,
            (Opcode::Binary, None) => header.is_compressed,
            (Opcode::Text, _) => return Err(fault("text message".to_owned())),
            _ => {
                return Err(fault(
                    "frame that continues no message, or begins one within another".to_owned(),
                ));
            }
        };
        if is_compressed && self.inflater.is_none() {
            return Err(fault(
                "compressed message, which was not agreed on".to_owned(),
            ));
        }
        self.inbound.advance(header.len);
        self.message = Some(Message {
            is_compressed,
            is_ending: header.is_final,
            left: header.payload_len,
        });
        Ok(true)
    }

    fn handle_control(&mut self, opcode: Opcode, payload: BytesMut) -> io::Result<()> {
        match opcode {
            Opcode::Ping => self.pong = Some(payload),
            Opcode::Close => {
                self.has_heard_close = true;
                self.say_close()?;
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                if let Some(code) = code.filter(|code| !matches!(*code, NORMAL | GOING_AWAY)) {
                    let reason = payload.get(2..).unwrap_or_default().escape_ascii();
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        format!("server closed the WebSocket with code {code}: `{reason}`"),
                    ));
                }
            }
            Opcode::Pong | Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
        }
        Ok(())
    }

    fn say_close(&mut self) -> io::Result<()> {
        if !self.has_said_close {
            self.has_said_close = true;
            let mask = self.masks.next()?;
            frame::write(
                &mut self.outbound,
                Opcode::Close,
                false,
                mask,
                &[&NORMAL.to_be_bytes()],
            );
        }
        Ok(())
    }

    /// Writes the frames that wait to the socket.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(payload) = self.pong.take() {
            let mask = self.masks.next()?;
            frame::write(&mut self.outbound, Opcode::Pong, false, mask, &[&payload]);
        }
        while !self.outbound.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outbound))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbound.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Answers without waiting for the socket; what it does not take goes with the next write.
    fn answer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.pong.is_none() && self.outbound.is_empty() {
            return Ok(());
        }
        if let Poll::Ready(result) = self.poll_drain(cx) {
            result?;
            if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_flush(cx) {
                result?;
            }
        }
        Ok(())
    }

    /// Queues one message that holds as much of `parts` as a frame may, and says how much.
    fn enclose(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.scratch.clear();
        let bytes_max = match &self.deflater {
            Some(_) => self.deflated_bytes_max,
            None => WRITE_BYTES_MAX,
        };
        for part in parts {
            let room = bytes_max.saturating_sub(self.scratch.len());
            let len = part.len().min(room);
            self.scratch
                .extend_from_slice(part.get(..len).unwrap_or_default());
        }
        let payload = self.scratch.as_slice();
        if payload.is_empty() {
            return Ok(0);
        }
        let deflated = match &mut self.deflater {
            Some(deflater) if payload.len() >= COMPRESSED_BYTES_MIN => deflater.deflate(payload),
            _ => None,
        };
        let mask = self.masks.next()?;
        let is_compressed = deflated.is_some();
        let written = deflated.unwrap_or(payload);
        frame::write(
            &mut self.outbound,
            Opcode::Binary,
            is_compressed,
            mask,
            &[written],
        );
        Ok(payload.len())
    }
}

/// Close codes with which a server ends a connection without a fault.
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;

impl AsyncRead for WebSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        for _ in 0..FRAMES_MAX {
            match this.pass_on(out)? {
                Passed::Payload => {
                    this.look_for_info(out.filled().get(before..).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                Passed::Input => continue,
                Passed::Nothing => {}
            }
            if this.has_heard_close {
                return Poll::Ready(Ok(()));
            }
            let result = this.take_frame();
            this.answer(cx)?;
            if result? {
                continue;
            }
            this.inbound.reserve(READ_BYTES);
            let count = ready!(poll_read_buf(
                Pin::new(&mut this.stream),
                cx,
                &mut this.inbound
            ))?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One frame waits at most.
        ready!(self.poll_drain(cx))?;
        let taken = self.enclose(parts)?;
        if let Poll::Ready(result) = self.poll_drain(cx) {
            result?;
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_close()?;
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Random masks, asked for many at a time.
struct Masks {
    bytes: [u8; 256],
    used: usize,
}

impl Masks {
    fn next(&mut self) -> io::Result<[u8; 4]> {
        if let Some(mask) = self.bytes.get(self.used..).and_then(<[u8]>::first_chunk) {
            self.used = self.used.saturating_add(mask.len());
            return Ok(*mask);
        }
        getrandom::fill(&mut self.bytes).map_err(|error| fault(error.to_string()))?;
        let [a, b, c, d, ..] = self.bytes;
        self.used = 4;
        Ok([a, b, c, d])
    }
}

impl Default for Masks {
    fn default() -> Self {
        Self {
            bytes: [0; 256],
            used: usize::MAX,
        }
    }
}

fn fault(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("WebSocket: {text}"))
}

#[cfg(test)]
mod tests;
