//! Requests that wait for answers on the connection's one inbox.
//!
//! ```text
//!   _INBOX.<22 random characters>.<key>      the key is a slot and its generation: never used twice
//! ```

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::session::{Refusal, RefusalKind, Slots};
use crate::wire::Message;

use super::error::{Error, ErrorKind};
use super::mailbox::{EndReason, Mailbox};

/// What a request that has one answer waits for.
pub(super) type Answer = Result<Message, Error>;

#[derive(Debug)]
pub(super) struct PendingRequests {
    table: Slots<Pending>,
    /// What reply subjects begin with, up to the last dot; `None` before the first request.
    inbox: Option<String>,
    /// Requests so far, which tells how old one is.
    opened: u64,
}

#[derive(Debug)]
struct Pending {
    subject: Box<str>,
    number: u64,
    fails_at_disconnect: bool,
    sink: Sink,
}

/// Where answers go.
#[derive(Debug)]
pub(super) enum Sink {
    /// The first one ends the request.
    One(oneshot::Sender<Answer>),
    Many(Arc<Mailbox>),
}

impl PendingRequests {
    pub(super) const fn new() -> Self {
        Self {
            table: Slots::new(0),
            inbox: None,
            opened: 0,
        }
    }

    /// Adds a request; returns its key and its reply subject. `None` without an inbox, or when 2^32
    /// requests are alive.
    pub(super) fn open(
        &mut self,
        subject: &str,
        fails_at_disconnect: bool,
        sink: Sink,
    ) -> Option<(u64, String)> {
        let inbox = self.inbox.as_ref()?;
        self.opened = self.opened.saturating_add(1);
        let key = self.table.insert(Pending {
            subject: subject.into(),
            number: self.opened,
            fails_at_disconnect,
            sink,
        })?;
        Some((key, format!("{inbox}.{key}")))
    }

    /// Forgets a request; a late answer to it is dropped.
    pub(super) fn close(&mut self, key: u64) {
        self.table.remove(key);
    }

    pub(super) const fn has_inbox(&self) -> bool {
        self.inbox.is_some()
    }

    pub(super) fn set_inbox(&mut self, inbox: String) {
        self.inbox = Some(inbox);
    }

    pub(super) const fn len(&self) -> usize {
        self.table.len()
    }

    /// Gives a message to the request that it answers; returns how many were dropped because too
    /// many wait there.
    pub(super) fn answer(&mut self, message: Message) -> u64 {
        let Some(key) = self.find(message.subject()) else {
            return 0;
        };
        match self.table.get(key).map(|pending| &pending.sink) {
            Some(Sink::Many(mailbox)) => {
                return mailbox.push([message], |_| String::new()).dropped;
            }
            Some(Sink::One(_)) => self.finish(key, Ok(message)),
            None => {}
        }
        0
    }

    /// A server that maps subjects may deliver an answer to another subject than was asked for: where
    /// one request alone is pending, it can only be meant for that one.
    fn find(&self, subject: &[u8]) -> Option<u64> {
        if let Some(key) = self.key(subject) {
            return Some(key);
        }
        let is_ours = subject.starts_with(self.inbox.as_ref()?.as_bytes());
        let mut pending = self.table.iter().map(|(key, _)| key);
        let alone = pending.next()?;
        (!is_ours && pending.next().is_none()).then_some(alone)
    }

    /// The key in a reply subject of ours.
    fn key(&self, subject: &[u8]) -> Option<u64> {
        let inbox = self.inbox.as_ref()?.as_bytes();
        let token = subject.strip_prefix(inbox)?.strip_prefix(b".")?;
        std::str::from_utf8(token).ok()?.parse().ok()
    }

    /// The server refused a message: fails the oldest request that it can be, if there is one.
    pub(super) fn refuse(&mut self, subject: &[u8], refusal: Refusal) {
        let key = if refusal.kind == RefusalKind::Reply {
            self.key(subject)
        } else {
            let alike = self.table.iter();
            let alike = alike.filter(|(_, pending)| pending.subject.as_bytes() == subject);
            let oldest = alike.min_by_key(|(_, pending)| pending.number);
            oldest.map(|(key, _)| key)
        };
        if let Some(key) = key {
            self.fail(key, &EndReason::Refused(Arc::new(refusal)));
        }
    }

    /// The server does not let us have the inbox: nobody would be answered.
    pub(super) fn refuse_all(&mut self, refusal: Refusal) {
        self.inbox = None;
        let reason = EndReason::Refused(Arc::new(refusal));
        for key in self.table.keys() {
            self.fail(key, &reason);
        }
    }

    /// The connection is gone; most requests go on waiting.
    pub(super) fn handle_disconnected(&mut self) {
        let failing = self.table.iter();
        let failing = failing.filter(|(_, pending)| pending.fails_at_disconnect);
        let keys: Vec<u64> = failing.map(|(key, _)| key).collect();
        for key in keys {
            self.fail(key, &EndReason::Disconnected);
        }
    }

    /// Ends every request: nobody will answer.
    pub(super) fn end_all(&mut self) {
        for key in self.table.keys() {
            if let Some(pending) = self.table.remove(key)
                && let Sink::Many(mailbox) = pending.sink
            {
                mailbox.end();
            }
        }
    }

    fn fail(&mut self, key: u64, reason: &EndReason) {
        match self.table.get(key).map(|pending| &pending.sink) {
            Some(Sink::Many(mailbox)) => {
                mailbox.end_because(reason.clone());
                self.table.remove(key);
            }
            Some(Sink::One(_)) => self.finish(key, Err(reason.clone().into())),
            None => {}
        }
    }

    fn finish(&mut self, key: u64, answer: Answer) {
        if let Some(Pending {
            sink: Sink::One(sink),
            ..
        }) = self.table.remove(key)
        {
            // A requester that gave up does not care.
            let _ = sink.send(answer);
        }
    }
}

impl From<EndReason> for Error {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Disconnected => Self::new(ErrorKind::Disconnected),
            EndReason::Refused(refusal) => refusal.as_ref().clone().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::wire::{Limits, Parser, Step};

    use super::*;

    fn message(subject: &str) -> Message {
        let bytes = format!("MSG {subject} 1 1\r\nx\r\n").into_bytes();
        let mut parser = Parser::of_server(Limits::SERVER_OPS);
        let Ok(Step::Frame(frame)) = parser.next(&bytes) else {
            panic!("it is a message");
        };
        frame.message(Bytes::from(bytes))
    }

    fn pending() -> PendingRequests {
        let mut pending = PendingRequests::new();
        pending.set_inbox("_INBOX.x".into());
        pending
    }

    fn open(pending: &mut PendingRequests) -> (u64, String, oneshot::Receiver<Answer>) {
        let (answered, answer) = oneshot::channel();
        let (key, reply) = pending.open("a", false, Sink::One(answered)).unwrap();
        (key, reply, answer)
    }

    #[test]
    fn a_late_answer_does_not_reach_whoever_has_the_slot_now() {
        let mut pending = pending();
        let (key, late, _) = open(&mut pending);
        pending.close(key);
        let (_, reply, mut answer) = open(&mut pending);
        assert_ne!(late, reply);
        pending.answer(message(&late));
        assert!(answer.try_recv().is_err(), "it was not asked for");
        pending.answer(message(&reply));
        assert!(answer.try_recv().unwrap().is_ok());
        assert_eq!(pending.len(), 0);
        pending.answer(message(&reply));
    }

    #[test]
    fn an_answer_to_a_rewritten_subject_goes_to_the_only_one_who_asked() {
        let mut pending = pending();
        pending.answer(message("mapped"));
        let (_, _, mut answer) = open(&mut pending);
        pending.answer(message("_INBOX.x.77"));
        pending.answer(message("_INBOX.x.y"));
        assert!(answer.try_recv().is_err(), "it names another request");
        pending.answer(message("mapped"));
        assert!(answer.try_recv().unwrap().is_ok());
        let (_, _, mut one) = open(&mut pending);
        let (_, _, mut two) = open(&mut pending);
        pending.answer(message("mapped"));
        assert!(one.try_recv().is_err() && two.try_recv().is_err());
        assert_eq!(pending.len(), 2);
    }
}
