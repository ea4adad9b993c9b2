//! What is to be written to the server, in order, within bounds.
//!
//! ```text
//!   PONGs | resubscriptions | published frames, with SUB, UNSUB, PING and large payloads between
//! ```
//!
//! Published frames outlive a connection that ends before they were taken; everything else is made
//! anew for the next one. Never reads a clock, never writes by itself.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::encode::Publish;

use super::frames::Frames;
use super::sifting::sift;
use super::write_batch::{Insert, Piece, WriteBatch};

/// Payloads of at least this many bytes are queued by reference instead of copied.
///
/// Below it the copy is cheaper than another entry in a vectored write.
pub const SHARED_PAYLOAD_BYTES_MIN: usize = 16_384;

/// PONGs in one batch; a server that does not read what it asks for makes us hold no more.
const PONGS_MAX: usize = 1_024;

/// SUB and UNSUB lines that may wait for a server that does not read, in bytes: as much as servers
/// let wait for a client.
const LINE_BYTES_MAX: usize = 64 << 20;

/// The most that servers read as the length of a message: nine digits.
const BODY_BYTES_MAX: usize = 999_999_999;

const PONG: &[u8] = b"PONG\r\n";

/// Bounds of an [`Outbox`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes that may wait while a connection is up. Default 1 MiB: large enough to gather
    /// writes, small enough to stay in the processor's cache.
    pub connected_bytes_max: usize,
    /// Bytes that may wait while there is no connection. Default 8 MiB.
    pub pending_bytes_max: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            connected_bytes_max: 1 << 20,
            pending_bytes_max: 8 << 20,
        }
    }
}

/// Why nothing was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutboxError {
    /// There is no room.
    Full {
        /// Bytes that wait already.
        waiting_bytes: usize,
        /// The bound in force.
        bytes_max: usize,
    },
    /// The server takes smaller messages.
    TooLarge {
        /// Bytes of headers and payload.
        found: usize,
        /// The bound in force.
        max: usize,
    },
    /// The session has ended.
    Ended,
}

/// Frames on their way to the server.
#[derive(Debug)]
pub struct Outbox {
    is_open: bool,
    is_suspended: bool,
    is_ended: bool,
    pongs: usize,
    replay: Vec<u8>,
    frames: Frames,
    inserts: Vec<Insert>,
    line_bytes: usize,
    shared_bytes: usize,
    /// Headers and payload of the largest message that waits, or more than that.
    largest_bytes: usize,
    /// Headers and payload that the server takes in one message.
    body_bytes_max: usize,
    limits: OutboxLimits,
    published_messages: u64,
    /// Messages that were published and dropped again; not among the former.
    left_out_messages: u64,
    published_bytes: u64,
    taken_messages: u64,
    confirmed_messages: u64,
    pings_sent: u64,
    pings_answered: u64,
    /// PINGs that were not taken: no answer can be theirs.
    pings_waiting: usize,
    watermarks: VecDeque<u64>,
}

impl Outbox {
    /// Makes an empty outbox without a connection.
    #[must_use]
    pub const fn new(limits: OutboxLimits) -> Self {
        Self {
            is_open: false,
            is_suspended: false,
            is_ended: false,
            pongs: 0,
            replay: Vec::new(),
            frames: Frames::new(),
            inserts: Vec::new(),
            line_bytes: 0,
            shared_bytes: 0,
            largest_bytes: 0,
            body_bytes_max: BODY_BYTES_MAX,
            limits,
            published_messages: 0,
            left_out_messages: 0,
            published_bytes: 0,
            taken_messages: 0,
            confirmed_messages: 0,
            pings_sent: 0,
            pings_answered: 0,
            pings_waiting: 0,
            watermarks: VecDeque::new(),
        }
    }

    /// Queues a message. With `shared`, which must be the same bytes, the payload is kept by
    /// reference; without, it is copied.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Full`] when the bytes that wait have reached the bound; a single message may
    /// overshoot it, so that one larger than the bound can be sent at all. [`OutboxError::TooLarge`]
    /// when the server would not take it. [`OutboxError::Ended`] once the session has told how many
    /// messages it discards.
    #[inline]
    pub fn publish(
        &mut self,
        message: &Publish<'_>,
        shared: Option<&Bytes>,
    ) -> Result<(), OutboxError> {
        self.check_room()?;
        let (found, max) = (message.body_len(), self.body_bytes_max);
        if found > max {
            return Err(OutboxError::TooLarge { found, max });
        }
        self.push(message, shared);
        Ok(())
    }

    /// [`Outbox::publish`] beyond the bound: for what was promised room, and for small control
    /// messages.
    #[inline]
    pub(crate) fn push(&mut self, message: &Publish<'_>, shared: Option<&Bytes>) {
        debug_assert!(!self.is_ended, "nobody would hear of it");
        match shared {
            None => self.frames.push(message),
            Some(payload) => {
                self.frames.push_head(message);
                self.shared_bytes = self.shared_bytes.saturating_add(payload.len());
                self.inserts.push(Insert {
                    at: self.frames.len(),
                    piece: Piece::Payload(payload.clone()),
                });
                self.frames.end_frame();
            }
        }
        self.count(message);
    }

    /// Says whether there is room for a message now.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Full`] and [`OutboxError::Ended`], as [`Outbox::publish`].
    #[inline]
    pub const fn check_room(&self) -> Result<(), OutboxError> {
        if self.is_ended {
            return Err(OutboxError::Ended);
        }
        let waiting_bytes = self.waiting_bytes();
        let bytes_max = if self.is_open {
            self.limits.connected_bytes_max
        } else {
            self.limits.pending_bytes_max
        };
        if waiting_bytes >= bytes_max {
            return Err(OutboxError::Full {
                waiting_bytes,
                bytes_max,
            });
        }
        Ok(())
    }

    /// Says whether there is room for another SUB, or for an UNSUB with a maximum. For those that end a
    /// subscription there always is: each has one.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Full`] when [`LINE_BYTES_MAX`] wait already.
    pub(crate) const fn check_lines(&self) -> Result<(), OutboxError> {
        if self.line_bytes >= LINE_BYTES_MAX {
            return Err(OutboxError::Full {
                waiting_bytes: self.line_bytes,
                bytes_max: LINE_BYTES_MAX,
            });
        }
        Ok(())
    }

    /// Queues a SUB or UNSUB line behind what was published before it.
    ///
    /// Without a connection nothing is queued: the table of subscriptions is replayed on the next.
    pub fn line(&mut self, line: Vec<u8>) {
        if self.is_open && !line.is_empty() {
            self.insert_line(line);
        }
    }

    /// Queues a PING behind everything before it and returns its number; `None` without a connection.
    ///
    /// One that waits with nothing behind it serves again.
    pub fn ping(&mut self) -> Option<u64> {
        if !self.is_open {
            return None;
        }
        let at = self.frames.len();
        if let Some(Insert {
            at: last_at,
            piece: Piece::Ping,
        }) = self.inserts.last()
            && *last_at == at
        {
            return Some(self.pings_sent);
        }
        self.inserts.push(Insert {
            at,
            piece: Piece::Ping,
        });
        self.watermarks.push_back(self.published_messages);
        self.pings_waiting = self.pings_waiting.saturating_add(1);
        self.pings_sent = self.pings_sent.saturating_add(1);
        Some(self.pings_sent)
    }

    /// Queues a PONG ahead of everything else.
    pub const fn pong(&mut self) {
        if self.is_open {
            self.pongs = self.pongs.saturating_add(1);
        }
    }

    /// Takes a PONG from the server: what was published before its PING has arrived.
    ///
    /// Returns the number of the PING that it answers; `None` when none that was taken is unanswered.
    pub fn handle_pong(&mut self) -> Option<u64> {
        if self.pings_taken() == 0 {
            return None;
        }
        self.settle_ping()
    }

    /// PINGs that were taken and have no answer yet.
    fn pings_taken(&self) -> usize {
        self.watermarks.len().saturating_sub(self.pings_waiting)
    }

    fn settle_ping(&mut self) -> Option<u64> {
        self.confirmed_messages = self.watermarks.pop_front()?;
        self.pings_answered = self.pings_answered.saturating_add(1);
        Some(self.pings_answered)
    }

    /// A connection is up; `replay` (the resubscriptions) goes out before what waits.
    pub fn open(&mut self, replay: Vec<u8>) {
        self.replay = replay;
        self.is_open = true;
    }

    /// Another connection is to take over: nothing is taken until [`Outbox::resume`].
    ///
    /// Returns how many PINGs were taken and are unanswered.
    pub(crate) fn suspend(&mut self) -> usize {
        self.is_suspended = true;
        self.pings_taken()
    }

    /// Takes the PONGs that wait, for a link that is being left: the next server did not ask.
    pub(crate) fn take_pongs(&mut self) -> usize {
        std::mem::take(&mut self.pongs).min(PONGS_MAX)
    }

    /// Takes the SUB and UNSUB lines that wait: the next server begins with the whole table.
    pub(crate) fn take_lines(&mut self) -> Vec<u8> {
        self.line_bytes = 0;
        let mut taken = std::mem::take(&mut self.replay);
        self.inserts.retain(|insert| {
            let Piece::Lines(lines) = &insert.piece else {
                return true;
            };
            taken.extend_from_slice(lines);
            false
        });
        taken
    }

    /// Whether another connection is to take over and does not take yet.
    pub(crate) const fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    /// The other connection takes what waits from now on. Everything taken before has arrived,
    /// or so it is counted: returns how many messages were taken but never confirmed.
    ///
    /// The first `pings` unanswered PINGs are given up; with messages in doubt all that wait are,
    /// since their answers would say that the messages have arrived.
    pub(crate) fn resume(&mut self, pings: usize) -> u64 {
        self.is_suspended = false;
        let in_doubt = self.taken_messages.saturating_sub(self.confirmed_messages);
        let given_up = if in_doubt > 0 {
            self.inserts
                .retain(|insert| !matches!(insert.piece, Piece::Ping));
            self.pings_waiting = 0;
            self.watermarks.len()
        } else {
            pings
        };
        for _ in 0..given_up {
            self.settle_ping();
        }
        self.confirmed_messages = self.taken_messages;
        in_doubt
    }

    /// The other connection takes what waits from now on, and everything taken before has arrived.
    pub(crate) const fn resume_confirmed(&mut self) {
        self.is_suspended = false;
        self.confirmed_messages = self.taken_messages;
    }

    /// The server takes messages with so many bytes of headers and payload. Drops those that wait and
    /// are larger, since one of them would end the connection; returns how many.
    pub(crate) fn limit_bodies(&mut self, bytes_max: usize) -> u64 {
        let bytes_max = bytes_max.min(BODY_BYTES_MAX);
        self.body_bytes_max = bytes_max;
        if self.largest_bytes <= bytes_max {
            return 0;
        }
        let inserts = std::mem::take(&mut self.inserts);
        let sifted = sift(self.frames.as_bytes(), inserts, bytes_max);
        self.frames.replace(sifted.frames);
        self.inserts = sifted.inserts;
        self.shared_bytes = sifted.shared_bytes;
        self.largest_bytes = bytes_max;
        let waiting = self.watermarks.iter_mut().rev();
        for (mark, left_out) in waiting.zip(sifted.left_out_before_pings.iter().rev()) {
            *mark = mark.saturating_sub(*left_out);
        }
        self.published_messages = self.published_messages.saturating_sub(sifted.left_out);
        self.left_out_messages = self.left_out_messages.saturating_add(sifted.left_out);
        sifted.left_out
    }

    /// The connection is gone. Returns how many messages were taken but never confirmed.
    ///
    /// Frames that were not taken stay for the next connection.
    pub fn close(&mut self) -> u64 {
        self.is_open = false;
        self.is_suspended = false;
        self.pongs = 0;
        self.replay.clear();
        self.line_bytes = 0;
        self.inserts
            .retain(|insert| matches!(insert.piece, Piece::Payload(_)));
        self.watermarks.clear();
        self.pings_waiting = 0;
        self.pings_answered = self.pings_sent;
        let in_doubt = self.taken_messages.saturating_sub(self.confirmed_messages);
        self.confirmed_messages = self.taken_messages;
        in_doubt
    }

    /// No connection will be up again, and nothing is queued any more. Returns how many messages
    /// were queued and never taken; they are dropped.
    pub(crate) fn end(&mut self) -> u64 {
        self.is_ended = true;
        self.frames.replace(Vec::new());
        self.inserts = Vec::new();
        self.shared_bytes = 0;
        self.largest_bytes = 0;
        self.waiting_messages()
    }

    /// Moves everything that waits into `batch`, which must be finished; of many PONGs a part.
    ///
    /// Returns false when there is nothing to write.
    pub fn take(&mut self, batch: &mut WriteBatch) -> bool {
        if !self.can_take() {
            return false;
        }
        batch.clear();
        let pongs = self.pongs.min(PONGS_MAX);
        for _ in 0..pongs {
            batch.head.extend_from_slice(PONG);
        }
        self.pongs = self.pongs.saturating_sub(pongs);
        if batch.head.is_empty() {
            batch.head = std::mem::take(&mut self.replay);
        } else {
            batch.head.append(&mut self.replay);
        }
        batch.frames = self.frames.replace(std::mem::take(&mut batch.frames));
        std::mem::swap(&mut batch.inserts, &mut self.inserts);
        self.line_bytes = 0;
        self.shared_bytes = 0;
        self.pings_waiting = 0;
        self.largest_bytes = 0;
        self.taken_messages = self.published_messages;
        true
    }

    /// Returns true when [`Outbox::take`] has something to give.
    #[must_use]
    pub const fn can_take(&self) -> bool {
        self.is_open && !self.is_suspended && !self.is_empty()
    }

    /// [`Outbox::take`] for the last time: what waits for another connection goes, too.
    pub(crate) fn take_last(&mut self, batch: &mut WriteBatch) {
        self.is_suspended = false;
        self.take(batch);
    }

    /// Returns true when nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pongs == 0
            && self.replay.is_empty()
            && self.frames.is_empty()
            && self.inserts.is_empty()
    }

    /// Returns true while a connection is up.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Bytes of headers and payload that the server takes in one message.
    #[must_use]
    pub const fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// Bytes of published frames that wait.
    #[must_use]
    pub const fn waiting_bytes(&self) -> usize {
        self.frames.len().saturating_add(self.shared_bytes)
    }

    /// PINGs that were queued on this connection and have no answer yet.
    #[must_use]
    pub fn pings_out(&self) -> usize {
        self.watermarks.len()
    }

    /// The number of the last PING that was answered, or given up with its connection.
    #[must_use]
    pub const fn pings_answered(&self) -> u64 {
        self.pings_answered
    }

    /// Messages that were queued and not taken; after the session has ended, those discarded.
    #[must_use]
    pub const fn waiting_messages(&self) -> u64 {
        self.published_messages.saturating_sub(self.taken_messages)
    }

    /// Messages queued since the beginning, and their header and payload bytes.
    #[must_use]
    pub const fn published(&self) -> (u64, u64) {
        let messages = self.published_messages;
        let messages = messages.saturating_add(self.left_out_messages);
        (messages, self.published_bytes)
    }

    /// Lines that follow each other share a piece: there may be a million of them.
    fn insert_line(&mut self, line: Vec<u8>) {
        self.line_bytes = self.line_bytes.saturating_add(line.len());
        let at = self.frames.len();
        match self.inserts.last_mut() {
            Some(Insert {
                at: last_at,
                piece: Piece::Lines(lines),
            }) if *last_at == at => lines.extend_from_slice(&line),
            _ => self.inserts.push(Insert {
                at,
                piece: Piece::Lines(line),
            }),
        }
    }

    #[inline]
    fn count(&mut self, message: &Publish<'_>) {
        let len = message.body_len();
        self.largest_bytes = self.largest_bytes.max(len);
        let bytes = u64::try_from(len).unwrap_or(u64::MAX);
        self.published_messages = self.published_messages.saturating_add(1);
        self.published_bytes = self.published_bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::SubjectRef;
    use crate::wire::Headers;

    fn message(payload: &[u8]) -> Publish<'_> {
        Publish::new(SubjectRef::new("a").unwrap(), payload)
    }

    fn written(outbox: &mut Outbox, at_most: usize) -> Vec<u8> {
        let mut batch = WriteBatch::default();
        let mut all = Vec::new();
        if !outbox.take(&mut batch) {
            return all;
        }
        while !batch.is_finished() {
            let mut slices = [std::io::IoSlice::new(&[]); 3];
            let filled = batch.fill(&mut slices);
            let flat: Vec<u8> = slices[..filled]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            let now = &flat[..flat.len().min(at_most)];
            all.extend_from_slice(now);
            let count = now.len();
            assert!(count > 0, "an unfinished batch has bytes");
            batch.advance(count);
        }
        all
    }

    fn filled() -> Outbox {
        let mut outbox = Outbox::new(OutboxLimits::default());
        outbox.open(b"SUB x 1\r\n".to_vec());
        outbox.publish(&message(b"1"), None).unwrap();
        outbox.line(b"SUB y 2\r\n".to_vec());
        let large = Bytes::from_static(b"large");
        outbox.publish(&message(&large), Some(&large)).unwrap();
        outbox.ping();
        outbox.publish(&message(b"3"), None).unwrap();
        outbox.pong();
        outbox
    }

    #[test]
    fn order_is_kept_however_the_socket_cuts_its_writes() {
        let whole = b"PONG\r\nSUB x 1\r\nPUB a 1\r\n1\r\nSUB y 2\r\nPUB a 5\r\nlarge\r\nPING\r\nPUB a 1\r\n3\r\n";
        for at_most in 1..=whole.len() {
            let cut = written(&mut filled(), at_most);
            assert_eq!(
                cut.escape_ascii().to_string(),
                whole.escape_ascii().to_string(),
                "{at_most}"
            );
        }
    }

    #[test]
    fn a_new_connection_gets_the_published_frames_and_no_old_lines() {
        let mut outbox = filled();
        assert_eq!(outbox.close(), 0, "nothing was taken yet");
        outbox.line(b"SUB z 3\r\n".to_vec());
        outbox.open(b"SUB x 1\r\n".to_vec());
        let bytes = written(&mut outbox, usize::MAX);
        let text = b"SUB x 1\r\nPUB a 1\r\n1\r\nPUB a 5\r\nlarge\r\nPUB a 1\r\n3\r\n";
        assert_eq!(
            bytes.escape_ascii().to_string(),
            text.escape_ascii().to_string()
        );
    }

    #[test]
    fn messages_after_the_last_pong_are_in_doubt() {
        let mut outbox = Outbox::new(OutboxLimits::default());
        outbox.open(Vec::new());
        outbox.publish(&message(b"1"), None).unwrap();
        assert_eq!(outbox.ping(), Some(1));
        outbox.publish(&message(b"2"), None).unwrap();
        outbox.publish(&message(b"3"), None).unwrap();
        written(&mut outbox, usize::MAX);
        assert_eq!(outbox.handle_pong(), Some(1));
        outbox.publish(&message(b"4"), None).unwrap();
        assert_eq!(outbox.close(), 2, "2 and 3 were written, 4 still waits");
        outbox.open(Vec::new());
        assert_eq!(outbox.close(), 0, "a doubt is reported once");
    }

    #[test]
    fn pongs_that_the_server_does_not_read_are_only_counted() {
        let mut outbox = Outbox::new(OutboxLimits::default());
        outbox.open(Vec::new());
        for _ in 0..1_025 {
            outbox.pong();
        }
        outbox.publish(&message(b"1"), None).unwrap();
        let first = [PONG.repeat(1_024).as_slice(), b"PUB a 1\r\n1\r\n"].concat();
        assert_eq!(written(&mut outbox, usize::MAX), first);
        assert_eq!(written(&mut outbox, usize::MAX), PONG);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_full_outbox_refuses_and_queues_nothing() {
        let limits = OutboxLimits {
            connected_bytes_max: 20,
            pending_bytes_max: 10,
        };
        let mut outbox = Outbox::new(limits);
        outbox.publish(&message(b"1"), None).unwrap();
        let full = outbox.publish(&message(b"2"), None).unwrap_err();
        assert_eq!(
            full,
            OutboxError::Full {
                waiting_bytes: 12,
                bytes_max: 10
            }
        );
        assert_eq!(outbox.published().0, 1);
        outbox.open(Vec::new());
        outbox.publish(&message(b"2"), None).unwrap();
        assert!(outbox.publish(&message(b"3"), None).is_err());
    }

    /// A limit that is kept here has no line, nor has draining without subscriptions; writing no
    /// bytes would pass for a socket that takes none.
    #[test]
    fn no_line_is_nothing_to_write() {
        let mut outbox = Outbox::new(OutboxLimits::default());
        outbox.open(Vec::new());
        outbox.line(Vec::new());
        assert!(!outbox.take(&mut WriteBatch::default()));
    }

    #[test]
    fn a_ping_that_waits_with_nothing_behind_it_serves_again() {
        let mut outbox = Outbox::new(OutboxLimits::default());
        outbox.open(Vec::new());
        for _ in 0..1_000 {
            assert_eq!(outbox.ping(), Some(1));
        }
        outbox.publish(&message(b"1"), None).unwrap();
        assert_eq!(outbox.ping(), Some(2), "the first says nothing of it");
        outbox.line(b"SUB y 2\r\n".to_vec());
        assert_eq!(outbox.ping(), Some(3));
        let text = b"PING\r\nPUB a 1\r\n1\r\nPING\r\nSUB y 2\r\nPING\r\n";
        assert_eq!(
            written(&mut outbox, usize::MAX).escape_ascii().to_string(),
            text.escape_ascii().to_string()
        );
        assert_eq!(outbox.ping(), Some(4), "the last was taken");
        assert_eq!(outbox.pings_out(), 4);
    }

    #[test]
    fn lines_that_the_server_does_not_read_are_bounded() {
        let mut outbox = Outbox::new(OutboxLimits::default());
        outbox.open(Vec::new());
        let line = vec![b'x'; LINE_BYTES_MAX / 4];
        for _ in 0..4 {
            assert_eq!(outbox.check_lines(), Ok(()));
            outbox.line(line.clone());
        }
        let full = OutboxError::Full {
            waiting_bytes: LINE_BYTES_MAX,
            bytes_max: LINE_BYTES_MAX,
        };
        assert_eq!(outbox.check_lines(), Err(full));
        assert!(outbox.take(&mut WriteBatch::default()));
        assert_eq!(outbox.check_lines(), Ok(()));
    }

    #[test]
    fn messages_that_are_too_large_are_left_out_and_nothing_else_moves() {
        const LEN: u32 = 5;
        let mut headers = Headers::new();
        headers.append("a", "b").unwrap();
        let shared = Bytes::from_static(b"01234567890123456789");
        let frames = [
            (message(b"1"), None),
            (message(b"0123456789"), None),
            (message(b"PUB a 1\r\n2\r\n").headers(&headers), None),
            (message(&shared), Some(&shared)),
            (message(&shared).headers(&headers), Some(&shared)),
        ];
        let (line, ping) = (frames.len(), frames.len() + 1);
        let kinds = ping + 1;
        for order in 0..kinds.pow(LEN) {
            let order: Vec<_> = (0..LEN)
                .map(|place| order / kinds.pow(place) % kinds)
                .collect();
            for max in [0, 9, 10, 19, 20, 41] {
                let mut outbox = Outbox::new(OutboxLimits::default());
                outbox.open(Vec::new());
                outbox.publish(&message(b""), None).unwrap();
                outbox.ping();
                written(&mut outbox, usize::MAX);
                let (mut text, mut kept, mut marks) = (Vec::new(), 1, vec![1]);
                for (at, kind) in order.iter().copied().enumerate() {
                    if let Some((frame, shared)) = frames.get(kind) {
                        outbox.publish(frame, *shared).unwrap();
                        if frame.body_len() <= max {
                            frame.write(&mut text);
                            kept += 1;
                        }
                    } else if kind == line {
                        outbox.line(b"SUB y 2\r\n".to_vec());
                        text.extend(b"SUB y 2\r\n");
                    } else if at == 0 || order[at - 1] != ping {
                        outbox.ping();
                        text.extend(b"PING\r\n");
                        marks.push(kept);
                    }
                }
                let published = outbox.published();
                let waiting = outbox.waiting_messages();
                let left_out = outbox.limit_bodies(max);
                let context = format!("{order:?} of at most {max} bytes");
                assert_eq!(left_out, waiting + 1 - kept, "{context}");
                assert_eq!(outbox.waiting_messages(), kept - 1, "{context}");
                assert_eq!(outbox.published(), published, "{context}");
                assert_eq!(outbox.limit_bodies(max), 0, "{context}");
                let waiting_bytes = outbox.waiting_bytes();
                let found = written(&mut outbox, usize::MAX);
                assert_eq!(
                    found.escape_ascii().to_string(),
                    text.escape_ascii().to_string(),
                    "{context}"
                );
                let lines = order.iter().filter(|kind| **kind == line).count() * 9;
                let others = lines + (marks.len() - 1) * 6;
                assert_eq!(waiting_bytes, text.len() - others, "{context}");
                for mark in marks {
                    outbox.handle_pong().expect(&context);
                    assert_eq!(outbox.confirmed_messages, mark, "{context}");
                }
                assert_eq!(outbox.handle_pong(), None, "{context}");
                let in_doubt = kept - outbox.confirmed_messages;
                assert_eq!(outbox.close(), in_doubt, "{context}");
            }
        }
    }

    #[test]
    fn a_message_that_the_server_would_not_take_is_not_queued() {
        let mut outbox = Outbox::new(OutboxLimits::default());
        assert_eq!(outbox.limit_bodies(2), 0);
        let found = outbox.publish(&message(b"123"), None).unwrap_err();
        assert_eq!(found, OutboxError::TooLarge { found: 3, max: 2 });
        outbox.publish(&message(b"12"), None).unwrap();
        assert_eq!(
            outbox.limit_bodies(3),
            0,
            "a larger limit takes nothing away"
        );
        outbox.publish(&message(b"123"), None).unwrap();
        assert_eq!(outbox.waiting_messages(), 2);
    }

    #[test]
    fn after_the_end_nothing_is_queued_and_what_was_is_counted() {
        let mut outbox = filled();
        assert_eq!(outbox.close(), 0);
        assert_eq!(outbox.end(), 3);
        assert_eq!(
            outbox.publish(&message(b"4"), None),
            Err(OutboxError::Ended)
        );
        assert_eq!(outbox.waiting_messages(), 3);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_pong_without_a_ping_confirms_nothing() {
        let mut outbox = Outbox::new(OutboxLimits::default());
        outbox.open(Vec::new());
        assert_eq!(outbox.handle_pong(), None);
    }

    #[test]
    fn a_ping_that_is_not_on_its_way_has_no_answer() {
        let mut outbox = Outbox::new(OutboxLimits::default());
        outbox.open(Vec::new());
        outbox.publish(&message(b"1"), None).unwrap();
        assert_eq!(outbox.ping(), Some(1));
        assert_eq!(outbox.handle_pong(), None);
        written(&mut outbox, usize::MAX);
        assert_eq!(outbox.handle_pong(), Some(1));
        assert_eq!(outbox.close(), 0, "in doubt");
    }
}
