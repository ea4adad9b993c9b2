//! A chaos proxy: stands between a client and its server and spoils the connection as the test tells it.
//!
//! ```text
//!   client <--> [ chunks, delay, stall, cut at a byte, swallow, inject ] <--> server
//! ```
//!
//! It lives on a thread of its own, so that a test may block its runtime or the server. What the test tells it holds
//! at once for the connections that are there and, where that makes sense, for those to come. It hands on bytes in
//! order and unchanged unless told otherwise; the same seed cuts them into the same pieces.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use natseq::jitter::Jitter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// What the client says.
    ToServer,
    /// What the server says.
    ToClient,
}

/// Both directions.
pub(crate) const BOTH: [Way; 2] = [Way::ToServer, Way::ToClient];

/// How one direction is handed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Bytes handed on in one write, at most; 0: as they come.
    pub(crate) chunk_bytes_max: usize,
    /// Whether each chunk has a random size up to that.
    pub(crate) is_random: bool,
    /// The pause before each write.
    pub(crate) delay: Duration,
    /// Whether nothing is read, so that the speaker's buffers fill.
    pub(crate) is_stalled: bool,
}

/// How a connection ends, or stops working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both sides get a reset.
    Reset,
    /// Both sides get an orderly end.
    Close,
    /// Half-open: both sockets stay, whatever is said is lost.
    Swallow,
}

/// What passed in one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Passed {
    /// What the server got.
    pub(crate) to_server: Vec<u8>,
    /// What the client got.
    pub(crate) to_client: Vec<u8>,
    /// What the client said behind that into a half-open connection.
    pub(crate) swallowed: Vec<u8>,
}

/// The proxy; ends with its connections when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a loopback port of its own and hands connections on to `server`.
    pub(crate) fn start(server: SocketAddr, seed: u64) -> Self {
        let port = super::free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let shared = Arc::new(Shared::new(server, seed));
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(serve(&shared, address));
            }
        });
        let proxy = Self {
            address,
            shared,
            thread: Some(thread),
        };
        proxy.settle();
        proxy
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `nats://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Hands later connections on to another server.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        self.shared.tell(|orders| orders.server = server);
    }

    /// Sets how `way` is handed on, in all connections.
    pub(crate) fn pace(&self, way: Way, pace: Pace) {
        self.shared.tell(|orders| orders.paces[way as usize] = pace);
    }

    /// Hands on in pieces of at most that many bytes, both ways.
    pub(crate) fn chunks(&self, chunk_bytes_max: usize) {
        for way in BOTH {
            let pace = Pace {
                chunk_bytes_max,
                ..Pace::default()
            };
            self.pace(way, pace);
        }
    }

    /// Reads nothing of `way` until [`Proxy::resume`]. Bytes read before may still be written.
    pub(crate) fn stall(&self, way: Way) {
        self.shared
            .tell(|orders| orders.paces[way as usize].is_stalled = true);
    }

    /// Reads `way` again.
    pub(crate) fn resume(&self, way: Way) {
        self.shared
            .tell(|orders| orders.paces[way as usize].is_stalled = false);
    }

    /// Ends or spoils all connections that are there now. When it returns they hand nothing on any more.
    pub(crate) fn cut(&self, cut: Cut) {
        let accepted = self.accepted();
        self.shared
            .tell(|orders| orders.cut = Some((accepted, cut)));
        super::wait_until("the connections to be cut", || {
            let state = self.shared.state();
            state.working.range(..accepted).next().is_none()
        });
    }

    /// Ends or spoils the newest connection once it has handed on exactly that many further bytes of `way`; it must
    /// not be in the middle of handing on when this is called.
    pub(crate) fn cut_after(&self, way: Way, bytes: u64, cut: Cut) {
        let mut number = 0;
        self.shared.tell(|orders| {
            let after = &mut orders.cut_after[way as usize];
            after.0 += 1;
            number = after.0;
            after.1 = (bytes, cut);
        });
        super::wait_until("the cut to be prepared", || {
            self.shared.state().prepared[way as usize] == number
        });
    }

    /// Ends or spoils the next connection once it has handed on exactly that many bytes of `way`.
    pub(crate) fn cut_next(&self, way: Way, bytes: u64, cut: Cut) {
        self.shared.state().next[way as usize] = Some((bytes, cut));
    }

    /// Says `bytes` in the newest connection, behind what was handed on so far.
    pub(crate) fn inject(&self, way: Way, bytes: &[u8]) {
        self.shared.state().injections[way as usize].extend_from_slice(bytes);
        self.shared.tell(|_| {});
    }

    /// Whether connections are refused: the port is closed then.
    pub(crate) fn refuse(&self, is_refusing: bool) {
        self.shared.tell(|orders| orders.is_refusing = is_refusing);
        self.settle();
    }

    /// Whether new connections are accepted and hear nothing, as behind a firewall that swallows.
    pub(crate) fn hold(&self, is_silent: bool) {
        self.shared.tell(|orders| orders.is_silent = is_silent);
    }

    /// Keeps what passes, from the next connection on.
    pub(crate) fn record(&self) {
        self.shared.tell(|orders| orders.is_recording = true);
    }

    /// What passed in each connection that was recorded, by its number; 0 is the first.
    pub(crate) fn passed(&self, connection: usize) -> Passed {
        let state = self.shared.state();
        state.passed.get(connection).cloned().unwrap_or_default()
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// Connections that are there now.
    pub(crate) fn live(&self) -> usize {
        self.shared.state().live
    }

    /// Bytes handed on so far.
    pub(crate) fn bytes(&self, way: Way) -> u64 {
        self.shared.bytes[way as usize].load(Ordering::Relaxed)
    }

    /// Waits until it listens or refuses, as it was told.
    fn settle(&self) {
        super::wait_until("the proxy to open or close its port", || {
            let is_refusing = self.shared.orders.borrow().is_refusing;
            self.shared.state().is_listening != is_refusing
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.tell(|orders| orders.is_over = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the test told.
#[derive(Debug, Clone)]
struct Orders {
    server: SocketAddr,
    paces: [Pace; 2],
    /// Connections with a lower number are cut.
    cut: Option<(usize, Cut)>,
    /// The number of the order, further bytes, and what to do then.
    cut_after: [(u64, (u64, Cut)); 2],
    is_refusing: bool,
    is_silent: bool,
    is_recording: bool,
    is_over: bool,
}

#[derive(Debug)]
struct Shared {
    seed: u64,
    orders: watch::Sender<Orders>,
    state: Mutex<State>,
    bytes: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct State {
    accepted: usize,
    live: usize,
    is_listening: bool,
    /// Connections that hand on.
    working: BTreeSet<usize>,
    /// Cuts that the next connection takes with it.
    next: [Option<(u64, Cut)>; 2],
    /// The last order to cut after some bytes that was taken.
    prepared: [u64; 2],
    injections: [Vec<u8>; 2],
    passed: Vec<Passed>,
}

impl Shared {
    fn new(server: SocketAddr, seed: u64) -> Self {
        let orders = Orders {
            server,
            paces: [Pace::default(); 2],
            cut: None,
            cut_after: [(0, (0, Cut::Close)); 2],
            is_refusing: false,
            is_silent: false,
            is_recording: false,
            is_over: false,
        };
        Self {
            seed,
            orders: watch::Sender::new(orders),
            state: Mutex::default(),
            bytes: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    fn tell(&self, order: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(order);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn serve(shared: &Arc<Shared>, address: SocketAddr) {
    let mut orders = shared.orders.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = None;
    loop {
        let (is_over, is_refusing) = {
            let orders = orders.borrow_and_update();
            (orders.is_over, orders.is_refusing)
        };
        if is_over {
            return;
        }
        if is_refusing {
            listener = None;
        } else if listener.is_none() {
            // A connection that is still being taken down may hold the port for a moment.
            let Ok(bound) = TcpListener::bind(address).await else {
                sleep(super::POLL).await;
                continue;
            };
            listener = Some(bound);
        }
        shared.state().is_listening = listener.is_some();
        tokio::select! {
            client = accept(listener.as_ref()) => {
                let number = {
                    let mut state = shared.state();
                    state.accepted += 1;
                    state.live += 1;
                    state.accepted - 1
                };
                connections.spawn(connection(Arc::clone(shared), number, client));
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
            _ = orders.changed() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    match listener {
        Some(listener) => loop {
            if let Ok((stream, _)) = listener.accept().await {
                return stream;
            }
            sleep(super::POLL).await;
        },
        None => std::future::pending().await,
    }
}

async fn connection(shared: Arc<Shared>, number: usize, mut client: TcpStream) {
    // An error is the end of the connection, which is all that it can mean here.
    let _ = handed_on(&shared, number, &mut client).await;
    shared.state().live -= 1;
}

async fn handed_on(shared: &Shared, number: usize, client: &mut TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut orders = shared.orders.subscribe();
    let (address, is_silent, is_recorded) = {
        let orders = orders.borrow_and_update();
        (orders.server, orders.is_silent, orders.is_recording)
    };
    if is_silent {
        swallow(client, None, &mut orders, number, None).await;
        return Ok(());
    }
    let Ok(mut server) = TcpStream::connect(address).await else {
        return client.set_zero_linger();
    };
    server.set_nodelay(true)?;
    if is_recorded {
        let mut state = shared.state();
        if state.passed.len() <= number {
            state.passed.resize_with(number + 1, Passed::default);
        }
    }
    shared.state().working.insert(number);
    let cut = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let pump = |way| Pump {
            shared,
            orders: shared.orders.subscribe(),
            number,
            way,
            jitter: Jitter::new(shared.seed ^ ((number as u64) << 1) ^ way as u64),
            passed: 0,
            is_recorded,
            cut: shared.state().next[way as usize].take(),
            prepared: shared.orders.borrow().cut_after[way as usize].0,
        };
        let both = async {
            let up = pump(Way::ToServer).run(client_read, server_write);
            let down = pump(Way::ToClient).run(server_read, client_write);
            tokio::select! {
                cut = up => cut,
                cut = down => cut,
            }
        };
        tokio::select! {
            cut = both => cut,
            cut = ordered(&mut orders, number) => cut,
        }
    };
    shared.state().working.remove(&number);
    match cut {
        Cut::Reset => reset(client, &server)?,
        Cut::Close => close(client, &mut server).await,
        Cut::Swallow => {
            let recording = is_recorded.then_some(shared);
            swallow(client, Some(&mut server), &mut orders, number, recording).await;
        }
    }
    Ok(())
}

/// Waits until the test cuts the connection.
async fn ordered(orders: &mut watch::Receiver<Orders>, number: usize) -> Cut {
    loop {
        match orders.borrow_and_update().cut {
            Some((before, cut)) if number < before => return cut,
            _ => {}
        }
        if orders.changed().await.is_err() {
            return Cut::Reset;
        }
    }
}

fn reset(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    client.set_zero_linger()?;
    server.set_zero_linger()
}

/// Says the end to both, and reads what they still say: bytes left unread would make it a reset.
async fn close(client: &mut TcpStream, server: &mut TcpStream) {
    async fn end(stream: &mut TcpStream) {
        let _ = stream.shutdown().await;
        let _ = timeout(FAREWELL, tokio::io::copy(stream, &mut tokio::io::sink())).await;
    }
    tokio::join!(end(client), end(server));
}

/// Reads and forgets what both say, until the client gives up or the test cuts it otherwise.
async fn swallow(
    client: &mut TcpStream,
    server: Option<&mut TcpStream>,
    orders: &mut watch::Receiver<Orders>,
    number: usize,
    recording: Option<&Shared>,
) {
    let heard = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(count @ 1..) = client.read(&mut buffer).await {
            if let Some(shared) = recording {
                let passed = &mut shared.state().passed[number];
                passed.swallowed.extend_from_slice(&buffer[..count]);
            }
        }
    };
    let forgotten = async {
        match server {
            // The server may go; the client must not notice.
            Some(server) => {
                let mut nowhere = tokio::io::sink();
                let silent = async {
                    let _ = tokio::io::copy(server, &mut nowhere).await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = heard => {}
                    () = silent => {}
                }
            }
            None => heard.await,
        }
    };
    tokio::select! {
        () = forgotten => {}
        () = async {
            while ordered(orders, number).await == Cut::Swallow {
                if orders.changed().await.is_err() {
                    return;
                }
            }
        } => {}
    }
}

/// One direction of one connection.
struct Pump<'a> {
    shared: &'a Shared,
    orders: watch::Receiver<Orders>,
    number: usize,
    way: Way,
    jitter: Jitter,
    passed: u64,
    is_recorded: bool,
    /// After how many bytes in all to cut, and how.
    cut: Option<(u64, Cut)>,
    /// The last order to cut that was taken.
    prepared: u64,
}

impl Pump<'_> {
    async fn run(
        mut self,
        mut source: impl AsyncRead + Unpin,
        mut target: impl AsyncWrite + Unpin,
    ) -> Cut {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let pace = self.obey();
            if let Some((offset, cut)) = self.cut
                && offset == self.passed
            {
                return cut;
            }
            let injected = self.injected();
            if !injected.is_empty() {
                if target.write_all(&injected).await.is_err() {
                    return Cut::Close;
                }
                continue;
            }
            let mut room = match (pace.chunk_bytes_max, pace.is_random) {
                (0, _) => BUFFER_BYTES,
                (max, false) => max.min(BUFFER_BYTES),
                (max, true) => {
                    let below = self.jitter.below(max as u64);
                    usize::try_from(below).unwrap().min(BUFFER_BYTES - 1) + 1
                }
            };
            if let Some((offset, _)) = self.cut {
                let left = usize::try_from(offset - self.passed).unwrap();
                room = room.min(left);
            }
            if pace.is_stalled {
                if self.orders.changed().await.is_err() {
                    return Cut::Reset;
                }
                continue;
            }
            let count = tokio::select! {
                biased;
                _ = self.orders.changed() => continue,
                count = source.read(&mut buffer[..room]) => count,
            };
            let count = match count {
                Ok(0) => return Cut::Close,
                Ok(count) => count,
                // A reset is handed on as one.
                Err(_) => return Cut::Reset,
            };
            if !pace.delay.is_zero() {
                sleep(pace.delay).await;
            }
            if self.hand_on(&mut target, &buffer[..count]).await.is_err() {
                return Cut::Close;
            }
        }
    }

    /// Writes piece by piece, so that what is counted has been written when a cut comes between.
    async fn hand_on(
        &mut self,
        target: &mut (impl AsyncWrite + Unpin),
        mut bytes: &[u8],
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = target.write(bytes).await?;
            let (written, rest) = bytes.split_at(count);
            self.passed += written.len() as u64;
            self.shared.bytes[self.way as usize].fetch_add(written.len() as u64, Ordering::Relaxed);
            if self.is_recorded {
                let passed = &mut self.shared.state().passed[self.number];
                match self.way {
                    Way::ToServer => passed.to_server.extend_from_slice(written),
                    Way::ToClient => passed.to_client.extend_from_slice(written),
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Takes in what the test told since.
    fn obey(&mut self) -> Pace {
        let way = self.way as usize;
        let (pace, (number, (bytes, cut))) = {
            let orders = self.orders.borrow_and_update();
            (orders.paces[way], orders.cut_after[way])
        };
        if number != self.prepared {
            self.prepared = number;
            let mut state = self.shared.state();
            if self.number + 1 == state.accepted {
                self.cut = Some((self.passed + bytes, cut));
                state.prepared[way] = number;
            }
        }
        pace
    }

    fn injected(&self) -> Vec<u8> {
        let mut state = self.shared.state();
        if self.number + 1 == state.accepted {
            std::mem::take(&mut state.injections[self.way as usize])
        } else {
            Vec::new()
        }
    }
}

const BUFFER_BYTES: usize = 64 << 10;

/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_secs(1);
