//! The task that carries out what the session asks for and moves bytes both ways.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until, timeout};
use tracing::Instrument as _;

use crate::session::{Action, Event, Heard, LinkError, ServerAddr, Session};
use crate::wire::{OpKind, Step};

use super::Client;
use super::auth::Asking;
use super::clock::Clock;
use super::error::Error;
use super::inbox;
use super::link::{Link, Opened};
use super::options::ConnectOptions;
use super::shared::{self, Shared};

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
    options.identity.check()?;
    let clock = Clock::new();
    let seed = inbox::random_seed()?;
    let waits = !options.retries_first_connect;
    let session = Session::new(options.session(servers), seed, clock.now());
    let shared = Arc::new(Shared::new(options, session, clock));
    let (first, connected) = oneshot::channel();
    let driver = Driver {
        shared: Arc::clone(&shared),
        links: Vec::new(),
        writing: None,
        asking: None,
        chatter: 0,
        timer: Box::pin(sleep_until(shared.clock.instant(Duration::ZERO))),
        first: Some(first),
    };
    let name = shared.options.name.as_deref();
    let span = tracing::info_span!("nats", name);
    tokio::spawn(driver.run().instrument(span));
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
    /// At most three: one that serves, one that is being left, one that is being opened.
    links: Vec<Link>,
    /// The link that the outbox is for; without one, the last that it was for.
    writing: Option<u64>,
    /// The link that waits for credentials, and where they come from.
    asking: Option<(u64, Asking)>,
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
                if core.is_blocked() {
                    core.session.handle_standstill(now);
                }
                core.session.handle_timeout(now, outbox);
                core.requests.handle_timeout(now);
                core.session.poll_action(now, outbox)
            });
            self.report();
            self.shared.note_settled();
            match action {
                Some(Action::Dial { link, server }) => self.dial(link, server),
                Some(Action::StartTls { link, server }) => self.start_tls(link, server),
                Some(Action::Authenticate {
                    link,
                    server,
                    nonce,
                }) => self.authenticate(link, server, nonce),
                Some(Action::Send { link, bytes }) => {
                    if let Some(link) = self.link(link) {
                        link.send(bytes);
                    }
                }
                Some(Action::Hang { link }) => self.hang(link).await,
                Some(Action::Finish) => return,
                None => poll_fn(|cx| self.poll_links(cx)).await,
            }
        }
    }

    fn dial(&mut self, link: u64, server: ServerAddr) {
        let shared = Arc::clone(&self.shared);
        let opening = async move {
            let options = &shared.options;
            let dialing = options.connector.dial(&server, options.connect_timeout);
            dialing.await
        };
        self.links.push(Link::dialing(link, Box::pin(opening)));
    }

    fn start_tls(&mut self, number: u64, server: ServerAddr) {
        let shared = Arc::clone(&self.shared);
        let Some(link) = self.link(number) else {
            return;
        };
        let started = link.start_tls(|stream| {
            Box::pin(async move { shared.options.connector.start_tls(stream, &server).await })
        });
        if let Err(reason) = started {
            self.lose(number, reason);
        }
    }

    fn authenticate(&mut self, link: u64, server: ServerAddr, nonce: Option<String>) {
        let identity = &self.shared.options.identity;
        self.asking = Some((link, identity.ask(server, nonce)));
    }

    /// The link's connection is gone; the session decides what follows.
    fn lose(&mut self, link: u64, reason: LinkError) {
        self.remove(link);
        let now = self.shared.clock.now();
        self.shared.with_both(|core, outbox| {
            core.session.handle_disconnected(link, now, reason, outbox);
            core.deliver_held();
            core.answer_held(now);
            core.drop_pings(outbox.pings_answered());
        });
        // Without a connection another bound is in force.
        self.shared.room.notify_waiters();
    }

    /// Closes the socket; after the owner's close what was published is written first.
    async fn hang(&mut self, number: u64) {
        if let Some(link) = self.remove(number) {
            let is_closed = self.shared.core().session.is_closed();
            let is_last = is_closed && self.writing == Some(number);
            let last_words = is_last.then(|| std::mem::take(&mut self.shared.outbox().last_words));
            // Nothing is owed to a server that does not read.
            let farewell = timeout(SHUTDOWN_TIME, link.close(last_words));
            if is_closed {
                let _ = farewell.await;
            } else {
                tokio::spawn(farewell);
            }
        }
        self.shared
            .with_both(|core, outbox| core.drop_pings(outbox.pings_answered()));
        // Without a connection another bound is in force.
        self.shared.room.notify_waiters();
    }

    fn link(&mut self, number: u64) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.number() == number)
    }

    fn remove(&mut self, number: u64) -> Option<Link> {
        self.asking.take_if(|(link, _)| *link == number);
        let index = self.links.iter().position(|link| link.number() == number)?;
        Some(self.links.remove(index))
    }

    /// Tells messages that waited, events and the state of the connection to whoever listens.
    fn report(&mut self) {
        let mut core = self.shared.core();
        self.writing = core.session.writing_link().or(self.writing);
        core.deliver_held();
        drop(core);
        for link in &mut self.links {
            link.is_held = false;
        }
        loop {
            let mut core = self.shared.core();
            let Some(event) = core.session.poll_event() else {
                // Whoever waited for the server has heard what it left in doubt.
                return core.answer_held(self.shared.clock.now());
            };
            drop(core);
            let outcome = match &event {
                Event::Connected { generation, .. } => {
                    self.shared.link.send_replace(shared::Link::Up(*generation));
                    Some(Ok(()))
                }
                Event::Disconnected { .. } => {
                    self.shared.core().fail_requests();
                    self.shared.link.send_replace(shared::Link::Down);
                    None
                }
                Event::Closed { reason, .. } => {
                    // Whoever hears of it can rely on it.
                    self.shared.end_publishing();
                    Some(Err(reason.clone().unwrap_or(LinkError::ByOwner)))
                }
                Event::DialFailed { .. }
                | Event::ServerError { .. }
                | Event::ServersDiscovered { .. }
                | Event::LameDuck
                | Event::Moved(_)
                | Event::SubscriptionRefused(_)
                | Event::PublishRefused(_)
                | Event::PayloadTooLarge { .. }
                | Event::SlowConsumer { .. }
                | Event::SlowConsumerOver { .. }
                | Event::Draining { .. }
                | Event::Drained { .. }
                | Event::ReadingStopped { .. }
                | Event::ReadingResumed { .. } => None,
            };
            self.shared.tell(event);
            // After the event: who waits for the first connection has it behind.
            if let Some(outcome) = outcome
                && let Some(first) = self.first.take()
            {
                // `connect` was cancelled.
                let _ = first.send(outcome);
            }
        }
    }

    /// Moves bytes until the session has something to be done or a link is gone.
    fn poll_links(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            for index in 0..self.links.len() {
                let Some(link) = self.links.get(index) else {
                    break;
                };
                let number = link.number();
                match self.poll_link(index, cx) {
                    Poll::Ready(Ok(())) => return Poll::Ready(()),
                    Poll::Ready(Err(reason)) => {
                        self.lose(number, reason);
                        return Poll::Ready(());
                    }
                    Poll::Pending => {}
                }
            }
            if let Some((link, asking)) = &mut self.asking
                && let Poll::Ready(credentials) = asking.as_mut().poll(cx)
            {
                let (link, now) = (*link, self.shared.clock.now());
                self.asking = None;
                self.shared.with_both(|core, outbox| {
                    core.session
                        .handle_credentials(link, now, credentials, outbox);
                });
                return Poll::Ready(());
            }
            if !self.has_more_to_write(cx) && !self.can_read_again() {
                return self.poll_timer(cx);
            }
        }
    }

    /// Asks to be woken by whoever changes outbox or session. Returns true when the outbox was
    /// filled since it was looked at.
    fn has_more_to_write(&self, cx: &Context<'_>) -> bool {
        let writing = self
            .links
            .iter()
            .find(|link| Some(link.number()) == self.writing);
        let is_idle = writing.is_some_and(Link::is_idle);
        let mut cell = self.shared.outbox();
        match &mut cell.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => cell.waker = Some(cx.waker().clone()),
        }
        is_idle && cell.outbox.can_take()
    }

    /// Returns true when a subscriber has made room since the links were looked at.
    fn can_read_again(&self) -> bool {
        let mut core = self.shared.core();
        core.is_blocked() && !core.stays_blocked(self.shared.clock.now())
    }

    /// Ready when the session is to be asked what follows.
    fn poll_link(&mut self, index: usize, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let Some(link) = self.links.get_mut(index) else {
            return Poll::Pending;
        };
        let number = link.number();
        match ready!(link.poll_open(cx))? {
            Opened::Already => {}
            Opened::Socket => {
                let now = self.shared.clock.now();
                self.shared.with_both(|core, outbox| {
                    core.session.handle_connected(number, now, outbox);
                });
                return Poll::Ready(Ok(()));
            }
            Opened::Tls => {
                let now = self.shared.clock.now();
                self.shared.with_both(|core, outbox| {
                    core.session.handle_tls_started(number, now, outbox);
                });
                return Poll::Ready(Ok(()));
            }
        }
        let is_writing = self.writing == Some(number);
        loop {
            // A server that is not heard because we do not listen is not given up.
            if self.shared.is_blocked(number) {
                link.write(cx, &self.shared, is_writing);
                // Who has to make room may be waiting for what is to be written.
                return link
                    .failure()
                    .map_or(Poll::Pending, |reason| Poll::Ready(Err(reason)));
            }
            if link.has_unparsed && parse(&self.shared, link, &mut self.chatter)? {
                return Poll::Ready(Ok(()));
            }
            link.write(cx, &self.shared, is_writing);
            ready!(link.poll_read(cx, &self.shared))?;
        }
    }

    /// Fires when the session's timeout has come, or when it has news. A timeout that moved later is
    /// found out when the timer fires, so that traffic does not touch the timer.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (due, has_news) = {
                let core = self.shared.core();
                (core.timeout(), core.session.has_news())
            };
            if has_news {
                return Poll::Ready(());
            }
            let Some(due) = due else {
                return Poll::Pending;
            };
            let due_at = self.shared.clock.instant(due);
            if self.timer.deadline() > due_at || self.timer.is_elapsed() {
                if due <= self.shared.clock.now() {
                    return Poll::Ready(());
                }
                self.timer.as_mut().reset(due_at);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}

/// Whoever waits learns that it is over, also when the runtime ends the task.
impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.end();
        self.shared.core().end_all();
        self.report();
        self.shared.link.send_replace(shared::Link::Closed);
        if let Some(first) = self.first.take() {
            // `connect` was cancelled.
            let _ = first.send(Err(LinkError::ByOwner));
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Driver")
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

/// Takes whole frames off the link's buffer. Returns true when the session wants to act first.
fn parse(shared: &Shared, link: &mut Link, chatter: &mut u32) -> Result<bool, LinkError> {
    let number = link.number();
    let now = shared.clock.now();
    let mut core = shared.core();
    core.session.handle_bytes(number, now);
    let mut answered = None;
    // Before the handshake is over nothing was subscribed to: the session judges messages then.
    let mut is_receiving = core.session.is_receiving(number);
    let wants_to_act = loop {
        let frame = match link.parser.next(&link.buffer) {
            Ok(Step::Frame(frame)) => frame,
            Ok(Step::More { .. }) => {
                link.has_unparsed = false;
                break false;
            }
            Err(error) => {
                core.hand_over();
                return Err(LinkError::Frame(error));
            }
        };
        if matches!(frame.kind(), OpKind::Msg | OpKind::Hmsg) && is_receiving {
            let bytes = link.buffer.split_to(frame.len()).freeze();
            core.receive(number, frame.message(bytes));
            if core.is_blocked() {
                break true;
            }
            continue;
        }
        let heard = {
            let op = frame.server_op(&link.buffer);
            let mut cell = shared.outbox();
            core.session.handle_op(number, now, &op, &mut cell.outbox)
        };
        link.buffer.advance(frame.len());
        // The first one, one after a loss, or one that takes over.
        let is_connected = matches!(heard, Heard::Connected(_));
        if is_connected {
            shared.note_info(&core);
        }
        if let Heard::Pong(number) = heard {
            answered = Some(number);
        }
        if frame.kind() == OpKind::Info {
            shared.note_info(&core);
        }
        *chatter = chatter.saturating_add(1);
        is_receiving = core.session.is_receiving(number);
        // The outbox is for another link from now on.
        if is_connected || core.session.has_news() || *chatter >= CHATTER_MAX {
            break true;
        }
    };
    link.is_held = core.session.is_full(number);
    link.answered = link.answered.saturating_add(core.requests.take_answered());
    core.hand_over();
    // After the hand-over: whoever waits for a PONG may rely on what came before it.
    if let Some(number) = answered {
        core.answer_pings(now, number);
    }
    drop(core);
    shared.note_settled();
    Ok(wants_to_act)
}
