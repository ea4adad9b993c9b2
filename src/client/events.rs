//! Hands events to whoever listens, and costs nothing while nobody does.

use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;

use crate::session::Event;

/// Events that may wait for each reader of them; a reader that is further behind is told so.
const EVENTS_MAX: usize = 1_024;

/// Where events are told. Most clients have no reader of them, and the room for events that wait is
/// many times what else an idle connection needs: the first reader makes it.
#[derive(Debug, Clone, Default)]
pub(super) struct EventSender {
    sender: Arc<OnceLock<broadcast::Sender<Event>>>,
}

impl EventSender {
    /// Sends an event to those who subscribed before.
    pub(super) fn send(&self, event: Event) {
        if let Some(sender) = self.sender.get() {
            // Without a reader nobody is told, by their own choice.
            let _ = sender.send(event);
        }
    }

    /// The events that are sent from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        let sender = self
            .sender
            .get_or_init(|| broadcast::Sender::new(EVENTS_MAX));
        sender.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_for_readers_of_events_while_there_are_none() {
        let events = EventSender::default();
        // Every part of the client has a clone.
        let teller = events.clone();
        teller.send(Event::LameDuck);
        assert!(events.sender.get().is_none());

        let mut reader = events.subscribe();
        assert!(reader.try_recv().is_err(), "from now on");
        teller.send(Event::LameDuck);
        assert!(matches!(reader.try_recv(), Ok(Event::LameDuck)));
    }
}
