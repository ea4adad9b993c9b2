//! What a sequenced publisher is made with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::client::Client;
use crate::client::clock::unix_micros;
use crate::client::error::{Error, ErrorKind};
use crate::client::inbox;
use crate::sequence::{
    Carrier, ControlSubjects, HeartbeatOptions, Prior, RepairLimits, RetentionLimits,
    RetentionOverflow, Sender, SenderOptions, SourceName,
};
use crate::subject::Filter;

use super::publisher::{Lane, Repairing, SequencedPublisher, State};
use super::service::Service;

/// Characters of the name of a source that was given none: 60 bits.
const NAME_CHARS: usize = 10;

/// The epoch that this process used last.
static LAST_EPOCH: AtomicU64 = AtomicU64::new(0);

impl Client {
    /// Begins a source whose messages all go to subjects within `scope`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`] when `scope` is no subject or pattern.
    pub fn sequenced_publisher(&self, scope: &str) -> Result<SequencedPublisherBuilder, Error> {
        Ok(SequencedPublisherBuilder {
            client: self.clone(),
            scope: Filter::new(scope)?,
            carrier: Carrier::default(),
            source: None,
            prior: None,
            retention: RetentionLimits::default(),
            overflow: RetentionOverflow::default(),
            repairs: RepairLimits::default(),
            has_chains: true,
            heartbeat: HeartbeatOptions::default(),
            linger: None,
            subjects: ControlSubjects::default(),
        })
    }
}

/// Options of a [`SequencedPublisher`].
#[derive(Debug, Clone)]
pub struct SequencedPublisherBuilder {
    client: Client,
    scope: Filter,
    carrier: Carrier,
    source: Option<SourceName>,
    prior: Option<Prior>,
    retention: RetentionLimits,
    overflow: RetentionOverflow,
    repairs: RepairLimits,
    has_chains: bool,
    heartbeat: HeartbeatOptions,
    linger: Option<Duration>,
    subjects: ControlSubjects,
}

impl SequencedPublisherBuilder {
    /// Where messages carry their stamps; receivers must be told. Default: [`Carrier::Header`].
    #[must_use]
    pub const fn carrier(mut self, carrier: Carrier) -> Self {
        self.carrier = carrier;
        self
    }

    /// Names the source. Default: ten random characters.
    #[must_use]
    pub fn source(mut self, name: SourceName) -> Self {
        self.source = Some(name);
        self
    }

    /// Names the run before this one, which ended cleanly: what it returned when it was closed.
    #[must_use]
    pub const fn prior(mut self, prior: Prior) -> Self {
        self.prior = Some(prior);
        self
    }

    /// How much is kept for repairs. Default: [`RetentionLimits::default`].
    #[must_use]
    pub const fn retention(mut self, limits: RetentionLimits) -> Self {
        self.retention = limits;
        self
    }

    /// What happens when that is full. Default: the oldest are forgotten.
    ///
    /// With [`RetentionOverflow::Refuse`] publishing waits instead, until the oldest is older than
    /// the age bound.
    #[must_use]
    pub const fn overflow(mut self, overflow: RetentionOverflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How much is sent again. Default: [`RepairLimits::default`]; all sources of a client together
    /// send 16 MiB in a second and 4 MiB at once.
    #[must_use]
    pub const fn repairs(mut self, limits: RepairLimits) -> Self {
        self.repairs = limits;
        self
    }

    /// Whether each message names the one before it on its own subject: 2 to 17 bytes, for which
    /// receivers of some subjects only can tell what they miss. Default true; without effect when
    /// the scope is one subject.
    #[must_use]
    pub const fn chains(mut self, has_chains: bool) -> Self {
        self.has_chains = has_chains;
        self
    }

    /// When heartbeats are sent. Default: [`HeartbeatOptions::default`].
    #[must_use]
    pub const fn heartbeat(mut self, options: HeartbeatOptions) -> Self {
        self.heartbeat = options;
        self
    }

    /// How long repairs are served after the close and after each request. Default: 2 s.
    #[must_use]
    pub const fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
        self
    }

    /// Where control messages go. Default: under `_SEQ`.
    #[must_use]
    pub fn subjects(mut self, subjects: ControlSubjects) -> Self {
        self.subjects = subjects;
        self
    }

    /// Starts the source: it listens for repair requests and says hello.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HeadersUnsupported`] when the server would strip stamps that are headers,
    /// [`ErrorKind::Random`], and those of [`Client::subscribe`].
    pub fn start(self) -> Result<SequencedPublisher, Error> {
        let client = self.client;
        if self.carrier.has_headers() && !client.shared().has_headers() {
            return Err(Error::new(ErrorKind::HeadersUnsupported));
        }
        let source = match self.source {
            Some(source) => source,
            None => SourceName::new(&inbox::random_name(NAME_CHARS)?)?,
        };
        let epoch = new_epoch();
        let heartbeat_subject = self.subjects.heartbeat(&self.scope)?;
        let repairs = self.subjects.repair(&source, epoch)?;
        // Receivers may miss what was published last until the very end.
        let requests = client.subscription(repairs.as_str()).drains_last();
        let requests = requests.subscribe()?;
        let mut options = SenderOptions::new(source, epoch, self.scope);
        options.prior = self.prior;
        options.retention = self.retention;
        options.overflow = self.overflow;
        options.repairs = self.repairs;
        // A subject has no room for a fourth field.
        options.has_chains = self.has_chains && self.carrier != Carrier::Token;
        options.heartbeat = self.heartbeat;
        options.linger = self.linger.unwrap_or(options.linger);
        options.reply_prefixes = vec![format!(
            "{}.",
            client.shared().options.inbox_prefix.as_str()
        )];
        if options
            .reply_prefixes
            .iter()
            .all(|prefix| prefix != "_INBOX.")
        {
            options.reply_prefixes.push("_INBOX.".to_owned());
        }
        let sender = Sender::new(options, inbox::random_seed()?, client.shared().clock.now());
        let lane = Arc::new(Lane {
            client,
            carrier: self.carrier,
            state: Mutex::new(State {
                sender,
                stamp: Vec::new(),
                dress: Vec::new(),
                armed: Duration::ZERO,
                repairing: Repairing::default(),
            }),
            heartbeat_subject,
            has_changed: Notify::new(),
            is_finished: watch::Sender::new(false),
        });
        // The hello goes out before the first message can.
        let service = Service::new(Arc::clone(&lane), requests);
        tokio::spawn(service.run());
        Ok(SequencedPublisher { lane })
    }
}

/// Microseconds since 1970, and more than every epoch of this process before.
fn new_epoch() -> u64 {
    let now = unix_micros();
    let next = |last: u64| now.max(last.saturating_add(1));
    let last = LAST_EPOCH.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        Some(next(last))
    });
    next(last.unwrap_or_default())
}
