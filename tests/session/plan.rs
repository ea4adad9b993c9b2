//! What the owner does and what goes wrong, tick by tick; then how a run ends.

use std::time::Duration;

use bytes::Bytes;
use natseq::session::ServerAddr;
use natseq::subject::{Filter, QueueGroup, SubjectRef};
use natseq::wire::encode::Publish;

use crate::world::{MS, Thing, World};

const FILTERS: [&str; 5] = ["p.a", "p.b", "p.*", ">", "q.>"];

/// After the last fault the session is connected again within this time.
const RECOVERY_TIME: Duration = Duration::from_secs(60);

impl World {
    /// Runs to the end and checks that everything is accounted for.
    pub(crate) fn run(&mut self) {
        while self.ticks_left > 0 && !self.owner.session.is_closed() && self.step() {}
        self.heal();
        if !self.owner.session.is_closed() {
            self.recover();
        }
        self.close();
    }

    /// From now on nothing goes wrong.
    fn heal(&mut self) {
        self.is_healed = true;
        for index in 0..self.servers.len() {
            self.start(index);
            self.thaw(index);
            let server = &mut self.servers[index];
            server.is_leaving = false;
            server.refuses = false;
            server.offers_tls |=
                self.options.is_tls_required || self.options.servers.iter().any(ServerAddr::is_tls);
        }
        self.name_servers();
        self.after();
    }

    fn recover(&mut self) {
        let end = self.owner.now + RECOVERY_TIME;
        self.run_until(end);
        if self.owner.session.is_closed() {
            // It was refused on the eve of the end.
            return;
        }
        assert!(self.owner.session.is_connected(), "not connected in time");
        assert!(!self.owner.session.is_moving(), "a move without end");
        self.flush();
        self.owner.act();
        self.after();
        let end = self.owner.now + MS * 5_000;
        self.run_until(end);
        assert_eq!(self.owner.outbox.waiting_messages(), 0, "messages wait");
        self.account.check_end();
    }

    /// A session that is drained and closed ends.
    fn close(&mut self) {
        if self.rng.below(2) == 0 {
            self.owner
                .session
                .drain_others(|_| false, &mut self.owner.outbox);
            let sids: Vec<u64> = self.account.subs.keys().copied().collect();
            for sid in sids {
                self.account.note_draining(sid);
            }
            self.flush();
            self.after();
            let end = self.owner.now + MS * 2_000;
            self.run_until(end);
        }
        let was_closed = self.owner.session.is_closed();
        self.owner.session.close(&mut self.owner.outbox);
        self.owner.act();
        self.after();
        assert!(self.owner.is_finished, "a session that was closed goes on");
        let reason = self.account.closed.clone().expect("it was told");
        if was_closed && !self.is_closed_by_owner {
            let is_refused = reason.contains("Authorization") && self.refusals >= 2;
            let is_first = !self.options.retries_first_connect && self.account.connects == 0;
            assert!(is_refused || is_first, "it gave up: {reason}");
        } else {
            assert_eq!(reason, "");
        }
        let waiting = self.owner.outbox.waiting_messages();
        assert!(self.owner.session.poll_timeout().is_none());
        assert!(was_closed || waiting == 0 || !self.owner.outbox.is_open());
    }

    pub(crate) fn tick(&mut self) {
        if self.ticks_left == 0 || self.owner.session.is_closed() {
            return;
        }
        self.ticks_left -= 1;
        let pause = match self.rng.below(20) {
            0 => 2_000,
            _ => 60,
        };
        let pause = MS * u32::try_from(self.rng.below(pause)).expect("few");
        self.soon(pause, Thing::Tick);
        match self.rng.below(100) {
            0..=9 => self.subscribe(),
            10..=12 => self.with_sub(|world, sid| {
                let had = world.account.subs.remove(&sid).is_some();
                let owner = &mut world.owner;
                assert_eq!(owner.session.unsubscribe(sid, &mut owner.outbox), had);
            }),
            13..=17 => self.limit(),
            18..=20 => self.with_sub(|world, sid| {
                let owner = &mut world.owner;
                world.account.note_draining(sid);
                owner.session.drain(sid, &mut owner.outbox);
            }),
            21..=22 => self.with_sub(|world, sid| {
                if world.account.subs[&sid].is_draining {
                    world.account.subs.remove(&sid);
                    world.owner.session.forget(sid);
                }
            }),
            23..=47 => {
                for _ in 0..1 + self.rng.below(6) {
                    self.publish_one();
                }
            }
            48..=54 => self.flush(),
            55 => {
                let owner = &mut self.owner;
                owner.session.reconnect(owner.now, &mut owner.outbox);
            }
            56 => self.set_servers(),
            57..=64 => self.leave(),
            65..=67 => self.break_link(),
            68..=69 => {
                let server = self.some_server();
                if self.servers[server].is_up {
                    self.stop(server);
                }
            }
            70..=72 => {
                let server = self.some_server();
                let time = self.rng.below(4_000);
                self.freeze(server, MS * u32::try_from(time).expect("few"));
            }
            73..=76 => {
                let server = self.some_server();
                self.ping_clients(server);
            }
            77..=80 => {
                let server = self.some_server();
                self.tell_info(server);
            }
            81 if self.rng.below(10) == 0 => {
                let server = self.some_server();
                self.servers[server].refuses ^= true;
            }
            82 if self.rng.below(20) == 0 => {
                self.owner.session.close(&mut self.owner.outbox);
                self.is_closed_by_owner = true;
            }
            _ => {}
        }
    }

    /// A server, oftener the one that serves.
    fn some_server(&mut self) -> usize {
        let writing = self.owner.session.writing_link();
        match writing.and_then(|link| self.wires.get(&link)) {
            Some(wire) if self.rng.below(2) == 0 => wire.server,
            _ => usize::try_from(self.rng.below(self.servers.len() as u64)).expect("few"),
        }
    }

    fn with_sub(&mut self, act: impl FnOnce(&mut Self, u64)) {
        let count = self.account.subs.len() as u64;
        let index = usize::try_from(self.rng.below(count)).expect("few");
        if let Some(sid) = self.account.subs.keys().nth(index).copied() {
            act(self, sid);
        }
    }

    fn subscribe(&mut self) {
        let name = FILTERS[usize::try_from(self.rng.below(5)).expect("few")];
        let group = (self.rng.below(4) == 0).then_some("g");
        let filter = Filter::new(name).expect("a filter");
        let queue_group = group.map(|group| QueueGroup::new(group).expect("a group"));
        let owner = &mut self.owner;
        let sid = owner
            .session
            .subscribe(filter, queue_group, 0, &mut owner.outbox);
        self.account
            .note_subscribed(sid.expect("there is room"), name, group);
    }

    /// A maximum, once for each subscription: a later one may come too late for the server.
    fn limit(&mut self) {
        let max = match self.rng.below(20) {
            0 => 2_000_000_000,
            _ => 1 + self.rng.below(60),
        };
        self.with_sub(|world, sid| {
            let mine = world.account.subs.get_mut(&sid).expect("it is alive");
            if mine.max.is_some() || mine.is_draining {
                return;
            }
            let is_over = mine.delivered >= max;
            mine.max = Some(max);
            let owner = &mut world.owner;
            assert_eq!(owner.session.limit(sid, max, &mut owner.outbox), is_over);
            if is_over {
                world.account.subs.remove(&sid);
            }
        });
    }

    fn publish_one(&mut self) {
        let number = (self.account.published() + 1).to_string();
        let payload = Bytes::from(number + &"x".repeat(self.rng.below(8) as usize));
        let subject = SubjectRef::new("out").expect("a subject");
        let message = Publish::new(subject, &payload);
        let is_shared = self.rng.below(4) == 0;
        let shared = is_shared.then_some(&payload);
        if self.owner.outbox.publish(&message, shared).is_ok() {
            self.account.note_published();
        }
    }

    fn flush(&mut self) {
        let number = self.owner.outbox.ping();
        assert_eq!(number.is_some(), self.owner.session.is_connected());
        if let Some(number) = number {
            self.account.note_flush(number);
        }
    }

    fn set_servers(&mut self) {
        let scheme = if self.options.servers.iter().any(ServerAddr::is_tls) {
            "tls"
        } else {
            "nats"
        };
        let first = self.some_server();
        let second = self.some_server();
        let list = format!("{scheme}://s{first},{scheme}://s{second}");
        let list = ServerAddr::parse_list(&list).expect("addresses");
        self.owner.session.set_servers(list, self.owner.now);
    }

    /// A server says that it is about to stop, and does so later.
    fn leave(&mut self) {
        let server = self.some_server();
        let others = self.servers.iter().enumerate();
        let others = others.filter(|(index, of)| *index != server && of.is_up && !of.is_leaving);
        let has_other = others.count() > 0;
        let is_free = self.servers[server].is_up && !self.servers[server].is_leaving;
        if !has_other || !is_free || self.servers[server].is_frozen {
            return;
        }
        self.servers[server].is_leaving = true;
        self.name_servers();
        self.tell_info(server);
        let time = MS * u32::try_from(1_000 + self.rng.below(3_000)).expect("few");
        self.soon(time, Thing::Stop(server));
    }

    fn break_link(&mut self) {
        let count = self.owner.sockets.len() as u64;
        let index = usize::try_from(self.rng.below(count)).expect("few");
        let link = self.owner.sockets.keys().nth(index).copied();
        if let Some(link) = link {
            let is_cut = self.rng.below(2) == 0;
            self.drop_link(link, is_cut);
        }
    }
}
