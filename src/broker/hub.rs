//! Takes what clients publish to those who subscribe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::PubView;
use crate::wire::encode::server::{Deliver, FirstToken, Token};

use super::faults::{Direction, FaultStatistics, Faults};
use super::options::{BrokerOptions, ServerVersion};
use super::outbound::{End, Outbound};
use super::routes::Routes;

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) routes: Routes,
    faults: Faults,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    published: u64,
    delivered: u64,
    frame: Vec<u8>,
    version: ServerVersion,
}

#[derive(Debug)]
struct Client {
    outbound: Arc<Outbound>,
    has_headers: bool,
}

impl Hub {
    pub(super) fn new(options: &BrokerOptions) -> Self {
        Self {
            routes: Routes::new(options.seed),
            faults: Faults::new(options.faults.clone(), options.seed),
            clients: BTreeMap::new(),
            next_client: 1,
            published: 0,
            delivered: 0,
            frame: Vec::new(),
            version: options.version,
        }
    }

    /// Adds a client and returns its number.
    pub(super) fn enter(&mut self, outbound: Arc<Outbound>) -> u64 {
        let id = self.next_client;
        self.next_client = self.next_client.saturating_add(1);
        self.clients.insert(
            id,
            Client {
                outbound,
                has_headers: false,
            },
        );
        id
    }

    pub(super) fn leave(&mut self, client: u64) {
        self.clients.remove(&client);
        self.routes.forget(client);
    }

    /// The client said whether it understands headers.
    pub(super) fn set_headers(&mut self, client: u64, has_headers: bool) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.has_headers = has_headers;
        }
    }

    /// Delivers a message; answers 503 for a request that nobody hears. Returns false when the
    /// publisher's connection is cut behind it.
    pub(super) fn publish(
        &mut self,
        now: Duration,
        publisher: u64,
        echo: bool,
        no_responders: bool,
        message: &PubView<'_>,
    ) -> bool {
        self.published = self.published.saturating_add(1);
        let fate = self.faults.fate(message.subject, Direction::FromClient);
        if fate.is_cut {
            self.end(publisher, End::Cut);
        }
        for _ in 0..fate.copies {
            let chosen = self
                .routes
                .choose(message.subject, (!echo).then_some(publisher));
            if chosen.is_empty() && no_responders {
                self.say_nobody(now, publisher, message);
                break;
            }
            for id in chosen {
                if let Some((target, sid)) = self.routes.count(id) {
                    self.deliver(now, target, &sid, message);
                }
            }
        }
        !fate.is_cut
    }

    /// Ends every connection.
    pub(super) fn end_all(&self, end: End) {
        for client in self.clients.values() {
            client.outbound.end(end);
        }
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    pub(super) const fn counts(&self) -> (u64, u64, FaultStatistics) {
        (self.published, self.delivered, self.faults.statistics())
    }

    pub(super) const fn is_split(&self) -> bool {
        self.faults.is_split()
    }

    fn end(&self, client: u64, end: End) {
        if let Some(client) = self.clients.get(&client) {
            client.outbound.end(end);
        }
    }

    fn deliver(&mut self, now: Duration, target: u64, sid: &[u8], message: &PubView<'_>) {
        let Some(client) = self.clients.get(&target) else {
            return;
        };
        let (Some(subject), Some(sid)) = (FirstToken::new(message.subject), Token::new(sid)) else {
            return;
        };
        // A client that does not know headers gets the payload alone.
        let block = message
            .headers
            .map(|block| block.raw())
            .filter(|_| client.has_headers);
        let is_whole = block.is_some() == message.headers.is_some();
        let digits = Token::new(message.total_digits)
            .filter(|_| is_whole)
            .map(|total| {
                (
                    Token::new(message.header_digits).filter(|_| block.is_some()),
                    total,
                )
            });
        self.frame.clear();
        let deliver = Deliver {
            subject,
            sid,
            reply: message.reply.and_then(Token::new),
            headers: block,
            payload: message.payload,
            digits,
        };
        deliver.write(&mut self.frame);
        let fate = self.faults.fate(message.subject, Direction::ToClient);
        self.delivered = self.delivered.saturating_add(u64::from(fate.copies));
        client.outbound.deliver(now, &self.frame, fate);
    }

    /// Tells the requester, on its own subscription, that nobody subscribes.
    fn say_nobody(&mut self, now: Duration, publisher: u64, request: &PubView<'_>) {
        let Some(reply) = request.reply else {
            return;
        };
        // Not a message of anybody's: it does not count towards a maximum.
        let Some(sid) = self.routes.own_match(publisher, reply).map(<[u8]>::to_vec) else {
            return;
        };
        let mut block = b"NATS/1.0 503\r\n".to_vec();
        if self.version.is_2_12() {
            block.extend_from_slice(b"Nats-Subject: ");
            block.extend_from_slice(request.subject);
            block.extend_from_slice(b"\r\n");
        }
        block.extend_from_slice(b"\r\n");
        let answer = PubView {
            subject: reply,
            reply: None,
            headers: Some(crate::wire::HeaderBlock::new(&block)),
            payload: &[],
            header_digits: &[],
            total_digits: &[],
        };
        self.deliver(now, publisher, &sid, &answer);
    }
}
