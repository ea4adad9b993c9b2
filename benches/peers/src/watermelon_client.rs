//! watermelon, with the headers' names and values validated once.

use std::hint::black_box;

use bytes::Bytes;
use futures_util::StreamExt as _;
use watermelon::core::Subscription;
use watermelon::proto::headers::{HeaderMap, HeaderName, HeaderValue};
use watermelon::proto::{ServerMessage, Subject};

use crate::client::Client;
use crate::spec::{HEADERS, Spec};

#[derive(Clone)]
pub(crate) struct Watermelon(watermelon::core::Client);

pub(crate) struct Outgoing {
    subject: Subject,
    headers: HeaderMap,
    payload: Bytes,
}

impl Client for Watermelon {
    type Message = Outgoing;
    type Subscription = Subscription;
    type Scratch = ();

    async fn connect(spec: &Spec) -> Self {
        let address = spec.url.parse().expect("an address");
        let client = watermelon::core::Client::builder().connect(address).await;
        Self(client.expect("connect"))
    }

    fn message(&self, subject: &'static str, payload: Bytes, has_headers: bool) -> Outgoing {
        let mut headers = HeaderMap::new();
        for (name, value) in HEADERS.into_iter().filter(|_| has_headers) {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        Outgoing {
            subject: Subject::from_static(subject),
            headers,
            payload,
        }
    }

    async fn publish(&self, message: &Outgoing) {
        let publish = self.0.publish(message.subject.clone());
        let publish = publish.headers(message.headers.clone());
        let published = publish.payload(message.payload.clone()).await;
        published.expect("publish");
    }

    async fn request(&self, message: &Outgoing) {
        let request = self.0.request(message.subject.clone());
        let request = request.headers(message.headers.clone());
        let answer = request.payload(message.payload.clone()).await;
        let answer = answer.expect("the request is sent").await;
        black_box(answer.expect("an answer").base.payload.len());
    }

    async fn subscribe(&self, filter: String) -> Subscription {
        let filter = filter.try_into().expect("a filter");
        self.0.subscribe(filter, None).await.expect("subscribe")
    }

    async fn receive(subscription: &mut Subscription, (): &mut ()) -> u64 {
        let message = subscription.next().await.expect("a message");
        look_at(&message.expect("a message"));
        1
    }
}

fn look_at(message: &ServerMessage) {
    black_box(message.base.payload.len());
    if !message.base.headers.is_empty() {
        let name = HeaderName::from_static(HEADERS[0].0);
        black_box(message.base.headers.get(&name).expect("the header"));
    }
}
