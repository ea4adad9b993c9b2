//! natseq, taking messages in batches or one by one.

use std::hint::black_box;

use bytes::Bytes;
use natseq::client::{ConnectOptions, Publication, Requester, Subscription};
use natseq::subject::Subject;
use natseq::wire::{Headers, Message};

use crate::client::Client;
use crate::spec::{HEADERS, Spec};

/// Messages that one call takes at most.
const BATCH: usize = 1_024;

#[derive(Clone)]
pub(crate) struct Natseq<const IN_BATCHES: bool>(pub(crate) natseq::Client);

pub(crate) struct Outgoing {
    pub(crate) subject: Subject,
    headers: Option<Headers>,
    pub(crate) payload: Bytes,
    requester: Requester,
}

impl<const IN_BATCHES: bool> Client for Natseq<IN_BATCHES> {
    type Message = Outgoing;
    type Subscription = Subscription;
    type Scratch = Vec<Message>;

    async fn connect(spec: &Spec) -> Self {
        let client = ConnectOptions::new().connect(&spec.url).await;
        Self(client.expect("connect"))
    }

    fn message(&self, subject: &'static str, payload: Bytes, has_headers: bool) -> Outgoing {
        let mut requester = self.0.requester(subject).expect("a subject");
        let headers = has_headers.then(|| {
            let mut headers = Headers::new();
            for (name, value) in HEADERS {
                headers.append(name, value).expect("a header");
            }
            headers
        });
        if let Some(headers) = &headers {
            requester = requester.headers(headers.clone());
        }
        Outgoing {
            subject: Subject::new(subject).expect("a subject"),
            headers,
            payload,
            requester,
        }
    }

    async fn publish(&self, message: &Outgoing) {
        let mut publication =
            Publication::new(&message.subject, &message.payload).expect("a subject");
        if let Some(headers) = &message.headers {
            publication = publication.headers(headers);
        }
        self.0.send(publication).await.expect("publish");
    }

    async fn request(&self, message: &Outgoing) {
        let answer = message.requester.request(&message.payload).await;
        black_box(answer.expect("an answer").payload().len());
    }

    async fn subscribe(&self, filter: String) -> Subscription {
        self.0.subscribe(&filter).expect("subscribe")
    }

    async fn receive(subscription: &mut Subscription, batch: &mut Vec<Message>) -> u64 {
        if !IN_BATCHES {
            look_at(&subscription.next().await.expect("a message"));
            return 1;
        }
        subscription.next_batch(batch, BATCH).await;
        assert!(!batch.is_empty(), "the subscription goes on");
        let taken = batch.len() as u64;
        batch.drain(..).for_each(|message| look_at(&message));
        taken
    }
}

fn look_at(message: &Message) {
    black_box(message.payload().len());
    if let Some(headers) = message.headers() {
        black_box(headers.first(HEADERS[0].0).expect("the header"));
    }
}
