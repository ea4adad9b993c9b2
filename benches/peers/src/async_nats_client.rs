//! async-nats, with room in its queues and a large read buffer.

use std::hint::black_box;

use async_nats::{ConnectOptions, HeaderMap, Message, Request, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::client::Client;
use crate::spec::{HEADERS, Spec};

#[derive(Clone)]
pub(crate) struct AsyncNats(async_nats::Client);

pub(crate) struct Outgoing {
    subject: Subject,
    headers: Option<HeaderMap>,
    payload: Bytes,
}

impl Client for AsyncNats {
    type Message = Outgoing;
    type Subscription = Subscriber;
    type Scratch = ();

    async fn connect(spec: &Spec) -> Self {
        let options = ConnectOptions::new()
            .subscription_capacity(65_536)
            .read_buffer_capacity(u16::MAX);
        Self(options.connect(&spec.url).await.expect("connect"))
    }

    fn message(&self, subject: &'static str, payload: Bytes, has_headers: bool) -> Outgoing {
        let headers = has_headers.then(|| {
            let mut headers = HeaderMap::new();
            for (name, value) in HEADERS {
                headers.append(name, value);
            }
            headers
        });
        Outgoing {
            subject: Subject::from_static(subject),
            headers,
            payload,
        }
    }

    async fn publish(&self, message: &Outgoing) {
        let (subject, payload) = (message.subject.clone(), message.payload.clone());
        let published = match &message.headers {
            Some(headers) => {
                let headers = headers.clone();
                self.0.publish_with_headers(subject, headers, payload).await
            }
            None => self.0.publish(subject, payload).await,
        };
        published.expect("publish");
    }

    async fn request(&self, message: &Outgoing) {
        let mut request = Request::new().payload(message.payload.clone());
        if let Some(headers) = &message.headers {
            request = request.headers(headers.clone());
        }
        let answer = self.0.send_request(message.subject.clone(), request).await;
        black_box(answer.expect("an answer").payload.len());
    }

    async fn subscribe(&self, filter: String) -> Subscriber {
        self.0.subscribe(filter).await.expect("subscribe")
    }

    async fn receive(subscriber: &mut Subscriber, (): &mut ()) -> u64 {
        look_at(&subscriber.next().await.expect("a message"));
        1
    }
}

fn look_at(message: &Message) {
    black_box(message.payload.len());
    if let Some(headers) = &message.headers {
        black_box(headers.get(HEADERS[0].0).expect("the header"));
    }
}
