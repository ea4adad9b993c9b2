//! What can be known of a connection: counts, its state, the server.

use crate::session::{DrainStage, Event};
use crate::wire::handshake::ServerInfo;

use super::Client;

/// What went through a client since it was made. Bytes are headers and payloads, without control
/// lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Messages received: replies, dropped and unrouted ones included.
    pub received_messages: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Of these, messages dropped because their subscriber had too many waiting.
    pub dropped_messages: u64,
    /// Of these, messages for subscriptions that had ended here before the server knew.
    pub unrouted_messages: u64,
    /// Messages queued for the server; sequenced ones, their repairs and heartbeats included.
    pub published_messages: u64,
    /// Their bytes.
    pub published_bytes: u64,
    /// Connections made, the first included.
    pub connects: u64,
    /// Subscriptions alive now; the inbox for answers counts as one.
    pub subscriptions: usize,
    /// Requests that wait for answers now.
    pub pending_requests: usize,
}

/// What state a client is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It has not been connected yet.
    Connecting,
    /// A connection is up.
    Connected,
    /// The connection was lost; the next one is looked for.
    Reconnecting,
    /// Subscriptions end after what is under way.
    DrainingSubscriptions,
    /// Publishing is over, what was queued is written.
    DrainingPublishing,
    /// It is over.
    Closed,
}

impl Client {
    /// What went through this client.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let core = self.shared().core();
        let totals = core.totals();
        let mut statistics = Statistics {
            received_messages: totals.received_messages,
            received_bytes: totals.received_bytes,
            dropped_messages: totals.dropped_messages,
            unrouted_messages: totals.unrouted_messages,
            published_messages: 0,
            published_bytes: 0,
            connects: core.session.generation(),
            subscriptions: core.session.subscriptions_len(),
            pending_requests: core.requests.len(),
        };
        drop(core);
        (statistics.published_messages, statistics.published_bytes) =
            self.shared().outbox().outbox.published();
        statistics
    }

    /// What state the client is in.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = self.shared();
        let stage = shared.drain_stage();
        let core = shared.core();
        if core.session.is_closed() {
            return Status::Closed;
        }
        match stage {
            Some(DrainStage::Subscriptions) => Status::DrainingSubscriptions,
            Some(DrainStage::Publishing) => Status::DrainingPublishing,
            None if core.session.is_connected() => Status::Connected,
            None if core.session.generation() == 0 => Status::Connecting,
            None => Status::Reconnecting,
        }
    }

    /// The last event that told of something wrong: a connection that was lost or could not be made,
    /// or what a server refused. `None` while there was none.
    #[must_use]
    pub fn last_error(&self) -> Option<Event> {
        self.shared().last_failure().clone()
    }

    /// What the server said about itself last.
    #[must_use]
    pub fn server_info(&self) -> ServerInfo {
        self.shared().core().session.info().clone()
    }

    /// Returns true while a connection is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared().core().session.is_connected()
    }
}
