//! Requests begun at a fixed rate, whether or not earlier ones were answered.
//!
//! A thread of its own sleeps until each one is due. Latency counts from when it was due, so that a
//! client that falls behind cannot hide it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::client::Client;
use crate::meter::{Meter, Report, now};
use crate::spec::{ECHO, Spec};
use crate::workloads::payload;

pub(crate) fn run<C: Client>(spec: &Spec, runtime: &Runtime) -> Report {
    let (sender, mut due) = mpsc::unbounded_channel::<Instant>();
    let client = runtime.block_on(C::connect(spec));
    let message = Arc::new(client.message(ECHO, payload(spec), spec.has_headers));
    runtime.block_on(client.request(&message));
    let ticks = spec.clone();
    let thread = std::thread::spawn(move || {
        let begun = now();
        for index in 0..ticks.warm_up + ticks.messages {
            let at = moment(begun, index, ticks.rate);
            wait_until(at);
            sender.send(at).expect("the asking side goes on");
        }
    });
    let all = spec.warm_up + spec.messages;
    let report = runtime.block_on(async {
        let (answered, mut latencies) = mpsc::unbounded_channel::<Duration>();
        let mut meter = Meter::start();
        let asking = async {
            let mut begun = 0;
            while let Some(at) = due.recv().await {
                if begun == spec.warm_up {
                    meter = Meter::start();
                }
                begun += 1;
                let (client, message) = (client.clone(), Arc::clone(&message));
                let answered = answered.clone();
                tokio::spawn(async move {
                    client.request(&message).await;
                    let _ = answered.send(now().saturating_duration_since(at));
                });
            }
        };
        asking.await;
        let mut seen = Vec::with_capacity(all as usize);
        while seen.len() < all as usize {
            seen.push(latencies.recv().await.expect("an answer"));
        }
        Report {
            latencies: seen.split_off(spec.warm_up as usize),
            ..meter.stop(spec.messages)
        }
    });
    thread.join().expect("the clock's thread");
    report
}

/// When the request `index` is due.
pub(crate) fn moment(begun: Instant, index: u64, rate: u64) -> Instant {
    begun + Duration::from_nanos(index * 1_000_000_000 / rate)
}

pub(crate) fn wait_until(at: Instant) {
    let left = at.saturating_duration_since(now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}
