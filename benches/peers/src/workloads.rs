//! Publish, subscribe and request, once for every client.

use std::sync::Arc;

use bytes::Bytes;

use crate::client::Client;
use crate::meter::{Meter, Report, now};
use crate::spec::{ACK, ECHO, START, SUBJECT, Spec, filter};

/// Publishes, and stops the clock when the server has taken everything: it handles a connection's
/// operations in order, so the answer to a last request says so.
pub(crate) async fn publish<C: Client>(spec: &Spec) -> Report {
    let client = C::connect(spec).await;
    let message = Arc::new(client.message(SUBJECT, payload(spec), spec.has_headers));
    let last = client.message(ECHO, Bytes::new(), false);
    for _ in 0..spec.warm_up {
        client.publish(&message).await;
    }
    client.request(&last).await;

    let meter = Meter::start();
    let each = spec.messages / spec.tasks;
    if spec.tasks == 1 {
        for _ in 0..each {
            client.publish(&message).await;
        }
    } else {
        let tasks: Vec<_> = (0..spec.tasks)
            .map(|_| {
                let (client, message) = (client.clone(), Arc::clone(&message));
                tokio::spawn(async move {
                    for _ in 0..each {
                        client.publish(&message).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a publishing task");
        }
    }
    client.request(&last).await;
    meter.stop(each * spec.tasks)
}

/// Receives what a windowed sender sends to each active subscription in turn.
pub(crate) async fn subscribe<C: Client>(spec: &Spec) -> Report {
    let client = C::connect(spec).await;
    let mut subscriptions = Vec::new();
    for index in 0..spec.subscriptions {
        let filter = filter(index, spec.subscriptions);
        subscriptions.push(client.subscribe(filter).await);
    }
    // The server has all of them when it answers.
    let last = client.message(ECHO, Bytes::new(), false);
    client.request(&last).await;
    let active = &mut subscriptions[..spec.active as usize];
    take::<C>(&client, active, spec, spec.warm_up).await;
    let meter = Meter::start();
    take::<C>(&client, active, spec, spec.messages).await;
    meter.stop(spec.messages)
}

/// Asks for messages and takes them, from the subscriptions in turn, as they are sent.
async fn take<C: Client>(
    client: &C,
    subscriptions: &mut [C::Subscription],
    spec: &Spec,
    messages: u64,
) {
    let ack = client.message(ACK, Bytes::new(), false);
    let start = client.message(START, spec.start(messages).into(), false);
    client.publish(&start).await;
    let count = subscriptions.len();
    // Taken from a subscription before its turn.
    let mut ahead = vec![0; count];
    let (mut taken, mut passed) = (0, 0);
    let mut scratch = C::Scratch::default();
    while passed < messages {
        let turn = passed as usize % count;
        if ahead[turn] == 0 {
            let before = taken / spec.burst;
            ahead[turn] = C::receive(&mut subscriptions[turn], &mut scratch).await;
            taken += ahead[turn];
            for _ in before..taken / spec.burst {
                client.publish(&ack).await;
            }
        }
        let step = if count == 1 { ahead[turn] } else { 1 };
        ahead[turn] -= step;
        passed += step;
    }
}

/// One request after the other.
pub(crate) async fn request<C: Client>(spec: &Spec) -> Report {
    let client = C::connect(spec).await;
    let message = client.message(ECHO, payload(spec), spec.has_headers);
    for _ in 0..spec.warm_up {
        client.request(&message).await;
    }
    let mut latencies = Vec::with_capacity(spec.messages as usize);
    let meter = Meter::start();
    for _ in 0..spec.messages {
        let begun = now();
        client.request(&message).await;
        latencies.push(now().saturating_duration_since(begun));
    }
    Report {
        latencies,
        ..meter.stop(spec.messages)
    }
}

/// As many requests at the same time as there are tasks.
pub(crate) async fn parallel<C: Client>(spec: &Spec) -> Report {
    let client = C::connect(spec).await;
    let message = Arc::new(client.message(ECHO, payload(spec), spec.has_headers));
    ask_in_parallel(&client, &message, spec.tasks, spec.warm_up).await;
    let meter = Meter::start();
    let asked = ask_in_parallel(&client, &message, spec.tasks, spec.messages).await;
    meter.stop(asked)
}

async fn ask_in_parallel<C: Client>(
    client: &C,
    message: &Arc<C::Message>,
    tasks: u64,
    requests: u64,
) -> u64 {
    let each = requests.div_ceil(tasks);
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let (client, message) = (client.clone(), Arc::clone(message));
            tokio::spawn(async move {
                for _ in 0..each {
                    client.request(&message).await;
                }
            })
        })
        .collect();
    for task in running {
        task.await.expect("an asking task");
    }
    each * tasks
}

pub(crate) fn payload(spec: &Spec) -> Bytes {
    vec![b'x'; spec.bytes].into()
}
