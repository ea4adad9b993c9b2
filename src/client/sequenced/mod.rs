//! The sequencing layer on a client: publishers that number, subscribers that check and repair.

mod answer;
mod builder;
mod claim;
mod common;
mod identity;
mod message;
mod publisher;
mod service;
mod subscriber;
mod subscriber_builder;

pub use builder::SequencedPublisherBuilder;
pub(super) use common::Common;
pub use identity::DurableName;
pub use message::SequencedMessage;
pub use publisher::{ClosedSource, SequencedPublisher};
pub use subscriber::SequencedSubscriber;
pub use subscriber_builder::SequencedSubscriberBuilder;
