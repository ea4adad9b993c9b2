//! natseq with sequencing: what it publishes is stamped, what it receives is checked.
//!
//! Requests, and what keeps the window, go as they always do.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use natseq::client::{Publication, SequencedPublisher, SequencedSubscriber};
use natseq::sequence::Event;

use crate::client::Client;
use crate::natseq_client::{Natseq, Outgoing};
use crate::spec::{SUBJECT, Spec, Workload};

#[derive(Clone)]
pub(crate) struct Sequenced {
    plain: Natseq<true>,
    /// Of who publishes.
    publisher: Option<Arc<SequencedPublisher>>,
}

impl Client for Sequenced {
    type Message = Outgoing;
    type Subscription = SequencedSubscriber;
    type Scratch = ();

    async fn connect(spec: &Spec) -> Self {
        let plain = Natseq::connect(spec).await;
        let publisher = (spec.workload == Workload::Publish).then(|| {
            let builder = plain.0.sequenced_publisher(SUBJECT).expect("a scope");
            Arc::new(builder.start().expect("a publisher"))
        });
        Self { plain, publisher }
    }

    fn message(&self, subject: &'static str, payload: Bytes, has_headers: bool) -> Outgoing {
        self.plain.message(subject, payload, has_headers)
    }

    async fn publish(&self, message: &Outgoing) {
        let publisher = self.publisher.as_ref();
        let Some(publisher) = publisher.filter(|_| message.subject.as_str() == SUBJECT) else {
            return self.plain.publish(message).await;
        };
        let publication = Publication::new(&message.subject, &message.payload).expect("a subject");
        publisher.send(publication).await.expect("publish");
    }

    async fn request(&self, message: &Outgoing) {
        self.plain.request(message).await;
    }

    async fn subscribe(&self, filter: String) -> SequencedSubscriber {
        let builder = self.plain.0.sequenced_subscriber(&filter);
        builder.expect("a filter").start().expect("subscribe")
    }

    async fn receive(subscriber: &mut SequencedSubscriber, (): &mut ()) -> u64 {
        let mut event = subscriber.next().await;
        assert!(event.is_some(), "the subscription goes on");
        let mut taken = 0;
        while let Some(found) = event {
            match found {
                Event::Message { message, .. } => {
                    black_box(message.payload().len());
                    taken += 1;
                }
                Event::Unsequenced { .. } | Event::Lost { .. } | Event::Gap { .. } => {
                    panic!("every message is stamped, and none is missing")
                }
                _ => {}
            }
            event = subscriber.try_next();
        }
        taken
    }
}
