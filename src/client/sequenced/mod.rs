//! The sequencing layer on a client: publishers that number, subscribers that check and repair.

mod builder;
mod claim;
mod common;
mod identity;
mod message;
mod publisher;
mod service;
mod subscriber;

pub use builder::SequencedPublisherBuilder;
pub(super) use common::Common;
pub use identity::DurableName;
pub use message::SequencedMessage;
pub use publisher::{ClosedSource, SequencedPublisher};
pub use subscriber::{SequencedSubscriber, SequencedSubscriberBuilder};
