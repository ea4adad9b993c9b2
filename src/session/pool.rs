//! The servers that a session may dial: those that it was given, and those that servers name.
//!
//! A queue: the server dialed last stands at its end. Never dials.

use std::collections::HashSet;

use crate::jitter::Jitter;
use crate::wire::handshake::ServerInfo;

use super::options::{Callback, SelectServer};
use super::server_addr::ServerAddr;

/// Servers up to which the pool takes what INFO names; those that it was given all stay.
const SERVERS_MAX: usize = 1_024;

/// Refusals of the same credentials by one server, in the same words, after which the session ends.
const AUTH_FAILURES_MAX: u32 = 2;

#[derive(Debug)]
pub(crate) struct Pool {
    servers: Vec<Server>,
    select: Option<Callback<SelectServer>>,
    keeps_order: bool,
    jitter: Jitter,
}

#[derive(Debug)]
struct Server {
    addr: ServerAddr,
    is_discovered: bool,
    /// It said that it is about to stop, and we have not been back since.
    is_leaving: bool,
    auth_failures: u32,
    auth_text: String,
}

impl Pool {
    pub(crate) fn new(
        given: Vec<ServerAddr>,
        select: Option<Callback<SelectServer>>,
        keeps_order: bool,
        seed: u64,
    ) -> Self {
        let mut pool = Self {
            servers: Vec::new(),
            select,
            keeps_order,
            jitter: Jitter::new(seed),
        };
        pool.replace(given);
        pool
    }

    /// Takes these servers in place of all others.
    pub(crate) fn replace(&mut self, given: Vec<ServerAddr>) {
        self.servers.clear();
        self.append(given, false);
    }

    /// Takes over what INFO of `current` says about other servers. Returns those that are new.
    ///
    /// Servers that were discovered and are named no more leave, but for the current one. An INFO
    /// that names none says nothing. One that was about to stop and is named again has come back.
    ///
    /// Source: protocol-notes, "Server pool".
    pub(crate) fn discover(&mut self, current: &ServerAddr, urls: &[String]) -> Vec<ServerAddr> {
        let named: Vec<ServerAddr> = urls
            .iter()
            .take(SERVERS_MAX)
            // What cannot be read is no server of ours.
            .filter_map(|url| current.announced(url).ok())
            .collect();
        if named.is_empty() {
            return Vec::new();
        }
        let is_named: HashSet<_> = named.iter().map(ServerAddr::place).collect();
        self.servers.retain(|server| {
            !server.is_discovered
                || server.addr.place() == current.place()
                || is_named.contains(&server.addr.place())
        });
        for server in &mut self.servers {
            let place = server.addr.place();
            if place != current.place() && is_named.contains(&place) {
                server.is_leaving = false;
            }
        }
        let mut known: HashSet<_> = self
            .servers
            .iter()
            .map(|server| server.addr.place())
            .collect();
        let new: Vec<ServerAddr> = named
            .iter()
            .filter(|addr| known.insert(addr.place()))
            .cloned()
            .collect();
        let room = SERVERS_MAX.saturating_sub(self.servers.len());
        let new: Vec<ServerAddr> = new.into_iter().take(room).collect();
        self.append(new.clone(), true);
        new
    }

    /// The server to dial now; it goes to the end of the queue. `None` when there is none.
    pub(crate) fn next(&mut self, info: &ServerInfo) -> Option<ServerAddr> {
        let all: Vec<usize> = (0..self.servers.len()).collect();
        let index = self.selected(&all, info)?;
        self.rotate(index)
    }

    /// A server other than `current` to move to; `None` when there is no other.
    ///
    /// One that was about to stop itself when we left it comes last: it may have come back, which
    /// servers that name no others do not tell.
    pub(crate) fn next_other(
        &mut self,
        current: &ServerAddr,
        info: &ServerInfo,
    ) -> Option<ServerAddr> {
        let others = self.servers.iter().enumerate();
        let others = others.filter(|(_, server)| server.addr.place() != current.place());
        let (left, staying): (Vec<_>, Vec<_>) = others.partition(|(_, server)| server.is_leaving);
        let others = if staying.is_empty() { left } else { staying };
        let others: Vec<usize> = others.into_iter().map(|(index, _)| index).collect();
        let index = self.selected(&others, info)?;
        self.rotate(index)
    }

    /// The connection to `addr` is lost: the others come first, those discovered meanwhile included.
    pub(crate) fn note_lost(&mut self, addr: &ServerAddr) {
        if let Some(index) = self.servers.iter().position(|server| server.addr == *addr) {
            self.rotate(index);
        }
    }

    /// `addr` says that it is about to stop.
    pub(crate) fn note_leaving(&mut self, addr: &ServerAddr) {
        if let Some(server) = self.find(addr) {
            server.is_leaving = true;
        }
    }

    /// `addr` refused our credentials with these words. Returns true when it said so too often.
    ///
    /// Other words begin a new count, and so do another failure and success.
    pub(crate) fn note_auth_failure(&mut self, addr: &ServerAddr, text: &str) -> bool {
        let Some(server) = self.find(addr) else {
            return false;
        };
        if server.auth_text != text {
            server.auth_failures = 0;
            text.clone_into(&mut server.auth_text);
        }
        server.auth_failures = server.auth_failures.saturating_add(1);
        server.auth_failures >= AUTH_FAILURES_MAX
    }

    /// `addr` could not be used for another reason.
    pub(crate) fn note_other_failure(&mut self, addr: &ServerAddr) {
        if let Some(server) = self.find(addr) {
            server.auth_failures = 0;
        }
    }

    /// `addr` accepted us.
    pub(crate) fn note_success(&mut self, addr: &ServerAddr) {
        if let Some(server) = self.find(addr) {
            server.auth_failures = 0;
            server.is_leaving = false;
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.servers.len()
    }

    /// The servers in the order in which they would be dialed.
    pub(crate) fn servers(&self) -> Vec<ServerAddr> {
        self.servers
            .iter()
            .map(|server| server.addr.clone())
            .collect()
    }

    fn append(&mut self, mut servers: Vec<ServerAddr>, is_discovered: bool) {
        if !self.keeps_order {
            for index in (1..servers.len()).rev() {
                let bound = u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1);
                let other = usize::try_from(self.jitter.below(bound)).unwrap_or(index);
                servers.swap(index, other);
            }
        }
        self.servers.extend(servers.into_iter().map(|addr| Server {
            addr,
            is_discovered,
            is_leaving: false,
            auth_failures: 0,
            auth_text: String::new(),
        }));
    }

    /// The one that the program chooses among these, or the first of them.
    fn selected(&self, among: &[usize], info: &ServerInfo) -> Option<usize> {
        let first = among.first().copied();
        let Some(select) = &self.select else {
            return first;
        };
        let servers = among.iter().filter_map(|index| self.servers.get(*index));
        let addrs: Vec<ServerAddr> = servers.map(|server| server.addr.clone()).collect();
        let chosen = (select.function())(&addrs, info);
        let chosen = chosen.and_then(|index| among.get(index).copied());
        chosen.or(first)
    }

    fn rotate(&mut self, index: usize) -> Option<ServerAddr> {
        if index >= self.servers.len() {
            return None;
        }
        let server = self.servers.remove(index);
        let addr = server.addr.clone();
        self.servers.push(server);
        Some(addr)
    }

    fn find(&mut self, addr: &ServerAddr) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.addr == *addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(servers: &str) -> Pool {
        Pool::new(ServerAddr::parse_list(servers).unwrap(), None, true, 1)
    }

    fn hosts(pool: &Pool) -> String {
        let hosts: Vec<String> = pool
            .servers()
            .iter()
            .map(|addr| addr.host().to_owned())
            .collect();
        hosts.join(" ")
    }

    fn urls(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_server_dialed_last_is_dialed_again_last() {
        let mut pool = pool("a,b,c");
        let info = ServerInfo::default();
        let dialed: Vec<ServerAddr> = (0..4).filter_map(|_| pool.next(&info)).collect();
        assert_eq!(dialed[3].host(), "a");
        assert_eq!(hosts(&pool), "b c a");
    }

    #[test]
    fn discovered_servers_come_and_go_and_given_ones_stay() {
        let mut pool = pool("nats://me:secret@a,b");
        let current = pool.next(&ServerInfo::default()).unwrap();
        let new = pool.discover(&current, &urls("c:1 d:2 a:4222 nonsense:x"));
        assert_eq!(new.len(), 2, "{new:?}");
        assert_eq!(new[0].credentials(), current.credentials());
        assert_eq!(hosts(&pool), "b a c d");
        assert!(pool.discover(&current, &urls("d:2 c:1")).is_empty());
        assert!(pool.discover(&current, &[]).is_empty());
        assert_eq!(hosts(&pool), "b a c d", "an INFO without URLs says nothing");
        pool.discover(&current, &urls("d:2"));
        assert_eq!(hosts(&pool), "b a d");
    }

    #[test]
    fn the_pool_has_a_bound() {
        let mut pool = pool("a");
        let current = pool.next(&ServerInfo::default()).unwrap();
        let many: Vec<String> = (0..10_000).map(|n| format!("h{n}:4222")).collect();
        pool.discover(&current, &many);
        assert_eq!(pool.len(), SERVERS_MAX);
    }

    #[test]
    fn a_pool_is_shuffled_unless_its_order_is_kept() {
        let list = ServerAddr::parse_list("a,b,c,d,e,f,g,h").unwrap();
        let orders: HashSet<String> = (0..20)
            .map(|seed| hosts(&Pool::new(list.clone(), None, false, seed)))
            .collect();
        assert!(orders.len() > 10, "{orders:?}");
        assert_eq!(hosts(&pool("a,b,c,d")), "a b c d");
    }

    /// Two more are dialed to move away from `current`.
    fn others(pool: &mut Pool, current: &ServerAddr) -> String {
        let mut other = || pool.next_other(current, &ServerInfo::default());
        let others: Vec<String> = [other(), other()]
            .iter()
            .flatten()
            .map(|addr| addr.host().to_owned())
            .collect();
        others.join(" ")
    }

    #[test]
    fn a_server_that_is_about_to_stop_is_moved_to_only_for_want_of_another() {
        let mut pool = pool("a,b,c");
        let a = pool.next(&ServerInfo::default()).unwrap();
        let b = pool.next(&ServerInfo::default()).unwrap();
        pool.note_leaving(&a);
        assert_eq!(others(&mut pool, &b), "c c");
        let c = pool.next_other(&b, &ServerInfo::default()).unwrap();
        pool.note_leaving(&c);
        assert_eq!(others(&mut pool, &b), "a c");
        pool.note_success(&a);
        assert_eq!(others(&mut pool, &b), "a a");
        pool.replace(vec![b.clone()]);
        assert_eq!(pool.next_other(&b, &ServerInfo::default()), None);
    }

    #[test]
    fn a_server_that_was_about_to_stop_and_is_named_again_may_be_moved_to() {
        let mut pool = pool("a,b,c");
        let a = pool.next(&ServerInfo::default()).unwrap();
        let b = pool.next(&ServerInfo::default()).unwrap();
        pool.note_leaving(&a);
        pool.discover(&a, &urls("a:4222 b:4222"));
        assert_eq!(others(&mut pool, &b), "c c", "not by its own words");
        pool.discover(&b, &urls("b:4222"));
        assert_eq!(others(&mut pool, &b), "c c");
        pool.discover(&b, &urls("a:4222 b:4222"));
        assert_eq!(others(&mut pool, &b), "a c");
    }

    #[test]
    fn the_program_may_choose() {
        let select = |pool: &[ServerAddr], _: &ServerInfo| {
            pool.iter().position(|server| server.host() == "c")
        };
        let select = Callback::new(std::sync::Arc::new(select) as std::sync::Arc<SelectServer>);
        let list = ServerAddr::parse_list("a,b,c").unwrap();
        let mut pool = Pool::new(list, Some(select), true, 1);
        for _ in 0..3 {
            assert_eq!(pool.next(&ServerInfo::default()).unwrap().host(), "c");
        }
        let a = ServerAddr::parse_list("a").unwrap().remove(0);
        let other = pool.next_other(&a, &ServerInfo::default()).unwrap();
        assert_eq!(other.host(), "c");
    }

    #[test]
    fn a_second_refusal_in_the_same_words_is_too_often() {
        let mut pool = pool("a");
        let addr = pool.next(&ServerInfo::default()).unwrap();
        assert!(!pool.note_auth_failure(&addr, "one"));
        assert!(!pool.note_auth_failure(&addr, "other"));
        pool.note_success(&addr);
        assert!(!pool.note_auth_failure(&addr, "other"));
        assert!(pool.note_auth_failure(&addr, "other"));
    }
}
