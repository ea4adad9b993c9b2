//! Who subscribes to what.
//!
//! Subjects are bytes here: servers accept what is no text.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::jitter::Jitter;
use crate::subject::pattern_matches;

/// Subjects whose matches are remembered; when there are more, all are forgotten.
const REMEMBERED_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Routes {
    subscriptions: BTreeMap<u64, Subscription>,
    /// Finds a subscription by its connection and sid.
    by_name: BTreeMap<(u64, Vec<u8>), u64>,
    next: u64,
    remembered: HashMap<Vec<u8>, Arc<Matches>>,
    jitter: Jitter,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) connection: u64,
    pub(super) sid: Vec<u8>,
    pattern: Vec<u8>,
    queue_group: Option<Vec<u8>>,
    delivered: u64,
    delivered_max: Option<u64>,
}

#[derive(Debug, Default)]
struct Matches {
    plain: Vec<u64>,
    groups: Vec<Vec<u64>>,
}

impl Routes {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            subscriptions: BTreeMap::new(),
            by_name: BTreeMap::new(),
            next: 0,
            remembered: HashMap::new(),
            jitter: Jitter::new(seed),
        }
    }

    /// Adds a subscription; a sid that is alive keeps its first one.
    pub(super) fn subscribe(
        &mut self,
        connection: u64,
        pattern: &[u8],
        queue_group: Option<&[u8]>,
        sid: &[u8],
    ) {
        let name = (connection, sid.to_vec());
        if self.by_name.contains_key(&name) {
            return;
        }
        let id = self.next;
        self.next = self.next.saturating_add(1);
        self.by_name.insert(name, id);
        self.subscriptions.insert(
            id,
            Subscription {
                connection,
                sid: sid.to_vec(),
                pattern: pattern.to_vec(),
                queue_group: queue_group.map(<[u8]>::to_vec),
                delivered: 0,
                delivered_max: None,
            },
        );
        self.remembered.clear();
    }

    /// Ends a subscription after `max` messages since it began; now without a maximum, and when it
    /// has had that many.
    pub(super) fn unsubscribe(&mut self, connection: u64, sid: &[u8], max: Option<u64>) {
        let Some(id) = self.by_name.get(&(connection, sid.to_vec())).copied() else {
            return;
        };
        match (self.subscriptions.get_mut(&id), max) {
            (Some(subscription), Some(max)) if max > subscription.delivered => {
                subscription.delivered_max = Some(max);
            }
            _ => self.remove(id),
        }
    }

    /// Forgets a connection's subscriptions.
    pub(super) fn forget(&mut self, connection: u64) {
        let ids: Vec<u64> = self.of(connection).collect();
        for id in ids {
            self.remove(id);
        }
    }

    /// Who gets a message: every plain subscriber, and one of each queue group. `except` is a
    /// connection that does not want its own messages.
    pub(super) fn choose(&mut self, subject: &[u8], except: Option<u64>) -> Vec<u64> {
        let matches = self.matches(subject);
        let is_wanted = |id: &u64| {
            let owner = self
                .subscriptions
                .get(id)
                .map(|subscription| subscription.connection);
            owner.is_some() && owner != except
        };
        let mut chosen: Vec<u64> = matches.plain.iter().copied().filter(is_wanted).collect();
        let mut picks = Vec::new();
        for group in &matches.groups {
            let members: Vec<u64> = group.iter().copied().filter(is_wanted).collect();
            picks.push(members);
        }
        for members in picks {
            let count = u64::try_from(members.len()).unwrap_or(u64::MAX);
            let index = usize::try_from(self.jitter.below(count)).unwrap_or_default();
            chosen.extend(members.get(index));
        }
        chosen
    }

    /// Counts a delivery; returns where it goes. The last of a maximum ends the subscription.
    pub(super) fn count(&mut self, id: u64) -> Option<(u64, Vec<u8>)> {
        let subscription = self.subscriptions.get_mut(&id)?;
        subscription.delivered = subscription.delivered.saturating_add(1);
        let target = (subscription.connection, subscription.sid.clone());
        if subscription
            .delivered_max
            .is_some_and(|max| subscription.delivered >= max)
        {
            self.remove(id);
        }
        Some(target)
    }

    /// The sid of the plain subscription of `connection` that matches, the widest when there are
    /// several.
    pub(super) fn own_match(&self, connection: u64, subject: &[u8]) -> Option<&[u8]> {
        let matching = self.of(connection).filter_map(|id| {
            let subscription = self.subscriptions.get(&id)?;
            let is_match = subscription.queue_group.is_none()
                && pattern_matches(&subscription.pattern, subject);
            is_match.then_some((rank(&subscription.pattern), id, subscription))
        });
        let first = matching.min_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        first.map(|(_, _, subscription)| subscription.sid.as_slice())
    }

    /// Whether the connection has a subscription of that name.
    pub(super) fn has(&self, connection: u64, sid: &[u8]) -> bool {
        self.by_name.contains_key(&(connection, sid.to_vec()))
    }

    /// The subscriptions of a connection.
    fn of(&self, connection: u64) -> impl Iterator<Item = u64> {
        let own = self.by_name.range((connection, Vec::new())..);
        own.take_while(move |((owner, _), _)| *owner == connection)
            .map(|(_, id)| *id)
    }

    fn matches(&mut self, subject: &[u8]) -> Arc<Matches> {
        if let Some(matches) = self.remembered.get(subject) {
            return Arc::clone(matches);
        }
        let mut found: Vec<(&Subscription, u64)> = self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| pattern_matches(&subscription.pattern, subject))
            .map(|(id, subscription)| (subscription, *id))
            .collect();
        // Servers deliver to the widest patterns first.
        found.sort_by_key(|(subscription, id)| (rank(&subscription.pattern), *id));
        let mut matches = Matches::default();
        let mut groups: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
        for (subscription, id) in found {
            match &subscription.queue_group {
                Some(group) => groups.entry(group).or_default().push(id),
                None => matches.plain.push(id),
            }
        }
        matches.groups = groups.into_values().collect();
        let matches = Arc::new(matches);
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        self.remembered
            .insert(subject.to_vec(), Arc::clone(&matches));
        matches
    }

    fn remove(&mut self, id: u64) {
        if let Some(subscription) = self.subscriptions.remove(&id) {
            self.by_name
                .remove(&(subscription.connection, subscription.sid));
            self.remembered.clear();
        }
    }
}

/// Orders patterns as servers walk through them: `>` first; then, at the last token, a literal
/// before `*`, and at the others `*` before a literal.
fn rank(pattern: &[u8]) -> Vec<u8> {
    let mut tokens = pattern.split(|byte| *byte == b'.').peekable();
    let mut ranks = Vec::new();
    while let Some(token) = tokens.next() {
        let is_last = tokens.peek().is_none();
        ranks.push(match token {
            b">" => 0,
            b"*" if is_last => 2,
            b"*" => 1,
            _ if is_last => 1,
            _ => 2,
        });
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sids(routes: &mut Routes, subject: &str, except: Option<u64>) -> Vec<String> {
        let chosen = routes.choose(subject.as_bytes(), except);
        let sids = chosen.into_iter().filter_map(|id| routes.count(id));
        sids.map(|(connection, sid)| format!("{connection}/{}", sid.escape_ascii()))
            .collect()
    }

    #[test]
    fn every_plain_subscriber_and_one_of_each_group_gets_a_message() {
        let mut routes = Routes::new(1);
        routes.subscribe(1, b"a.*", None, b"1");
        routes.subscribe(2, b">", None, b"1");
        for connection in [3, 4] {
            routes.subscribe(connection, b"a.b", Some(b"q"), b"9");
        }
        let mut members = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let sids = sids(&mut routes, "a.b", None);
            assert_eq!(sids[..2], ["2/1", "1/1"]);
            assert_eq!(sids.len(), 3);
            members.insert(sids[2].clone());
        }
        assert_eq!(members.len(), 2, "both members get some");
        assert_eq!(sids(&mut routes, "a.c", Some(2)), ["1/1"]);
    }

    #[test]
    fn a_maximum_counts_from_the_beginning() {
        let mut routes = Routes::new(1);
        routes.subscribe(1, b"a", None, b"x");
        assert_eq!(sids(&mut routes, "a", None).len(), 1);
        routes.unsubscribe(1, b"x", Some(2));
        assert_eq!(sids(&mut routes, "a", None).len(), 1);
        assert_eq!(sids(&mut routes, "a", None).len(), 0);
        routes.subscribe(1, b"a", None, b"x");
        assert_eq!(sids(&mut routes, "a", None).len(), 1);
        routes.unsubscribe(1, b"x", Some(1));
        assert_eq!(
            sids(&mut routes, "a", None).len(),
            0,
            "it had that many already"
        );
    }

    #[test]
    fn a_connection_takes_its_subscriptions_with_it() {
        let mut routes = Routes::new(1);
        routes.subscribe(1, b"a", None, b"x");
        routes.subscribe(2, b"a", None, b"x");
        routes.forget(1);
        assert_eq!(sids(&mut routes, "a", None), ["2/x"]);
    }
}
