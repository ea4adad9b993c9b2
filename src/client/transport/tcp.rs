//! Opens TCP connections: every address of a host has its chance, and a dead one costs little.
//!
//! A host's addresses are dialed one after the other, each a moment after the one before and
//! without waiting for its end; the first that answers wins (RFC 8305). So neither a network
//! without IPv6 nor one dead address among many uses up the connect timeout.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Sleep, sleep};

use crate::jitter::Jitter;
use crate::session::{LinkError, ServerAddr};

use super::super::inbox;
use super::dialer::{BoxedTransport, Resolver};

/// Addresses of one host that are dialed; the rest is left out.
const ADDRESSES_MAX: usize = 64;

/// How long one address is dialed alone. With many addresses it is less, so that each has a chance.
const HEAD_START: Duration = Duration::from_millis(250);

/// Opens TCP connections.
#[derive(Clone, Default)]
pub(super) struct Tcp {
    pub(super) resolver: Option<Arc<dyn Resolver>>,
    pub(super) local_address: Option<IpAddr>,
    pub(super) keeps_order: bool,
}

impl Tcp {
    /// Opens a connection to one of the addresses of `server`, within about `time`.
    pub(super) async fn dial(
        &self,
        server: &ServerAddr,
        time: Duration,
    ) -> Result<BoxedTransport, LinkError> {
        let mut addresses = self.resolve(server).await?;
        if let Some(local) = self.local_address {
            addresses.retain(|address| address.is_ipv4() == local.is_ipv4());
        }
        if !self.keeps_order {
            shuffle(&mut addresses);
        }
        let addresses = alternate(&addresses);
        if addresses.is_empty() {
            let text = match self.local_address {
                Some(local) => format!("{} has no address that {local} can reach", server.host()),
                None => format!("{} has no address", server.host()),
            };
            return Err(io::Error::new(io::ErrorKind::NotFound, text).into());
        }
        let stream = Race::new(addresses, self.local_address, time).run().await?;
        // The outbox gathers what belongs together; the kernel should not wait for more.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    async fn resolve(&self, server: &ServerAddr) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = (server.host(), server.port());
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        match &self.resolver {
            Some(resolver) => resolver.resolve(host, port).await,
            None => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
        }
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tcp")
            .field("has_resolver", &self.resolver.is_some())
            .field("local_address", &self.local_address)
            .field("keeps_order", &self.keeps_order)
            .finish()
    }
}

/// Several dials of which the first to succeed wins.
struct Race {
    /// Addresses that were not dialed yet, the next one last.
    waiting: Vec<SocketAddr>,
    local_address: Option<IpAddr>,
    dials: Vec<Dial>,
    head_start: Duration,
    /// When the next address is dialed even though none has failed.
    next: Pin<Box<Sleep>>,
    failures: Vec<(SocketAddr, io::Error)>,
}

struct Dial {
    address: SocketAddr,
    connecting: Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>,
}

impl Race {
    fn new(mut addresses: Vec<SocketAddr>, local_address: Option<IpAddr>, time: Duration) -> Self {
        addresses.reverse();
        // The last address begins in the middle of the time at the latest.
        let share = u32::try_from(addresses.len().saturating_mul(2)).unwrap_or(u32::MAX);
        let head_start = time.checked_div(share).unwrap_or(time).min(HEAD_START);
        Self {
            waiting: addresses,
            local_address,
            dials: Vec::new(),
            head_start,
            next: Box::pin(sleep(Duration::ZERO)),
            failures: Vec::new(),
        }
    }

    async fn run(mut self) -> Result<TcpStream, LinkError> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<TcpStream, LinkError>> {
        loop {
            if let Some(stream) = self.poll_dials(cx) {
                return Poll::Ready(Ok(stream));
            }
            let is_idle = self.dials.is_empty();
            if is_idle && self.waiting.is_empty() {
                return Poll::Ready(Err(self.failure()));
            }
            let is_due = is_idle || self.next.as_mut().poll(cx).is_ready();
            if !is_due {
                return Poll::Pending;
            }
            let Some(address) = self.waiting.pop() else {
                return Poll::Pending;
            };
            self.dials.push(Dial {
                address,
                connecting: Box::pin(connect(address, self.local_address)),
            });
            self.next = Box::pin(sleep(self.head_start));
        }
    }

    /// Removes the dials that failed; a failure lets the next address begin at once.
    fn poll_dials(&mut self, cx: &mut Context<'_>) -> Option<TcpStream> {
        let mut winner = None;
        let before = self.dials.len();
        let failures = &mut self.failures;
        self.dials
            .retain_mut(|dial| match dial.connecting.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(stream)) => {
                    winner = Some(stream);
                    false
                }
                Poll::Ready(Err(error)) => {
                    failures.push((dial.address, error));
                    false
                }
            });
        if self.dials.len() < before {
            self.next = Box::pin(sleep(Duration::ZERO));
        }
        winner
    }

    /// One address's failure in the system's words; of several also where.
    fn failure(&self) -> LinkError {
        let Some((_, last)) = self.failures.last() else {
            return LinkError::HandshakeTimeout;
        };
        let kind = last.kind();
        let texts: Vec<_> = match self.failures.as_slice() {
            [(_, only)] => vec![only.to_string()],
            several => several
                .iter()
                .take(FAILURES_TOLD_MAX)
                .map(|(address, error)| format!("{address}: {error}"))
                .collect(),
        };
        LinkError::Io {
            kind,
            text: texts.join("; "),
        }
    }
}

/// Failed addresses that an error names.
const FAILURES_TOLD_MAX: usize = 8;

async fn connect(address: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(local) = local else {
        return TcpStream::connect(address).await;
    };
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(local, 0))?;
    socket.connect(address).await
}

/// Puts the addresses in an order that differs from client to client, so that each gets its share.
fn shuffle(addresses: &mut [SocketAddr]) {
    // Without random numbers the system's order is as good.
    let Ok(seed) = inbox::random_seed() else {
        return;
    };
    let mut jitter = Jitter::new(seed);
    for last in (1..addresses.len()).rev() {
        let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        let other = usize::try_from(jitter.below(bound)).unwrap_or(last);
        addresses.swap(last, other);
    }
}

/// Takes IPv6 and IPv4 addresses by turns, beginning with the family of the first.
fn alternate(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let begins_with_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut turn, mut other): (Vec<_>, Vec<_>) = addresses
        .iter()
        .rev()
        .partition(|address| address.is_ipv4() == begins_with_v4);
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < ADDRESSES_MAX {
        let Some(next) = turn.pop().or_else(|| other.pop()) else {
            break;
        };
        if !order.contains(&next) {
            order.push(next);
        }
        std::mem::swap(&mut turn, &mut other);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_no_address_comes_twice() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::1]:1", "1.1.1.1:1", "[::3]:1"]);
        let order = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(alternate(&given), order);
        assert!(alternate(&[]).is_empty());
    }

    #[test]
    fn shuffling_keeps_every_address() {
        let given: Vec<SocketAddr> = (1..=50)
            .map(|last| SocketAddr::from(([10, 0, 0, last], 1)))
            .collect();
        let mut shuffled = given.clone();
        shuffle(&mut shuffled);
        assert_ne!(shuffled, given, "one in 50! shuffles is none");
        shuffled.sort_unstable();
        assert_eq!(shuffled, given);
    }

    #[test]
    fn many_addresses_share_the_time() {
        let many: Vec<SocketAddr> = (0..64)
            .map(|last| SocketAddr::from(([10, 0, 0, last], 1)))
            .collect();
        let race = |count: usize| {
            let time = Duration::from_secs(1);
            Race::new(many[..count].to_vec(), None, time).head_start
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        assert_eq!(race(1), HEAD_START);
        assert_eq!(race(64), Duration::from_secs(1) / 128);
    }
}
