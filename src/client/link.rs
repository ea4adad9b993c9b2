//! One link to a server: a socket that is being opened, then bytes both ways.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};
use tokio_util::io::poll_read_buf;

use crate::session::{LinkError, SecretBytes, WriteBatch};
use crate::wire::{Limits, Parser};

use super::shared::Shared;
use super::transport::BoxedTransport;

/// Room made for each socket read.
pub(super) const READ_BYTES: usize = 256 << 10;

/// Less room than this left, and the next buffer is begun.
const READ_BYTES_MIN: usize = 16 << 10;

/// How long a socket that cannot be written is read: a server that closes has said why before.
const LAST_READ_TIME: Duration = Duration::from_millis(100);

/// Slices handed to one vectored write.
const SLICES_MAX: usize = 64;

/// Opens a socket, or begins TLS on one.
type Opening = Pin<Box<dyn Future<Output = Result<BoxedTransport, LinkError>> + Send>>;

pub(super) struct Link {
    number: u64,
    stage: Stage,
    pub(super) parser: Parser,
    /// Bytes that were read and are not yet whole frames.
    pub(super) buffer: BytesMut,
    /// Whether `buffer` may hold whole frames.
    pub(super) has_unparsed: bool,
    /// Whether nothing more is read for now.
    pub(super) is_held: bool,
    /// Whether subscribers have had their turn since the buffer was used up.
    is_waiting: bool,
    /// What the session asked to write, behind the batch that was begun; wiped once it is written.
    urgent: VecDeque<SecretBytes>,
    /// Bytes of the first of them that are written.
    urgent_at: usize,
    batch: WriteBatch,
    is_flushed: bool,
    /// Requests that were answered since something was taken from the outbox.
    pub(super) answered: usize,
    /// Whether others have their turn before more is taken from the outbox.
    is_gathering: bool,
    failure: Option<Failure>,
}

/// The socket cannot be written any more.
struct Failure {
    reason: LinkError,
    /// How long it is still read; begins with the first look.
    patience: Option<Pin<Box<Sleep>>>,
}

enum Stage {
    Dialing(Opening),
    StartingTls(Opening),
    Open(BoxedTransport),
    /// The socket was given away.
    Gone,
}

/// What has happened to a link that was being opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    Socket,
    Tls,
    /// It is open since before.
    Already,
}

impl Link {
    pub(super) fn dialing(number: u64, opening: Opening) -> Self {
        Self {
            number,
            stage: Stage::Dialing(opening),
            parser: Parser::of_server(Limits::SERVER_OPS),
            buffer: BytesMut::new(),
            has_unparsed: false,
            is_held: false,
            is_waiting: false,
            urgent: VecDeque::new(),
            urgent_at: 0,
            batch: WriteBatch::default(),
            is_flushed: true,
            answered: 0,
            is_gathering: false,
            failure: None,
        }
    }

    /// Begins TLS with what `start` makes of the socket.
    ///
    /// # Errors
    ///
    /// [`LinkError::InfoMalformed`] when bytes follow INFO: whoever put them there could speak in
    /// the server's name.
    pub(super) fn start_tls(
        &mut self,
        start: impl FnOnce(BoxedTransport) -> Opening,
    ) -> Result<(), LinkError> {
        if !self.buffer.is_empty() {
            let text = format!("{} bytes follow it before TLS", self.buffer.len());
            return Err(LinkError::InfoMalformed(text));
        }
        if let Stage::Open(stream) = std::mem::replace(&mut self.stage, Stage::Gone) {
            self.stage = Stage::StartingTls(start(stream));
        }
        Ok(())
    }

    /// Queues bytes ahead of the outbox.
    pub(super) fn send(&mut self, bytes: SecretBytes) {
        self.urgent.push_back(bytes);
    }

    /// Goes on opening the socket, or beginning TLS.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Opened, LinkError>> {
        let (opening, opened) = match &mut self.stage {
            Stage::Dialing(opening) => (opening, Opened::Socket),
            Stage::StartingTls(opening) => (opening, Opened::Tls),
            Stage::Open(_) => return Poll::Ready(Ok(Opened::Already)),
            Stage::Gone => return Poll::Pending,
        };
        let stream = ready!(opening.as_mut().poll(cx))?;
        self.stage = Stage::Open(stream);
        Poll::Ready(Ok(opened))
    }

    /// Writes the batch that was begun, what is urgent, and, if this link `is_writing`, the outbox,
    /// until the socket or they have had enough. A failure is told when all is read that came before.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, shared: &Shared, is_writing: bool) {
        if self.failure.is_some() {
            return;
        }
        if let Poll::Ready(Err(reason)) = self.poll_write(cx, shared, is_writing) {
            self.failure = Some(Failure {
                reason,
                patience: None,
            });
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        is_writing: bool,
    ) -> Poll<Result<(), LinkError>> {
        let Stage::Open(stream) = &mut self.stage else {
            return Poll::Ready(Ok(()));
        };
        let mut stream = Pin::new(stream);
        loop {
            if !self.batch.is_finished() {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let filled = self.batch.fill(&mut slices);
                let slices = slices.get(..filled).unwrap_or_default();
                let written = ready!(stream.as_mut().poll_write_vectored(cx, slices))?;
                self.batch.advance(some(written)?);
                self.is_flushed = false;
                continue;
            }
            if let Some(urgent) = self.urgent.front() {
                let rest = urgent.expose().get(self.urgent_at..).unwrap_or_default();
                if rest.is_empty() {
                    // Dropping it wipes it.
                    self.urgent.pop_front();
                    self.urgent_at = 0;
                    continue;
                }
                let written = ready!(stream.as_mut().poll_write(cx, rest))?;
                self.urgent_at = self.urgent_at.saturating_add(some(written)?);
                self.is_flushed = false;
                continue;
            }
            if !is_writing {
                break;
            }
            let mut cell = shared.outbox();
            // Those who were answered together ask again together: one write will do for all of them.
            self.is_gathering = !self.is_gathering && self.answered > 1 && cell.outbox.can_take();
            if self.is_gathering {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let has_taken = cell.outbox.take(&mut self.batch);
            drop(cell);
            if !has_taken {
                break;
            }
            self.answered = 0;
            shared.room.notify_waiters();
        }
        if !self.is_flushed {
            ready!(stream.as_mut().poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
    ) -> Poll<Result<(), LinkError>> {
        if self.is_held {
            return Poll::Pending;
        }
        if let Some(Failure { reason, patience }) = &mut self.failure {
            let patience = patience.get_or_insert_with(|| Box::pin(sleep(LAST_READ_TIME)));
            if patience.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(reason.clone()));
            }
        }
        ready!(self.poll_room(cx, shared));
        let Stage::Open(stream) = &mut self.stage else {
            return Poll::Pending;
        };
        let end = match ready!(poll_read_buf(Pin::new(stream), cx, &mut self.buffer)) {
            Ok(1..) => {
                self.has_unparsed = true;
                return Poll::Ready(Ok(()));
            }
            Ok(0) => LinkError::Closed,
            Err(error) => error.into(),
        };
        Poll::Ready(Err(self.failure().unwrap_or(end)))
    }

    /// Makes room to read into: in the same buffer once nobody has anything of it any more, else in what
    /// is left of it, and at last in another.
    fn poll_room(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<()> {
        let len = self.buffer.len();
        // Memory grows with what has arrived, never with what a frame declares.
        let room = READ_BYTES.saturating_sub(len).max(len);
        if self.buffer.capacity().saturating_sub(len) >= room {
            return Poll::Ready(());
        }
        if !self.buffer.try_reclaim(room) {
            if self.buffer.capacity().saturating_sub(len) >= READ_BYTES_MIN {
                return Poll::Ready(());
            }
            // Whoever has messages of it in hand may have done with them when it is our turn again, and
            // memory in use is in the processor's cache.
            self.is_waiting = !self.is_waiting && self.buffer.capacity() > 0;
            if self.is_waiting {
                return pin!(yield_now()).poll(cx);
            }
            self.buffer.reserve(room);
        }
        self.is_waiting = false;
        shared.core().leave_buffer(READ_BYTES);
        Poll::Ready(())
    }

    /// Closes the socket; `last_words` are written first, behind what was begun and what is urgent.
    pub(super) async fn close(self, last_words: Option<WriteBatch>) -> std::io::Result<()> {
        let Stage::Open(mut stream) = self.stage else {
            return Ok(());
        };
        if let Some(mut last_words) = last_words {
            let mut batch = self.batch;
            write_all(&mut stream, &mut batch).await?;
            let mut begun = self.urgent_at;
            for urgent in self.urgent {
                let rest = urgent.expose().get(begun..).unwrap_or_default();
                stream.write_all(rest).await?;
                begun = 0;
            }
            write_all(&mut stream, &mut last_words).await?;
        }
        stream.shutdown().await
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Why the socket cannot be written any more.
    pub(super) fn failure(&self) -> Option<LinkError> {
        let failure = self.failure.as_ref()?;
        Some(failure.reason.clone())
    }

    /// Returns true when this link would take from the outbox if there were anything.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
            && self.failure.is_none()
            && self.batch.is_finished()
            && self.urgent.is_empty()
            && !self.is_gathering
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Link")
            .field("number", &self.number)
            .field("buffered_bytes", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

async fn write_all(stream: &mut BoxedTransport, batch: &mut WriteBatch) -> std::io::Result<()> {
    while !batch.is_finished() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = batch.fill(&mut slices);
        let written = stream
            .write_vectored(slices.get(..filled).unwrap_or_default())
            .await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        batch.advance(written);
    }
    stream.flush().await
}

/// A socket that takes nothing is closed.
fn some(written: usize) -> Result<usize, LinkError> {
    if written == 0 {
        Err(LinkError::Closed)
    } else {
        Ok(written)
    }
}
