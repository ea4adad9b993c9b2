//! What a run does: the words of the command line as values.

/// What the contender is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Publishes until the server has taken everything; `tasks` at the same time.
    Publish,
    /// Receives, with a window kept by acknowledgements.
    Subscribe,
    /// One request after the other.
    Request,
    /// `tasks` requests at the same time.
    Parallel,
    /// Requests begun at `rate` per second, whether or not earlier ones were answered.
    OpenLoop,
    /// Memory of `subscriptions` that receive nothing.
    IdleSubscriptions,
    /// Memory of `connections` that do nothing.
    IdleConnections,
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) client: String,
    pub(crate) workload: Workload,
    pub(crate) url: String,
    pub(crate) bytes: usize,
    pub(crate) has_headers: bool,
    /// Whether messages to receive are stamped; then they have no other header.
    pub(crate) is_sequenced: bool,
    /// Messages or requests that are measured.
    pub(crate) messages: u64,
    /// Messages or requests before that.
    pub(crate) warm_up: u64,
    pub(crate) tasks: u64,
    pub(crate) subscriptions: u64,
    /// The first so many of them receive, in turn; the others are idle.
    pub(crate) active: u64,
    pub(crate) connections: u64,
    /// Requests per second.
    pub(crate) rate: u64,
    /// Worker threads; one means a current-thread runtime.
    pub(crate) threads: usize,
    /// Messages between two acknowledgements.
    pub(crate) burst: u64,
    /// Bursts that may be on their way.
    pub(crate) window: u64,
}

impl Spec {
    pub(crate) fn new(client: &str, workload: &str, url: &str, settings: &[&str]) -> Self {
        let workload = match workload {
            "publish" => Workload::Publish,
            "subscribe" => Workload::Subscribe,
            "request" => Workload::Request,
            "parallel" => Workload::Parallel,
            "open-loop" => Workload::OpenLoop,
            "idle-subscriptions" => Workload::IdleSubscriptions,
            "idle-connections" => Workload::IdleConnections,
            other => panic!("no workload {other}"),
        };
        let number = |key: &str| {
            let found = settings
                .iter()
                .filter_map(|setting| setting.split_once('='))
                .find(|(name, _)| *name == key)?;
            Some(found.1.parse::<u64>().expect("a number"))
        };
        let bytes = number("bytes").unwrap_or(16);
        let messages = number("messages").unwrap_or(100_000);
        let subscriptions = number("subscriptions").unwrap_or(1);
        Self {
            client: client.to_owned(),
            workload,
            url: url.to_owned(),
            bytes: usize::try_from(bytes).expect("a payload's size"),
            has_headers: number("headers") == Some(1),
            is_sequenced: client == "natseq-sequenced",
            messages,
            warm_up: messages / 10,
            tasks: number("tasks").unwrap_or(1),
            subscriptions,
            active: number("active").unwrap_or(subscriptions),
            connections: number("connections").unwrap_or(1),
            rate: number("rate").unwrap_or(1_000),
            threads: number("threads").unwrap_or(1) as usize,
            burst: number("burst").unwrap_or_else(|| burst(client, bytes)),
            window: 4,
        }
    }

    /// The payload of `start`: what the feeding side is to send.
    pub(crate) fn start(&self, messages: u64) -> String {
        format!(
            "{} {} {} {} {} {} {} {}",
            self.burst,
            self.window,
            self.bytes,
            u8::from(self.has_headers),
            u8::from(self.is_sequenced),
            messages,
            self.subscriptions,
            self.active,
        )
    }
}

/// Half a megabyte, 4,096 messages at most; fewer for a client whose subscriptions hold 256.
fn burst(client: &str, bytes: u64) -> u64 {
    match client {
        "watermelon" => 32,
        _ => ((512 << 10) / (bytes + 32)).min(4_096),
    }
}

/// `host:port` of a URL.
pub(crate) fn address(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, address)| address)
}

/// The two headers that messages carry.
pub(crate) const HEADERS: [(&str, &str); 2] = [("Kind", "order-placed"), ("Origin", "shop-17")];

/// Where messages go, requests are answered, and a window is kept.
pub(crate) const SUBJECT: &str = "bench";
pub(crate) const ECHO: &str = "echo";
pub(crate) const START: &str = "start";
pub(crate) const ACK: &str = "ack";

/// The filter of subscription `index` of `count`.
pub(crate) fn filter(index: u64, count: u64) -> String {
    match count {
        1 => SUBJECT.to_owned(),
        _ => format!("{SUBJECT}.{index}"),
    }
}
