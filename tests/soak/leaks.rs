//! What a client holds after much has gone wrong: as much as before.

use std::time::{Duration, Instant};

use natseq::client::{ConnectOptions, ErrorKind, Event, connect};
use natseq::session::RedialOptions;

use crate::figures::{Figures, millis, soak};
use crate::scenarios::{CONNECT_KINDS, Held, Refusing, cancellations};
use crate::support::proxy::{Cut, Proxy};
use crate::support::{RealServer, server};

const VERSION: &str = "2.15.1";
const SEED: u64 = 20_261_121;

/// What the resident set may rise by.
const RISE_MIB_MAX: f64 = 1.0;

#[test]
#[ignore = "a soak"]
fn connects_that_fail_leave_nothing() {
    soak("leaks::connects_that_fail_leave_nothing", 1, || async {
        let servers = Refusing::start(&server("connects", VERSION).unwrap());
        servers.connects(100, SEED).await;
        let before = Held::now();
        servers.connects(10_000 / CONNECT_KINDS, SEED).await;
        let mut figures = Figures::default();
        held(&mut figures, "10,000 connects and failures", before).await;
        figures
    });
}

#[test]
#[ignore = "a soak"]
fn cancelled_calls_take_nothing_from_the_others() {
    soak(
        "leaks::cancelled_calls_take_nothing_from_the_others",
        1,
        || async {
            let server = RealServer::start(&server("cancellations", VERSION).unwrap(), "");
            cancellations(&server, 50_000, SEED).await;
            let before = Held::now();
            let done = cancellations(&server, 100_000, SEED).await;
            let mut figures = Figures::default();
            figures.exactly(
                "answers to the wrong caller in 100,000 cancellations",
                done.wrong,
                0,
            );
            Figures::shown("requests answered meanwhile", done.answered as f64, "");
            Figures::shown("cancelled", done.cancelled as f64, "");
            held(&mut figures, "100,000 cancellations", before).await;
            figures
        },
    );
}

#[test]
#[ignore = "a soak"]
fn requests_that_time_out_leave_nothing() {
    soak("leaks::requests_that_time_out_leave_nothing", 1, || async {
        let server = RealServer::start(&server("requests", VERSION).unwrap(), "");
        let responder = connect(&server.url()).await.unwrap();
        let mut answered = responder.subscribe("answered").unwrap();
        let mut silent = responder.subscribe("silent").unwrap();
        responder.flush().await.unwrap();
        tokio::spawn(async move {
            while let Some(question) = answered.next().await {
                let reply = std::str::from_utf8(question.reply().unwrap())
                    .unwrap()
                    .to_owned();
                responder.publish(reply.as_str(), "answer").await.unwrap();
            }
        });
        tokio::spawn(async move { while silent.next().await.is_some() {} });
        let client = ConnectOptions::new().connect(&server.url()).await.unwrap();
        requests(&client, 20_000).await;
        let before = Held::now();
        let begun = Instant::now();
        let (answered, timed_out) = requests(&client, 500_000).await;
        let mut figures = Figures::default();
        figures.exactly("requests answered", answered, 500_000);
        figures.exactly("requests timed out", timed_out, 500_000);
        Figures::shown("they took", millis(begun.elapsed()), "ms");
        held(&mut figures, "1,000,000 requests", before).await;
        figures
    });
}

/// Asks so often, once to be answered and once not; 500 at a time.
async fn requests(client: &natseq::Client, count: u64) -> (u64, u64) {
    let callers = 500;
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let (mut answered, mut timed_out) = (0, 0);
                for _ in 0..count / callers {
                    answered += u64::from(client.request("answered", "").await.is_ok());
                    let hasty = client.requester("silent").unwrap();
                    let hasty = hasty.timeout(Duration::from_millis(5));
                    let error = hasty.request("").await.unwrap_err();
                    timed_out += u64::from(error.kind() == ErrorKind::Timeout);
                }
                (answered, timed_out)
            })
        })
        .collect();
    let mut all = (0, 0);
    for task in tasks {
        let (answered, timed_out) = task.await.unwrap();
        all.0 += answered;
        all.1 += timed_out;
    }
    all
}

#[test]
#[ignore = "a soak"]
fn reconnects_leave_nothing() {
    soak("leaks::reconnects_leave_nothing", 1, || async {
        let server = RealServer::start(&server("reconnects", VERSION).unwrap(), "");
        let proxy = Proxy::start(server.address(), SEED);
        let client = ConnectOptions::new()
            .redial(RedialOptions {
                pause_min: Duration::ZERO,
                pause_max: Duration::from_millis(1),
                ..RedialOptions::default()
            })
            .connect(&proxy.url())
            .await
            .unwrap();
        let mut sub = client.subscribe("r").unwrap();
        reconnects(&client, &proxy, &mut sub, 500).await;
        let before = Held::now();
        let begun = Instant::now();
        reconnects(&client, &proxy, &mut sub, 10_000).await;
        let mut figures = Figures::default();
        Figures::shown("10,000 reconnects took", millis(begun.elapsed()), "ms");
        held(&mut figures, "10,000 reconnects", before).await;
        figures
    });
}

async fn reconnects(
    client: &natseq::Client,
    proxy: &Proxy,
    sub: &mut natseq::client::Subscription,
    count: usize,
) {
    let mut events = client.events();
    for number in 0..count {
        let cut = if number % 2 == 0 {
            Cut::Reset
        } else {
            Cut::Close
        };
        proxy.cut(cut);
        while !matches!(events.next().await.unwrap(), Event::Connected { .. }) {}
        client.publish("r", "back").await.unwrap();
        sub.next().await.unwrap();
    }
}

async fn held(figures: &mut Figures, what: &str, before: Held) {
    let after = Held::settled(before).await;
    let more = |after: usize, before: usize| after.saturating_sub(before) as u64;
    let descriptors = more(after.descriptors, before.descriptors);
    figures.exactly(&format!("descriptors left by {what}"), descriptors, 0);
    figures.exactly(
        &format!("tasks left by {what}"),
        more(after.tasks, before.tasks),
        0,
    );
    let rise = after.rss_kib.saturating_sub(before.rss_kib) as f64 / 1_024.0;
    figures.at_most(
        &format!("rise of the resident set by {what}"),
        rise,
        RISE_MIB_MAX,
        "MiB",
    );
}
