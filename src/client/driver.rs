//! The task that carries out what the session asks for and moves bytes both ways.

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_util::io::poll_read_buf;

use crate::session::{Action, Event, Heard, LinkError, ServerAddr, Session, WriteBatch};
use crate::wire::{Limits, OpKind, Parser, Step};

use super::Client;
use super::clock::Clock;
use super::error::Error;
use super::inbox;
use super::options::ConnectOptions;
use super::shared::{Link, Shared};
use super::transport::BoxedTransport;

/// Room made for each socket read.
const READ_BYTES: usize = 256 << 10;

/// Less room than this left, and the next buffer is begun.
const READ_BYTES_MIN: usize = 16 << 10;

/// Slices handed to one vectored write.
const SLICES_MAX: usize = 64;

/// Operations other than messages after which other tasks and our own timeouts have their turn: a
/// server can say them faster than they are read.
const CHATTER_MAX: u32 = 1_024;

/// How long the last words to a server may take.
const SHUTDOWN_TIME: Duration = Duration::from_millis(100);

/// Starts a client and waits for its first connection.
pub(super) async fn connect(
    options: ConnectOptions,
    servers: Vec<ServerAddr>,
) -> Result<Client, Error> {
    let clock = Clock::new();
    let seed = inbox::random_seed()?;
    let waits = !options.retries_first_connect;
    let session = Session::new(options.session(servers), seed, clock.now());
    let shared = Arc::new(Shared::new(options, session, clock));
    let (first, connected) = oneshot::channel();
    let driver = Driver {
        shared: Arc::clone(&shared),
        stream: None,
        parser: Parser::of_server(Limits::SERVER_OPS),
        buffer: BytesMut::new(),
        has_unparsed: false,
        urgent: BytesMut::new(),
        batch: WriteBatch::default(),
        is_flushed: true,
        chatter: 0,
        timer: Box::pin(sleep_until(shared.clock.instant(Duration::ZERO))),
        first: Some(first),
    };
    tokio::spawn(driver.run());
    let client = Client::new(shared);
    if waits {
        match connected.await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(reason.into()),
            Err(_) => return Err(LinkError::ByOwner.into()),
        }
    }
    Ok(client)
}

struct Driver {
    shared: Arc<Shared>,
    stream: Option<BoxedTransport>,
    parser: Parser,
    /// Bytes that were read and are not yet whole frames.
    buffer: BytesMut,
    /// Whether `buffer` may hold whole frames.
    has_unparsed: bool,
    /// The handshake's bytes, ahead of the outbox.
    urgent: BytesMut,
    batch: WriteBatch,
    is_flushed: bool,
    /// Operations other than messages since other tasks had their turn.
    chatter: u32,
    timer: Pin<Box<Sleep>>,
    first: Option<oneshot::Sender<Result<(), LinkError>>>,
}

impl Driver {
    async fn run(mut self) {
        loop {
            if self.chatter >= CHATTER_MAX {
                self.chatter = 0;
                yield_now().await;
            }
            let now = self.shared.clock.now();
            let action = self.shared.with_both(|core, outbox| {
                core.session.handle_timeout(now, outbox);
                core.session.poll_action(now, outbox)
            });
            self.report();
            match action {
                Some(Action::Dial(server)) => self.dial(&server).await,
                Some(Action::StartTls(server)) => self.start_tls(&server).await,
                Some(Action::Send(bytes)) => self.urgent.extend_from_slice(&bytes),
                Some(Action::Hang) => self.hang().await,
                Some(Action::Finish) => return self.finish(),
                None if self.stream.is_some() => poll_fn(|cx| self.poll_stream(cx)).await,
                None => pause(&self.shared).await,
            }
        }
    }

    async fn dial(&mut self, server: &ServerAddr) {
        let options = &self.shared.options;
        let dialing = options.connector.dial(server, options.connect_timeout);
        let Some(result) = bounded(&self.shared, dialing).await else {
            return;
        };
        match result {
            Ok(stream) => {
                self.begin(stream);
                self.shared
                    .core()
                    .session
                    .handle_connected(self.shared.clock.now());
            }
            Err(error) => self.lose(error),
        }
    }

    async fn start_tls(&mut self, server: &ServerAddr) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        if !self.buffer.is_empty() {
            // Whoever put bytes between INFO and the TLS handshake could speak in the server's name.
            let text = format!("{} bytes follow it before TLS", self.buffer.len());
            return self.lose(LinkError::InfoMalformed(text));
        }
        let starting = self.shared.options.connector.start_tls(stream, server);
        let Some(result) = bounded(&self.shared, starting).await else {
            return;
        };
        match result {
            Ok(stream) => {
                self.begin(stream);
                let now = self.shared.clock.now();
                self.shared
                    .with_both(|core, outbox| core.session.handle_tls_started(now, outbox));
            }
            Err(error) => self.lose(error),
        }
    }

    fn begin(&mut self, stream: BoxedTransport) {
        self.stream = Some(stream);
        self.parser = Parser::of_server(Limits::SERVER_OPS);
        self.buffer = BytesMut::new();
        self.has_unparsed = false;
        self.urgent.clear();
        self.batch.clear();
        self.is_flushed = true;
    }

    /// The connection is gone; the session decides what follows.
    fn lose(&mut self, reason: LinkError) {
        self.stream = None;
        self.batch.clear();
        let now = self.shared.clock.now();
        self.shared.with_both(|core, outbox| {
            core.session.handle_disconnected(now, reason, outbox);
            core.drop_pings();
        });
        // Without a connection another bound is in force.
        self.shared.room.notify_waiters();
    }

    /// Closes the socket; after the owner's close what was published is written first.
    async fn hang(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let mut last_words = std::mem::take(&mut self.shared.outbox().last_words);
            let is_closed = self.shared.core().session.is_closed();
            let farewell = async {
                if is_closed {
                    write_all(&mut stream, &mut self.batch).await?;
                    write_all(&mut stream, &mut last_words).await?;
                }
                stream.shutdown().await
            };
            // Nothing is owed to a server that does not read.
            let _ = timeout(SHUTDOWN_TIME, farewell).await;
        }
        self.batch.clear();
        self.shared.core().drop_pings();
        // Without a connection another bound is in force.
        self.shared.room.notify_waiters();
    }

    fn finish(mut self) {
        self.shared.end_publishing();
        self.shared.core().end_all();
        self.report();
        self.shared.link.send_replace(Link::Closed);
        if let Some(first) = self.first.take() {
            // `connect` was cancelled.
            let _ = first.send(Err(LinkError::ByOwner));
        }
    }

    /// Tells events and the state of the connection to whoever listens.
    fn report(&mut self) {
        loop {
            let event = self.shared.core().session.poll_event();
            let Some(event) = event else {
                return;
            };
            tracing::debug!(?event, "connection");
            match &event {
                Event::Connected { generation, .. } => {
                    self.shared.note_info(&self.shared.core());
                    self.shared.link.send_replace(Link::Up(*generation));
                    if let Some(first) = self.first.take() {
                        // `connect` was cancelled.
                        let _ = first.send(Ok(()));
                    }
                }
                Event::Disconnected { .. } => {
                    self.shared.link.send_replace(Link::Down);
                }
                Event::Closed { reason } => {
                    if let Some(first) = self.first.take() {
                        let reason = reason.clone().unwrap_or(LinkError::ByOwner);
                        let _ = first.send(Err(reason));
                    }
                }
                Event::DialFailed { .. }
                | Event::ServerError { .. }
                | Event::LameDuck
                | Event::SubscriptionRefused(_)
                | Event::PublishRefused(_)
                | Event::SlowConsumer { .. }
                | Event::SlowConsumerOver { .. }
                | Event::Draining { .. }
                | Event::Drained { .. }
                | Event::ReadingStopped { .. }
                | Event::ReadingResumed { .. } => {}
            }
            // Without a reader of events nobody is told, by their own choice.
            let _ = self.shared.events.send(event);
        }
    }

    /// Moves bytes until the session has something to be done or the connection is gone.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.poll_bytes(cx)) {
            Ok(()) => {}
            Err(reason) => self.lose(reason),
        }
        Poll::Ready(())
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        loop {
            if self.has_unparsed && self.parse()? {
                return Poll::Ready(Ok(()));
            }
            let _ = self.poll_write(cx)?;
            match self.poll_read(cx)? {
                Poll::Ready(()) => self.has_unparsed = true,
                Poll::Pending => break,
            }
        }
        self.poll_timer(cx)
    }

    /// Fires when the session's timeout has come. A timeout that moved later is found out when the
    /// timer fires, so that traffic does not touch the timer.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        loop {
            let (due, is_closed) = {
                let core = self.shared.core();
                (core.timeout(), core.session.is_closed())
            };
            if is_closed {
                return Poll::Ready(Ok(()));
            }
            let Some(due) = due else {
                return Poll::Pending;
            };
            let now = self.shared.clock.now();
            if due <= now {
                self.shared
                    .with_both(|core, outbox| core.session.handle_timeout(now, outbox));
                return Poll::Ready(Ok(()));
            }
            let due = self.shared.clock.instant(due);
            if self.timer.deadline() > due || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Writes what is urgent, then the outbox, until the socket or the outbox has had enough.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Ok(()));
        };
        let mut stream = Pin::new(stream);
        loop {
            if !self.urgent.is_empty() {
                let written = ready!(stream.as_mut().poll_write(cx, &self.urgent))?;
                self.urgent.advance(some(written)?);
                self.is_flushed = false;
                continue;
            }
            if self.batch.is_finished() {
                let has_taken = {
                    let mut cell = self.shared.outbox();
                    let has_taken = cell.outbox.take(&mut self.batch);
                    if !has_taken {
                        cell.waker = Some(cx.waker().clone());
                    }
                    has_taken
                };
                if has_taken {
                    self.shared.room.notify_waiters();
                } else {
                    break;
                }
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = self.batch.fill(&mut slices);
            let slices = slices.get(..filled).unwrap_or_default();
            let written = ready!(stream.as_mut().poll_write_vectored(cx, slices))?;
            self.batch.advance(some(written)?);
            self.is_flushed = false;
        }
        if !self.is_flushed {
            ready!(stream.as_mut().poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Ok(()));
        };
        if self.buffer.capacity().saturating_sub(self.buffer.len()) < READ_BYTES_MIN {
            self.shared.core().leave_buffer(READ_BYTES);
            // Memory grows with what has arrived, never with what a frame declares.
            let len = self.buffer.len();
            self.buffer.reserve(READ_BYTES.saturating_sub(len).max(len));
        }
        let count = ready!(poll_read_buf(Pin::new(stream), cx, &mut self.buffer))?;
        if count == 0 {
            return Poll::Ready(Err(LinkError::Closed));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes whole frames off the buffer. Returns true when the session wants to act first.
    fn parse(&mut self) -> Result<bool, LinkError> {
        let now = self.shared.clock.now();
        let mut core = self.shared.core();
        core.session.handle_bytes(now);
        let mut answered = None;
        let wants_to_act = loop {
            let frame = match self.parser.next(&self.buffer) {
                Ok(Step::Frame(frame)) => frame,
                Ok(Step::More { .. }) => {
                    self.has_unparsed = false;
                    break false;
                }
                Err(error) => {
                    core.hand_over(&self.shared.events);
                    return Err(LinkError::Frame(error));
                }
            };
            // Before the handshake is over nothing was subscribed to: the session judges messages then.
            if matches!(frame.kind(), OpKind::Msg | OpKind::Hmsg) && core.session.is_connected() {
                let bytes = self.buffer.split_to(frame.len()).freeze();
                core.deliver(frame.message(bytes));
                continue;
            }
            let heard = {
                let op = frame.server_op(&self.buffer);
                let mut cell = self.shared.outbox();
                core.session.handle_op(now, &op, &mut cell.outbox)
            };
            self.buffer.advance(frame.len());
            match heard {
                Heard::Pong(number) => answered = Some(number),
                Heard::Nothing | Heard::Connected(_) => {}
            }
            if frame.kind() == OpKind::Info {
                self.shared.note_info(&core);
            }
            self.chatter = self.chatter.saturating_add(1);
            if core.session.has_news() || self.chatter >= CHATTER_MAX {
                break true;
            }
        };
        core.hand_over(&self.shared.events);
        // After the hand-over: whoever waits for a PONG may rely on what came before it.
        if let Some(number) = answered {
            core.answer_pings(number);
        }
        Ok(wants_to_act)
    }
}

/// Runs `work` until the session's deadline, or until the session is closed.
async fn bounded<T>(
    shared: &Shared,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Option<Result<T, LinkError>> {
    let deadline = shared.core().timeout().unwrap_or_default();
    let expired = sleep_until(shared.clock.instant(deadline));
    tokio::pin!(work, expired);
    loop {
        tokio::select! {
            result = &mut work => return Some(result),
            () = &mut expired => return Some(Err(LinkError::HandshakeTimeout)),
            () = shared.kick.notified() => {
                if shared.core().session.is_closed() {
                    return None;
                }
            }
        }
    }
}

/// Waits until the session wants something.
async fn pause(shared: &Shared) {
    let due = shared.core().timeout();
    let due = shared.clock.instant(due.unwrap_or(Duration::MAX));
    tokio::select! {
        () = sleep_until(due) => {}
        () = shared.kick.notified() => {}
    }
    let now = shared.clock.now();
    shared.with_both(|core, outbox| core.session.handle_timeout(now, outbox));
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
