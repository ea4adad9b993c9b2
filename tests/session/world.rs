//! One owner, a few servers and the network between them, in virtual time; all of it from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use natseq::jitter::Jitter;
use natseq::session::{
    Action, Auth, Credentials, Event, KeepaliveOptions, LinkError, OutboxLimits, ServerAddr,
    SessionOptions,
};

use crate::account::Account;
use crate::owner::{Output, Owner};
use crate::server::Server;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// Steps that a failure prints.
const LAST_STEPS: usize = 50;
/// Steps in one run; virtual time that does not pass is a fault.
const STEPS_MAX: u64 = 200_000;
/// Bytes under way to a server before the socket takes no more.
const WINDOW_BYTES: usize = 700;

pub(crate) const OUTBOX: OutboxLimits = OutboxLimits {
    connected_bytes_max: 400,
    pending_bytes_max: 600,
};
const FRAME_BYTES_MAX: usize = 40;

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Thing {
    /// The owner or a fault acts.
    Tick,
    Dialed(u64),
    Opened(u64),
    Failed(u64),
    Secured(u64),
    Identified(u64),
    ToServer(u64, Vec<u8>),
    ToClient(u64, Vec<u8>),
    /// The client has closed.
    Hung(u64),
    /// The client learns that its link is gone.
    Gone(u64),
    Publish(usize),
    /// A message reaches a server of the cluster: publisher, number, when and where it was published.
    Routed(usize, usize, u64, Duration, usize),
    /// A message for one member of a queue group: server, link, subscription.
    Member(usize, u64, u64, usize, u64),
    Thaw(usize),
    Stop(usize),
    Start(usize),
}

/// A member of a queue group: server, link, subscription.
pub(crate) type Member = (usize, u64, u64);

/// What connects a socket with a server.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) server: usize,
    latency: Duration,
    to_server_at: Duration,
    to_client_at: Duration,
    to_server_bytes: usize,
    to_client: usize,
    /// How many messages were read before each PONG under way.
    pongs: VecDeque<u64>,
    /// What is under way is lost.
    is_cut: bool,
    /// The server may have told less than it knew.
    pub(crate) is_tainted: bool,
}

pub(crate) struct Publisher {
    pub(crate) home: usize,
    pub(crate) subject: &'static str,
    pub(crate) next: u64,
    pub(crate) is_alive: bool,
    pub(crate) pause: Duration,
}

pub(crate) struct World {
    pub(crate) rng: Jitter,
    pub(crate) owner: Owner,
    pub(crate) servers: Vec<Server>,
    pub(crate) wires: BTreeMap<u64, Wire>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) account: Account,
    pub(crate) options: SessionOptions,
    latencies: Vec<Duration>,
    pub(crate) cluster_delay: Duration,
    pub(crate) frozen: Vec<Vec<Thing>>,
    queue: BTreeMap<(Duration, u64), Thing>,
    things: u64,
    steps: u64,
    hash: u64,
    pub(crate) ticks_left: u64,
    pub(crate) is_healed: bool,
    pub(crate) is_closed_by_owner: bool,
    pub(crate) refusals: u64,
    log: Option<VecDeque<String>>,
}

const SUBJECTS: [&str; 3] = ["p.a", "p.b", "q.a"];

impl World {
    pub(crate) fn new(seed: u64, has_log: bool) -> Self {
        let mut rng = Jitter::new(seed);
        let count = usize::try_from(2 + rng.below(3)).expect("few");
        let latencies: Vec<_> = (0..count)
            .map(|_| MS * u32::try_from(1 + rng.below(30)).expect("few"))
            .collect();
        let shortest = latencies.iter().min().copied().unwrap_or_default();
        let mut servers: Vec<Server> = (0..count).map(|_| Server::new()).collect();
        let has_tls = rng.below(4) == 0;
        for server in &mut servers {
            server.offers_tls = has_tls && rng.below(4) > 0;
            server.requires_tls = server.offers_tls && rng.below(3) == 0;
            server.says_info_late = rng.below(2) == 0;
        }
        let scheme = if has_tls && rng.below(2) == 0 {
            "tls"
        } else {
            "nats"
        };
        let given = 1 + rng.below(count as u64);
        let list: Vec<_> = (0..given)
            .map(|index| format!("{scheme}://s{index}"))
            .collect();
        let list = ServerAddr::parse_list(&list.join(",")).expect("addresses");
        let mut options = SessionOptions::new(list);
        options.retries_first_connect = rng.below(8) > 0;
        options.is_tls_required = has_tls && rng.below(4) == 0;
        options.verbose = rng.below(8) == 0;
        options.discovers_servers = rng.below(8) > 0;
        options.connect_timeout = MS * u32::try_from(300 + rng.below(3_000)).expect("few");
        // Longer than a server of the cluster, or an answer of the old one, takes.
        let longest = latencies.iter().max().copied().unwrap_or_default();
        options.move_overlap = shortest * 8 + longest * 2 + 20 * MS;
        options.keepalive = KeepaliveOptions {
            ping_interval: MS * u32::try_from(150 + rng.below(5_000)).expect("few"),
            pings_out_max: 1 + u32::try_from(rng.below(3)).expect("few"),
        };
        options.auth = match rng.below(3) {
            0 => Auth::None,
            1 => Auth::Fixed(Credentials::token("secret")),
            _ => Auth::Asked,
        };
        let owner = Owner::new(options.clone(), OUTBOX, rng.next_u64());
        let mut world = Self {
            owner,
            frozen: servers.iter().map(|_| Vec::new()).collect(),
            servers,
            wires: BTreeMap::new(),
            publishers: Vec::new(),
            account: Account::default(),
            options,
            cluster_delay: shortest * 2,
            latencies,
            queue: BTreeMap::new(),
            things: 0,
            steps: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            ticks_left: 100 + rng.below(200),
            is_healed: false,
            is_closed_by_owner: false,
            refusals: 0,
            log: has_log.then(VecDeque::new),
            rng,
        };
        world.name_servers();
        for _ in 0..1 + world.rng.below(3) {
            world.add_publisher();
        }
        world.at(Duration::ZERO, Thing::Tick);
        world.owner.act();
        world.after();
        world
    }

    /// The last steps, if they are kept.
    pub(crate) fn last_steps(&self) -> String {
        let steps = self.log.iter().flatten();
        steps.map(|step| format!("  {step}\n")).collect()
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn at(&mut self, time: Duration, thing: Thing) {
        self.things += 1;
        self.queue.insert((time, self.things), thing);
    }

    pub(crate) fn soon(&mut self, time: Duration, thing: Thing) {
        let at = self.owner.now + time;
        self.at(at, thing);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        let now = self.owner.now;
        if let Some(log) = &mut self.log {
            if log.len() >= LAST_STEPS {
                log.pop_front();
            }
            log.push_back(format!("{now:?} {}", text()));
        }
    }

    fn stir(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// What the servers say about each other.
    pub(crate) fn name_servers(&mut self) {
        let urls: Vec<String> = (0..self.servers.len())
            .filter(|index| self.servers[*index].is_up && !self.servers[*index].is_leaving)
            .map(|index| format!("s{index}:4222"))
            .collect();
        for server in &mut self.servers {
            server.connect_urls.clone_from(&urls);
        }
    }

    pub(crate) fn add_publisher(&mut self) {
        let homes: Vec<usize> = (0..self.servers.len())
            .filter(|index| self.servers[*index].is_up)
            .collect();
        let Some(home) = homes
            .get(usize::try_from(self.rng.below(homes.len() as u64)).expect("few"))
            .copied()
        else {
            return;
        };
        let subject = SUBJECTS[usize::try_from(self.rng.below(3)).expect("few")];
        let pause = MS * u32::try_from(2 + self.rng.below(60)).expect("few");
        self.publishers.push(Publisher {
            home,
            subject,
            next: 1,
            is_alive: true,
            pause,
        });
        self.soon(pause, Thing::Publish(self.publishers.len() - 1));
    }

    /// Lets time pass to the next thing. Returns false when nothing is left.
    pub(crate) fn step(&mut self) -> bool {
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "time stands still");
        let next = self.queue.first_key_value().map(|((time, _), _)| *time);
        let due = self.owner.session.poll_timeout();
        match (next, due) {
            (None, None) => return false,
            (Some(next), due) if due.is_none_or(|due| next <= due) => {
                self.owner.now = next.max(self.owner.now);
                if let Some((_, thing)) = self.queue.pop_first() {
                    self.happen(thing);
                }
            }
            (_, Some(due)) => {
                self.owner.now = due;
                self.note(|| "the session wakes".into());
            }
            (Some(_), None) => {}
        }
        self.owner.act();
        self.after();
        true
    }

    pub(crate) fn run_until(&mut self, end: Duration) {
        while self.owner.now < end && self.step() {}
    }

    pub(crate) fn happen(&mut self, thing: Thing) {
        self.note(|| match &thing {
            Thing::ToServer(link, bytes) => format!("{link} C: {}", bytes.escape_ascii()),
            Thing::ToClient(link, bytes) => format!("{link} S: {}", bytes.escape_ascii()),
            thing => format!("{thing:?}"),
        });
        if let Some(server) = self.server_of(&thing)
            && self.servers[server].is_frozen
        {
            self.frozen[server].push(thing);
            return;
        }
        match thing {
            Thing::Tick => self.tick(),
            Thing::Dialed(link) => self.accept(link),
            Thing::Opened(link) => self.owner.opened(link),
            Thing::Failed(link) | Thing::Gone(link) => {
                if self.owner.sockets.contains_key(&link) {
                    self.account.epoch += u64::from(self.wires[&link].is_tainted);
                    self.owner.lost(link, LinkError::Closed);
                }
            }
            Thing::Secured(link) => {
                let server = self.wires[&link].server;
                if let Some(conn) = self.servers[server].links.get_mut(&link) {
                    conn.is_tls = true;
                    self.owner.tls_started(link);
                }
            }
            Thing::Identified(link) => {
                let owner = &mut self.owner;
                if owner.sockets.contains_key(&link) {
                    let credentials = Ok(Credentials::token("secret"));
                    let (now, outbox) = (owner.now, &mut owner.outbox);
                    owner
                        .session
                        .handle_credentials(link, now, credentials, outbox);
                }
            }
            Thing::ToServer(link, bytes) => self.hear_client(link, &bytes),
            Thing::ToClient(link, bytes) => {
                let wire = self.wires.get_mut(&link).expect("a wire");
                wire.to_client -= 1;
                if !wire.is_cut {
                    self.owner.read(link, &bytes);
                }
            }
            Thing::Hung(link) => {
                let server = self.wires[&link].server;
                self.servers[server].links.remove(&link);
            }
            Thing::Publish(publisher) => self.publish(publisher),
            Thing::Routed(server, publisher, number, at, home) => {
                self.deliver(server, publisher, number, at, home);
            }
            Thing::Member(server, link, sid, publisher, number) => {
                self.deliver_one(server, link, sid, publisher, number);
            }
            Thing::Thaw(server) => self.thaw(server),
            Thing::Stop(server) => self.stop(server),
            Thing::Start(server) => self.start(server),
        }
    }

    /// The server that has to do something about it.
    fn server_of(&self, thing: &Thing) -> Option<usize> {
        match thing {
            Thing::Dialed(link) | Thing::ToServer(link, _) | Thing::Hung(link) => {
                Some(self.wires[link].server)
            }
            Thing::Publish(publisher) => Some(self.publishers[*publisher].home),
            Thing::Routed(server, ..) | Thing::Member(server, ..) => Some(*server),
            _ => None,
        }
    }

    fn accept(&mut self, link: u64) {
        let server = self.wires[&link].server;
        let addr = self.owner.sockets.get(&link).map(|socket| &socket.server);
        let must_be_tls = self.options.is_tls_required || addr.is_some_and(ServerAddr::is_tls);
        if !self.servers[server].is_up {
            self.soon(self.latencies[server], Thing::Failed(link));
            return;
        }
        let info = self.servers[server].accept(link, must_be_tls);
        self.soon(self.latencies[server], Thing::Opened(link));
        self.say(link, info);
    }

    fn hear_client(&mut self, link: u64, bytes: &[u8]) {
        let now = self.owner.now;
        let wire = self.wires.get_mut(&link).expect("a wire");
        wire.to_server_bytes -= bytes.len();
        let server = wire.server;
        let heard = self.servers[server].hear(link, bytes, now);
        let wire = self.wires.get_mut(&link).expect("a wire");
        wire.pongs.extend(&heard.pongs);
        self.account.note_asked(link, &heard.subs);
        for number in heard.messages {
            let sockets = &self.owner.sockets;
            self.account
                .note_arrived(link, number, |link| sockets.contains_key(&link));
        }
        if !heard.reply.is_empty() {
            self.say(link, heard.reply);
        }
        if heard.closes {
            self.refusals += 1;
            self.drop_link(link, false);
        }
    }

    /// Sends bytes to the client, cut somewhere.
    pub(crate) fn say(&mut self, link: u64, bytes: Vec<u8>) {
        let cut = self.rng.below(2 * bytes.len() as u64 + 1);
        let cut = usize::try_from(cut).expect("few").min(bytes.len());
        let spread = self.rng.below(3);
        let (now, wire) = (self.owner.now, self.wires.get_mut(&link).expect("a wire"));
        let at =
            (now + wire.latency + MS * u32::try_from(spread).expect("few")).max(wire.to_client_at);
        wire.to_client_at = at;
        let pieces = [bytes[..cut].to_vec(), bytes[cut..].to_vec()];
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            self.wires.get_mut(&link).expect("a wire").to_client += 1;
            self.at(at, Thing::ToClient(link, piece));
        }
    }

    /// The link ends at the server's side. `is_cut`: what is under way is lost.
    pub(crate) fn drop_link(&mut self, link: u64, is_cut: bool) {
        let wire = self.wires.get_mut(&link).expect("a wire");
        wire.is_cut |= is_cut;
        wire.is_tainted = true;
        let at = (self.owner.now + wire.latency).max(wire.to_client_at);
        self.servers[wire.server].links.remove(&link);
        self.at(at, Thing::Gone(link));
    }

    /// Takes what came out, writes what is to be written, and holds both to the promises.
    pub(crate) fn after(&mut self) {
        self.take_outputs();
        let links: Vec<u64> = self.owner.sockets.keys().copied().collect();
        for link in links {
            self.write(link);
        }
        self.take_outputs();
        self.check();
    }

    fn write(&mut self, link: u64) {
        loop {
            if !self.is_healed && self.rng.below(8) == 0 {
                // The socket takes nothing for now.
                return;
            }
            let wire = self.wires.get_mut(&link).expect("a wire");
            let room = WINDOW_BYTES.saturating_sub(wire.to_server_bytes);
            let most = 1 + usize::try_from(self.rng.below(200)).expect("few");
            let before = self
                .owner
                .sockets
                .get(&link)
                .map_or(0, |socket| socket.taken);
            let bytes = self.owner.write(link, room.min(most));
            let taken = self
                .owner
                .sockets
                .get(&link)
                .map_or(0, |socket| socket.taken);
            self.account.note_taken(link, taken - before);
            if bytes.is_empty() {
                return;
            }
            self.stir(&bytes);
            let spread = MS * u32::try_from(self.rng.below(3)).expect("few");
            let wire = self.wires.get_mut(&link).expect("a wire");
            wire.to_server_bytes += bytes.len();
            let at = (self.owner.now + wire.latency + spread).max(wire.to_server_at);
            wire.to_server_at = at;
            self.at(at, Thing::ToServer(link, bytes));
        }
    }

    fn take_outputs(&mut self) {
        let outputs = std::mem::take(&mut self.owner.outputs);
        // What a move that is given up held is told before the loss is.
        let is_loss = |output: &Output| matches!(output, Output::Event(Event::Disconnected { .. }));
        self.account.epoch += u64::from(outputs.iter().any(is_loss));
        for output in outputs {
            self.note(|| format!("    {output:?}"));
            match output {
                Output::Action(action) => self.carry_out(action),
                Output::Event(event) => {
                    self.stir(format!("{event:?}").as_bytes());
                    self.account.note_event(&event);
                }
                Output::Pong(link) => {
                    let wire = self.wires.get_mut(&link).expect("a wire");
                    let read = wire.pongs.pop_front().expect("a PONG that was sent");
                    self.account.note_confirmed(link, read);
                }
                Output::Answered(number) => self.account.note_answered(number),
                Output::Entered(link, generation) => self.account.note_entered(link, generation),
                Output::Message(message, route) => {
                    self.stir(message.sid());
                    self.stir(message.payload());
                    let mut last = self.account.entered.iter().rev().take(2);
                    let is_strict = !last.any(|link| self.wires[link].is_tainted);
                    self.account.note_message(&message, route, is_strict);
                }
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Dial { link, server } => {
                let index: usize = server.host()[1..].parse().expect("a server's number");
                let latency = self.latencies[index];
                let now = self.owner.now;
                let wire = Wire {
                    server: index,
                    latency,
                    to_server_at: now,
                    to_client_at: now,
                    to_server_bytes: 0,
                    to_client: 0,
                    pongs: VecDeque::new(),
                    is_cut: false,
                    is_tainted: self.servers[index].is_frozen,
                };
                self.wires.insert(link, wire);
                self.soon(latency, Thing::Dialed(link));
            }
            Action::StartTls { link, .. } => {
                let latency = self.wires[&link].latency;
                self.soon(latency * 2, Thing::Secured(link));
            }
            Action::Authenticate { link, .. } => {
                let pause = self.rng.below(20);
                let pause = MS * u32::try_from(pause).expect("few");
                self.soon(pause, Thing::Identified(link));
            }
            Action::Hang { link } => {
                let wire = &self.wires[&link];
                self.account.epoch += u64::from(wire.is_tainted);
                let at = (self.owner.now + wire.latency).max(wire.to_server_at);
                self.at(at, Thing::Hung(link));
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        let owner = &self.owner;
        let most = OUTBOX.pending_bytes_max + FRAME_BYTES_MAX;
        self.account.check(&owner.session, &owner.outbox, most);
        let keepalive = self.options.keepalive;
        // One behind what a connection begins with, and one behind a move, which confirms that no copy
        // can come.
        let pings_max = self.account.flushes.len() + keepalive.pings_out_max as usize + 2;
        let pings = owner.outbox.pings_out();
        assert!(pings <= pings_max, "{pings} PINGs are out");
        let Some(link) = owner.session.writing_link() else {
            return;
        };
        let (Some(wire), Some(socket)) = (self.wires.get_mut(&link), owner.sockets.get(&link))
        else {
            return;
        };
        let server = &self.servers[wire.server];
        let Some(conn) = server.links.get(&link) else {
            return;
        };
        if owner.session.is_moving() || wire.is_cut || server.is_frozen {
            return;
        }
        wire.is_tainted = false;
        let is_quiet = wire.to_server_bytes == 0
            && wire.to_client == 0
            && socket.has_written_all()
            && owner.outbox.is_empty();
        if is_quiet {
            let live = self
                .account
                .subs
                .iter()
                .filter(|(_, mine)| !mine.is_draining);
            let live: Vec<_> = live
                .map(|(sid, mine)| (*sid, mine.filter.as_str(), &mine.group, mine.told_left()))
                .collect();
            let table = conn.table.iter().map(|(sid, sub)| {
                let left = sub.max.map(|max| max - sub.sent);
                (*sid, sub.filter.as_str(), &sub.group, left)
            });
            let table: Vec<_> = table.collect();
            assert_eq!(table, live, "what the server delivers, and what is wanted");
        }
    }
}
