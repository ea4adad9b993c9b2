//! Requests that are given up at any moment: no answer to the wrong caller, nothing left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions};
use natseq::client::connect;
use natseq::jitter::Jitter;

use crate::{serve, text, within};

const REQUESTS: u64 = 100_000;
const CALLERS: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_random_cancellations_mix_nothing_up_and_leave_nothing() {
    let seed = std::env::var("NATSEQ_SEED").map_or_else(
        |_| u64::from(std::process::id()),
        |text| text.parse().unwrap(),
    );
    println!("seed {seed}: NATSEQ_SEED={seed}");
    let broker = Broker::listen("127.0.0.1:0", BrokerOptions::default());
    let broker = broker.await.unwrap();
    let address = broker.local_addr().unwrap().to_string();
    let client = connect(&address).await.unwrap();
    let responder = connect(&address).await.unwrap();
    let asked = responder.subscribe_confirmed("echo").await.unwrap();
    let service = serve(&responder, asked, |question| vec![text(question)]);

    let answered = Arc::new(AtomicU64::new(0));
    let callers = (0..CALLERS).map(|caller| {
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            let mut jitter = Jitter::new(seed.wrapping_add(caller));
            for number in 0..REQUESTS / CALLERS {
                let question = format!("{caller} {number}");
                let request = client.request("echo", question.as_str());
                let patience = Duration::from_micros(jitter.below(3_000));
                // A timeout of no time at all polls once and cancels.
                if let Ok(answer) = tokio::time::timeout(patience, request).await {
                    assert_eq!(text(&answer.unwrap()), question, "an answer of another");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        within(caller).await.unwrap();
    }
    let answered = answered.load(Ordering::Relaxed);
    println!("{answered} of {REQUESTS} were answered in time");
    assert!((1..REQUESTS).contains(&answered), "seed {seed}");
    assert_eq!(client.pending_requests(), 0, "seed {seed}");
    assert_eq!(client.statistics().subscriptions, 1, "seed {seed}");
    service.abort();
    client.close().await;
    responder.close().await;
}
