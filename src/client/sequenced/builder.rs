//! What a sequenced publisher is made with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::Client;
use crate::client::clock::unix_micros;
use crate::client::error::{Error, ErrorKind};
use crate::client::inbox;
use crate::sequence::{
    Carrier, ControlSubjects, HeartbeatOptions, NUMBER_MAX, NamePolicy, Prior, RepairLimits,
    RetentionLimits, RetentionOverflow, SendError, SenderOptions, SourceName, check_scope,
};
use crate::subject::Filter;

use super::claim::{Hold, claim};
use super::identity::DurableName;
use super::publisher::{Lane, SequencedPublisher};

/// Characters of the name of a source that was given none: 60 bits.
const NAME_CHARS: usize = 10;

/// The epoch that the clock gave this process last.
static LAST_EPOCH: AtomicU64 = AtomicU64::new(0);

impl Client {
    /// Begins a source whose messages all go to subjects within `scope`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`] when `scope` is no subject or pattern, [`ErrorKind::Sequence`] when it has a
    /// token `_st` or `_gt`: these stand for `*` and `>` where heartbeats go.
    pub fn sequenced_publisher(&self, scope: &str) -> Result<SequencedPublisherBuilder, Error> {
        let scope = Filter::new(scope)?;
        check_scope(&scope)?;
        Ok(SequencedPublisherBuilder {
            client: self.clone(),
            scope,
            carrier: Carrier::default(),
            source: None,
            durable: None,
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
    durable: Option<DurableName>,
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

    /// Keeps the name and the last run in a file: it names the source, a later run has a higher epoch
    /// although the clock was set back, and receivers learn where the run before has ended if that
    /// was closed or fenced.
    ///
    /// The file is written when the source starts, during which the caller waits, and when it ends.
    #[must_use]
    pub fn durable(mut self, name: DurableName) -> Self {
        self.durable = Some(name);
        self
    }

    /// Starts the source: it listens for repair requests and says hello. Nobody is asked whether the
    /// name is in use, and others may take it: [`SequencedPublisherBuilder::claim`] asks.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HeadersUnsupported`] when the server would strip stamps that are headers,
    /// [`ErrorKind::Sequence`] when the durable name has had the highest epoch, [`ErrorKind::Random`], [`ErrorKind::DurableName`] and those of [`Client::subscribe`].
    pub fn start(self) -> Result<SequencedPublisher, Error> {
        let source = self.name()?;
        let epoch = new_epoch(self.epoch_min())?;
        self.begin(source, epoch, None, None)
    }

    /// Starts the source once its name is held, and defends it from then on.
    ///
    /// Whoever holds the name is asked, for 250 ms unless the server knows that nobody does. With
    /// [`NamePolicy::Takeover`] the other gives way: its publishing fails with
    /// [`ErrorKind::Fenced`], it goes on to repair through its linger, and receivers learn where it
    /// has ended. When two claim at the same time one is left, the other is refused or fenced. A
    /// network that is parted can have a holder on either side; half a minute after it is whole
    /// again one is left.
    ///
    /// Cancel safe: a cancelled call has started nothing, but who held the name may have given way.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameInUse`] with [`NamePolicy::Refuse`], or when eight others were faster;
    /// [`ErrorKind::PermissionDenied`] and [`ErrorKind::Disconnected`] as
    /// [`SubscriptionBuilder::confirmed`](crate::client::SubscriptionBuilder::confirmed); and those
    /// of [`SequencedPublisherBuilder::start`].
    pub async fn claim(self, policy: NamePolicy) -> Result<SequencedPublisher, Error> {
        let source = self.name()?;
        let epoch = new_epoch(self.epoch_min())?;
        let subject = self.subjects.name(&source)?;
        let held = claim(&self.client, &subject, policy, epoch).await?;
        self.begin(source, held.epoch, held.prior, Some(held.hold))
    }

    fn name(&self) -> Result<SourceName, Error> {
        if self.carrier.has_headers() && !self.client.shared().has_headers() {
            return Err(Error::new(ErrorKind::HeadersUnsupported));
        }
        match (&self.durable, &self.source) {
            (Some(durable), _) => Ok(durable.source().clone()),
            (None, Some(source)) => Ok(source.clone()),
            (None, None) => Ok(SourceName::new(&inbox::random_name(NAME_CHARS)?)?),
        }
    }

    fn epoch_min(&self) -> u64 {
        self.durable.as_ref().map_or(1, DurableName::epoch_min)
    }

    fn begin(
        self,
        source: SourceName,
        epoch: u64,
        prior: Option<Prior>,
        hold: Option<Hold>,
    ) -> Result<SequencedPublisher, Error> {
        let mut options = SenderOptions::new(source, epoch, self.scope);
        let durable_prior = self.durable.as_ref().and_then(DurableName::prior);
        options.prior = prior.or(self.prior).or(durable_prior);
        options.retention = self.retention;
        options.overflow = self.overflow;
        options.repairs = self.repairs;
        // A subject has no room for a fourth field.
        options.has_chains = self.has_chains && self.carrier != Carrier::Token;
        options.heartbeat = self.heartbeat;
        options.linger = self.linger.unwrap_or(options.linger);
        let prefix = &self.client.shared().options.inbox_prefix;
        let prefix = format!("{}.", prefix.as_str());
        if !options.reply_prefixes.contains(&prefix) {
            options.reply_prefixes.push(prefix);
        }
        let carrier = self.carrier;
        let lane = Lane::open(
            self.client,
            carrier,
            self.subjects,
            options,
            self.durable.map(|durable| Arc::new(Mutex::new(durable))),
            hold,
        )?;
        Ok(SequencedPublisher { lane })
    }
}

/// Microseconds since 1970, or `epoch_min` if that is higher, and more than the clock gave this
/// process before. Fails when that is no epoch.
pub(super) fn new_epoch(epoch_min: u64) -> Result<u64, Error> {
    let now = unix_micros();
    let next = |last: u64| now.max(last.saturating_add(1));
    let last = LAST_EPOCH.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        Some(next(last))
    });
    let epoch = next(last.unwrap_or_default()).max(epoch_min);
    if epoch > NUMBER_MAX {
        return Err(SendError::EpochsUsedUp.into());
    }
    Ok(epoch)
}
