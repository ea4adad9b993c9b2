//! The task of a source: heartbeats, repairs, and the source's part in reconnects.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking, yield_now};
use tokio::time::sleep_until;

use crate::client::Subscription;
use crate::client::shared::Link;
use crate::sequence::{
    Allowance, Carrier, Heartbeat, NameNotice, Prior, Reply, ReplyBody, ReplyStatus, SourceName,
    wrap,
};
use crate::session::Outbox;
use crate::subject::{Subject, SubjectRef, ToSubject};
use crate::wire::encode::Publish;
use crate::wire::{HeaderLines, Headers, Message};

use super::claim::next_of;
use super::identity::DurableName;
use super::publisher::{Lane, Repairing, State};

/// Bytes of answers for which both locks are held at once.
const TURN_BYTES_MAX: usize = 64 << 10;

/// The source's task: heartbeats, repairs, and the source's part in reconnects.
pub(super) struct Service {
    lane: Arc<Lane>,
    requests: Subscription,
    /// What is said about the source's name, when it is held.
    notices: Option<Subscription>,
    /// Whether the end of the run is noted, or being noted.
    noting: Option<JoinHandle<()>>,
    link: watch::Receiver<Link>,
    link_seen: Link,
    /// The connection on which the source can speak.
    speaks_on: Option<u64>,
}

impl Service {
    /// Says hello if the connection is up.
    pub(super) fn new(
        lane: Arc<Lane>,
        requests: Subscription,
        notices: Option<Subscription>,
    ) -> Self {
        let link = lane.client.shared().link.subscribe();
        let mut service = Self {
            lane,
            requests,
            notices,
            noting: None,
            link,
            link_seen: Link::Down,
            speaks_on: None,
        };
        service.note_link();
        service.lane.beat();
        service
    }

    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        let mut is_deaf = false;
        let lane = Arc::clone(&self.lane);
        let shared = lane.client.shared();
        loop {
            self.note_link();
            self.lane.beat();
            self.note_end();
            // Before the look, so that room made in between is not missed.
            let has_room = shared.room.notified();
            tokio::pin!(has_room);
            has_room.as_mut().enable();
            let left = self.lane.answer();
            let due = {
                let mut state = self.lane.state();
                if self.link_seen == Link::Closed || state.sender.is_finished(shared.clock.now()) {
                    break;
                }
                state.armed = state.sender.poll_timeout().unwrap_or(Duration::MAX);
                shared.clock.instant(state.armed)
            };
            tokio::select! {
                count = self.requests.next_batch(&mut batch, 256), if !is_deaf => {
                    // Without the right to hear requests there are still heartbeats.
                    is_deaf = self.requests.refusal().is_some();
                    if count == 0 && !is_deaf {
                        break;
                    }
                }
                notice = next_of(&mut self.notices) => match notice {
                    Some(notice) => self.lane.hear(&notice),
                    // Without the right to hear of the name it is held as long as nobody wants it.
                    None => self.notices = None,
                },
                () = sleep_until(due) => {}
                () = self.lane.has_changed.notified() => {}
                () = has_room, if left == Left::ForRoom => {}
                () = yield_now(), if left == Left::ForOthers => {}
                changed = self.link.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
            let now = shared.clock.now();
            let mut state = self.lane.state();
            let sender = &mut state.sender;
            for request in batch.drain(..) {
                let (reply, epoch) = (request.reply(), asked_epoch(&request));
                if epoch == Some(sender.epoch()) {
                    sender.handle_request(now, reply, request.payload());
                } else if let Some(epoch) = epoch {
                    sender.handle_stray_request(epoch, reply);
                }
            }
        }
        self.lane.close();
        self.note_end();
        if let Some(noting) = self.noting.take() {
            // What became of it was logged.
            let _ = noting.await;
        }
        {
            let sender = &self.lane.state().sender;
            if !sender.has_announced_end() {
                let (source, epoch) = (sender.source().as_str(), sender.epoch());
                tracing::warn!(
                    source,
                    epoch,
                    "end of a source not said: its client is closed or not connected"
                );
            }
        }
        // Whoever waits for the end sees it, whether there was time for the linger or not.
        self.lane.is_finished.send_replace(true);
    }

    /// Has it noted in the file, if there is one, that the run has ended. Nobody waits for the disk
    /// but whoever waits for the very end.
    fn note_end(&mut self) {
        let Some(durable) = self.lane.durable.clone().filter(|_| self.noting.is_none()) else {
            return;
        };
        let (source, ended) = {
            let sender = &self.lane.state().sender;
            if !sender.is_closed() {
                return;
            }
            (sender.source().clone(), sender.as_prior())
        };
        let noting = Noting(Some(source));
        self.noting = Some(spawn_blocking(move || noting.note(&durable, ended)));
    }

    /// A connection on which the stamps would not come through is none to the source: nothing said on
    /// it would be heard, an end least of all.
    fn note_link(&mut self) {
        self.link_seen = *self.link.borrow_and_update();
        let speaks_on = match self.link_seen {
            Link::Up(generation) if self.lane.may_speak() => Some(generation),
            Link::Down | Link::Up(_) | Link::Closed => None,
        };
        if speaks_on == self.speaks_on {
            return;
        }
        let now = self.lane.client.shared().clock.now();
        let mut state = self.lane.state();
        if self.speaks_on.is_some() {
            state.sender.handle_disconnected();
        }
        if speaks_on.is_some() {
            state.sender.handle_connected(now);
        }
        drop(state);
        self.speaks_on = speaks_on;
    }
}

impl Lane {
    /// Writes the heartbeats that are due. Nothing else of the source is written in between.
    fn beat(&self) {
        let shared = self.client.shared();
        let now = shared.clock.now();
        let mut state = self.state();
        shared.with_outbox(|outbox| {
            // A heartbeat that waits for a connection would speak of the past: the next connection
            // gets its own.
            while outbox.is_open()
                && self.may_speak()
                && let Some(heartbeat) = state.sender.poll_heartbeat(now)
            {
                let stamp = state.sender.stamp_line(heartbeat.lead);
                self.push_heartbeat(outbox, &heartbeat, &stamp);
            }
            while outbox.is_open()
                && let Some(claim) = state.sender.poll_claim(now)
            {
                push_plain(outbox, &self.name_subject, &claim.to_json());
            }
        });
        // What was too old is forgotten by now.
        let State {
            sender,
            noted_bytes,
            ..
        } = &mut *state;
        shared.sources.note(sender, noted_bytes);
    }

    /// Takes what another says about the source's name.
    fn hear(&self, message: &Message) {
        if let Some(notice) = NameNotice::parse(message.payload()) {
            let now = self.client.shared().clock.now();
            let mut state = self.state();
            state.sender.handle_notice(now, message.reply(), &notice);
        }
    }

    fn push_heartbeat(&self, outbox: &mut Outbox, heartbeat: &Heartbeat, stamp: &[u8]) {
        let Ok(subject) = self.heartbeat_subject.to_subject() else {
            return;
        };
        let body = heartbeat.to_json();
        push_control(outbox, self.carrier, subject, None, stamp, &body);
    }

    /// Sends answers while there is room for them.
    ///
    /// What publishers have to wait for meanwhile is a turn's bytes, and half of what is written at
    /// once stays theirs.
    fn answer(&self) -> Left {
        let shared = self.client.shared();
        let now = shared.clock.now();
        let may_speak = self.may_speak();
        let mut state = self.state();
        let State {
            sender, repairing, ..
        } = &mut *state;
        let mut repairs = shared.sources.repairs();
        shared.with_outbox(|outbox| {
            let taken = outbox
                .published()
                .0
                .saturating_sub(outbox.waiting_messages());
            if repairing.taken != taken {
                *repairing = Repairing { taken, bytes: 0 };
            }
            let body_bytes_max = outbox.body_bytes_max();
            let cycle_bytes_max = shared.options.outbox.connected_bytes_max / 2;
            let mut turn_bytes = 0_usize;
            while outbox.check_room().is_ok() && repairing.bytes < cycle_bytes_max {
                if turn_bytes >= TURN_BYTES_MAX {
                    return Left::ForOthers;
                }
                let allowance = Allowance {
                    body_bytes_max,
                    due: repairs.due(),
                };
                let Some(reply) = sender.poll_reply(now, allowance) else {
                    return Left::Nothing;
                };
                let bytes = reply.bytes();
                repairs.spend(now, bytes);
                turn_bytes = turn_bytes.saturating_add(bytes);
                repairing.bytes = repairing.bytes.saturating_add(bytes);
                if may_speak {
                    push_reply(outbox, self.carrier, &reply);
                }
            }
            Left::ForRoom
        })
    }
}

/// The end of a run of this source, which is to be noted.
struct Noting(Option<SourceName>);

impl Noting {
    fn note(mut self, durable: &Mutex<DurableName>, ended: Prior) {
        let mut durable = durable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = self.0.take()
            && let Err(error) = durable.end(ended)
        {
            // The next run begins as after a crash.
            tracing::warn!(source = source.as_str(), %error, "end of a source not noted");
        }
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        if let Some(source) = &self.0 {
            let source = source.as_str();
            tracing::warn!(source, "end of a source not noted: its runtime has ended");
        }
    }
}

/// Whether answers are left, and for what they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Until others had their turn.
    ForOthers,
    /// Until what waits was written.
    ForRoom,
}

/// The run that a request is for: the last token of its subject.
fn asked_epoch(request: &Message) -> Option<u64> {
    let token = request.subject().rsplit(|byte| *byte == b'.').next()?;
    std::str::from_utf8(token).ok()?.parse().ok()
}

fn push_plain(outbox: &mut Outbox, to: &Subject, body: &[u8]) {
    if let Ok(to) = to.to_subject() {
        outbox.push(&Publish::new(to, body), None);
    }
}

fn push_reply(outbox: &mut Outbox, carrier: Carrier, reply: &Reply) {
    let json;
    let body = match &reply.body {
        ReplyBody::Payload(payload) => payload,
        ReplyBody::Heartbeat(heartbeat) => {
            json = heartbeat.to_json();
            &json
        }
        // What is said about names is the same for every carrier.
        ReplyBody::Notice(notice) => return push_plain(outbox, &reply.to, &notice.to_json()),
    };
    if let Ok(to) = reply.to.to_subject() {
        push_control(outbox, carrier, to, reply.status, &reply.lines, body);
    }
}

/// Writes a heartbeat or an answer; where the carrier is no header, they have none either.
fn push_control(
    outbox: &mut Outbox,
    carrier: Carrier,
    to: SubjectRef<'_>,
    status: Option<ReplyStatus>,
    lines: &[u8],
    body: &[u8],
) {
    if !carrier.has_headers() {
        return outbox.push(&Publish::new(to, &wrap(status, lines, body)), None);
    }
    let status = match status {
        Some(status) => Headers::with_status(status.code(), status.description()),
        None => Ok(Headers::new()),
    };
    if let Ok(status) = status {
        let frame = Publish::new(to, body).headers(&status);
        outbox.push(&frame.first_lines(HeaderLines::trusted(lines)), None);
    }
}
