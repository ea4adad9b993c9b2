//! Requests that wait for answers, on the connection's one inbox or on their own.
//!
//! ```text
//!   _INBOX.<22 random characters>.<key>      the key is a slot and its generation: never used twice
//! ```
//!
//! What comes to an inbox of the request's own does not pass here: only its failures do.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::decimal;
use crate::session::{Refusal, RefusalKind, Slots};
use crate::wire::Message;

use super::error::{Error, ErrorKind};
use super::mailbox::{EndReason, Mailbox};

/// What a request that has one answer waits for.
pub(super) type Answer = Result<Message, Error>;

/// Texts of subjects whose memory the next requests use again.
const SPARE_SUBJECTS_MAX: usize = 1_024;

/// Requests whose time is looked at in a millisecond at most: beyond that many, timeouts are late by
/// as much.
const LOOKED_AT_PER_MILLISECOND: u64 = 10_000;

#[derive(Debug)]
pub(super) struct PendingRequests {
    table: Slots<Pending>,
    /// What reply subjects begin with, up to the last dot; `None` before the first request.
    inbox: Option<Inbox>,
    /// Requests so far, which tells how old one is.
    opened: u64,
    /// Requests whose outcome their requester has yet to take.
    untaken: usize,
    /// Answers since they were counted.
    answered: usize,
    /// No request is due before.
    due: Option<Duration>,
    spare_subjects: Vec<String>,
}

/// A reply subject of ours as text.
pub(super) fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).into_owned()
}

/// The connection's inbox.
#[derive(Debug)]
struct Inbox {
    /// It, a dot, and the key of the last request.
    reply: Vec<u8>,
    /// Bytes up to the key.
    len: usize,
}

#[derive(Debug)]
struct Pending {
    subject: String,
    number: u64,
    fails_at_disconnect: bool,
    /// The reply subject, if it is not on the connection's inbox.
    own_inbox: Option<Box<str>>,
    sink: Sink,
}

/// Where answers go.
#[derive(Debug)]
pub(super) enum Sink {
    /// Here: the requester takes the first one.
    One(Outcome),
    /// A mailbox, and its key.
    Many(Arc<Mailbox>, u64),
}

/// What became of a request that has one answer.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing yet: who is to be woken, and when it has taken too long.
    Open {
        waker: Waker,
        due: Duration,
    },
    Known(Answer),
}

impl PendingRequests {
    pub(super) const fn new() -> Self {
        Self {
            table: Slots::new(0),
            inbox: None,
            opened: 0,
            untaken: 0,
            answered: 0,
            due: None,
            spare_subjects: Vec::new(),
        }
    }

    /// Adds a request; returns its key. `None` when 2^32 requests are alive.
    pub(super) fn open(
        &mut self,
        subject: &str,
        fails_at_disconnect: bool,
        sink: Sink,
    ) -> Option<u64> {
        self.add(subject, fails_at_disconnect, None, sink)
    }

    /// The reply subject of a request on the connection's inbox; `None` without an inbox.
    pub(super) fn reply(&mut self, key: u64) -> Option<&[u8]> {
        let Inbox { reply, len } = self.inbox.as_mut()?;
        reply.truncate(*len);
        decimal::write(reply, key);
        Some(reply)
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

    /// Takes the outcome of a request that has one answer, or has `cx` woken when there is one.
    pub(super) fn poll_take(&mut self, key: u64, cx: &Context<'_>) -> Poll<Answer> {
        let Some(Pending {
            sink: Sink::One(outcome),
            ..
        }) = self.table.get_mut(key)
        else {
            return Poll::Ready(Err(Error::new(ErrorKind::Closed)));
        };
        if let Outcome::Open { waker, .. } = outcome {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        match self.close(key) {
            Some(Sink::One(Outcome::Known(answer))) => Poll::Ready(answer),
            _ => Poll::Ready(Err(Error::new(ErrorKind::Closed))),
        }
    }

    /// Forgets a request; a late answer to it is dropped.
    pub(super) fn close(&mut self, key: u64) -> Option<Sink> {
        let Pending { subject, sink, .. } = self.table.remove(key)?;
        if matches!(sink, Sink::One(Outcome::Known(_))) {
            self.untaken = self.untaken.saturating_sub(1);
        }
        if self.spare_subjects.len() < SPARE_SUBJECTS_MAX {
            self.spare_subjects.push(subject);
        }
        Some(sink)
    }

    pub(super) const fn has_inbox(&self) -> bool {
        self.inbox.is_some()
    }

    pub(super) fn set_inbox(&mut self, inbox: String) {
        let reply = (inbox + ".").into_bytes();
        let len = reply.len();
        self.inbox = Some(Inbox { reply, len });
    }

    /// Requests that wait.
    pub(super) const fn len(&self) -> usize {
        self.table.len().saturating_sub(self.untaken)
    }

    /// How many were answered since this was asked last.
    pub(super) fn take_answered(&mut self) -> usize {
        std::mem::take(&mut self.answered)
    }

    /// When [`PendingRequests::handle_timeout`] is to be called.
    pub(super) const fn poll_timeout(&self) -> Option<Duration> {
        self.due
    }

    /// Fails the requests that have taken too long.
    ///
    /// Most are answered long before, so nothing is kept in order for them: all are looked at when the
    /// first that was asked since the last look would be due.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let mut next_due: Option<Duration> = None;
        let mut late = 0_usize;
        for (_, pending) in self.table.iter_mut() {
            let Sink::One(outcome) = &mut pending.sink else {
                continue;
            };
            let Outcome::Open { due, .. } = outcome else {
                continue;
            };
            if *due <= now {
                outcome.settle(Err(Error::new(ErrorKind::Timeout)));
                late = late.saturating_add(1);
            } else {
                next_due = Some(next_due.map_or(*due, |next| next.min(*due)));
            }
        }
        self.untaken = self.untaken.saturating_add(late);
        let pause = u64::try_from(self.table.len()).unwrap_or(u64::MAX) / LOOKED_AT_PER_MILLISECOND;
        let earliest = now.saturating_add(Duration::from_millis(pause));
        self.due = next_due.map(|due| due.max(earliest));
    }

    /// Gives a message to the request that it answers, or back with the key of the mailbox that it
    /// is for.
    pub(super) fn answer(&mut self, message: Message) -> Option<(u64, Message)> {
        let key = self.find(message.subject())?;
        match &mut self.table.get_mut(key)?.sink {
            Sink::Many(_, mailbox) => return Some((*mailbox, message)),
            Sink::One(outcome) => {
                let is_first = usize::from(outcome.settle(Ok(message)));
                self.untaken = self.untaken.saturating_add(is_first);
                self.answered = self.answered.saturating_add(is_first);
            }
        }
        None
    }

    /// A server that maps subjects may deliver an answer to another subject than was asked for: where
    /// one request alone is pending, it can only be meant for that one.
    fn find(&self, subject: &[u8]) -> Option<u64> {
        if let Some(key) = self.key(subject) {
            return Some(key);
        }
        let is_ours = subject.starts_with(self.inbox.as_ref()?.prefix());
        let mut pending = self.on_shared_inbox();
        let alone = pending.next()?;
        (!is_ours && pending.next().is_none()).then_some(alone)
    }

    /// The key in a reply subject of ours.
    fn key(&self, subject: &[u8]) -> Option<u64> {
        let token = subject.strip_prefix(self.inbox.as_ref()?.prefix())?;
        let key = decimal::read(token)?;
        let pending = self.table.get(key)?;
        pending.own_inbox.is_none().then_some(key)
    }

    fn on_shared_inbox(&self) -> impl Iterator<Item = u64> {
        let pending = self.waiting();
        let pending = pending.filter(|(_, pending)| pending.own_inbox.is_none());
        pending.map(|(key, _)| key)
    }

    /// Requests without an outcome.
    fn waiting(&self) -> impl Iterator<Item = (u64, &Pending)> {
        let pending = self.table.iter();
        pending.filter(|(_, pending)| !matches!(pending.sink, Sink::One(Outcome::Known(_))))
    }

    /// The server refused a message: fails the oldest request that it can be, if there is one.
    /// Returns the key of the mailbox that ends with it.
    pub(super) fn refuse(&mut self, subject: &[u8], refusal: Refusal) -> Option<u64> {
        let key = if refusal.kind == RefusalKind::Reply {
            self.key(subject).or_else(|| self.own_key(subject))
        } else {
            let alike = self.waiting();
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
            match self.table.get(key).map(|pending| &pending.sink) {
                Some(Sink::One(_)) => self.settle(key, Err(Error::new(ErrorKind::Closed))),
                Some(Sink::Many(..)) | None => drop(self.close(key)),
            }
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
        if let Sink::One(Outcome::Open { due, .. }) = sink {
            self.due = Some(self.due.map_or(due, |first| first.min(due)));
        }
        let mut text = self.spare_subjects.pop().unwrap_or_default();
        text.clear();
        text.push_str(subject);
        self.table.insert(Pending {
            subject: text,
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
                self.close(key);
                return Some(mailbox_key);
            }
            Sink::One(_) => self.settle(key, Err(reason.clone().into())),
        }
        None
    }

    fn settle(&mut self, key: u64, answer: Answer) {
        if let Some(Pending {
            sink: Sink::One(outcome),
            ..
        }) = self.table.get_mut(key)
        {
            let is_first = outcome.settle(answer);
            self.untaken = self.untaken.saturating_add(usize::from(is_first));
        }
    }
}

impl Inbox {
    /// What every reply subject begins with.
    fn prefix(&self) -> &[u8] {
        self.reply.get(..self.len).unwrap_or_default()
    }
}

impl Outcome {
    /// Wakes who waits. Returns false when another outcome was first.
    fn settle(&mut self, answer: Answer) -> bool {
        if matches!(self, Self::Known(_)) {
            return false;
        }
        if let Self::Open { waker, .. } = std::mem::replace(self, Self::Known(answer)) {
            waker.wake();
        }
        true
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

    fn refusal() -> Refusal {
        Refusal {
            kind: RefusalKind::Publish,
            subject: "a".into(),
            queue_group: None,
            sid: None,
            text: String::new(),
        }
    }

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

    fn ask(pending: &mut PendingRequests, due: u64) -> (u64, String) {
        let waker = Waker::noop().clone();
        let due = Duration::from_millis(due);
        let sink = Sink::One(Outcome::Open { waker, due });
        let key = pending.open("a", false, sink).unwrap();
        (key, text(pending.reply(key).unwrap()))
    }

    fn taken(pending: &mut PendingRequests, key: u64) -> Option<Result<Message, ErrorKind>> {
        match pending.poll_take(key, &Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer.map_err(|error| error.kind())),
            Poll::Pending => None,
        }
    }

    fn is_answered(pending: &mut PendingRequests, key: u64) -> bool {
        taken(pending, key).is_some_and(|answer| answer.is_ok())
    }

    #[test]
    fn a_late_answer_does_not_reach_whoever_has_the_slot_now() {
        let mut pending = pending();
        let (key, late) = ask(&mut pending, 1);
        pending.close(key);
        let (key, reply) = ask(&mut pending, 1);
        assert_ne!(late, reply);
        pending.answer(message(&late));
        assert!(!is_answered(&mut pending, key), "it was not asked for");
        pending.answer(message(&reply));
        assert_eq!(pending.len(), 0);
        pending.answer(message(&reply));
        assert!(is_answered(&mut pending, key));
        assert_eq!(pending.len(), 0);
        pending.answer(message(&reply));
    }

    #[test]
    fn an_answer_to_a_rewritten_subject_goes_to_the_only_one_who_asked() {
        let mut pending = pending();
        pending.answer(message("mapped"));
        let (key, _) = ask(&mut pending, 1);
        pending.answer(message("_INBOX.x.77"));
        pending.answer(message("_INBOX.x.y"));
        assert!(!is_answered(&mut pending, key), "it names another request");
        pending.answer(message("mapped"));
        let (one, _) = ask(&mut pending, 1);
        pending.answer(message("mapped"));
        assert!(is_answered(&mut pending, key) && is_answered(&mut pending, one));
        let (one, _) = ask(&mut pending, 1);
        let (two, _) = ask(&mut pending, 1);
        pending.answer(message("mapped"));
        assert!(!is_answered(&mut pending, one) && !is_answered(&mut pending, two));
        assert_eq!(pending.len(), 2);
    }

    #[test]
    fn each_request_fails_when_it_is_due_and_not_before() {
        let mut pending = pending();
        let at = Duration::from_millis;
        let asked = [30, 10, 20, 10].map(|due| (due, ask(&mut pending, due).0));
        let (answered, reply) = ask(&mut pending, 5);
        pending.answer(message(&reply));
        for now in 0..40 {
            if pending.poll_timeout().is_some_and(|due| due <= at(now)) {
                pending.handle_timeout(at(now));
            }
            for (due, key) in asked {
                match taken(&mut pending, key) {
                    Some(Err(ErrorKind::Timeout)) => assert_eq!(now, due),
                    Some(Err(kind)) => assert!(kind == ErrorKind::Closed && now > due),
                    Some(Ok(_)) => panic!("nobody answered"),
                    None => assert!(now < due, "{due} at {now}"),
                }
            }
        }
        assert_eq!(pending.poll_timeout(), None);
        assert!(is_answered(&mut pending, answered));
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn so_many_requests_that_looking_at_them_takes_long_are_looked_at_less_often() {
        let mut pending = pending();
        for due in 1..=2 * LOOKED_AT_PER_MILLISECOND {
            ask(&mut pending, due);
        }
        pending.handle_timeout(Duration::from_millis(1));
        assert_eq!(pending.poll_timeout(), Some(Duration::from_millis(3)));
    }

    #[test]
    fn a_request_that_was_answered_is_not_the_one_that_the_server_refuses() {
        let mut pending = pending();
        let (answered, reply) = ask(&mut pending, 1);
        let (refused, _) = ask(&mut pending, 1);
        pending.answer(message(&reply));
        pending.refuse(b"a", refusal());
        assert!(is_answered(&mut pending, answered));
        let refused = taken(&mut pending, refused);
        assert_eq!(refused.unwrap().err(), Some(ErrorKind::PermissionDenied));
    }

    #[test]
    fn the_end_leaves_an_answer_that_came_before() {
        let mut pending = pending();
        let (answered, reply) = ask(&mut pending, 1);
        let (open, _) = ask(&mut pending, 1);
        pending.answer(message(&reply));
        pending.end_all();
        assert!(is_answered(&mut pending, answered));
        let ended = taken(&mut pending, open).unwrap();
        assert_eq!(ended.err(), Some(ErrorKind::Closed));
    }
}
