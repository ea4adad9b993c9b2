//! Requests that wait for answers, on the connection's one inbox or on their own.
//!
//! ```text
//!   _INBOX.<22 random characters>.<key>      the key is a slot and its generation: never used twice
//! ```
//!
//! What comes to an inbox of the request's own does not pass here: only its failures do.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::decimal;
use crate::session::{Refusal, RefusalKind, Slots};
use crate::wire::Message;

use super::error::{Error, ErrorKind};
use super::mailbox::{EndReason, Mailbox};

/// What a request that has one answer waits for.
pub(super) type Answer = Result<Message, Error>;

/// A dot and a key.
const KEY_BYTES_MAX: usize = 21;

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
    /// The reply subject, if it is not on the connection's inbox.
    own_inbox: Option<Box<str>>,
    sink: Sink,
}

/// Where answers go.
#[derive(Debug)]
pub(super) enum Sink {
    /// The first one ends the request.
    One(oneshot::Sender<Answer>),
    /// A mailbox, and its key.
    Many(Arc<Mailbox>, u64),
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
        let mut reply = Vec::with_capacity(inbox.len().saturating_add(KEY_BYTES_MAX));
        reply.extend_from_slice(inbox.as_bytes());
        let key = self.add(subject, fails_at_disconnect, None, sink)?;
        reply.push(b'.');
        decimal::write(&mut reply, key);
        Some((key, String::from_utf8(reply).ok()?))
    }

    /// Adds a request whose answers come to `own_inbox`; returns its key. `None` when 2^32 requests
    /// are alive.
    pub(super) fn open_own(
        &mut self,
        subject: &str,
        fails_at_disconnect: bool,
        own_inbox: &str,
        sink: Sink,
    ) -> Option<u64> {
        self.add(subject, fails_at_disconnect, Some(own_inbox.into()), sink)
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

    /// Gives a message to the request that it answers, or back with the key of the mailbox that it
    /// is for.
    pub(super) fn answer(&mut self, message: Message) -> Option<(u64, Message)> {
        let key = self.find(message.subject())?;
        match &self.table.get(key)?.sink {
            Sink::Many(_, mailbox) => return Some((*mailbox, message)),
            Sink::One(_) => self.finish(key, Ok(message)),
        }
        None
    }

    /// A server that maps subjects may deliver an answer to another subject than was asked for: where
    /// one request alone is pending, it can only be meant for that one.
    fn find(&self, subject: &[u8]) -> Option<u64> {
        if let Some(key) = self.key(subject) {
            return Some(key);
        }
        let is_ours = subject.starts_with(self.inbox.as_ref()?.as_bytes());
        let mut pending = self.on_shared_inbox();
        let alone = pending.next()?;
        (!is_ours && pending.next().is_none()).then_some(alone)
    }

    /// The key in a reply subject of ours.
    fn key(&self, subject: &[u8]) -> Option<u64> {
        let inbox = self.inbox.as_ref()?.as_bytes();
        let token = subject.strip_prefix(inbox)?.strip_prefix(b".")?;
        let key = decimal::read(token)?;
        let pending = self.table.get(key)?;
        pending.own_inbox.is_none().then_some(key)
    }

    fn on_shared_inbox(&self) -> impl Iterator<Item = u64> {
        let pending = self.table.iter();
        let pending = pending.filter(|(_, pending)| pending.own_inbox.is_none());
        pending.map(|(key, _)| key)
    }

    /// The server refused a message: fails the oldest request that it can be, if there is one.
    /// Returns the key of the mailbox that ends with it.
    pub(super) fn refuse(&mut self, subject: &[u8], refusal: Refusal) -> Option<u64> {
        let key = if refusal.kind == RefusalKind::Reply {
            self.key(subject).or_else(|| self.own_key(subject))
        } else {
            let alike = self.table.iter();
            let alike = alike.filter(|(_, pending)| pending.subject.as_bytes() == subject);
            let oldest = alike.min_by_key(|(_, pending)| pending.number);
            oldest.map(|(key, _)| key)
        };
        self.fail(key?, &EndReason::Refused(Arc::new(refusal)))
    }

    /// The request whose own inbox this is.
    fn own_key(&self, subject: &[u8]) -> Option<u64> {
        let mut pending = self.table.iter();
        let is_meant = |inbox: &str| inbox.as_bytes() == subject;
        let meant = pending.find(|(_, pending)| pending.own_inbox.as_deref().is_some_and(is_meant));
        meant.map(|(key, _)| key)
    }

    /// The server does not let us have the inbox: nobody would be answered there. Returns the keys
    /// of the mailboxes that end.
    pub(super) fn refuse_all(&mut self, refusal: Refusal) -> Vec<u64> {
        self.inbox = None;
        let reason = EndReason::Refused(Arc::new(refusal));
        let keys: Vec<u64> = self.on_shared_inbox().collect();
        self.fail_each(keys, &reason)
    }

    /// The connection is gone; most requests go on waiting. Returns the keys of the mailboxes that
    /// end.
    pub(super) fn handle_disconnected(&mut self) -> Vec<u64> {
        let failing = self.table.iter();
        let failing = failing.filter(|(_, pending)| pending.fails_at_disconnect);
        let keys: Vec<u64> = failing.map(|(key, _)| key).collect();
        self.fail_each(keys, &EndReason::Disconnected)
    }

    /// Ends every request, since nobody will answer; mailboxes end by themselves.
    pub(super) fn end_all(&mut self) {
        for key in self.table.keys() {
            self.table.remove(key);
        }
    }

    fn add(
        &mut self,
        subject: &str,
        fails_at_disconnect: bool,
        own_inbox: Option<Box<str>>,
        sink: Sink,
    ) -> Option<u64> {
        self.opened = self.opened.saturating_add(1);
        self.table.insert(Pending {
            subject: subject.into(),
            number: self.opened,
            fails_at_disconnect,
            own_inbox,
            sink,
        })
    }

    fn fail_each(&mut self, keys: Vec<u64>, reason: &EndReason) -> Vec<u64> {
        let failed = keys.into_iter().map(|key| self.fail(key, reason));
        failed.flatten().collect()
    }

    fn fail(&mut self, key: u64, reason: &EndReason) -> Option<u64> {
        match &self.table.get(key)?.sink {
            Sink::Many(mailbox, mailbox_key) => {
                let mailbox_key = *mailbox_key;
                mailbox.note_reason(reason.clone());
                self.table.remove(key);
                return Some(mailbox_key);
            }
            Sink::One(_) => self.finish(key, Err(reason.clone().into())),
        }
        None
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
