//! The sequencing layer on a client: publishers that number, subscribers that check and repair.

mod message;
mod publisher;
mod subscriber;

pub use message::SequencedMessage;
pub use publisher::{ClosedSource, SequencedPublisher, SequencedPublisherBuilder};
pub use subscriber::{SequencedSubscriber, SequencedSubscriberBuilder};
