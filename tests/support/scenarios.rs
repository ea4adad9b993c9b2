//! What goes wrong many times over: some hundred times in the fault tests, to the full number in the soaks.

use std::collections::BTreeSet;
use std::fs;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

#[cfg(feature = "tls")]
use natseq::client::TlsOptions;
use natseq::client::{Client, ConnectOptions, ErrorKind, Event, connect};
use natseq::jitter::Jitter;
use natseq::session::{LinkError, RedialOptions};
use tokio::task::yield_now;

#[cfg(feature = "tls")]
use crate::support::certificates::Authority;
use crate::support::proxy::{Cut, Proxy, Way};
use crate::support::{Folder, PATIENCE, RealServer, ServerBinary, wait_until};

#[path = "../auth/issuer.rs"]
#[allow(dead_code, reason = "expired users alone are needed")]
mod issuer;

use issuer::{Issuer, creds, user_key};

/// What came of cancelled calls.
#[derive(Debug, Default)]
pub(crate) struct Cancelled {
    /// Calls that were dropped before their end.
    pub(crate) cancelled: u64,
    /// Requests that came to their end, each with its own answer.
    pub(crate) answered: u64,
    /// Requests that got the answer to another.
    pub(crate) wrong: u64,
}

/// Drops `count` calls after a random number of polls, among others that go on. Panics when the client does not
/// work any more.
pub(crate) async fn cancellations(server: &RealServer, count: u64, seed: u64) -> Cancelled {
    let responder = connect(&server.url()).await.unwrap();
    let mut asked = responder.subscribe("ask").unwrap();
    responder.flush().await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(question) = asked.next().await {
            let reply = String::from_utf8(question.reply().unwrap().to_vec()).unwrap();
            let payload = question.payload().to_vec();
            responder.publish(reply.as_str(), payload).await.unwrap();
        }
    });
    let client = connect(&server.url()).await.unwrap();
    let callers = 16;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(cancelling(client, caller, count / callers, seed))
        })
        .collect();
    let mut all = Cancelled::default();
    for task in tasks {
        let one = task.await.unwrap();
        all.cancelled += one.cancelled;
        all.answered += one.answered;
        all.wrong += one.wrong;
    }
    for number in 0..100 {
        let question = format!("still {number}");
        let answer = client.request("ask", question.clone()).await.unwrap();
        assert_eq!(answer.payload(), question.as_bytes());
    }
    let statistics = client.statistics();
    // The inbox for answers is left.
    assert_eq!(
        (statistics.pending_requests, statistics.subscriptions),
        (0, 1),
        "left of {count} cancelled calls with seed {seed}"
    );
    client.close().await;
    answering.abort();
    all
}

async fn cancelling(client: Client, caller: u64, count: u64, seed: u64) -> Cancelled {
    let mut jitter = Jitter::new(seed ^ caller << 32);
    let mut done = Cancelled::default();
    let mut subscription = client.subscribe(&format!("own.{caller}")).unwrap();
    let mut number = 0_u64;
    while done.cancelled < count {
        number += 1;
        let polls = 1 + jitter.below(POLLS_MAX);
        let text = format!("{caller}.{number} with seed {seed}");
        let is_cancelled = match jitter.below(8) {
            0 => cancel(client.flush(), polls).await.is_none(),
            1 => cancel(client.publish("nobody", text), polls)
                .await
                .is_none(),
            2 => cancel(subscription.next(), polls).await.is_none(),
            3 => {
                let other = client.subscribe(&format!("brief.{caller}")).unwrap();
                cancel(other.drain(), polls).await.is_none()
            }
            _ => {
                // Some are answered however slow the server is.
                let polls = if jitter.below(4) == 0 {
                    u64::MAX
                } else {
                    polls
                };
                match cancel(client.request("ask", text.clone()), polls).await {
                    Some(answer) => {
                        let answer = answer.unwrap();
                        let is_own = answer.payload() == text.as_bytes();
                        done.answered += u64::from(is_own);
                        done.wrong += u64::from(!is_own);
                        false
                    }
                    None => true,
                }
            }
        };
        done.cancelled += u64::from(is_cancelled);
    }
    done
}

/// Polls `future` that many times, with turns of other tasks between, and drops it then.
async fn cancel<T>(future: impl Future<Output = T>, polls: u64) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(move |cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        left -= 1;
        if left == 0 {
            return Poll::Ready(None);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Enough for a request to be answered now and then by a fast server.
const POLLS_MAX: u64 = 40;

/// Servers that refuse in all the ways in which a connect can fail, and take who comes as he should.
pub(crate) struct Refusing {
    plain: RealServer,
    password: RealServer,
    jwt: RealServer,
    valid: String,
    /// What was valid a minute ago.
    expired: String,
    #[cfg(feature = "tls")]
    tls: RealServer,
    #[cfg(feature = "tls")]
    authority: Authority,
    #[cfg(feature = "tls")]
    stranger: Authority,
    _folder: Folder,
}

/// Kinds of connects that [`Refusing::connects`] makes; all but one fail.
#[allow(dead_code, reason = "the soaks look at it")]
pub(crate) const CONNECT_KINDS: usize = if cfg!(feature = "tls") { 10 } else { 7 };

impl Refusing {
    pub(crate) fn start(binary: &ServerBinary) -> Self {
        let folder = Folder::new();
        let issuer = Issuer::new();
        let key = user_key(1);
        #[cfg(feature = "tls")]
        let authority = Authority::new();
        #[cfg(feature = "tls")]
        let (certificate, private) = authority
            .issue(&["localhost"])
            .write(&folder.path, "server");
        Self {
            plain: RealServer::start(binary, ""),
            password: RealServer::start(binary, "authorization { user: u, password: p }"),
            jwt: RealServer::start(binary, &issuer.config()),
            valid: creds(&issuer.user(&key, None), &key),
            expired: creds(&issuer.user(&key, Some(-60)), &key),
            #[cfg(feature = "tls")]
            tls: RealServer::start(
                binary,
                &format!("tls {{ cert_file: {certificate:?}, key_file: {private:?} }}"),
            ),
            #[cfg(feature = "tls")]
            authority,
            #[cfg(feature = "tls")]
            stranger: Authority::named("another"),
            _folder: folder,
        }
    }

    /// Connects `count` times in each way. Panics when one connect ends otherwise than it should.
    pub(crate) async fn connects(&self, count: usize, seed: u64) {
        let proxy = Proxy::start(self.plain.address(), seed);
        for _ in 0..count {
            options().connect(&proxy.url()).await.unwrap().close().await;
        }
        proxy.refuse(true);
        for _ in 0..count {
            is_refused(options(), &proxy.url(), "refused").await;
        }
        proxy.refuse(false);
        proxy.hold(true);
        for _ in 0..count {
            let hasty = options().connect_timeout(Duration::from_millis(2));
            is_refused(hasty, &proxy.url(), "timeout").await;
        }
        proxy.hold(false);
        for number in 0..count {
            // Within INFO, which is longer.
            proxy.cut_next(Way::ToClient, number as u64 % 100, Cut::Close);
            is_refused(options(), &proxy.url(), "closed").await;
        }
        for _ in 0..count {
            proxy.cut_next(Way::ToServer, 0, Cut::Reset);
            is_refused(options(), &proxy.url(), "reset").await;
        }
        for _ in 0..count {
            let wrong = options().user_and_password("u", "wrong");
            is_refused(wrong, &self.password.url(), "Authorization").await;
        }
        let valid = options().credentials(&self.valid).unwrap();
        let client = valid.connect(&self.jwt.url()).await;
        client.unwrap().close().await;
        for _ in 0..count {
            let late = options().credentials(&self.expired).unwrap();
            is_refused(late, &self.jwt.url(), "Authorization").await;
        }
        wait_until("the proxy's connections to end", || proxy.live() == 0);
        #[cfg(feature = "tls")]
        self.tls_connects(count, seed).await;
    }

    #[cfg(feature = "tls")]
    async fn tls_connects(&self, count: usize, seed: u64) {
        let proxy = Proxy::start(self.tls.address(), seed);
        let url = format!("tls://localhost:{}", proxy.address().port());
        let trusting = |authority: &Authority| {
            TlsOptions::new()
                .native_roots(false)
                .root_certificates(&authority.pem)
        };
        let client = options().tls(trusting(&self.authority)).connect(&url).await;
        client.unwrap().close().await;
        for _ in 0..count {
            let wrong = options().tls(trusting(&self.stranger));
            is_refused(wrong, &url, "no trusted authority").await;
        }
        for _ in 0..count {
            let tls = trusting(&self.authority).server_name("elsewhere.example.org");
            is_refused(options().tls(tls), &url, "elsewhere.example.org").await;
        }
        for number in 0..count {
            // Within the hello, which is longer.
            proxy.cut_next(Way::ToServer, number as u64 % 100, Cut::Reset);
            let right = options().tls(trusting(&self.authority));
            is_refused(right, &url, "reset").await;
        }
        wait_until("the proxy's connections to end", || proxy.live() == 0);
    }
}

fn options() -> ConnectOptions {
    ConnectOptions::new().connect_timeout(PATIENCE)
}

async fn is_refused(options: ConnectOptions, url: &str, why: &str) {
    let error = options.connect(url).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains(why), "{source}");
    assert_eq!(error.kind(), ErrorKind::Connect);
}

/// What came of publishing while connections were spoiled.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// Messages whose publish returned `Ok`.
    pub(crate) published: u64,
    /// Of these, those that a flush confirmed.
    pub(crate) confirmed: u64,
    /// Those that never arrived.
    pub(crate) lost: u64,
    /// Those that were reported as in doubt.
    pub(crate) in_doubt: u64,
    /// Lost without being reported, or although they were confirmed.
    pub(crate) unreported: u64,
    /// Arrived more than once.
    pub(crate) twice: u64,
}

/// Publishes while the connection becomes half-open `kills` times, and accounts for every message.
pub(crate) async fn half_open_kills(
    server: &RealServer,
    kills: usize,
    ping_interval: Duration,
    seed: u64,
) -> Accounts {
    let mut jitter = Jitter::new(seed);
    let proxy = Proxy::start(server.address(), seed);
    proxy.record();
    let direct = connect(&server.url()).await.unwrap();
    let mut arriving = direct.subscribe("k").unwrap();
    direct.flush().await.unwrap();
    let client = ConnectOptions::new()
        .ping_interval(ping_interval)
        .redial(RedialOptions {
            pause_min: Duration::ZERO,
            pause_max: Duration::from_millis(1),
            ..RedialOptions::default()
        })
        .connect(&proxy.url())
        .await
        .unwrap();
    let mut events = client.events();
    let mut accounts = Accounts::default();
    // In doubt at the end of each connection.
    let mut doubts = Vec::new();
    // The number of the connection, and how many had been published when it confirmed them.
    let mut flushed = Vec::new();
    for _ in 0..kills {
        for _ in 0..=jitter.below(5) {
            for _ in 0..jitter.below(20) {
                let number = accounts.published.to_string();
                client.publish("k", number).await.unwrap();
                accounts.published += 1;
            }
            let connection = client.statistics().connects;
            if jitter.hits(0.5)
                && client.flush().await.is_ok()
                && client.statistics().connects == connection
            {
                flushed.push((connection, accounts.published));
            }
        }
        proxy.cut(Cut::Swallow);
        let mut polls = jitter.below(200);
        loop {
            let event = poll_once(events.next()).await;
            match event {
                Some(Some(Event::Disconnected { reason, in_doubt })) => {
                    assert_eq!(reason, LinkError::Stale);
                    doubts.push(in_doubt);
                    break;
                }
                Some(event) => assert!(
                    matches!(event, Some(Event::Connected { .. })),
                    "{event:?} with seed {seed}"
                ),
                None if polls > 0 => {
                    polls -= 1;
                    let number = accounts.published.to_string();
                    client.publish("k", number).await.unwrap();
                    accounts.published += 1;
                    yield_now().await;
                }
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        // Some are published without a connection.
        for _ in 0..jitter.below(20) {
            let number = accounts.published.to_string();
            client.publish("k", number).await.unwrap();
            accounts.published += 1;
        }
        while !matches!(events.next().await.unwrap(), Event::Connected { .. }) {}
    }
    // On a busy machine a connection may be given up without our doing.
    loop {
        client.publish("k", "end").await.unwrap();
        if client.flush().await.is_ok() {
            break;
        }
    }
    while let Some(Some(event)) = poll_once(events.next()).await {
        if let Event::Disconnected { in_doubt, .. } = event {
            doubts.push(in_doubt);
        }
    }
    let mut arrived = BTreeSet::new();
    loop {
        let message = arriving.next().await.unwrap();
        let text = std::str::from_utf8(message.payload()).unwrap();
        if text == "end" {
            break;
        }
        accounts.twice += u64::from(!arrived.insert(text.parse::<u64>().unwrap()));
    }
    let mut connections: Vec<_> = (0..proxy.accepted())
        .map(|number| proxy.passed(number))
        .filter(|passed| passed.to_client.windows(4).any(|word| word == b"PONG"))
        .map(|passed| [passed.to_server, passed.swallowed].concat())
        .collect();
    assert_eq!(connections.len(), doubts.len() + 1, "with seed {seed}");
    // The first message of the connections that follow comes behind those in doubt.
    let mut reported = BTreeSet::new();
    let mut first = accounts.published;
    let mut firsts = vec![0; connections.len()];
    while let (Some(said), Some(in_doubt)) = (connections.pop(), doubts.pop()) {
        let said = String::from_utf8(said).unwrap();
        let mut lines = said
            .split("\r\n")
            .skip_while(|line| !line.starts_with("PUB k "));
        // Behind the last of them comes a word that is no number.
        first = lines
            .nth(1)
            .and_then(|line| line.parse().ok())
            .unwrap_or(first);
        firsts[connections.len()] = first;
        reported.extend(first - in_doubt..first);
        accounts.in_doubt += in_doubt;
    }
    let lost: BTreeSet<_> = (0..accounts.published)
        .filter(|number| !arrived.contains(number))
        .collect();
    let confirmed: BTreeSet<_> = flushed
        .into_iter()
        .flat_map(|(connection, published)| {
            firsts[usize::try_from(connection).unwrap() - 1]..published
        })
        .collect();
    accounts.confirmed = confirmed.len() as u64;
    accounts.lost = lost.len() as u64;
    let both = reported.intersection(&confirmed).next();
    assert_eq!(both, None, "confirmed and in doubt, with seed {seed}");
    let unreported = lost
        .iter()
        .filter(|number| !reported.contains(number) || confirmed.contains(number));
    accounts.unreported = unreported.count() as u64;
    accounts
}

/// What `future` has now.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// What this process holds now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Open file descriptors.
    pub(crate) descriptors: usize,
    /// Tasks of the runtime.
    pub(crate) tasks: usize,
    /// Resident memory; only a process of its own says something by it.
    #[allow(dead_code, reason = "the soaks look at it")]
    pub(crate) rss_kib: u64,
}

impl Held {
    /// Must be called inside a runtime.
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        Self {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            tasks: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
            rss_kib: kib.parse().unwrap(),
        }
    }

    /// Waits until descriptors and tasks are as few as in `before`: what was told to end needs a moment.
    pub(crate) async fn settled(before: Self) -> Self {
        for _ in 0..1_000 {
            let now = Self::now();
            if now.descriptors <= before.descriptors && now.tasks <= before.tasks {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self::now()
    }
}
