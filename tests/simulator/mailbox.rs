//! A program that is busy now and then: what comes meanwhile waits, and what there is no room for is
//! dropped by ourselves.

use std::time::Duration;

use super::peers::Body;
use super::world::World;

/// A shorter absence has kept nothing waiting.
const PAUSE_MIN: Duration = Duration::from_millis(10);

impl World {
    /// Whether the program is busy with what it got.
    pub(super) fn is_busy(&self, index: usize) -> bool {
        self.now < self.receivers[index].busy_until
    }

    /// Something has come for a receiver.
    pub(super) fn put(&mut self, index: usize, body: Body) {
        let to = &mut self.receivers[index];
        if let Body::Data { tag, .. } | Body::Repair { tag, .. } = &body {
            to.oracle.luck.note_arrival(self.now, tag.run, tag.seq);
        }
        match to.plan.mailbox {
            None => self.hand_over(index, body),
            Some(mailbox) if to.mailbox.len() < mailbox.messages_max => {
                let dropped_before = std::mem::take(&mut to.dropped);
                to.mailbox.push_back((dropped_before, body));
            }
            Some(_) => {
                to.dropped += 1;
                self.note(|| format!("receiver {index} has no room for {body}"));
            }
        }
    }

    /// Programs that have time look into their mailboxes.
    pub(super) fn read_mailboxes(&mut self) {
        for index in 0..self.receivers.len() {
            let now = self.now;
            let to = &mut self.receivers[index];
            let Some(mailbox) = to.plan.mailbox.filter(|_| now >= to.busy_until) else {
                continue;
            };
            if std::mem::take(&mut to.is_busy) && mailbox.busy >= PAUSE_MIN {
                to.receiver.handle_pause(now, mailbox.busy);
            }
            if to.mailbox.is_empty() {
                continue;
            }
            for _ in 0..mailbox.batch_messages {
                let to = &mut self.receivers[index];
                let Some((dropped_before, body)) = to.mailbox.pop_front() else {
                    break;
                };
                if dropped_before > 0 {
                    to.receiver.handle_dropped(now, dropped_before);
                }
                self.hand_over(index, body);
            }
            let to = &mut self.receivers[index];
            if to.mailbox.is_empty() {
                let dropped = std::mem::take(&mut to.dropped);
                if dropped > 0 {
                    to.receiver.handle_dropped(now, dropped);
                }
                to.receiver.handle_room(now);
                // What waits may be what time is running out for.
                to.receiver.handle_timeout(now);
            }
            self.drain(index);
            self.ask(index);
            let to = &mut self.receivers[index];
            (to.busy_until, to.is_busy) = (now + mailbox.busy, true);
        }
    }
}
