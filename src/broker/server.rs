//! Sockets around the hub: one reader and one writer for each client.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf,
};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::wire::encode::server;
use crate::wire::handshake::ServerInfo;
use crate::wire::{Frame, OpKind, Parser, Piece, Pieces};

use super::dialogue::{Dialogue, Reaction};
use super::faults::FaultStatistics;
use super::hub::Hub;
use super::options::BrokerOptions;
use super::outbound::{End, Outbound, Work};

/// Room made for each socket read.
const READ_BYTES: usize = 64 << 10;

/// Bytes that an in-process connection holds in each direction.
const DUPLEX_BYTES: usize = 1 << 20;

/// How long no connection is accepted after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// An embedded server. It ends with the last handle; its connections are cut then.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    local_addr: Option<SocketAddr>,
    listener: Option<JoinHandle<()>>,
}

/// Counts of a broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStatistics {
    /// Connections that are open.
    pub connections: usize,
    /// Messages that clients published.
    pub published: u64,
    /// Messages queued for clients, duplicates included.
    pub delivered: u64,
    /// What went wrong on purpose.
    pub faults: FaultStatistics,
}

#[derive(Debug)]
struct Shared {
    options: BrokerOptions,
    info: ServerInfo,
    hub: Mutex<Hub>,
    origin: Instant,
}

impl Broker {
    /// Starts a broker that is reached with [`Broker::connect`] alone.
    #[must_use]
    pub fn in_process(options: BrokerOptions) -> Self {
        Self {
            shared: Shared::new(options, None),
            local_addr: None,
            listener: None,
        }
    }

    /// Starts a broker that listens at `address`; port 0 takes a free one.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of binding the address.
    pub async fn listen(
        address: impl ToSocketAddrs,
        options: BrokerOptions,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local_addr = listener.local_addr()?;
        let shared = Shared::new(options, Some(local_addr));
        let accepting = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                // A connection that breaks while it is accepted concerns nobody else.
                let Ok((stream, _)) = listener.accept().await else {
                    // Nothing says when the process has a file descriptor again.
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                // Only a hint to the kernel.
                let _ = stream.set_nodelay(true);
                accepting.serve(stream);
            }
        });
        Ok(Self {
            shared,
            local_addr: Some(local_addr),
            listener: Some(task),
        })
    }

    /// Opens a connection within the process and returns the client's end.
    ///
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(DUPLEX_BYTES);
        self.shared.serve(server);
        client
    }

    /// Where it listens; `None` for a broker in process.
    #[must_use]
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Cuts every connection at once; clients may come back.
    pub fn cut_all(&self) {
        self.shared.hub().end_all(End::Abrupt);
    }

    /// Counts so far.
    #[must_use]
    pub fn statistics(&self) -> BrokerStatistics {
        let hub = self.shared.hub();
        let (published, delivered, faults) = hub.counts();
        BrokerStatistics {
            connections: hub.clients(),
            published,
            delivered,
            faults,
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
        self.shared.hub().end_all(End::Abrupt);
    }
}

impl Shared {
    fn new(options: BrokerOptions, local_addr: Option<SocketAddr>) -> Arc<Self> {
        let info = ServerInfo {
            server_id: format!("NATSEQ{:016X}", options.seed),
            server_name: options.server_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: local_addr.map_or_else(String::new, |addr| addr.ip().to_string()),
            port: local_addr.map_or(0, |addr| i64::from(addr.port())),
            headers: true,
            proto: 1,
            max_payload: i64::try_from(options.limits.payload_bytes_max).unwrap_or(i64::MAX),
            auth_required: options.credentials.is_some(),
            ..ServerInfo::default()
        };
        let hub = Mutex::new(Hub::new(&options));
        Arc::new(Self {
            options,
            info,
            hub,
            origin: Instant::now(),
        })
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn serve(self: &Arc<Self>, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let outbound = Arc::new(Outbound::new(self.options.pending_bytes_max));
        let client = self.hub().enter(Arc::clone(&outbound));
        let mut info = self.info.clone();
        info.client_id = Some(client);
        let mut greeting = Vec::new();
        server::info(&mut greeting, &info);
        outbound.say(&greeting);
        let (reader, writer) = tokio::io::split(stream);
        let parser = Parser::of_client(self.options.limits.with_headers(false));
        let conversation = Conversation {
            shared: Arc::clone(self),
            outbound: Arc::clone(&outbound),
            client,
            dialogue: Dialogue::new(&self.options, &info),
            pieces: Pieces::new(parser),
            frame: None,
            taken: 0,
        };
        let reading = tokio::spawn(conversation.read(reader));
        tokio::spawn(write(Arc::clone(self), client, outbound, writer, reading));
    }
}

/// What one client's reader holds.
struct Conversation {
    shared: Arc<Shared>,
    outbound: Arc<Outbound>,
    client: u64,
    dialogue: Dialogue,
    pieces: Pieces,
    /// The frame that is being read, and its bytes that were looked at.
    frame: Option<Frame>,
    taken: usize,
}

impl Conversation {
    async fn read<S: AsyncRead + AsyncWrite>(mut self, mut stream: ReadHalf<S>) {
        let mut buffer = BytesMut::new();
        let patience = Instant::now().checked_add(self.shared.options.auth_timeout);
        loop {
            buffer.reserve(READ_BYTES);
            let patience = patience.filter(|_| !self.dialogue.is_admitted());
            let count = match patience {
                None => stream.read_buf(&mut buffer).await,
                Some(until) => tokio::select! {
                    count = stream.read_buf(&mut buffer) => count,
                    () = sleep_until(until) => {
                        let mut out = Vec::new();
                        server::err(&mut out, b"Authentication Timeout");
                        self.outbound.say(&out);
                        self.outbound.end(End::Gentle);
                        break;
                    }
                },
            };
            match count {
                Ok(1..) => {}
                // A client that has said everything may still read the answers.
                Ok(0) => {
                    self.outbound.end(End::Cut);
                    break;
                }
                Err(_) => {
                    self.outbound.end(End::Abrupt);
                    break;
                }
            }
            if self.outbound.is_ending() || !self.take_frames(&mut buffer) {
                break;
            }
        }
        self.shared.hub().leave(self.client);
        // What the client still sends is read, so that it can read our last words.
        while let Ok(1..) = stream.read_buf(&mut buffer).await {
            buffer.clear();
        }
    }

    /// Takes whole frames off the buffer. Returns false when the connection is to be closed.
    fn take_frames(&mut self, buffer: &mut BytesMut) -> bool {
        let now = self.shared.now();
        let mut out = Vec::new();
        let mut hub = self.shared.hub();
        let goes_on = loop {
            let unread = buffer.get(self.taken..).unwrap_or_default();
            let begins = self
                .pieces
                .is_between_frames()
                .then(|| unread.first())
                .flatten();
            if begins.is_some_and(|byte| !self.dialogue.may_begin(*byte)) {
                Dialogue::handle_stranger(&mut out);
                break false;
            }
            let piece = match self.pieces.next(unread) {
                Ok(piece) => piece,
                Err(error) => {
                    Dialogue::handle_violation(error, &mut out);
                    break false;
                }
            };
            if piece.is_empty() {
                break true;
            }
            self.taken = self.taken.saturating_add(piece.len());
            if let Piece::Line(frame) = piece {
                self.frame = Some(frame);
                self.dialogue
                    .handle_line(&frame.client_op(buffer), &mut out);
            }
            let Some(frame) = self.frame.filter(|_| self.pieces.is_between_frames()) else {
                continue;
            };
            let client = self.client;
            let has_sid = |sid: &[u8]| hub.routes.has(client, sid);
            let op = frame.client_op(buffer);
            let reaction = self.dialogue.handle(op, has_sid, &mut out);
            let is_publish = matches!(reaction, Reaction::Publish(_));
            if is_publish && !out.is_empty() {
                // The client's own answers come before messages that it published to itself.
                self.outbound.say(&out);
                out.clear();
            }
            match reaction {
                Reaction::Nothing => {}
                Reaction::Publish(message) => {
                    let who = self.dialogue.client();
                    if !hub.publish(now, client, who.echo, who.no_responders, &message) {
                        break false;
                    }
                }
                Reaction::Subscribe {
                    subject,
                    queue_group,
                    sid,
                } => {
                    hub.routes.subscribe(client, subject, queue_group, sid);
                }
                Reaction::Unsubscribe { sid, max } => hub.routes.unsubscribe(client, sid, max),
                Reaction::Forget => hub.routes.forget(client),
                Reaction::Close => break false,
            }
            if frame.kind() == OpKind::Connect {
                let has_headers = self.dialogue.client().headers;
                hub.set_headers(client, has_headers);
                let limits = self.shared.options.limits;
                self.pieces.set_limits(limits.with_headers(has_headers));
            }
            if matches!(frame.kind(), OpKind::Ping) && !out.is_empty() {
                self.outbound.say(&out);
                out.clear();
            }
            buffer.advance(frame.len());
            self.taken = 0;
        };
        drop(hub);
        self.outbound.say(&out);
        if !goes_on {
            self.outbound.end(End::Gentle);
        }
        goes_on
    }
}

async fn write<S: AsyncRead + AsyncWrite>(
    shared: Arc<Shared>,
    client: u64,
    outbound: Arc<Outbound>,
    mut stream: WriteHalf<S>,
    mut reading: JoinHandle<()>,
) {
    let is_split = shared.hub().is_split();
    let end = loop {
        let has_changed = outbound.has_changed.notified();
        match outbound.next(shared.now()) {
            Work::Write(bytes) => {
                let patience = shared.options.write_deadline;
                let written = tokio::select! {
                    written = write_all(&mut stream, &bytes, is_split, patience) => written,
                    // A client that does not read must not hold up the end of its connection.
                    () = outbound.aborted() => break End::Abrupt,
                };
                if written.is_err() {
                    break End::Abrupt;
                }
            }
            Work::Wait(None) => has_changed.await,
            Work::Wait(Some(due)) => {
                let due = shared.origin.checked_add(due).unwrap_or(shared.origin);
                tokio::select! {
                    () = has_changed => {}
                    () = sleep_until(due) => {}
                }
            }
            Work::End(end) => break end,
        }
    };
    outbound.end(End::Abrupt);
    // Closing with unread bytes would reset the connection and swallow the last words.
    let has_left = end == End::Gentle
        && stream.shutdown().await.is_ok()
        && timeout(shared.options.linger, &mut reading).await.is_ok();
    if !has_left {
        reading.abort();
        // A cancelled reader had no time to take its leave of the hub.
        let _ = reading.await;
    }
    shared.hub().leave(client);
}

async fn write_all<S: AsyncRead + AsyncWrite>(
    stream: &mut WriteHalf<S>,
    bytes: &[u8],
    is_split: bool,
    patience: Duration,
) -> std::io::Result<()> {
    let piece_bytes = if is_split { 1 } else { bytes.len().max(1) };
    for mut piece in bytes.chunks(piece_bytes) {
        while !piece.is_empty() {
            let count = timeout(patience, stream.write(piece)).await??;
            if count == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            piece = piece.get(count..).unwrap_or_default();
        }
        if is_split {
            stream.flush().await?;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
