//! Memory of subscriptions and connections that do nothing.

use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::meter::{Meter, Report, resident_bytes};
use crate::spec::{ECHO, Spec, filter};

/// Subscribes, and compares the process's memory before and after.
pub(crate) async fn idle_subscriptions<C: Client>(spec: &Spec) -> Report {
    let client = C::connect(spec).await;
    let last = client.message(ECHO, Bytes::new(), false);
    client.request(&last).await;
    let mut subscriptions = Vec::with_capacity(spec.subscriptions as usize);
    let before = resident_bytes();
    let meter = Meter::start();
    for index in 0..spec.subscriptions {
        let filter = filter(index, spec.subscriptions);
        subscriptions.push(client.subscribe(filter).await);
    }
    client.request(&last).await;
    let report = meter.stop(spec.subscriptions);
    with_memory(report, before)
}

/// Connects, and compares the process's memory before and after.
pub(crate) async fn idle_connections<C: Client>(spec: &Spec) -> Report {
    let first = C::connect(spec).await;
    let mut clients = Vec::with_capacity(spec.connections as usize);
    let before = resident_bytes();
    let meter = Meter::start();
    for _ in 0..spec.connections {
        clients.push(C::connect(spec).await);
    }
    let report = meter.stop(spec.connections);
    // Their tasks come to rest.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(first);
    with_memory(report, before)
}

fn with_memory(report: Report, before: f64) -> Report {
    Report {
        bytes_each: Some((resident_bytes() - before) / report.messages as f64),
        ..report
    }
}
