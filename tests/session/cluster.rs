//! What the servers do together: messages between them, and how they come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use natseq::wire::encode;

use crate::world::{MS, Member, Thing, World};

impl World {
    pub(crate) fn publish(&mut self, index: usize) {
        let publisher = &mut self.publishers[index];
        if !publisher.is_alive {
            return;
        }
        let (home, number, pause) = (publisher.home, publisher.next, publisher.pause);
        publisher.next += 1;
        let now = self.owner.now;
        if !self.is_healed {
            self.soon(pause, Thing::Publish(index));
        }
        self.deliver(home, index, number, now, home);
        for server in (0..self.servers.len()).filter(|server| *server != home) {
            let thing = Thing::Routed(server, index, number, now, home);
            self.soon(self.cluster_delay, thing);
        }
        self.choose_member(index, number);
    }

    /// Of each queue group one member gets a message.
    fn choose_member(&mut self, index: usize, number: u64) {
        let publisher = &self.publishers[index];
        let (now, home) = (self.owner.now, publisher.home);
        let mut groups: BTreeMap<(String, String), Vec<Member>> = BTreeMap::new();
        for (place, server) in self.servers.iter().enumerate() {
            let delay = if place == home {
                Duration::ZERO
            } else {
                self.cluster_delay
            };
            for (link, conn) in &server.links {
                for (sid, sub) in &conn.table {
                    if let Some(group) = &sub.group
                        && sub.since + delay <= now
                        && sub.filter.matches(publisher.subject.as_bytes())
                    {
                        let name = (sub.filter.as_str().to_owned(), group.clone());
                        groups.entry(name).or_default().push((place, *link, *sid));
                    }
                }
            }
        }
        for members in groups.into_values() {
            let chosen = usize::try_from(self.rng.below(members.len() as u64)).expect("few");
            let (server, link, sid) = members[chosen];
            let thing = Thing::Member(server, link, sid, index, number);
            if server == home {
                self.happen(thing);
            } else {
                self.soon(self.cluster_delay, thing);
            }
        }
    }

    /// A message has reached a server; servers pass on what they know to be wanted.
    pub(crate) fn deliver(
        &mut self,
        server: usize,
        index: usize,
        number: u64,
        at: Duration,
        home: usize,
    ) {
        let delay = if server == home {
            Duration::ZERO
        } else {
            self.cluster_delay
        };
        let subject = self.publishers[index].subject;
        let payload = format!("{index}.{number}");
        let mut said = Vec::new();
        for (link, conn) in &mut self.servers[server].links {
            let subs = conn.table.iter().filter(|(_, sub)| {
                sub.group.is_none()
                    && sub.since + delay <= at
                    && sub.filter.matches(subject.as_bytes())
            });
            let sids: Vec<u64> = subs.map(|(sid, _)| *sid).collect();
            let mut out = Vec::new();
            for sid in sids {
                conn.deliver(sid, subject, &payload, &mut out);
            }
            if !out.is_empty() {
                said.push((*link, out));
            }
        }
        for (link, out) in said {
            self.say(link, out);
        }
    }

    pub(crate) fn deliver_one(
        &mut self,
        server: usize,
        link: u64,
        sid: u64,
        index: usize,
        number: u64,
    ) {
        let subject = self.publishers[index].subject;
        let Some(conn) = self.servers[server].links.get_mut(&link) else {
            return;
        };
        let mut out = Vec::new();
        conn.deliver(sid, subject, &format!("{index}.{number}"), &mut out);
        if !out.is_empty() {
            self.say(link, out);
        }
    }

    /// It does nothing for a while; what it would have said to its clients comes late.
    pub(crate) fn freeze(&mut self, server: usize, time: Duration) {
        if self.servers[server].is_frozen || !self.servers[server].is_up {
            return;
        }
        self.servers[server].is_frozen = true;
        for link in self.servers[server].links.keys() {
            self.wires.get_mut(link).expect("a wire").is_tainted = true;
        }
        self.soon(time, Thing::Thaw(server));
    }

    pub(crate) fn thaw(&mut self, server: usize) {
        self.servers[server].is_frozen = false;
        for thing in std::mem::take(&mut self.frozen[server]) {
            self.happen(thing);
        }
    }

    pub(crate) fn stop(&mut self, server: usize) {
        self.thaw(server);
        let links: Vec<u64> = self.servers[server].links.keys().copied().collect();
        for link in links {
            let is_cut = self.rng.below(2) == 0;
            self.drop_link(link, is_cut);
        }
        self.servers[server].is_up = false;
        self.servers[server].is_leaving = false;
        self.name_servers();
        let away = self.rng.below(3_000);
        self.soon(MS * u32::try_from(away).expect("few"), Thing::Start(server));
        for index in 0..self.publishers.len() {
            if self.publishers[index].home == server && self.publishers[index].is_alive {
                self.publishers[index].is_alive = false;
                self.add_publisher();
            }
        }
    }

    pub(crate) fn start(&mut self, server: usize) {
        if !self.servers[server].is_up {
            self.servers[server].is_up = true;
            self.servers[server].runs += 1;
            self.name_servers();
            if !self.is_healed && !self.publishers.iter().any(|publisher| publisher.is_alive) {
                self.add_publisher();
            }
        }
    }

    pub(crate) fn ping_clients(&mut self, server: usize) {
        for link in self.servers[server].ping() {
            let mut bytes = Vec::new();
            encode::ping(&mut bytes);
            self.say(link, bytes);
        }
    }

    pub(crate) fn tell_info(&mut self, server: usize) {
        let info = self.servers[server].info();
        let greeted = self.servers[server].links.iter();
        let greeted = greeted.filter(|(_, conn)| conn.has_greeted);
        let links: Vec<u64> = greeted.map(|(link, _)| *link).collect();
        for link in links {
            self.say(link, info.clone());
        }
    }
}
